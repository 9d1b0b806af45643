//! Flags of a leader: names, older aliases and defaults are the reference's (`docs/configuration/master.md`).

use super::{
    Flag,
    Support::{Later, NoEffect, Refused, Works},
};

/// In the order of their names.
pub(crate) const FLAGS: &[Flag] = flag_table! {
    "acls": value, Refused("authorization"), "access control lists, JSON or file://";
    "advertise_ip": value, Works, "address that others are told to use";
    "advertise_port": value, Works, "port that others are told to use";
    "agent_ping_timeout" | "slave_ping_timeout": value = "15secs", Works, "how long a follower may take to answer a ping";
    "agent_removal_rate_limit" | "slave_removal_rate_limit": value, Works, "at most so many followers declared unreachable per time (N/DURATION)";
    "agent_reregister_timeout" | "slave_reregister_timeout": value = "10mins", Works, "how long a follower may take to come back, after its link broke or after a new leader";
    "allocation_interval": value = "1secs", Works, "least time a refusal lasts; offers themselves do not wait for it";
    "allocator": value = "hierarchical", Later("the resource model"), "which allocator";
    "allocator_agent_recovery_factor": value = "0.8", Works, "with quotas, share of followers to be back before offers are made after a failover";
    "allocator_recovery_timeout": value = "10mins", Works, "longest wait for them";
    "authenticate_agents" | "authenticate_slaves": switch = "false", Works, "only authenticated followers may register";
    "authenticate_frameworks" | "authenticate": switch = "false", Works, "only authenticated frameworks may register";
    "authenticate_http_frameworks": switch = "false", Works, "only authenticated HTTP frameworks may subscribe";
    "authenticate_http_readonly": switch = "false", Works, "reads need authentication";
    "authenticate_http_readwrite" | "authenticate_http": switch = "false", Works, "changes need authentication";
    "authentication_v0_timeout": value = "15secs", Works, "longest SASL exchange";
    "authenticators": value = "crammd5", Works, "mechanism for libprocess peers: crammd5";
    "authorizers": value = "local", Later("authorization"), "who decides what a principal may do";
    "cluster": value, Works, "name of the cluster";
    "credentials": value, Works, "file of principals and secrets, JSON or a line each";
    "domain": value, Works, "fault domain of this machine, JSON or file://";
    "external_log_file": value, Works, "log file served at /files when another program writes it";
    "fair_sharing_excluded_resource_names": value, Works, "resources that do not count for fair shares";
    "filter_gpu_resources": switch = "true", Works, "offer GPU machines only to frameworks that want GPUs";
    "firewall_rules": value, Refused("authorization"), "endpoints to switch off";
    "framework_sorter": value = "drf", Works, "order of frameworks within a role: drf (least dominant share first) or random";
    "held_offers_alarm": value = "10mins", Works, "a framework that has held an offer for so long is named in the log; 0secs: nobody is (not in Mesos)";
    "help": switch = "false", Works, "print the flags and exit";
    "hooks": value, Later("modules"), "hook modules";
    "hostname": value, Works, "name that others are told";
    "hostname_lookup": switch = "true", Works, "look the host name up (otherwise the IP is used)";
    "http_authenticators": value = "basic", Works, "mechanism for HTTP: basic";
    "http_framework_authenticators": value, Works, "mechanism for HTTP frameworks: basic";
    "initialize_driver_logging": switch = "true", NoEffect("there is no driver to initialise"), "set up logging in drivers";
    "ip": value, Works, "address to listen on";
    "ip_discovery_command": value, Works, "program that prints the address to listen on";
    "log_auto_initialize": switch = "true", NoEffect("there is no replicated log to initialise"), "initialise the replicated log by itself";
    "log_dir": value, Works, "directory for log files";
    "logbufsecs": value = "0", NoEffect("log lines are written at once"), "seconds to buffer log lines";
    "logging_level": value = "INFO", Works, "least severe level to log: INFO, WARNING or ERROR";
    "master_contender": value, Later("modules"), "module that contends for leadership";
    "master_detector": value, Later("modules"), "module that detects the leader";
    "max_agent_ping_timeouts" | "max_slave_ping_timeouts": value = "5", Works, "pings a follower may miss before it counts as unreachable";
    "max_completed_frameworks": value = "50", Works, "completed frameworks remembered";
    "max_completed_tasks_per_framework": value = "1000", Works, "completed tasks remembered per framework";
    "max_held_offers_share": value, Works, "most of the cluster, from 0 to 1, that a framework may hold in offers before it is made more (not in Mesos)";
    "max_operator_event_stream_subscribers": value = "1000", Works, "operator event streams at once";
    "max_unreachable_tasks_per_framework": value = "1000", Works, "unreachable tasks remembered per framework";
    "memory_profiling": switch = "false", NoEffect("use a system profiler"), "serve memory profiles";
    "min_allocatable_resources": value = "cpus:0.01|mem:32", Works, "least resources worth an offer";
    "modules": value, Later("modules"), "modules to load, JSON or file://";
    "modules_dir": value, Later("modules"), "directory of module descriptions";
    "offer_constraints_re2_max_mem": value = "4KB", Works, "memory bound of regular expressions in offer constraints";
    "offer_constraints_re2_max_program_size": value = "100", Works, "size bound of regular expressions in offer constraints";
    "offer_timeout": value, Works, "how long an offer stands before it is rescinded";
    "port": value = "5050", Works, "port to listen on";
    "publish_per_framework_metrics": switch = "true", Works, "metrics for each framework";
    "quiet": switch = "false", Works, "do not log to standard error";
    "quorum": value, NoEffect("leaders keep no replicated log: ZooKeeper has the quorum"), "size of the quorum of the replicated log";
    "rate_limits": value, Works, "limits on the messages of frameworks";
    "recovery_agent_removal_limit" | "recovery_slave_removal_limit": value = "100%", Works, "most of the followers in the registry, in percent, that may be given up after a failover";
    "registry": value = "replicated_log", Works, "where the registry is kept: replicated_log (durable: in ZooKeeper with --zk, else a file in --work_dir) or in_memory";
    "registry_fetch_timeout": value = "1mins", NoEffect("a leader that was elected reads until it has read, or is deposed"), "longest read of the registry";
    "registry_gc_interval": value = "15mins", Works, "how often old entries of the registry are dropped";
    "registry_max_agent_age": value = "2weeks", Works, "how long an unreachable or gone follower is remembered";
    "registry_max_agent_count": value = "102400", Works, "unreachable or gone followers remembered";
    "registry_store_timeout": value = "20secs", NoEffect("a leader that cannot write is deposed"), "longest write of the registry";
    "registry_strict": switch = "false", Works, "must be false: followers that are not in the registry are let in";
    "require_agent_domain": switch = "false", Works, "refuse followers without a fault domain";
    "role_sorter" | "user_sorter": value = "drf", Works, "order of roles: drf (least weighted dominant share first) or random (by weight)";
    "roles": value, Works, "roles that may be used (any, when not given)";
    "root_submissions": switch = "true", Works, "frameworks may run tasks as root";
    "version": switch = "false", Works, "print the version and exit";
    "webui_dir": value = "/opt/mesos/share/mesos/webui", NoEffect("there is no web UI"), "directory of the web UI";
    "weights": value, Works, "weights of roles, such as a=2,b=0.5, until the registry has some";
    "whitelist": value, Works, "file with the names of the hosts that may be offered, one in a line, read anew every 5 seconds (a path or file://)";
    "work_dir": value, Works, "directory for durable state";
    "zk": value, Works, "where leaders are elected and keep the registry: zk://[user:password@]host:port,.../path, or file:// with that";
    "zk_session_timeout": value = "10secs", Works, "how long a leader may be out of ZooKeeper's reach before another is elected";
};
