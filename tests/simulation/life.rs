//! Runs the real engine in a world, process after process, until all is at
//! rest.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use jiff::tz::TimeZone;
use rekeyd::core::audience::{Audience, Listener};
use rekeyd::core::change::ByHand;
use rekeyd::core::names::{CredentialId, KeyName, SinkId};
use rekeyd::core::notice::{NotifierId, Occasion};
use rekeyd::core::policy::KeyPolicy;
use rekeyd::core::schedule::Schedule;
use rekeyd::core::secret::CredentialCell;
use rekeyd::core::time;
use rekeyd::daemon::credential::WithCredential;
use rekeyd::engine::clock::Clock;
use rekeyd::engine::condition::{Condition, Conditions};
use rekeyd::engine::order::{Asked, Order};
use rekeyd::engine::{Course, Engine, ManagedKey, Parts, Wish};
use rekeyd::ledger::{self, Driver, Identity, Ledger};
use rekeyd::sink::Sink;
use rekeyd::sink::own_credential::OwnCredential;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::sleep;

use crate::chance::{self, Seeded};
use crate::fault::Act;
use crate::oracle;
use crate::provider::{OwnFile, SimProvider};
use crate::scenario::{self, Kind, PERIOD, SCHEDULE, Scenario};
use crate::sink::{SimDisk, SimSink};
use crate::world::{Plan, Report, World};

/// How long it takes until the host starts the daemon again.
const RESTART: Duration = Duration::from_secs(3);

/// How often the daemon looks at the clock by itself.
const TICK: Duration = Duration::from_secs(30);

/// How many credentials of one key may live at once.
pub(crate) const LIVE_AT_MOST: usize = 6;

/// How many periods after the trouble all must be at rest.
const PATIENCE: u32 = 48;

/// How many periods after the trouble every key must rotate by its schedule
/// again, whatever else is not at rest.
const SOON: u32 = 4;

/// Runs one simulation. The same arguments give the same report.
pub(crate) fn run(scenario: &Scenario, plan: Plan, seed: u64, traced: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async { World::new(scenario.clone(), plan, traced) });
    let whole = || {
        runtime.block_on(async {
            live(&world, seed).await;
            oracle::at_the_end(&world);
        });
    };
    // Whoever runs many worlds is to be told which one it was.
    if std::panic::catch_unwind(AssertUnwindSafe(whole)).is_err() {
        world.violate("it panicked".to_owned());
    }
    world.report()
}

async fn live(world: &Arc<World>, seed: u64) {
    let mut rest = world.scenario.rest;
    let last = rest + PERIOD * PATIENCE;
    let mut chance = Seeded(seed);
    loop {
        let life = world.life();
        let process = process(world, life, chance.next(), rest);
        tokio::select! {
            biased;
            () = world.crashed() => {
                if world.is_endless() {
                    return;
                }
                world.note("the process dies".to_owned());
                world.between_lives();
                sleep(RESTART).await;
            }
            ended = process => match ended {
                Ended::StartFailed => sleep(RESTART).await,
                Ended::AtRest | Ended::Endless => return,
                Ended::NotAtRest(why) => {
                    world.violate(format!("not at rest after {PATIENCE} periods: {why}"));
                    return;
                }
            }
        }
        while rest < world.elapsed() && rest < last {
            rest += PERIOD;
        }
    }
}

enum Ended {
    StartFailed,
    AtRest,
    NotAtRest(String),
    Endless,
}

async fn process(world: &Arc<World>, life: u64, seed: u64, mut rest: Duration) -> Ended {
    let last = world.scenario.rest + PERIOD * PATIENCE;
    let Some((mut engine, shared)) = start(world, life, seed).await else {
        return Ended::StartFailed;
    };
    // Where the clock cannot step there is nothing to see by looking.
    let tick = if world.clock_may_step() { TICK } else { PERIOD };
    let mut person_at = world.wants_a_person().then(|| world.elapsed() + PERIOD / 4);
    let mut answers: Vec<Answer> = Vec::new();
    loop {
        if !world.turns() {
            return Ended::Endless;
        }
        oracle::is_candid(world, &engine);
        let problems = engine.problems();
        if person_at.is_none() && problems.iter().any(|(what, _)| needs_a_person(*what)) {
            person_at = Some(world.elapsed() + PERIOD / 4);
        }
        for act in world.take_acts() {
            answers.extend(enact(act, world, life, &shared, &mut engine));
        }
        answers.retain_mut(|answer| match answer.try_recv() {
            Ok(_) => false,
            Err(TryRecvError::Empty) => true,
            Err(TryRecvError::Closed) => {
                world.violate("a person is not answered".to_owned());
                false
            }
        });
        if person_at.is_some_and(|at| at <= world.elapsed()) {
            person_at = None;
            world.look_for_made_beside();
            world.wish_all();
            engine.wish_all(&wish(false));
        }
        if rest <= world.elapsed() {
            match oracle::at_rest(world, &engine) {
                Ok(()) if answers.is_empty() => return Ended::AtRest,
                Ok(()) => return Ended::NotAtRest("a person waits for an answer".to_owned()),
                Err(why) if rest >= last => return Ended::NotAtRest(why),
                Err(why) => {
                    if rest >= world.scenario.rest + PERIOD * SOON {
                        oracle::keeps_rotating(world);
                    }
                    world.note(format!("not at rest yet: {why}"));
                    // Where too many are alive, or others look alike, a person
                    // has to say so.
                    if why.contains("live-at-most") || why.contains("knows nothing of") {
                        world.wish_all();
                        engine.wish_all(&wish(false));
                    }
                }
            }
            rest += PERIOD;
        }
        engine.start_due();
        let now = world.now();
        let pause = engine.next_at().map(|at| time::until(now, at));
        let pause = pause.map_or(tick, |pause| pause.clamp(Duration::from_millis(10), tick));
        let pause = pause.min(rest.saturating_sub(world.elapsed()) + Duration::from_millis(1));
        tokio::select! {
            biased;
            _ = engine.finish_some(), if engine.at_work() > 0 => {}
            () = world.attention.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

/// Whether it does not pass by itself.
fn needs_a_person(condition: Condition) -> bool {
    match condition {
        Condition::Organization => true,
        Condition::Ledger | Condition::Credential | Condition::Clock | Condition::Provider => false,
    }
}

fn name(key: &str) -> KeyName {
    KeyName::new(key).unwrap()
}

fn wish(revoke_previous: bool) -> Wish {
    let by_hand = ByHand {
        reason: None,
        by: "a person".to_owned(),
    };
    Wish {
        by_hand: Some(by_hand),
        revoke_previous,
    }
}

fn identity() -> Identity {
    Identity {
        provider: "https://example.com/v1".to_owned(),
        organization: String::new(),
    }
}

/// Makes an empty ledger, if there is none.
pub(crate) fn lay_out_ledger(world: &World) {
    world.lay_out_ledger(|path| ledger::open(path, &identity(), world.begin).unwrap());
}

/// Starts a process; none if it cannot begin.
async fn start(world: &Arc<World>, life: u64, seed: u64) -> Option<(Engine, Shared)> {
    lay_out_ledger(world);
    let connection = ledger::open(&world.ledger(), &identity(), world.now()).unwrap();
    // Nothing here outlives the power.
    connection
        .pragma_update(None, "synchronous", "OFF")
        .unwrap();
    let disk = SimDisk {
        world: Arc::clone(world),
        life,
        fault: Mutex::new(None),
    };
    let ledger = Ledger::start(connection, Driver::Simulated(Arc::new(disk))).unwrap();
    let cell = CredentialCell::new();
    let provider = SimProvider {
        world: Arc::clone(world),
        life,
        cell: cell.clone(),
    };
    let provider = WithCredential::new(provider, cell.clone(), OwnFile(Arc::clone(world)));
    let parts = Parts {
        provider: Arc::new(provider),
        ledger,
        clock: Arc::clone(world) as Arc<dyn Clock>,
        chance: Arc::new(chance::Shared(Mutex::new(Seeded(seed)))),
        max_in_flight: 8,
        sweep_every: PERIOD * 3,
        conditions: Arc::new(Conditions::default()),
        observer: Arc::new(()),
        audience: Arc::new(audience()),
        zone: |name| TimeZone::get(name).ok(),
    };
    let shared = Shared {
        parts: parts.clone(),
        cell,
    };
    let keys = all_managed(world, life, &shared.cell);
    let engine = Engine::open(parts, keys, Course::Daemon).await;
    let engine = engine.inspect_err(|error| world.note(format!("cannot start: {error}")));
    Some((engine.ok()?, shared))
}

/// Somebody is told of whatever lasts.
fn audience() -> Audience {
    let once = [Occasion::Rotated, Occasion::Lookalike];
    let mut on = BTreeSet::from(Occasion::ALL);
    on.retain(|occasion| !once.contains(occasion));
    Audience::new(vec![Listener {
        id: NotifierId::new("command:/bin/page".to_owned()),
        on,
        keys: None,
    }])
}

/// What stays the same in a process under another configuration.
struct Shared {
    parts: Parts,
    cell: CredentialCell,
}

/// The keys as they are configured now.
fn all_managed(world: &Arc<World>, life: u64, cell: &CredentialCell) -> Vec<ManagedKey> {
    let keys = world.configuration();
    let keys = keys.iter().map(|key| managed(world, life, cell, key));
    keys.collect()
}

fn managed(
    world: &Arc<World>,
    life: u64,
    cell: &CredentialCell,
    key: &scenario::Key,
) -> ManagedKey {
    let schedule = Schedule::parse(SCHEDULE, TimeZone::UTC).unwrap();
    let sinks = key.sinks.iter().map(|sink| {
        let made: Arc<dyn Sink> = Arc::new(SimSink {
            world: Arc::clone(world),
            life,
            id: SinkId {
                name: sink.name.to_owned(),
                target: format!("{:?}:{}", sink.kind, sink.name),
            },
            place: (key.name.to_owned(), sink.name.to_owned()),
            kind: sink.kind,
        });
        let made = match sink.kind {
            Kind::Own => Arc::new(OwnCredential::new(made, cell.clone())),
            Kind::File | Kind::Told | Kind::Hook => made,
        };
        (made, sink.required)
    });
    ManagedKey {
        name: name(key.name),
        policy: Arc::new(KeyPolicy {
            overlap: key.overlap,
            creates_per_day: 1_000,
            live_at_most: LIVE_AT_MOST,
            ..KeyPolicy::new(schedule)
        }),
        sinks: sinks.collect(),
    }
}

/// What a person who gave an order waits for.
type Answer = oneshot::Receiver<Result<String, String>>;

/// A person does something with the first key.
fn enact(
    act: Act,
    world: &Arc<World>,
    life: u64,
    shared: &Shared,
    engine: &mut Engine,
) -> Option<Answer> {
    let configuration = world.configuration();
    let first = configuration.first()?;
    let key = name(first.name);
    let current = engine.state(&key).and_then(|state| {
        let credential = state.current()?.credential.as_ref()?;
        Some(credential.id.clone())
    });
    let order = match act {
        Act::Rotate => {
            world.wish(first.name);
            let taken = engine.wish(&key, wish(false)) && engine.is_wished(&key);
            world.expect(taken, "the wish is taken");
            return None;
        }
        Act::RotateAndRevoke => {
            world.wish(first.name);
            world.hurry(first.name);
            let taken = engine.wish(&key, wish(true)) && engine.is_wished(&key);
            world.expect(taken, "the wish is taken");
            return None;
        }
        Act::Revoke | Act::RevokeByForce => {
            let credential = current?;
            let force = act == Act::RevokeByForce;
            if force {
                world.doom(credential.as_str());
            }
            Order::Revoke {
                credential,
                force,
                by_hand: None,
            }
        }
        Act::Hold => Order::Hold {
            credential: current,
            until: Some(time::after(world.now(), PERIOD / 2)),
            by_hand: None,
        },
        Act::Pause => Order::Pause {
            // By the person's own clock.
            until: Some(time::after(world.true_now(), PERIOD / 2)),
            by_hand: None,
        },
        Act::Reload => {
            world.reconfigure();
            let keys = all_managed(world, life, &shared.cell);
            engine.reconfigure(shared.parts.clone(), keys);
            return None;
        }
        Act::Adopt => {
            let id = world.make_by_hand();
            world.doom(&id);
            Order::Adopt {
                credential: CredentialId::new(id),
                by_hand: None,
            }
        }
    };
    let (reply, answer) = oneshot::channel();
    let taken = engine.order(
        &key,
        Asked {
            order,
            begun: Arc::default(),
            reply,
        },
    );
    world.expect(taken, "the order is taken");
    Some(answer)
}
