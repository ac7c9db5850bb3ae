//! Forwarded commands.

use std::time::Instant;

use evermind_raft::peer::ForwardError;
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;

use crate::support::{command, pair, until};

#[tokio::test]
async fn commands_arrive_in_the_order_of_their_sending() {
    let (one, two) = pair().await;
    one.client.forward(2, &command(0)).await.unwrap();
    let commands: Vec<_> = (1..=5_000).map(command).collect();
    let mut forwards: FuturesOrdered<_> =
        commands.iter().map(|c| one.client.forward(2, c)).collect();
    while let Some(forwarded) = forwards.next().await {
        forwarded.unwrap();
    }
    assert_eq!(
        *two.node.forwarded.lock().unwrap(),
        (0..=5_000).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_node_that_does_not_lead_says_who_does() {
    let (one, two) = pair().await;
    *two.node.leader.lock().unwrap() = Some(3);
    assert_eq!(
        one.client.forward(2, &command(1)).await,
        Err(ForwardError::NotLeader { leader: Some(3) })
    );
}

#[tokio::test]
async fn what_is_on_its_way_when_the_connection_breaks_is_lost_and_said_so() {
    let (one, mut two) = pair().await;
    one.client.forward(2, &command(0)).await.unwrap();
    two.node.hold();
    let client = one.client.clone();
    let waiting: Vec<_> = (1..=10)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.forward(2, &command(n)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    until("the server has them", || two.client.last_heard(1).is_some()).await;
    two.server = None;
    for forward in waiting {
        let error = forward.await.unwrap().unwrap_err();
        assert!(
            matches!(error, ForwardError::Lost | ForwardError::Unreachable(_)),
            "{error}"
        );
    }
    // Nothing is queued for a peer that is not there.
    until("refused", || {
        let client = one.client.clone();
        let refused =
            futures_util::FutureExt::now_or_never(
                async move { client.forward(2, &command(11)).await },
            );
        matches!(refused, Some(Err(ForwardError::Unreachable(_))))
    })
    .await;
    two.node.release(1_000);
    two.serve_again().await;
    let deadline = Instant::now() + std::time::Duration::from_secs(10);
    while one.client.forward(2, &command(12)).await.is_err() {
        assert!(Instant::now() < deadline, "never forwarded again");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(two.node.forwarded.lock().unwrap().last(), Some(&12));
}

#[tokio::test]
async fn a_leader_that_is_slow_to_take_them_loses_none() {
    let (one, two) = pair().await;
    one.client.forward(2, &command(0)).await.unwrap();
    two.node.hold();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 1..=10_000 {
        let client = one.client.clone();
        tasks.spawn(async move { client.forward(2, &command(n)).await });
    }
    // Longer than a connection may be silent.
    tokio::time::sleep(2 * one.endpoint.config.stall).await;
    two.node.release(10_000);
    while let Some(forwarded) = tasks.join_next().await {
        forwarded.unwrap().unwrap();
    }
    assert_eq!(
        *two.node.forwarded.lock().unwrap(),
        (0..=10_000).collect::<Vec<_>>()
    );
    assert_eq!(two.endpoint.stats().snapshot().violations, 0);
}

/// Prints what forwarding costs; `EVERMIND_MEASURE=200000` for figures worth having.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwards_serial_and_pipelined() {
    let count: u32 = std::env::var("EVERMIND_MEASURE").map_or(2_000, |n| n.parse().unwrap());
    let (one, two) = pair().await;
    one.client.forward(2, &command(0)).await.unwrap();

    let started = Instant::now();
    for n in 0..count / 10 {
        one.client.forward(2, &command(n.into())).await.unwrap();
    }
    let serial = started.elapsed().as_secs_f64() * 1e6 / f64::from(count / 10);

    let started = Instant::now();
    let commands: Vec<_> = (0..count.into()).map(command).collect();
    let client = &one.client;
    let done = futures_util::stream::iter(&commands)
        .map(|c| async move { client.forward(2, c).await })
        .buffered(256)
        .filter(|forwarded| std::future::ready(forwarded.is_ok()))
        .count()
        .await;
    let pipelined = started.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    println!("forward: {serial:.1} us serial, {pipelined:.2} us pipelined by 256");
    assert_eq!(done, count as usize);
    assert_eq!(
        two.node.forwarded.lock().unwrap().len(),
        (1 + count / 10 + count) as usize
    );
}
