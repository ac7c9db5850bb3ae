//! A network that says things twice, late, or not at all, to the clients' side of a node.

use std::thread;
use std::time::Duration;

use evermind_checker::history::{Ask, Told};

use crate::caller::{Caller, Operation};
use crate::scene::Scene;

/// Clients of these rows are numbered apart from those of the load.
const NUMBER: u64 = 1_000;
const LEASE_MS: u64 = 1_000;
const EXTEND_MS: u64 = 5_000;

struct Stage<'s> {
    scene: &'s Scene<'s>,
    caller: Caller<'s>,
}

impl<'s> Stage<'s> {
    fn new(scene: &'s Scene<'s>, number: u64) -> Self {
        let node = scene.any_node();
        let caller = Caller::new(scene.cluster, scene.load, NUMBER + number, node);
        Self { scene, caller }
    }

    fn surely(&mut self, operation: &Operation) -> Option<Told> {
        let told = self.caller.surely(operation);
        self.scene
            .require(told.is_some(), || format!("no answer to {operation:?}"));
        told
    }
}

fn operation(key: &str, uuid: &str, ask: Ask, idempotency: Option<String>) -> Operation {
    Operation {
        key: key.to_owned(),
        uuid: uuid.to_owned(),
        ask,
        idempotency,
    }
}

fn take(lease_ms: u64) -> Ask {
    Ask::Acquire {
        lease_ms,
        retry_attempts: 30,
        retry_delay_ms: 100,
        fifo: true,
    }
}

fn is_refused(told: &Told, wanted: &str) -> bool {
    matches!(told, Told::Refused { code, .. } if code == wanted)
}

/// An acquire that is said again after the release of its grant takes nothing.
pub(crate) fn acquire_after_release(scene: &Scene<'_>) {
    while scene.goes_on() {
        let round = scene.injected();
        let (key, uuid) = (format!("replay-{}", round % 3), format!("replay-{round}"));
        let mut stage = Stage::new(scene, 0);
        let acquire = operation(&key, &uuid, take(10_000), Some(format!("{uuid}-acquire")));
        let Some(Told::Granted { .. }) = stage.surely(&acquire) else {
            scene.require(false, || format!("{key} was not granted to {uuid}"));
            return;
        };
        let release = operation(&key, &uuid, Ask::Release, None);
        stage.surely(&release);
        // To whichever node, and more than once.
        for _ in 0..=scene.below(3) {
            scene.inject();
            let told = stage.surely(&acquire);
            let ended = told.is_some_and(|told| is_refused(&told, "grant_ended"));
            scene.require(ended, || {
                format!("a replayed acquire of {uuid} was not refused")
            });
            scene.effect("replays refused with grant_ended", u64::from(ended));
            stage.caller.move_on();
        }
        let look = operation(&key, &uuid, Ask::Look, None);
        let free = stage.surely(&look) == Some(Told::Free);
        scene.require(free, || format!("{key} is held by nobody alive"));
    }
}

/// A release that arrives when the lock has long been another's ends nobody's grant.
pub(crate) fn delayed_release(scene: &Scene<'_>) {
    while scene.goes_on() {
        let round = scene.injected();
        let (key, old, new) = (
            format!("late-{}", round % 3),
            format!("old-{round}"),
            format!("new-{round}"),
        );
        let mut stage = Stage::new(scene, 1);
        stage.surely(&operation(&key, &old, take(LEASE_MS), None));
        // Waits for the lease to run out.
        let granted = stage.surely(&operation(&key, &new, take(10_000), None));
        let Some(Told::Granted { token, .. }) = granted else {
            scene.require(false, || format!("{key} was not granted to {new}"));
            return;
        };
        scene.inject();
        let told = stage.surely(&operation(&key, &old, Ask::Release, None));
        let refused = told.is_some_and(|told| is_refused(&told, "not_owner"));
        scene.require(refused, || {
            format!("{key}: a late release of {old} was not refused")
        });
        scene.effect("late releases refused with not_owner", u64::from(refused));
        let seen = stage.surely(&operation(&key, &new, Ask::Look, None));
        let holds = matches!(seen, Some(Told::Held { token: seen, .. }) if seen == token);
        scene.require(holds, || {
            format!("{key}: the new holder's grant is gone: {seen:?}")
        });
        stage.surely(&operation(&key, &new, Ask::Release, None));
    }
}

/// The answer is lost and the request made again: an extension counts once, a grant is one, and a
/// release that was made is not an error.
pub(crate) fn lost_replies(scene: &Scene<'_>) {
    while scene.goes_on() {
        let round = scene.injected();
        let (key, uuid) = (format!("lost-{}", round % 3), format!("lost-{round}"));
        let mut stage = Stage::new(scene, 2);
        let once = |kind: &str| Some(format!("{uuid}-{kind}"));
        let acquire = operation(&key, &uuid, take(10_000), once("acquire"));
        let extend = operation(
            &key,
            &uuid,
            Ask::Extend {
                extend_by_ms: EXTEND_MS,
            },
            once("extend"),
        );
        let release = operation(&key, &uuid, Ask::Release, once("release"));
        let first = lose(&mut stage, &acquire);
        let again = stage.surely(&acquire);
        same_token(scene, &uuid, first.as_ref(), again.as_ref());
        let first = lose(&mut stage, &extend);
        thread::sleep(Duration::from_millis(scene.below(20)));
        let again = stage.surely(&extend);
        same_token(scene, &uuid, first.as_ref(), again.as_ref());
        if let Some(Told::Extended { expires_in_ms, .. }) = again {
            scene.require(expires_in_ms <= 10_000 + EXTEND_MS, || {
                format!("{uuid}: extended twice, {expires_in_ms} ms are left")
            });
        }
        lose(&mut stage, &release);
        let again = stage.surely(&release);
        scene.require(again == Some(Told::Released), || {
            format!("{uuid}: a release made again answers {again:?}")
        });
    }
}

/// Sends, and loses the answer; what it was, where one came.
fn lose(stage: &mut Stage<'_>, operation: &Operation) -> Option<Told> {
    let told = stage.caller.lose_answer(operation);
    let came = told != Told::Unknown;
    stage.scene.inject();
    stage
        .scene
        .effect("answers lost on their way", u64::from(came));
    stage.caller.move_on();
    came.then_some(told)
}

fn same_token(scene: &Scene<'_>, uuid: &str, first: Option<&Told>, again: Option<&Told>) {
    let token = |told: Option<&Told>| match told {
        Some(Told::Granted { token, .. } | Told::Extended { token, .. }) => Some(*token),
        _ => None,
    };
    scene.require(token(again).is_some(), || {
        format!("{uuid}: made again, it answers {again:?}")
    });
    if let (Some(one), Some(other)) = (token(first), token(again)) {
        scene.require(one == other, || {
            format!("{uuid}: token {one}, then {other}")
        });
    }
}
