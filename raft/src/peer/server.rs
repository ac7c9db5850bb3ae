//! Accepting peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evermind_lock::command::NodeId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::endpoint::{Contact, Endpoint};
use super::frame::FrameReader;
use super::handler::PeerHandler;
use super::handshake::{Handshake, HandshakeError};
use super::hello::Purpose;
use super::session::{self, Session, SessionError};
use super::stats::PeerStats;
use super::strangers::{Place, Strangers};
use super::transport::{Listen, PeerStream, Side};
use super::{
    CONNECTIONS_MAX, FRAME_BYTES_MAX, HANDSHAKE_FRAME_BYTES_MAX, Task, UNPROVED_CONNECTIONS_MAX,
    UNPROVED_CONNECTIONS_PER_ADDRESS_MAX,
};

/// After a failed accept (no file descriptors left, mostly) the next one waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The accepting half of a node. Dropped, it accepts nothing more and closes every accepted
/// connection.
#[must_use = "dropped, it closes every accepted connection"]
pub struct PeerServer {
    _task: Task,
}

/// Serves peers from `listener` until the returned server is dropped. At most
/// [`CONNECTIONS_MAX`] connections are open at a time, and [`UNPROVED_CONNECTIONS_MAX`] in their
/// handshake: where more come, the oldest of those is closed.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn serve(
    endpoint: Arc<Endpoint>,
    listener: impl Listen,
    handler: Arc<dyn PeerHandler>,
) -> PeerServer {
    let server = Arc::new(Server {
        endpoint,
        handler,
        latest: Mutex::default(),
        open: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    });
    PeerServer {
        _task: Task::spawn(server.accept(listener)),
    }
}

struct Server {
    endpoint: Arc<Endpoint>,
    handler: Arc<dyn PeerHandler>,
    /// The connection that each peer opened last for each purpose. A peer that opens another has
    /// given the one before up, even where this side cannot see that.
    latest: Mutex<BTreeMap<(NodeId, Purpose), CancellationToken>>,
    /// Permits for peers that proved who they are.
    open: Arc<Semaphore>,
}

impl Server {
    async fn accept(self: Arc<Self>, mut listener: impl Listen) {
        let strangers = Arc::new(Strangers::new(
            UNPROVED_CONNECTIONS_MAX,
            UNPROVED_CONNECTIONS_PER_ADDRESS_MAX,
        ));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.complain(&format!("cannot accept a peer: {error}"), None);
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (place, taken) = strangers.enter(from.ip());
            if taken {
                PeerStats::count(&self.endpoint.stats().over_limit);
                self.complain("too many connections that prove nothing", Some(from));
            }
            let server = self.clone();
            connections.spawn(async move { server.connection(stream, from, place).await });
        }
    }

    async fn connection(&self, stream: PeerStream, from: SocketAddr, place: Place) {
        let limit = self.endpoint.config.handshake;
        let shaken = tokio::select! {
            biased;
            shaken = timeout(limit, self.handshake(stream)) => {
                shaken.unwrap_or(Err(HandshakeError::TooSlow))
            }
            () = place.given_up.cancelled() => return,
        };
        let (session, purpose) = match shaken {
            Ok(shaken) => shaken,
            Err(error) => return self.turned_away(&error, from),
        };
        place.proved();
        let Ok(_open) = self.open.clone().try_acquire_owned() else {
            PeerStats::count(&self.endpoint.stats().over_limit);
            return self.complain("too many peer connections", Some(from));
        };
        PeerStats::count(&self.endpoint.stats().accepted);
        let node = session.contact.node;
        let token = self.displace(node, purpose);
        let ended = tokio::select! {
            biased;
            ended = session::run(session, purpose, &self.handler) => ended,
            () = token.cancelled() => Ok(()),
        };
        match ended {
            Err(error @ SessionError::Wire(_)) => {
                PeerStats::count(&self.endpoint.stats().violations);
                self.complain(
                    &format!("peer {node} broke the protocol: {error}"),
                    Some(from),
                );
            }
            Err(error) => tracing::debug!(node, %purpose, %error, "connection of peer ended"),
            Ok(()) => tracing::debug!(node, %purpose, "connection of peer ended"),
        }
    }

    async fn handshake(&self, stream: PeerStream) -> Result<(Session, Purpose), HandshakeError> {
        let stream = self.endpoint.wrap.wrap(stream, Side::Acceptor).await?;
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reader = FrameReader::new(reader, HANDSHAKE_FRAME_BYTES_MAX);
        let (contact, purpose): (Contact, Purpose) = Handshake {
            endpoint: &self.endpoint,
            reader: &mut reader,
            writer: &mut writer,
        }
        .accept()
        .await?;
        reader.allow(FRAME_BYTES_MAX);
        let ear = self.endpoint.ear(contact.node);
        ear.heard(Instant::now());
        let session = Session {
            config: self.endpoint.config.clone(),
            contact,
            reader,
            writer,
            ear,
        };
        Ok((session, purpose))
    }

    fn displace(&self, node: NodeId, purpose: Purpose) -> CancellationToken {
        let token = CancellationToken::new();
        let before = self
            .latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((node, purpose), token.clone());
        if let Some(before) = before {
            before.cancel();
        }
        token
    }

    fn turned_away(&self, error: &HandshakeError, from: SocketAddr) {
        let stats = self.endpoint.stats();
        match error {
            HandshakeError::Garbage(_) => PeerStats::count(&stats.garbage),
            HandshakeError::TooSlow => PeerStats::count(&stats.too_slow),
            HandshakeError::Refused(_) | HandshakeError::RefusedByPeer(_) => {
                PeerStats::count(&stats.refused);
            }
            // Somebody looked whether the port is open, or lost the connection.
            HandshakeError::Io(_) => return,
        }
        self.complain(&format!("connection turned away: {error}"), Some(from));
    }

    fn complain(&self, what: &str, from: Option<SocketAddr>) {
        if let Some(suppressed) = self.endpoint.stats().may_complain() {
            let from = from.map(tracing::field::display);
            tracing::warn!(from, suppressed, "{what}");
        }
    }
}
