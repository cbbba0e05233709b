//! The table of ARCHITECTURE.md, the function `apply` and the database agree.
use std::collections::BTreeMap;

use rekeyd::core::rotation::{Event, Phase, apply};

type Table = BTreeMap<(Option<Phase>, Event), Phase>;

fn documented() -> Table {
    let page = include_str!("../../ARCHITECTURE.md");
    let mut table = Table::new();
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
                let event = Event::from_text(event).expect(event);
                let to = Phase::from_text(to).expect(to);
                assert!(table.insert((from, event), to).is_none(), "twice: {row}");
            }
        }
    }
    table
}

#[test]
fn every_pair_of_phase_and_event_is_as_documented() {
    let table = documented();
    assert_eq!(table.len(), 34, "the table was read whole");
    let phases = std::iter::once(None).chain(Phase::ALL.into_iter().map(Some));
    for from in phases {
        for event in Event::ALL {
            let wanted = table.get(&(from, event)).copied();
            assert_eq!(apply(from, event).ok(), wanted, "{from:?} and {event}");
        }
    }
}

#[test]
fn every_phase_can_be_reached_and_left() {
    let table = documented();
    for phase in Phase::ALL {
        assert!(table.values().any(|to| *to == phase), "{phase} is reached");
        assert!(
            table.keys().any(|(from, _)| *from == Some(phase)),
            "{phase} is left"
        );
    }
}

#[test]
fn the_database_allows_the_same_moves() {
    let sql = include_str!("../../migrations/0001_ledger.sql");
    for from in Phase::ALL {
        for to in Phase::ALL {
            let moves = Event::ALL
                .iter()
                .any(|event| apply(Some(from), *event) == Ok(to));
            let allowed = sql.contains(&format!("'{from}>{to}'"));
            assert_eq!(moves, allowed, "{from} to {to}");
        }
    }
}
