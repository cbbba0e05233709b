//! The table of ARCHITECTURE.md, the function `apply` and the database agree.
use std::collections::BTreeMap;

use jiff::Timestamp;
use rekeyd::core::lifecycle::{LifecycleEvent, Phase, next_phase};
use rekeyd::ledger::{self, LedgerIdentity, LedgerOptions};
use rusqlite::Connection;

type TransitionTable = BTreeMap<(Option<Phase>, LifecycleEvent), Phase>;

fn documented_transitions() -> TransitionTable {
    let page = include_str!("../../ARCHITECTURE.md");
    let mut table = TransitionTable::new();
    let rows = page
        .lines()
        .skip_while(|line| *line != "| from | event | to |")
        .skip(2);
    for row in rows.take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [from, events, to] = cells[..] else {
            panic!("not three cells: {row}")
        };
        for from in from.split(", ") {
            let from = match from {
                "none" => None,
                phase => Some(Phase::from_text(phase).expect(phase)),
            };
            for event in events.split(", ") {
                let event = LifecycleEvent::from_text(event).expect(event);
                let to = Phase::from_text(to).expect(to);
                assert!(table.insert((from, event), to).is_none(), "twice: {row}");
            }
        }
    }
    table
}

#[test]
fn apply_matches_documented_transitions() {
    let table = documented_transitions();
    assert_eq!(table.len(), 36, "the table was read whole");
    let phases = std::iter::once(None).chain(Phase::ALL.into_iter().map(Some));
    for from in phases {
        for event in LifecycleEvent::ALL {
            let expected = table.get(&(from, event)).copied();
            assert_eq!(
                next_phase(from, event).ok(),
                expected,
                "{from:?} and {event}"
            );
        }
    }
}

#[test]
fn every_phase_has_entry_and_exit() {
    let table = documented_transitions();
    for phase in Phase::ALL {
        assert!(table.values().any(|to| *to == phase), "{phase} is reached");
        assert!(
            table.keys().any(|(from, _)| *from == Some(phase)),
            "{phase} is left"
        );
    }
}

/// Returns a ledger with one rotation in this phase.
fn ledger_with_phase(phase: Phase) -> Connection {
    let identity = LedgerIdentity {
        provider: "https://example.com/v1".to_owned(),
        organization: String::new(),
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let options = LedgerOptions {
        is_synced: false,
        ..LedgerOptions::new(identity)
    };
    ledger::prepare_unlocked(&path, &options, Timestamp::UNIX_EPOCH).unwrap();
    let ledger = Connection::open(&path).unwrap();
    let begins = "DROP TRIGGER rotation_initial_phase;
         INSERT INTO key_state (key) VALUES ('a');
         INSERT INTO rotation (rotation, key, sequence, \"trigger\", started_at, label, phase,
                               current_at, retired_at, revoke_after, revoked_at, credential_id)
         SELECT '0123456789abcdef', 'a', 1, 'first', at, 'label', phase, at, at, at, at,
                CASE WHEN phase <> 'intended' THEN 'key_a' END
         FROM (SELECT '2026-11-23T03:00:00Z' AS at, 'PHASE' AS phase)";
    let begins = begins.replace("PHASE", phase.as_str());
    ledger.execute_batch(&begins).unwrap();
    ledger
}

#[test]
fn database_allows_the_same_transitions() {
    for from in Phase::ALL {
        for to in Phase::ALL.into_iter().filter(|to| *to != from) {
            let moves = LifecycleEvent::ALL
                .iter()
                .any(|event| next_phase(Some(from), *event) == Ok(to));
            let sql = "UPDATE rotation
                 SET phase = ?1, credential_id = coalesce(credential_id, 'key_a')";
            let result = ledger_with_phase(from).execute(sql, [to.as_str()]);
            match result {
                Ok(rows) => assert!(moves && rows == 1, "{from} to {to} is allowed"),
                Err(error) => {
                    let error = error.to_string();
                    assert!(
                        error.contains("illegal transition"),
                        "{from} to {to}: {error}"
                    );
                    assert!(!moves, "{from} to {to}: {error}");
                }
            }
        }
    }
}
