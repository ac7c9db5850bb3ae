//! `evermind lock run`: a command that runs only while a lock is held.

use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::time::Duration;

use evermind_client::{Answer, Client, Code, Error, Extended, Moment};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::Taking;
use super::group::{Change, Group, exit_code};
use super::hold::Hold;
use super::terminal::Terminal;
use crate::connection::Connection;
use crate::exit::{self, Failure};

/// Below this the way to the cluster and back takes too much of a lease.
const LEASE_MIN: Duration = Duration::from_secs(1);
const RELEASE_MAX: Duration = Duration::from_secs(2);
/// What a node has to answer an extension at least.
const EXTEND_GRACE_MIN: Duration = Duration::from_millis(250);
/// Between two extensions that failed for another reason than the network.
const EXTEND_AGAIN: Duration = Duration::from_millis(500);
/// The runtime's timers stand still while the machine sleeps; leases do not.
const TICK: Duration = Duration::from_millis(200);

/// Run a command only while a lock is held
///
/// The lock is extended as long as the command runs. The command and all it starts form one process
/// group. If the lock cannot be extended, the group gets SIGTERM, then SIGKILL before the lease
/// ends. What the command leaves running when it ends gets the same, and only when it is gone is
/// the lock released. SIGINT, SIGTERM, SIGHUP and SIGTSTP are passed on.
///
/// While it is stopped (Ctrl-Z) nothing is extended, and a lock lost meanwhile ends the command
/// instead of continuing it. Nobody ends the command if this process itself is killed with -9: what
/// it writes is safe only where the fencing token is checked.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("The command finds the lock's name in EVERMIND_LOCK_KEY and its token in \
    EVERMIND_FENCING_TOKEN.\n\n{}", exit::LOCK_TABLE))]
pub(super) struct Args {
    #[command(flatten)]
    taking: Taking,
    /// The command, after --; the variables named below tell it which lock it has
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
    #[command(flatten)]
    connection: Connection,
}

/// The signals that are passed on.
struct Signals([(Signal, tokio::signal::unix::Signal); 4]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |name, kind| match signal(kind) {
            Ok(listener) => Ok((name, listener)),
            Err(error) => Err(Failure::new(format!("cannot listen for signals: {error}"))),
        };
        Ok(Self([
            listen(Signal::SIGINT, SignalKind::interrupt())?,
            listen(Signal::SIGTERM, SignalKind::terminate())?,
            listen(Signal::SIGHUP, SignalKind::hangup())?,
            // To be stopped alone would leave the command running without extensions.
            listen(
                Signal::SIGTSTP,
                SignalKind::from_raw(Signal::SIGTSTP as i32),
            )?,
        ]))
    }

    async fn next(&mut self) -> Signal {
        let [
            (int, on_int),
            (term, on_term),
            (hup, on_hup),
            (stop, on_stop),
        ] = &mut self.0;
        tokio::select! {
            _ = on_int.recv() => *int,
            _ = on_term.recv() => *term,
            _ = on_hup.recv() => *hup,
            _ = on_stop.recv() => *stop,
        }
    }
}

pub(super) async fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new()?;
    let lease = args.taking.lease;
    if lease < LEASE_MIN {
        return Err(Failure::usage("run needs a --lease of at least 1s")
            .hint("it is extended while the command runs: a short one only makes that fragile"));
    }
    let mut request = args.taking.request();
    let uuid = request
        .uuid
        .get_or_insert_with(|| Uuid::now_v7().to_string())
        .clone();
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

    let grant = tokio::select! {
        outcome = super::told(&lock.client, &lock.key, lock.client.acquire(&request)) => outcome,
        signal = signals.next() => {
            lock.release(false).await;
            return Ok(ExitCode::from(128 + u8::try_from(signal as i32).unwrap_or(0)));
        }
    };
    let grant = match grant {
        Ok(grant) => grant,
        Err(error) => {
            // The lock may be held all the same: nobody would give it back.
            if !matches!(error.code(), Some(Code::LockHeld)) {
                lock.release(false).await;
            }
            return Err(error.into());
        }
    };
    let mut hold = Hold::new(lease, &grant);
    if Moment::now() >= hold.extend_at() {
        // Most of the lease went by on the way here.
        match lock.extend(hold.extend_by_ms(Moment::now())).await {
            Ok(answer) => hold.extended(&answer),
            Err(error) => {
                lock.release(false).await;
                return Err(Failure::from(error).code(exit::NOT_ACQUIRED));
            }
        }
    }
    let outcome = match start(&args.command, &lock.key, grant.value.fencing_token) {
        Ok(group) => while_held(group, &lock, hold, &mut signals).await,
        Err(failure) => Err(failure),
    };
    lock.release(outcome.is_ok()).await;
    outcome.map(ExitCode::from)
}

/// A lock that is held, or may be.
struct Lock {
    client: Client,
    extender: Client,
    key: String,
    uuid: String,
}

impl Lock {
    async fn extend(&self, by_ms: u64) -> Result<Answer<Extended>, Error> {
        self.extender.extend(&self.key, &self.uuid, by_ms).await
    }

    /// Gives the lock back, and says so if that failed and matters.
    async fn release(&self, must: bool) {
        let release = self.client.release(&self.key, &self.uuid);
        let why = match tokio::time::timeout(RELEASE_MAX, release).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer within 2 s".to_owned(),
        };
        if must {
            eprintln!("warning: the lock {:?} was not released: {why}", self.key);
            eprintln!("hint: it ends with its lease");
        }
    }
}

fn start(words: &[std::ffi::OsString], key: &str, token: u64) -> Result<Group, Failure> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(Failure::usage("no command was given").hint("give it after --"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    command
        .env("EVERMIND_LOCK_KEY", key)
        .env("EVERMIND_FENCING_TOKEN", token.to_string());
    Group::start(command).map_err(|error| {
        let failure = Failure::new(format!("cannot run {}: {error}", program.display()));
        match error.kind() {
            std::io::ErrorKind::NotFound => failure
                .code(exit::NOT_FOUND)
                .hint("is it installed, and in PATH?"),
            _ => failure
                .code(exit::NOT_STARTED)
                .hint("is it a program that this user may run?"),
        }
    })
}

/// Why the command has to end.
struct Lost {
    why: String,
    /// When to stop asking.
    kill_at: Moment,
    killed: bool,
}

type Extension<'a> = Pin<Box<dyn Future<Output = Result<Answer<Extended>, Error>> + 'a>>;

/// Runs the command to its end, extending the lock. Gives its exit code, or that the lock was lost.
async fn while_held(
    mut group: Group,
    lock: &Lock,
    mut hold: Hold,
    signals: &mut Signals,
) -> Result<u8, Failure> {
    let terminal = Terminal::on_stdin();
    if let Some(terminal) = &terminal {
        terminal.lend(group.id());
        // It may have read before the terminal was its own, and have been stopped for it.
        group.signal(Signal::SIGCONT);
    }
    let mut extend_at = hold.extend_at();
    let mut extension: Option<Extension<'_>> = None;
    let mut trouble = "no answer in time".to_owned();
    let mut lost: Option<Lost> = None;
    loop {
        let now = Moment::now();
        if lost.is_none() && now >= hold.term_at() {
            lost = Some(end(&group, trouble.clone(), hold.kill_at()));
        }
        if let Some(lost) = lost
            .as_mut()
            .filter(|lost| !lost.killed && now >= lost.kill_at)
        {
            group.signal(Signal::SIGKILL);
            lost.killed = true;
        }
        if lost.is_none() && extension.is_none() && now >= extend_at {
            extension = Some(Box::pin(lock.extend(hold.extend_by_ms(now))));
        }
        let next = match &lost {
            Some(lost) if lost.killed => now.plus(TICK),
            Some(lost) => lost.kill_at,
            None if extension.is_some() => hold.term_at(),
            None => extend_at.min(hold.term_at()),
        };
        tokio::select! {
            change = group.changed() => match (change, &terminal) {
                (Change::Ended, _) => return finish(group, terminal.as_ref(), lost).await,
                (Change::Stopped, Some(terminal)) => {
                    stop_with(&group, terminal, &hold);
                    "it was stopped, or was not answered, for too long".clone_into(&mut trouble);
                }
                // Without a terminal somebody stopped it on purpose: the lock stays held.
                (Change::Stopped, None) => {}
            },
            signal = signals.next() => group.signal(signal),
            outcome = of(&mut extension) => {
                extension = None;
                match outcome {
                    Ok(answer) => {
                        hold.extended(&answer);
                        extend_at = hold.extend_at();
                        "no answer in time".clone_into(&mut trouble);
                    }
                    Err(error) => {
                        trouble = error.to_string();
                        extend_at = Moment::now().plus(EXTEND_AGAIN);
                        if is_over(&error) && lost.is_none() {
                            let soon = Moment::now().plus(hold.term_grace());
                            lost = Some(end(&group, trouble.clone(), hold.kill_at().min(soon)));
                        }
                    }
                }
            }
            () = tokio::time::sleep(next.since(now).min(TICK)) => {}
        }
    }
}

/// The extension under way; never, if there is none.
async fn of(extension: &mut Option<Extension<'_>>) -> Result<Answer<Extended>, Error> {
    match extension {
        Some(extension) => extension.await,
        None => std::future::pending().await,
    }
}

/// Whether the cluster said that this grant has ended.
fn is_over(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(Code::NotOwner | Code::LockNotFound | Code::GrantEnded)
    )
}

fn end(group: &Group, why: String, kill_at: Moment) -> Lost {
    eprintln!("warning: the lock cannot be kept, and the command is ended: {why}");
    group.terminate();
    Lost {
        why,
        kill_at,
        killed: false,
    }
}

async fn finish(
    group: Group,
    terminal: Option<&Terminal>,
    lost: Option<Lost>,
) -> Result<u8, Failure> {
    if let Some(terminal) = terminal {
        terminal.take_back(group.id());
    }
    let status = group.finish(lost.is_none()).await;
    match lost {
        Some(lost) => Err(Failure::new(format!("the lock was lost: {}", lost.why))
            .hint("what the command did last may be incomplete; others may hold the lock now")
            .code(exit::LOST)),
        None => status.map(exit_code).map_err(|error| {
            Failure::new(format!("cannot learn how the command ended: {error}"))
                .hint("it has ended, and what it left running too")
        }),
    }
}

/// The command was stopped, by Ctrl-Z or because it read a terminal that was not its own: stops
/// with it, so that the shell takes over. When the shell continues us, the command goes on only
/// with a lock that is still held.
fn stop_with(group: &Group, terminal: &Terminal, hold: &Hold) {
    // In the foreground (`fg` put us there) the terminal only has to be lent.
    if !terminal.is_ours() {
        terminal.take_back(group.id());
        eprintln!("evermind: stopped; the lock is not extended until this continues");
        let _ = nix::sys::signal::raise(Signal::SIGSTOP);
    }
    if Moment::now() < hold.term_at() {
        terminal.lend(group.id());
        group.signal(Signal::SIGCONT);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
