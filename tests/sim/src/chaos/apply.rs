//! How faults begin and end.

use evermind_storage::disk::sim;

use super::{Chaos, Fault};
use crate::net::{CLIENTS, HostId, Link};
use crate::node::NODES;
use crate::trace;
use crate::world::{World, usual_link};

/// A machine that has nothing to write loses its power after so long.
const CUT_WITHIN_US: u64 = 30_000;

fn on_every_link(world: &World, change: impl Fn(&mut Link)) {
    let hosts: Vec<HostId> = std::iter::once(CLIENTS).chain(NODES).collect();
    for from in &hosts {
        for to in hosts.iter().filter(|to| *to != from) {
            world.net.change(*from, *to, &change);
        }
    }
}

impl Chaos {
    pub(super) fn begin(&mut self, world: &mut World, fault: &Fault) {
        match fault {
            Fault::Cut(links) => {
                for (from, to) in links {
                    world.net.change(*from, *to, |link| link.cut = true);
                }
            }
            Fault::Flapping(from, to, _) => world.net.change(*from, *to, |link| link.cut = true),
            Fault::Loss(per_mille) => on_every_link(world, |link| link.loss_per_mille = *per_mille),
            Fault::Delay(us) => on_every_link(world, |link| link.latency_us = (*us / 2, *us)),
            Fault::Kill(ids) => {
                for id in ids {
                    self.down(world, *id, World::kill);
                }
            }
            Fault::PowerCut(ids) => {
                // In the middle of one of its disk's next calls; with nothing to do, soon anyway.
                for id in ids {
                    if world.places[id].host.is_running() {
                        self.starts.remove(id);
                        fail(world, *id, self.dice.between(0, 3), sim::Fault::PowerOff);
                        self.cuts.insert(*id, world.now_us() + CUT_WITHIN_US);
                    }
                }
            }
            Fault::Pause(id, how) => world.places.get_mut(id).expect("a node").host.pause(*how),
            Fault::Stall(id, ms) => world.places[id].disk.set_pace(|pace| pace.stall_ms = *ms),
            Fault::DiskError(id, calls) => fail(world, *id, *calls, sim::Fault::Io),
            Fault::DiskFull(id, calls) => fail(world, *id, *calls, sim::Fault::Full),
            Fault::PowerCutInCall(id, calls) => fail(world, *id, *calls, sim::Fault::PowerOff),
            Fault::Rot(id) => self.rot(world, *id),
            Fault::Rate(id, ppm) => world.set_rate_ppm(*id, *ppm),
            Fault::Date(id, ms) => world.places[id].host.clock().set_wall_off_ms(*ms),
            Fault::Transfer(id) => {
                let place = &world.places[id];
                let node = place.process.seen().node.clone();
                if let Some(node) = node {
                    place.host.spawn(async move { node.hand_over().await });
                }
            }
        }
    }

    /// The node must refuse to start: see [`Chaos::look_after_processes`].
    fn rot(&mut self, world: &mut World, id: HostId) {
        if !world.places[&id].host.is_running() {
            return;
        }
        self.starts.remove(&id);
        world.kill(id);
        if let Some(rotten) = world.places[&id].disk.rot() {
            trace!(
                world.trace,
                "node {id}: a bit changed in {}",
                rotten.0.display()
            );
            self.rotten.insert(id, rotten);
        }
        world.start(id);
    }

    /// A node that goes down; its supervisor starts it again when the fault ends.
    fn down(&mut self, world: &mut World, id: HostId, how: fn(&mut World, HostId)) {
        self.starts.remove(&id);
        if world.places[&id].host.is_running() {
            how(world, id);
        }
    }

    pub(super) fn end(&mut self, world: &mut World, fault: &Fault) {
        trace!(world.trace, "over: {fault:?}");
        match fault {
            Fault::Cut(links) => {
                for (from, to) in links {
                    world.net.change(*from, *to, |link| link.cut = false);
                }
            }
            Fault::Flapping(from, to, _) => world.net.change(*from, *to, |link| link.cut = false),
            Fault::Loss(_) => on_every_link(world, |link| link.loss_per_mille = 0),
            Fault::Delay(_) => {
                on_every_link(world, |link| link.latency_us = usual_link().latency_us);
            }
            Fault::Kill(ids) | Fault::PowerCut(ids) => {
                for id in ids {
                    if !world.places[id].host.is_running() {
                        self.starts.insert(*id, world.now_us());
                    }
                }
            }
            Fault::Pause(id, _) => {
                trace!(world.trace, "node {id} goes on");
                world.places.get_mut(id).expect("a node").host.resume();
            }
            Fault::Stall(id, _) => world.places[id].disk.set_pace(|pace| pace.stall_ms = 0),
            Fault::Rate(id, _) => world.set_rate_ppm(*id, 0),
            Fault::Date(id, _) => world.places[id].host.clock().set_wall_off_ms(0),
            // A disk is mended when its node is started again.
            Fault::DiskError(..)
            | Fault::DiskFull(..)
            | Fault::PowerCutInCall(..)
            | Fault::Rot(_)
            | Fault::Transfer(_) => {}
        }
    }
}

fn fail(world: &World, id: HostId, calls: u64, fault: sim::Fault) {
    let disk = world.places[&id].disk.now();
    disk.fail_at(disk.calls() + calls, fault);
}
