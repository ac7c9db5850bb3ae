//! Behind a listener: connections, their limits, and their end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::Body;
#[cfg(evermind_mutants)]
use evermind_lock::mutant::{self, Mutant};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::app::App;
use crate::handed_over::AfterWait;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, Limits, READ_BUFFER_BYTES_MAX};
use crate::listen::{Listen, Socket};
use crate::places::{Begun, Place, Places};
use crate::seldom::Seldom;
use crate::watch::Watch;
use crate::whole_body::WholeBody;
use crate::wire::Wire;

/// How long accepting rests after its first failure, doubled for each further one up to
/// [`ACCEPT_PAUSE_MAX`]: with no file descriptors left, it would only spin.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(5);
/// See [`ACCEPT_PAUSE_MIN`].
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long accepting rests while connections that lost their places are closed.
const CLEARING_PAUSE: Duration = Duration::from_millis(1);

/// To a caller whose request did not come to the end of its head in time.
const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nserver: evermind\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// How connections are to behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Answer what is asked, then close.
    Draining,
    /// Close.
    Closing,
}

/// Serves until `shutdown` resolves, then lets open requests finish for at most
/// [`Limits::drain_timeout`] while idle connections close at once, and returns when no connection
/// is left. A request that is not answered by then sees its connection closed: a caller that waits
/// in line goes on at another node under the same uuid.
pub async fn serve(mut listener: impl Listen, app: App, shutdown: impl Future<Output = ()>) {
    let limits = Arc::clone(app.limits());
    let places = Arc::new(Places::new(limits.connections_max));
    // Each connection has a receiver, to its end.
    let (stage, stages) = watch::channel(Stage::Serving);
    tokio::select! {
        () = accept(&mut listener, &app, &places, &stages) => {}
        () = shutdown => {}
    }
    drop((listener, stages));
    let _ = stage.send(Stage::Draining);
    if timeout(limits.drain_timeout, stage.closed()).await.is_err() {
        tracing::warn!(
            open = stage.receiver_count(),
            "closing connections whose requests did not end in time"
        );
        let _ = stage.send(Stage::Closing);
        // Every connection's task ends at its next poll.
        stage.closed().await;
    }
}

/// Accepts for ever.
async fn accept(
    listener: &mut impl Listen,
    app: &App,
    places: &Arc<Places>,
    stages: &watch::Receiver<Stage>,
) {
    static FAILED: Seldom = Seldom::new();
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        while places.is_clearing() {
            sleep(CLEARING_PAUSE).await;
        }
        match listener.accept().await {
            Ok((stream, from)) => {
                pause = ACCEPT_PAUSE_MIN;
                let place = places.take(from.ip());
                let app = app.clone();
                tokio::spawn(connection(stream, from.ip(), app, stages.clone(), place));
            }
            Err(error) => {
                if let Some(times) = FAILED.due() {
                    tracing::warn!(%error, times, "accepting a connection failed");
                }
                sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// Serves one connection to its end.
async fn connection(
    stream: impl Socket,
    from: IpAddr,
    app: App,
    mut stages: watch::Receiver<Stage>,
    place: Place,
) {
    let limits = Arc::clone(app.limits());
    let watch = Arc::new(Watch::new(limits.half_close_grace));
    let io = TokioIo::new(Wire::new(stream, Arc::clone(&watch)));
    let service = service_fn(|request: Request<Incoming>| {
        watch.work_begins();
        let (app, watch, place) = (&app, &watch, &place);
        async move {
            let mut request =
                request.map(|body| Body::new(WholeBody::new(body, Arc::clone(watch))));
            if place.is_health() {
                let response = app.call_beyond_limit(request, from).await;
                watch.work_ends(None);
                return Ok::<_, Infallible>(response);
            }
            match place.begin() {
                Begun::Keyed => {}
                Begun::Keyless(keyless) => drop(request.extensions_mut().insert(keyless)),
                // Nothing of it was done, and the connection is closed before the answer.
                Begun::Lost => return std::future::pending().await,
            }
            let response = app.call(request, from).await;
            place.end(response.status());
            #[cfg(evermind_mutants)]
            if mutant::is_turn(Mutant::ConnectionEndsUnsaid, 50) {
                place.ends_unsaid();
            }
            let after_wait = response.extensions().get::<AfterWait>();
            watch.work_ends(after_wait.and_then(AfterWait::take));
            Ok(response)
        }
    });
    // Not `pipeline_flush`: it leaves an answer unwritten while unread bytes stand behind its
    // request, and so loses the 400 to a bad head.
    // Hyper's own header timer also runs between requests, where another limit holds, and costs an
    // allocation for each request: the watch does both.
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .serve_connection(io, service);
    let mut timer = pin!(sleep_until(Instant::now() + limits.head_timeout));
    loop {
        let ended = poll_fn(|cx| {
            watch.turns();
            if Pin::new(&mut connection).poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            overdue(&watch, &limits, place.has_key(), timer.as_mut(), cx).map(|()| true)
        });
        tokio::select! {
            biased;
            // Bad requests, resets, and ends at any point: a caller's affairs, none of ours.
            is_late = ended => {
                if is_late && watch.is_within_head() {
                    tell(connection.into_parts().io.into_inner(), TIMEOUT);
                }
                return;
            }
            changed = stages.changed() => match *stages.borrow_and_update() {
                Stage::Draining if changed.is_ok() => Pin::new(&mut connection).graceful_shutdown(),
                _ => return,
            },
            () = place.lost() => return,
        }
    }
}

/// Writes what the socket takes at once, and closes it.
fn tell(mut stream: impl AsyncWrite + Unpin, bytes: &[u8]) {
    let mut cx = Context::from_waker(Waker::noop());
    if Pin::new(&mut stream).poll_write(&mut cx, bytes).is_ready() {
        let _ = Pin::new(&mut stream).poll_shutdown(&mut cx);
    }
}

/// Ready when the connection has used up its time. The timer is set back only where the deadline
/// came nearer, so that a request costs it nothing; where it moved away, the timer fires early and
/// is set anew.
fn overdue(
    watch: &Watch,
    limits: &Limits,
    has_key: bool,
    mut timer: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let deadline = watch.deadline(limits, has_key);
        if deadline.is_some_and(|deadline| deadline < timer.deadline()) {
            timer.as_mut().reset(deadline.unwrap_or_else(Instant::now));
        }
        ready!(timer.as_mut().poll(cx));
        let now = Instant::now();
        match deadline {
            Some(deadline) if deadline <= now => return Poll::Ready(()),
            Some(deadline) => timer.as_mut().reset(deadline),
            // In work. What comes next brings its own deadline.
            None => timer.as_mut().reset(now + limits.idle_timeout),
        }
    }
}
