//! Handshakes against somebody who does not know the secret, and plays by other rules.

use std::sync::Arc;

use evermind_lock::command::NodeId;
use tokio::io::{AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};

use super::HANDSHAKE_FRAME_BYTES_MAX;
use super::address::AddressBook;
use super::endpoint::{Admission, Contact, Endpoint, Identity, Secret};
use super::frame::FrameReader;
use super::handshake::{Handshake, HandshakeError};
use super::hello::{Hello, Purpose, Refusal, Word};

struct Anybody;

impl Admission for Anybody {
    fn admit(&self, _node: NodeId, _disk: u128, _boot: u64) -> Result<(), Refusal> {
        Ok(())
    }
    fn on_contact(&self, contact: &Contact) {
        panic!("{contact:?} was let in");
    }
    fn on_refused(&self, _node: NodeId, reason: Refusal) {
        assert_ne!(reason, Refusal::DiskRefused, "told by a stranger");
    }
}

fn endpoint(node: NodeId) -> Endpoint {
    let identity = Identity {
        cluster: [1; 16],
        node,
        disk: 1,
        boot: 1,
        http: String::new(),
        secret: Some(Secret::new(*b"secret")),
    };
    Endpoint::new(identity, AddressBook::default(), Arc::new(Anybody))
}

/// One end of a connection, by hand.
struct Hand {
    reader: FrameReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
}

impl Hand {
    fn new(stream: DuplexStream) -> Self {
        let (reader, writer) = split(stream);
        Self {
            reader: FrameReader::new(reader, HANDSHAKE_FRAME_BYTES_MAX),
            writer,
        }
    }

    async fn say(&mut self, word: &Word) {
        self.writer.write_all(&word.frame()).await.expect("open");
    }

    async fn hear(&mut self) -> Word {
        let frame = self.reader.next().await.expect("well formed");
        Word::read(&frame.expect("a word")).expect("ours")
    }
}

/// A node that accepts, or dials, with the other end in our hand.
fn real(node: NodeId, dials: Option<NodeId>) -> (Hand, impl Future<Output = HandshakeError>) {
    let (near, far) = duplex(64 << 10);
    let future = async move {
        let Hand {
            mut reader,
            mut writer,
        } = Hand::new(far);
        let endpoint = endpoint(node);
        let mut handshake = Handshake {
            endpoint: &endpoint,
            reader: &mut reader,
            writer: &mut writer,
        };
        match dials {
            Some(to) => handshake.dial(to, Purpose::Control).await.map(drop),
            None => handshake.accept().await.map(drop),
        }
        .expect_err("refused")
    };
    (Hand::new(near), future)
}

fn hello(node: NodeId, to: NodeId) -> Hello {
    Hello::of(&endpoint(node), to, Purpose::Control)
}

#[tokio::test]
async fn a_nodes_own_proof_shown_back_to_it_is_refused() {
    // The attacker is dialed by node 2 as node 1, and dials node 2 as node 1: whatever node 2 says
    // on one connection is shown to it on the other.
    let (mut dialed, dialing) = real(2, Some(1));
    let (mut accepted, accepting) = real(2, None);
    let attack = async {
        let Word::Hello(theirs) = dialed.hear().await else {
            panic!("no hello");
        };
        let mine = Hello {
            nonce: theirs.nonce,
            ..hello(1, 2)
        };
        accepted.say(&Word::Hello(mine)).await;
        let Word::Hello(theirs) = accepted.hear().await else {
            panic!("no hello");
        };
        let mine = Hello {
            nonce: theirs.nonce,
            ..hello(1, 2)
        };
        dialed.say(&Word::Hello(mine)).await;
        let Word::Proof(proof) = dialed.hear().await else {
            panic!("no proof");
        };
        accepted.say(&Word::Proof(proof)).await;
        assert_eq!(accepted.hear().await, Word::Refused(Refusal::BadSecret));
        let refusal = None;
        dialed.say(&Word::Verdict { refusal, proof }).await;
    };
    let (ended, refused, ()) = tokio::join!(dialing, accepting, attack);
    for error in [ended, refused] {
        assert!(
            matches!(error, HandshakeError::Refused(Refusal::BadSecret)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_proof_of_another_connection_is_refused() {
    let (mut first, dialing) = real(1, Some(2));
    let (mut second, accepting) = real(2, None);
    let attack = async {
        // A genuine proof of node 1, for a hello that the attacker made.
        let Word::Hello(theirs) = first.hear().await else {
            panic!("no hello");
        };
        first.say(&Word::Hello(hello(2, 1))).await;
        let proof = first.hear().await;
        second.say(&Word::Hello(theirs)).await;
        assert!(matches!(second.hear().await, Word::Hello(_)));
        second.say(&proof).await;
        assert_eq!(second.hear().await, Word::Refused(Refusal::BadSecret));
        drop(first);
    };
    let (_, refused, ()) = tokio::join!(dialing, accepting, attack);
    assert!(matches!(
        refused,
        HandshakeError::Refused(Refusal::BadSecret)
    ));
}

#[tokio::test]
async fn a_stranger_cannot_tell_a_node_that_its_disk_is_refused() {
    let lie = Refusal::DiskRefused;
    let unproved = Word::Verdict {
        refusal: Some(lie),
        proof: [0; 32],
    };
    for early in [true, false] {
        for word in [Word::Refused(lie), unproved.clone()] {
            let (mut stranger, dialing) = real(1, Some(2));
            let attack = async {
                stranger.hear().await;
                if !early {
                    stranger.say(&Word::Hello(hello(2, 1))).await;
                    stranger.hear().await;
                }
                stranger.say(&word).await;
            };
            let (error, ()) = tokio::join!(dialing, attack);
            assert!(
                matches!(
                    error,
                    HandshakeError::Garbage(_) | HandshakeError::Refused(Refusal::BadSecret)
                ),
                "{error}"
            );
        }
    }
}
