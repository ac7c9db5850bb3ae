//! `evermind lock`: the lock API from a shell.

mod exec;
mod guard;
mod hold;
mod processes;
mod run;
mod signals;
mod watch;

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use evermind_client::{Acquire, Client, Error, WAIT_MAX, Wait};

use crate::connection::Connection;
use crate::exit::{self, Failure};
use crate::stderr::say;
use crate::{duration, output, patience, table};

/// Take, extend, give back and look at locks; run a command under one
#[derive(Debug, clap::Args)]
#[command(after_help = exit::LOCK_TABLE)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a lock, standing in line for it if it is held
    Acquire {
        #[command(flatten)]
        taking: Taking,
        #[command(flatten)]
        common: Common,
    },
    /// Extend a lease
    Extend {
        /// The lock
        key: String,
        /// The uuid that acquire printed
        #[arg(long)]
        uuid: String,
        /// How much to add to what is left, as in 10s
        #[arg(long, value_parser = duration::parse, value_name = "TIME")]
        by: Duration,
        #[command(flatten)]
        common: Common,
    },
    /// Release a lock
    Release {
        /// The lock
        key: String,
        /// The uuid that acquire printed
        #[arg(long)]
        uuid: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show a lock, if it is held
    Show {
        /// The lock
        key: String,
        /// Answer from the node's own state, however old
        #[arg(long)]
        stale: bool,
        #[command(flatten)]
        common: Common,
    },
    /// List the locks that are held
    List {
        /// Only keys that start with this
        #[arg(long, default_value = "", hide_default_value = true)]
        prefix: String,
        /// Go on where the page before ended
        #[arg(long)]
        cursor: Option<String>,
        /// How many at most
        #[arg(long)]
        limit: Option<u32>,
        /// Answer from the node's own state, however old
        #[arg(long)]
        stale: bool,
        #[command(flatten)]
        common: Common,
    },
    Run(run::Args),
    /// Ends the command of a `lock run` whose lock is lost
    #[command(hide = true)]
    Watch,
    /// Becomes the command of a `lock run`
    #[command(hide = true)]
    Exec(exec::Args),
    /// Takes the signals of a `lock run`'s group
    #[command(hide = true)]
    Canary,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    connection: Connection,
    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,
}

/// What to take, and how long to wait for it.
#[derive(Debug, clap::Args)]
struct Taking {
    /// The lock: 1 to 512 bytes without control characters
    key: String,
    /// How long the lock is held unless it is extended, up to 24h
    #[arg(long, value_parser = duration::parse, value_name = "TIME", default_value = "10s")]
    lease: Duration,
    /// Maximum time to wait for a lock that is held, up to 30m; 0: do not wait [default: 5s]
    #[arg(long, value_parser = wait, value_name = "TIME")]
    #[arg(conflicts_with_all = ["retry_attempts", "retry_delay", "retry_jitter"])]
    wait: Option<Duration>,
    /// Instead of --wait, as in the API: number of retries
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        hide_default_value = true
    )]
    retry_attempts: u32,
    /// Delay before each retry
    #[arg(long, value_parser = duration::parse, value_name = "TIME", default_value = "500ms")]
    #[arg(hide_default_value = true)]
    retry_delay: Duration,
    /// Random extra delay of each retry, at most
    #[arg(long, value_parser = duration::parse, value_name = "TIME", default_value = "0")]
    #[arg(hide_default_value = true)]
    retry_jitter: Duration,
    /// Rely on the order of arrival
    #[arg(long)]
    fifo: bool,
    /// A name of your own for this acquisition: 1 to 128 visible ASCII characters
    #[arg(long)]
    uuid: Option<String>,
}

/// A time to wait that the client can keep.
fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration::parse(text)?;
    if wait <= WAIT_MAX {
        Ok(wait)
    } else {
        let most = WAIT_MAX.as_secs() / 60;
        Err(format!(
            "a wait takes at most {most}m; repeat the command to wait for longer"
        ))
    }
}

impl Taking {
    fn request(&self) -> Acquire {
        let wait = match self.wait {
            Some(window) => Wait::lasting(window),
            None => Wait {
                retry_attempts: self.retry_attempts,
                retry_delay_ms: duration::as_ms(self.retry_delay),
                retry_jitter_ms: duration::as_ms(self.retry_jitter),
            },
        };
        Acquire {
            key: self.key.clone(),
            lease_ms: duration::as_ms(self.lease),
            wait,
            uuid: self.uuid.clone(),
            fifo: self.fifo,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let common = match &args.command {
        Command::Run(args) => return crate::single_threaded()?.block_on(run::run(args)),
        Command::Watch => return watch::run(),
        Command::Exec(args) => return exec::run(args),
        Command::Canary => return watch::run_canary(),
        Command::Acquire { common, .. }
        | Command::Extend { common, .. }
        | Command::Release { common, .. }
        | Command::Show { common, .. }
        | Command::List { common, .. } => common,
    };
    let client = common.connection.client()?;
    let runtime = crate::single_threaded()?;
    match runtime.block_on(answer(&client, &args.command)) {
        Ok((body, _)) if common.json => output::line(&body)?,
        Ok((_, text)) => output::write(&text)?,
        Err(error) => {
            if let (true, Error::Refused(problem)) = (common.json, &error) {
                output::line(problem.body.trim_end())?;
            }
            return Err(error.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's answer, as it came and for people.
async fn answer(client: &Client, command: &Command) -> Result<(String, String), Error> {
    Ok(match command {
        Command::Acquire { taking, .. } => {
            let answer = told(client, &taking.key, client.acquire(&taking.request())).await?;
            let grant = answer.value;
            let text = format!(
                "acquired {}\nuuid   {}\ntoken  {}\nlease  {} left\n",
                taking.key,
                grant.config.uuid,
                grant.fencing_token,
                duration::show(grant.expires_in_ms)
            );
            (answer.body, text)
        }
        Command::Extend { key, uuid, by, .. } => {
            let extending = client.extend(key, uuid, duration::as_ms(*by));
            let answer = patience::told(client, patience::SLOW, extending).await?;
            let left = duration::show(answer.value.expires_in_ms);
            let text = format!(
                "extended {key}\ntoken  {}\nlease  {left} left\n",
                answer.value.fencing_token
            );
            (answer.body, text)
        }
        Command::Release { key, uuid, .. } => {
            let answer = patience::told(client, patience::SLOW, client.release(key, uuid)).await?;
            (answer.body, format!("released {key}\n"))
        }
        Command::Show { key, stale, .. } => {
            let answer = patience::told(client, patience::SLOW, client.show(key, *stale)).await?;
            (answer.body, locks(&[answer.value]))
        }
        Command::List {
            prefix,
            cursor,
            limit,
            stale,
            ..
        } => {
            let listing = client.list(prefix, cursor.as_deref(), *limit, *stale);
            let answer = patience::told(client, patience::SLOW, listing).await?;
            if let Some(cursor) = &answer.value.cursor {
                let more = crate::quote::line(&["--cursor", cursor]);
                say!("hint: there are more: repeat with {more}");
            }
            (answer.body, locks(&answer.value.locks))
        }
        Command::Run(_) | Command::Watch | Command::Exec(_) | Command::Canary => {
            unreachable!("they have their own way")
        }
    })
}

/// Waits for a lock, and says so where that takes long.
async fn told<T>(client: &Client, key: &str, acquired: impl Future<Output = T>) -> T {
    let quiet = format!("waiting for {key}: it is held, or no node can grant it yet");
    patience::told(client, &quiet, acquired).await
}

fn locks(locks: &[evermind_client::LockInfo]) -> String {
    let row = |lock: &evermind_client::LockInfo| {
        vec![
            lock.key.clone(),
            lock.fencing_token.to_string(),
            duration::show(lock.expires_in_ms),
            lock.waiting.to_string(),
            if lock.fifo { "yes" } else { "no" }.to_owned(),
        ]
    };
    let rows: Vec<_> = locks.iter().map(row).collect();
    table::render(&["KEY", "TOKEN", "LEFT", "WAITING", "FIFO"], &rows)
}
