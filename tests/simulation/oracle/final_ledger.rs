//! Checks of the ledger at the end: its events agree with its rows, each alert was notified
//! once, and no byte of it is a secret.

use std::collections::BTreeMap;

use rekeyd::core::lifecycle::{LifecycleEvent, Phase, next_phase};
use rusqlite::Connection;

use crate::world::{INVENTED_ID, SimWorld};

/// Checks the ledger at the end of a simulation.
pub(crate) fn check_final_ledger(world: &SimWorld) {
    world.read_ledger(|ledger| check_events_replay(world, ledger));
    world.read_ledger(|ledger| check_alerts_notified_once(world, ledger));
    world.read_ledger(|ledger| check_invented_id(world, ledger));
    world.check_live_credentials_known();
    check_no_secret(world);
}

/// Checks that the events of each rotation lead to the phase in its row.
fn check_events_replay(world: &SimWorld, ledger: &Connection) {
    // A row that comes back after it was pruned has no other events yet.
    let sql = "SELECT rotation, CASE event WHEN 'row-returned'
             THEN 'returned as ' || (detail ->> 'phase') ELSE event END
         FROM events WHERE rotation IS NOT NULL ORDER BY seq";
    let mut phases: BTreeMap<String, Phase> = BTreeMap::new();
    for (rotation, event) in text_pairs(ledger, sql) {
        if let Some(phase) = event.strip_prefix("returned as ") {
            phases.extend(Phase::from_text(phase).map(|phase| (rotation, phase)));
            continue;
        }
        let Some(event) = LifecycleEvent::from_text(&event) else {
            continue;
        };
        match next_phase(phases.get(&rotation).copied(), event) {
            Ok(phase) => {
                phases.insert(rotation, phase);
            }
            Err(error) => world.record_violation(format!("the events of {rotation}: {error}")),
        }
    }
    let recorded = text_pairs(ledger, "SELECT rotation, phase FROM history");
    let recorded: BTreeMap<_, _> = recorded.into_iter().collect();
    let replayed: BTreeMap<_, _> = phases
        .into_iter()
        .map(|(rotation, phase)| (rotation, phase.as_str().to_owned()))
        .collect();
    if !replayed.is_empty() && !world.has_compared_states() {
        world.record_violation("no commit was compared with the computed state".to_owned());
    }
    if recorded != replayed {
        world.record_violation(format!(
            "the events lead to {replayed:?}, and the rows have {recorded:?}"
        ));
    }
}

/// Checks that each alert was notified once when it was raised, and once when it was
/// resolved. The end of an alert that no channel was told of is not notified.
fn check_alerts_notified_once(world: &SimWorld, ledger: &Connection) {
    let sql = "SELECT key || ' ' || alert_kind || ' ' || credential_id, state,
             EXISTS (SELECT 1 FROM outbox_entry WHERE notification_row = notification.id)
         FROM notification ORDER BY id";
    let mut query = ledger.prepare(sql).unwrap();
    let mut rows = query.query([]).unwrap();
    let mut raised: BTreeMap<String, bool> = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let (alert, state): (String, String) = (row.get_unwrap(0), row.get_unwrap(1));
        let is_new = if state == "begun" {
            let was_told = raised.insert(alert.clone(), row.get_unwrap(2));
            was_told != Some(true)
        } else {
            raised.remove(&alert).is_some()
        };
        if !is_new {
            world.record_violation(format!("the alert {alert} is notified twice as {state}"));
        }
    }
}

/// Checks that one row at most has the id that no credential has, whatever answered it.
fn check_invented_id(world: &SimWorld, ledger: &Connection) {
    let sql = "SELECT count(*) FROM rotation WHERE credential_id = ?1";
    let mut query = ledger.prepare(sql).unwrap();
    let count: u32 = query.query_row([INVENTED_ID], |row| row.get(0)).unwrap();
    if count > 1 {
        world.record_violation(format!("{count} rows have the id {INVENTED_ID}"));
    }
}

/// Checks that no byte of the ledger's files belongs to a secret.
fn check_no_secret(world: &SimWorld) {
    let mut bytes = Vec::new();
    for suffix in ["", "-wal"] {
        let mut path = world.ledger_path().into_os_string();
        path.push(suffix);
        bytes.extend(std::fs::read(path).unwrap_or_default());
    }
    if memchr::memmem::find(&bytes, b"sk-admin-").is_some() {
        world.record_violation("the ledger has the prefix of a secret".to_owned());
    }
}

/// Returns the rows of a query with two columns of text.
fn text_pairs(ledger: &Connection, sql: &str) -> Vec<(String, String)> {
    let mut query = ledger.prepare(sql).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}
