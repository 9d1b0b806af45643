//! Options of `execute`: names and defaults are those of the reference's `mesos-execute`
//! (`src/cli/execute.cpp`), but that the leader is looked for on this machine unless told.

use super::{
    Flag,
    Support::{Later, Works},
};

/// In the order of their names.
pub(crate) const FLAGS: &[Flag] = flag_table! {
    "appc_image": value, Works, "appc image to run in";
    "bounding_capabilities": value, Works, "capabilities the command may gain, JSON";
    "checkpoint": switch = "false", Works, "the framework checkpoints";
    "command": value, Works, "the command";
    "containerizer": value = "mesos", Works, "mesos or docker";
    "content_type": value = "protobuf", Works, "protobuf or json";
    "credential": value, Works, "file with principal and secret";
    "docker_image": value, Works, "docker image to run in";
    "effective_capabilities": value, Works, "capabilities the command has, JSON";
    "env": value, Works, "environment of the command, JSON object or file://";
    "framework_capabilities": value, Works, "further capabilities of the framework, separated by commas";
    "hadoop": value = "hadoop", Later("HDFS"), "hadoop client program";
    "hdfs": value = "localhost:9000", Later("HDFS"), "HDFS name node";
    "help": switch = "false", Works, "print the flags and exit";
    "kill_after": value, Works, "kill the task after so long (10secs, 2mins)";
    "master": value = "127.0.0.1:5050", Works, "where the leader is: host:port, zk://..., or file:// with one of these";
    "name": value, Works, "name of the task";
    "networks": value, Works, "networks to join, separated by commas";
    "overwrite": switch = "false", Later("HDFS"), "overwrite the package in HDFS";
    "package": value, Later("HDFS"), "package to upload to HDFS";
    "partition_aware": switch = "true", Works, "the framework is partition aware";
    "principal": value, Works, "principal to authenticate as";
    "resources": value = "cpus:1;mem:128", Works, "resources of the command";
    "rlimits": value, Works, "resource limits of the command, JSON";
    "role": value = "*", Works, "role to use";
    "secret": value, Works, "secret to authenticate with";
    "shell": switch = "true", Works, "run the command with /bin/sh -c";
    "task": value, Works, "TaskInfo as JSON or file://";
    "task_group": value, Works, "TaskGroupInfo as JSON or file://";
    "tty": switch = "false", Works, "attach a terminal to the container";
    "volumes": value, Works, "volumes as JSON or file://";
};
