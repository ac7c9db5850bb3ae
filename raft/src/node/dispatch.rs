//! Sends this node's operations to the leader, and sends them again when they may be lost.

use std::sync::Arc;
use std::time::Duration;

use evermind_lock::command::{Command, NodeId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Raft;
use super::core::Core;
use super::route::Route;
use crate::peer::{ForwardError, PeerClient};

/// How often what is overdue is looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// How many operations are taken from the outbox at a time.
const BATCH: usize = 1024;

/// Runs until the node stops.
pub(crate) async fn run(
    core: Arc<Core>,
    raft: Raft,
    peers: PeerClient,
    mut inbox: mpsc::UnboundedReceiver<u64>,
) {
    let mut route = core.route.subscribe();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sequences = Vec::with_capacity(BATCH);
    loop {
        sequences.clear();
        tokio::select! {
            got = inbox.recv_many(&mut sequences, BATCH) => if got == 0 { return },
            _ = sweep.tick() => sequences = core.pending().due(core.route(), Instant::now()),
            changed = route.changed() => {
                if changed.is_err() {
                    return;
                }
                sequences = core.pending().due(core.route(), Instant::now());
            }
        }
        match core.route() {
            Route::None => {}
            by @ Route::Local { term } => {
                for &sequence in &sequences {
                    let Some(command) = core.pending().send(sequence, by, Instant::now()) else {
                        continue;
                    };
                    if !propose(&core, &raft, term, command).await {
                        core.pending().not_sent(sequence);
                    }
                }
            }
            by @ Route::Remote { leader, .. } => {
                for &sequence in &sequences {
                    let Some(command) = core.pending().send(sequence, by, Instant::now()) else {
                        continue;
                    };
                    forward(&core, &peers, leader, sequence, command);
                }
            }
        }
    }
}

/// Hands a command to this node's consensus with its time on it. `false`: certainly not.
pub(crate) async fn propose(core: &Core, raft: &Raft, term: u64, command: Command) -> bool {
    match core.stamped(term, command) {
        Some(proposal) => raft.client_write_ff(proposal, None).await.is_ok(),
        None => false,
    }
}

/// Sends a command to the leader; what fails is marked to be sent again.
fn forward(core: &Arc<Core>, peers: &PeerClient, leader: NodeId, sequence: u64, command: Command) {
    let (core, peers) = (Arc::clone(core), peers.clone());
    tokio::spawn(async move {
        match peers.forward(leader, &command).await {
            Ok(()) => {}
            Err(
                ForwardError::NotLeader { .. } | ForwardError::Unreachable(_) | ForwardError::Busy,
            ) => {
                core.pending().not_sent(sequence);
            }
            Err(ForwardError::Lost) => core.pending().lost(sequence),
        }
    });
}
