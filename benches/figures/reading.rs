//! Reads of a ledger of a million rotations: the commands, and the book's
//! example queries, as a person runs them.

use std::process::Command;

use crate::table::{TableRow, ms};
use crate::{command_lines, keys, million, process};

const ROUNDS: usize = 21;

const QUERY_ROUNDS: usize = 5;

pub(crate) fn rows() -> Vec<TableRow> {
    let few = million::over_few_keys();
    let many = million::over_many_keys();
    let mut rows = Vec::new();
    for command in ["history --limit 50", "status"] {
        let words: Vec<&str> = command.split(' ').collect();
        let time = process::median_time(ROUNDS, || keys::rekeyd(few.folder(), &words));
        let label = format!("`{command}`, 10 keys and 1,000,000 rotations");
        rows.push(TableRow::new(label, ms(time)).reach("20 ms"));
    }
    let time = process::median_time(ROUNDS, || keys::rekeyd(many.folder(), &["status"]));
    rows.push(TableRow::new(
        "`status`, 10,000 keys and 1,000,000 rotations",
        ms(time),
    ));
    let missing = process::missing(&["sqlite3"]);
    for query in queries() {
        let sqlite3_command = || {
            let mut command = Command::new("sqlite3");
            command.arg(few.ledger()).arg(&query);
            command
        };
        let time = match &missing {
            Some(missing) => missing.clone(),
            None => ms(process::median_time(QUERY_ROUNDS, sqlite3_command)),
        };
        let goal = if is_bounded(&query) {
            "50 ms"
        } else {
            "500 ms"
        };
        rows.push(TableRow::new(format!("`sqlite3`: `{query}`"), time).reach(goal));
    }
    rows
}

/// Returns the queries that the page about the ledger shows.
fn queries() -> Vec<String> {
    let page = include_str!("../../docs/ledger.md");
    let command_lines_shown = page.lines().filter(|line| line.starts_with("sqlite3 "));
    let queries: Vec<_> = command_lines_shown
        .flat_map(command_lines::commands)
        .filter_map(|words| words.into_iter().nth(2))
        .collect();
    assert!(!queries.is_empty());
    queries
}

/// Whether a query is limited to a part of the ledger: a key, a phase, a time.
fn is_bounded(query: &str) -> bool {
    let bounds = ["key = ", "phase = ", "at > ", "at >= ", "_at < "];
    bounds.iter().any(|bound| query.contains(bound))
}
