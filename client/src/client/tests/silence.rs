//! Nodes that are frozen, and proxies that stand before nodes.

use super::*;

const RELEASED: &str = r#"{"released":true,"message":null}"#;
const EXTENDED: &str = r#"{"extended":true,"message":null,"expiresIn":7000,"fencingToken":42}"#;
const SHOWN: &str = r#"{"key":"k","fencingToken":1,"expiresIn":2,"waiting":3,"fifo":true}"#;
const HELD: &str =
    r#"{"acquired":false,"message":"held by another","code":"lock_held","status":423}"#;
const NO_LEADER: &str = r#"{"code":"no_leader","message":"no leader right now"}"#;
/// A third of the default lease.
const IN_TIME: Duration = Duration::from_millis(3_300);

fn waiting(window: Duration) -> Acquire {
    Acquire {
        wait: Wait::lasting(window),
        ..request()
    }
}

/// One name for all copies, so that the operation is carried out once.
fn assert_same_operation(seen: &[Seen]) {
    for copy in seen {
        assert_eq!(
            (copy.header("idempotency-key"), &copy.body),
            (seen[0].header("idempotency-key"), &seen[0].body)
        );
    }
}

#[tokio::test]
async fn the_next_node_is_asked_while_the_first_is_silent() {
    for command in ["acquire", "extend", "release", "show"] {
        let frozen = Node::new(vec![Step::Silence]).await;
        let answer = match command {
            "acquire" => GRANTED,
            "extend" => EXTENDED,
            "release" => RELEASED,
            _ => SHOWN,
        };
        let good = Node::new(vec![Step::Answer(200, answer), Step::Answer(200, answer)]).await;
        let client = client(&[&frozen, &good]);
        let start = Moment::now();
        for _ in 0..2 {
            match command {
                "acquire" => drop(client.acquire(&request()).await.unwrap()),
                "extend" => drop(client.extend("k", "u", 1).await.unwrap()),
                "release" => drop(client.release("k", "u").await.unwrap()),
                _ => drop(client.show("k", false).await.unwrap()),
            }
        }
        assert!(Moment::now().since(start) < IN_TIME, "{command}");
        assert_same_operation(&[frozen.seen().remove(0), good.seen().remove(0)]);
        assert_eq!(frozen.seen().len(), 1, "{command}: the second call knows");
    }
}

#[tokio::test]
async fn two_frozen_nodes_are_too_few_to_lose_a_default_lease() {
    let frozen = Node::new(vec![Step::Silence]).await;
    let another = Node::new(vec![Step::Silence]).await;
    let good = Node::new(vec![Step::Answer(200, EXTENDED)]).await;
    let start = Moment::now();
    let client = client(&[&frozen, &another, &good]);
    client.extend("k", "u", 1).await.unwrap();
    assert!(Moment::now().since(start) < IN_TIME);
}

#[tokio::test]
async fn what_makes_a_key_is_not_sent_twice() {
    let slow = Node::new(vec![Step::Late(
        Duration::from_millis(1_500),
        r#"{"apiKey":"evk_1","id":"key_7"}"#,
    )])
    .await;
    let other = Node::new(vec![]).await;
    let client = Client::without_key([&slow.url, &other.url]).unwrap();
    client.in_order().create_api_key("evl_1").await.unwrap();
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn what_makes_a_key_is_not_sent_to_a_frozen_node() {
    let frozen = Node::new(vec![Step::Frozen]).await;
    let made = r#"{"apiKey":"evk_1","id":"key_7"}"#;
    let good = Node::new(vec![Step::Answer(200, made)]).await;
    let client = Client::without_key([&frozen.url, &good.url]).unwrap();
    let start = Moment::now();
    client.in_order().create_api_key("evl_1").await.unwrap();
    assert!(Moment::now().since(start) < IN_TIME);
    assert!(frozen.seen().is_empty());
}

#[tokio::test]
async fn a_proxy_without_its_node_is_left_for_the_next() {
    for status in [500, 502, 503, 504, 520, 529] {
        let proxy = Node::new(vec![Step::Proxy(status)]).await;
        let good = Node::new(vec![
            Step::Answer(200, EXTENDED),
            Step::Answer(200, EXTENDED),
        ])
        .await;
        let client = client(&[&proxy, &good]);
        client.extend("k", "u", 1).await.unwrap();
        client.extend("k", "u", 1).await.unwrap();
        assert_same_operation(&[proxy.seen().remove(0), good.seen().remove(0)]);
        assert_eq!(proxy.seen().len(), 1, "{status}: it is remembered");
    }
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let node = Node::new(vec![Step::Redirect("https://locks.example/")]).await;
    let error = client(&[&node]).release("k", "u").await.unwrap_err();
    let Error::Redirected { location, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(location, "https://locks.example/");
    assert!(error.to_string().contains("https://locks.example/"));
}

#[tokio::test]
async fn a_node_without_a_leader_says_more_than_one_that_is_down() {
    let down = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", down.local_addr().unwrap());
    drop(down);
    // It asks to stay away for longer than the client tries.
    let up = Node::new(vec![Step::Answer(503, NO_LEADER), Step::ComeAgain(3600)]).await;
    let client = Client::new([&url, &up.url], "evk_test").unwrap().in_order();
    let told = async {
        while client
            .trouble()
            .is_none_or(|told| !told.contains("no leader"))
        {
            tokio::task::yield_now().await;
        }
    };
    let release = client.release("k", "u");
    let ((), released) = tokio::join!(told, release);
    assert!(matches!(released, Err(Error::Refused(_))));
}

#[tokio::test]
async fn a_wait_outlives_a_proxy_that_cuts_it() {
    let second = Duration::from_millis(1_200);
    let node = Node::new(vec![
        Step::Cut(second),
        Step::Cut(second),
        Step::Hang,
        Step::Late(second, GRANTED),
    ])
    .await;
    let client = client(&[&node]);
    let answer = client.acquire(&waiting(Duration::from_mins(3))).await;
    assert_eq!(answer.unwrap().value.fencing_token, 42);
    assert_same_operation(&node.seen());
    assert_eq!(node.seen().len(), 4);
}

#[tokio::test]
async fn a_wait_stands_at_two_nodes_at_once() {
    let frozen = Node::new(vec![Step::Silence]).await;
    let good = Node::new(vec![Step::Late(Duration::from_secs(2), GRANTED)]).await;
    let third = Node::new(vec![]).await;
    let client = client(&[&frozen, &good, &third]);
    client
        .acquire(&waiting(Duration::from_mins(3)))
        .await
        .unwrap();
    assert_same_operation(&[frozen.seen().remove(0), good.seen().remove(0)]);
    assert!(third.seen().is_empty(), "two are enough for a while");
}

#[tokio::test]
async fn a_wait_that_is_over_is_over() {
    let node = Node::new(vec![Step::Answer(423, HELD)]).await;
    let error = client(&[&node])
        .acquire(&waiting(Duration::from_mins(1)))
        .await;
    assert_eq!(error.unwrap_err().code(), Some(&Code::LockHeld));
    assert_eq!(node.seen().len(), 1);
}

#[tokio::test]
async fn clients_start_at_different_nodes() {
    let urls = ["http://a:1", "http://b:1", "http://c:1"];
    let starts: std::collections::HashSet<usize> = (0..100)
        .map(|_| Client::new(urls, "k").unwrap())
        .map(|client| client.current.load(Ordering::Relaxed))
        .collect();
    assert_eq!(starts.len(), 3);
}
