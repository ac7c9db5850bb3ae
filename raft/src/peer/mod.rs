//! How nodes talk to each other: standing, authenticated TCP connections, one for each purpose.
//!
//! An [`Endpoint`] is what both directions share: who this node is, what it asks of a peer, and the
//! bounds. A [`PeerClient`] dials; [`serve`] accepts. [`PeerNetworkFactory`] is the client as
//! openraft sees it, [`PeerHandler`] is the node as its peers see it.
//!
//! A connection carries one [`Purpose`], so that nothing small waits behind something large:
//!
//! | purpose | carries | order |
//! | --- | --- | --- |
//! | append | log entries, pipelined | one reply for each request, in order |
//! | control | heartbeats, votes, pre-votes, leader transfer, read index | none: by request id |
//! | forward | commands on their way to the leader | in order |
//! | snapshot | one snapshot, then it is closed | in order |
//!
//! What a peer says is taken for its own alone: see `origin.rs`.
//!
//! Frames are a `u32` length (little endian), a byte that says which kind, and a body; see
//! `wire.rs`. What the proofs of the handshake cover is the opening of a connection, not its
//! bytes: whoever can rewrite packets needs TLS to be kept out, for which [`Wrap`] is the place.
//!
//! Absent by design: threads, wall clocks, and any socket type. Streams come from a [`Connect`] and
//! a [`Listen`], and time from `tokio::time`, so that a simulator can stand in for both.

mod address;
mod append;
mod calls;
mod client;
mod endpoint;
mod forward;
mod frame;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod handshake;
#[cfg(test)]
mod handshake_test;
mod hello;
mod lane;
mod network;
pub(crate) mod origin;
mod outbox;
mod pending;
mod server;
mod session;
mod session_append;
mod session_snapshot;
mod snapshot;
mod standing;
mod stats;
mod strangers;
mod transport;
mod wire;
mod wire_append;

pub use address::AddressBook;
pub use client::{ForwardError, PeerClient, ReadIndexError};
pub use endpoint::{Admission, Contact, Endpoint, Identity, Nonces, PeerConfig, Secret};
pub use handler::{
    AppendReplies, AppendRequests, ForwardReply, HandlerError, NotLeader, PeerHandler, SnapshotSink,
};
pub use hello::{Purpose, Refusal};
pub use network::{PeerNetwork, PeerNetworkFactory};
pub use server::{PeerServer, serve};
pub use snapshot::SnapshotSource;
pub use stats::{PeerStats, StatsSnapshot};
pub use transport::{Connect, Listen, PeerStream, Plain, Side, Stream, Tcp, Wrap};

/// The most bytes of one frame, its length prefix not counted.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// The most bytes of one frame before the handshake is done.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 4 << 10;
/// Append requests of one connection without a reply: also what openraft queues on the other side.
pub const APPENDS_IN_FLIGHT_MAX: usize = 64;
/// Bytes of append requests of one connection without a reply.
pub const APPEND_BYTES_IN_FLIGHT_MAX: usize = 32 << 20;
/// Forwarded commands of one connection without a reply.
pub const FORWARDS_IN_FLIGHT_MAX: usize = 65_536;
/// Calls of one control connection without a reply.
pub const CALLS_IN_FLIGHT_MAX: usize = 1_024;
/// Bytes of one piece of a snapshot.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1 << 20;
/// Pieces of a snapshot sent ahead of their acknowledgement.
pub const SNAPSHOT_CHUNKS_IN_FLIGHT_MAX: usize = 4;
/// Connections accepted at a time.
pub const CONNECTIONS_MAX: usize = 256;
/// Connections accepted at a time that have not yet proved who they are. The next takes the place of
/// the oldest.
pub const UNPROVED_CONNECTIONS_MAX: usize = 64;
/// Of these, the most from one address from which no peer has proved itself.
pub const UNPROVED_CONNECTIONS_PER_ADDRESS_MAX: usize = 16;

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(tokio::task::JoinHandle<()>);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
