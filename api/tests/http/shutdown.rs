//! How serving ends.

use std::time::{Duration, Instant};

use evermind_api::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::fake::Answer;
use crate::server::{Server, post, read_one, read_to_close, right_headers};

#[tokio::test]
async fn open_requests_end_and_idle_connections_close() {
    let mut server = Server::start(Answer::Wait).await;
    let mut waiting = server.connect().await;
    waiting
        .write_all(&post("/lock/acquire", &right_headers(), r#"{"key":"k"}"#))
        .await
        .unwrap();
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: t\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(read_one(&mut idle).await.status, 200);
    let mut fresh = server.connect().await;
    server.fake.until(|ends| ends.begun == 1).await;

    server.begin_shutdown();
    assert!(read_to_close(&mut idle).await.is_empty());
    assert!(read_to_close(&mut fresh).await.is_empty());
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "it still accepts"
    );

    server.fake.answer(Answer::Grant);
    assert_eq!(read_one(&mut waiting).await.status, 200);
    let fake = server.fake.clone();
    let began = Instant::now();
    server.ended().await;
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!((fake.ends().handed_over, fake.ends().abandoned), (1, 0));
}

#[tokio::test]
async fn who_waits_too_long_sees_the_connection_closed() {
    let limits = Limits {
        drain_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let mut server = Server::with(Answer::Wait, limits).await;
    let mut waiting = server.connect().await;
    waiting
        .write_all(&post("/lock/acquire", &right_headers(), r#"{"key":"k"}"#))
        .await
        .unwrap();
    server.fake.until(|ends| ends.begun == 1).await;
    server.begin_shutdown();
    assert!(read_to_close(&mut waiting).await.is_empty());
    let fake = server.fake.clone();
    server.ended().await;
    assert_eq!((fake.ends().handed_over, fake.ends().abandoned), (0, 1));
}
