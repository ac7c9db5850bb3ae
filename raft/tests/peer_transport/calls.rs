//! Calls on the control connection.

use std::time::Duration;

use evermind_raft::peer::{AddressBook, ReadIndexError};
use evermind_storage::types::Vote;
use openraft::error::RPCError;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{AppendEntriesResponse, TransferLeaderRequest, VoteRequest};
use tokio::time::Instant;

use crate::support::{TestNode, append, identity, log_id, pair, until};

fn option() -> RPCOption {
    RPCOption::new(Duration::from_secs(2))
}

#[tokio::test]
async fn votes_come_back_as_they_were_given() {
    let (one, _two) = pair().await;
    let mut network = one.network(2).await;
    let request = VoteRequest::new(Vote::new(4, 1), Some(log_id(3, 9)));
    let granted = network.vote(request.clone(), option()).await.unwrap();
    assert_eq!(granted.vote, Vote::new(4, 1));
    assert!(granted.vote_granted);
    assert_eq!(granted.last_log_id, Some(log_id(3, 9)));
    let denied = network.pre_vote(request, option()).await.unwrap();
    assert!(!denied.vote_granted);
}

#[tokio::test]
async fn an_append_out_of_a_stream_and_a_hand_over() {
    let (one, _two) = pair().await;
    let mut network = one.network(2).await;
    let appended = network.append_entries(append(1), option()).await.unwrap();
    assert_eq!(appended, AppendEntriesResponse::Success);
    let vote = Vote::new_committed(3, 1);
    let request = TransferLeaderRequest::new(vote, 2, Some(log_id(3, 1)));
    assert_eq!(
        network.transfer_leader(request, option()).await.unwrap(),
        Ok(())
    );
    let request = TransferLeaderRequest::new(vote, 9, None);
    let stopping = network.transfer_leader(request, option()).await;
    assert!(
        matches!(stopping, Err(RPCError::Unreachable(_))),
        "{stopping:?}"
    );
}

#[tokio::test]
async fn a_read_index_or_who_leads() {
    let (one, two) = pair().await;
    assert_eq!(one.client.read_index(2).await, Ok(log_id(3, 77)));
    *two.node.leader.lock().unwrap() = Some(3);
    assert_eq!(
        one.client.read_index(2).await,
        Err(ReadIndexError::NotLeader { leader: Some(3) })
    );
}

#[tokio::test]
async fn a_peer_that_is_not_there_fails_at_once() {
    let book = AddressBook::default();
    let one = TestNode::start(identity(1), &book).await;
    book.set(2, "127.0.0.1:1");
    let mut network = one.network(2).await;
    let request = VoteRequest::new(Vote::new(4, 1), None);
    let first = network.vote(request.clone(), option()).await;
    assert!(matches!(first, Err(RPCError::Unreachable(_))), "{first:?}");
    let started = Instant::now();
    for _ in 0..100 {
        assert!(network.vote(request.clone(), option()).await.is_err());
    }
    assert!(started.elapsed() < Duration::from_millis(200));
    assert!(one.client.last_heard(2).is_none());
}

#[tokio::test]
async fn a_peer_that_moved_is_found_under_its_new_address() {
    let book = AddressBook::default();
    let one = TestNode::start(identity(1), &book).await;
    book.set(2, "127.0.0.1:1");
    assert!(one.client.read_index(2).await.is_err());
    let _two = TestNode::start(identity(2), &book).await;
    until("heard", || one.client.last_heard(2).is_some()).await;
}
