//! A node that answers from a script.

use std::future::pending;
use std::sync::{Arc, Mutex};

use evermind_api::{Accounts, Locks, PendingAcquire};
use evermind_lock::command::{CreateLicence, KeyHash, KeyId, LicenceId};
use evermind_lock::licence::{ApiKeyView, LicenceView, Period, Standing, Usage};
use evermind_lock::names::{IdentityId, Key, LicenceName};
use evermind_lock::outcome::{Decision, Granted, Outcome, Refusal};
use evermind_lock::view::{LockView, LocksPage};
use evermind_raft::api::{
    AcquireRequest, Caller, ClusterStatus, Consistency, ExtendRequest, MemberStatus, NodeError,
    ReleaseRequest, Role,
};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// The key that opens.
pub(crate) const API_KEY: &str = "evk_right";
/// The licence key that is known.
pub(crate) const LICENCE_KEY: &str = "evl_right";
/// A key that no node can look up right now.
pub(crate) const UNDECIDED_KEY: &str = "evk_undecided";

/// What an operation comes to.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Granted, under the asked uuid.
    Grant,
    Outcome(Outcome),
    Inability(NodeError),
    /// Never.
    Wait,
}

/// What became of acquires.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) begun: usize,
    pub(crate) handed_over: usize,
    pub(crate) abandoned: usize,
}

#[derive(Clone)]
pub(crate) struct Fake(Arc<Inner>);

struct Inner {
    answer: watch::Sender<Answer>,
    ends: watch::Sender<Ends>,
    acquires: Mutex<Vec<AcquireRequest>>,
    extends: Mutex<Vec<ExtendRequest>>,
    releases: Mutex<Vec<ReleaseRequest>>,
    looks: Mutex<Vec<String>>,
    commands: Mutex<Vec<String>>,
    standing: watch::Sender<Standing>,
}

impl Fake {
    pub(crate) fn new(answer: Answer) -> Self {
        Self(Arc::new(Inner {
            answer: watch::channel(answer).0,
            ends: watch::channel(Ends::default()).0,
            acquires: Mutex::default(),
            extends: Mutex::default(),
            releases: Mutex::default(),
            looks: Mutex::default(),
            commands: Mutex::default(),
            standing: watch::channel(Standing::Active).0,
        }))
    }

    pub(crate) fn answer(&self, answer: Answer) {
        self.0.answer.send_replace(answer);
    }

    pub(crate) fn ends(&self) -> Ends {
        *self.0.ends.borrow()
    }

    /// Waits until `reached`.
    pub(crate) async fn until(&self, reached: impl FnMut(&Ends) -> bool) {
        self.0.ends.subscribe().wait_for(reached).await.unwrap();
    }

    pub(crate) fn acquires(&self) -> Vec<AcquireRequest> {
        self.0.acquires.lock().unwrap().clone()
    }

    pub(crate) fn extends(&self) -> Vec<ExtendRequest> {
        self.0.extends.lock().unwrap().clone()
    }

    pub(crate) fn releases(&self) -> Vec<ReleaseRequest> {
        self.0.releases.lock().unwrap().clone()
    }

    pub(crate) fn looks(&self) -> Vec<String> {
        self.0.looks.lock().unwrap().clone()
    }

    async fn decide(&self, grant: impl FnOnce() -> Outcome) -> Result<Decision, NodeError> {
        let mut answers = self.0.answer.subscribe();
        let answer = answers
            .wait_for(|answer| !matches!(answer, Answer::Wait))
            .await;
        let answer = answer.unwrap().clone();
        match answer {
            Answer::Grant => Ok(Decision {
                log_index: 7,
                outcome: grant(),
            }),
            Answer::Outcome(outcome) => Ok(Decision {
                log_index: 7,
                outcome,
            }),
            Answer::Inability(error) => Err(error),
            Answer::Wait => pending().await,
        }
    }

    /// What was asked of licences and API keys.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.0.commands.lock().unwrap().clone()
    }

    /// How every licence stands from now on.
    pub(crate) fn stands(&self, standing: Standing) {
        self.0.standing.send_replace(standing);
    }

    fn standing(&self) -> Standing {
        *self.0.standing.borrow()
    }

    /// A read, or the refusal that the table would answer it with.
    fn admit<T>(&self, read: T) -> Result<T, Refusal> {
        match &*self.0.answer.borrow() {
            Answer::Outcome(Outcome::Refused(refusal)) => Err(refusal.clone()),
            _ => Ok(read),
        }
    }

    async fn command(&self, what: String, outcome: Outcome) -> Result<Decision, NodeError> {
        self.0.commands.lock().unwrap().push(what);
        self.decide(|| outcome).await
    }

    fn looked(&self, what: String) -> Result<(), NodeError> {
        self.0.looks.lock().unwrap().push(what);
        match &*self.0.answer.borrow() {
            Answer::Inability(error) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

pub(crate) struct FakeAcquire {
    fake: Fake,
    request: AcquireRequest,
    handed_over: bool,
}

impl PendingAcquire for FakeAcquire {
    async fn decision(&mut self) -> Result<Decision, NodeError> {
        let holder = self.request.holder.clone();
        let expires_in_ms = self.request.lease_ms;
        self.fake
            .decide(|| {
                Outcome::Granted(Granted {
                    holder,
                    fencing_token: 42,
                    expires_in_ms,
                    waited_ms: 0,
                    attempts: 1,
                })
            })
            .await
    }

    fn handed_over(mut self) {
        self.handed_over = true;
    }
}

impl Drop for FakeAcquire {
    fn drop(&mut self) {
        self.fake.0.ends.send_modify(|ends| {
            if self.handed_over {
                ends.handed_over += 1;
            } else {
                ends.abandoned += 1;
            }
        });
    }
}

impl Locks for Fake {
    type Pending = FakeAcquire;

    async fn authenticate(&self, hash: KeyHash) -> Result<Option<Caller>, NodeError> {
        if hash == KeyHash(Sha256::digest(UNDECIDED_KEY).into()) {
            return Err(NodeError::NoLeader {
                retry_after: std::time::Duration::from_millis(1_200),
            });
        }
        let right = hash == KeyHash(Sha256::digest(API_KEY).into());
        let identity = IdentityId::new("tests").unwrap();
        Ok(right.then_some(Caller {
            key: KeyId(1),
            licence: LicenceId(1),
            identity,
            standing: self.standing(),
        }))
    }

    fn acquire(&self, _: &Caller, request: AcquireRequest) -> FakeAcquire {
        self.0.acquires.lock().unwrap().push(request.clone());
        self.0.ends.send_modify(|ends| ends.begun += 1);
        FakeAcquire {
            fake: self.clone(),
            request,
            handed_over: false,
        }
    }

    async fn extend(&self, _: &Caller, request: ExtendRequest) -> Result<Decision, NodeError> {
        self.0.extends.lock().unwrap().push(request);
        self.decide(|| Outcome::Extended {
            fencing_token: 42,
            expires_in_ms: 7_000,
        })
        .await
    }

    async fn release(&self, _: &Caller, request: ReleaseRequest) -> Result<Decision, NodeError> {
        self.0.releases.lock().unwrap().push(request);
        self.decide(|| Outcome::Released).await
    }

    async fn lock(
        &self,
        _: &Caller,
        key: &Key,
        consistency: Consistency,
    ) -> Result<Result<Option<LockView>, Refusal>, NodeError> {
        self.looked(format!("lock {key} {consistency:?}"))?;
        Ok(self.admit((key.as_str() != "free").then(|| view(key.clone()))))
    }

    async fn locks(
        &self,
        _: &Caller,
        prefix: &str,
        after: Option<&Key>,
        limit: usize,
        consistency: Consistency,
    ) -> Result<Result<LocksPage, Refusal>, NodeError> {
        let after = after.map_or("-", Key::as_str);
        self.looked(format!("locks {prefix} {after} {limit} {consistency:?}"))?;
        let key = Key::new("a/b").unwrap();
        Ok(self.admit(LocksPage {
            locks: vec![view(key.clone())],
            next_after: Some(key),
        }))
    }

    fn status(&self) -> ClusterStatus {
        ClusterStatus {
            id: 1,
            role: Role::Leader,
            leader: Some(1),
            term: 3,
            members: vec![MemberStatus {
                id: 1,
                http: "http://127.0.0.1:1".into(),
                peer: "127.0.0.1:2".into(),
                voter: true,
            }],
            applied_index: 9,
            global_prefix: "Evermind".into(),
        }
    }

    fn is_ready(&self) -> bool {
        !matches!(&*self.0.answer.borrow(), Answer::Inability(_))
    }
}

impl Accounts for Fake {
    async fn licence_key(&self, hash: KeyHash) -> Result<Option<Standing>, NodeError> {
        let right = hash == KeyHash(Sha256::digest(LICENCE_KEY).into());
        Ok(right.then_some(self.standing()))
    }

    async fn create_licence(&self, create: CreateLicence) -> Result<Decision, NodeError> {
        let CreateLicence {
            name,
            identity,
            limit,
            period,
            expires_ms,
            ..
        } = create;
        let what = format!("create licence {name} {identity} {limit:?} {period:?} {expires_ms:?}");
        self.command(what, Outcome::LicenceCreated(LicenceId(7)))
            .await
    }

    async fn revoke_licence(&self, id: LicenceId) -> Result<Decision, NodeError> {
        self.command(format!("revoke {}", id.0), Outcome::Done)
            .await
    }

    async fn create_api_key(&self, _: KeyHash, _: KeyHash) -> Result<Decision, NodeError> {
        self.command("create key".into(), Outcome::ApiKeyCreated(KeyId(12)))
            .await
    }

    async fn delete_api_key(&self, _: KeyHash, _: KeyHash) -> Result<Decision, NodeError> {
        self.command("delete key".into(), Outcome::Done).await
    }

    async fn delete_api_key_by_id(
        &self,
        licence: LicenceId,
        key: KeyId,
    ) -> Result<Decision, NodeError> {
        let what = format!("delete key {} of {}", key.0, licence.0);
        self.command(what, Outcome::Done).await
    }

    async fn licences(
        &self,
        after: Option<LicenceId>,
        limit: usize,
    ) -> Result<Vec<LicenceView>, NodeError> {
        self.looked(format!("licences {after:?} {limit}"))?;
        let first = after.map_or(0, |id| id.0) + 1;
        let views = (first..=5).map(|number| licence(LicenceId(number)));
        Ok(views.take(limit).collect())
    }

    async fn licence(
        &self,
        id: LicenceId,
    ) -> Result<Option<(LicenceView, Vec<ApiKeyView>)>, NodeError> {
        self.looked(format!("licence {}", id.0))?;
        let key = ApiKeyView {
            id: KeyId(12),
            created_ms: 0,
            used_ms: Some(86_400_000),
        };
        Ok((id.0 <= 5).then(|| (licence(id), vec![key])))
    }
}

fn licence(id: LicenceId) -> LicenceView {
    LicenceView {
        id,
        name: LicenceName::new("acme team").unwrap(),
        identity: IdentityId::new("acme").unwrap(),
        limit: Some(1_000),
        period: Period::Month,
        expires_ms: None,
        created_ms: 0,
        revoked_ms: None,
        standing: Standing::Active,
        is_built_in: false,
        usage: Usage {
            start_ms: 0,
            end_ms: Some(31 * 86_400_000),
            used: 310,
            past: Vec::new(),
        },
        wall_ms: 10 * 86_400_000,
        api_keys: 1,
    }
}

fn view(key: Key) -> LockView {
    LockView {
        key,
        fencing_token: 42,
        expires_in_ms: 5_000,
        waiting: 2,
        fifo: true,
    }
}
