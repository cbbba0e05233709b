//! The pages name real messages and real words of the ledger.

use std::collections::BTreeSet;
use std::path::Path;

use rekeyd::core::notification::{AlertKind, EventKind};

const TROUBLESHOOTING: &str = include_str!("../../docs/troubleshooting.md");
const LEDGER: &str = include_str!("../../docs/ledger.md");
const NOTIFICATIONS: &str = include_str!("../../docs/notifications.md");
const EVENTS: &str = include_str!("../golden/faces/events.json");
const VIEWS: &str = include_str!("../golden/faces/views.json");

fn append_sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            append_sources(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Returns the sources, with the literals that are broken over lines in one piece, and
/// without the names between braces.
fn messages() -> String {
    let mut text = String::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    append_sources(&root.join("src"), &mut text);
    let mut joined = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        match line.strip_suffix('\\') {
            Some(part) => joined.push_str(part),
            None => {
                joined.push_str(line);
                joined.push('\n');
            }
        }
    }
    joined
}

/// Returns the text between backticks in the first cell of each row.
fn first_cells(page: &str) -> Vec<&str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells
        .filter_map(|cell| cell.strip_prefix('`')?.strip_suffix('`'))
        .collect()
}

#[test]
fn troubleshooting_names_real_messages() {
    let messages = messages();
    let documented = first_cells(TROUBLESHOOTING);
    assert!(documented.len() > 15, "{documented:?}");
    for message in documented {
        for part in message.split('…') {
            // What is left of a value is no part of the message.
            let part = part.trim_matches(['(', ')', ' ']);
            assert!(
                messages.contains(part),
                "nothing prints {part:?}, which docs/troubleshooting.md shows"
            );
        }
    }
}

#[test]
fn ledger_page_has_every_column_and_event() {
    let messages = messages();
    let in_backticks: BTreeSet<&str> = LEDGER.split('`').skip(1).step_by(2).collect();
    let events: serde_json::Value = serde_json::from_str(EVENTS).unwrap();
    for event in events.as_object().unwrap().keys() {
        assert!(in_backticks.contains(event.as_str()), "event {event}");
    }
    let (_, rows) = LEDGER.split_once("| about | events |").unwrap();
    let (rows, _) = rows.split_once("\n\n").unwrap();
    for event in rows.split('`').skip(1).step_by(2) {
        let is_known = messages.contains(&format!("\"{event}\"")) || events.get(event).is_some();
        assert!(is_known, "there is no event {event}");
    }
    let views: serde_json::Value = serde_json::from_str(VIEWS).unwrap();
    for (view, columns) in views["columns"].as_object().unwrap() {
        let (_, section) = LEDGER.split_once(&format!("\n## {view}\n")).expect(view);
        let section = section.split("\n## ").next().unwrap();
        for column in columns.as_array().unwrap() {
            let column = format!("`{}`", column.as_str().unwrap());
            assert!(section.contains(&column), "{view}: {column}");
        }
    }
    for words in views["values"].as_object().unwrap().values() {
        for word in words.as_array().unwrap() {
            assert!(in_backticks.contains(word.as_str().unwrap()), "{word}");
        }
    }
}

#[test]
fn notification_page_has_every_event_and_cause() {
    for event in EventKind::ALL {
        let row = format!("| `{}` |", event.as_str());
        assert!(NOTIFICATIONS.contains(&row), "{row}");
    }
    for cause in AlertKind::ALL {
        let word = format!("`{}`", cause.as_str());
        assert!(NOTIFICATIONS.contains(&word), "{word}");
    }
}
