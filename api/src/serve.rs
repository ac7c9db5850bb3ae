//! Behind a listener: connections, their limits, and their end.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWrite as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::app::App;
use crate::handed_over::AfterWait;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, Limits};
use crate::listen::{Listen, Socket};
use crate::watch::Watch;
use crate::wire::Wire;

/// How long accepting rests after its first failure, doubled for each further one up to
/// [`ACCEPT_PAUSE_MAX`]: with no file descriptors left, it would only spin.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(5);
/// See [`ACCEPT_PAUSE_MIN`].
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a caller over [`Limits::connections_max`] hears, if it listens.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nserver: evermind\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

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
    let permits_max = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let (stage, stages) = watch::channel(Stage::Serving);
    tokio::select! {
        () = accept(&mut listener, &app, &permits, &stages) => {}
        () = shutdown => {}
    }
    drop(listener);
    let _ = stage.send(Stage::Draining);
    if timeout(limits.drain_timeout, permits.acquire_many(permits_max))
        .await
        .is_err()
    {
        let open = limits.connections_max - permits.available_permits();
        tracing::warn!(
            open,
            "closing connections whose requests did not end in time"
        );
        let _ = stage.send(Stage::Closing);
        // Every connection's task ends at its next poll.
        let _ = permits.acquire_many(permits_max).await;
    }
}

/// Accepts for ever.
async fn accept(
    listener: &mut impl Listen,
    app: &App,
    permits: &Arc<Semaphore>,
    stages: &watch::Receiver<Stage>,
) {
    let mut pause = ACCEPT_PAUSE_MIN;
    loop {
        match listener.accept().await {
            Ok((mut stream, from)) => {
                pause = ACCEPT_PAUSE_MIN;
                let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
                    tracing::debug!("over the limit of connections: one is closed");
                    // What a fresh socket does not take at once is not waited for.
                    let mut cx = Context::from_waker(Waker::noop());
                    let _ = Pin::new(&mut stream).poll_write(&mut cx, FULL);
                    continue;
                };
                let app = app.clone();
                tokio::spawn(connection(stream, from.ip(), app, stages.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, ?pause, "accepting a connection failed");
                sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// Serves one connection to its end. The permit is the place it takes up.
async fn connection(
    stream: impl Socket,
    from: IpAddr,
    app: App,
    mut stages: watch::Receiver<Stage>,
    permit: OwnedSemaphorePermit,
) {
    // Dropped last: the place is free when the socket is.
    let _place = permit;
    let limits = Arc::clone(app.limits());
    let watch = Arc::new(Watch::new(limits.half_close_grace));
    let io = TokioIo::new(Wire::new(stream, Arc::clone(&watch)));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        watch.work_begins();
        let (app, watch) = (&app, &watch);
        async move {
            let response = app.call(request.map(Body::new), from).await;
            if watch.caller_left() && response.extensions().get::<AfterWait>().is_some() {
                // Dropped unanswered, the grant is given back.
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
            }
            watch.work_ends();
            Ok(response)
        }
    });
    // Not `pipeline_flush`: it leaves an answer unwritten while unread bytes stand behind its
    // request, and so loses the 400 to a bad head.
    // Hyper's own header timer also runs between requests, where another limit holds, and costs an
    // allocation for each request: the watch does both.
    let connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    let mut timer = pin!(sleep_until(Instant::now() + limits.head_timeout));
    loop {
        let ended = poll_fn(|cx| {
            watch.turns();
            if connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            overdue(&watch, &limits, timer.as_mut(), cx)
        });
        tokio::select! {
            biased;
            // Bad requests, resets, and ends at any point: a caller's affairs, none of ours.
            () = ended => break,
            changed = stages.changed() => match *stages.borrow_and_update() {
                Stage::Draining if changed.is_ok() => connection.as_mut().graceful_shutdown(),
                _ => break,
            },
        }
    }
}

/// Ready when the connection has used up its time. The timer is set back only where the deadline
/// came nearer, so that a request costs it nothing; where it moved away, the timer fires early and
/// is set anew.
fn overdue(
    watch: &Watch,
    limits: &Limits,
    mut timer: Pin<&mut Sleep>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let deadline = watch.deadline(limits);
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
