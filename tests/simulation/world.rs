//! What there is outside the engine: a provider's accounts, sinks with their
//! consumers, a clock, a disk; and what goes wrong with them.
//!
//! A consumer reads its sink again as late as its overlap allows. So what a
//! sink held at any time within one overlap may be what somebody works with,
//! and must live. That is looked at whenever a credential dies and whenever a
//! sink changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rekeyd::core::names::{KeyName, Label};
use rekeyd::core::time;
use rekeyd::engine::clock::Clock;
use rekeyd::ledger;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::chance::Seeded;
use crate::fault::{Act, EVENTS, Fault, Op};
use crate::scenario::{Configuration, Kind, Scenario};

/// When every simulation begins.
const BEGIN: &str = "2026-11-24T00:00:00Z";

/// How long the host's clock is wrong after a step.
const WRONG_FOR: Duration = Duration::from_secs(2 * 3_600);

/// More operations, and more turns of the loop that runs the engine, than any
/// world needs: one that goes beyond would go on for ever.
const MOST_OPERATIONS: u64 = 20_000;
const MOST_TURNS: u64 = 100_000;

/// The clock is not looked at more often between two of either.
const MOST_LOOKS: u64 = 1_000;

/// How often the neighbour rotates, so that it now comes before and now after
/// us; and how long it keeps what it has replaced.
const NEIGHBOURS_PERIOD: Duration = Duration::from_secs(41 * 60);

/// What rekeyd works with until it rotates its own.
pub(crate) const BOOTSTRAP: &str = "sk-admin-made-by-hand-T3BlbkFJ-000000";

/// Which faults strike.
#[derive(Debug, Clone)]
pub(crate) enum Plan {
    Exactly(Vec<Strike>),
    /// One in so many, by chance.
    Random(Seeded, usize),
}

/// A fault that strikes at one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    /// The operation's number, counted from 0.
    pub(crate) at: usize,
    pub(crate) fault: Fault,
    /// How often it strikes again, at the next operations of the same kind.
    pub(crate) again: usize,
    /// That kind, once it has struck.
    kind: Option<Op>,
}

impl Strike {
    pub(crate) const fn once(at: usize, fault: Fault) -> Self {
        Self::repeated(at, fault, 0)
    }

    pub(crate) const fn repeated(at: usize, fault: Fault, again: usize) -> Self {
        Self {
            at,
            fault,
            again,
            kind: None,
        }
    }

    fn strikes(&mut self, number: usize, op: Op) -> bool {
        if number == self.at {
            self.kind = Some(op);
            return true;
        }
        let strikes = self.again > 0 && self.kind == Some(op);
        self.again -= usize::from(strikes);
        strikes
    }
}

/// As it is given in `REKEYD_FAULTS`: `12:Fails`, or `12:Fails:6` where it
/// strikes six times more.
impl std::fmt::Display for Strike {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:?}", self.at, self.fault)?;
        if self.again > 0 {
            write!(f, ":{}", self.again)?;
        }
        Ok(())
    }
}

/// A key's sink, by name.
pub(crate) type Place = (String, String);

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    state: Mutex<State>,
    started: Instant,
    pub(crate) begin: Timestamp,
    crashed: Notify,
    /// A person did something.
    pub(crate) attention: Notify,
    /// Reads the ledger beside the engine.
    reader: Mutex<Option<Connection>>,
    dir: TempDir,
}

struct State {
    life: u64,
    begun: u64,
    turns: u64,
    looks: u64,
    /// It would have gone on for ever, and was ended.
    endless: bool,
    commit_failed: bool,
    ops: Vec<Op>,
    plan: Plan,
    clock: Option<(Duration, SignedDuration)>,
    credentials: BTreeMap<String, Credential>,
    /// Labels of every create that was sent.
    sent: BTreeSet<String>,
    /// Labels that the ledger does not know any more.
    lost: BTreeSet<String>,
    landings: Vec<(Timestamp, String)>,
    postings: Vec<(Timestamp, Place, u64, String)>,
    sinks: BTreeMap<Place, Sink>,
    acts: Vec<Act>,
    /// Keys whose former credentials a person had revoked at once.
    hurried: BTreeSet<String>,
    /// When the other configuration came into force, by turns the scenario's
    /// other one and its first.
    reconfigured: Vec<Timestamp>,
    after_crash: Option<Fault>,
    set_back_at: Option<usize>,
    /// The ledger is not what it was: a person says how to go on.
    wants_a_person: bool,
    /// Keys of which a person has wished a rotation from this ledger.
    wished: BTreeSet<String>,
    /// When the neighbour rotates next, if there is one.
    neighbour_at: Option<Timestamp>,
    violations: Vec<String>,
    trace: Vec<String>,
    traced: bool,
}

/// An admin key at the provider.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) created_at: Timestamp,
    pub(crate) deleted_at: Option<Timestamp>,
    /// Whether somebody else made it: a person, or the neighbour.
    pub(crate) by_others: bool,
    /// Whether a person wanted it gone, whoever holds it.
    pub(crate) doomed: bool,
}

#[derive(Debug, Default)]
struct Sink {
    content: Option<String>,
    sequence: u64,
    /// What it held before, and until when.
    replaced: Vec<(String, Timestamp)>,
}

impl Credential {
    pub(crate) fn redacted(&self) -> String {
        format!("sk-admin...{}", &self.secret[self.secret.len() - 6..])
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        let elapsed = self.started.elapsed();
        let mut state = self.state();
        state.looks += 1;
        if state.looks > MOST_LOOKS {
            state.goes_on_for_ever("looks at the clock and does nothing");
            drop(state);
            panic!("the engine goes in circles");
        }
        let wrong = state.clock.filter(|(until, _)| elapsed < *until);
        let now = time::after(self.begin, elapsed);
        wrong.map_or(now, |(_, by)| now.checked_add(by).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

impl World {
    pub(crate) fn new(scenario: Scenario, plan: Plan, traced: bool) -> Arc<Self> {
        let begin: Timestamp = BEGIN.parse().unwrap();
        let before = time::before(begin, NEIGHBOURS_PERIOD * 2);
        let owner = Credential {
            id: "key_owner".to_owned(),
            name: "made by hand".to_owned(),
            secret: BOOTSTRAP.to_owned(),
            created_at: BEGIN.parse().unwrap(),
            deleted_at: None,
            by_others: true,
            doomed: false,
        };
        let set_back_at = match &plan {
            Plan::Exactly(strikes) => strikes
                .iter()
                .find(|strike| strike.fault == Fault::SetBack)
                .map(|strike| strike.at / 2),
            Plan::Random(..) => None,
        };
        let mut state = State {
            life: 0,
            begun: 0,
            turns: 0,
            looks: 0,
            endless: false,
            commit_failed: false,
            ops: Vec::new(),
            plan,
            clock: None,
            credentials: BTreeMap::from([(owner.id.clone(), owner)]),
            sent: BTreeSet::new(),
            lost: BTreeSet::new(),
            landings: Vec::new(),
            postings: Vec::new(),
            sinks: BTreeMap::new(),
            acts: Vec::new(),
            hurried: BTreeSet::new(),
            reconfigured: Vec::new(),
            after_crash: None,
            set_back_at,
            wants_a_person: scenario.neighbour,
            wished: BTreeSet::new(),
            neighbour_at: scenario.neighbour.then_some(before),
            violations: Vec::new(),
            trace: Vec::new(),
            traced,
        };
        state.neighbour_rotates(&scenario, begin);
        Arc::new(Self {
            scenario,
            state: Mutex::new(state),
            started: Instant::now(),
            begin,
            crashed: Notify::new(),
            attention: Notify::new(),
            reader: Mutex::new(None),
            dir: folder(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked has nothing half done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The true time, which is the provider's.
    pub(crate) fn true_now(&self) -> Timestamp {
        time::after(self.begin, self.started.elapsed())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }

    /// Puts an empty ledger in its place at the very beginning. It is made
    /// once: that takes longer than a rotation.
    pub(crate) fn lay_out_ledger(&self, make: impl FnOnce(&Path) -> Connection) {
        static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
        if self.ledger().exists() {
            return;
        }
        let bytes = EMPTY.get_or_init(|| {
            let connection = make(&self.copy());
            connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .unwrap();
            drop(connection);
            std::fs::read(self.copy()).unwrap()
        });
        std::fs::write(self.ledger(), bytes).unwrap();
    }

    pub(crate) fn life(&self) -> u64 {
        self.state().life
    }

    pub(crate) fn configuration(&self) -> Configuration {
        self.state().configured(&self.scenario).clone()
    }

    /// The scenario's other configuration counts from now on; the next time
    /// its first again.
    pub(crate) fn reconfigure(&self) {
        let now = self.true_now();
        self.state().reconfigured.push(now);
    }

    /// Whether the clock may step in this world.
    pub(crate) fn clock_may_step(&self) -> bool {
        match &self.state().plan {
            Plan::Exactly(strikes) => strikes
                .iter()
                .any(|strike| matches!(strike.fault, Fault::ClockAhead | Fault::ClockBehind)),
            Plan::Random(..) => true,
        }
    }

    /// Waits until the process is to die.
    pub(crate) async fn crashed(&self) {
        self.crashed.notified().await;
    }

    /// Begins an operation of the process `life`: numbers it, and says what
    /// goes wrong with it. A process that has died does nothing more.
    pub(crate) async fn begin(&self, life: u64, op: Op, about: &str) -> Option<Fault> {
        let fault = self.next_fault(life, op, about);
        if fault.is_ok() {
            sleep(self.duration(op)).await;
        }
        if self.life() != life {
            std::future::pending::<()>().await;
        }
        match fault {
            Err(Dead) => std::future::pending().await,
            Ok(Some(
                Fault::CrashBefore | Fault::SetBack | Fault::LedgerLost | Fault::Reconfigured,
            )) => self.crash().await,
            Ok(fault) => fault,
        }
    }

    /// Ends an operation.
    pub(crate) async fn end(&self, fault: Option<Fault>) {
        if fault == Some(Fault::CrashAfter) {
            self.crash::<()>().await;
        }
    }

    async fn crash<T>(&self) -> T {
        self.state().life += 1;
        self.crashed.notify_one();
        std::future::pending().await
    }

    fn next_fault(&self, life: u64, op: Op, about: &str) -> Result<Option<Fault>, Dead> {
        let now = self.true_now();
        let mut state = self.state();
        if state.life != life {
            return Err(Dead);
        }
        state.begun += 1;
        state.looks = 0;
        if state.begun > MOST_OPERATIONS {
            state.goes_on_for_ever("more operations than it can need");
            state.life += 1;
            self.crashed.notify_one();
            return Err(Dead);
        }
        state.settle(now);
        state.neighbour_rotates(&self.scenario, now);
        if self.elapsed() >= self.scenario.trouble {
            state.note(now, format!("{op:?} {about}"));
            return Ok(None);
        }
        let number = state.ops.len();
        state.ops.push(op);
        if state.set_back_at == Some(number) {
            copy(&self.ledger(), &self.copy());
        }
        let fault = state.plan.strike(number, op);
        state.commit_failed |= op == Op::Commit && fault.is_some();
        let told = fault
            .map(|fault| format!(" !! {fault:?}"))
            .unwrap_or_default();
        state.note(now, format!("{number} {op:?} {about}{told}"));
        match fault {
            Some(Fault::ClockAhead) => state.clock = Some(self.wrong_by(3)),
            Some(Fault::ClockBehind) => state.clock = Some(self.wrong_by(-3)),
            Some(Fault::Act(act)) => {
                state.acts.push(act);
                self.attention.notify_one();
            }
            Some(Fault::SetBack | Fault::LedgerLost | Fault::Reconfigured) => {
                state.after_crash = fault;
            }
            Some(_) | None => return Ok(fault),
        }
        Ok(fault.filter(|fault| {
            matches!(
                fault,
                Fault::SetBack | Fault::LedgerLost | Fault::Reconfigured
            )
        }))
    }

    fn wrong_by(&self, days: i64) -> (Duration, SignedDuration) {
        (
            self.elapsed() + WRONG_FOR,
            SignedDuration::from_hours(24 * days),
        )
    }

    fn copy(&self) -> PathBuf {
        self.dir.path().join("copy.db")
    }

    /// What happens between two processes.
    pub(crate) fn between_lives(&self) {
        let fault = self.state().after_crash.take();
        *self.reader.lock().unwrap() = None;
        match fault {
            Some(Fault::LedgerLost) => {
                remove(&self.ledger());
                self.state().wants_a_person = true;
            }
            Some(Fault::SetBack) => {
                remove(&self.ledger());
                copy(&self.copy(), &self.ledger());
                self.state().wants_a_person = true;
            }
            Some(Fault::Reconfigured) => {
                self.reconfigure();
                return;
            }
            Some(_) | None => return,
        }
        let known = self.labels();
        let mut state = self.state();
        state.wished.clear();
        let lost: Vec<_> = state.sent.difference(&known).cloned().collect();
        state.lost.extend(lost);
    }

    /// Every label that the ledger knows.
    fn labels(&self) -> BTreeSet<String> {
        let Ok(connection) = ledger::read::open(&self.ledger()) else {
            return BTreeSet::new();
        };
        let mut rows = connection
            .prepare("SELECT label FROM history WHERE label IS NOT NULL")
            .unwrap();
        let labels = rows.query_map([], |row| row.get(0)).unwrap();
        labels.map(Result::unwrap).collect()
    }

    /// Begins another turn of the loop that runs the engine. False if there
    /// were so many that there would be no end.
    pub(crate) fn turns(&self) -> bool {
        let mut state = self.state();
        state.turns += 1;
        state.looks = 0;
        if state.turns > MOST_TURNS {
            state.goes_on_for_ever("more turns than it can need");
        }
        !state.endless
    }

    /// Whether it was ended since it would have gone on for ever.
    pub(crate) fn is_endless(&self) -> bool {
        self.state().endless
    }

    /// How long an operation takes: another time each time, so that now this
    /// and now that of two comes first.
    fn duration(&self, op: Op) -> Duration {
        let mixed = self.state().begun.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Duration::from_millis(match op {
            Op::Commit | Op::Look => mixed >> 60,
            Op::Create
            | Op::Check
            | Op::List
            | Op::Retrieve
            | Op::Verify
            | Op::Delete
            | Op::Preflight
            | Op::Deliver
            | Op::Post
            | Op::After => mixed >> 57,
        })
    }

    /// Nobody answers until the time is over.
    pub(crate) async fn time_out(&self) {
        sleep(Duration::from_secs(30)).await;
    }

    /// Whether this secret works at the provider.
    pub(crate) fn works(&self, secret: &str) -> bool {
        let state = self.state();
        state.alive().any(|one| one.secret == secret)
    }

    /// Makes a credential, now or later.
    pub(crate) fn create(&self, label: &Label, later: Option<Duration>) -> Option<Credential> {
        let now = self.true_now();
        let name = label.to_string();
        let known = self.is_intended(&name);
        let first = self.is_first_of_its_key(&name);
        let mut state = self.state();
        if !known {
            state.violate(format!("{name} is made, and no intent is recorded"));
        }
        if first && self.scenario.neighbour && !state.wished.contains(key_of(&name)) {
            state.violate(format!("{name} is made beside the neighbour's, unasked"));
        }
        if !state.sent.insert(name.clone()) {
            state.violate(format!("the label {name} is sent twice"));
        }
        if let Some(later) = later {
            state.landings.push((time::after(now, later), name));
            return None;
        }
        Some(state.make(&name, now, false))
    }

    /// A create that did nothing.
    pub(crate) fn sent(&self, label: &Label) {
        let mut state = self.state();
        if !state.sent.insert(label.to_string()) {
            state.violate(format!("the label {label} is sent twice"));
        }
    }

    fn is_intended(&self, label: &str) -> bool {
        let phase = "SELECT phase FROM rotation WHERE label = ?1";
        let found = self.read(|ledger| {
            let mut found = ledger.prepare_cached(phase).unwrap();
            found.query_row([label], |row| row.get::<_, String>(0))
        });
        found.is_ok_and(|phase| phase == "intended")
    }

    /// Whether the ledger knows no other rotation of its key.
    fn is_first_of_its_key(&self, label: &str) -> bool {
        let rows = "SELECT COUNT(*) FROM history WHERE key = ?1";
        let count: rusqlite::Result<u32> = self.read(|ledger| {
            let mut rows = ledger.prepare_cached(rows).unwrap();
            rows.query_row([key_of(label)], |row| row.get(0))
        });
        count.is_ok_and(|count| count < 2)
    }

    /// Reads the ledger beside the engine.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        let mut reader = self.reader.lock().unwrap();
        read(reader.get_or_insert_with(|| ledger::read::open(&self.ledger()).unwrap()))
    }

    /// A person makes a credential.
    pub(crate) fn make_by_hand(&self) -> String {
        let now = self.true_now();
        let mut state = self.state();
        state.make("by hand", now, true).id
    }

    /// When a credential was last made for a key.
    pub(crate) fn newest(&self, key: &str) -> Option<Timestamp> {
        let state = self.state();
        let all = state.credentials.values();
        let made = all.filter(|one| !one.by_others && key_of(&one.name) == key);
        made.map(|one| one.created_at).max()
    }

    /// Every credential as it was at a time.
    pub(crate) fn listed(&self, at: Timestamp) -> Vec<Credential> {
        let state = self.state();
        let all = state.credentials.values();
        let then = all.filter(|one| {
            one.created_at <= at && one.deleted_at.is_none_or(|deleted| deleted > at)
        });
        then.cloned().collect()
    }

    pub(crate) fn delete(&self, id: &str) {
        let now = self.true_now();
        let mut state = self.state();
        let counting = state.held_by(&self.scenario, now);
        let configured = state.configured(&self.scenario);
        let Some(found) = state.credentials.get_mut(id) else {
            return;
        };
        if found.deleted_at.is_some() {
            return;
        }
        found.deleted_at = Some(now);
        let found = found.clone();
        if found.by_others && !found.doomed || state.lost.contains(&found.name) {
            state.violate(format!("{} is deleted, which is not ours", found.name));
        }
        state.mourn(&found, now, &counting, configured);
    }

    /// Puts a secret into a sink, now or later.
    pub(crate) fn put(&self, place: &Place, sequence: u64, secret: &str, later: Option<Duration>) {
        let at = time::after(self.true_now(), later.unwrap_or_default());
        let mut state = self.state();
        if later.is_some() {
            let posting = (at, place.clone(), sequence, secret.to_owned());
            state.postings.push(posting);
        } else {
            state.apply(place, sequence, secret, at);
        }
    }

    /// The number under which a file is replaced by this secret: it has none
    /// of its own, and writing the same again changes nothing.
    pub(crate) fn next_sequence(&self, place: &Place, secret: &str) -> u64 {
        let state = self.state();
        let Some(sink) = state.sinks.get(place) else {
            return 1;
        };
        let same = sink.content.as_deref() == Some(secret);
        sink.sequence + u64::from(!same)
    }

    /// What stands in a sink.
    pub(crate) fn content(&self, place: &Place) -> Option<String> {
        self.state().sinks.get(place)?.content.clone()
    }

    pub(crate) fn take_acts(&self) -> Vec<Act> {
        std::mem::take(&mut self.state().acts)
    }

    /// A person wants a credential gone, whoever holds it; or takes it over.
    pub(crate) fn doom(&self, id: &str) {
        if let Some(found) = self.state().credentials.get_mut(id) {
            found.doomed = true;
        }
    }

    /// A person wants all former credentials of a key gone at once.
    pub(crate) fn hurry(&self, key: &str) {
        self.state().hurried.insert(key.to_owned());
    }

    /// The ledger was lost: nothing may have been made since for a key of
    /// which there was a live credential, and no row.
    pub(crate) fn look_for_made_beside(&self) {
        let mut state = self.state();
        let alive = state.alive().filter(|one| !one.by_others);
        let (before, since): (Vec<_>, Vec<_>) =
            alive.partition(|one| state.lost.contains(&one.name));
        let beside = since.iter().find(|new| {
            let of_key = |old: &Credential| key_of(&old.name) == key_of(&new.name);
            let all = state.credentials.values();
            let mut of_row = all.filter(|old| !state.lost.contains(&old.name));
            let knew = of_row.any(|old| of_key(old) && old.created_at < new.created_at);
            !knew && before.iter().any(|old| of_key(old))
        });
        if let Some(beside) = beside.map(|one| one.name.clone()) {
            state.violate(format!("{beside} is made beside lookalikes"));
        }
    }

    /// Whether a person has to say how to go on with this ledger.
    pub(crate) fn wants_a_person(&self) -> bool {
        self.state().wants_a_person
    }

    /// A person wishes a rotation of a key.
    pub(crate) fn wish(&self, key: &str) {
        self.state().wished.insert(key.to_owned());
    }

    /// A person has looked at everything, and wishes that all keys rotate.
    pub(crate) fn wish_all(&self) {
        let keys = self.configuration();
        let mut state = self.state();
        state.wants_a_person = false;
        state
            .wished
            .extend(keys.iter().map(|key| key.name.to_owned()));
    }

    pub(crate) fn violate(&self, what: String) {
        self.state().violate(what);
    }

    /// Notes that something is not so that should be.
    pub(crate) fn expect(&self, is_so: bool, what: &str) {
        if !is_so {
            self.violate(format!("it is not so that {what}"));
        }
    }

    /// Whether everything could be recorded so far.
    pub(crate) fn records_all(&self) -> bool {
        !self.state().commit_failed
    }

    pub(crate) fn note(&self, what: String) {
        let now = self.true_now();
        self.state().note(now, what);
    }

    /// Credentials that are alive and that the ledger must know: those that
    /// rekeyd made, and those that it has taken over.
    pub(crate) fn ours_alive(&self) -> Vec<Credential> {
        let now = self.true_now();
        let mut state = self.state();
        state.settle(now);
        let ours = state.alive().filter(|one| {
            if one.by_others {
                self.is_adopted(&one.id)
            } else {
                !state.lost.contains(&one.name)
            }
        });
        ours.cloned().collect()
    }

    /// What the ledger says is wrong with the daemon as a whole.
    pub(crate) fn conditions(&self) -> BTreeSet<String> {
        self.read(|ledger| {
            let rows = "SELECT condition FROM condition";
            let mut rows = ledger.prepare_cached(rows).unwrap();
            let rows = rows.query_map([], |row| row.get(0)).unwrap();
            rows.map(Result::unwrap).collect()
        })
    }

    fn is_adopted(&self, id: &str) -> bool {
        self.read(|ledger| {
            let row = "SELECT 1 FROM history WHERE credential_id = ?1";
            ledger.prepare_cached(row).unwrap().exists([id]).unwrap()
        })
    }

    pub(crate) fn report(&self) -> Report {
        let mut state = self.state();
        Report {
            ops: std::mem::take(&mut state.ops),
            made: state
                .credentials
                .values()
                .filter(|one| !one.by_others)
                .count(),
            violations: std::mem::take(&mut state.violations),
            trace: std::mem::take(&mut state.trace),
        }
    }
}

/// How a simulation went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Every operation on which a fault could strike.
    pub(crate) ops: Vec<Op>,
    /// How many credentials were made.
    pub(crate) made: usize,
    /// What should never happen.
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
}

struct Dead;

impl Plan {
    fn strike(&mut self, number: usize, op: Op) -> Option<Fault> {
        match self {
            Self::Exactly(strikes) => strikes
                .iter_mut()
                .find_map(|strike| strike.strikes(number, op).then_some(strike.fault)),
            Self::Random(chance, one_in) => {
                if chance.below(*one_in) != 0 {
                    return None;
                }
                let own = op.faults();
                let choice = chance.below(own.len() * 4 + 4);
                if choice < own.len() * 4 {
                    return Some(own[choice / 4]);
                }
                // A lost or older ledger needs a person, and is planned.
                let event = EVENTS[chance.below(EVENTS.len())];
                let planned = matches!(event, Fault::SetBack | Fault::LedgerLost);
                Some(event).filter(|_| !planned)
            }
        }
    }
}

impl State {
    fn note(&mut self, now: Timestamp, what: String) {
        if self.traced {
            self.trace.push(format!("{now:.3} [{}] {what}", self.life));
        }
    }

    fn violate(&mut self, what: String) {
        if self.traced {
            self.trace.push(format!("VIOLATION: {what}"));
        }
        self.violations.push(what);
    }

    fn goes_on_for_ever(&mut self, why: &str) {
        if !std::mem::replace(&mut self.endless, true) {
            self.violate(format!("it goes on for ever: {why}"));
        }
    }

    fn alive(&self) -> impl Iterator<Item = &Credential> {
        let all = self.credentials.values();
        all.filter(|one| one.deleted_at.is_none())
    }

    fn make(&mut self, name: &str, at: Timestamp, by_others: bool) -> Credential {
        let number = self.credentials.len();
        let made = Credential {
            id: format!("key_{number:04}"),
            name: name.to_owned(),
            secret: format!("sk-admin-{name}-T3BlbkFJ-{number:06}"),
            created_at: at,
            deleted_at: None,
            by_others,
            doomed: false,
        };
        self.credentials.insert(made.id.clone(), made.clone());
        made
    }

    /// What the neighbour does until now: it makes a credential of each key, with
    /// a label of the same shape, and deletes the one before the last.
    fn neighbour_rotates(&mut self, scenario: &Scenario, now: Timestamp) {
        while let Some(at) = self.neighbour_at.filter(|at| *at <= now) {
            self.neighbour_at = Some(time::after(at, NEIGHBOURS_PERIOD));
            for key in &scenario.keys {
                let name = KeyName::new(key.name).unwrap();
                let number = self.credentials.len().to_be_bytes();
                let tail = [number[5], number[6], number[7]];
                let made = self.make(Label::new(&name, at, tail).as_str(), at, true);
                let kept = time::before(at, NEIGHBOURS_PERIOD);
                for one in self.credentials.values_mut() {
                    let its_own = one.by_others && key_of(&one.name) == key_of(&made.name);
                    if its_own && one.created_at < kept {
                        one.deleted_at.get_or_insert(at);
                    }
                }
            }
        }
    }

    /// What was to land until now lands.
    fn settle(&mut self, now: Timestamp) {
        let landed: Vec<_> = self.landings.extract_if(.., |(at, _)| *at <= now).collect();
        for (at, name) in landed {
            self.note(now, format!("{name} lands late"));
            self.make(&name, at, false);
        }
        let posted: Vec<_> = self
            .postings
            .extract_if(.., |(at, ..)| *at <= now)
            .collect();
        for (at, place, sequence, secret) in posted {
            self.note(now, format!("{place:?} applies {sequence} late"));
            self.apply(&place, sequence, &secret, at);
        }
    }

    fn apply(&mut self, place: &Place, sequence: u64, secret: &str, at: Timestamp) {
        let works = self.alive().any(|one| one.secret == secret);
        let sink = self.sinks.entry(place.clone()).or_default();
        // A receiver ignores what is not greater than the last it applied.
        if sequence <= sink.sequence {
            return;
        }
        sink.sequence = sequence;
        if let Some(before) = sink.content.replace(secret.to_owned()) {
            sink.replaced.push((before, at));
        }
        let all = self.credentials.values();
        let mut doomed = all.filter(|one| one.doomed);
        let wanted = self.hurried.contains(&place.0) || doomed.any(|one| one.secret == secret);
        if !works && !wanted {
            self.violate(format!("{place:?} is given a dead credential"));
        }
    }

    fn configured<'s>(&self, scenario: &'s Scenario) -> &'s Configuration {
        if self.reconfigured.len() % 2 == 1 {
            &scenario.changed
        } else {
            &scenario.keys
        }
    }

    fn configured_before<'s>(&self, scenario: &'s Scenario) -> &'s Configuration {
        if self.reconfigured.len() % 2 == 1 {
            &scenario.keys
        } else {
            &scenario.changed
        }
    }

    /// The sinks whose consumers count: those that are configured, and for one
    /// overlap more those that were.
    fn held_by(&self, scenario: &Scenario, now: Timestamp) -> Configuration {
        let Some(at) = self.reconfigured.last().copied() else {
            return scenario.keys.clone();
        };
        let mut all = self.configured(scenario).clone();
        let before = self.configured_before(scenario).iter();
        all.extend(
            before
                .filter(|key| now < time::after(at, key.overlap))
                .cloned(),
        );
        all
    }

    /// A credential has died: does anybody work with it?
    fn mourn(
        &mut self,
        dead: &Credential,
        now: Timestamp,
        counting: &Configuration,
        configured: &Configuration,
    ) {
        if dead.doomed {
            return;
        }
        let is_configured = |key: &str, sink: &str| {
            let mut keys = configured.iter().filter(|one| one.name == key);
            keys.any(|key| key.sinks.iter().any(|one| one.name == sink))
        };
        let mut bereft = Vec::new();
        for key in counting {
            let required = key.sinks.iter().filter(|sink| sink.required);
            for (sink, place) in required.flat_map(|sink| {
                let places = places(key.name, sink).into_iter();
                places.map(move |place| (sink, place))
            }) {
                let Some(held) = self.sinks.get(&place) else {
                    continue;
                };
                let late = |(secret, until): &(String, Timestamp)| {
                    *secret == dead.secret && time::after(*until, key.overlap) > now
                };
                let now_there = held.content.as_ref() == Some(&dead.secret);
                // A person wanted it so, and what is delivered to gets a new one.
                let hurried = self.hurried.contains(key.name);
                let now_there = now_there && (!hurried || is_configured(key.name, sink.name));
                if now_there || (!hurried && held.replaced.iter().any(late)) {
                    bereft.push(format!(
                        "a consumer of {place:?} is left with the dead {}",
                        dead.name
                    ));
                }
            }
        }
        for what in bereft {
            self.violate(what);
        }
    }
}

/// Where what a consumer knows of a sink stands: in the sink, and where it is
/// told, in its memory.
pub(crate) fn places(key: &str, sink: &crate::scenario::Sink) -> Vec<Place> {
    let place = (key.to_owned(), sink.name.to_owned());
    match sink.kind {
        Kind::Told => vec![told(&place), place],
        Kind::File | Kind::Hook | Kind::Own => vec![place],
    }
}

/// The memory of a consumer that reads when it is told to.
pub(crate) fn told((key, sink): &Place) -> Place {
    (key.clone(), format!("{sink}, read"))
}

/// The key that a label is of.
fn key_of(label: &str) -> &str {
    label.rsplitn(3, '-').last().unwrap_or_default()
}

/// On a disk in memory where there is one: nothing of it has to last.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(memory)
    {
        return dir;
    }
    tempfile::tempdir().unwrap()
}

const PARTS: [&str; 3] = ["", "-wal", "-shm"];

fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn copy(from: &Path, to: &Path) {
    for ending in PARTS {
        // A part that is not there is not there in the copy either.
        let _ = std::fs::remove_file(with(to, ending));
        let _ = std::fs::copy(with(from, ending), with(to, ending));
    }
}

fn remove(path: &Path) {
    for ending in PARTS {
        let _ = std::fs::remove_file(with(path, ending));
    }
}

/// The kinds of sink, for [`crate::sink`].
pub(crate) fn op_of(kind: Kind) -> Op {
    match kind {
        Kind::File | Kind::Told | Kind::Own => Op::Deliver,
        Kind::Hook => Op::Post,
    }
}
