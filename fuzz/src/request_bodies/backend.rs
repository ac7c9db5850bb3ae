//! A node that records what reaches it and grants everything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use evermind_api::{Accounts, Locks, PendingAcquire, hash};
use evermind_lock::command::{CreateLicence, Idempotency, KeyHash, KeyId, LicenceId};
use evermind_lock::licence::{ApiKeyView, LicenceView, Standing};
use evermind_lock::names::{IdentityId, Key};
use evermind_lock::outcome::{Decision, Granted, Outcome, Refusal};
use evermind_lock::view::{LockView, LocksPage};
use evermind_raft::api::{
    AcquireRequest, Caller, ClusterStatus, Consistency, ExtendRequest, NodeError, ReleaseRequest,
    Role,
};

use super::contract::{Value, key_text};

/// The API key that opens.
pub(super) const API_KEY: &str = "evk_the-right-one";
/// The licence key that is known.
pub(super) const LICENCE_KEY: &str = "evl_the-right-one";

/// What reached the node.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    Acquire(AcquireRequest),
    Extend(ExtendRequest),
    Release(ReleaseRequest),
    Look(String),
    Locks {
        prefix: String,
        after: Option<Key>,
        limit: usize,
    },
    CreateLicence(CreateLicence),
    Licences(usize),
    Other,
}

/// For what is compared here, which is looks.
impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Seen::Look(one), Seen::Look(other)) if one == other)
    }
}

impl Seen {
    /// Whatever was sent, what reaches a node is within the contract's bounds.
    pub(super) fn check(&self) {
        match self {
            Seen::Acquire(request) => {
                names(&request.key, Some(&request.holder.text()));
                idempotent(request.idempotency.as_ref());
                assert!((1..=86_400_000).contains(&request.lease_ms));
                assert!(request.retry_attempts <= 1000);
                assert!(request.window_ms <= 600_000);
            }
            Seen::Extend(request) => {
                names(&request.key, Some(&request.holder.text()));
                idempotent(request.idempotency.as_ref());
                assert!((1..=86_400_000).contains(&request.extend_by_ms));
            }
            Seen::Release(request) => {
                names(&request.key, Some(&request.holder.text()));
                idempotent(request.idempotency.as_ref());
            }
            Seen::Look(key) => assert!(key_text(key)),
            Seen::Locks {
                prefix,
                after,
                limit,
            } => {
                assert!((1..=1000).contains(limit));
                assert!(prefix.len() <= 32 << 10);
                assert!(after.as_ref().is_none_or(|key| key_text(key.as_str())));
            }
            Seen::CreateLicence(create) => {
                let identity = create.identity.as_str();
                assert!((1..=64).contains(&identity.len()));
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                assert!(identity.bytes().all(allowed));
                assert!((1..=128).contains(&create.name.as_str().len()));
                assert!(create.limit.is_none_or(|limit| limit < 1 << 53));
            }
            Seen::Licences(limit) => assert!((1..=1001).contains(limit)),
            Seen::Other => {}
        }
    }

    /// What was asked is what reaches the node.
    pub(super) fn check_against(&self, values: &BTreeMap<&'static str, Value>) {
        let text = |name: &str| match values.get(name) {
            Some(Value::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        let number = |name: &str, default: u64| match values.get(name) {
            Some(Value::Number(number)) => *number,
            _ => default,
        };
        let flag = |name: &str| values.get(name) == Some(&Value::Flag(true));
        match self {
            Seen::Acquire(request) => {
                assert_eq!(Some(request.key.as_str()), text("key"));
                // One is made where none is given.
                let uuid = request.holder.text();
                assert_eq!(&*uuid, text("uuid").unwrap_or(&uuid));
                assert_eq!(request.lease_ms, number("lease", 10_000));
                let attempts = number("retryAttempts", 10);
                assert_eq!(u64::from(request.retry_attempts), attempts);
                let delay = number("retryDelay", 500);
                let jitter = number("retryJitter", 0);
                let window = attempts * delay..=attempts * (delay + jitter);
                assert!(window.contains(&request.window_ms));
                assert_eq!(request.fifo, flag("fifo"));
            }
            Seen::Extend(request) => {
                assert_eq!(Some(request.key.as_str()), text("key"));
                assert_eq!(Some(&*request.holder.text()), text("uuid"));
                assert_eq!(request.extend_by_ms, number("extendBy", 0));
            }
            Seen::Release(request) => {
                assert_eq!(Some(request.key.as_str()), text("key"));
                assert_eq!(Some(&*request.holder.text()), text("uuid"));
            }
            other => panic!("{other:?} of a lock request"),
        }
    }
}

fn names(key: &Key, holder: Option<&str>) {
    assert!(key_text(key.as_str()));
    if let Some(holder) = holder {
        assert!((1..=128).contains(&holder.len()) && holder.bytes().all(|b| b.is_ascii_graphic()));
    }
}

fn idempotent(idempotency: Option<&Idempotency>) {
    if let Some(Idempotency { key, .. }) = idempotency {
        let text = key.as_str();
        assert!((1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()));
    }
}

/// The node.
#[derive(Debug, Clone, Default)]
pub(super) struct Backend(Arc<Mutex<Vec<Seen>>>);

impl Backend {
    /// All that reached it.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.0.lock().expect("one thread").clone()
    }

    fn saw(&self, seen: Seen) {
        self.0.lock().expect("one thread").push(seen);
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the traits return it")]
    fn decided(&self, seen: Seen, outcome: Outcome) -> Result<Decision, NodeError> {
        self.saw(seen);
        Ok(Decision {
            log_index: 7,
            outcome,
        })
    }
}

/// An acquire that is granted.
pub(super) struct Pending(Option<Granted>);

impl PendingAcquire for Pending {
    async fn decision(&mut self) -> Result<Decision, NodeError> {
        let granted = self.0.take().expect("asked once");
        Ok(Decision {
            log_index: 7,
            outcome: Outcome::Granted(granted),
        })
    }

    fn handed_over(self) {}
}

impl Locks for Backend {
    type Pending = Pending;

    async fn authenticate(&self, key: KeyHash) -> Result<Option<Caller>, NodeError> {
        let caller = Caller {
            key: KeyId(1),
            licence: LicenceId(1),
            identity: IdentityId::new("fuzz").expect("an identity"),
            standing: Standing::Active,
        };
        Ok((key == hash(API_KEY.as_bytes())).then_some(caller))
    }

    fn acquire(&self, _: &Caller, request: AcquireRequest) -> Pending {
        let granted = Granted {
            holder: request.holder.clone(),
            fencing_token: 42,
            expires_in_ms: request.lease_ms,
            waited_ms: 0,
            attempts: 1,
        };
        self.saw(Seen::Acquire(request));
        Pending(Some(granted))
    }

    async fn extend(&self, _: &Caller, request: ExtendRequest) -> Result<Decision, NodeError> {
        let outcome = Outcome::Extended {
            fencing_token: 42,
            expires_in_ms: 7_000,
        };
        self.decided(Seen::Extend(request), outcome)
    }

    async fn release(&self, _: &Caller, request: ReleaseRequest) -> Result<Decision, NodeError> {
        self.decided(Seen::Release(request), Outcome::Released)
    }

    async fn lock(
        &self,
        _: &Caller,
        key: &Key,
        _: Consistency,
    ) -> Result<Result<Option<LockView>, Refusal>, NodeError> {
        self.saw(Seen::Look(key.as_str().into()));
        Ok(Ok(Some(LockView {
            key: key.clone(),
            fencing_token: 42,
            expires_in_ms: 5_000,
            waiting: 2,
            fifo: true,
        })))
    }

    async fn locks(
        &self,
        _: &Caller,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
        _: Consistency,
    ) -> Result<Result<LocksPage, Refusal>, NodeError> {
        self.saw(Seen::Locks {
            prefix: prefix.into(),
            after: after.cloned(),
            limit,
        });
        Ok(Ok(LocksPage {
            locks: Vec::new(),
            next_after: after.cloned(),
        }))
    }

    fn status(&self) -> ClusterStatus {
        ClusterStatus {
            id: 1,
            role: Role::Leader,
            leader: Some(1),
            term: 3,
            members: Vec::new(),
            applied_index: 9,
            global_prefix: "Evermind".into(),
        }
    }

    fn is_ready(&self) -> bool {
        true
    }
}

impl Accounts for Backend {
    async fn licence_key(&self, key: KeyHash) -> Result<Option<Standing>, NodeError> {
        Ok((key == hash(LICENCE_KEY.as_bytes())).then_some(Standing::Active))
    }

    async fn create_licence(&self, create: CreateLicence) -> Result<Decision, NodeError> {
        let outcome = Outcome::LicenceCreated(LicenceId(7));
        self.decided(Seen::CreateLicence(create), outcome)
    }

    async fn revoke_licence(&self, _: LicenceId) -> Result<Decision, NodeError> {
        self.decided(Seen::Other, Outcome::Done)
    }

    async fn create_api_key(&self, _: KeyHash, _: KeyHash) -> Result<Decision, NodeError> {
        self.decided(Seen::Other, Outcome::ApiKeyCreated(KeyId(12)))
    }

    async fn delete_api_key(&self, _: KeyHash, _: KeyHash) -> Result<Decision, NodeError> {
        self.decided(Seen::Other, Outcome::Done)
    }

    async fn delete_api_key_by_id(&self, _: LicenceId, _: KeyId) -> Result<Decision, NodeError> {
        self.decided(Seen::Other, Outcome::Done)
    }

    async fn licences(
        &self,
        _: Option<LicenceId>,
        limit: usize,
    ) -> Result<Vec<LicenceView>, NodeError> {
        self.saw(Seen::Licences(limit));
        Ok(Vec::new())
    }

    async fn licence(
        &self,
        _: LicenceId,
    ) -> Result<Option<(LicenceView, Vec<ApiKeyView>)>, NodeError> {
        Ok(None)
    }
}
