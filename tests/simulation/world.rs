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
use rekeyd::core::ids::{KeyName, Label};
use rekeyd::core::state::KeyState;
use rekeyd::core::time;
use rekeyd::ledger::{HistoryFilter, LedgerReader};
use rekeyd::platform::clock::Clock;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::fault::{EVENTS, OperatorAction, SimFault, SimOperation};
use crate::rng::SeededRng;
use crate::scenario::{KeySpec, KeySpecs, PERIOD, Scenario, SinkKind, SinkSpec};

/// When every simulation begins.
const START_TIME: &str = "2026-11-24T00:00:00Z";

/// How long the host's clock is wrong after a step.
const CLOCK_ERROR_DURATION: Duration = Duration::from_secs(2 * 3_600);

/// More operations, and more turns of the loop that runs the engine, than any
/// world needs in one period: one that goes beyond would go on for ever. How
/// many periods a world lasts does not count: after a step of the clock some
/// last days, in which each key that waits is tried again at its back-off.
const MAX_OPERATIONS: u64 = 10_000;
const MAX_ITERATIONS: u64 = 10_000;

/// The clock is not looked at more often between two of either.
const MAX_CLOCK_READS: u64 = 1_000;

/// How long a sink is back before the daemon has certainly recorded it: it waits
/// for the provider's time.
const RETURN_NOTICED_AFTER: Duration = Duration::from_secs(60);

/// How often the neighbour rotates, so that it now comes before and now after
/// us; and how long it keeps what it has replaced.
const NEIGHBOUR_PERIOD: Duration = Duration::from_secs(41 * 60);

/// What rekeyd works with until it rotates its own.
pub(crate) const BOOTSTRAP_SECRET: &str = "sk-admin-made-by-hand-T3BlbkFJ-000000";

/// Which faults strike.
#[derive(Debug, Clone)]
pub(crate) enum FaultPlan {
    Exactly(Vec<PlannedFault>),
    /// One in so many, by chance.
    Random(SeededRng, usize),
}

/// A fault that strikes at one operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlannedFault {
    /// The operation's number, counted from 0.
    pub(crate) at: usize,
    pub(crate) fault: SimFault,
    /// How often it strikes again, at the next operations of the same kind.
    pub(crate) repeats: usize,
    /// That kind, once it has struck.
    operation: Option<SimOperation>,
}

impl PlannedFault {
    pub(crate) const fn once(at: usize, fault: SimFault) -> Self {
        Self::repeated(at, fault, 0)
    }

    pub(crate) const fn repeated(at: usize, fault: SimFault, again: usize) -> Self {
        Self {
            at,
            fault,
            repeats: again,
            operation: None,
        }
    }

    fn hits(&mut self, number: usize, op: SimOperation) -> bool {
        if number == self.at {
            self.operation = Some(op);
            return true;
        }
        let is_faulty = self.repeats > 0 && self.operation == Some(op);
        self.repeats -= usize::from(is_faulty);
        is_faulty
    }
}

/// As it is given in `REKEYD_FAULTS`: `12:Fails`, or `12:Fails:6` where it
/// strikes six times more.
impl std::fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:?}", self.at, self.fault)?;
        if self.repeats > 0 {
            write!(f, ":{}", self.repeats)?;
        }
        Ok(())
    }
}

/// A key's sink, by name.
pub(crate) type SinkLocation = (String, String);

pub(crate) struct SimWorld {
    pub(crate) scenario: Scenario,
    state: Mutex<WorldState>,
    started: Instant,
    pub(crate) start_time: Timestamp,
    crash_signal: Notify,
    /// A person did something.
    pub(crate) operator_acted: Notify,
    /// Reads the ledger beside the engine.
    ledger_reader: Mutex<Option<Connection>>,
    dir: TempDir,
}

struct WorldState {
    process: u64,
    operations_started: u64,
    /// The period that the next two are counted in.
    period: u64,
    operations_in_period: u64,
    iterations_in_period: u64,
    clock_reads: u64,
    /// It would have gone on for ever, and was ended.
    livelocked: bool,
    commit_failed: bool,
    operations: Vec<SimOperation>,
    plan: FaultPlan,
    clock_error: Option<(Duration, SignedDuration)>,
    /// When a fault struck last, counted from the start.
    last_fault_at: Option<Duration>,
    credentials: BTreeMap<String, SimCredential>,
    /// The label of every create, and when it was sent.
    sent_labels: BTreeMap<String, Timestamp>,
    /// Labels that the ledger does not know any more.
    forgotten_labels: BTreeSet<String>,
    late_creates: Vec<(Timestamp, String)>,
    late_deliveries: Vec<(Timestamp, SinkLocation, u64, String)>,
    sinks: BTreeMap<SinkLocation, SinkState>,
    actions: Vec<OperatorAction>,
    /// Keys whose former credentials a person had revoked at once.
    revoked_at_once: BTreeSet<String>,
    /// When the other configuration came into force, by turns the scenario's
    /// other one and its first.
    reconfigured_at: Vec<Timestamp>,
    fault_after_crash: Option<SimFault>,
    set_back_at: Option<usize>,
    /// The ledger is not what it was: a person says how to go on.
    needs_operator: bool,
    /// Keys of which a person has wished a rotation from this ledger.
    requested_keys: BTreeSet<String>,
    /// When the neighbour rotates next, if there is one.
    neighbour_at: Option<Timestamp>,
    violations: Vec<String>,
    /// How many commits were compared with the computed state.
    compared_states: u64,
    trace: Vec<String>,
    traced: bool,
}

/// An admin key at the provider.
#[derive(Debug, Clone)]
pub(crate) struct SimCredential {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) created_at: Timestamp,
    pub(crate) deleted_at: Option<Timestamp>,
    /// Whether somebody else made it: a person, or the neighbour.
    pub(crate) unmanaged: bool,
    /// Whether a person wanted it gone, whoever holds it.
    pub(crate) deletion_requested: bool,
}

#[derive(Debug, Default)]
struct SinkState {
    content: Option<String>,
    sequence: u64,
    written_at: Option<Timestamp>,
    /// What it held before, and until when.
    replaced: Vec<(String, Timestamp)>,
}

impl SimCredential {
    pub(crate) fn redacted(&self) -> String {
        format!("sk-admin...{}", &self.secret[self.secret.len() - 6..])
    }
}

impl Clock for SimWorld {
    fn now(&self) -> Timestamp {
        let elapsed = self.started.elapsed();
        let mut state = self.state();
        state.clock_reads += 1;
        if state.clock_reads > MAX_CLOCK_READS {
            state.record_livelock("looks at the clock and does nothing");
            drop(state);
            panic!("the engine goes in circles");
        }
        let wrong = state.clock_error.filter(|(until, _)| elapsed < *until);
        let now = time::after(self.start_time, elapsed);
        wrong.map_or(now, |(_, by)| now.checked_add(by).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

impl SimWorld {
    pub(crate) fn new(scenario: Scenario, plan: FaultPlan, traced: bool) -> Arc<Self> {
        let begin: Timestamp = START_TIME.parse().unwrap();
        let before = time::before(begin, NEIGHBOUR_PERIOD * 2);
        let owner = SimCredential {
            id: "key_owner".to_owned(),
            name: "made by hand".to_owned(),
            secret: BOOTSTRAP_SECRET.to_owned(),
            created_at: START_TIME.parse().unwrap(),
            deleted_at: None,
            unmanaged: true,
            deletion_requested: false,
        };
        let set_back_at = match &plan {
            FaultPlan::Exactly(faults) => faults
                .iter()
                .find(|strike| strike.fault == SimFault::LedgerSetBack)
                .map(|strike| strike.at / 2),
            FaultPlan::Random(..) => None,
        };
        let mut state = WorldState {
            process: 0,
            operations_started: 0,
            period: 0,
            operations_in_period: 0,
            iterations_in_period: 0,
            clock_reads: 0,
            livelocked: false,
            commit_failed: false,
            operations: Vec::new(),
            plan,
            clock_error: None,
            last_fault_at: None,
            credentials: BTreeMap::from([(owner.id.clone(), owner)]),
            sent_labels: BTreeMap::new(),
            forgotten_labels: BTreeSet::new(),
            late_creates: Vec::new(),
            late_deliveries: Vec::new(),
            sinks: BTreeMap::new(),
            actions: Vec::new(),
            revoked_at_once: BTreeSet::new(),
            reconfigured_at: Vec::new(),
            fault_after_crash: None,
            set_back_at,
            needs_operator: scenario.neighbour,
            requested_keys: BTreeSet::new(),
            neighbour_at: scenario.neighbour.then_some(before),
            violations: Vec::new(),
            compared_states: 0,
            trace: Vec::new(),
            traced,
        };
        state.rotate_neighbour(&scenario, begin);
        Arc::new(Self {
            scenario,
            state: Mutex::new(state),
            started: Instant::now(),
            start_time: begin,
            crash_signal: Notify::new(),
            operator_acted: Notify::new(),
            ledger_reader: Mutex::new(None),
            dir: memory_tempdir(),
        })
    }

    fn state(&self) -> MutexGuard<'_, WorldState> {
        // Whoever panicked has nothing half done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The true time, which is the provider's.
    pub(crate) fn true_now(&self) -> Timestamp {
        time::after(self.start_time, self.started.elapsed())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// When a fault struck last, counted from the start; none in a calm world.
    pub(crate) fn last_fault_at(&self) -> Option<Duration> {
        self.state().last_fault_at
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }

    /// Puts an empty ledger in its place at the very beginning. It is made
    /// once: that takes longer than a rotation.
    pub(crate) fn install_empty_ledger(&self, make: impl FnOnce(&Path)) {
        static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();
        if self.ledger().exists() {
            return;
        }
        let bytes = EMPTY.get_or_init(|| {
            make(&self.backup_path());
            let connection = Connection::open(self.backup_path()).unwrap();
            connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .unwrap();
            drop(connection);
            std::fs::read(self.backup_path()).unwrap()
        });
        std::fs::write(self.ledger(), bytes).unwrap();
    }

    pub(crate) fn has_hanging_keys(&self) -> bool {
        self.scenario.keys.iter().any(KeySpec::hangs)
    }

    pub(crate) fn current_process(&self) -> u64 {
        self.state().process
    }

    pub(crate) fn configuration(&self) -> KeySpecs {
        configured_keys(&self.scenario, self.configuration_number()).clone()
    }

    /// The scenario's other configuration counts from now on; the next time
    /// its first again.
    pub(crate) fn reconfigure(&self) {
        let now = self.true_now();
        self.state().reconfigured_at.push(now);
    }

    /// Whether the clock may step in this world.
    pub(crate) fn clock_may_step(&self) -> bool {
        match &self.state().plan {
            FaultPlan::Exactly(faults) => faults
                .iter()
                .any(|strike| matches!(strike.fault, SimFault::ClockAhead | SimFault::ClockBehind)),
            FaultPlan::Random(..) => true,
        }
    }

    /// Waits until the process is to die.
    pub(crate) async fn wait_for_crash(&self) {
        self.crash_signal.notified().await;
    }

    /// Begins an operation of the process `life`: numbers it, and says what
    /// goes wrong with it. A process that has died does nothing more.
    pub(crate) async fn begin_operation(
        &self,
        life: u64,
        op: SimOperation,
        about: &str,
    ) -> Option<SimFault> {
        let fault = self.next_fault(life, op, about);
        if fault.is_ok() {
            sleep(self.operation_duration(op)).await;
        }
        if self.current_process() != life {
            std::future::pending::<()>().await;
        }
        match fault {
            Err(ProcessDead) => std::future::pending().await,
            Ok(Some(
                SimFault::CrashBefore
                | SimFault::LedgerSetBack
                | SimFault::LedgerLost
                | SimFault::Reconfigured,
            )) => self.crash().await,
            Ok(fault) => fault,
        }
    }

    /// Ends an operation.
    pub(crate) async fn end_operation(&self, fault: Option<SimFault>) {
        if fault == Some(SimFault::CrashAfter) {
            self.crash::<()>().await;
        }
    }

    async fn crash<T>(&self) -> T {
        self.state().process += 1;
        self.crash_signal.notify_one();
        std::future::pending().await
    }

    fn next_fault(
        &self,
        life: u64,
        op: SimOperation,
        about: &str,
    ) -> Result<Option<SimFault>, ProcessDead> {
        let now = self.true_now();
        let mut state = self.state();
        if state.process != life {
            return Err(ProcessDead);
        }
        state.enter_period(self.elapsed());
        state.operations_started += 1;
        state.operations_in_period += 1;
        state.clock_reads = 0;
        if state.operations_in_period > MAX_OPERATIONS {
            state.record_livelock("more operations than it can need");
            state.process += 1;
            self.crash_signal.notify_one();
            return Err(ProcessDead);
        }
        state.apply_due(now);
        state.rotate_neighbour(&self.scenario, now);
        if self.elapsed() >= self.scenario.fault_period {
            state.log_trace(now, format!("{op:?} {about}"));
            return Ok(None);
        }
        let number = state.operations.len();
        state.operations.push(op);
        if state.set_back_at == Some(number) {
            copy_ledger(&self.ledger(), &self.backup_path());
        }
        let fault = state.plan.next_fault(number, op);
        if fault.is_some() {
            state.last_fault_at = Some(self.elapsed());
        }
        state.commit_failed |= op == SimOperation::Commit && fault.is_some();
        let told = fault
            .map(|fault| format!(" !! {fault:?}"))
            .unwrap_or_default();
        state.log_trace(now, format!("{number} {op:?} {about}{told}"));
        match fault {
            Some(SimFault::ClockAhead) => state.clock_error = Some(self.clock_error_of(3)),
            Some(SimFault::ClockBehind) => state.clock_error = Some(self.clock_error_of(-3)),
            Some(SimFault::Operator(act)) => {
                state.actions.push(act);
                self.operator_acted.notify_one();
            }
            Some(SimFault::LedgerSetBack | SimFault::LedgerLost | SimFault::Reconfigured) => {
                state.fault_after_crash = fault;
            }
            Some(_) | None => return Ok(fault),
        }
        Ok(fault.filter(|fault| {
            matches!(
                fault,
                SimFault::LedgerSetBack | SimFault::LedgerLost | SimFault::Reconfigured
            )
        }))
    }

    fn clock_error_of(&self, days: i64) -> (Duration, SignedDuration) {
        (
            self.elapsed() + CLOCK_ERROR_DURATION,
            SignedDuration::from_hours(24 * days),
        )
    }

    fn backup_path(&self) -> PathBuf {
        self.dir.path().join("copy.db")
    }

    /// What happens between two processes.
    pub(crate) fn between_processes(&self) {
        let fault = self.state().fault_after_crash.take();
        *self.ledger_reader.lock().unwrap() = None;
        match fault {
            Some(SimFault::LedgerLost) => {
                remove_ledger(&self.ledger());
                self.state().needs_operator = true;
            }
            Some(SimFault::LedgerSetBack) => {
                remove_ledger(&self.ledger());
                copy_ledger(&self.backup_path(), &self.ledger());
                self.state().needs_operator = true;
            }
            Some(SimFault::Reconfigured) => {
                self.reconfigure();
                return;
            }
            Some(_) | None => return,
        }
        let known = self.labels();
        let mut state = self.state();
        state.requested_keys.clear();
        let sent = state.sent_labels.keys();
        let lost: Vec<_> = sent
            .filter(|label| !known.contains(*label))
            .cloned()
            .collect();
        state.forgotten_labels.extend(lost);
    }

    /// Every label that the ledger knows.
    fn labels(&self) -> BTreeSet<String> {
        let Ok(reader) = LedgerReader::open(&self.ledger()) else {
            return BTreeSet::new();
        };
        let snapshot = reader.snapshot().unwrap();
        let mut history = snapshot.history(&HistoryFilter::default()).unwrap();
        let labels = history.rows().unwrap().filter_map(|row| row.unwrap().label);
        labels.map(|label| label.as_str().to_owned()).collect()
    }

    /// Begins another turn of the loop that runs the engine. False if there
    /// were so many that there would be no end.
    pub(crate) fn next_iteration(&self) -> bool {
        let mut state = self.state();
        state.enter_period(self.elapsed());
        state.iterations_in_period += 1;
        state.clock_reads = 0;
        if state.iterations_in_period > MAX_ITERATIONS {
            state.record_livelock("more turns than it can need");
        }
        !state.livelocked
    }

    /// Whether it was ended since it would have gone on for ever.
    pub(crate) fn is_livelocked(&self) -> bool {
        self.state().livelocked
    }

    /// How long an operation takes: another time each time, so that now this
    /// and now that of two comes first.
    fn operation_duration(&self, op: SimOperation) -> Duration {
        let mixed = self
            .state()
            .operations_started
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Duration::from_millis(match op {
            SimOperation::Commit | SimOperation::CheckDrift => mixed >> 60,
            SimOperation::Create
            | SimOperation::Check
            | SimOperation::List
            | SimOperation::Retrieve
            | SimOperation::Verify
            | SimOperation::Delete
            | SimOperation::Preflight
            | SimOperation::Deliver
            | SimOperation::DeliverWebhook
            | SimOperation::OnChange => mixed >> 57,
        })
    }

    /// Nobody answers until the time is over.
    pub(crate) async fn wait_for_timeout(&self) {
        sleep(Duration::from_secs(30)).await;
    }

    /// Whether this secret works at the provider.
    pub(crate) fn accepts_secret(&self, secret: &str) -> bool {
        let state = self.state();
        state.live_credentials().any(|one| one.secret == secret)
    }

    /// Makes a credential, now or later.
    pub(crate) fn create(&self, label: &Label, later: Option<Duration>) -> Option<SimCredential> {
        let now = self.true_now();
        let name = label.to_string();
        let known = self.is_intended(&name);
        let first = self.is_first_of_key(&name);
        let mut state = self.state();
        if !known {
            state.record_violation(format!("{name} is made, and no intent is recorded"));
        }
        if first && self.scenario.neighbour && !state.requested_keys.contains(key_of_label(&name)) {
            state.record_violation(format!("{name} is made beside the neighbour's, unasked"));
        }
        if state.sent_labels.insert(name.clone(), now).is_some() {
            state.record_violation(format!("the label {name} is sent twice"));
        }
        if let Some(later) = later {
            state.late_creates.push((time::after(now, later), name));
            return None;
        }
        Some(state.create_credential(&name, now, false))
    }

    /// A create that did nothing.
    pub(crate) fn record_sent_label(&self, label: &Label) {
        let now = self.true_now();
        let mut state = self.state();
        if state.sent_labels.insert(label.to_string(), now).is_some() {
            state.record_violation(format!("the label {label} is sent twice"));
        }
    }

    /// When the create with this label was sent, by the true time.
    pub(crate) fn sent_at(&self, label: &str) -> Option<Timestamp> {
        self.state().sent_labels.get(label).copied()
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
    fn is_first_of_key(&self, label: &str) -> bool {
        let rows = "SELECT COUNT(*) FROM history WHERE key = ?1";
        let count: rusqlite::Result<u32> = self.read(|ledger| {
            let mut rows = ledger.prepare_cached(rows).unwrap();
            rows.query_row([key_of_label(label)], |row| row.get(0))
        });
        count.is_ok_and(|count| count < 2)
    }

    /// Reads the ledger beside the engine.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        let mut reader = self.ledger_reader.lock().unwrap();
        read(reader.get_or_insert_with(|| open_ledger(&self.ledger())))
    }

    /// A person makes a credential.
    pub(crate) fn create_manually(&self) -> String {
        let now = self.true_now();
        let mut state = self.state();
        state.create_credential("by hand", now, true).id
    }

    /// When a credential was last made for a key.
    pub(crate) fn newest_created_at(&self, key: &str) -> Option<Timestamp> {
        let state = self.state();
        let all = state.credentials.values();
        let created = all.filter(|one| !one.unmanaged && key_of_label(&one.name) == key);
        created.map(|one| one.created_at).max()
    }

    /// Every credential as it was at a time.
    pub(crate) fn credentials_at(&self, at: Timestamp) -> Vec<SimCredential> {
        let state = self.state();
        let all = state.credentials.values();
        let then = all.filter(|one| {
            one.created_at <= at && one.deleted_at.is_none_or(|deleted| deleted > at)
        });
        then.cloned().collect()
    }

    /// Which configuration is in force, for [`SimWorld::delete`].
    pub(crate) fn configuration_number(&self) -> usize {
        self.state().reconfigured_at.len()
    }

    /// Deletes a credential. What consumers count follows from the configuration
    /// that was in force when the request was sent.
    pub(crate) fn delete(&self, id: &str, configuration: usize) {
        let now = self.true_now();
        let mut state = self.state();
        let counting = state.counting_keys(&self.scenario, configuration, now);
        let Some(found) = state.credentials.get_mut(id) else {
            return;
        };
        if found.deleted_at.is_some() {
            return;
        }
        found.deleted_at = Some(now);
        let found = found.clone();
        if found.unmanaged && !found.deletion_requested
            || state.forgotten_labels.contains(&found.name)
        {
            state.record_violation(format!("{} is deleted, which is not ours", found.name));
        }
        state.check_consumers(&found, now, &counting, &self.scenario, configuration);
    }

    /// Puts a secret into a sink, now or later.
    pub(crate) fn write_sink(
        &self,
        place: &SinkLocation,
        sequence: u64,
        secret: &str,
        later: Option<Duration>,
    ) {
        let at = time::after(self.true_now(), later.unwrap_or_default());
        let mut state = self.state();
        if later.is_some() {
            let posting = (at, place.clone(), sequence, secret.to_owned());
            state.late_deliveries.push(posting);
        } else {
            state.apply_to_sink(place, sequence, secret, at);
        }
    }

    /// The number under which a file is replaced by this secret: it has none
    /// of its own, and writing the same again changes nothing.
    pub(crate) fn next_sequence(&self, place: &SinkLocation, secret: &str) -> u64 {
        let state = self.state();
        let Some(sink) = state.sinks.get(place) else {
            return 1;
        };
        let same = sink.content.as_deref() == Some(secret);
        sink.sequence + u64::from(!same)
    }

    /// What stands in a sink.
    pub(crate) fn sink_content(&self, place: &SinkLocation) -> Option<String> {
        self.state().sinks.get(place)?.content.clone()
    }

    pub(crate) fn take_actions(&self) -> Vec<OperatorAction> {
        std::mem::take(&mut self.state().actions)
    }

    /// A person wants a credential gone, whoever holds it; or takes it over.
    pub(crate) fn request_deletion(&self, id: &str) {
        if let Some(found) = self.state().credentials.get_mut(id) {
            found.deletion_requested = true;
        }
    }

    /// A person wants all former credentials of a key gone at once.
    pub(crate) fn request_immediate_revocation(&self, key: &str) {
        self.state().revoked_at_once.insert(key.to_owned());
    }

    /// The ledger was lost: nothing may have been made since for a key of
    /// which there was a live credential, and no row.
    pub(crate) fn check_no_create_beside_lookalikes(&self) {
        let mut state = self.state();
        let alive = state.live_credentials().filter(|one| !one.unmanaged);
        let (before, since): (Vec<_>, Vec<_>) =
            alive.partition(|one| state.forgotten_labels.contains(&one.name));
        let beside = since.iter().find(|new| {
            let of_key = |old: &SimCredential| key_of_label(&old.name) == key_of_label(&new.name);
            let all = state.credentials.values();
            let mut of_row = all.filter(|old| !state.forgotten_labels.contains(&old.name));
            let knew = of_row.any(|old| of_key(old) && old.created_at < new.created_at);
            !knew && before.iter().any(|old| of_key(old))
        });
        if let Some(beside) = beside.map(|one| one.name.clone()) {
            state.record_violation(format!("{beside} is made beside lookalikes"));
        }
    }

    /// Whether a person has to say how to go on with this ledger.
    pub(crate) fn needs_operator(&self) -> bool {
        self.state().needs_operator
    }

    /// A person wishes a rotation of a key.
    pub(crate) fn record_rotation_request(&self, key: &str) {
        self.state().requested_keys.insert(key.to_owned());
    }

    /// A person has looked at everything, and wishes that all keys rotate.
    pub(crate) fn record_request_for_all(&self) {
        let keys = self.configuration();
        let mut state = self.state();
        state.needs_operator = false;
        state
            .requested_keys
            .extend(keys.iter().map(|key| key.name.to_owned()));
    }

    /// Whether any commit was compared.
    pub(crate) fn has_compared_states(&self) -> bool {
        self.state().compared_states > 0
    }

    /// What changes to a key lead to must be what the ledger holds then.
    pub(crate) fn compare_states(&self, computed: &KeyState, read: &KeyState) {
        self.state().compared_states += 1;
        if computed != read {
            self.record_violation(format!("computed {computed:#?}, and read {read:#?}"));
        }
    }

    pub(crate) fn record_violation(&self, what: String) {
        self.state().record_violation(what);
    }

    /// Notes that something is not so that should be.
    pub(crate) fn check(&self, is_so: bool, what: &str) {
        if !is_so {
            self.record_violation(format!("it is not so that {what}"));
        }
    }

    /// Whether everything could be recorded so far.
    pub(crate) fn has_recorded_all(&self) -> bool {
        !self.state().commit_failed
    }

    pub(crate) fn log_trace(&self, what: String) {
        let now = self.true_now();
        self.state().log_trace(now, what);
    }

    /// Credentials that are alive and that the ledger must know: those that
    /// rekeyd made, and those that it has taken over.
    pub(crate) fn live_managed_credentials(&self) -> Vec<SimCredential> {
        let now = self.true_now();
        let mut state = self.state();
        state.apply_due(now);
        let ours = state.live_credentials().filter(|one| {
            if one.unmanaged {
                self.is_adopted(&one.id)
            } else {
                !state.forgotten_labels.contains(&one.name)
            }
        });
        ours.cloned().collect()
    }

    /// What the ledger says is wrong with the daemon as a whole.
    pub(crate) fn conditions(&self) -> BTreeSet<String> {
        self.read(|ledger| {
            let rows = "SELECT name FROM condition";
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

    pub(crate) fn report(&self) -> SimReport {
        let mut state = self.state();
        SimReport {
            operations: std::mem::take(&mut state.operations),
            created: state
                .credentials
                .values()
                .filter(|one| !one.unmanaged)
                .count(),
            violations: std::mem::take(&mut state.violations),
            trace: std::mem::take(&mut state.trace),
        }
    }
}

/// How a simulation went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SimReport {
    /// Every operation on which a fault could strike.
    pub(crate) operations: Vec<SimOperation>,
    /// How many credentials were made.
    pub(crate) created: usize,
    /// What should never happen.
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
}

struct ProcessDead;

impl FaultPlan {
    fn next_fault(&mut self, number: usize, op: SimOperation) -> Option<SimFault> {
        match self {
            Self::Exactly(faults) => faults
                .iter_mut()
                .find_map(|strike| strike.hits(number, op).then_some(strike.fault)),
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
                let planned = matches!(event, SimFault::LedgerSetBack | SimFault::LedgerLost);
                Some(event).filter(|_| !planned)
            }
        }
    }
}

impl WorldState {
    fn log_trace(&mut self, now: Timestamp, what: String) {
        if self.traced {
            self.trace
                .push(format!("{now:.3} [{}] {what}", self.process));
        }
    }

    fn record_violation(&mut self, what: String) {
        if self.traced {
            self.trace.push(format!("VIOLATION: {what}"));
        }
        self.violations.push(what);
    }

    fn record_livelock(&mut self, why: &str) {
        if !std::mem::replace(&mut self.livelocked, true) {
            self.record_violation(format!("it goes on for ever: {why}"));
        }
    }

    /// Counts operations and turns from zero in each period.
    fn enter_period(&mut self, elapsed: Duration) {
        let period = elapsed.as_secs() / PERIOD.as_secs();
        if self.period != period {
            self.period = period;
            (self.operations_in_period, self.iterations_in_period) = (0, 0);
        }
    }

    fn live_credentials(&self) -> impl Iterator<Item = &SimCredential> {
        let all = self.credentials.values();
        all.filter(|one| one.deleted_at.is_none())
    }

    fn created_at(&self, secret: &str) -> Option<Timestamp> {
        let mut all = self.credentials.values();
        let found = all.find(|one| one.secret == secret);
        found.map(|one| one.created_at)
    }

    fn create_credential(&mut self, name: &str, at: Timestamp, by_others: bool) -> SimCredential {
        let number = self.credentials.len();
        let created = SimCredential {
            id: format!("key_{number:04}"),
            name: name.to_owned(),
            secret: format!("sk-admin-{name}-T3BlbkFJ-{number:06}"),
            created_at: at,
            deleted_at: None,
            unmanaged: by_others,
            deletion_requested: false,
        };
        self.credentials.insert(created.id.clone(), created.clone());
        created
    }

    /// What the neighbour does until now: it makes a credential of each key, with
    /// a label of the same shape, and deletes the one before the last.
    fn rotate_neighbour(&mut self, scenario: &Scenario, now: Timestamp) {
        while let Some(at) = self.neighbour_at.filter(|at| *at <= now) {
            self.neighbour_at = Some(time::after(at, NEIGHBOUR_PERIOD));
            for key in &scenario.keys {
                let name = KeyName::new(key.name).unwrap();
                let number = self.credentials.len().to_be_bytes();
                let tail = [number[5], number[6], number[7]];
                let created =
                    self.create_credential(Label::new(&name, at, tail).as_str(), at, true);
                let kept = time::before(at, NEIGHBOUR_PERIOD);
                for one in self.credentials.values_mut() {
                    let its_own =
                        one.unmanaged && key_of_label(&one.name) == key_of_label(&created.name);
                    if its_own && one.created_at < kept {
                        one.deleted_at.get_or_insert(at);
                    }
                }
            }
        }
    }

    /// What was to land until now lands.
    fn apply_due(&mut self, now: Timestamp) {
        let landed: Vec<_> = self
            .late_creates
            .extract_if(.., |(at, _)| *at <= now)
            .collect();
        for (at, name) in landed {
            self.log_trace(now, format!("{name} lands late"));
            self.create_credential(&name, at, false);
        }
        let posted: Vec<_> = self
            .late_deliveries
            .extract_if(.., |(at, ..)| *at <= now)
            .collect();
        for (at, place, sequence, secret) in posted {
            self.log_trace(now, format!("{place:?} applies {sequence} late"));
            self.apply_to_sink(&place, sequence, &secret, at);
        }
    }

    fn apply_to_sink(&mut self, place: &SinkLocation, sequence: u64, secret: &str, at: Timestamp) {
        let works = self.live_credentials().any(|one| one.secret == secret);
        let created_at = self.created_at(secret);
        let held = self.sinks.get(place).and_then(|sink| sink.content.as_ref());
        let is_newer = held.is_some_and(|held| created_at > self.created_at(held));
        let sink = self.sinks.entry(place.clone()).or_default();
        // A receiver ignores what is not greater than the last it applied.
        if sequence <= sink.sequence {
            if is_newer {
                self.record_violation(format!("{place:?} ignores a newer credential"));
            }
            return;
        }
        sink.sequence = sequence;
        sink.written_at = Some(at);
        if let Some(before) = sink.content.replace(secret.to_owned()) {
            sink.replaced.push((before, at));
        }
        let all = self.credentials.values();
        let mut doomed = all.filter(|one| one.deletion_requested);
        let expected =
            self.revoked_at_once.contains(&place.0) || doomed.any(|one| one.secret == secret);
        if !works && !expected {
            self.record_violation(format!("{place:?} is given a dead credential"));
        }
    }

    /// The sinks whose consumers count under this configuration: those that are
    /// configured, and for one overlap more those that were.
    fn counting_keys(&self, scenario: &Scenario, number: usize, now: Timestamp) -> KeySpecs {
        let mut all = configured_keys(scenario, number).clone();
        let changes = &self.reconfigured_at[..number];
        let before = number.checked_sub(1).into_iter();
        let before = before.flat_map(|before| configured_keys(scenario, before).iter().cloned());
        all.extend(before.map(|mut key| {
            key.sinks.retain(|sink| {
                let removed_at = self.removed_at(key.name, sink, changes);
                removed_at.is_some_and(|at| now < time::after(at, key.overlap))
            });
            key
        }));
        all
    }

    /// When a sink of the configuration before this one was removed. One that
    /// was back for moments, and was given nothing in them, counts from its
    /// removal before: the daemon may not have recorded that it was back.
    fn removed_at(&self, key: &str, sink: &SinkSpec, changes: &[Timestamp]) -> Option<Timestamp> {
        let mut changes = changes.iter().rev().copied();
        let (last, back, before) = (changes.next()?, changes.next(), changes.next());
        let Some(back) = back.filter(|back| time::until(*back, last) < RETURN_NOTICED_AFTER) else {
            return Some(last);
        };
        let mut places = locations_of(key, sink).into_iter();
        let is_given = places.any(|place| {
            let sink = self.sinks.get(&place);
            sink.and_then(|sink| sink.written_at) >= Some(back)
        });
        if is_given { Some(last) } else { before }
    }

    /// A credential has died: does anybody work with it?
    fn check_consumers(
        &mut self,
        dead: &SimCredential,
        now: Timestamp,
        counting: &KeySpecs,
        scenario: &Scenario,
        configuration: usize,
    ) {
        if dead.deletion_requested {
            return;
        }
        let has_sink = |number: usize, key: &str, sink: &str| {
            let mut keys = configured_keys(scenario, number).iter();
            keys.any(|one| one.name == key && one.sinks.iter().any(|one| one.name == sink))
        };
        let changed_at = configuration.checked_sub(1);
        let changed_at = changed_at.map(|before| (before, self.reconfigured_at[before]));
        let mut bereft = Vec::new();
        for key in counting {
            let required = key.sinks.iter().filter(|sink| sink.required);
            for (sink, place) in required.flat_map(|sink| {
                let places = locations_of(key.name, sink).into_iter();
                places.map(move |place| (sink, place))
            }) {
                let Some(held) = self.sinks.get(&place) else {
                    continue;
                };
                let late = |(secret, until): &(String, Timestamp)| {
                    *secret == dead.secret && time::after(*until, key.overlap) > now
                };
                let now_there = held.content.as_ref() == Some(&dead.secret);
                // A person wanted it so, and each sink of the delivery gets a
                // new one: not a sink that came back after the delivery.
                let is_immediate = self.revoked_at_once.contains(key.name);
                let is_delivered_to = has_sink(configuration, key.name, sink.name)
                    && changed_at.is_none_or(|(before, at)| {
                        has_sink(before, key.name, sink.name) || held.written_at >= Some(at)
                    });
                let now_there = now_there && (!is_immediate || is_delivered_to);
                if now_there || (!is_immediate && held.replaced.iter().any(late)) {
                    bereft.push(format!(
                        "a consumer of {place:?} is left with the dead {}",
                        dead.name
                    ));
                }
            }
        }
        for what in bereft {
            self.record_violation(what);
        }
    }
}

/// The keys of a configuration: by turns the scenario's first and its other.
fn configured_keys(scenario: &Scenario, number: usize) -> &KeySpecs {
    if number % 2 == 1 {
        &scenario.changed_keys
    } else {
        &scenario.keys
    }
}

/// Where what a consumer knows of a sink stands: in the sink, and where it is
/// told, in its memory.
pub(crate) fn locations_of(key: &str, sink: &SinkSpec) -> Vec<SinkLocation> {
    let place = (key.to_owned(), sink.name.to_owned());
    match sink.kind {
        SinkKind::NotifiedFile => vec![consumer_cache(&place), place],
        SinkKind::File
        | SinkKind::Webhook
        | SinkKind::HangingWebhook
        | SinkKind::SelfCredential => vec![place],
    }
}

/// The memory of a consumer that reads when it is told to.
pub(crate) fn consumer_cache((key, sink): &SinkLocation) -> SinkLocation {
    (key.clone(), format!("{sink}, read"))
}

/// The key that a label is of.
fn key_of_label(label: &str) -> &str {
    label.rsplitn(3, '-').last().unwrap_or_default()
}

/// On a disk in memory where there is one: nothing of it has to last.
fn memory_tempdir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(memory)
    {
        return dir;
    }
    tempfile::tempdir().unwrap()
}

const FILE_SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

fn with_suffix(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Opens the ledger beside its writer, as a person with `sqlite3` does.
fn open_ledger(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

fn copy_ledger(from: &Path, to: &Path) {
    for ending in FILE_SUFFIXES {
        // A part that is not there is not there in the copy either.
        let _ = std::fs::remove_file(with_suffix(to, ending));
        let _ = std::fs::copy(with_suffix(from, ending), with_suffix(to, ending));
    }
}

fn remove_ledger(path: &Path) {
    for ending in FILE_SUFFIXES {
        let _ = std::fs::remove_file(with_suffix(path, ending));
    }
}

/// The kinds of sink, for [`crate::sink`].
pub(crate) fn delivery_operation(kind: SinkKind) -> SimOperation {
    match kind {
        SinkKind::File | SinkKind::NotifiedFile | SinkKind::SelfCredential => SimOperation::Deliver,
        SinkKind::Webhook | SinkKind::HangingWebhook => SimOperation::DeliverWebhook,
    }
}
