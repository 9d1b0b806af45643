//! Several machines on this one: network namespaces on a bridge, each with an address of its own, that can be cut off.
//!
//! Needs root and Debian's `iproute2` and `iptables`; whoever uses it asks [`Network::is_possible`] first.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::zookeeper::Place;

/// Some namespaces on one bridge. Removed when dropped; what still runs in them keeps running there, cut off.
#[derive(Debug)]
pub struct Network {
    bridge: String,
    /// Third byte of the addresses.
    subnet: u8,
    machines: usize,
}

impl Network {
    /// Whether this user may make namespaces on this machine.
    pub fn is_possible() -> bool {
        let probe = format!("tepui-probe-{}", std::process::id());
        let made = succeeds("ip", &["netns", "add", &probe])
            && succeeds("ip", &["netns", "exec", &probe, "iptables", "-L", "-n"]);
        succeeds("ip", &["netns", "del", &probe]);
        made
    }

    /// So many machines that reach each other, and are reached from here.
    ///
    /// # Panics
    /// When the kernel does not let us.
    pub fn new(machines: usize) -> Network {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        assert!(machines < 250, "one byte of the address says which machine");
        let own = std::process::id() % 120 * 2 + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let subnet = (own % 250) as u8;
        let network = Network {
            bridge: format!("tepui{subnet}"),
            subnet,
            machines,
        };
        // What a killed run has left.
        network.remove();
        let bridge = network.bridge.as_str();
        run("ip", &["link", "add", bridge, "type", "bridge"]);
        run("ip", &["link", "set", bridge, "up"]);
        let here = format!("10.77.{subnet}.254/24");
        run("ip", &["addr", "add", &here, "dev", bridge]);
        for machine in 0..machines {
            let (name, link) = (network.name(machine), format!("{bridge}-{machine}"));
            let address = format!("{}/24", network.ip(machine));
            run("ip", &["netns", "add", &name]);
            run(
                "ip",
                &[
                    "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &name,
                ],
            );
            run("ip", &["link", "set", &link, "master", bridge, "up"]);
            run("ip", &["-n", &name, "addr", "add", &address, "dev", "eth0"]);
            run("ip", &["-n", &name, "link", "set", "eth0", "up"]);
            run("ip", &["-n", &name, "link", "set", "lo", "up"]);
        }
        network
    }

    /// The namespace of a machine.
    pub fn name(&self, machine: usize) -> String {
        format!("{}-{machine}", self.bridge)
    }

    /// The address of a machine.
    pub fn ip(&self, machine: usize) -> IpAddr {
        Ipv4Addr::new(10, 77, self.subnet, machine as u8 + 1).into()
    }

    /// Where a process is to run.
    pub fn place(&self, machine: usize) -> Place {
        Place {
            ip: self.ip(machine),
            namespace: Some(self.name(machine)),
        }
    }

    /// Nothing gets into or out of a machine any more. Nobody is told: connections just fall silent.
    pub fn cut_off(&self, machine: usize) {
        self.rule(machine, &["-A", "INPUT", "!", "-i", "lo", "-j", "DROP"]);
        self.rule(machine, &["-A", "OUTPUT", "!", "-o", "lo", "-j", "DROP"]);
    }

    /// Nothing gets from one machine to another any more; the other way all is well.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        let to = self.ip(to).to_string();
        self.rule(from, &["-A", "OUTPUT", "-d", &to, "-j", "DROP"]);
    }

    /// Two machines do not reach each other any more.
    pub fn cut_between(&self, one: usize, other: usize) {
        self.cut_one_way(one, other);
        self.cut_one_way(other, one);
    }

    /// Takes back what was cut at a machine: all of [`Self::cut_off`], and its side of the others.
    pub fn heal(&self, machine: usize) {
        self.rule(machine, &["-F"]);
    }

    fn rule(&self, machine: usize, rule: &[&str]) {
        let name = self.name(machine);
        let mut arguments = vec!["netns", "exec", name.as_str(), "iptables", "-w"];
        arguments.extend(rule);
        run("ip", &arguments);
    }

    fn remove(&self) {
        for machine in 0..self.machines {
            succeeds("ip", &["netns", "del", &self.name(machine)]);
        }
        succeeds("ip", &["link", "del", &self.bridge]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    output.is_ok_and(|output| output.status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    /// Refused and unheard differ: only who is reached can refuse.
    fn is_reached(ip: IpAddr) -> bool {
        let closed = SocketAddr::new(ip, 9);
        let error = TcpStream::connect_timeout(&closed, Duration::from_millis(500)).err();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    }

    #[test]
    fn a_machine_that_is_cut_off_is_not_reached_until_it_is_healed() {
        if !Network::is_possible() {
            return eprintln!("SKIPPED: no network namespaces for this user");
        }
        let network = Network::new(1);
        assert!(is_reached(network.ip(0)));
        network.cut_off(0);
        assert!(!is_reached(network.ip(0)));
        network.heal(0);
        assert!(is_reached(network.ip(0)));
    }
}
