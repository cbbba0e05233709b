//! An engine on a real ledger, with a provider, a sink, a clock and a chance
//! that note what they are asked.
#![allow(dead_code, reason = "no test uses all of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
use rekeyd::provider::{
    Answer, Cause, Credential, NewCredential, Outcome, Provider, ProviderError, Retry,
};
use rekeyd::sink::{DeliveryError, Look, Parcel, Sink, Taken};

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

/// The sink with this name, whose target follows from it.
pub(crate) fn sink_named(name: &str) -> SinkId {
    SinkId {
        name: name.to_owned(),
        target: format!("file:/{name}"),
    }
}

#[derive(Default)]
struct World {
    now: Mutex<Option<Timestamp>>,
    calls: Mutex<Vec<String>>,
    /// Name by id.
    alive: Mutex<BTreeMap<String, String>>,
    chance: AtomicU64,
    /// What every request to the provider fails with.
    outage: Mutex<Option<Cause>>,
    /// What every request of one kind fails with.
    failing: Mutex<Option<(&'static str, Cause)>>,
    /// What a list shows instead of what is alive, name by id.
    listed: Mutex<Option<BTreeMap<String, String>>>,
    /// Whether fresh secrets are refused.
    refuses: AtomicBool,
    /// What every create comes to instead of being done.
    creates: Mutex<Option<(Cause, Outcome)>>,
    /// The credential that its sink has lost, by id.
    lost: Mutex<Option<String>>,
    /// What a delivery comes to instead of being accepted.
    deliveries: Mutex<Option<Taken>>,
    /// Whether whatever is asked for may be the credential in use.
    in_use: AtomicBool,
    /// At which call the host goes to sleep, and for how long.
    sleeps_at: Mutex<Option<(&'static str, Duration)>>,
    /// How long the host has slept.
    slept: Mutex<Duration>,
    /// How far the provider's clock is ahead.
    ahead: Mutex<Duration>,
    /// When each was last used, by id.
    used: Mutex<BTreeMap<String, Timestamp>>,
    /// The sinks that take nothing, by name.
    away: Mutex<BTreeSet<String>>,
}

impl World {
    fn note(&self, call: String) {
        let mut sleeps_at = self.sleeps_at.lock().unwrap();
        if let Some((_, span)) = sleeps_at.take_if(|(at, _)| *at == call) {
            let awake = self.now() + span;
            *self.now.lock().unwrap() = Some(awake);
            *self.slept.lock().unwrap() += span;
        }
        drop(sleeps_at);
        self.calls.lock().unwrap().push(call);
    }

    fn answer<T>(&self, value: T) -> Result<Answer<T>, ProviderError> {
        let date = Some(self.now() + *self.ahead.lock().unwrap());
        Ok(Answer { value, date })
    }

    /// A request, unless there is an outage.
    fn request(&self, call: String) -> Result<(), ProviderError> {
        self.note(call.clone());
        let mut cause = *self.outage.lock().unwrap();
        if let Some((kind, with)) = *self.failing.lock().unwrap()
            && call.starts_with(kind)
        {
            cause = Some(with);
        }
        cause.map_or(Ok(()), |cause| Err(refusal(call, cause)))
    }

    fn credential(&self, id: &str) -> Option<Credential> {
        let name = self.alive.lock().unwrap().get(id)?.clone();
        Some(self.credential_named(id, name))
    }

    fn credential_named(&self, id: &str, name: String) -> Credential {
        Credential {
            facts: facts(id),
            name: Some(name),
            last_used_at: self.used.lock().unwrap().get(id).copied(),
            owner: None,
        }
    }
}

fn refusal(operation: String, cause: Cause) -> ProviderError {
    ProviderError {
        operation,
        outcome: Outcome::NotDone,
        retry: Retry::Later(None),
        cause,
        message: format!("{cause:?}"),
        request_id: None,
        date: None,
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

    /// It moves when a test moves the wall clock on, and not while the host
    /// sleeps.
    fn monotonic(&self) -> Duration {
        rekeyd::core::time::until(at(), self.now()) - *self.slept.lock().unwrap()
    }
}

impl Chance for World {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        let number = self.chance.fetch_add(1, Ordering::SeqCst) + (0x80 << 56);
        let from = 8 - bytes.len();
        bytes.copy_from_slice(&number.to_be_bytes()[from..]);
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
        self.request("create".to_owned())?;
        if let Some((cause, outcome)) = *self.creates.lock().unwrap() {
            return Err(ProviderError {
                outcome,
                ..refusal("create".to_owned(), cause)
            });
        }
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
        self.request("check".to_owned())?;
        self.answer(())
    }

    fn may_be_in_use(&self, _: &str) -> bool {
        self.in_use.load(Ordering::SeqCst)
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.request("list".to_owned())?;
        let listed = self.listed.lock().unwrap().clone();
        let listed = listed.unwrap_or_else(|| self.alive.lock().unwrap().clone());
        let listed = listed.into_iter();
        self.answer(
            listed
                .map(|(id, name)| self.credential_named(&id, name))
                .collect(),
        )
    }

    async fn find(&self, label: &Label) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.request(format!("find {label}"))?;
        let ids: Vec<_> = self.alive.lock().unwrap().keys().cloned().collect();
        let found = ids.iter().filter_map(|id| self.credential(id));
        let wanted = |one: &Credential| one.name.as_deref() == Some(label.as_str());
        self.answer(found.filter(wanted).collect())
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        self.request(format!("retrieve {id}"))?;
        self.answer(self.credential(id.as_str()))
    }

    async fn verify(&self, _: &Secret) -> Result<Answer<()>, ProviderError> {
        self.request("verify".to_owned())?;
        if self.refuses.load(Ordering::SeqCst) {
            return Err(refusal("verify".to_owned(), Cause::CredentialRefused));
        }
        self.answer(())
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        self.request(format!("delete {id}"))?;
        self.alive.lock().unwrap().remove(id.as_str());
        self.answer(())
    }
}

/// A sink that takes everything, unless it is away.
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

    fn lost(&self, credential: &CredentialFacts) -> Look {
        let lost = self.0.lost.lock().unwrap();
        let lost = lost.as_deref() == Some(credential.id.as_str());
        Box::pin(std::future::ready(lost.then(|| "it is gone".to_owned())))
    }

    async fn deliver(&self, _: &Parcel) -> Result<(), DeliveryError> {
        self.0.note("deliver".to_owned());
        if self.0.away.lock().unwrap().contains(&self.1.name) {
            return Err(DeliveryError {
                taken: Taken::No,
                message: "away".to_owned(),
            });
        }
        match *self.0.deliveries.lock().unwrap() {
            None => Ok(()),
            Some(taken) => Err(DeliveryError {
                taken,
                message: format!("{taken:?}"),
            }),
        }
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
        let managed = self.managed(key(), |policy| policy.overlap = overlap);
        self.ledger(vec![(key(), changes)]).await;
        self.open(vec![managed], Course::Once).await
    }

    /// Writes a ledger in which these keys have these changes.
    pub(crate) async fn ledger(&self, keys: Vec<(KeyName, Vec<Change>)>) {
        let ledger = self.connect();
        for (key, changes) in keys {
            ledger.record(&key, at(), changes).await.unwrap();
        }
        ledger.note_sweep(at(), Vec::new()).await.unwrap();
    }

    fn connect(&self) -> Ledger {
        let identity = Identity {
            provider: "https://example.com/v1".to_owned(),
            organization: String::new(),
        };
        let connection = ledger::open(&self.dir.path().join("l.db"), &identity, at()).unwrap();
        Ledger::start(connection, Driver::Task).unwrap()
    }

    /// A key that rotates once a month, with one sink.
    pub(crate) fn managed(&self, name: KeyName, adapt: impl FnOnce(&mut KeyPolicy)) -> ManagedKey {
        let schedule = Schedule::parse("@monthly", TimeZone::UTC).unwrap();
        let mut policy = KeyPolicy {
            settle: Duration::ZERO,
            ..KeyPolicy::new(schedule)
        };
        adapt(&mut policy);
        ManagedKey {
            name,
            policy: Arc::new(policy),
            sinks: vec![(Arc::new(Taker(Arc::clone(&self.world), sink_id())), true)],
        }
    }

    /// A key that rotates by `schedule`, with these sinks and whether each is
    /// required.
    pub(crate) fn key_with(&self, schedule: &str, sinks: &[(&str, bool)]) -> ManagedKey {
        let mut managed = self.managed(key(), |policy| {
            let schedule = Schedule::parse(schedule, TimeZone::UTC).unwrap();
            policy.timetable = schedule.into();
            policy.overlap = Duration::from_secs(600);
            policy.creates_per_day = 1_000;
        });
        managed.sinks = sinks
            .iter()
            .map(|(name, required)| {
                let sink: Arc<dyn Sink> =
                    Arc::new(Taker(Arc::clone(&self.world), sink_named(name)));
                (sink, *required)
            })
            .collect();
        managed
    }

    /// What all keys share, of one process.
    pub(crate) fn parts(&self) -> Parts {
        Parts {
            provider: Arc::clone(&self.world) as Arc<dyn Provider>,
            ledger: self.connect(),
            clock: Arc::clone(&self.world) as Arc<dyn Clock>,
            chance: Arc::clone(&self.world) as Arc<dyn Chance>,
            max_in_flight: 1,
            sweep_every: Duration::from_secs(1_000 * 86_400),
            conditions: Arc::new(Conditions::default()),
            observer: Arc::new(()),
            audience: Arc::default(),
            zone: |name| TimeZone::get(name).ok(),
        }
    }

    pub(crate) async fn open(&self, managed: Vec<ManagedKey>, course: Course) -> Engine {
        Engine::open(self.parts(), managed, course).await.unwrap()
    }

    /// These sinks take nothing from now on, and all others do.
    pub(crate) fn away(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned());
        *self.world.away.lock().unwrap() = names.collect();
    }

    /// What a query of the ledger gives, a text for each row.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        let ledger = ledger::read::open(&self.dir.path().join("l.db")).unwrap();
        let mut statement = ledger.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Runs `sql` on the ledger, as nobody but a test may.
    pub(crate) fn change_ledger(&self, sql: &str) {
        let ledger = rusqlite::Connection::open(self.dir.path().join("l.db")).unwrap();
        ledger.execute_batch(sql).unwrap();
    }

    /// Works, and moves the clock on when there is nothing to do, for so long.
    pub(crate) async fn run(&self, engine: &mut Engine, span: Duration) {
        let end = self.world.now() + span;
        loop {
            engine.start_due();
            if engine.finish_some().await {
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

    /// Works, and moves the clock on when there is nothing to do, until so.
    pub(crate) async fn run_until(&self, engine: &mut Engine, over: impl Fn() -> bool) {
        while !over() {
            engine.start_due();
            if !engine.finish_some().await {
                let next = engine.next_at().expect("something to do");
                let now = self.world.now();
                *self.world.now.lock().unwrap() = Some(next.max(now));
            }
        }
        engine.stop().await;
    }

    /// Every request to the provider fails so, or with none none does.
    pub(crate) fn fail(&self, cause: Option<Cause>) {
        *self.world.outage.lock().unwrap() = cause;
    }

    /// Every request of this kind fails so from now on, or with none none does.
    pub(crate) fn fail_only(&self, kind: Option<(&'static str, Cause)>) {
        *self.world.failing.lock().unwrap() = kind;
    }

    /// A list shows these from now on, by id and name, whatever is alive.
    pub(crate) fn list_as(&self, listed: &[(&str, &str)]) {
        let listed = listed
            .iter()
            .map(|(id, name)| ((*id).to_owned(), (*name).to_owned()));
        *self.world.listed.lock().unwrap() = Some(listed.collect());
    }

    /// Every create comes to this from now on, or with none is done.
    pub(crate) fn fail_creates(&self, with: Option<(Cause, Outcome)>) {
        *self.world.creates.lock().unwrap() = with;
    }

    /// Every delivery comes to this from now on, or with none is accepted.
    pub(crate) fn fail_deliveries(&self, with: Option<Taken>) {
        *self.world.deliveries.lock().unwrap() = with;
    }

    /// The sink of this credential has lost it.
    pub(crate) fn lose(&self, id: &str) {
        *self.world.lost.lock().unwrap() = Some(id.to_owned());
    }

    /// Whether fresh secrets are refused from now on.
    pub(crate) fn refuse_secrets(&self, refuses: bool) {
        self.world.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Whether whatever is asked for may be the credential in use.
    pub(crate) fn use_any(&self, in_use: bool) {
        self.world.in_use.store(in_use, Ordering::SeqCst);
    }

    /// What the journal tells of an event, newest last.
    pub(crate) fn told(&self, event: &str) -> Vec<String> {
        let ledger = ledger::read::open(&self.dir.path().join("l.db")).unwrap();
        let mut rows = ledger
            .prepare("SELECT detail FROM journal WHERE event = ?1 ORDER BY seq")
            .unwrap();
        let rows = rows.query_map([event], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// How far the provider's clock is ahead from now on.
    pub(crate) fn put_ahead(&self, by: Duration) {
        *self.world.ahead.lock().unwrap() = by;
    }

    /// Somebody uses a credential.
    pub(crate) fn use_now(&self, id: &str) {
        let now = self.world.now();
        self.world.used.lock().unwrap().insert(id.to_owned(), now);
    }

    /// A credential is there from now on.
    pub(crate) fn put(&self, id: &str, name: &str) {
        let mut alive = self.world.alive.lock().unwrap();
        alive.insert(id.to_owned(), name.to_owned());
    }

    /// A credential is gone from now on.
    pub(crate) fn take(&self, id: &str) {
        self.world.alive.lock().unwrap().remove(id);
    }

    /// Time passes while nothing works.
    pub(crate) fn move_on(&self, span: Duration) {
        *self.world.now.lock().unwrap() = Some(self.now() + span);
    }

    /// The host goes to sleep in the next such call.
    pub(crate) fn sleep_at(&self, call: &'static str, span: Duration) {
        *self.world.sleeps_at.lock().unwrap() = Some((call, span));
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// What was called since this was last asked.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.world.calls.lock().unwrap())
    }

    /// Works, and moves the clock on when there is nothing to do, until so
    /// many calls were made; gives the first of them.
    pub(crate) async fn first_calls(&self, engine: &mut Engine, count: usize) -> Vec<String> {
        while self.world.calls.lock().unwrap().len() < count {
            engine.start_due();
            if !engine.finish_some().await {
                let next = engine.next_at().expect("something to do");
                let now = self.world.now();
                *self.world.now.lock().unwrap() = Some(next.max(now));
            }
        }
        while engine.finish_some().await {}
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
