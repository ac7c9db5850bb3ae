//! `evermind lock run`: a command that runs only while a lock is held.

use std::process::ExitCode;
use std::time::Duration;

use evermind_client::{Answer, Client, Code, Error, Extended, Grant, Moment};
use evermind_lock::limits::HOLDER_BYTES_MAX;
use nix::sys::signal::Signal;
use uuid::Uuid;

use super::Taking;
use super::guard::{Ended, Guard, Outcome, is_over, say_leftovers};
use super::hold::Hold;
use super::signals::{self, Signals};
use super::watch::Watch;
use crate::connection::Connection;
use crate::exit::{self, Failure};
use crate::stderr::say;

/// Below this the way to the cluster and back takes too much of a lease.
const LEASE_MIN: Duration = Duration::from_secs(1);
const RELEASE_MAX: Duration = Duration::from_secs(2);
/// What a node has to answer an extension at least.
const EXTEND_GRACE_MIN: Duration = Duration::from_millis(250);
/// Variables that open the cluster to the command.
const CREDENTIALS: &[&str] = &[
    "EVERMIND_API_KEY",
    "EVERMIND_LICENCE_KEY",
    "EVERMIND_ADMIN_TOKEN",
];

/// Run a command only while a lock is held
///
/// The lock is extended as long as the command runs. The command behaves as under `env`: at the
/// terminal, under signals, in scripts and pipelines. If the lock cannot be extended, the command
/// and all that it started get SIGTERM, then SIGKILL before the lease ends; the same if this process
/// dies. When the command ends, the processes it left running get the same, are named on stderr, and
/// then the lock is released. A daemon in a session of its own is named and goes on.
///
/// While it is stopped (Ctrl-Z) nothing is extended: at the end of the lease it is ended. A process
/// of another user, as `sudo` starts it, cannot be ended and is named: what it writes is safe only
/// where the fencing token is checked.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("The command finds the lock's name in EVERMIND_LOCK_KEY and its token in \
    EVERMIND_FENCING_TOKEN.\n\n{}", exit::LOCK_TABLE))]
pub(super) struct Args {
    #[command(flatten)]
    taking: Taking,
    /// The command, after --; the variables named below tell it which lock it has
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
    /// Use --uuid unchanged, to take over what is held under it; otherwise a unique part is added,
    /// so that two commands with one uuid never run at once
    #[arg(long, requires = "uuid")]
    adopt: bool,
    /// Leave the API key and other credentials of Evermind in the command's environment
    #[arg(long)]
    pass_api_key: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new()
        .map_err(|error| Failure::new(format!("cannot listen for signals: {error}")))?;
    let lease = args.taking.lease;
    if lease < LEASE_MIN {
        return Err(Failure::usage("run needs a --lease of at least 1s")
            .hint("it is extended while the command runs: a short one only makes that fragile"));
    }
    let mut request = args.taking.request();
    let uuid = match request.uuid.take() {
        Some(uuid) if args.adopt => uuid,
        Some(uuid) => unique(&uuid)?,
        None => Uuid::now_v7().to_string(),
    };
    request.uuid = Some(uuid.clone());
    let client = args.connection.client()?;
    // A node that hangs must not use up what is left: there is time for the other two.
    let extender = (args.connection.client()?).with_answer_grace(EXTEND_GRACE_MIN.max(lease / 6));
    let key = args.taking.key.clone();
    let lock = Lock {
        client,
        extender,
        key,
        uuid,
    };
    let acquired = tokio::select! {
        outcome = super::told(&lock.client, &lock.key, lock.client.acquire(&request)) => outcome,
        signal = fatal(&mut signals) => {
            lock.release().await;
            return Ok(signals::die_of(signal));
        }
    };
    let grant = match acquired {
        Ok(grant) => grant,
        Err(error) => {
            // The lock may be held all the same: nobody would give it back.
            if !matches!(error.code(), Some(Code::LockHeld)) {
                lock.release().await;
            }
            return Err(error.into());
        }
    };
    match run_under(args, &lock, &grant, &mut signals).await {
        Ok(outcome) => {
            let in_time = outcome.held_until.is_some_and(|end| Moment::now() < end);
            let released = lock.release().await;
            conclude(&lock.key, outcome, in_time, released)
        }
        Err(failure) => {
            lock.release().await;
            Err(failure)
        }
    }
}

/// A uuid of this run alone. The same uuid is the same holder, so that without this a second command
/// would be granted what the first holds, and run beside it.
fn unique(uuid: &str) -> Result<String, Failure> {
    let own = format!("{uuid}.{}", Uuid::now_v7());
    if own.len() <= HOLDER_BYTES_MAX {
        return Ok(own);
    }
    let most = HOLDER_BYTES_MAX - (own.len() - uuid.len());
    Err(Failure::usage(format!(
        "--uuid takes at most {most} characters here: a unique part is added to it"
    ))
    .hint("--adopt takes it as it is"))
}

/// The next signal that ends a process which only waits. Ctrl-Z stops it.
async fn fatal(signals: &mut Signals) -> Signal {
    loop {
        let received = signals.next().await;
        if received.stops() {
            signals::stop_by(received.signal);
        } else if !received.is_harmless() {
            return received.signal;
        }
    }
}

/// Runs the command while the lock is held.
async fn run_under(
    args: &Args,
    lock: &Lock,
    grant: &Answer<Grant>,
    signals: &mut Signals,
) -> Result<Outcome, Failure> {
    let mut hold = Hold::new(args.taking.lease, grant);
    if Moment::now() >= hold.extend_at() {
        // Most of the lease went by on the way here.
        let extended = lock.extend(hold.extend_by_ms(Moment::now())).await;
        let extended = extended.map_err(|e| Failure::from(e).code(exit::NOT_ACQUIRED))?;
        hold.extended(&extended);
    }
    let set = [
        ("EVERMIND_LOCK_KEY", lock.key.clone()),
        (
            "EVERMIND_FENCING_TOKEN",
            grant.value.fencing_token.to_string(),
        ),
    ];
    let unset = if args.pass_api_key { &[] } else { CREDENTIALS };
    let blocked = signals.blocked_before();
    let watch =
        Watch::start(&args.command, &set, unset, blocked, hold.term()).map_err(|error| {
            Failure::new(format!("cannot start the command: {error}"))
                .code(exit::NOT_STARTED)
                .hint("are there too many processes, or open files?")
        })?;
    Guard::new(lock, hold, signals, watch).keep().await
}

/// Says what there is to say, when the lock is given back and words can do no harm, and ends as the
/// command did.
fn conclude(
    key: &str,
    outcome: Outcome,
    in_time: bool,
    released: Released,
) -> Result<ExitCode, Failure> {
    say_leftovers(&outcome.leftovers);
    let lost = match (outcome.lost, released) {
        (Some(why), _) => Some(why),
        (None, Released::Yes) => None,
        (None, Released::WasOver(why)) => {
            in_time.then(|| format!("another caller ended it: {why}"))
        }
        (None, Released::Unknown(why)) => {
            say!("warning: the lock {key:?} was not released: {why}");
            say!("hint: it ends with its lease");
            None
        }
    };
    if let Some(why) = lost {
        return Err(Failure::new(format!("the lock was lost: {why}"))
            .hint("what the command did last may be incomplete; others may hold the lock now")
            .code(exit::LOST));
    }
    Ok(match outcome.ended {
        Some(Ended::Code(code)) => ExitCode::from(u8::try_from(code).unwrap_or(exit::OTHER)),
        Some(Ended::Signal(signal)) => signals::die_of(signal),
        None => ExitCode::from(exit::OTHER),
    })
}

/// What became of a lock that was given back.
#[derive(Debug)]
enum Released {
    Yes,
    /// It had ended before.
    WasOver(String),
    Unknown(String),
}

/// A lock that is held, or may be.
pub(super) struct Lock {
    client: Client,
    extender: Client,
    key: String,
    uuid: String,
}

impl Lock {
    pub(super) async fn extend(&self, by_ms: u64) -> Result<Answer<Extended>, Error> {
        self.extender.extend(&self.key, &self.uuid, by_ms).await
    }

    /// Gives the lock back.
    async fn release(&self) -> Released {
        let release = self.client.release(&self.key, &self.uuid);
        match tokio::time::timeout(RELEASE_MAX, release).await {
            Ok(Ok(_)) => Released::Yes,
            Ok(Err(error)) if is_over(&error) => Released::WasOver(error.to_string()),
            Ok(Err(error)) => Released::Unknown(error.to_string()),
            Err(_) => Released::Unknown("no answer within 2 s".to_owned()),
        }
    }
}
