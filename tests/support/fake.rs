//! An engine on a real ledger, with a provider, a sink, a clock and a chance
//! that note what they are asked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rekeyd::core::change::Change;
use rekeyd::core::names::{CredentialId, KeyName, Label, RotationId, SinkId};
use rekeyd::core::policy::KeyPolicy;
use rekeyd::core::record::CredentialFacts;
use rekeyd::core::schedule::Schedule;
use rekeyd::core::secret::Secret;
use rekeyd::engine::chance::{Chance, NoChance};
use rekeyd::engine::clock::Clock;
use rekeyd::engine::condition::Conditions;
use rekeyd::engine::{Course, Engine, ManagedKey, Parts};
use rekeyd::ledger::{self, Driver, Identity, Ledger};
use rekeyd::provider::{Answer, Credential, NewCredential, Provider, ProviderError};
use rekeyd::sink::{DeliveryError, Parcel, Sink};

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

#[derive(Default)]
struct World {
    now: Mutex<Option<Timestamp>>,
    calls: Mutex<Vec<String>>,
    /// Name by id.
    alive: Mutex<BTreeMap<String, String>>,
    chance: AtomicU8,
}

impl World {
    fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }

    fn answer<T>(&self, value: T) -> Result<Answer<T>, ProviderError> {
        let date = Some(self.now());
        Ok(Answer { value, date })
    }

    fn credential(&self, id: &str) -> Option<Credential> {
        let name = self.alive.lock().unwrap().get(id)?.clone();
        Some(Credential {
            facts: facts(id),
            name: Some(name),
            last_used_at: None,
            owner: None,
        })
    }
}

fn facts(id: &str) -> CredentialFacts {
    CredentialFacts {
        id: CredentialId::new(id.to_owned()),
        redacted_value: None,
        created_at: Some(at()),
        expires_at: None,
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.now.lock().unwrap().unwrap_or_else(at)
    }
}

impl Chance for World {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        bytes.fill(self.chance.fetch_add(1, Ordering::SeqCst) + 0x80);
        Ok(())
    }
}

#[async_trait]
impl Provider for World {
    async fn create(
        &self,
        label: &Label,
        _: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        self.note("create".to_owned());
        let id = format!("key_of_{label}");
        let mut alive = self.alive.lock().unwrap();
        alive.insert(id.clone(), label.to_string());
        drop(alive);
        self.answer(NewCredential {
            facts: facts(&id),
            secret: Some(Secret::new(format!("sk-admin-{label}"))),
        })
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        self.note("check".to_owned());
        self.answer(())
    }

    fn may_be_in_use(&self, _: &str) -> bool {
        false
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.note("list".to_owned());
        let ids: Vec<_> = self.alive.lock().unwrap().keys().cloned().collect();
        self.answer(ids.iter().filter_map(|id| self.credential(id)).collect())
    }

    async fn find(&self, label: &Label) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.note(format!("find {label}"));
        let ids: Vec<_> = self.alive.lock().unwrap().keys().cloned().collect();
        let found = ids.iter().filter_map(|id| self.credential(id));
        let wanted = |one: &Credential| one.name.as_deref() == Some(label.as_str());
        self.answer(found.filter(wanted).collect())
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        self.note(format!("retrieve {id}"));
        self.answer(self.credential(id.as_str()))
    }

    async fn verify(&self, _: &Secret) -> Result<Answer<()>, ProviderError> {
        self.note("verify".to_owned());
        self.answer(())
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        self.note(format!("delete {id}"));
        self.alive.lock().unwrap().remove(id.as_str());
        self.answer(())
    }
}

/// A sink that takes everything.
struct Taker(Arc<World>, SinkId);

#[async_trait]
impl Sink for Taker {
    fn id(&self) -> &SinkId {
        &self.1
    }

    async fn inspect(&self) -> Vec<String> {
        Vec::new()
    }

    async fn preflight(&self) -> Result<(), String> {
        self.0.note("preflight".to_owned());
        Ok(())
    }

    async fn deliver(&self, _: &Parcel) -> Result<(), DeliveryError> {
        self.0.note("deliver".to_owned());
        Ok(())
    }
}

pub(crate) struct Fakes {
    world: Arc<World>,
    dir: tempfile::TempDir,
}

impl Fakes {
    /// A provider at which these credentials are alive, by id and name.
    pub(crate) fn new(alive: &[(&str, &str)]) -> Self {
        let alive = alive
            .iter()
            .map(|(id, name)| ((*id).to_owned(), (*name).to_owned()));
        let world = World {
            alive: Mutex::new(alive.collect()),
            ..World::default()
        };
        Self {
            world: Arc::new(world),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// An engine on a ledger with `changes`, which was swept a moment ago.
    pub(crate) async fn engine(&self, changes: Vec<Change>, overlap: Duration) -> Engine {
        let identity = Identity {
            provider: "https://example.com/v1".to_owned(),
            organization: String::new(),
        };
        let connection = ledger::open(&self.dir.path().join("l.db"), &identity, at()).unwrap();
        let ledger = Ledger::start(connection, Driver::Task).unwrap();
        ledger.record(&key(), at(), changes).await.unwrap();
        ledger.note_sweep(at(), Vec::new()).await.unwrap();
        let parts = Parts {
            provider: Arc::clone(&self.world) as Arc<dyn Provider>,
            ledger,
            clock: Arc::clone(&self.world) as Arc<dyn Clock>,
            chance: Arc::clone(&self.world) as Arc<dyn Chance>,
            max_in_flight: 1,
            sweep_every: Duration::from_secs(1_000 * 86_400),
            conditions: Conditions::default(),
        };
        let schedule = Schedule::parse("@monthly", TimeZone::UTC).unwrap();
        let managed = ManagedKey {
            name: key(),
            policy: KeyPolicy {
                overlap,
                settle: Duration::ZERO,
                ..KeyPolicy::new(schedule)
            },
            sinks: vec![(Arc::new(Taker(Arc::clone(&self.world), sink_id())), true)],
        };
        Engine::open(parts, vec![managed], Course::Once)
            .await
            .unwrap()
    }

    /// Works, and moves the clock on when there is nothing to do, until so
    /// many calls were made; gives the first of them.
    pub(crate) async fn first_calls(&self, engine: &mut Engine, count: usize) -> Vec<String> {
        while self.world.calls.lock().unwrap().len() < count {
            engine.start_due();
            if !engine.finish_one().await {
                let next = engine.next_at().expect("something to do");
                let now = self.world.now();
                *self.world.now.lock().unwrap() = Some(next.max(now));
            }
        }
        while engine.finish_one().await {}
        let calls = self.world.calls.lock().unwrap();
        calls[..count].to_vec()
    }

    pub(crate) fn phase_of(&self, rotation: &RotationId) -> String {
        let ledger = ledger::read::open(&self.dir.path().join("l.db")).unwrap();
        ledger
            .query_row(
                "SELECT phase FROM history WHERE rotation = ?1",
                [rotation.as_str()],
                |row| row.get(0),
            )
            .unwrap()
    }

    /// Ids of the credentials that are alive.
    pub(crate) fn alive(&self) -> Vec<String> {
        self.world.alive.lock().unwrap().keys().cloned().collect()
    }
}
