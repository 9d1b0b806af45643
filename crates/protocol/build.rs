//! Compiles `proto/` without a `protoc` on the machine and keeps the descriptors beside the types:
//! the JSON and required-field code reads them as tables.

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};
use std::{env, fs, io, path::PathBuf};

const FILES: &[&str] = &[
    "mesos/v1/mesos.proto",
    "mesos/v1/agent/agent.proto",
    "mesos/v1/allocator/allocator.proto",
    "mesos/v1/executor/executor.proto",
    "mesos/v1/maintenance/maintenance.proto",
    "mesos/v1/master/master.proto",
    "mesos/v1/quota/quota.proto",
    "mesos/v1/resource_provider/resource_provider.proto",
    "mesos/v1/scheduler/scheduler.proto",
    "mesos/internal/authentication.proto",
    "mesos/internal/messages.proto",
    "mesos/internal/registry.proto",
];

/// Fields that few messages have, and that would make every resource and every task several times as
/// large: a leader holds hundreds of thousands.
const LARGE_AND_RARE: &[&str] = &[
    ".mesos.v1.Resource.disk",
    ".mesos.v1.Task.container",
    ".mesos.v1.Task.discovery",
    ".mesos.v1.Task.health_check",
];

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"]).map_err(io::Error::other)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("no OUT_DIR"))?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).btree_map(["."]).enable_type_names();
    for field in LARGE_AND_RARE {
        config.boxed(field);
    }
    config.compile_fds(without_deprecation(descriptors))
}

/// Old clients use what is deprecated, so we handle all of it: attributes that warn of each use
/// would only be noise. The descriptors keep the mark, which decides what JSON shows.
fn without_deprecation(mut descriptors: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut descriptors.file {
        file.enum_type.iter_mut().for_each(forget_enum);
        file.message_type.iter_mut().for_each(forget_message);
    }
    descriptors
}

fn forget_message(message: &mut DescriptorProto) {
    for options in message
        .field
        .iter_mut()
        .filter_map(|field| field.options.as_mut())
    {
        options.deprecated = None;
    }
    message.enum_type.iter_mut().for_each(forget_enum);
    message.nested_type.iter_mut().for_each(forget_message);
}

fn forget_enum(enumeration: &mut EnumDescriptorProto) {
    for options in enumeration
        .value
        .iter_mut()
        .filter_map(|value| value.options.as_mut())
    {
        options.deprecated = None;
    }
}
