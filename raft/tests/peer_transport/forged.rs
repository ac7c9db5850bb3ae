//! What a peer may not say, whoever put it on the connection.

use evermind_lock::command::{Action, Attachment, Command, KeyHash, Member, OpId};
use evermind_lock::names::{Holder, IdentityId, Key, Resource};
use evermind_raft::peer::{ForwardError, Refusal};
use evermind_storage::types::Vote;
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::VoteRequest;
use std::time::Duration;

use crate::support::{TestNode, append, command, identity, pair, until};

fn attachment(node: u64, boot: u64) -> Attachment {
    Attachment {
        operation: OpId {
            node,
            boot,
            sequence: 1,
        },
        resource: Resource {
            identity: IdentityId::new("tenant").unwrap(),
            key: Key::new("job").unwrap(),
        },
        holder: Holder::new("holder").unwrap(),
    }
}

fn as_another(change: impl FnOnce(&mut OpId)) -> Command {
    let mut command = command(1);
    change(&mut command.operation.as_mut().unwrap().id);
    command
}

fn doing(action: Action) -> Command {
    Command {
        action,
        ..command(1)
    }
}

/// Each of these would do harm from whoever can put a frame on the connection between two nodes.
fn forged() -> Vec<(&'static str, Command)> {
    let identity = IdentityId::new("default").unwrap();
    let hash = KeyHash([7; 32]);
    let mut early = command(5);
    early.operation.as_mut().unwrap().answered_below = u64::MAX;
    vec![
        ("of another node", as_another(|id| id.node = 3)),
        ("of a later start", as_another(|id| id.boot = u64::MAX)),
        ("of an earlier start", as_another(|id| id.boot = 4)),
        ("answered before it was asked", early),
        (
            "without a name",
            Command {
                operation: None,
                ..command(1)
            },
        ),
        ("the end of leases", doing(Action::Expire)),
        (
            "a founding",
            doing(Action::Found {
                global_prefix: "theirs".into(),
            }),
        ),
        (
            "a member's disk",
            doing(Action::RecordMember(Member {
                node: 3,
                disk: 1,
                http: String::new(),
                peer: String::new(),
            })),
        ),
        ("an API key", doing(Action::AddApiKey { hash, identity })),
        (
            "that another node is gone",
            doing(Action::DetachNode { node: 2, boot: 5 }),
        ),
        (
            "that a later start of its own is gone",
            doing(Action::DetachNode {
                node: 1,
                boot: u64::MAX,
            }),
        ),
        (
            "another node's hang-up",
            doing(Action::Abandon(attachment(2, 5))),
        ),
        (
            "another node's caller",
            doing(Action::Reattach(attachment(2, 5))),
        ),
    ]
}

#[tokio::test]
async fn a_forwarded_command_is_of_the_node_and_the_start_at_the_other_end() {
    let (one, two) = pair().await;
    for (what, command) in forged() {
        let refused = one.client.forward(2, &command).await;
        let expected = Err(ForwardError::NotLeader { leader: None });
        assert_eq!(refused, expected, "{what}");
    }
    assert!(two.node.forwarded.lock().unwrap().is_empty());
    // Its own still goes through, on the same connection.
    for own in [
        command(7),
        Command {
            action: Action::DetachNode { node: 1, boot: 5 },
            ..command(8)
        },
        Command {
            action: Action::Abandon(attachment(1, 5)),
            ..command(9)
        },
    ] {
        one.client.forward(2, &own).await.unwrap();
    }
    assert_eq!(*two.node.forwarded.lock().unwrap(), [7, 8, 9]);
}

#[tokio::test]
async fn a_vote_and_a_log_are_the_senders_own() {
    let (one, two) = pair().await;
    let option = RPCOption::new(Duration::from_secs(2));
    let mut network = one.network(2).await;
    let asked = network
        .vote(VoteRequest::new(Vote::new(9, 3), None), option.clone())
        .await;
    assert!(asked.is_err(), "{asked:?}");
    let mut request = append(5);
    request.vote = Vote::new_committed(9, 3);
    let heartbeat = one
        .heartbeats(2)
        .await
        .append_entries(request, option)
        .await;
    assert!(heartbeat.is_err(), "{heartbeat:?}");
    assert_eq!(
        two.node
            .heartbeats
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}

#[tokio::test]
async fn who_is_in_no_list_is_no_peer() {
    let (one, _two) = pair().await;
    let book = evermind_raft::peer::AddressBook::new([(1, one.address.clone())]);
    let stranger = TestNode::start(identity(99), &book).await;
    until("told", || {
        let refused = stranger.gate.refused.lock().unwrap();
        refused.contains(&(1, Refusal::NotAMember))
    })
    .await;
    let contacts = one.gate.contacts.lock().unwrap();
    assert!(contacts.iter().all(|contact| contact.node != 99));
}
