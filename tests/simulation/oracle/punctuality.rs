//! Checks that rotations start in time and become current in time.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::time;
use rusqlite::Connection;

use crate::scenario::PERIOD;
use crate::world::SimWorld;

/// How late a rotation may start that is due together with all others. From its start to its
/// delivery, a key has at most eight requests to the provider, of at most 128 ms each; eight
/// keys rotate at once; and a delivery to a healthy receiver takes as long as a request. All
/// seventeen keys need three seconds. A hanging receiver takes 30 seconds and must not add to
/// them.
const MAX_START_DELAY_SECONDS: i64 = 5;

/// How late a rotation may become current: its own steps, `verify-interval` included, take
/// less than five seconds.
const MAX_CURRENT_DELAY_SECONDS: i64 = 10;

/// The number of periods after the last fault in which a key may wait because of it: a step
/// of the clock is corrected after one, and the longest backoff takes another.
const RECOVERY_PERIODS: u32 = 2;

/// The times of a rotation in the ledger.
struct RotationTimes {
    label: String,
    scheduled_for: Option<Timestamp>,
    started_at: Timestamp,
    current_at: Option<Timestamp>,
    /// Whether its create made nothing.
    is_failed: bool,
}

/// Checks that every key without hanging receivers started each due rotation in time and made
/// it current in time, unless the ledger has a backoff of the key then. Without faults, this
/// holds from the start.
pub(crate) fn check_punctuality(world: &SimWorld) {
    let last_fault_at = world.last_fault_at();
    let from = last_fault_at.map_or(Duration::ZERO, |at| at + PERIOD * RECOVERY_PERIODS);
    let from = time::after(world.start_time, from);
    // Beside another daemon's credentials, the first rotation waits for an operator.
    let is_first_due_at_start = last_fault_at.is_none() && !world.scenario.has_other_daemon;
    let is_limited = world.scenario.limits_creates;
    for times in world.read_ledger(punctual_rotations) {
        let label = &times.label;
        if is_limited && times.is_failed {
            // The limit refused its create, and another rotation follows.
            continue;
        }
        // This host's clock may have been ahead when an earlier rotation started.
        if world.sent_at(label).is_none_or(|at| at < from) {
            continue;
        }
        let due = match times.scheduled_for {
            // A limit delays the start, and nothing after it.
            _ if is_limited => times.started_at,
            Some(at) => at,
            None if is_first_due_at_start => world.start_time,
            None => times.started_at,
        };
        if due < from {
            continue;
        }
        let delay = times.started_at.as_second() - due.as_second();
        if delay > MAX_START_DELAY_SECONDS {
            world.record_violation(format!("{label} starts {delay} s late"));
        }
        match times.current_at.map(|at| at.as_second() - due.as_second()) {
            Some(delay) if delay <= MAX_CURRENT_DELAY_SECONDS => {}
            Some(delay) => {
                world.record_violation(format!("{label} becomes current {delay} s late"));
            }
            None => world.record_violation(format!("{label} never becomes current")),
        }
    }
}

/// Returns every rotation of a key without hanging receivers, except those during which the
/// key backed off, and those that were pruned and are back.
fn punctual_rotations(ledger: &Connection) -> Vec<RotationTimes> {
    let sql = "SELECT label, scheduled_for, started_at, current_at, phase = 'failed'
         FROM history WHERE label IS NOT NULL AND key NOT LIKE 'hang-%'
         AND NOT EXISTS (SELECT 1 FROM events WHERE events.key = history.key
             AND event = 'key-backed-off' AND at >= coalesce(scheduled_for, started_at)
             AND at <= coalesce(current_at, at))
         AND NOT EXISTS (SELECT 1 FROM events WHERE events.rotation = history.rotation
             AND event = 'row-returned')";
    let mut query = ledger.prepare(sql).unwrap();
    let rotations = query.query_map([], |row| {
        let parse = |text: String| text.parse::<Timestamp>().unwrap();
        Ok(RotationTimes {
            label: row.get(0)?,
            scheduled_for: row.get::<_, Option<String>>(1)?.map(parse),
            started_at: parse(row.get(2)?),
            current_at: row.get::<_, Option<String>>(3)?.map(parse),
            is_failed: row.get(4)?,
        })
    });
    rotations.unwrap().map(Result::unwrap).collect()
}
