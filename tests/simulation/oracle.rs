//! What must be true when all is at rest, and at the end. What must be true
//! all the time is looked at where it could become false, in
//! [`crate::env`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::ids::KeyName;
use rekeyd::core::lifecycle::{LifecycleEvent, Phase, next_phase};
use rekeyd::core::time;
use rekeyd::engine::Engine;
use rekeyd::platform::clock::Clock as _;
use rusqlite::Connection;

use crate::scenario::PERIOD;
use crate::world::{SimWorld, locations_of};

/// Whether what the engine says of itself, at any time, is true.
pub(crate) fn check_engine_view(world: &SimWorld, engine: &Engine) {
    let now = world.now();
    world.check(engine.now() == now, "the engine has its clock's time");
    let problems = engine.active_conditions();
    let mut keys = world.scenario.keys.iter();
    let is_open = keys.any(|key| {
        let state = engine.state(&KeyName::new(key.name).unwrap());
        state.is_some_and(|state| state.open_rotation().is_some())
    });
    let busy = engine.active_tasks() > 0
        || engine.next_at().is_some_and(|at| at <= now)
        || is_open
        || !problems.is_empty();
    let candid = !(busy && engine.is_idle());
    world.check(candid, "the engine works when it is not at rest");
    // Those who ask beside the daemon read the ledger.
    if engine.active_tasks() == 0 && !problems.is_empty() && world.has_recorded_all() {
        let told = world.conditions();
        let all = problems
            .iter()
            .all(|active| told.contains(active.condition.as_str()));
        world.check(all, "the ledger knows what is wrong");
    }
}

/// The same, when all is at rest.
fn check_view_at_rest(world: &SimWorld, engine: &Engine) {
    let now = world.now();
    if engine.active_tasks() == 0 && engine.next_at().is_none_or(|at| at > now) {
        world.check(engine.is_idle(), "the engine is at rest");
        let mut keys = world.scenario.keys.iter();
        let wished = keys.any(|key| engine.has_pending_request(&KeyName::new(key.name).unwrap()));
        world.check(!wished, "no wish is left");
        let nothing = world.conditions().is_empty() || !world.has_recorded_all();
        world.check(nothing, "the ledger knows that all is well");
    }
}

/// Whether every key has its one credential, every required sink holds it, and
/// nothing else of ours is alive; why not, otherwise.
pub(crate) fn check_at_rest(world: &SimWorld, engine: &Engine) -> Result<(), String> {
    if let Some(active) = engine.active_conditions().first() {
        let problem = &active.problem;
        return Err(problem.clone());
    }
    let mut alive = world.live_managed_credentials();
    for key in world.configuration() {
        let name = KeyName::new(key.name).unwrap();
        if key.hangs() {
            // Its rotation stays open, and what it had before stays alive.
            let Some(state) = engine.state(&name) else {
                return Err(format!("{name} is at work"));
            };
            let live: BTreeSet<_> = state
                .live
                .iter()
                .filter_map(|rotation| rotation.credential.as_ref())
                .map(|credential| credential.id.as_str())
                .collect();
            alive.retain(|one| !live.contains(one.id.as_str()));
            continue;
        }
        let Some(state) = engine.state(&name) else {
            return Err(format!("{name} is at work"));
        };
        if let Some(problem) = &state.last_error {
            return Err(format!("{name}: {problem}"));
        }
        let current = state.current().and_then(|now| now.credential.as_ref());
        let Some(current) = current else {
            return Err(format!("{name} has no current credential"));
        };
        let Some(at) = alive.iter().position(|one| one.id == current.id.as_str()) else {
            return Err(format!("the current credential of {name} is dead"));
        };
        let current = alive.remove(at);
        for sink in key.sinks.iter().filter(|sink| sink.required) {
            for place in locations_of(key.name, sink) {
                if world.sink_content(&place).as_ref() != Some(&current.secret) {
                    return Err(format!("{place:?} does not hold {}", current.name));
                }
            }
        }
    }
    // Of what is not configured any more, consumers may keep what they have.
    let configured = world.configuration();
    for key in &world.scenario.keys {
        if !configured.iter().any(|now| now.name == key.name) {
            let label = format!("{}-2", key.name);
            let state = engine.state(&KeyName::new(key.name).unwrap());
            let stays = |id: &str| {
                let mut live = state.iter().flat_map(|state| &state.live);
                live.any(|one| {
                    matches!(one.phase, Phase::Current | Phase::Stranded)
                        && one
                            .credential
                            .as_ref()
                            .is_some_and(|facts| facts.id.as_str() == id)
                })
            };
            alive.retain(|one| !(one.name.starts_with(&label) && stays(&one.id)));
        }
    }
    if let Some(cause) = world.read(open_alert) {
        return Err(format!("people still think that {cause}"));
    }
    match alive.first() {
        Some(one) => Err(format!("{} is alive", one.name)),
        None => {
            if !world.has_hanging_keys() {
                check_view_at_rest(world, engine);
            }
            Ok(())
        }
    }
}

/// Whether every key has rotated lately.
pub(crate) fn check_keeps_rotating(world: &SimWorld) {
    let keys = world.configuration().into_iter();
    for key in keys.filter(|key| !key.hangs()) {
        let lately = time::before(world.true_now(), PERIOD * 3);
        if world
            .newest_created_at(key.name)
            .is_none_or(|made| made < lately)
        {
            world.record_violation(format!("{} does not rotate any more", key.name));
        }
    }
}

/// How late a rotation may start that is due together with all others. A key
/// has at most eight requests to the provider from its start to its delivery,
/// of at most 128 ms each, eight keys at once, and a delivery to a receiver in
/// order takes as long: seventeen keys are through in three seconds. What hangs
/// takes 30 seconds and must not add to it.
const MAX_LATENESS_SECONDS: i64 = 5;

/// How late a rotation may become current: its own steps, `verify-interval`
/// included, take less than five seconds.
const MAX_DELIVERY_SECONDS: i64 = 10;

/// How many periods after the last fault no key waits because of it any more:
/// a clock that it set is right after one, and the longest back-off is as long.
const RECOVERY_PERIODS: u32 = 2;

/// A rotation in the ledger, as far as its punctuality is concerned.
struct RotationTimes {
    label: String,
    scheduled_for: Option<Timestamp>,
    started_at: Timestamp,
    current_at: Option<Timestamp>,
}

/// Checks that every key whose own sinks are in order started each due rotation
/// in time and made it current in time, unless it was recorded that it had to
/// wait. Holds from the start in a calm world.
pub(crate) fn check_punctuality(world: &SimWorld) {
    let last_fault_at = world.last_fault_at();
    let from = last_fault_at.map_or(Duration::ZERO, |at| at + PERIOD * RECOVERY_PERIODS);
    let from = time::after(world.start_time, from);
    // Beside a neighbour's credentials the first rotation waits for an operator.
    let is_first_due_at_start = last_fault_at.is_none() && !world.scenario.neighbour;
    for times in world.read(punctual_rotations) {
        let label = &times.label;
        // The host's clock may have been ahead when an earlier one started.
        if world.sent_at(label).is_none_or(|at| at < from) {
            continue;
        }
        let due = match times.scheduled_for {
            Some(at) => at,
            None if is_first_due_at_start => world.start_time,
            None => times.started_at,
        };
        if due < from {
            continue;
        }
        let late = times.started_at.as_second() - due.as_second();
        if late > MAX_LATENESS_SECONDS {
            world.record_violation(format!("{label} starts {late} s late"));
        }
        match times.current_at.map(|at| at.as_second() - due.as_second()) {
            Some(late) if late <= MAX_DELIVERY_SECONDS => {}
            Some(late) => world.record_violation(format!("{label} is current {late} s late")),
            None => world.record_violation(format!("{label} never becomes current")),
        }
    }
}

/// Every rotation of a key whose own sinks are in order, but for those that
/// the ledger says had to wait.
fn punctual_rotations(ledger: &Connection) -> Vec<RotationTimes> {
    let sql = "SELECT label, scheduled_for, started_at, current_at
         FROM history WHERE label IS NOT NULL AND key NOT LIKE 'hang-%'
         AND NOT EXISTS (SELECT 1 FROM events WHERE events.key = history.key
             AND event = 'key-backed-off' AND at >= coalesce(scheduled_for, started_at)
             AND at <= coalesce(current_at, at))";
    let mut rows = ledger.prepare(sql).unwrap();
    let rows = rows.query_map([], |row| {
        let at = |text: String| text.parse::<Timestamp>().unwrap();
        Ok(RotationTimes {
            label: row.get(0)?,
            scheduled_for: row.get::<_, Option<String>>(1)?.map(at),
            started_at: at(row.get(2)?),
            current_at: row.get::<_, Option<String>>(3)?.map(at),
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What people were told and was not told to be over.
fn open_alert(ledger: &Connection) -> Option<String> {
    let sql = "SELECT key || ' is ' || kind || ' ' || credential_id FROM alert
         WHERE key NOT LIKE 'hang-%' LIMIT 1";
    let mut rows = ledger.prepare(sql).unwrap();
    let mut rows = rows.query_map([], |row| row.get(0)).unwrap();
    rows.next().transpose().unwrap()
}

/// Whether each cause was told once while it lasted, and once when it was over.
fn check_alerts_notified_once(world: &SimWorld, ledger: &Connection) {
    let sql = "SELECT key || ' ' || alert_kind || ' ' || credential_id, state FROM notification ORDER BY id";
    let mut rows = ledger.prepare(sql).unwrap();
    let told = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let mut lasting = BTreeSet::new();
    for row in told.unwrap() {
        let (cause, state): (String, String) = row.unwrap();
        let news = match state.as_str() {
            "begun" => lasting.insert(cause.clone()),
            _ => lasting.remove(&cause),
        };
        if !news {
            world.record_violation(format!("people are told twice that {cause} is {state}"));
        }
    }
}

/// What the ledger says in the end: the journal tells the same story as the
/// rows, and no byte of it is a secret.
pub(crate) fn check_final_ledger(world: &SimWorld) {
    world.read(|ledger| check_journal_replay(world, ledger));
    world.read(|ledger| check_alerts_notified_once(world, ledger));
    let mut bytes = Vec::new();
    for ending in ["", "-wal"] {
        let mut path = world.ledger().into_os_string();
        path.push(ending);
        bytes.extend(std::fs::read(path).unwrap_or_default());
    }
    if memchr::memmem::find(&bytes, b"sk-admin-").is_some() {
        world.record_violation("the ledger holds something like a secret".to_owned());
    }
}

/// Whether the journal tells the same story as the rows.
fn check_journal_replay(world: &SimWorld, connection: &Connection) {
    let mut rows = connection
        .prepare("SELECT rotation, event FROM events WHERE rotation IS NOT NULL ORDER BY seq")
        .unwrap();
    let told = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let told: Vec<(String, String)> = told.unwrap().map(Result::unwrap).collect();
    let mut phases: BTreeMap<String, Phase> = BTreeMap::new();
    for (rotation, event) in told {
        let Some(event) = LifecycleEvent::from_text(&event) else {
            continue;
        };
        match next_phase(phases.get(&rotation).copied(), event) {
            Ok(phase) => {
                phases.insert(rotation, phase);
            }
            Err(illegal) => world.record_violation(format!("the journal of {rotation}: {illegal}")),
        }
    }
    let mut rows = connection
        .prepare("SELECT rotation, phase FROM history")
        .unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows: BTreeMap<String, String> = rows.unwrap().map(Result::unwrap).collect();
    let phases: BTreeMap<_, _> = phases
        .into_iter()
        .map(|(rotation, phase)| (rotation, phase.as_str().to_owned()))
        .collect();
    if !phases.is_empty() && !world.has_compared_states() {
        world.record_violation("no commit was compared with the computed state".to_owned());
    }
    if rows != phases {
        world.record_violation(format!(
            "the journal says {phases:?}, and the rows {rows:?}"
        ));
    }
}
