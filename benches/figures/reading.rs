//! Looking at a ledger of a million rotations: the commands, and the README's
//! example queries.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::table::{Row, ms};
use crate::{keys, million, process, usage};

const ROUNDS: usize = 21;

pub(crate) fn rows() -> Vec<Row> {
    let few = million::over_few_keys();
    let many = million::over_many_keys();
    let mut rows = Vec::new();
    for command in ["history --limit 50", "status"] {
        let words: Vec<&str> = command.split(' ').collect();
        let took = process::runs(ROUNDS, || keys::rekeyd(few.folder(), &words));
        let what = format!("`{command}`, 10 keys and 1,000,000 rotations");
        rows.push(Row::new(what, ms(took)).reach("20 ms"));
    }
    let took = process::runs(ROUNDS, || keys::rekeyd(many.folder(), &["status"]));
    rows.push(Row::new(
        "`status`, 10,000 keys and 1,000,000 rotations",
        ms(took),
    ));
    let connection = rekeyd::ledger::read::open(&few.ledger()).unwrap();
    for query in queries() {
        let took = median_of(&connection, &query);
        let reach = if is_bounded(&query) {
            "50 ms"
        } else {
            "500 ms"
        };
        rows.push(Row::new(format!("`{query}`"), ms(took)).reach(reach));
    }
    rows
}

/// The queries that the README shows.
fn queries() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let shown = readme.lines().filter(|line| line.starts_with("sqlite3 "));
    let queries: Vec<_> = shown
        .flat_map(usage::commands)
        .filter_map(|words| words.into_iter().nth(2))
        .collect();
    assert!(!queries.is_empty());
    queries
}

/// Whether it asks for a part of the ledger: one key, a phase, a time.
fn is_bounded(query: &str) -> bool {
    let bounds = ["key = ", "phase = ", "at > ", "at >= ", "_at < "];
    bounds.iter().any(|bound| query.contains(bound))
}

fn median_of(connection: &Connection, query: &str) -> Duration {
    let rounds = (0..5).map(|_| {
        let begun = Instant::now();
        let mut statement = connection.prepare(query).unwrap();
        let mut rows = statement.query([]).unwrap();
        while rows.next().unwrap().is_some() {}
        begun.elapsed()
    });
    process::median(rounds.collect())
}
