//! A provider and a sink that answer at once, under a clock that is somewhere
//! else than the host's.
#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rekeyd::core::names::{CredentialId, Label, SinkId};
use rekeyd::core::record::CredentialFacts;
use rekeyd::core::secret::Secret;
use rekeyd::core::settings::Settings;
use rekeyd::core::time;
use rekeyd::engine::chance::{Chance, HostChance};
use rekeyd::engine::clock::{Clock, HostClock};
use rekeyd::engine::condition::Conditions;
use rekeyd::engine::{ManagedKey, Parts};
use rekeyd::host::zones;
use rekeyd::ledger::Ledger;
use rekeyd::provider::{Answer, Credential, NewCredential, Provider, ProviderError};
use rekeyd::sink::{DeliveryError, Parcel, Sink};

/// The provider; also the clock that everything goes by.
pub(crate) struct Instantly {
    ahead: SignedDuration,
    /// What was skipped, in nanoseconds.
    skipped: AtomicU64,
    alive: Mutex<BTreeMap<String, Credential>>,
    made: AtomicUsize,
}

impl Instantly {
    /// A provider whose clock says `now`.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            ahead: now.duration_since(HostClock.now()),
            skipped: AtomicU64::new(0),
            alive: Mutex::default(),
            made: AtomicUsize::new(0),
        }
    }

    /// Makes a credential, and gives its id.
    pub(crate) fn make(&self, label: &Label, at: Timestamp) -> String {
        let id = format!("key_{label}");
        let credential = Credential {
            facts: CredentialFacts {
                id: CredentialId::new(id.clone()),
                redacted_value: None,
                created_at: Some(time::whole_seconds(at)),
                expires_at: None,
            },
            name: Some(label.to_string()),
            last_used_at: None,
            owner: None,
        };
        self.with(|alive| alive.insert(id.clone(), credential));
        self.made.fetch_add(1, Ordering::Relaxed);
        id
    }

    /// Lets so much time pass at once, by both clocks.
    pub(crate) fn skip(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap();
        self.skipped.fetch_add(nanos, Ordering::Relaxed);
    }

    fn skipped(&self) -> Duration {
        Duration::from_nanos(self.skipped.load(Ordering::Relaxed))
    }

    /// How many were ever made.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Credential>) -> T) -> T {
        work(&mut self.alive.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer<T>(&self, value: T) -> Result<Answer<T>, ProviderError> {
        let date = Some(self.now());
        Ok(Answer { value, date })
    }
}

impl Clock for Instantly {
    fn now(&self) -> Timestamp {
        time::after(HostClock.now() + self.ahead, self.skipped())
    }

    fn monotonic(&self) -> Duration {
        HostClock.monotonic() + self.skipped()
    }
}

#[async_trait]
impl Provider for Instantly {
    async fn create(
        &self,
        label: &Label,
        _: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        let id = self.make(label, self.now());
        let facts = self.with(|alive| alive[&id].facts.clone());
        let secret = Some(Secret::new(format!("sk-admin-{label}")));
        self.answer(NewCredential { facts, secret })
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        self.answer(())
    }

    fn may_be_in_use(&self, _: &str) -> bool {
        false
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.answer(self.with(|alive| alive.values().cloned().collect()))
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        self.answer(self.with(|alive| alive.get(id.as_str()).cloned()))
    }

    async fn verify(&self, _: &Secret) -> Result<Answer<()>, ProviderError> {
        self.answer(())
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        self.with(|alive| alive.remove(id.as_str()));
        self.answer(())
    }
}

/// A sink that takes everything.
struct Taker(SinkId);

#[async_trait]
impl Sink for Taker {
    fn id(&self) -> &SinkId {
        &self.0
    }

    async fn inspect(&self) -> Vec<String> {
        Vec::new()
    }

    async fn preflight(&self) -> Result<(), String> {
        Ok(())
    }

    async fn deliver(&self, _: &Parcel) -> Result<(), DeliveryError> {
        Ok(())
    }
}

/// The parts of an engine that works with this provider.
pub(crate) fn parts(provider: &Arc<Instantly>, settings: &Settings, ledger: Ledger) -> Parts {
    Parts {
        provider: Arc::clone(provider) as Arc<dyn Provider>,
        ledger,
        clock: Arc::clone(provider) as Arc<dyn Clock>,
        chance: Arc::new(HostChance::new()) as Arc<dyn Chance>,
        max_in_flight: settings.provider.max_in_flight,
        sweep_every: settings.provider.sweep_every,
        conditions: Arc::new(Conditions::default()),
        observer: Arc::new(()),
        audience: Arc::default(),
        zone: zones::look_up,
    }
}

/// The keys, with sinks that take everything.
pub(crate) fn managed(settings: &Settings) -> Vec<ManagedKey> {
    let keys = settings.keys.iter().map(|key| ManagedKey {
        name: key.name.clone(),
        policy: key.policy.clone(),
        sinks: vec![(Arc::new(Taker(key.sinks[0].id.clone())), true)],
    });
    keys.collect()
}
