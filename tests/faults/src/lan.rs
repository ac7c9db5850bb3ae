//! The network between the nodes, made here packet by packet: each node lives in a network namespace
//! of its own, its way to its peers is a TUN device, and what the devices send comes through this
//! process, which loses, delays, refuses or passes on each packet by its direction.
//!
//! Clients reach the nodes by a pair of virtual ethernet devices each, which nobody disturbs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use evermind_harness::cluster::NODES;
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::cleanup;
use crate::link::{Link, Sum};
use crate::tool;

const HTTP_PORT: u16 = 7600;
const PEER_PORT: u16 = 7610;
/// The last byte of node 1's peer address is one more than this.
const PEER_BASE: u8 = 64;

/// Three namespaces, and the links of each pair of nodes, one for each direction.
#[derive(Debug)]
pub(crate) struct Lan {
    /// Below 500, and no other process's meanwhile: names and addresses are made of it.
    block: u16,
    links: Arc<Vec<Link>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Lan {
    /// Makes the namespaces and starts to pass packets.
    pub(crate) fn make(block: u16) -> Self {
        let mut lan = Self {
            block,
            links: Arc::new(
                NODES
                    .iter()
                    .flat_map(|_| NODES)
                    .map(|_| Link::default())
                    .collect(),
            ),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let devices: Vec<Arc<SyncDevice>> = NODES
            .map(|id| Arc::new(lan.namespace_with_device(id)))
            .into();
        for (from, device) in devices.iter().enumerate() {
            let (device, devices) = (Arc::clone(device), devices.clone());
            let (links, stop) = (Arc::clone(&lan.links), Arc::clone(&lan.stop));
            lan.threads.push(thread::spawn(move || {
                pass(from, &device, &devices, &links, &stop);
            }));
        }
        // What is delayed is let go by a thread of its own.
        let (links, stop) = (Arc::clone(&lan.links), Arc::clone(&lan.stop));
        lan.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for (place, link) in links.iter().enumerate() {
                    for packet in link.due() {
                        let _ = devices[place % NODES.len()].send(&packet);
                    }
                }
                thread::sleep(std::time::Duration::from_millis(1));
            }
        }));
        lan
    }

    pub(crate) fn namespace(&self, id: u64) -> String {
        format!("evermind-{}-{id}", self.block)
    }

    pub(crate) fn http(&self, id: u64) -> SocketAddr {
        address(self.block, host(id, 2), HTTP_PORT)
    }

    pub(crate) fn peer(&self, id: u64) -> SocketAddr {
        address(self.block, PEER_BASE + low(id), PEER_PORT)
    }

    fn namespace_with_device(&self, id: u64) -> SyncDevice {
        let namespace = self.namespace(id);
        // Left over where an earlier run was killed: the block is ours now.
        let _ = tool::attempt("ip", &["netns", "del", &namespace]);
        tool::run("ip", &["netns", "add", &namespace]);
        cleanup::remember("ip", &["netns", "del", &namespace]);
        let (outer, inner) = (
            format!("evo{}n{id}", self.block),
            format!("evi{}n{id}", self.block),
        );
        let _ = tool::attempt("ip", &["link", "del", &outer]);
        tool::run(
            "ip",
            &[
                "link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &namespace,
            ],
        );
        let ours = format!("{}/30", address(self.block, host(id, 1), 0).ip());
        tool::run("ip", &["addr", "add", &ours, "dev", &outer]);
        tool::run("ip", &["link", "set", &outer, "up"]);
        let name = format!("evt{}n{id}", self.block);
        let device = DeviceBuilder::new()
            .name(&name)
            .mtu(1500)
            .enable(false)
            .build_sync()
            .expect("a TUN device");
        device
            .set_nonblocking(true)
            .expect("a TUN device that does not block");
        tool::run("ip", &["link", "set", &name, "netns", &namespace]);
        let inside = |arguments: &[&str]| {
            let mut all = vec!["-n", &namespace];
            all.extend(arguments);
            tool::run("ip", &all);
        };
        let http = format!("{}/30", self.http(id).ip());
        let peer = format!("{}/26", self.peer(id).ip());
        inside(&["link", "set", "lo", "up"]);
        inside(&["addr", "add", &http, "dev", &inner]);
        inside(&["link", "set", &inner, "up"]);
        inside(&["addr", "add", &peer, "dev", &name]);
        inside(&["link", "set", &name, "up"]);
        device
    }

    /// The link by which `from` sends to `to`.
    pub(crate) fn link(&self, from: u64, to: u64) -> &Link {
        let place = usize::from(low(from) - 1) * NODES.len() + usize::from(low(to) - 1);
        &self.links[place]
    }

    /// Both directions between two nodes.
    pub(crate) fn both(&self, one: u64, other: u64) -> [&Link; 2] {
        [self.link(one, other), self.link(other, one)]
    }

    /// Every link between two different nodes.
    pub(crate) fn all(&self) -> Vec<&Link> {
        let pairs = NODES.iter().flat_map(|from| NODES.map(|to| (*from, to)));
        pairs
            .filter(|(from, to)| from != to)
            .map(|(from, to)| self.link(from, to))
            .collect()
    }

    /// Every link passes everything at once again.
    pub(crate) fn heal(&self) {
        for link in self.links.iter() {
            link.heal();
        }
    }

    /// What happened to packets so far.
    pub(crate) fn sum(&self) -> Sum {
        self.links.iter().map(Link::sum).sum()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        for id in NODES {
            let namespace = self.namespace(id);
            // Takes the devices with it, both ends of the pairs.
            let _ = tool::attempt("ip", &["netns", "del", &namespace]);
            cleanup::forget("ip", &["netns", "del", &namespace]);
        }
    }
}

/// Reads what one node sends, for as long as its device is there.
fn pass(
    from: usize,
    device: &SyncDevice,
    devices: &[Arc<SyncDevice>],
    links: &[Link],
    stop: &AtomicBool,
) {
    use std::os::fd::AsFd as _;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut packet = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let mut wanted = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        if poll(&mut wanted, PollTimeout::from(100_u8)).is_err() {
            continue;
        }
        while let Ok(length) = device.recv(&mut packet) {
            let packet = &packet[..length];
            // IPv4 alone: its destination is bytes 16 to 19.
            let Some(to) = packet
                .get(19)
                .and_then(|last| last.checked_sub(PEER_BASE + 1))
            else {
                continue;
            };
            let to = usize::from(to);
            if packet[0] >> 4 != 4 || to >= devices.len() {
                continue;
            }
            match links[from * devices.len() + to].meet(packet) {
                Some(crate::link::Fate::Pass) => {
                    let _ = devices[to].send(packet);
                }
                Some(crate::link::Fate::Refuse(reset)) => {
                    let _ = device.send(&reset);
                }
                None => {}
            }
        }
    }
}

fn low(id: u64) -> u8 {
    u8::try_from(id).expect("nodes are 1, 2 and 3")
}

/// The last byte of an address in the small network between a node and its clients.
fn host(id: u64, side: u8) -> u8 {
    (low(id) - 1) * 4 + side
}

/// 198.18.0.0/15 is kept for tests of networks (RFC 2544): no machine's own.
fn address(block: u16, last: u8, port: u16) -> SocketAddr {
    let [high, low] = block.to_be_bytes();
    ([198, 18 + high, low, last], port).into()
}
