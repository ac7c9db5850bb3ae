//! Two machines and the network between them, moved by hand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use evermind_sim::dice::Dice;
use evermind_sim::net::{HostId, Link, Net, SimListener, SimStream};
use evermind_sim::trace::Trace;
use evermind_sim::world::TICK_US;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

use crate::again::Again;

/// The machine that dials.
pub(crate) const A: HostId = 1;
/// The machine that is dialed.
pub(crate) const B: HostId = 2;
/// Where B listens.
pub(crate) const PORT: u16 = 80;
/// From sending to arrival, where a story asks for nothing else.
pub(crate) const LATENCY_US: u64 = 2_000;
/// What waits behind a cut is sent again so long after the heal, at most.
pub(crate) const RESENT_US: u64 = 400_000;

/// The network, its time, and a runtime for what takes local time.
pub(crate) struct Wire {
    pub(crate) net: Net,
    now_us: u64,
    runtime: Runtime,
    _again: Again,
}

/// What an end finds when it reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Silence,
    Bytes(Vec<u8>),
    End,
    Reset,
}

/// As `Heard::Bytes`, from text.
pub(crate) fn heard(text: &str) -> Heard {
    Heard::Bytes(text.into())
}

impl Wire {
    /// Every byte takes [`LATENCY_US`].
    pub(crate) fn new() -> Self {
        Self::of(&Link {
            cut: false,
            latency_us: (LATENCY_US, LATENCY_US),
            loss_per_mille: 0,
        })
    }

    pub(crate) fn of(usual: &Link) -> Self {
        let net = Net::new(&[A, B], usual, Dice::new(1), Trace::new(None));
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        Self {
            net,
            now_us: 0,
            runtime: builder.build().unwrap(),
            _again: Again,
        }
    }

    /// Time passes, as [`evermind_sim::world::World`] lets it pass.
    pub(crate) fn pass_us(&mut self, us: u64) {
        let end_us = self.now_us + us;
        while self.now_us < end_us {
            self.now_us = end_us.min(self.now_us + TICK_US);
            self.net.tick(self.now_us);
        }
    }

    pub(crate) fn cut(&self, from: HostId, to: HostId) {
        self.net.change(from, to, |link| link.cut = true);
    }

    pub(crate) fn heal(&self, from: HostId, to: HostId) {
        self.net.change(from, to, |link| link.cut = false);
    }

    pub(crate) fn cut_both(&self) {
        self.cut(A, B);
        self.cut(B, A);
    }

    pub(crate) fn heal_both(&self) {
        self.heal(A, B);
        self.heal(B, A);
    }

    pub(crate) fn listen(&self) -> SimListener {
        self.net.listen(B, PORT).unwrap()
    }

    /// A dials for so long at most; how long it took, by A's clock, and what came of it.
    pub(crate) fn dial(
        &self,
        patience: Duration,
        meanwhile: impl Future<Output = ()> + Send + 'static,
    ) -> (Duration, Option<io::Result<End>>) {
        self.runtime.block_on(async {
            let began = tokio::time::Instant::now();
            let meanwhile = tokio::spawn(meanwhile);
            let dialed = tokio::time::timeout(patience, self.net.connect(A, B, PORT)).await;
            meanwhile.abort();
            let dialed = dialed.ok().map(|dialed| dialed.map(End::of));
            (began.elapsed(), dialed)
        })
    }

    /// Both ends of a new connection, A's first.
    pub(crate) fn connected(&self) -> (End, End) {
        let mut listener = self.listen();
        let (_, dialed) = self.dial(Duration::from_secs(1), async {});
        let accepted = evermind_api::Listen::accept(&mut listener);
        let (accepted, _) = self.runtime.block_on(accepted).unwrap();
        (dialed.unwrap().unwrap(), End::of(accepted))
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One end of a connection, whose task does one step at a time.
pub(crate) struct End {
    stream: SimStream,
    woken: Arc<Woken>,
}

impl End {
    fn of(stream: SimStream) -> Self {
        Self {
            stream,
            woken: Arc::default(),
        }
    }

    fn step<T>(
        &mut self,
        step: impl FnOnce(Pin<&mut SimStream>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let waker = Waker::from(Arc::clone(&self.woken));
        step(Pin::new(&mut self.stream), &mut Context::from_waker(&waker))
    }

    /// Whether what this end waited for woke it, since it was last asked.
    pub(crate) fn was_woken(&mut self) -> bool {
        self.woken.0.swap(false, Ordering::Relaxed)
    }

    /// Reads what has arrived.
    pub(crate) fn hears(&mut self) -> Heard {
        let mut space = vec![0; 1 << 20];
        let mut buffer = ReadBuf::new(&mut space);
        match self.step(|stream, cx| stream.poll_read(cx, &mut buffer)) {
            Poll::Pending => Heard::Silence,
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Heard::End,
            Poll::Ready(Ok(())) => Heard::Bytes(buffer.filled().to_vec()),
            Poll::Ready(Err(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                Heard::Reset
            }
        }
    }

    /// Writes; how many bytes were taken, `Pending` if it has to wait.
    pub(crate) fn writes(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.step(|stream, cx| stream.poll_write(cx, bytes))
    }

    /// Writes a few bytes, for which there is room.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) {
        match self.writes(text.as_bytes()) {
            Poll::Ready(Ok(count)) => assert_eq!(count, text.len()),
            other => panic!("saying {text:?}: {other:?}"),
        }
    }

    /// Writes until it has to wait; how many bytes that were.
    pub(crate) fn fills(&mut self) -> usize {
        let bytes = vec![7; 100_000];
        let mut filled = 0;
        while let Poll::Ready(written) = self.writes(&bytes) {
            filled += written.unwrap();
            assert!(filled < 64 << 20, "a window has an end");
        }
        filled
    }

    /// Whether it may not write any more.
    pub(crate) fn is_refused(&mut self) -> bool {
        matches!(self.writes(b"more"), Poll::Ready(Err(_)))
    }

    /// Has no more to say.
    pub(crate) fn ends(&mut self) {
        assert!(self.step(AsyncWrite::poll_shutdown).is_ready());
    }
}
