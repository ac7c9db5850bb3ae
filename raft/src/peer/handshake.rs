//! The handshake itself, from both ends. See [`super::hello`] for what is said and why.

use std::io;

use evermind_lock::command::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::endpoint::{Contact, Endpoint};
use super::frame::{FrameError, FrameReader};
use super::hello::{Hello, Purpose, Refusal, Role, Transcript, Word, WordError};

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The peer will not talk to us.
    #[error("it refused this node: {0}")]
    RefusedByPeer(Refusal),
    /// We will not talk to the peer.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Not a peer at all, or one that broke the protocol.
    #[error("no peer of ours: {0}")]
    Garbage(String),
    /// It took longer than it may.
    #[error("the handshake took too long")]
    TooSlow,
    /// The stream ended or failed.
    #[error("the connection failed during the handshake: {0}")]
    Io(#[from] io::Error),
}

impl From<FrameError> for HandshakeError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Io(error),
            FrameError::CutShort => Self::Io(io::ErrorKind::UnexpectedEof.into()),
            FrameError::Length { .. } => Self::Garbage(error.to_string()),
        }
    }
}

impl From<WordError> for HandshakeError {
    fn from(error: WordError) -> Self {
        match error {
            WordError::Version(_) => Self::Refused(Refusal::VersionMismatch),
            error => Self::Garbage(error.to_string()),
        }
    }
}

/// A stream in the middle of its handshake.
pub(super) struct Handshake<'a, R, W> {
    pub endpoint: &'a Endpoint,
    pub reader: &'a mut FrameReader<R>,
    pub writer: &'a mut W,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Handshake<'_, R, W> {
    /// The handshake of the side that dialed `to`.
    pub(super) async fn dial(
        &mut self,
        to: NodeId,
        purpose: Purpose,
    ) -> Result<Contact, HandshakeError> {
        let result = self.dial_inner(to, purpose).await;
        if let Err(HandshakeError::RefusedByPeer(reason)) = result {
            self.endpoint.admission.on_refused(to, reason);
        }
        result
    }

    async fn dial_inner(
        &mut self,
        to: NodeId,
        purpose: Purpose,
    ) -> Result<Contact, HandshakeError> {
        let secret = self.endpoint.identity.secret.as_ref();
        let ours = Hello::of(self.endpoint, to, purpose);
        let dialer = self.say(&Word::Hello(ours.clone())).await?;
        let (word, acceptor) = self.hear().await?;
        let theirs = match word {
            Word::Hello(hello) => hello,
            Word::Refused(reason) => return Err(refused_without_proof(reason)),
            _ => return Err(unexpected()),
        };
        ours.check(&theirs).map_err(HandshakeError::Refused)?;

        let transcript = Transcript { dialer, acceptor };
        let proof = transcript.prove(secret, Role::DialerProves, None);
        self.say(&Word::Proof(proof)).await?;
        match self.hear().await?.0 {
            Word::Refused(reason) => return Err(refused_without_proof(reason)),
            Word::Verdict { refusal, proof } => {
                if !transcript.verify(secret, Role::AcceptorDecides, refusal, &proof) {
                    return Err(HandshakeError::Refused(Refusal::BadSecret));
                }
                if let Some(reason) = refusal {
                    return Err(HandshakeError::RefusedByPeer(reason));
                }
            }
            _ => return Err(unexpected()),
        }

        let refusal = self.judge(&theirs);
        let proof = transcript.prove(secret, Role::DialerConfirms, refusal);
        self.say(&Word::Verdict { refusal, proof }).await?;
        self.meet(theirs, refusal)
    }

    /// The handshake of the side that accepted.
    pub(super) async fn accept(&mut self) -> Result<(Contact, Purpose), HandshakeError> {
        let secret = self.endpoint.identity.secret.as_ref();
        let (word, dialer) = match self.hear().await {
            Err(HandshakeError::Refused(reason)) => return self.refuse(reason).await,
            heard => heard?,
        };
        let Word::Hello(theirs) = word else {
            return Err(unexpected());
        };
        let purpose = theirs.purpose;
        let ours = Hello::of(self.endpoint, theirs.node, purpose);
        if let Err(reason) = ours.check(&theirs) {
            return self.refuse(reason).await;
        }

        let acceptor = self.say(&Word::Hello(ours)).await?;
        let transcript = Transcript { dialer, acceptor };
        let Word::Proof(proof) = self.hear().await?.0 else {
            return Err(unexpected());
        };
        if !transcript.verify(secret, Role::DialerProves, None, &proof) {
            return self.refuse(Refusal::BadSecret).await;
        }

        let refusal = self.judge(&theirs);
        let proof = transcript.prove(secret, Role::AcceptorDecides, refusal);
        self.say(&Word::Verdict { refusal, proof }).await?;
        if refusal.is_none() {
            let Word::Verdict { refusal, proof } = self.hear().await?.0 else {
                return Err(unexpected());
            };
            if !transcript.verify(secret, Role::DialerConfirms, refusal, &proof) {
                return Err(HandshakeError::Refused(Refusal::BadSecret));
            }
            if let Some(reason) = refusal {
                self.endpoint.admission.on_refused(theirs.node, reason);
                return Err(HandshakeError::RefusedByPeer(reason));
            }
        }
        Ok((self.meet(theirs, refusal)?, purpose))
    }

    fn judge(&self, theirs: &Hello) -> Option<Refusal> {
        if self.endpoint.addresses.get(theirs.node).is_none() {
            return Some(Refusal::NotAMember);
        }
        let admission = &self.endpoint.admission;
        admission.admit(theirs.node, theirs.disk, theirs.boot).err()
    }

    fn meet(&self, theirs: Hello, refusal: Option<Refusal>) -> Result<Contact, HandshakeError> {
        if let Some(reason) = refusal {
            return Err(HandshakeError::Refused(reason));
        }
        let contact = theirs.contact();
        self.endpoint.admission.on_contact(&contact);
        Ok(contact)
    }

    async fn refuse<T>(&mut self, reason: Refusal) -> Result<T, HandshakeError> {
        self.say(&Word::Refused(reason)).await?;
        Err(HandshakeError::Refused(reason))
    }

    /// Returns the bytes said, for the transcript.
    async fn say(&mut self, word: &Word) -> io::Result<Vec<u8>> {
        let frame = word.frame();
        self.writer.write_all(&frame).await?;
        self.writer.flush().await?;
        Ok(frame[super::frame::PREFIX_BYTES..].to_vec())
    }

    /// Returns the word heard, and its bytes for the transcript.
    async fn hear(&mut self) -> Result<(Word, Vec<u8>), HandshakeError> {
        let body = self
            .reader
            .next()
            .await?
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok((Word::read(&body)?, body.to_vec()))
    }
}

/// Only a member may say anything about our disk, because it stops this node.
fn refused_without_proof(reason: Refusal) -> HandshakeError {
    match reason {
        Refusal::DiskRefused | Refusal::OlderCopy => unexpected(),
        reason => HandshakeError::RefusedByPeer(reason),
    }
}

fn unexpected() -> HandshakeError {
    HandshakeError::Garbage("out of turn".into())
}
