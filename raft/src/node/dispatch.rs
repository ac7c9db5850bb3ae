//! Sends this node's operations to the leader, and sends them again when they may be lost.

use std::sync::Arc;
use std::time::Duration;

use evermind_lock::command::{Command, NodeId};
use evermind_storage::types::{Tell, TypeConfig};
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use tokio::time::Instant;

use super::Raft;
use super::core::{Core, Inbox};
use super::gate::Gate;
use super::route::Route;
use crate::peer::{ForwardError, PeerClient};

/// How often what is overdue, or was not taken, is looked for. A leader refuses writes for a moment
/// after its election, and whenever a majority was silent for an election timeout.
const SWEEP_EVERY: Duration = Duration::from_millis(25);

/// How many operations are taken from the outbox at a time.
const BATCH: usize = 1024;

/// Runs until the node stops.
pub(crate) async fn run(core: Arc<Core>, raft: Raft, peers: PeerClient, mut inbox: Inbox) {
    let mut route = core.route.subscribe();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let gate = Arc::new(Gate::default());
    let mut sequences = Vec::with_capacity(BATCH);
    let mut refused = Vec::new();
    let mut sweeps = true;
    loop {
        sequences.clear();
        if matches!(core.route(), Route::GiveBack { .. }) {
            // What came of these is not learned here.
            core.abandon_forsaken();
        }
        // An idle node does not wake up to find that it is.
        let open = !refused.is_empty() || core.pending().has_open();
        let held = matches!(core.route(), Route::Local { .. }) && gate.is_closed();
        if (open || held) && !sweeps {
            sweep.reset();
        }
        sweeps = open || held;
        // What is overdue is sent again; what is only now read may have been sent as overdue.
        let mut again = true;
        tokio::select! {
            got = inbox.sequences.recv_many(&mut sequences, BATCH), if !held => {
                if got == 0 {
                    return;
                }
                // Who comes at the same moment goes along: a channel wakes its reader before the next
                // that would write to it.
                tokio::task::yield_now().await;
                while sequences.len() < BATCH
                    && let Ok(sequence) = inbox.sequences.try_recv()
                {
                    sequences.push(sequence);
                }
                again = false;
            }
            () = gate.opened(), if held => continue,
            got = inbox.again.recv_many(&mut refused, BATCH) => if got == 0 { return },
            _ = sweep.tick(), if sweeps => {
                propose_again(&core, &raft, &mut refused).await;
                sequences = due(&core, &mut inbox);
            }
            changed = route.changed() => {
                if changed.is_err() {
                    return;
                }
                sequences = due(&core, &mut inbox);
            }
        }
        if sequences.is_empty() {
            continue;
        }
        let by = core.route();
        let next = |sequence| {
            let mut pending = core.pending();
            let wanted = again || !pending.is_sent(sequence);
            wanted.then(|| pending.send(sequence, by, Instant::now()))?
        };
        match by {
            Route::None => {}
            Route::Local { term } => {
                for &sequence in &sequences {
                    let Some(command) = next(sequence) else {
                        continue;
                    };
                    let refused = {
                        let (core, pass) = (Arc::clone(&core), gate.enter());
                        move |refused: bool| {
                            if refused {
                                core.not_taken(sequence);
                            }
                            drop(pass);
                        }
                    };
                    if !propose(&core, &raft, term, command, refused).await {
                        core.not_taken(sequence);
                    }
                }
            }
            Route::Remote { leader, .. } => {
                for &sequence in &sequences {
                    if let Some(command) = next(sequence) {
                        forward(&core, &peers, leader, sequence, command);
                    }
                }
            }
            Route::GiveBack { leader, .. } => {
                for &sequence in &sequences {
                    if let Some(command) = next(sequence) {
                        give_back(&peers, leader, command);
                    }
                }
            }
        }
    }
}

/// All that is to be sent now. Whoever is still in the outbox is open, and so among it: there it must
/// not stay, or what a closed gate leaves would pile up.
fn due(core: &Core, inbox: &mut Inbox) -> Vec<u64> {
    while inbox.sequences.try_recv().is_ok() {}
    core.pending().due(core.route(), Instant::now())
}

/// What other nodes forwarded and consensus refused. Where this node leads no longer, the origins
/// send it again by themselves: their route has changed too.
async fn propose_again(core: &Arc<Core>, raft: &Raft, refused: &mut Vec<Command>) {
    for command in refused.drain(..) {
        if let Route::Local { term } = core.route() {
            propose_forwarded(core, raft, term, command).await;
        }
    }
}

/// Hands another node's command to this node's consensus. `false`: certainly not.
pub(crate) async fn propose_forwarded(
    core: &Arc<Core>,
    raft: &Raft,
    term: u64,
    command: Command,
) -> bool {
    let refused = {
        let (core, command) = (Arc::clone(core), command.clone());
        move |refused| {
            if refused {
                core.forwarded_not_taken(command);
            }
        }
    };
    propose(core, raft, term, command, refused).await
}

/// Hands a command to this node's consensus with its time on it. `false`: certainly not. `told` is
/// called once the entry is applied, or will not be by this leader: with whether consensus itself did
/// not take it. It is dropped uncalled where consensus ends.
pub(crate) async fn propose(
    core: &Core,
    raft: &Raft,
    term: u64,
    command: Command,
    told: impl FnOnce(bool) + Send + 'static,
) -> bool {
    let Some(proposal) = core.stamped(term, command) else {
        return false;
    };
    let tell = Tell::new(move |result: ClientWriteResult<TypeConfig>| {
        // Any other error means that leadership is lost: the route will change.
        told(matches!(result, Err(ClientWriteError::ForwardToLeader(_))));
    });
    raft.client_write_ff(proposal, Some(tell)).await.is_ok()
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

/// The same where this node does not serve. It may not have learned of a change of leaders, and what
/// fails is sent again once it is overdue: nobody waits for it.
fn give_back(peers: &PeerClient, leader: NodeId, command: Command) {
    let peers = peers.clone();
    tokio::spawn(async move {
        let given = peers.forward(leader, &command).await;
        if let Err(ForwardError::NotLeader { leader: Some(next) }) = given
            && next != peers.endpoint().identity.node
        {
            let _ = peers.forward(next, &command).await;
        }
    });
}
