//! Shows a cluster of one: no majority to lose, so nothing ever makes it step down.

use std::time::{Duration, Instant};

use crate::harness::process::NodeProcess;
use crate::harness::{TestCluster, until};

/// Several times as long as a leader of more waits before it doubts that anybody hears it.
const WATCHED: Duration = Duration::from_secs(4);

#[test]
fn a_node_of_its_own_goes_on_leading() {
    let prepared = TestCluster::prepare();
    let one = prepared.node(1);
    let mut arguments = one.arguments.clone();
    let members = arguments
        .iter_mut()
        .find(|argument| argument.to_string_lossy().contains(",2="))
        .expect("it is told of the others");
    let alone = members
        .to_string_lossy()
        .split(',')
        .next()
        .unwrap()
        .to_owned();
    *members = alone.into();
    let node = NodeProcess::new(
        1,
        one.http,
        one.data_dir.clone(),
        one.log.clone(),
        arguments,
    );
    node.start();
    let client = prepared.client(1);
    let ready = |client: &crate::harness::client::Client| {
        let request = crate::harness::http::Request::get("/readyz");
        client
            .try_send(&request)
            .is_ok_and(|answer| answer.status == 200)
    };
    until("the node is ready", Duration::from_secs(20), || {
        ready(&client).then_some(())
    });
    let since = Instant::now();
    let mut round = 0;
    while since.elapsed() < WATCHED {
        round += 1;
        let uuid = format!("u-{round}");
        client.take("k", &uuid, 10_000);
        assert_eq!(client.release("k", &uuid).status, 200);
        assert!(
            ready(&client),
            "it stopped being ready: {}",
            node.log_text()
        );
    }
}
