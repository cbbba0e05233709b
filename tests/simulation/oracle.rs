//! What must be true when all is at rest, and at the end. What must be true
//! all the time is looked at where it could become false, in
//! [`crate::world`].

use std::collections::{BTreeMap, BTreeSet};

use rekeyd::core::names::KeyName;
use rekeyd::core::rotation::{Event, Phase, apply};
use rekeyd::core::time;
use rekeyd::engine::Engine;
use rekeyd::engine::clock::Clock as _;
use rusqlite::Connection;

use crate::scenario::PERIOD;
use crate::world::{World, places};

/// Whether what the engine says of itself, at any time, is true.
pub(crate) fn is_candid(world: &World, engine: &Engine) {
    let now = world.now();
    world.expect(engine.now() == now, "the engine has its clock's time");
    let problems = engine.problems();
    let mut keys = world.scenario.keys.iter();
    let is_open = keys.any(|key| {
        let state = engine.state(&KeyName::new(key.name).unwrap());
        state.is_some_and(|state| state.open().is_some())
    });
    let busy = engine.at_work() > 0
        || engine.next_at().is_some_and(|at| at <= now)
        || is_open
        || !problems.is_empty();
    let candid = !(busy && engine.is_at_rest());
    world.expect(candid, "the engine works when it is not at rest");
    // Those who ask beside the daemon read the ledger.
    if engine.at_work() == 0 && !problems.is_empty() && world.records_all() {
        let told = world.conditions();
        let all = problems
            .iter()
            .all(|(held, _)| told.contains(held.as_str()));
        world.expect(all, "the ledger knows what is wrong");
    }
}

/// The same, when all is at rest.
fn says_so(world: &World, engine: &Engine) {
    let now = world.now();
    if engine.at_work() == 0 && engine.next_at().is_none_or(|at| at > now) {
        world.expect(engine.is_at_rest(), "the engine is at rest");
        let mut keys = world.scenario.keys.iter();
        let wished = keys.any(|key| engine.is_wished(&KeyName::new(key.name).unwrap()));
        world.expect(!wished, "no wish is left");
        let nothing = world.conditions().is_empty() || !world.records_all();
        world.expect(nothing, "the ledger knows that all is well");
    }
}

/// Whether every key has its one credential, every required sink holds it, and
/// nothing else of ours is alive; why not, otherwise.
pub(crate) fn at_rest(world: &World, engine: &Engine) -> Result<(), String> {
    if let Some((_, problem)) = engine.problems().first() {
        return Err(problem.clone());
    }
    let mut alive = world.ours_alive();
    for key in world.configuration() {
        let name = KeyName::new(key.name).unwrap();
        let Some(state) = engine.state(&name) else {
            return Err(format!("{name} is at work"));
        };
        if let Some(problem) = &state.problem {
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
            for place in places(key.name, sink) {
                if world.content(&place).as_ref() != Some(&current.secret) {
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
    if let Some(cause) = world.read(still_told) {
        return Err(format!("people still think that {cause}"));
    }
    match alive.first() {
        Some(one) => Err(format!("{} is alive", one.name)),
        None => {
            says_so(world, engine);
            Ok(())
        }
    }
}

/// Whether every key has rotated lately.
pub(crate) fn keeps_rotating(world: &World) {
    for key in world.configuration() {
        let lately = time::before(world.true_now(), PERIOD * 3);
        if world.newest(key.name).is_none_or(|made| made < lately) {
            world.violate(format!("{} does not rotate any more", key.name));
        }
    }
}

/// What people were told and was not told to be over.
fn still_told(ledger: &Connection) -> Option<String> {
    let sql = "SELECT key || ' is ' || cause || ' ' || credential FROM cause LIMIT 1";
    let mut rows = ledger.prepare(sql).unwrap();
    let mut rows = rows.query_map([], |row| row.get(0)).unwrap();
    rows.next().transpose().unwrap()
}

/// Whether each cause was told once while it lasted, and once when it was over.
fn tells_once(world: &World, ledger: &Connection) {
    let sql = "SELECT key || ' ' || cause || ' ' || credential, state FROM notice ORDER BY id";
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
            world.violate(format!("people are told twice that {cause} is {state}"));
        }
    }
}

/// What the ledger says in the end: the journal tells the same story as the
/// rows, and no byte of it is a secret.
pub(crate) fn at_the_end(world: &World) {
    world.read(|ledger| tell_again(world, ledger));
    world.read(|ledger| tells_once(world, ledger));
    let mut bytes = Vec::new();
    for ending in ["", "-wal"] {
        let mut path = world.ledger().into_os_string();
        path.push(ending);
        bytes.extend(std::fs::read(path).unwrap_or_default());
    }
    if memchr::memmem::find(&bytes, b"sk-admin-").is_some() {
        world.violate("the ledger holds something like a secret".to_owned());
    }
}

/// Whether the journal tells the same story as the rows.
fn tell_again(world: &World, connection: &Connection) {
    let mut rows = connection
        .prepare("SELECT rotation, event FROM journal WHERE rotation IS NOT NULL ORDER BY seq")
        .unwrap();
    let told = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    let told: Vec<(String, String)> = told.unwrap().map(Result::unwrap).collect();
    let mut phases: BTreeMap<String, Phase> = BTreeMap::new();
    for (rotation, event) in told {
        let Some(event) = Event::from_text(&event) else {
            continue;
        };
        match apply(phases.get(&rotation).copied(), event) {
            Ok(phase) => {
                phases.insert(rotation, phase);
            }
            Err(illegal) => world.violate(format!("the journal of {rotation}: {illegal}")),
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
    if rows != phases {
        world.violate(format!(
            "the journal says {phases:?}, and the rows {rows:?}"
        ));
    }
}
