//! The first words on a connection, and what each side proves over them.
//!
//! The dialer says hello, the acceptor says hello, the dialer proves the secret, the acceptor gives
//! its verdict with a proof, the dialer confirms with a proof. The dialer proves first: an acceptor
//! must not hand out proofs to whoever can reach its port. Each proof is an HMAC over both hellos,
//! byte for byte as they were sent, both nonces in them, under a label of its own, so that no proof
//! can be shown again, or shown back to the one who made it. A verdict is under its proof, so that
//! nobody but a member can tell a node that its disk is refused.

use std::fmt;

use evermind_lock::command::NodeId;
use evermind_storage::codec;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::endpoint::{Contact, Endpoint, Secret};
use super::frame::frame;

/// The protocol of this build. Both sides must have the same.
pub(super) const PROTOCOL: u16 = 2;
const MAGIC: [u8; 8] = *b"evermind";
const HEAD_BYTES: usize = MAGIC.len() + 2;
/// Bytes of the advertised HTTP address.
const HTTP_BYTES_MAX: usize = 1_024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// Log entries, pipelined.
    Append,
    /// Heartbeats, votes, leader transfer, read index.
    Control,
    /// One snapshot.
    Snapshot,
    /// Commands on their way to the leader.
    Forward,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Append => "append",
            Purpose::Control => "control",
            Purpose::Snapshot => "snapshot",
            Purpose::Forward => "forward",
        })
    }
}

/// Why one side will not talk to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The two belong to different clusters.
    #[error(
        "it belongs to another cluster: --initial-cluster or the cluster secret differs between the two"
    )]
    WrongCluster,
    /// Whoever answers at this address is not the node that was dialed, or claims to be ourselves.
    #[error("it is another node than the one meant")]
    WrongNode,
    /// The two speak different protocols.
    #[error("it speaks another version of the protocol")]
    VersionMismatch,
    /// The two have different secrets, or only one has any.
    #[error("the cluster secrets differ")]
    BadSecret,
    /// The disk is not the one recorded for this node: it was wiped, or copied from another.
    #[error("its disk is not the one recorded for it")]
    DiskRefused,
    /// It was started more often than it says: its data directory was put back to an older copy.
    #[error("its data directory is an older copy of the one that it ran on last")]
    OlderCopy,
    /// It says that it was started far more often than is known.
    #[error("its count of starts cannot be true")]
    StartRefused,
    /// Its id is not in the list of the cluster's nodes.
    #[error("it is no member of the cluster")]
    NotAMember,
}

/// Who speaks, to whom, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub cluster: [u8; 16],
    pub node: NodeId,
    /// The node it means to talk to.
    pub to: NodeId,
    pub disk: u128,
    pub boot: u64,
    pub http: String,
    pub purpose: Purpose,
    /// Whether it has a secret.
    pub secret: bool,
    pub nonce: [u8; 32],
}

impl Hello {
    /// This node's hello, under a fresh nonce.
    pub(super) fn of(endpoint: &Endpoint, to: NodeId, purpose: Purpose) -> Self {
        let identity = &endpoint.identity;
        Self {
            cluster: identity.cluster,
            node: identity.node,
            to,
            disk: identity.disk,
            boot: identity.boot,
            http: identity.http.clone(),
            purpose,
            secret: identity.secret.is_some(),
            nonce: endpoint.nonce(),
        }
    }

    /// Whether the two can be members of one cluster who meant each other.
    pub(super) fn check(&self, theirs: &Hello) -> Result<(), Refusal> {
        if theirs.cluster != self.cluster {
            Err(Refusal::WrongCluster)
        } else if theirs.to != self.node || theirs.node != self.to || theirs.node == self.node {
            Err(Refusal::WrongNode)
        } else if theirs.secret != self.secret {
            Err(Refusal::BadSecret)
        } else {
            Ok(())
        }
    }

    /// Who this is, once it is proved.
    pub(super) fn contact(self) -> Contact {
        Contact {
            node: self.node,
            disk: self.disk,
            boot: self.boot,
            http: self.http,
        }
    }
}

/// What is said during a handshake, and nothing else is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Word {
    /// Either side's first.
    Hello(Hello),
    /// The dialer knows the secret.
    Proof([u8; 32]),
    /// What the side that has seen a proof decided, and its own proof.
    Verdict {
        refusal: Option<Refusal>,
        proof: [u8; 32],
    },
    /// No, before anything was proved.
    Refused(Refusal),
}

/// What was wrong with the bytes of a word.
#[derive(Debug, thiserror::Error)]
pub(super) enum WordError {
    #[error("not our protocol")]
    NotOurs,
    #[error("protocol version {0}, ours is {PROTOCOL}")]
    Version(u16),
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
    #[error("an address of {0} bytes")]
    Http(usize),
}

impl Word {
    /// The whole frame. Magic and version stand before everything that a version may change.
    pub(super) fn frame(&self) -> Vec<u8> {
        frame(|out| {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&PROTOCOL.to_le_bytes());
            codec::encode_into(self, out);
        })
    }

    /// Reads a frame's body.
    pub(super) fn read(body: &[u8]) -> Result<Self, WordError> {
        let (head, rest) = body
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(WordError::NotOurs)?;
        if head[..MAGIC.len()] != MAGIC {
            return Err(WordError::NotOurs);
        }
        let version = u16::from_le_bytes([head[MAGIC.len()], head[MAGIC.len() + 1]]);
        if version != PROTOCOL {
            return Err(WordError::Version(version));
        }
        let word = codec::decode(rest)?;
        match &word {
            Word::Hello(hello) if hello.http.len() > HTTP_BYTES_MAX => {
                Err(WordError::Http(hello.http.len()))
            }
            _ => Ok(word),
        }
    }
}

/// Who makes a proof, and at which step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    DialerProves,
    AcceptorDecides,
    DialerConfirms,
}

impl Role {
    fn label(self) -> &'static [u8] {
        match self {
            Role::DialerProves => b"evermind peer 1: dialer proves",
            Role::AcceptorDecides => b"evermind peer 1: acceptor decides",
            Role::DialerConfirms => b"evermind peer 1: dialer confirms",
        }
    }
}

/// Both hellos as they went over the wire: what proofs are about.
pub(super) struct Transcript {
    pub dialer: Vec<u8>,
    pub acceptor: Vec<u8>,
}

impl Transcript {
    fn mac(&self, secret: &Secret, role: Role, refusal: Option<Refusal>) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.bytes())
            .expect("HMAC takes keys of every length");
        let verdict = codec::encode(&refusal);
        for part in [role.label(), &self.dialer, &self.acceptor, &verdict] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }

    /// The proof of `role`; zeros where there is no secret.
    pub(super) fn prove(
        &self,
        secret: Option<&Secret>,
        role: Role,
        refusal: Option<Refusal>,
    ) -> [u8; 32] {
        secret.map_or([0; 32], |secret| {
            self.mac(secret, role, refusal)
                .finalize()
                .into_bytes()
                .into()
        })
    }

    /// Whether `proof` is that of `role`, compared in constant time.
    pub(super) fn verify(
        &self,
        secret: Option<&Secret>,
        role: Role,
        refusal: Option<Refusal>,
        proof: &[u8; 32],
    ) -> bool {
        secret.is_none_or(|secret| self.mac(secret, role, refusal).verify_slice(proof).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            cluster: [7; 16],
            node: 1,
            to: 2,
            disk: 0x0102_0304,
            boot: 3,
            http: "http://a:1".into(),
            purpose: Purpose::Control,
            secret: true,
            nonce: [9; 32],
        }
    }

    #[test]
    fn the_bytes_of_a_hello_never_change() {
        let mut expected = Vec::new();
        expected.extend_from_slice(&[81, 0, 0, 0]);
        expected.extend_from_slice(b"evermind");
        expected.extend_from_slice(&[2, 0, 4, 0]);
        expected.extend_from_slice(&[7; 16]);
        expected.extend_from_slice(&[1, 2, 252, 4, 3, 2, 1, 3, 10]);
        expected.extend_from_slice(b"http://a:1");
        expected.extend_from_slice(&[1, 1]);
        expected.extend_from_slice(&[9; 32]);
        assert_eq!(Word::Hello(hello()).frame(), expected);
        assert_eq!(Word::read(&expected[4..]).ok(), Some(Word::Hello(hello())));
    }

    #[test]
    fn a_proof_is_of_one_role_one_verdict_and_one_pair_of_hellos() {
        let secret = Secret::new(*b"a secret");
        let transcript = Transcript {
            dialer: vec![1],
            acceptor: vec![2],
        };
        let proof = transcript.prove(Some(&secret), Role::DialerProves, None);
        let verify =
            |t: &Transcript, s: &Secret, role, refusal| t.verify(Some(s), role, refusal, &proof);
        assert!(verify(&transcript, &secret, Role::DialerProves, None));
        assert!(!verify(&transcript, &secret, Role::AcceptorDecides, None));
        assert!(!verify(&transcript, &secret, Role::DialerConfirms, None));
        let refused = Some(Refusal::DiskRefused);
        assert!(!verify(&transcript, &secret, Role::DialerProves, refused));
        let other = Secret::new(*b"another!");
        assert!(!verify(&transcript, &other, Role::DialerProves, None));
        let swapped = Transcript {
            dialer: vec![2],
            acceptor: vec![1],
        };
        assert!(!verify(&swapped, &secret, Role::DialerProves, None));
    }
}
