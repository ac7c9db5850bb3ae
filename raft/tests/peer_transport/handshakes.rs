//! Who is let in, and what who is not gets to know.

use evermind_raft::peer::{AddressBook, Identity, Refusal, Secret};

use crate::support::{TestNode, identity, pair, until};

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let (one, two) = pair().await;
    until("contact", || {
        one.gate.contacts.lock().unwrap().len() >= 3 && two.gate.contacts.lock().unwrap().len() >= 3
    })
    .await;
    let contact = two.gate.contacts.lock().unwrap()[0].clone();
    assert_eq!((contact.node, contact.disk, contact.boot), (1, 1000, 5));
    assert_eq!(contact.http, "http://node1:1");
    assert_eq!(one.gate.contacts.lock().unwrap()[0].node, 2);
    assert!(one.client.last_heard(2).is_some());
    assert!(two.client.last_heard(1).is_some());
    assert!(one.client.last_heard(3).is_none());
}

/// Node 2 is as it should be; node 1 is as given, and refused.
async fn refused(other: Identity) -> Refusal {
    let book = AddressBook::default();
    let two = TestNode::start(identity(2), &book).await;
    let one = TestNode::start(other, &book).await;
    until("refused", || !one.gate.refused.lock().unwrap().is_empty()).await;
    assert!(one.gate.contacts.lock().unwrap().is_empty());
    assert!(two.gate.contacts.lock().unwrap().is_empty());
    until("counted", || two.endpoint.stats().snapshot().refused > 0).await;
    assert!(one.client.read_index(2).await.is_err());
    let (node, reason) = one.gate.refused.lock().unwrap()[0];
    assert_eq!(node, 2);
    reason
}

#[tokio::test]
async fn a_node_of_another_cluster() {
    let other = Identity {
        cluster: [8; 16],
        ..identity(1)
    };
    assert_eq!(refused(other).await, Refusal::WrongCluster);
}

#[tokio::test]
async fn a_node_with_another_secret() {
    let other = Identity {
        secret: Some(Secret::new(*b"not the cluster's secret")),
        ..identity(1)
    };
    assert_eq!(refused(other).await, Refusal::BadSecret);
}

#[tokio::test]
async fn a_node_without_a_secret() {
    let other = Identity {
        secret: None,
        ..identity(1)
    };
    assert_eq!(refused(other).await, Refusal::BadSecret);
}

#[tokio::test]
async fn without_any_secret_nodes_trust_each_other() {
    let book = AddressBook::default();
    let open = |node| Identity {
        secret: None,
        ..identity(node)
    };
    let _two = TestNode::start(open(2), &book).await;
    let one = TestNode::start(open(1), &book).await;
    assert!(one.client.read_index(2).await.is_ok());
}

#[tokio::test]
async fn another_node_answers_at_the_address() {
    let book = AddressBook::default();
    let two = TestNode::start(identity(2), &book).await;
    book.set(3, two.address.clone());
    let one = TestNode::start(identity(1), &book).await;
    until("refused", || {
        one.gate
            .refused
            .lock()
            .unwrap()
            .contains(&(3, Refusal::WrongNode))
    })
    .await;
    assert!(one.client.read_index(3).await.is_err());
    assert!(one.client.read_index(2).await.is_ok());
}

#[tokio::test]
async fn a_node_that_dials_itself() {
    let book = AddressBook::default();
    let one = TestNode::start(identity(1), &book).await;
    book.set(2, one.address.clone());
    assert!(one.client.read_index(2).await.is_err());
    assert!(one.gate.contacts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_wiped_node_that_dials_learns_that_it_must_stop() {
    let book = AddressBook::default();
    let two = TestNode::start(identity(2), &book).await;
    two.gate.disks.lock().unwrap().insert(1, 1000);
    let wiped = Identity {
        disk: 4242,
        ..identity(1)
    };
    let one = TestNode::start(wiped, &book).await;
    until("told", || {
        one.gate
            .refused
            .lock()
            .unwrap()
            .contains(&(2, Refusal::DiskRefused))
    })
    .await;
    assert!(two.gate.contacts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_wiped_node_that_is_dialed_learns_that_it_must_stop() {
    let book = AddressBook::default();
    let one = TestNode::start(identity(1), &book).await;
    one.gate.disks.lock().unwrap().insert(2, 2000);
    // It cannot reach the other, and is dialed.
    let elsewhere = AddressBook::new([(1, "127.0.0.1:1".to_owned())]);
    let wiped = Identity {
        disk: 4242,
        ..identity(2)
    };
    let two = TestNode::start(wiped, &elsewhere).await;
    book.set(2, two.address.clone());
    assert!(one.client.read_index(2).await.is_err());
    until("told", || {
        two.gate
            .refused
            .lock()
            .unwrap()
            .contains(&(1, Refusal::DiskRefused))
    })
    .await;
    assert!(one.gate.contacts.lock().unwrap().is_empty());
}
