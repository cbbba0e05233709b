//! The pages name real messages and real words of the ledger.

use std::collections::BTreeSet;
use std::path::Path;

use rekeyd::core::ledger_event::{EVENT_DETAILS, LedgerEventKind};
use rekeyd::core::lifecycle::Phase;
use rekeyd::core::notification::{AlertKind, EventKind};
use rekeyd::core::state::{DeliveryState, Trigger};

const TROUBLESHOOTING: &str = include_str!("../../docs/troubleshooting.md");
const LEDGER: &str = include_str!("../../docs/ledger.md");
const NOTIFICATIONS: &str = include_str!("../../docs/notifications.md");
const EVENTS: &str = include_str!("../golden/faces/events.json");
const VIEWS: &str = include_str!("../golden/faces/views.json");

fn append_sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests") || path.ends_with("tests.rs") {
            continue;
        }
        if path.is_dir() {
            append_sources(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            // What a test says, no one reads.
            let (program, _) = source
                .split_once("#[cfg(test)]\nmod tests")
                .unwrap_or((&source, ""));
            text.push_str(program);
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
            let part = part.trim_matches(['(', ')', ' ', ':', ';', ',']);
            assert!(
                messages.contains(part),
                "nothing prints {part:?}, which docs/troubleshooting.md shows"
            );
        }
    }
}

#[test]
fn ledger_page_has_every_column_and_event() {
    let in_backticks: BTreeSet<&str> = LEDGER.split('`').skip(1).step_by(2).collect();
    let events: serde_json::Value = serde_json::from_str(EVENTS).unwrap();
    for event in events.as_object().unwrap().keys() {
        assert!(in_backticks.contains(event.as_str()), "event {event}");
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

/// Returns the words between backticks in one column of the table under `head`, without
/// what explains them in parentheses.
fn table_words(page: &'static str, head: &str, column: usize) -> Vec<&'static str> {
    let (_, rows) = page.split_once(head).expect(head);
    let rows = rows.split("\n\n").next().unwrap().lines().skip(2);
    let cells = rows.map(|row| row.split(" | ").nth(column).unwrap());
    cells
        .flat_map(|cell| {
            cell.split('(')
                .map(|part| part.split_once(')').map_or(part, |p| p.1))
        })
        .flat_map(|part| part.split('`').skip(1).step_by(2))
        .collect()
}

/// Returns the words between backticks in the row of a column of a view.
fn column_words(view: &str, column: &str) -> BTreeSet<&'static str> {
    let (_, section) = LEDGER.split_once(&format!("\n## {view}\n")).expect(view);
    let (_, row) = section
        .split_once(&format!("\n| `{column}` |"))
        .expect(column);
    let row = row.lines().next().unwrap();
    row.split('`').skip(1).step_by(2).collect()
}

#[test]
fn ledger_page_has_the_words_that_rekeyd_writes() {
    let sorted = |mut words: Vec<&'static str>| {
        words.sort_unstable();
        words
    };
    let events = LedgerEventKind::all()
        .map(LedgerEventKind::as_str)
        .collect();
    let documented = table_words(LEDGER, "| about | events |", 1);
    assert_eq!(sorted(documented), sorted(events));
    let documented = table_words(LEDGER, "| member of `detail` | meaning |", 0);
    assert_eq!(sorted(documented), EVENT_DETAILS);
    assert_eq!(
        column_words("history", "phase"),
        Phase::ALL.into_iter().map(Phase::as_str).collect()
    );
    assert_eq!(
        column_words("history", "trigger"),
        Trigger::ALL.into_iter().map(Trigger::as_str).collect()
    );
    assert_eq!(
        column_words("deliveries", "state"),
        DeliveryState::ALL
            .into_iter()
            .map(DeliveryState::as_str)
            .collect()
    );
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

/// Returns every text that a person may read beside the program: pages, and outputs.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pending: Vec<_> = [
        "docs",
        "man",
        "tests/golden",
        "README.md",
        "config.example.toml",
    ]
    .iter()
    .map(|name| root.join(name))
    .collect();
    let mut pages = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            pages.push((path.display().to_string(), text));
        }
    }
    pages
}

#[test]
fn no_page_shows_the_number_of_a_system_error() {
    let pages = pages();
    assert!(pages.len() > 60, "{}", pages.len());
    for (path, text) in pages {
        assert!(!text.contains("(os error"), "{path}");
    }
}

/// An error type that contains an error of the system describes it by the one function.
#[test]
fn errors_describe_those_of_the_system() {
    let (mut text, mut found) = (String::new(), 0);
    append_sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut text,
    );
    for attribute in text.split("#[error(").skip(1) {
        // Up to the next doc comment of a variant, or the end of the type.
        let variant = attribute.split("\n    },").next().unwrap();
        let variant = variant.split("#[error(").next().unwrap();
        let declared = variant.split_once(")]").map_or("", |(_, after)| after);
        let has_error = declared.lines().take(12).any(|line| {
            let line = line.trim();
            !line.starts_with("//")
                && (line.ends_with("source: io::Error,")
                    || line.ends_with("source: std::io::Error,")
                    || line.ends_with("(#[from] io::Error),")
                    || line.ends_with("(#[from] std::io::Error),"))
        });
        if has_error {
            found += 1;
            assert!(
                attribute.contains("os_error::describe") || attribute.contains("explain_causes"),
                "{variant}"
            );
        }
    }
    assert!(found > 15, "{found}");
}
