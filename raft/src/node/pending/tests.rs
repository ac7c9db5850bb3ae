//! Tests of [`super`].
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use evermind_lock::command::Acquire;
use evermind_lock::names::{Holder, IdentityId, Key};
use evermind_lock::outcome::Granted;

use super::*;

const LEADER_2: Route = Route::Remote { leader: 2, term: 5 };
const LEADER_3: Route = Route::Remote { leader: 3, term: 6 };

fn open(pending: &mut Pending) -> (OpId, Answered) {
    let (caller, answered) = oneshot::channel();
    let expires = Instant::now() + Duration::from_secs(10);
    let id = pending
        .open(acquire(), Some(expires), Some(caller))
        .expect("there is room");
    let attachment = Attachment {
        operation: id,
        resource: resource(),
        holder: Holder::new("h").unwrap(),
    };
    pending.attach(attachment);
    (id, answered)
}

fn acquire() -> Action {
    Action::Acquire(Acquire {
        caller: KeyId(1),
        key: resource().key,
        holder: Holder::new("h").unwrap(),
        lease_ms: 1_000,
        retry_attempts: 1,
        window_ms: 1_000,
        fifo: false,
        idempotency: None,
    })
}

fn resource() -> Resource {
    Resource {
        identity: IdentityId::new("i").unwrap(),
        key: Key::new("k").unwrap(),
    }
}

fn queued() -> Decision {
    Decision {
        log_index: 3,
        outcome: Outcome::Queued,
    }
}

fn granted() -> Decision {
    Decision {
        log_index: 9,
        outcome: Outcome::Granted(Granted {
            holder: Holder::new("h").unwrap(),
            fencing_token: 1,
            expires_in_ms: 1,
            waited_ms: 0,
            attempts: 1,
        }),
    }
}

#[tokio::test]
async fn an_operation_is_sent_again_by_another_route_under_its_own_id() {
    let mut pending = Pending::new(1, 4);
    let (id, answered) = open(&mut pending);
    let now = Instant::now();
    assert_eq!(pending.due(LEADER_2, now), [id.sequence]);
    let first = pending.send(id.sequence, LEADER_2, now).unwrap();
    assert!(pending.due(LEADER_2, now).is_empty());
    assert_eq!(pending.due(LEADER_3, now), [id.sequence]);
    let second = pending.send(id.sequence, LEADER_3, now).unwrap();
    assert_eq!(first.operation.unwrap().id, second.operation.unwrap().id);
    pending.decided(id, &granted(), &mut Aftermath::default());
    assert_eq!(answered.await.unwrap(), Ok(granted()));
    assert!(pending.due(LEADER_2, now).is_empty());
}

#[tokio::test]
async fn a_node_that_does_not_serve_sends_only_what_gives_back() {
    const GIVE_BACK: Route = Route::GiveBack { leader: 2, term: 5 };
    let mut pending = Pending::new(1, 4);
    let (caller, _answered) = oneshot::channel();
    let asked = pending.open(acquire(), None, Some(caller)).unwrap();
    let gone = Action::Abandon(Attachment {
        operation: asked,
        resource: resource(),
        holder: Holder::new("h").unwrap(),
    });
    let gone = pending.open(gone, None, None).unwrap();
    let now = Instant::now();
    assert!(pending.send(asked.sequence, GIVE_BACK, now).is_none());
    assert!(pending.send(gone.sequence, GIVE_BACK, now).is_some());
    // It learns of no decision: what is sent again every few seconds is sent for nothing.
    for _ in 0..6 {
        pending.send(gone.sequence, GIVE_BACK, now);
    }
    let later = now + Duration::from_secs(30);
    assert_eq!(pending.due(GIVE_BACK, later), [asked.sequence]);
    // Both are sent once it serves again.
    let both = [asked.sequence, gone.sequence];
    assert_eq!(pending.due(LEADER_2, later), both);
}

#[tokio::test]
async fn answered_below_never_passes_an_open_operation() {
    let mut pending = Pending::new(1, 1);
    let now = Instant::now();
    let (a, _keep_a) = open(&mut pending);
    let (b, _keep_b) = open(&mut pending);
    pending.send(a.sequence, LEADER_2, now);
    pending.decided(b, &granted(), &mut Aftermath::default());
    let (c, _keep_c) = open(&mut pending);
    assert_eq!(
        pending
            .send(c.sequence, LEADER_2, now)
            .unwrap()
            .operation
            .unwrap()
            .answered_below,
        a.sequence
    );
    pending.decided(a, &granted(), &mut Aftermath::default());
    assert_eq!(
        pending
            .send(c.sequence, LEADER_2, now)
            .unwrap()
            .operation
            .unwrap()
            .answered_below,
        c.sequence
    );
}

#[tokio::test]
async fn a_grant_for_a_caller_that_gave_up_is_given_back() {
    let mut pending = Pending::new(1, 1);
    let (id, answered) = open(&mut pending);
    pending.send(id.sequence, LEADER_2, Instant::now());
    drop(answered);
    assert!(
        pending.give_up(id.sequence).is_none(),
        "nobody knows yet what it got"
    );
    let mut after = Aftermath::default();
    pending.decided(id, &granted(), &mut after);
    assert_eq!(after.abandon.len(), 1);
}

#[tokio::test]
async fn a_forsaken_acquire_is_forgotten_once_it_can_no_longer_take_effect() {
    let mut pending = Pending::new(1, 1);
    let now = Instant::now();
    let (a, _gone) = open(&mut pending);
    pending.send(a.sequence, LEADER_2, now);
    pending.give_up(a.sequence);
    let (b, _keep) = open(&mut pending);
    pending.send(b.sequence, LEADER_2, now);
    assert_eq!(pending.forsaken.len(), 1);
    pending.decided(b, &granted(), &mut Aftermath::default());
    assert!(pending.forsaken.is_empty());
}

#[tokio::test]
async fn what_was_never_sent_was_never_proposed() {
    let mut pending = Pending::new(1, 1);
    let (sent, _answered) = open(&mut pending);
    pending.send(sent.sequence, LEADER_2, Instant::now());
    assert!(!pending.give_up_unless_proposed(sent.sequence));
    pending.lost(sent.sequence);
    assert!(
        !pending.give_up_unless_proposed(sent.sequence),
        "it may be in a log"
    );

    let (refused, _answered) = open(&mut pending);
    pending.send(refused.sequence, LEADER_2, Instant::now());
    pending.not_sent(refused.sequence);
    assert!(pending.give_up_unless_proposed(refused.sequence));
    // Given up, it is not sent any more.
    assert!(
        pending
            .send(refused.sequence, LEADER_2, Instant::now())
            .is_none()
    );
}

#[tokio::test]
async fn a_wait_ends_by_its_event() {
    let mut pending = Pending::new(1, 1);
    let (id, answered) = open(&mut pending);
    pending.send(id.sequence, LEADER_2, Instant::now());
    pending.decided(id, &queued(), &mut Aftermath::default());
    assert_eq!(pending.waits.len(), 1);
    pending.wait_ended(id, &resource(), granted(), &mut Aftermath::default());
    assert_eq!(answered.await.unwrap(), Ok(granted()));
    assert!(pending.waits.is_empty());
}

/// A snapshot may hold that a wait began, of which nobody is told, and the log after it that it ended.
#[tokio::test]
async fn a_wait_that_began_within_a_snapshot_is_answered_by_its_end() {
    let mut pending = Pending::new(1, 1);
    let (id, answered) = open(&mut pending);
    pending.send(id.sequence, LEADER_2, Instant::now());
    pending.doubt_all();
    let mut after = Aftermath::default();
    pending.wait_ended(id, &resource(), granted(), &mut after);
    assert!(after.abandon.is_empty(), "its caller is still here");
    assert_eq!(answered.await.unwrap(), Ok(granted()));
    // It was sent again meanwhile.
    pending.decided(id, &granted(), &mut after);
    assert!(after.abandon.is_empty());
    assert!(pending.due(LEADER_2, Instant::now()).is_empty());
}

/// Where it was sent again before it ended, what the table repeats comes first.
#[tokio::test]
async fn a_wait_that_began_within_a_snapshot_and_was_sent_again_is_answered_once() {
    let mut pending = Pending::new(1, 1);
    let (id, answered) = open(&mut pending);
    pending.send(id.sequence, LEADER_2, Instant::now());
    pending.doubt_all();
    let mut after = Aftermath::default();
    pending.decided(id, &queued(), &mut after);
    pending.wait_ended(id, &resource(), granted(), &mut after);
    assert!(after.abandon.is_empty());
    assert_eq!(answered.await.unwrap(), Ok(granted()));
}

#[tokio::test]
async fn a_grant_to_nobody_is_given_back_whoever_forgot_it() {
    let mut pending = Pending::new(1, 1);
    let id = OpId {
        node: 1,
        boot: 1,
        sequence: 77,
    };
    let mut after = Aftermath::default();
    pending.wait_ended(id, &resource(), granted(), &mut after);
    assert_eq!(after.abandon.len(), 1);
    // Another boot's, and another node's, are not this one's to give back.
    for other in [OpId { boot: 2, ..id }, OpId { node: 2, ..id }] {
        let mut after = Aftermath::default();
        pending.wait_ended(other, &resource(), granted(), &mut after);
        assert!(after.abandon.is_empty());
    }
}

#[tokio::test]
async fn a_stopping_node_uses_no_sequence_again() {
    let mut pending = Pending::new(1, 1);
    let (first, answered) = open(&mut pending);
    pending.send(first.sequence, LEADER_2, Instant::now());
    pending.fail_all();
    assert_eq!(answered.await.unwrap(), Err(NodeError::Unknown));
    let (next, _keep) = open(&mut pending);
    assert!(next.sequence > first.sequence);
}

/// Each wait of a node that was taken for dead has one command of the node's own, and each hang-up.
#[tokio::test]
async fn no_command_of_the_nodes_own_is_lost_where_there_is_no_room() {
    let mut pending = Pending::new(1, 1);
    let mut after = Aftermath::default();
    let (first, _answered) = open(&mut pending);
    let mut waiting = Vec::new();
    while pending.open.len() + pending.waits.len() < 65_536 {
        let (id, answered) = open(&mut pending);
        pending.decided(id, &queued(), &mut after);
        waiting.push((id, answered));
    }
    assert!(waiting.len() > 32_000);
    assert!(pending.open(acquire(), None, None).is_none(), "full");
    let mut opened = 0;
    for _ in 0..2 {
        for (id, _) in &waiting {
            pending.detached(*id, &mut after);
            let attachment = after.reattach.pop().unwrap();
            opened += u64::from(pending.open_own(Action::Reattach(attachment)).is_some());
        }
    }
    assert_eq!(pending.open.len(), 65_536);
    let queue = pending.own.len() as u64;
    assert_eq!(opened + queue, 2 * waiting.len() as u64);
    assert!(pending.open(acquire(), None, None).is_none(), "full");
    // What stood in the way is decided: there is room, and they are sent.
    pending.decided(first, &granted(), &mut after);
    assert!(pending.own.is_empty());
    assert_eq!(
        pending.due(LEADER_2, Instant::now()).len() as u64,
        opened + queue
    );
}
