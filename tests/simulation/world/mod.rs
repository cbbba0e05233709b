//! The simulated world of the engine: the provider's credentials, the sinks and their
//! consumers, the clocks, the ledger's files, an operator and another daemon.
//!
//! The engine starts an operation with [`SimWorld::begin_operation`], which returns the
//! fault that the plan has for it. Each part of the world checks its own invariants where an
//! operation could violate them.

mod clock;
mod configuration;
mod consumers;
mod copied_files;
mod create_limit;
mod credentials;
mod fault_plan;
mod leaks;
mod ledger_files;
mod ledger_folder;
mod ledger_view;
mod livelock;
mod operations;
mod operator;
mod other_daemon;
mod report;
mod retirement;
mod shared_credentials;
mod sinks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::time;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::clock::ClockError;
use self::create_limit::CreateLimiter;
use self::credentials::LateCreate;
use self::leaks::Leak;
use self::ledger_folder::LentFiles;
use self::livelock::WorkCounters;
use self::retirement::SimRetirement;
use self::shared_credentials::SharedAdoption;
use self::sinks::{LateDelivery, SinkState};
use crate::fault::{OperatorAction, SimFault, SimOperation};
use crate::scenario::Scenario;

pub(crate) use self::credentials::{BOOTSTRAP_SECRET, INVENTED_ID, SimCredential};
pub(crate) use self::fault_plan::{FaultPlan, PlannedFault};
pub(crate) use self::leaks::LEAK_BOUND;
pub(crate) use self::report::SimReport;
pub(crate) use self::sinks::{SinkLocation, consumer_cache, locations_of};

/// The start of every simulation.
const START_TIME: &str = "2026-11-24T00:00:00Z";

/// The age of the credential that an operator created before the first start: even a stale
/// list has it.
const BOOTSTRAP_AGE: Duration = Duration::from_secs(30 * 86_400);

pub(crate) struct SimWorld {
    pub(crate) scenario: Scenario,
    state: Mutex<WorldState>,
    started: Instant,
    pub(crate) start_time: Timestamp,
    crash_signal: Notify,
    /// Signals that an operator's action waits in [`SimWorld::take_operator_actions`].
    pub(crate) operator_acted: Notify,
    files: LentFiles,
}

struct WorldState {
    /// The number of the running process.
    process: u64,
    operations_started: u64,
    work: WorkCounters,
    /// The operations in the fault period.
    operations: Vec<SimOperation>,
    plan: FaultPlan,
    clock_error: Option<ClockError>,
    /// The time from the start to the last fault.
    last_fault_at: Option<Duration>,
    has_commit_fault: bool,
    credentials: BTreeMap<String, SimCredential>,
    /// The label of every create, and when it was sent.
    sent_labels: BTreeMap<String, Timestamp>,
    /// The labels that a lost or restored ledger does not have any more.
    forgotten_labels: BTreeSet<String>,
    late_creates: Vec<LateCreate>,
    create_limiter: CreateLimiter,
    late_deliveries: Vec<LateDelivery>,
    sinks: BTreeMap<SinkLocation, SinkState>,
    /// The secret that rekeyd last authenticated with.
    own_secret: Option<String>,
    /// The file of rekeyd's own credential, if a key replaces it.
    own_file: Option<SinkLocation>,
    /// The secrets that somebody wrote into the file of rekeyd's own credential.
    restored_secrets: BTreeSet<String>,
    operator_actions: Vec<OperatorAction>,
    shared_adoptions: Vec<SharedAdoption>,
    /// The key that the operator has retired.
    retirement: Option<SimRetirement>,
    leaks: Vec<Leak>,
    /// The keys whose previous credentials the operator had revoked at once.
    immediately_revoked_keys: BTreeSet<String>,
    /// When each reconfiguration occurred. They alternate between the scenario's other
    /// configuration and its first.
    reconfigured_at: Vec<Timestamp>,
    /// The fault that is applied before the next process starts.
    pending_fault: Option<SimFault>,
    /// The number of the operation before which the ledger is backed up.
    backup_at: Option<usize>,
    /// Whether an operator must request the rotations of this ledger's keys.
    needs_operator: bool,
    /// The keys for which an operator has requested a rotation from this ledger.
    requested_keys: BTreeSet<String>,
    /// The next rotation of the other daemon.
    other_daemon_rotates_at: Option<Timestamp>,
    violations: Vec<String>,
    /// The number of commits whose computed state was compared.
    compared_states: u64,
    trace: Vec<String>,
    is_traced: bool,
}

impl SimWorld {
    pub(crate) fn new(scenario: Scenario, plan: FaultPlan, is_traced: bool) -> Arc<Self> {
        let start_time: Timestamp = START_TIME.parse().unwrap();
        let bootstrap = SimCredential::bootstrap(time::before(start_time, BOOTSTRAP_AGE));
        let mut state = WorldState {
            process: 0,
            operations_started: 0,
            work: WorkCounters::default(),
            operations: Vec::new(),
            backup_at: plan.backup_at(),
            plan,
            clock_error: None,
            last_fault_at: None,
            has_commit_fault: false,
            credentials: BTreeMap::from([(bootstrap.id.clone(), bootstrap)]),
            sent_labels: BTreeMap::new(),
            forgotten_labels: BTreeSet::new(),
            late_creates: Vec::new(),
            create_limiter: CreateLimiter::default(),
            late_deliveries: Vec::new(),
            sinks: BTreeMap::new(),
            own_secret: None,
            own_file: scenario.own_file(),
            restored_secrets: BTreeSet::new(),
            operator_actions: Vec::new(),
            shared_adoptions: Vec::new(),
            retirement: None,
            leaks: Vec::new(),
            immediately_revoked_keys: BTreeSet::new(),
            reconfigured_at: Vec::new(),
            pending_fault: None,
            needs_operator: scenario.has_other_daemon,
            requested_keys: BTreeSet::new(),
            other_daemon_rotates_at: other_daemon::first_rotation_at(&scenario, start_time),
            violations: Vec::new(),
            compared_states: 0,
            trace: Vec::new(),
            is_traced,
        };
        state.rotate_other_daemon(&scenario, start_time);
        Arc::new(Self {
            scenario,
            state: Mutex::new(state),
            started: Instant::now(),
            start_time,
            crash_signal: Notify::new(),
            operator_acted: Notify::new(),
            files: LentFiles::take(),
        })
    }

    fn state(&self) -> MutexGuard<'_, WorldState> {
        // The report of a world whose engine panicked needs the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
