//! Keeps a lock while a command runs under it.

use std::pin::Pin;
use std::time::Duration;

use evermind_client::{Answer, Code, Error, Extended, Moment};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::hold::Hold;
use super::processes::{self, Process};
use super::run::Lock;
use super::signals::{self, Received, Signals};
use super::watch::{Canary, Leftovers, Order, Report, Term, Watch, end_all_below, is_stopped};
use crate::exit::{self, Failure};
use crate::stderr::say;

/// Between two extensions that failed for another reason than the network.
const EXTEND_AGAIN: Duration = Duration::from_millis(500);
/// The runtime's timers stand still while the machine sleeps; leases do not.
const TICK: Duration = Duration::from_millis(200);
/// The watch is done this long after the term, or it hangs: it gives the kernel 2 s.
const WATCH_LATE: Duration = Duration::from_secs(3);

type Extension<'a> = Pin<Box<dyn Future<Output = Result<Answer<Extended>, Error>> + 'a>>;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Code(i32),
    Signal(Signal),
}

/// What there is to say when nothing of the command is left.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// How the command ended, unless it could not be ended.
    pub(super) ended: Option<Ended>,
    /// Until when the lock was held, unless somebody ended it.
    pub(super) held_until: Option<Moment>,
    /// Why the lock was lost while it ran.
    pub(super) lost: Option<String>,
    pub(super) leftovers: Leftovers,
}

/// A lock that is held, and the command that runs under it.
pub(super) struct Guard<'a> {
    lock: &'a Lock,
    hold: Hold,
    signals: &'a mut Signals,
    watch: Watch,
    canary: Option<Canary>,
    command: Option<Pid>,
    /// A shell with job control may be there, which has to see that the command was stopped.
    at_terminal: bool,
    extend_at: Moment,
    /// Why the last extension failed.
    trouble: String,
    outcome: Outcome,
}

impl<'a> Guard<'a> {
    pub(super) fn new(lock: &'a Lock, hold: Hold, signals: &'a mut Signals, watch: Watch) -> Self {
        let at_terminal = std::fs::File::open("/dev/tty").is_ok() && Pid::this().as_raw() != 1;
        Self {
            lock,
            extend_at: hold.extend_at(),
            hold,
            signals,
            watch,
            // Without it a signal to the whole group comes twice.
            canary: Canary::start().ok(),
            command: None,
            at_terminal,
            trouble: "no answer in time".to_owned(),
            outcome: Outcome::default(),
        }
    }

    /// Extends the lock until nothing of the command is left.
    pub(super) async fn keep(mut self) -> Result<Outcome, Failure> {
        let lock = self.lock;
        let mut extension: Option<Extension<'_>> = None;
        loop {
            let now = Moment::now();
            if now >= self.hold.kill_at().plus(WATCH_LATE) {
                return Ok(self.without_watch());
            }
            let extends = self.outcome.lost.is_none() && extension.is_none();
            if extends && now >= self.extend_at {
                extension = Some(Box::pin(lock.extend(self.hold.extend_by_ms(now))));
            }
            let pause = if extension.is_some() {
                TICK
            } else {
                self.extend_at.since(now).min(TICK)
            };
            tokio::select! {
                report = self.watch.next() => match report {
                    Some(Report::Done(leftovers)) => {
                        self.outcome.leftovers = leftovers;
                        self.outcome.held_until = Some(self.hold.kill_at());
                        return Ok(self.outcome);
                    }
                    Some(Report::NotStarted(why)) => {
                        return Err(Failure::new(format!("cannot start the command: {why}"))
                            .code(exit::NOT_STARTED)
                            .hint("are there too many processes?"));
                    }
                    Some(report) => self.hear(&report),
                    None => return Ok(self.without_watch()),
                },
                received = self.signals.next() => self.pass_on(received).await,
                outcome = of(&mut extension) => {
                    extension = None;
                    self.extended(outcome);
                }
                () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
            }
        }
    }

    fn hear(&mut self, report: &Report) {
        match *report {
            Report::Started(pid) => self.command = Some(Pid::from_raw(pid)),
            Report::Stopped(signal) => self.stop_too(signal),
            Report::Ending if self.outcome.lost.is_none() => {
                self.outcome.lost = Some(self.trouble.clone());
                say_lost(&self.trouble);
            }
            Report::Ended { code, signal } => {
                let signal = signal.and_then(|signal| Signal::try_from(signal).ok());
                self.outcome.ended = signal.map(Ended::Signal).or(code.map(Ended::Code));
            }
            Report::Ending | Report::NotStarted(_) | Report::Done(_) => {}
        }
    }

    fn extended(&mut self, outcome: Result<Answer<Extended>, Error>) {
        match outcome {
            Ok(answer) => {
                self.hold.extended(&answer);
                self.extend_at = self.hold.extend_at();
                "no answer in time".clone_into(&mut self.trouble);
                self.watch.order(&Order::Term(self.hold.term()));
            }
            Err(error) => {
                self.trouble = error.to_string();
                self.extend_at = Moment::now().plus(EXTEND_AGAIN);
                if is_over(&error) && self.outcome.lost.is_none() {
                    let now = Moment::now();
                    let kill_at = self.hold.kill_at().min(now.plus(self.hold.term_grace()));
                    // The command first: writing may block, or fail.
                    self.watch.order(&Order::Term(Term::new(now, kill_at)));
                    self.outcome.lost = Some(self.trouble.clone());
                    say_lost(&self.trouble);
                }
            }
        }
    }

    /// What the kernel sends to the job, the command had too. What another process sends to this
    /// one alone is meant for the command.
    async fn pass_on(&mut self, received: Received) {
        let signal = received.signal;
        if signal == Signal::SIGCHLD
            || !received.from_process
            || received.sender == self.watch.pid()
        {
            return;
        }
        if let Some(canary) = &mut self.canary
            && canary.had(signal).await
        {
            return;
        }
        self.watch.order(&Order::Signal(signal as i32));
        // A signal waits for a stopped process to go on. No shell is there to see to that.
        if !self.at_terminal && !received.stops() && !received.is_harmless() {
            self.watch.order(&Order::Continue);
        }
    }

    /// The command was stopped: stops as it did, so that the shell takes over. Nothing is extended
    /// meanwhile, and the watch ends the command at the end of its term.
    fn stop_too(&mut self, signal: i32) {
        let Ok(signal) = Signal::try_from(signal) else {
            return;
        };
        // Without a terminal somebody stopped it on purpose: the lock stays held.
        if !self.at_terminal || !self.command.is_some_and(is_stopped) {
            return;
        }
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            say!("evermind: stopped; the lock is not extended until this continues");
        }
        signals::stop_by(signal);
        self.watch.order(&Order::Continue);
        if self.outcome.lost.is_none() {
            "it was stopped, or was not answered, for too long".clone_into(&mut self.trouble);
        }
    }

    /// The watch is gone, or hangs: its work is done here.
    fn without_watch(mut self) -> Outcome {
        self.canary = None;
        self.outcome.leftovers.stuck = end_all_below();
        let why = "the process that watches the command is gone";
        self.outcome.lost.get_or_insert_with(|| why.to_owned());
        self.outcome
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
pub(super) fn is_over(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(Code::NotOwner | Code::LockNotFound | Code::GrantEnded)
    )
}

fn say_lost(why: &str) {
    say!("warning: the lock cannot be kept, and the command is ended: {why}");
}

/// Names what the command left running.
pub(super) fn say_leftovers(leftovers: &Leftovers) {
    let say = |processes: &[Process], what: &str| {
        if !processes.is_empty() {
            let named = processes::list(processes);
            say!("warning: the command left processes running, {what}: {named}");
        }
    };
    say(&leftovers.ended, "and they were ended");
    say(
        &leftovers.daemons,
        "in sessions of their own, and they go on without the lock",
    );
    say(
        &leftovers.stuck,
        "they could not be ended, and go on without the lock",
    );
    if !leftovers.stuck.is_empty() {
        say!(
            "hint: a command that `sudo` starts can only be ended by root: run `sudo evermind lock run` instead",
        );
    }
}
