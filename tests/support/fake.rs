//! An engine on a real ledger, with a fake provider, sink, clock and entropy source that
//! record their calls.
#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rekeyd::core::active_credential::{
    ActiveCredential, CredentialUsage, OwnSecrets, SecretOrigin,
};
use rekeyd::core::change::Change;
use rekeyd::core::expected_secret::ExpectedSecret;
use rekeyd::core::gate::RequestClass;
use rekeyd::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use rekeyd::core::policy::KeyPolicy;
use rekeyd::core::reported_time::{ReportedTime, ShownEnd};
use rekeyd::core::schedule::Schedule;
use rekeyd::core::scope::Scope;
use rekeyd::core::secret::{EndMatch, Secret};
use rekeyd::core::state::{CredentialMetadata, FileAccess, FileNote, LeftFile};
use rekeyd::engine::conditions::Conditions;
use rekeyd::engine::{Engine, ManagedKey, RunMode, Services};
use rekeyd::ledger::{Ledger, LedgerIdentity, LedgerOptions, WriterDriver, WriterLock};
use rekeyd::platform::clock::Clock;
use rekeyd::platform::entropy::{Entropy, EntropyError};
use rekeyd::provider::{
    CreatedCredential, Effect, ErrorKind, ListedCredential, Provider, ProviderError,
    ProviderResponse, RetryAdvice,
};
use rekeyd::sink::{
    Acceptance, BlockingInspection, DeliveryError, Destination, Drift, DriftKind, Payload, Sink,
    SinkError, SinkProblem, TargetContent, UnseenCause,
};
use tokio::sync::watch;

pub(crate) fn at() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

pub(crate) fn key() -> KeyName {
    KeyName::new("billing").unwrap()
}

pub(crate) fn sink_id() -> SinkId {
    SinkId {
        name: "file".to_owned(),
        target: "file:/x".to_owned(),
    }
}

/// Returns the id of the sink with this name, whose target follows from it.
pub(crate) fn sink_named(name: &str) -> SinkId {
    SinkId {
        name: name.to_owned(),
        target: format!("file:/{name}"),
    }
}

/// What an answer to a create says instead of the truth.
#[derive(Debug, Clone, Default)]
pub(crate) struct LyingAnswer {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) secret: Option<String>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    /// Whether the create makes nothing, and gives the label to the credential with `id`.
    pub(crate) is_upsert: bool,
    /// Whether the answer has no name.
    pub(crate) is_nameless: bool,
    /// Whether everything that shows the credential shows this time of creation.
    pub(crate) is_shown_alike: bool,
    /// Whether the answer is lost.
    pub(crate) is_lost: bool,
    /// Whether a search for a label shows the credential with `id` under it.
    pub(crate) is_found_by_label: bool,
}

/// How the provider changes the names that it is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum NameRule {
    #[default]
    Keep,
    Cut(usize),
    Lower,
    Prefix(&'static str),
}

impl NameRule {
    pub(crate) fn apply(self, name: &str) -> String {
        match self {
            Self::Keep => name.to_owned(),
            Self::Cut(length) => name.chars().take(length).collect(),
            Self::Lower => name.to_lowercase(),
            Self::Prefix(prefix) => format!("{prefix}{name}"),
        }
    }
}

/// What happens during a call.
type CallEvent = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct FakeWorld {
    now: Mutex<Option<Timestamp>>,
    calls: Mutex<Vec<String>>,
    /// The names of the live credentials, by id.
    live: Mutex<BTreeMap<String, String>>,
    /// When each credential was created, by id; without an entry at the start.
    created: Mutex<BTreeMap<String, Timestamp>>,
    entropy_counter: AtomicU64,
    /// The scopes of credentials that are not admin keys, by id.
    scopes: Mutex<BTreeMap<String, Scope>>,
    /// The error of every request to the provider.
    outage: Mutex<Option<ErrorKind>>,
    /// The error of every request of one kind.
    failing_calls: Mutex<Option<(&'static str, ErrorKind)>>,
    /// The names in a list, by id, instead of the live credentials.
    list_override: Mutex<Option<BTreeMap<String, String>>>,
    /// Whether fresh secrets are refused.
    refuses_secrets: AtomicBool,
    /// Whether every preflight fails.
    refuses_preflight: AtomicBool,
    /// What answers to creates say instead of the truth.
    lying_answer: Mutex<LyingAnswer>,
    /// The redacted value that the provider shows of each credential that rekeyd created.
    redacted_of_created: Mutex<Option<String>>,
    /// The keys that the targets of sinks hold, by the name of the sink.
    held_keys: Mutex<BTreeMap<String, String>>,
    /// How the provider changes the names that it is sent.
    name_rule: Mutex<NameRule>,
    /// Whether creates make nothing, whatever they answer.
    creates_nothing: AtomicBool,
    /// The secrets that this process knows.
    known_secrets: Mutex<ActiveCredential>,
    /// How often the target of a sink was inspected in a pass over the files.
    looks: AtomicU64,
    /// The error of every create.
    create_failure: Mutex<Option<(ErrorKind, Effect)>>,
    /// The id of the credential whose sink has drift.
    drifted_credential: Mutex<Option<String>>,
    /// The failure of every delivery.
    delivery_failure: Mutex<Option<Acceptance>>,
    /// The pause that every failed request and delivery asks for.
    requested_pause: Mutex<Option<Duration>>,
    /// Whether rekeyd uses each credential.
    usage: Mutex<CredentialUsage>,
    usage_version: AtomicU64,
    /// How often rekeyd began to authenticate with another admin key.
    admin_generation: AtomicU64,
    /// The call at which every credential comes into use.
    comes_into_use_at: Mutex<Option<String>>,
    /// The call at which the host is suspended, and for how long.
    suspend_at: Mutex<Option<(&'static str, Duration)>>,
    /// What happens during the call with this number, counted from 0.
    at_call: Mutex<Option<(usize, CallEvent)>>,
    /// How long the host was suspended.
    suspended_for: Mutex<Duration>,
    set_back_by: Mutex<Duration>,
    /// How far the provider's clock is ahead.
    provider_clock_ahead: Mutex<SignedDuration>,
    /// The fields of listed credentials with times that cannot be read.
    unreadable_times: Mutex<Vec<&'static str>>,
    /// The last use of each credential, by id.
    last_used: Mutex<BTreeMap<String, ReportedTime>>,
    /// The names of the sinks that reject every delivery.
    unavailable_sinks: Mutex<BTreeSet<String>>,
    /// The name of the sink that does not answer.
    hanging_sink: watch::Sender<Option<String>>,
    /// What the targets of sinks hold that can be inspected, by the names of the sinks.
    contents: Mutex<BTreeMap<String, Option<String>>>,
    /// The sinks whose targets cannot be read now, by name.
    unseen: Mutex<BTreeMap<String, UnseenCause>>,
    /// The redacted values that the provider shows, by id.
    redacted: Mutex<BTreeMap<String, String>>,
    /// When credentials expire, by id.
    ends: Mutex<BTreeMap<String, ShownEnd>>,
    /// How long each credential lives that has no other end, and was created here.
    life_of_created: Mutex<Option<Duration>>,
    /// Whether credentials are compared with what rekeyd works with, instead of `usage`.
    compares_usage: AtomicBool,
    /// A part of the ids of credentials that are shown without a name.
    nameless: Mutex<Option<String>>,
    /// What the ids contain of which a request about one of them answers 404.
    hidden: Mutex<Option<String>>,
    /// The id of the credential whose retrieval is not answered.
    held_retrieval: watch::Sender<Option<String>>,
}

impl FakeWorld {
    async fn wait_while_hanging(&self, sink: &SinkId) {
        let mut hanging = self.hanging_sink.subscribe();
        let answers = |hanging: &Option<String>| hanging.as_ref() != Some(&sink.name);
        hanging.wait_for(answers).await.unwrap();
    }

    fn redacted_of(&self, id: &str) -> Option<String> {
        let given = self.redacted.lock().unwrap().get(id).cloned();
        let of_created = || {
            let shown = self.redacted_of_created.lock().unwrap().clone();
            shown.filter(|_| id.starts_with("key_of_"))
        };
        given.or_else(of_created)
    }

    fn content_of(&self, sink: &SinkId) -> TargetContent {
        if let Some(cause) = self.unseen.lock().unwrap().get(&sink.name) {
            return TargetContent::Unreadable(*cause);
        }
        match self.contents.lock().unwrap().get(&sink.name) {
            None => TargetContent::Unknown,
            Some(None) => TargetContent::NoKey,
            Some(Some(content)) => TargetContent::from_text(content),
        }
    }

    fn record_call(&self, call: String) {
        let mut sleeps_at = self.suspend_at.lock().unwrap();
        if let Some((_, span)) = sleeps_at.take_if(|(at, _)| *at == call) {
            let awake = self.now() + span;
            *self.now.lock().unwrap() = Some(awake);
            *self.suspended_for.lock().unwrap() += span;
        }
        drop(sleeps_at);
        let mut comes_into_use_at = self.comes_into_use_at.lock().unwrap();
        if comes_into_use_at.take_if(|at| *at == call).is_some() {
            *self.usage.lock().unwrap() = CredentialUsage::InUse;
        }
        drop(comes_into_use_at);
        let mut calls = self.calls.lock().unwrap();
        let mut at_call = self.at_call.lock().unwrap();
        if let Some((_, event)) = at_call.take_if(|(number, _)| *number == calls.len()) {
            event();
        }
        calls.push(call);
    }

    fn respond<T>(&self, value: T) -> Result<ProviderResponse<T>, ProviderError> {
        let date = Some(self.now() + *self.provider_clock_ahead.lock().unwrap());
        Ok(ProviderResponse {
            value,
            server_time: date,
        })
    }

    /// Records a request, and fails during an outage.
    fn provider_call(&self, call: String) -> Result<(), ProviderError> {
        self.record_call(call.clone());
        let mut cause = *self.outage.lock().unwrap();
        if let Some((kind, with)) = *self.failing_calls.lock().unwrap()
            && call.starts_with(kind)
        {
            cause = Some(with);
        }
        let pause = *self.requested_pause.lock().unwrap();
        cause.map_or(Ok(()), |cause| {
            Err(ProviderError {
                retry: RetryAdvice::Later(pause),
                ..provider_error(call, cause)
            })
        })
    }

    fn is_hidden(&self, id: &CredentialId) -> bool {
        let hidden = self.hidden.lock().unwrap();
        let mut hidden = hidden.iter();
        hidden.any(|part| id.as_str().contains(part.as_str()))
    }

    fn credential(&self, id: &str) -> Option<ListedCredential> {
        let name = self.live.lock().unwrap().get(id)?.clone();
        Some(self.credential_named(id, name))
    }

    fn credential_named(&self, id: &str, name: String) -> ListedCredential {
        let end = self.ends.lock().unwrap().get(id).copied();
        let end = end.or_else(|| {
            let created_at = *self.created.lock().unwrap().get(id)?;
            let life = (*self.life_of_created.lock().unwrap())?;
            Some(ShownEnd::At(created_at + life))
        });
        let end = end.unwrap_or_default();
        ListedCredential {
            metadata: CredentialMetadata {
                created_at: Some(
                    self.created
                        .lock()
                        .unwrap()
                        .get(id)
                        .copied()
                        .unwrap_or_else(at),
                ),
                redacted_value: self.redacted_of(id),
                expires_at: match end {
                    ShownEnd::At(at) => Some(at),
                    ShownEnd::Never | ShownEnd::Unknown => None,
                },
                ..metadata(id)
            },
            name: Some(name),
            end,
            last_used: self
                .last_used
                .lock()
                .unwrap()
                .get(id)
                .copied()
                .unwrap_or_default(),
            unreadable_times: self.unreadable_times.lock().unwrap().clone(),
            owner: None,
        }
    }
}

fn provider_error(operation: String, cause: ErrorKind) -> ProviderError {
    let class = match operation.split(' ').next() {
        Some("create") => RequestClass::Create,
        Some("delete") => RequestClass::Delete,
        Some(_) | None => RequestClass::Read,
    };
    ProviderError {
        operation,
        effect: Effect::NotApplied,
        retry: RetryAdvice::Later(None),
        kind: cause,
        message: format!("{cause:?}"),
        class,
        code: None,
        request_id: None,
        server_time: None,
    }
}

fn metadata(id: &str) -> CredentialMetadata {
    CredentialMetadata {
        id: CredentialId::new(id.to_owned()),
        redacted_value: None,
        created_at: Some(at()),
        expires_at: None,
    }
}

impl Clock for FakeWorld {
    fn now(&self) -> Timestamp {
        self.now.lock().unwrap().unwrap_or_else(at)
    }

    /// Returns the time that a test has advanced, without suspensions.
    fn monotonic(&self) -> Duration {
        let wall = self.now() + *self.set_back_by.lock().unwrap();
        rekeyd::core::time::until(at(), wall) - *self.suspended_for.lock().unwrap()
    }
}

impl Entropy for FakeWorld {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        let number = self.entropy_counter.fetch_add(1, Ordering::SeqCst) + (0x80 << 56);
        let from = 8 - bytes.len();
        bytes.copy_from_slice(&number.to_be_bytes()[from..]);
        Ok(())
    }
}

#[async_trait]
impl Provider for FakeWorld {
    async fn create(
        &self,
        label: &Label,
        _: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
        self.provider_call("create".to_owned())?;
        if let Some((cause, outcome)) = *self.create_failure.lock().unwrap() {
            let pause = *self.requested_pause.lock().unwrap();
            return Err(ProviderError {
                effect: outcome,
                retry: RetryAdvice::Later(pause),
                ..provider_error("create".to_owned(), cause)
            });
        }
        let id = format!("key_of_{label}");
        let shown = self.name_rule.lock().unwrap().apply(label.as_str());
        let answer = self.lying_answer.lock().unwrap().clone();
        // A name that a living secret contains would be masked wherever it is shown.
        let reversed = || label.as_str().chars().rev().collect::<String>();
        let secret = answer
            .secret
            .unwrap_or_else(|| format!("sk-admin-{}", reversed()));
        let mut alive = self.live.lock().unwrap();
        if let (true, Some(id)) = (answer.is_upsert, &answer.id) {
            alive.insert(id.clone(), shown.clone());
        } else if !self.creates_nothing.load(Ordering::SeqCst) {
            alive.insert(id.clone(), shown.clone());
        }
        drop(alive);
        let created_at = self.now() + *self.provider_clock_ahead.lock().unwrap();
        let mut created = self.created.lock().unwrap();
        let shown_at = answer.created_at.filter(|_| answer.is_shown_alike);
        created
            .entry(id.clone())
            .or_insert(shown_at.unwrap_or(created_at));
        drop(created);
        if answer.is_lost {
            return Err(ProviderError {
                effect: Effect::Unknown,
                ..provider_error("create".to_owned(), ErrorKind::NoAnswer)
            });
        }
        let honest = CredentialMetadata {
            created_at: Some(created_at),
            ..metadata(answer.id.as_deref().unwrap_or(&id))
        };
        self.respond(CreatedCredential {
            metadata: CredentialMetadata {
                created_at: answer.created_at.or(honest.created_at),
                expires_at: answer.expires_at.or(honest.expires_at),
                ..honest
            },
            name: answer.name.or(Some(shown)).filter(|_| !answer.is_nameless),
            secret: Some(Secret::new(secret)),
            unreadable_times: Vec::new(),
        })
    }

    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError> {
        self.provider_call("check".to_owned())?;
        self.respond(())
    }

    fn usage(&self, id: &CredentialId, redacted_value: Option<&str>) -> CredentialUsage {
        if self.compares_usage.load(Ordering::SeqCst) {
            let known = self.known_secrets.lock().unwrap();
            return known.usage(id, redacted_value);
        }
        *self.usage.lock().unwrap()
    }

    fn record_created(
        &self,
        id: &CredentialId,
        secret: &Secret,
        redacted_value: Option<&str>,
    ) -> bool {
        let known = self.known_secrets.lock().unwrap();
        known.record_created(id, secret, redacted_value)
    }

    fn origin(&self, secret: &Secret) -> SecretOrigin {
        self.known_secrets.lock().unwrap().origin(secret)
    }

    fn record_refused(&self, secret: &Secret) {
        self.known_secrets.lock().unwrap().record_refused(secret);
    }

    fn compare_secret(
        &self,
        secret: &Secret,
        id: &CredentialId,
        redacted_value: Option<&str>,
    ) -> EndMatch {
        self.known_secrets
            .lock()
            .unwrap()
            .compare(secret, id, redacted_value)
    }

    fn own_secrets(&self) -> OwnSecrets {
        self.known_secrets.lock().unwrap().own_secrets()
    }

    fn record_newer(&self, id: &CredentialId, own: OwnSecrets) {
        self.known_secrets.lock().unwrap().record_newer(id, own);
    }

    fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret {
        self.known_secrets
            .lock()
            .unwrap()
            .expected_secret(credential)
    }

    fn own_credential_version(&self) -> u64 {
        self.usage_version.load(Ordering::SeqCst)
    }

    fn own_credential_generation(&self) -> u64 {
        self.admin_generation.load(Ordering::SeqCst)
    }

    fn distrust_redacted_values(&self) {}

    async fn list(
        &self,
        scope: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        self.provider_call("list".to_owned())?;
        let listed = self.list_override.lock().unwrap().clone();
        let listed = listed.unwrap_or_else(|| self.live.lock().unwrap().clone());
        let scopes = self.scopes.lock().unwrap().clone();
        let listed = listed.into_iter();
        self.respond(
            listed
                .filter(|(id, _)| scopes.get(id).unwrap_or(&Scope::AdminKeys) == scope)
                .map(|(id, name)| self.credential_named(&id, name))
                .collect(),
        )
    }

    async fn find(
        &self,
        _: &Scope,
        label: &Label,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        self.provider_call(format!("find {label}"))?;
        let ids: Vec<_> = self.live.lock().unwrap().keys().cloned().collect();
        let found = ids.iter().filter_map(|id| self.credential(id));
        let expected = |one: &ListedCredential| one.name.as_deref() == Some(label.as_str());
        let mut found: Vec<_> = found.filter(expected).collect();
        let lie = self.lying_answer.lock().unwrap().clone();
        if let (true, Some(id)) = (lie.is_found_by_label, &lie.id) {
            found.push(self.credential_named(id, label.as_str().to_owned()));
        }
        self.respond(found)
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        self.provider_call(format!("retrieve {id}"))?;
        let mut held = self.held_retrieval.subscribe();
        let is_answered = |held: &Option<String>| held.as_deref() != Some(id.as_str());
        held.wait_for(is_answered).await.unwrap();
        let nameless = self.nameless.lock().unwrap().clone();
        let is_nameless = nameless.is_some_and(|part| id.as_str().contains(&part));
        let shown = self.credential(id.as_str());
        let shown = shown.filter(|_| !self.is_hidden(id));
        self.respond(shown.map(|shown| ListedCredential {
            name: shown.name.clone().filter(|_| !is_nameless),
            ..shown
        }))
    }

    async fn verify(&self, _: &Secret) -> Result<ProviderResponse<()>, ProviderError> {
        self.provider_call("verify".to_owned())?;
        if self.refuses_secrets.load(Ordering::SeqCst) {
            return Err(provider_error(
                "verify".to_owned(),
                ErrorKind::CredentialRefused,
            ));
        }
        self.respond(())
    }

    async fn sees(&self, _: &Secret, id: &CredentialId) -> Result<bool, ProviderError> {
        Ok(self.retrieve(id).await?.value.is_some())
    }

    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError> {
        self.provider_call(format!("delete {id}"))?;
        if !self.is_hidden(id) {
            self.live.lock().unwrap().remove(id.as_str());
        }
        self.respond(())
    }
}

/// What identifies the files of sinks whose names begin with `noted`.
const NOTE: FileNote = FileNote {
    device: 1,
    inode: 1,
    size: 1,
    modified_at: 1,
    changed_at: 1,
};

/// Who can get the files of sinks.
pub(crate) const ACCESS: FileAccess = FileAccess {
    owner: 1,
    group: 1,
    mode: 0o640,
};

/// A sink that accepts every delivery unless it is unavailable.
struct FakeSink(Arc<FakeWorld>, SinkId);

#[async_trait]
impl Sink for FakeSink {
    /// Returns the destination: an endpoint for a sink whose name begins with `endpoint`.
    fn destination(&self) -> Destination {
        if self.1.name.starts_with("endpoint") {
            Destination::Endpoint {
                scheme: "https".to_owned(),
                host: self.1.name.clone(),
                port: 443,
            }
        } else {
            Destination::File
        }
    }

    fn id(&self) -> &SinkId {
        &self.1
    }

    async fn check(&self) -> Vec<SinkProblem> {
        Vec::new()
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        self.0.record_call("preflight".to_owned());
        if self.0.refuses_preflight.load(Ordering::SeqCst) {
            return Err(SinkProblem::host("read-only file system".to_owned()).into());
        }
        Ok(())
    }

    async fn check_drift(&self, expected: &ExpectedSecret) -> Option<Drift> {
        let lost = self.0.drifted_credential.lock().unwrap();
        if lost.as_deref() == Some(expected.credential().id.as_str()) {
            return Some(Drift {
                kind: DriftKind::Missing,
                message: "it is gone".to_owned(),
            });
        }
        let held = self.0.held_keys.lock().unwrap();
        let held = held.get(&self.1.name)?;
        let is_other = expected.compare(held) == EndMatch::Different;
        is_other.then(|| Drift {
            kind: DriftKind::OtherContent,
            message: "it holds another key".to_owned(),
        })
    }

    async fn inspect(&self) -> TargetContent {
        let held = self.0.held_keys.lock().unwrap();
        match held.get(&self.1.name) {
            Some(key) => TargetContent::from_text(key),
            None => self.0.content_of(&self.1),
        }
    }

    fn blocking_inspection(&self) -> Option<BlockingInspection> {
        let (world, sink) = (Arc::clone(&self.0), self.1.clone());
        Some(Box::new(move || {
            world.looks.fetch_add(1, Ordering::SeqCst);
            world.content_of(&sink)
        }))
    }

    async fn deliver_with_note(
        &self,
        payload: &Payload,
    ) -> Result<Option<LeftFile>, DeliveryError> {
        self.deliver(payload).await?;
        let is_noted = self.1.name.starts_with("noted");
        Ok(Some(LeftFile {
            note: is_noted.then_some(NOTE),
            access: Some(ACCESS),
        }))
    }

    /// Returns what the test says that the target holds, if it is a file with a note.
    async fn read_noted(&self, note: FileNote) -> TargetContent {
        if note == NOTE {
            self.0.content_of(&self.1)
        } else {
            TargetContent::Unknown
        }
    }

    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError> {
        self.0.record_call("deliver".to_owned());
        self.0.wait_while_hanging(&self.1).await;
        if self
            .0
            .unavailable_sinks
            .lock()
            .unwrap()
            .contains(&self.1.name)
        {
            return Err(DeliveryError::not_accepted("away".to_owned()));
        }
        match *self.0.delivery_failure.lock().unwrap() {
            None => {
                let mut contents = self.0.contents.lock().unwrap();
                if let Some(content) = contents.get_mut(&self.1.name) {
                    *content = Some(payload.secret.expose().to_owned());
                }
                Ok(())
            }
            Some(acceptance) => Err(DeliveryError {
                retry_after: *self.0.requested_pause.lock().unwrap(),
                ..DeliveryError::new(acceptance, format!("{acceptance:?}"))
            }),
        }
    }
}

fn ledger_options() -> LedgerOptions {
    LedgerOptions::new(LedgerIdentity {
        provider: "https://example.com/v1".to_owned(),
        organization: String::new(),
    })
}

pub(crate) struct Fakes {
    world: Arc<FakeWorld>,
    dir: tempfile::TempDir,
}

impl Fakes {
    /// Returns fakes with a provider that has these live credentials, by id and name.
    pub(crate) fn new(alive: &[(&str, &str)]) -> Self {
        let alive = alive
            .iter()
            .map(|(id, name)| ((*id).to_owned(), (*name).to_owned()));
        let world = FakeWorld {
            live: Mutex::new(alive.collect()),
            ..FakeWorld::default()
        };
        Self {
            world: Arc::new(world),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Returns an engine on a ledger with `changes` that was just reconciled.
    pub(crate) async fn engine(&self, changes: Vec<Change>, overlap: Duration) -> Engine {
        let managed = self.managed_key(key(), |policy| policy.overlap = overlap);
        self.write_ledger(vec![(key(), changes)]).await;
        self.open_engine(vec![managed], RunMode::Once).await
    }

    /// Writes a ledger with these changes of these keys.
    pub(crate) async fn write_ledger(&self, keys: Vec<(KeyName, Vec<Change>)>) {
        let ledger = self.open_ledger();
        for (key, changes) in keys {
            let before = ledger.key_state(&key).await.unwrap();
            ledger.record(&before, at(), &changes).await.unwrap();
        }
        ledger
            .record_reconciliation(&Scope::AdminKeys, at(), Vec::new())
            .await
            .unwrap();
    }

    pub(crate) fn ledger_path(&self) -> PathBuf {
        self.dir.path().join("l.db")
    }

    /// Opens the database, as only a test may.
    fn raw_ledger(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.ledger_path()).unwrap()
    }

    fn open_ledger(&self) -> Ledger {
        self.open_ledger_with(WriterDriver::Task)
    }

    pub(crate) fn open_ledger_with(&self, driver: WriterDriver) -> Ledger {
        Ledger::open_unlocked(&self.ledger_path(), &ledger_options(), at(), driver).unwrap()
    }

    /// Opens the ledger as a daemon does: with its lock, and a watch over its files.
    pub(crate) fn open_locked_ledger(&self) -> Ledger {
        let lock = WriterLock::acquire(&self.ledger_path(), "run").unwrap();
        Ledger::open(lock, &ledger_options(), at(), WriterDriver::Task).unwrap()
    }

    /// Returns a key that rotates once a month, with one sink.
    pub(crate) fn managed_key(
        &self,
        name: KeyName,
        adapt: impl FnOnce(&mut KeyPolicy),
    ) -> ManagedKey {
        let schedule = Schedule::parse("@monthly", TimeZone::UTC).unwrap();
        let mut policy = KeyPolicy {
            verify_interval: Duration::ZERO,
            ..KeyPolicy::new(schedule)
        };
        adapt(&mut policy);
        ManagedKey {
            name,
            scope: Scope::AdminKeys,
            policy: Arc::new(policy),
            sinks: vec![(Arc::new(FakeSink(Arc::clone(&self.world), sink_id())), true)],
        }
    }

    /// Returns a key that rotates by `schedule`, with these sinks and whether each is
    /// required.
    pub(crate) fn key_with(&self, schedule: &str, sinks: &[(&str, bool)]) -> ManagedKey {
        let mut managed = self.managed_key(key(), |policy| {
            let schedule = Schedule::parse(schedule, TimeZone::UTC).unwrap();
            policy.timetable = schedule.into();
            policy.overlap = Duration::from_secs(600);
            policy.max_creates_per_day = 1_000;
        });
        managed.sinks = sinks
            .iter()
            .map(|(name, required)| {
                let sink: Arc<dyn Sink> =
                    Arc::new(FakeSink(Arc::clone(&self.world), sink_named(name)));
                (sink, *required)
            })
            .collect();
        managed
    }

    /// Returns the services of one process.
    pub(crate) fn services(&self) -> Services {
        self.services_with(self.open_ledger())
    }

    /// Returns the services of one process with this ledger.
    pub(crate) fn services_with(&self, ledger: Ledger) -> Services {
        Services {
            provider: Arc::clone(&self.world) as Arc<dyn Provider>,
            ledger,
            clock: Arc::clone(&self.world) as Arc<dyn Clock>,
            entropy: Arc::clone(&self.world) as Arc<dyn Entropy>,
            max_in_flight: 1,
            reconcile_every: Duration::from_secs(1_000 * 86_400),
            conditions: Arc::new(Conditions::default()),
            observer: Arc::new(()),
            subscriptions: Arc::default(),
            find_zone: |name| TimeZone::get(name).ok(),
        }
    }

    pub(crate) async fn open_engine(&self, managed: Vec<ManagedKey>, course: RunMode) -> Engine {
        Engine::open(self.services(), managed, course)
            .await
            .unwrap()
    }

    /// Makes these sinks reject every delivery from now on, and no others.
    pub(crate) fn set_unavailable_sinks(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned());
        *self.world.unavailable_sinks.lock().unwrap() = names.collect();
    }

    /// Makes the target of a sink hold this from now on, so that it can be inspected.
    pub(crate) fn set_unseen(&self, sink: &str, cause: Option<UnseenCause>) {
        let mut unseen = self.world.unseen.lock().unwrap();
        match cause {
            Some(cause) => unseen.insert(sink.to_owned(), cause),
            None => unseen.remove(sink),
        };
    }

    pub(crate) fn set_content(&self, sink: &str, content: Option<&str>) {
        let content = content.map(str::to_owned);
        let mut contents = self.world.contents.lock().unwrap();
        contents.insert(sink.to_owned(), content);
    }

    /// Makes rekeyd work with a secret, and compare credentials with it.
    pub(crate) fn work_with(&self, secret: &str) {
        self.world.compares_usage.store(true, Ordering::SeqCst);
        self.set_own_secret(secret);
    }

    /// Makes the provider answer 404 about the credentials whose ids have this part, as if
    /// the caller might not see them; with none, ends that.
    pub(crate) fn hide_credentials(&self, part_of_id: Option<&str>) {
        *self.world.hidden.lock().unwrap() = part_of_id.map(str::to_owned);
    }

    /// Makes answers about the credentials whose ids have this part show no name.
    pub(crate) fn hide_names(&self, part_of_id: &str) {
        *self.world.nameless.lock().unwrap() = Some(part_of_id.to_owned());
    }

    /// Sets when a credential was created.
    pub(crate) fn set_created(&self, id: &str, at: Timestamp) {
        self.world.created.lock().unwrap().insert(id.to_owned(), at);
    }

    /// Makes the provider show how long credentials live that are created, or that it has
    /// no other end of.
    pub(crate) fn show_life(&self, life: Duration) {
        *self.world.life_of_created.lock().unwrap() = Some(life);
    }

    /// Makes the provider show this end of a credential.
    pub(crate) fn show_end(&self, id: &str, end: ShownEnd) {
        let mut ends = self.world.ends.lock().unwrap();
        ends.insert(id.to_owned(), end);
    }

    /// Makes the provider show that a credential expires.
    pub(crate) fn set_end(&self, id: &str, at: Timestamp) {
        self.show_end(id, ShownEnd::At(at));
    }

    /// Makes the provider show this redacted value of a credential.
    pub(crate) fn set_redacted(&self, id: &str, value: &str) {
        let mut redacted = self.world.redacted.lock().unwrap();
        redacted.insert(id.to_owned(), value.to_owned());
    }

    /// Makes deliveries to this sink hang from now on; with none, ends the hang.
    pub(crate) fn hang_deliveries(&self, sink: Option<&str>) {
        let sink = sink.map(str::to_owned);
        self.world.hanging_sink.send_replace(sink);
    }

    /// Leaves retrievals of this credential unanswered from now on; with none, answers
    /// all of them.
    pub(crate) fn hold_retrieval(&self, id: Option<&str>) {
        let id = id.map(str::to_owned);
        self.world.held_retrieval.send_replace(id);
    }

    /// Returns the result of a query of the ledger, one text for each row.
    pub(crate) fn query_rows(&self, sql: &str) -> Vec<String> {
        let ledger = self.raw_ledger();
        let mut statement = ledger.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Returns the number of a sequence among all rotations, from 1.
    pub(crate) fn place_of(&self, sequence: u64) -> usize {
        let sequences =
            self.query_rows("SELECT CAST(sequence AS TEXT) FROM rotation ORDER BY sequence");
        let place = sequences
            .iter()
            .position(|one| *one == sequence.to_string());
        place.map_or(0, |place| place + 1)
    }

    /// Executes `sql` on the ledger, as only a test may.
    pub(crate) fn execute_sql(&self, sql: &str) {
        let ledger = self.raw_ledger();
        ledger.execute_batch(sql).unwrap();
    }

    /// Drives the engine for `span`, and advances the clock whenever the engine is idle.
    pub(crate) async fn run_for(&self, engine: &mut Engine, span: Duration) {
        let end = self.world.now() + span;
        loop {
            engine.start_due();
            if engine.process_completions().await {
                continue;
            }
            match engine.next_at() {
                Some(next) if next <= end => {
                    let now = self.world.now();
                    *self.world.now.lock().unwrap() = Some(next.max(now));
                }
                Some(_) | None => break,
            }
        }
        *self.world.now.lock().unwrap() = Some(end);
    }

    /// Drives the engine until a condition holds, and advances the clock whenever it is
    /// idle.
    pub(crate) async fn run_until(&self, engine: &mut Engine, over: impl Fn() -> bool) {
        while !over() {
            engine.start_due();
            if !engine.process_completions().await {
                let next = engine.next_at().expect("something to do");
                let now = self.world.now();
                *self.world.now.lock().unwrap() = Some(next.max(now));
            }
        }
        engine.stop().await;
    }

    /// Makes every request to the provider fail; with none, ends the outage.
    pub(crate) fn fail_provider(&self, cause: Option<ErrorKind>) {
        *self.world.outage.lock().unwrap() = cause;
    }

    /// Makes every request of this kind fail; with none, ends the failures.
    pub(crate) fn fail_calls(&self, kind: Option<(&'static str, ErrorKind)>) {
        *self.world.failing_calls.lock().unwrap() = kind;
    }

    /// Moves a credential to the list of another scope.
    pub(crate) fn set_scope(&self, id: &str, scope: &Scope) {
        let mut scopes = self.world.scopes.lock().unwrap();
        scopes.insert(id.to_owned(), scope.clone());
    }

    /// Makes lists show the live credentials again.
    pub(crate) fn restore_list(&self) {
        *self.world.list_override.lock().unwrap() = None;
    }

    /// Makes lists show these credentials, by id and name.
    pub(crate) fn override_list(&self, listed: &[(&str, &str)]) {
        let listed = listed
            .iter()
            .map(|(id, name)| ((*id).to_owned(), (*name).to_owned()));
        *self.world.list_override.lock().unwrap() = Some(listed.collect());
    }

    /// Makes every create fail; with none, ends the failures.
    pub(crate) fn fail_creates(&self, with: Option<(ErrorKind, Effect)>) {
        *self.world.create_failure.lock().unwrap() = with;
    }

    /// Makes every failed request and delivery ask for a pause.
    pub(crate) fn request_pause(&self, pause: Option<Duration>) {
        *self.world.requested_pause.lock().unwrap() = pause;
    }

    /// Makes every answer to a create say this.
    pub(crate) fn lie_in_creates(&self, answer: LyingAnswer) {
        *self.world.lying_answer.lock().unwrap() = answer;
    }

    /// Makes the provider change the names that it is sent.
    pub(crate) fn change_names(&self, rule: NameRule) {
        *self.world.name_rule.lock().unwrap() = rule;
    }

    /// Sets whether creates make nothing, whatever they answer.
    pub(crate) fn create_nothing(&self, creates_nothing: bool) {
        let flag = &self.world.creates_nothing;
        flag.store(creates_nothing, Ordering::SeqCst);
    }

    /// Makes lists show this redacted value of each credential that rekeyd created.
    pub(crate) fn show_redacted(&self, value: &str) {
        *self.world.redacted_of_created.lock().unwrap() = Some(value.to_owned());
    }

    /// Sets the key that the target of a sink holds.
    pub(crate) fn hold_key(&self, sink: &str, held: &str) {
        let mut keys = self.world.held_keys.lock().unwrap();
        keys.insert(sink.to_owned(), held.to_owned());
    }

    /// Makes this the secret that rekeyd authenticates with.
    pub(crate) fn set_own_secret(&self, secret: &str) {
        let secret = Secret::new(secret.to_owned());
        self.world.known_secrets.lock().unwrap().set(secret);
    }

    /// Forgets the secrets that this process knows, as a restart does.
    pub(crate) fn forget_secrets(&self) {
        *self.world.known_secrets.lock().unwrap() = ActiveCredential::new();
    }

    /// Returns how often the target of a sink was inspected in a pass over the files, since
    /// the last call.
    pub(crate) fn take_looks(&self) -> u64 {
        self.world.looks.swap(0, Ordering::SeqCst)
    }

    /// Makes every delivery fail; with none, ends the failures.
    pub(crate) fn fail_deliveries(&self, with: Option<Acceptance>) {
        *self.world.delivery_failure.lock().unwrap() = with;
    }

    /// Makes the sink of this credential have drift.
    pub(crate) fn set_drifted(&self, id: &str) {
        *self.world.drifted_credential.lock().unwrap() = Some(id.to_owned());
    }

    /// Sets whether every preflight fails.
    pub(crate) fn refuse_preflight(&self, refuses: bool) {
        self.world
            .refuses_preflight
            .store(refuses, Ordering::SeqCst);
    }

    /// Sets whether fresh secrets are refused.
    pub(crate) fn refuse_secrets(&self, refuses: bool) {
        self.world.refuses_secrets.store(refuses, Ordering::SeqCst);
    }

    /// Makes every credential come into use at this call.
    pub(crate) fn take_into_use_at(&self, call: &str) {
        *self.world.comes_into_use_at.lock().unwrap() = Some(call.to_owned());
    }

    /// Sets whether rekeyd uses each credential.
    pub(crate) fn set_usage(&self, usage: CredentialUsage) {
        *self.world.usage.lock().unwrap() = usage;
        self.world.usage_version.fetch_add(1, Ordering::SeqCst);
    }

    /// Makes rekeyd authenticate with another admin key from now on.
    pub(crate) fn replace_admin_key(&self) {
        self.world.admin_generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the details of the recorded events of one kind, newest last.
    pub(crate) fn journal_details(&self, event: &str) -> Vec<String> {
        let ledger = self.raw_ledger();
        let mut rows = ledger
            .prepare("SELECT detail FROM events WHERE event = ?1 ORDER BY seq")
            .unwrap();
        let rows = rows.query_map([event], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Sets how far the provider's clock is ahead.
    pub(crate) fn set_provider_clock_ahead(&self, by: Duration) {
        *self.world.provider_clock_ahead.lock().unwrap() = by.try_into().unwrap();
    }

    /// Sets how far the provider's clock is behind.
    pub(crate) fn set_provider_clock_behind(&self, by: Duration) {
        let by: SignedDuration = by.try_into().unwrap();
        *self.world.provider_clock_ahead.lock().unwrap() = -by;
    }

    /// Records a use of a credential.
    pub(crate) fn mark_used(&self, id: &str) {
        self.set_last_use(id, ReportedTime::At(self.world.now()));
    }

    /// Makes lists show times in these fields that cannot be read.
    pub(crate) fn show_unreadable_times(&self, fields: &[&'static str]) {
        *self.world.unreadable_times.lock().unwrap() = fields.to_vec();
    }

    /// Sets the last use that the provider reports of a credential.
    pub(crate) fn set_last_use(&self, id: &str, last_use: ReportedTime) {
        let mut last_used = self.world.last_used.lock().unwrap();
        last_used.insert(id.to_owned(), last_use);
    }

    /// Adds a live credential.
    pub(crate) fn add_credential(&self, id: &str, name: &str) {
        let now = self.world.now();
        self.world
            .created
            .lock()
            .unwrap()
            .insert(id.to_owned(), now);
        let mut alive = self.world.live.lock().unwrap();
        alive.insert(id.to_owned(), name.to_owned());
    }

    /// Removes a live credential.
    pub(crate) fn remove_credential(&self, id: &str) {
        self.world.live.lock().unwrap().remove(id);
    }

    /// Advances the clock without driving the engine.
    pub(crate) fn advance_clock(&self, span: Duration) {
        *self.world.now.lock().unwrap() = Some(self.now() + span);
    }

    /// Sets the wall clock back; monotonic time continues.
    pub(crate) fn set_clock_back(&self, span: Duration) {
        let now = self.now() - span;
        *self.world.now.lock().unwrap() = Some(now);
        *self.world.set_back_by.lock().unwrap() += span;
    }

    /// Suspends the host during the next such call.
    pub(crate) fn suspend_at(&self, call: &'static str, span: Duration) {
        *self.world.suspend_at.lock().unwrap() = Some((call, span));
    }

    /// Has something happen during the call with this number, counted from the last
    /// [`Fakes::take_calls`].
    pub(crate) fn act_at_call(&self, number: usize, event: impl FnOnce() + Send + 'static) {
        *self.world.at_call.lock().unwrap() = Some((number, Box::new(event)));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Returns the calls since the last call of this function.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.world.calls.lock().unwrap())
    }

    /// Drives the engine until `count` calls were made, and returns the first of them.
    pub(crate) async fn first_calls(&self, engine: &mut Engine, count: usize) -> Vec<String> {
        while self.world.calls.lock().unwrap().len() < count {
            engine.start_due();
            if !engine.process_completions().await {
                let next = engine.next_at().expect("something to do");
                let now = self.world.now();
                *self.world.now.lock().unwrap() = Some(next.max(now));
            }
        }
        while engine.process_completions().await {}
        let calls = self.world.calls.lock().unwrap();
        calls[..count].to_vec()
    }

    /// Drives the engine until `count` calls were made, some of which may be unanswered.
    pub(crate) async fn first_started_calls(&self, engine: &mut Engine, count: usize) {
        while self.world.calls.lock().unwrap().len() < count {
            engine.start_due();
            tokio::task::yield_now().await;
            if engine.active_tasks() > 0 {
                let completed = engine.process_completions();
                let _ = tokio::time::timeout(Duration::ZERO, completed).await;
            } else {
                let next = engine.next_at().expect("something to do");
                let now = self.world.now();
                *self.world.now.lock().unwrap() = Some(next.max(now));
            }
        }
    }

    pub(crate) fn phase_of(&self, rotation: &RotationId) -> String {
        let ledger = self.raw_ledger();
        ledger
            .query_row(
                "SELECT phase FROM history WHERE rotation = ?1",
                [rotation.as_str()],
                |row| row.get(0),
            )
            .unwrap()
    }

    /// Returns the ids of the live credentials.
    pub(crate) fn live_ids(&self) -> Vec<String> {
        self.world.live.lock().unwrap().keys().cloned().collect()
    }
}
