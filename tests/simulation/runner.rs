//! Runs the real engine in a world, one process after another, until the world is at
//! rest.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use jiff::tz::TimeZone;
use rekeyd::core::change::OperatorNote;
use rekeyd::core::condition::Condition;
use rekeyd::core::ids::{CredentialId, KeyName, SinkId};
use rekeyd::core::notification::{ChannelId, EventKind};
use rekeyd::core::policy::KeyPolicy;
use rekeyd::core::schedule::Schedule;
use rekeyd::core::scope::Scope;
use rekeyd::core::secret::ActiveCredential;
use rekeyd::core::subscriptions::{Subscription, Subscriptions};
use rekeyd::core::time;
use rekeyd::engine::conditions::Conditions;
use rekeyd::engine::operator_command::{CommandError, OperatorCommand, PendingCommand};
use rekeyd::engine::{Engine, ManagedKey, RotationRequest, RunMode, Services};
use rekeyd::ledger::{self, Ledger, LedgerIdentity, LedgerOptions, WriterDriver};
use rekeyd::platform::clock::Clock;
use rekeyd::provider::failover::FailoverProvider;
use rekeyd::sink::Sink;
use rekeyd::sink::self_credential::SelfCredentialSink;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::sleep;

use crate::fault::OperatorAction;
use crate::oracle;
use crate::provider::{SelfCredentialFile, SimProvider};
use crate::rng::{self, SeededRng};
use crate::scenario::{self, PERIOD, SCHEDULE, Scenario, SinkKind};
use crate::sink::{SimDisk, SimSink};
use crate::world::{FaultPlan, SimReport, SimWorld};

/// The delay until the host restarts the daemon.
const RESTART_DELAY: Duration = Duration::from_secs(3);

/// The interval at which the daemon checks the clock by itself.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The number of credentials of one key that may live at once.
pub(crate) const MAX_LIVE_CREDENTIALS: usize = 6;

/// The number of periods after the last fault within which the world must be at rest.
const MAX_REST_PERIODS: u32 = 48;

/// The number of periods after the last fault within which every key must rotate by its
/// schedule again, even if the world is not at rest.
const MAX_RECOVERY_PERIODS: u32 = 4;

/// Runs one simulation. The same arguments give the same report.
pub(crate) fn run(scenario: &Scenario, plan: FaultPlan, seed: u64, traced: bool) -> SimReport {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async { SimWorld::new(scenario.clone(), plan, traced) });
    let simulation = || {
        runtime.block_on(async {
            run_until_rest(&world, seed).await;
            oracle::check_final_ledger(&world);
            oracle::check_punctuality(&world);
        });
    };
    // The test must report the world whose engine panicked.
    if std::panic::catch_unwind(AssertUnwindSafe(simulation)).is_err() {
        world.record_violation("it panicked".to_owned());
    }
    world.report()
}

async fn run_until_rest(world: &Arc<SimWorld>, seed: u64) {
    let mut rest_at = world.scenario.rest_after;
    let last = rest_at + PERIOD * MAX_REST_PERIODS;
    let mut rng = SeededRng(seed);
    loop {
        let process_id = world.current_process();
        let process = run_process(world, process_id, rng.next_u64(), rest_at);
        tokio::select! {
            biased;
            () = world.wait_for_crash() => {
                if world.is_livelocked() {
                    return;
                }
                world.log_trace("the process dies".to_owned());
                world.between_processes();
                sleep(RESTART_DELAY).await;
            }
            end = process => match end {
                ProcessEnd::StartFailed => sleep(RESTART_DELAY).await,
                ProcessEnd::AtRest | ProcessEnd::Livelock => return,
                ProcessEnd::NotAtRest(reason) => {
                    world.record_violation(format!("not at rest after {MAX_REST_PERIODS} periods: {reason}"));
                    return;
                }
            }
        }
        while rest_at < world.elapsed() && rest_at < last {
            rest_at += PERIOD;
        }
    }
}

enum ProcessEnd {
    StartFailed,
    AtRest,
    NotAtRest(String),
    Livelock,
}

async fn run_process(
    world: &Arc<SimWorld>,
    process_id: u64,
    seed: u64,
    mut rest_at: Duration,
) -> ProcessEnd {
    let last = world.scenario.rest_after + PERIOD * MAX_REST_PERIODS;
    let Some((mut engine, shared)) = start_engine(world, process_id, seed).await else {
        return ProcessEnd::StartFailed;
    };
    // If the clock cannot step, checking it has no effect.
    let tick = if world.clock_may_step() {
        CLOCK_CHECK_INTERVAL
    } else {
        PERIOD
    };
    let mut operator_at = world.needs_operator().then(|| world.elapsed() + PERIOD / 4);
    let mut replies: Vec<PendingReply> = Vec::new();
    loop {
        if !world.next_iteration() {
            return ProcessEnd::Livelock;
        }
        oracle::check_engine_view(world, &engine);
        let problems = engine.active_conditions();
        if operator_at.is_none()
            && problems
                .iter()
                .any(|active| needs_operator(active.condition))
        {
            operator_at = Some(world.elapsed() + PERIOD / 4);
        }
        for action in world.take_actions() {
            replies.extend(perform_action(
                action,
                world,
                process_id,
                &shared,
                &mut engine,
            ));
        }
        replies.retain_mut(|reply| match reply.try_recv() {
            Ok(_) => false,
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Closed) => {
                world.record_violation("a person is not answered".to_owned());
                false
            }
        });
        if operator_at.is_some_and(|at| at <= world.elapsed()) {
            operator_at = None;
            world.check_no_create_beside_lookalikes();
            world.record_request_for_all();
            engine.request_all(&rotation_request(false));
        }
        if rest_at <= world.elapsed() {
            match oracle::check_at_rest(world, &engine) {
                Ok(()) if replies.is_empty() => return ProcessEnd::AtRest,
                Ok(()) => return ProcessEnd::NotAtRest("a person waits for an answer".to_owned()),
                Err(reason) if rest_at >= last => return ProcessEnd::NotAtRest(reason),
                Err(reason) => {
                    if rest_at >= world.scenario.rest_after + PERIOD * MAX_RECOVERY_PERIODS {
                        oracle::check_keeps_rotating(world);
                    }
                    world.log_trace(format!("not at rest yet: {reason}"));
                    // If too many credentials are alive, or lookalikes exist, an operator
                    // must request the rotation.
                    if reason.contains("max-live-credentials")
                        || reason.contains("knows nothing of")
                    {
                        world.record_request_for_all();
                        engine.request_all(&rotation_request(false));
                    }
                }
            }
            rest_at += PERIOD;
        }
        engine.start_due();
        let now = world.now();
        let pause = engine.next_at().map(|at| time::until(now, at));
        let pause = pause.map_or(tick, |pause| pause.clamp(Duration::from_millis(10), tick));
        let pause = pause.min(rest_at.saturating_sub(world.elapsed()) + Duration::from_millis(1));
        tokio::select! {
            biased;
            _ = engine.process_completions(), if engine.active_tasks() > 0 => {}
            () = world.operator_acted.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Returns whether the condition needs an operator.
fn needs_operator(condition: Condition) -> bool {
    match condition {
        Condition::Organization => true,
        Condition::Ledger | Condition::Credential | Condition::Clock | Condition::Provider => false,
    }
}

fn key_name(key: &str) -> KeyName {
    KeyName::new(key).unwrap()
}

fn rotation_request(revoke_previous: bool) -> RotationRequest {
    let operator = OperatorNote {
        reason: None,
        by: "a person".to_owned(),
    };
    RotationRequest {
        operator: Some(operator),
        revoke_previous,
    }
}

/// The ledger need not survive a power failure.
fn ledger_options() -> LedgerOptions {
    let identity = LedgerIdentity {
        provider: "https://example.com/v1".to_owned(),
        organization: String::new(),
    };
    LedgerOptions {
        is_synced: false,
        ..LedgerOptions::new(identity)
    }
}

/// Creates an empty ledger if there is none.
pub(crate) fn create_ledger(world: &SimWorld) {
    world.install_empty_ledger(|path| {
        ledger::prepare(path, &ledger_options(), world.start_time).unwrap();
    });
}

/// Starts a process; none if it cannot start.
async fn start_engine(
    world: &Arc<SimWorld>,
    process_id: u64,
    seed: u64,
) -> Option<(Engine, SimProcess)> {
    create_ledger(world);
    let disk = SimDisk {
        world: Arc::clone(world),
        process: process_id,
        fault: Mutex::new(None),
    };
    let driver = WriterDriver::TaskWithFaults(Arc::new(disk));
    let ledger = Ledger::open(&world.ledger(), &ledger_options(), world.now(), driver).unwrap();
    let cell = ActiveCredential::new();
    let provider = SimProvider {
        world: Arc::clone(world),
        process: process_id,
        active_credential: cell.clone(),
    };
    let provider = FailoverProvider::new(
        provider,
        cell.clone(),
        SelfCredentialFile(Arc::clone(world)),
    );
    let services = Services {
        provider: Arc::new(provider),
        ledger,
        clock: Arc::clone(world) as Arc<dyn Clock>,
        entropy: Arc::new(rng::SimEntropy(Mutex::new(SeededRng(seed)))),
        max_in_flight: 8,
        reconcile_every: PERIOD * 3,
        conditions: Arc::new(Conditions::default()),
        observer: Arc::new(()),
        subscriptions: Arc::new(subscriptions()),
        find_zone: |name| TimeZone::get(name).ok(),
    };
    let shared = SimProcess {
        services: services.clone(),
        active_credential: cell,
    };
    let keys = managed_keys(world, process_id, &shared.active_credential);
    let engine = Engine::open(services, keys, RunMode::Daemon).await;
    let engine = engine.inspect_err(|error| world.log_trace(format!("cannot start: {error}")));
    Some((engine.ok()?, shared))
}

/// Returns a subscription to every lasting problem.
fn subscriptions() -> Subscriptions {
    let once = [EventKind::Rotated, EventKind::Lookalike];
    let mut on = BTreeSet::from(EventKind::ALL);
    on.retain(|kind| !once.contains(kind));
    Subscriptions::new(vec![Subscription {
        channel: ChannelId::new("command:/bin/page".to_owned()),
        on,
        keys: None,
    }])
}

/// The parts of a process that stay the same under another configuration.
struct SimProcess {
    services: Services,
    active_credential: ActiveCredential,
}

/// Returns the keys of the present configuration.
fn managed_keys(
    world: &Arc<SimWorld>,
    process_id: u64,
    cell: &ActiveCredential,
) -> Vec<ManagedKey> {
    let keys = world.configuration();
    let keys = keys
        .iter()
        .map(|key| managed_key(world, process_id, cell, key));
    keys.collect()
}

fn managed_key(
    world: &Arc<SimWorld>,
    process_id: u64,
    cell: &ActiveCredential,
    key: &scenario::KeySpec,
) -> ManagedKey {
    let schedule = Schedule::parse(SCHEDULE, TimeZone::UTC).unwrap();
    let sinks = key.sinks.iter().map(|sink| {
        let created: Arc<dyn Sink> = Arc::new(SimSink {
            world: Arc::clone(world),
            process: process_id,
            id: SinkId {
                name: sink.name.to_owned(),
                target: format!("{:?}:{}", sink.kind, sink.name),
            },
            location: (key.name.to_owned(), sink.name.to_owned()),
            kind: sink.kind,
        });
        let created = match sink.kind {
            SinkKind::SelfCredential => Arc::new(SelfCredentialSink::new(created, cell.clone())),
            SinkKind::File
            | SinkKind::NotifiedFile
            | SinkKind::Webhook
            | SinkKind::HangingWebhook => created,
        };
        (created, sink.required)
    });
    ManagedKey {
        name: key_name(key.name),
        scope: Scope::AdminKeys,
        policy: Arc::new(KeyPolicy {
            overlap: key.overlap,
            max_creates_per_day: 1_000,
            max_live_credentials: MAX_LIVE_CREDENTIALS,
            ..KeyPolicy::new(schedule)
        }),
        sinks: sinks.collect(),
    }
}

/// The command that an operator waits for.
type PendingReply = oneshot::Receiver<Result<String, CommandError>>;

/// Lets an operator act on the first key.
fn perform_action(
    action: OperatorAction,
    world: &Arc<SimWorld>,
    process_id: u64,
    shared: &SimProcess,
    engine: &mut Engine,
) -> Option<PendingReply> {
    let configuration = world.configuration();
    let first = configuration.first()?;
    let key = key_name(first.name);
    let current = engine.state(&key).and_then(|state| {
        let credential = state.current()?.credential.as_ref()?;
        Some(credential.id.clone())
    });
    let command = match action {
        OperatorAction::Rotate => {
            world.record_rotation_request(first.name);
            let is_accepted = engine.request_rotation(&key, rotation_request(false))
                && engine.has_pending_request(&key);
            world.check(is_accepted, "the request is accepted");
            return None;
        }
        OperatorAction::RotateAndRevoke => {
            world.record_rotation_request(first.name);
            world.request_immediate_revocation(first.name);
            let is_accepted = engine.request_rotation(&key, rotation_request(true))
                && engine.has_pending_request(&key);
            world.check(is_accepted, "the request is accepted");
            return None;
        }
        OperatorAction::Revoke | OperatorAction::ForceRevoke => {
            let credential = current?;
            let force = action == OperatorAction::ForceRevoke;
            if force {
                world.request_deletion(credential.as_str());
            }
            OperatorCommand::Revoke {
                credential,
                force,
                operator: None,
            }
        }
        OperatorAction::Hold => OperatorCommand::Hold {
            credential: current,
            until: Some(time::after(world.now(), PERIOD / 2)),
            operator: None,
        },
        OperatorAction::Pause => OperatorCommand::Pause {
            // The time is that of the operator's own clock.
            until: Some(time::after(world.true_now(), PERIOD / 2)),
            operator: None,
        },
        OperatorAction::Reload => {
            world.reconfigure();
            let keys = managed_keys(world, process_id, &shared.active_credential);
            engine.reconfigure(shared.services.clone(), keys);
            return None;
        }
        OperatorAction::Adopt => {
            let id = world.create_manually();
            world.request_deletion(&id);
            OperatorCommand::Adopt {
                credential: CredentialId::new(id),
                operator: None,
            }
        }
    };
    let (reply, receiver) = oneshot::channel();
    let is_accepted = engine.submit_command(
        &key,
        PendingCommand {
            command,
            started: Arc::default(),
            reply,
        },
    );
    world.check(is_accepted, "the command is accepted");
    Some(receiver)
}
