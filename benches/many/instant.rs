//! A provider and a sink that respond at once, with a clock that is offset from
//! the host's.
#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rekeyd::config::settings::Settings;
use rekeyd::core::active_credential::{CredentialUsage, SecretOrigin};
use rekeyd::core::expected_secret::ExpectedSecret;
use rekeyd::core::ids::{CredentialId, Label, SinkId};
use rekeyd::core::reported_time::{ReportedTime, ShownEnd};
use rekeyd::core::scope::Scope;
use rekeyd::core::secret::{EndMatch, Secret};
use rekeyd::core::state::CredentialMetadata;
use rekeyd::core::time;
use rekeyd::engine::conditions::Conditions;
use rekeyd::engine::{ManagedKey, Services};
use rekeyd::ledger::Ledger;
use rekeyd::platform::clock::{Clock, SystemClock};
use rekeyd::platform::entropy::{Entropy, SystemEntropy};
use rekeyd::platform::zones;
use rekeyd::provider::{
    CreatedCredential, ListedCredential, Provider, ProviderError, ProviderResponse,
};
use rekeyd::sink::{DeliveryError, Destination, Payload, Sink, SinkError, SinkProblem};

/// The provider, and the clock of everything in the benchmark.
pub(crate) struct InstantProvider {
    clock_offset: SignedDuration,
    /// The skipped time in nanoseconds.
    skipped: AtomicU64,
    live: Mutex<BTreeMap<String, ListedCredential>>,
    created: AtomicUsize,
}

impl InstantProvider {
    /// Returns a provider whose clock shows `now`.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            clock_offset: now.duration_since(SystemClock.now()),
            skipped: AtomicU64::new(0),
            live: Mutex::default(),
            created: AtomicUsize::new(0),
        }
    }

    /// Creates a credential, and returns its id.
    pub(crate) fn create_credential(&self, label: &Label, at: Timestamp) -> String {
        let id = format!("key_{label}");
        let credential = ListedCredential {
            metadata: CredentialMetadata {
                id: CredentialId::new(id.clone()),
                redacted_value: None,
                created_at: Some(time::whole_seconds(at)),
                expires_at: None,
            },
            name: Some(label.to_string()),
            end: ShownEnd::Unknown,
            last_used: ReportedTime::None,
            unreadable_times: Vec::new(),
            owner: None,
        };
        self.with_live(|live| live.insert(id.clone(), credential));
        self.created.fetch_add(1, Ordering::Relaxed);
        id
    }

    /// Advances both clocks at once.
    pub(crate) fn skip(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap();
        self.skipped.fetch_add(nanos, Ordering::Relaxed);
    }

    fn skipped(&self) -> Duration {
        Duration::from_nanos(self.skipped.load(Ordering::Relaxed))
    }

    /// Returns the number of credentials ever created.
    pub(crate) fn created_count(&self) -> usize {
        self.created.load(Ordering::Relaxed)
    }

    fn with_live<T>(&self, work: impl FnOnce(&mut BTreeMap<String, ListedCredential>) -> T) -> T {
        work(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn respond<T>(&self, value: T) -> Result<ProviderResponse<T>, ProviderError> {
        let server_time = Some(self.now());
        Ok(ProviderResponse { value, server_time })
    }
}

impl Clock for InstantProvider {
    fn now(&self) -> Timestamp {
        time::after(SystemClock.now() + self.clock_offset, self.skipped())
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic() + self.skipped()
    }
}

#[async_trait]
impl Provider for InstantProvider {
    async fn create(
        &self,
        label: &Label,
        _: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
        let id = self.create_credential(label, self.now());
        let metadata = self.with_live(|live| live[&id].metadata.clone());
        let secret = Some(Secret::new(format!("sk-admin-{label}")));
        self.respond(CreatedCredential {
            metadata,
            name: Some(label.to_string()),
            secret,
            unreadable_times: Vec::new(),
        })
    }

    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError> {
        self.respond(())
    }

    fn usage(&self, _: &CredentialId, _: Option<&str>) -> CredentialUsage {
        CredentialUsage::Unused
    }

    fn record_created(&self, _: &CredentialId, _: &Secret, _: Option<&str>) -> bool {
        false
    }

    fn origin(&self, _: &Secret) -> SecretOrigin {
        SecretOrigin::Unknown
    }

    fn record_refused(&self, _: &Secret) {}

    fn compare_secret(&self, _: &Secret, _: &CredentialId, _: Option<&str>) -> EndMatch {
        EndMatch::Unknown
    }

    fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret {
        ExpectedSecret::from_metadata(credential.clone())
    }

    fn distrust_redacted_values(&self) {}

    async fn list(
        &self,
        _: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        self.respond(self.with_live(|live| live.values().cloned().collect()))
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        self.respond(self.with_live(|live| live.get(id.as_str()).cloned()))
    }

    async fn verify(&self, _: &Secret) -> Result<ProviderResponse<()>, ProviderError> {
        self.respond(())
    }

    async fn sees(&self, _: &Secret, id: &CredentialId) -> Result<bool, ProviderError> {
        Ok(self.retrieve(id).await?.value.is_some())
    }

    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError> {
        self.with_live(|live| live.remove(id.as_str()));
        self.respond(())
    }
}

/// A sink that accepts everything.
struct AcceptingSink(SinkId);

#[async_trait]
impl Sink for AcceptingSink {
    fn destination(&self) -> Destination {
        Destination::File
    }

    fn id(&self) -> &SinkId {
        &self.0
    }

    async fn check(&self) -> Vec<SinkProblem> {
        Vec::new()
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn deliver(&self, _: &Payload) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// Returns the services of an engine with this provider.
pub(crate) fn services(
    provider: &Arc<InstantProvider>,
    settings: &Settings,
    ledger: Ledger,
) -> Services {
    Services {
        provider: Arc::clone(provider) as Arc<dyn Provider>,
        ledger,
        clock: Arc::clone(provider) as Arc<dyn Clock>,
        entropy: Arc::new(SystemEntropy::new()) as Arc<dyn Entropy>,
        max_in_flight: settings.provider.max_in_flight,
        reconcile_every: settings.provider.reconcile_every,
        conditions: Arc::new(Conditions::default()),
        observer: Arc::new(()),
        subscriptions: Arc::default(),
        find_zone: zones::find,
    }
}

/// Returns the keys with sinks that accept everything.
pub(crate) fn managed_keys(settings: &Settings) -> Vec<ManagedKey> {
    let keys = settings.keys.iter().map(|key| ManagedKey {
        name: key.name.clone(),
        scope: key.scope.clone(),
        policy: key.policy.clone(),
        sinks: vec![(Arc::new(AcceptingSink(key.sinks[0].id.clone())), true)],
    });
    keys.collect()
}
