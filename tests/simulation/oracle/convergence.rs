//! Checks that the world has converged: every key has its one credential, every required
//! sink holds it, and no other credential of the daemon is alive.

use std::collections::BTreeSet;

use rekeyd::core::ids::KeyName;
use rekeyd::core::lifecycle::Phase;
use rekeyd::core::reported_time::ShownEnd;
use rekeyd::core::state::{DeferralKind, KeyState, Rotation};
use rekeyd::core::time;
use rekeyd::engine::Engine;
use rusqlite::Connection;

use super::engine_view::check_idle_engine;
use crate::provider::shown_end;
use crate::scenario::{KeySpec, PERIOD};
use crate::world::{SimCredential, SimWorld, locations_of};

/// Checks that the world has converged.
///
/// # Errors
/// Returns the first reason why it has not.
pub(crate) fn check_convergence(world: &SimWorld, engine: &Engine) -> Result<(), String> {
    if let Some(active) = engine.active_conditions().first() {
        return Err(active.problem.clone());
    }
    let mut live = world.live_managed_credentials();
    for key in world.configuration() {
        let state = idle_state(engine, key.name)?;
        if key.hangs() {
            // Its rotation stays open, and its previous credentials stay alive.
            let recorded = live_ids(state);
            live.retain(|credential| !recorded.contains(credential.id.as_str()));
        } else {
            check_key(world, &key, state, &mut live)?;
        }
    }
    remove_unconfigured(world, engine, &mut live);
    // A key that left the configuration has not moved to a newer one.
    live.retain(|credential| !world.is_shared_with_removed_key(&credential.id));
    let is_doubtful = !world.scenario.redaction.identifies_secrets();
    if is_doubtful {
        let states = world.scenario.keys.iter();
        let states = states.filter_map(|key| engine.state(&KeyName::new(key.name).unwrap()));
        let kept: BTreeSet<_> = states.flat_map(kept_in_doubt).collect();
        live.retain(|credential| !kept.contains(credential.id.as_str()));
    }
    let configured: Vec<_> = world.configuration().iter().map(|key| key.name).collect();
    let alert = world.read_ledger(|ledger| raised_alert(ledger, is_doubtful, &configured));
    if let Some(alert) = alert {
        return Err(format!("the alert is raised that {alert}"));
    }
    if let Some(credential) = live.first() {
        return Err(format!("{} is alive", credential.name));
    }
    if !world.has_hanging_keys() {
        check_idle_engine(world, engine);
    }
    Ok(())
}

/// Returns the state of a key.
///
/// # Errors
/// A worker has the key.
fn idle_state<'e>(engine: &'e Engine, key: &str) -> Result<&'e KeyState, String> {
    let state = engine.state(&KeyName::new(key).unwrap());
    state.ok_or_else(|| format!("{key} is in work"))
}

/// Returns the ids of the live credentials in a key's state.
fn live_ids(state: &KeyState) -> BTreeSet<&str> {
    state.live.iter().filter_map(credential_id).collect()
}

fn credential_id(rotation: &Rotation) -> Option<&str> {
    let credential = rotation.credential.as_ref();
    credential.map(|credential| credential.id.as_str())
}

/// Checks that the key's current credential is alive, and that every required sink holds it.
/// Removes the credential from `live`.
fn check_key(
    world: &SimWorld,
    key: &KeySpec,
    state: &KeyState,
    live: &mut Vec<SimCredential>,
) -> Result<(), String> {
    let name = key.name;
    if let Some(error) = &state.last_error {
        return Err(format!("{name}: {error}"));
    }
    let Some(id) = state.current().and_then(credential_id) else {
        return Err(format!("{name} has no current credential"));
    };
    let Some(at) = live.iter().position(|credential| credential.id == id) else {
        return Err(format!("the current credential of {name} is deleted"));
    };
    let current = live.remove(at);
    for sink in key.sinks.iter().filter(|sink| sink.required) {
        for location in locations_of(name, sink) {
            if world.sink_content(&location).as_ref() != Some(&current.secret) {
                return Err(format!("{location:?} does not hold {}", current.name));
            }
        }
    }
    check_end(world, state, &current)
}

/// Checks that the ledger has the end that lists have shown of a current credential for long
/// enough.
fn check_end(world: &SimWorld, state: &KeyState, current: &SimCredential) -> Result<(), String> {
    let age = time::until(current.created_at, world.true_now());
    let recorded = state.current().and_then(Rotation::credential);
    let recorded = recorded.and_then(|credential| credential.expires_at);
    match shown_end(world, current) {
        ShownEnd::At(end) if age > PERIOD * 4 / 5 && recorded != Some(end) => Err(format!(
            "the ledger has the end {recorded:?} of {}, not {end}",
            current.name
        )),
        ShownEnd::At(_) | ShownEnd::Never | ShownEnd::Unknown => Ok(()),
    }
}

/// Removes the credentials that consumers of a removed key may still use.
fn remove_unconfigured(world: &SimWorld, engine: &Engine, live: &mut Vec<SimCredential>) {
    let configured = world.configuration();
    for key in &world.scenario.keys {
        if configured.iter().any(|spec| spec.name == key.name) {
            continue;
        }
        let label_prefix = format!("{}-2", key.name);
        let state = engine.state(&KeyName::new(key.name).unwrap());
        let current = state.and_then(|state| state.current());
        let current = current.map(|current| current.sequence);
        // A retired one may be the newest that works, once an operator has ended the current.
        let is_kept = |rotation: &&Rotation| match rotation.phase {
            Phase::Current | Phase::Stranded => true,
            Phase::Retired => current < Some(rotation.sequence),
            Phase::Intended
            | Phase::Created
            | Phase::Verified
            | Phase::Orphaned
            | Phase::Revoked
            | Phase::Failed => false,
        };
        let rotations = state.iter().flat_map(|state| &state.live);
        let kept: BTreeSet<_> = rotations
            .filter(is_kept)
            .filter_map(credential_id)
            .collect();
        live.retain(|credential| {
            !(credential.name.starts_with(&label_prefix) && kept.contains(credential.id.as_str()))
        });
    }
}

/// Returns the ids of the credentials that are kept because rekeyd may authenticate with
/// them.
fn kept_in_doubt(state: &KeyState) -> impl Iterator<Item = &str> {
    let rotations = state.live.iter();
    let doubtful = rotations.filter(|rotation| rotation.deferral == Some(DeferralKind::MayBeInUse));
    doubtful.filter_map(credential_id)
}

/// Returns a raised alert of a key without hanging receivers; with `is_doubtful`, none of a
/// credential that is kept because rekeyd may authenticate with it. A key that left the
/// configuration stays unmanaged.
fn raised_alert(ledger: &Connection, is_doubtful: bool, configured: &[&str]) -> Option<String> {
    let sql = "SELECT key, kind, credential_id FROM alert
         WHERE key NOT LIKE 'hang-%' AND NOT (?1 AND kind IN ('may-be-in-use', 'orphan'))";
    let mut query = ledger.prepare(sql).unwrap();
    let alerts = query.query_map([is_doubtful], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    });
    let mut alerts = alerts.unwrap().map(Result::unwrap);
    let found = alerts.find(|(key, kind, _): &(String, String, String)| {
        kind != "unmanaged" || configured.contains(&key.as_str())
    });
    found.map(|(key, kind, credential)| format!("{key} is {kind} {credential}"))
}

/// Checks that every key has rotated within its last three periods.
pub(crate) fn check_keeps_rotating(world: &SimWorld) {
    let oldest = time::before(world.true_now(), PERIOD * 3);
    let keys = world.configuration().into_iter();
    for key in keys.filter(|key| !key.hangs()) {
        let newest = world.newest_created_at(key.name);
        if newest.is_none_or(|created_at| created_at < oldest) {
            world.record_violation(format!("{} does not rotate any more", key.name));
        }
    }
}
