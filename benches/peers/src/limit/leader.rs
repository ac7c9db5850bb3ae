//! The limit's leader: takes commands over HTTP, has them synced on two of three disks, answers.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::disk::Disk;
use super::frame::{self, COMMAND_BYTES};

/// Any string would do: the limit compares it and nothing more.
pub(crate) const API_KEY: &str = "limit";
/// More commands than clients that are ever measured.
const BATCH_MAX: usize = 8192;
/// Own disk and a follower's, or both followers'.
const MAJORITY: usize = 2;
const FOLLOWER_WITHIN: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct LeaderArgs {
    #[arg(long)]
    listen: String,
    #[arg(long)]
    file: PathBuf,
    #[arg(long, value_delimiter = ',')]
    followers: Vec<String>,
}

/// Leads until it is killed, or something of it fails.
pub(crate) fn lead(args: &LeaderArgs) -> Result<()> {
    let disk = Disk::prepare(&args.file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(serve(args, disk))
}

async fn serve(args: &LeaderArgs, disk: Disk) -> Result<()> {
    let mut followers = Vec::new();
    for address in &args.followers {
        let stream = tokio::time::timeout(FOLLOWER_WITHIN, connect(address));
        let stream = stream.await.with_context(|| format!("no {address}"))?;
        stream.set_nodelay(true).context("setting TCP_NODELAY")?;
        followers.push(Follower::new(stream));
    }
    let followers = <[Follower; 2]>::try_from(followers);
    let followers = followers.map_err(|_| anyhow!("--followers takes two addresses"))?;
    let (own, frames) = std::sync::mpsc::channel();
    let (acks, acknowledged) = mpsc::unbounded_channel();
    std::thread::spawn(move || sync(disk, &frames, &acks));

    let (commands, waiting) = mpsc::channel(BATCH_MAX);
    let committer = Committer {
        waiting,
        own,
        acknowledged,
        followers,
    };
    let committer = tokio::spawn(committer.run());
    let app = Router::new()
        .route("/lock/acquire", post(acquire))
        .route("/lock/release", post(release))
        .with_state(commands);
    let listener = TcpListener::bind(&args.listen).await.context("listening")?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    tokio::select! {
        served = axum::serve(listener, app) => served.context("serving"),
        ended = committer => ended.context("the committer")?,
    }
}

/// Followers start at the same time as their leader.
async fn connect(address: &str) -> TcpStream {
    loop {
        match TcpStream::connect(address).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The leader's own disk, on a thread of its own. What has come meanwhile is synced together.
fn sync(
    mut disk: Disk,
    frames: &std::sync::mpsc::Receiver<(u64, Arc<Vec<u8>>)>,
    acks: &mpsc::UnboundedSender<u64>,
) {
    while let Ok((mut number, frame)) = frames.recv() {
        let mut outcome = disk.append(&frame);
        while let (Ok(()), Ok((next, frame))) = (&outcome, frames.try_recv()) {
            number = next;
            outcome = disk.append(&frame);
        }
        if let Err(error) = outcome {
            eprintln!("error: {error:#}");
            return;
        }
        let _ = acks.send(number);
    }
}

/// A command, and who waits for it.
type Waiting = (Vec<u8>, oneshot::Sender<u64>);

struct Committer {
    waiting: mpsc::Receiver<Waiting>,
    own: std::sync::mpsc::Sender<(u64, Arc<Vec<u8>>)>,
    acknowledged: mpsc::UnboundedReceiver<u64>,
    followers: [Follower; 2],
}

impl Committer {
    /// One batch after the other: everything that came while the last was on its way.
    async fn run(mut self) -> Result<()> {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut index = 0;
        for number in 1.. {
            if self.waiting.recv_many(&mut batch, BATCH_MAX).await == 0 {
                break;
            }
            let commands = batch.iter().map(|(command, _)| command.as_slice());
            let frame = Arc::new(frame::frame(number, commands));
            let own = self.own.send((number, Arc::clone(&frame)));
            own.map_err(|_| anyhow!("the disk is gone"))?;
            for follower in &mut self.followers {
                let sent = follower.stream.write_all(&frame).await;
                sent.context("sending to a follower")?;
            }
            let mut disks = 0;
            while disks < MAJORITY {
                // Less is of the slowest disk: a batch that the two others have had for long.
                if self.synced().await? == number {
                    disks += 1;
                }
            }
            for (_, answer) in batch.drain(..) {
                index += 1;
                let _ = answer.send(index);
            }
        }
        Ok(())
    }

    /// The number of the next batch that one of the three says is on its disk.
    async fn synced(&mut self) -> Result<u64> {
        loop {
            for follower in &mut self.followers {
                if let Some(number) = follower.try_synced()? {
                    return Ok(number);
                }
            }
            let [first, second] = &self.followers;
            tokio::select! {
                own = self.acknowledged.recv() => return own.context("the disk is gone"),
                ready = first.stream.readable() => ready,
                ready = second.stream.readable() => ready,
            }
            .context("waiting for a follower")?;
        }
    }
}

struct Follower {
    stream: TcpStream,
    /// As much of a number as has come.
    partial: [u8; 8],
    filled: usize,
}

impl Follower {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            partial: [0; 8],
            filled: 0,
        }
    }

    /// A number that has come whole.
    fn try_synced(&mut self) -> Result<Option<u64>> {
        match self.stream.try_read(&mut self.partial[self.filled..]) {
            Ok(0) => bail!("a follower is gone"),
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("reading from a follower"),
        }
        if self.filled < self.partial.len() {
            return Ok(None);
        }
        self.filled = 0;
        Ok(Some(u64::from_le_bytes(self.partial)))
    }
}

type Commands = mpsc::Sender<Waiting>;

/// Has the API key. It is compared where it stands, for a copy of the headers costs more than the rest.
struct Authorized;

impl<S: Sync> FromRequestParts<S> for Authorized {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let bearer = parts.headers.get(header::AUTHORIZATION);
        let bearer = bearer.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        if bearer == Some(API_KEY.as_bytes()) {
            Ok(Self)
        } else {
            Err(StatusCode::UNAUTHORIZED)
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Acquire {
    key: String,
    uuid: String,
    lease: u64,
    retry_attempts: u32,
}

#[derive(Deserialize)]
struct Release {
    key: String,
    uuid: String,
}

/// As long as Evermind's answer, and of the same form.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Granted {
    acquired: bool,
    lock_acquisition_attempts: u32,
    config: Config,
    message: Option<&'static str>,
    fencing_token: u64,
    expires_in: u64,
    waited: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    key: String,
    lease: u64,
    retry_attempts: u32,
    retry_delay: u64,
    retry_jitter: u64,
    uuid: String,
    fifo: bool,
}

#[derive(Serialize)]
struct Released {
    released: bool,
    message: Option<&'static str>,
}

async fn acquire(
    State(commands): State<Commands>,
    _: Authorized,
    Json(asked): Json<Acquire>,
) -> Result<Json<Granted>, StatusCode> {
    let index = commit(&commands, b'A', &asked.key, &asked.uuid).await?;
    Ok(Json(Granted {
        acquired: true,
        lock_acquisition_attempts: 1,
        config: Config {
            key: asked.key,
            lease: asked.lease,
            retry_attempts: asked.retry_attempts,
            retry_delay: 0,
            retry_jitter: 0,
            uuid: asked.uuid,
            fifo: false,
        },
        message: None,
        fencing_token: index,
        expires_in: asked.lease,
        waited: 0,
    }))
}

async fn release(
    State(commands): State<Commands>,
    _: Authorized,
    Json(asked): Json<Release>,
) -> Result<Json<Released>, StatusCode> {
    commit(&commands, b'R', &asked.key, &asked.uuid).await?;
    Ok(Json(Released {
        released: true,
        message: None,
    }))
}

/// Returns once two disks have the command.
async fn commit(commands: &Commands, kind: u8, key: &str, uuid: &str) -> Result<u64, StatusCode> {
    let mut command = Vec::with_capacity(COMMAND_BYTES);
    command.push(kind);
    command.extend_from_slice(key.as_bytes());
    command.push(0);
    command.extend_from_slice(uuid.as_bytes());
    let (answer, answered) = oneshot::channel();
    let sent = commands.send((command, answer)).await;
    sent.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    answered.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}
