//! Redlock on three Redis that know nothing of each other: `SET NX PX` to all three at once, and a
//! script that deletes what is still one's own; done when two have done it.

use std::collections::VecDeque;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use anyhow::{Context as _, Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Value};

use super::{CONNECTIONS_MAX, Kind, Setup, System};
use crate::load::{Client, LEASE_MS, Turn};
use crate::server::{Server, free_ports, until};

pub(crate) const PROGRAM: &str = "/usr/bin/redis-server";
const MAJORITY: usize = 2;
/// As Redis's documentation has it.
const DELETE_OWN: &str = "if redis.call('get',KEYS[1]) == ARGV[1] then \
     return redis.call('del',KEYS[1]) else return 0 end";

pub(crate) struct Redlock {
    servers: Vec<Server>,
    addresses: Vec<String>,
}

impl System for Redlock {
    type Client = RedlockClient;

    async fn start(setup: &Setup) -> Result<Self> {
        let ports = free_ports(3)?;
        let persistence: &[&str] = match setup.kind {
            Kind::RedlockMemory => &["--appendonly", "no"],
            Kind::RedlockEverysec => &["--appendonly", "yes", "--appendfsync", "everysec"],
            _ => &["--appendonly", "yes", "--appendfsync", "always"],
        };
        let mut servers = Vec::new();
        for port in &ports {
            let name = format!("redis-{port}");
            let dir = setup.server_dir(&name)?.display().to_string();
            let port = port.to_string();
            let common = ["--bind", "127.0.0.1", "--port", &port, "--dir", &dir];
            let arguments: Vec<String> = common
                .into_iter()
                .chain(["--save", ""])
                .chain(persistence.iter().copied())
                .map(str::to_owned)
                .collect();
            servers.push(Server::start(
                &setup.dir,
                &name,
                Path::new(PROGRAM),
                &arguments,
            )?);
        }
        let addresses: Vec<String> = ports
            .iter()
            .map(|port| format!("redis://127.0.0.1:{port}"))
            .collect();
        until("Redis", &mut servers, async || {
            for address in &addresses {
                connect(address).await?;
            }
            Ok(())
        })
        .await?;
        Ok(Self { servers, addresses })
    }

    async fn clients(&mut self, count: usize) -> Result<Vec<RedlockClient>> {
        let mut script = String::new();
        for address in &self.addresses {
            let mut connection = connect(address).await?;
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(DELETE_OWN);
            script = load.query_async(&mut connection).await?;
        }
        let mut connections = Vec::new();
        for _ in 0..count.min(CONNECTIONS_MAX) {
            let mut three = Vec::new();
            for address in &self.addresses {
                three.push(connect(address).await?);
            }
            connections.push(three);
        }
        let connections = connections.iter().cycle().take(count).cloned();
        let client = |connections| RedlockClient {
            connections,
            script: script.clone(),
            late: VecDeque::new(),
        };
        Ok(connections.map(client).collect())
    }

    fn servers(&self) -> &[Server] {
        &self.servers
    }

    fn leader(&self) -> usize {
        0
    }
}

async fn connect(address: &str) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(address)?;
    // A timer for each command would cost more than the command; the whole loop has its own.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    connection
        .await
        .with_context(|| format!("connecting to {address}"))
}

type Answer = Pin<Box<dyn Future<Output = Result<Value, redis::RedisError>>>>;

pub(crate) struct RedlockClient {
    connections: Vec<MultiplexedConnection>,
    script: String,
    /// Answers that a majority did not wait for: a command whose answer nobody waits for may not
    /// even be sent.
    late: VecDeque<Answer>,
}

impl Client for RedlockClient {
    async fn acquire(&mut self, turn: &Turn) -> Result<()> {
        let mut set = redis::cmd("SET");
        set.arg(&turn.key).arg(&turn.owner);
        set.arg("NX").arg("PX").arg(LEASE_MS);
        self.on_majority(set, |answer| *answer == Value::Okay).await
    }

    async fn release(&mut self, turn: &Turn) -> Result<()> {
        let mut delete = redis::cmd("EVALSHA");
        delete.arg(&self.script).arg(1);
        delete.arg(&turn.key).arg(&turn.owner);
        self.on_majority(delete, |answer| *answer == Value::Int(1))
            .await
    }
}

impl RedlockClient {
    /// Sends the command to all three, and returns when two of them have done it.
    async fn on_majority(&mut self, command: Cmd, is_done: fn(&Value) -> bool) -> Result<()> {
        // At most the two answers before this one's: a server that falls behind is waited for.
        while self.late.len() >= 2 {
            self.late
                .pop_front()
                .expect("it has two")
                .await
                .context("a late answer")?;
        }
        let command = Arc::new(command);
        let mut open: Vec<Answer> = Vec::with_capacity(3);
        for connection in &self.connections {
            let (command, mut connection) = (Arc::clone(&command), connection.clone());
            open.push(Box::pin(async move {
                connection.send_packed_command(&command).await
            }));
        }
        let late = &mut self.late;
        let (mut done, mut refused) = (0, 0);
        let outcome = std::future::poll_fn(|context| {
            while let Some(first) = late.front_mut()
                && first.as_mut().poll(context).is_ready()
            {
                late.pop_front();
            }
            let mut failed = None;
            open.retain_mut(|answer| match answer.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(Ok(answer)) if is_done(&answer) => {
                    done += 1;
                    false
                }
                Poll::Ready(Ok(_)) => {
                    refused += 1;
                    false
                }
                Poll::Ready(Err(error)) => {
                    failed = Some(error);
                    false
                }
            });
            match failed {
                Some(error) => Poll::Ready(Err(error)),
                None if done >= MAJORITY || refused >= MAJORITY => Poll::Ready(Ok(())),
                None => Poll::Pending,
            }
        });
        outcome.await.context("Redis")?;
        late.extend(open);
        if done < MAJORITY {
            bail!("{refused} of three refused");
        }
        Ok(())
    }
}
