//! The tables in docs/design name every reason, every phase and every test.
use std::collections::BTreeSet;
use std::path::Path;

use rekeyd::core::decide::revocation::RevocationReason;
use rekeyd::core::lifecycle::Phase;

const REVOCATION: &str = include_str!("../../docs/design/revocation.md");
const THREAT_MODEL: &str = include_str!("../../docs/threat-model.md");
const RECOVERY: &str = include_str!("../../docs/design/recovery.md");
const RECOVERY_TESTS: &str = include_str!("../../src/engine/tests/recovery.rs");
/// Tests of what a reconciliation finds; some rows of the page name one.
const RECONCILIATION_TESTS: &str = include_str!("../../src/engine/tests/reconciliation.rs");

/// Returns the cells of a page's table, without its head.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with('|')).skip(2);
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// Each actor and each attack of the threat model has tests, and they exist.
#[test]
fn threat_model_names_tests_that_exist() {
    let mut sources = String::new();
    all_sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"),
        &mut sources,
    );
    let tests = tests_in(&sources);
    let rows = rows(THREAT_MODEL);
    assert!(rows.len() > 20, "the rows were read");
    for row in rows {
        let cell = row.last().unwrap();
        // Root is trusted with everything; the rest are the heads of the tables.
        if ["root", "attack", "---"].contains(&row[0]) {
            continue;
        }
        assert!(!cell.is_empty(), "{} has no test", row[0]);
        // A script.
        for test in quoted(cell).filter(|test| !test.contains('/')) {
            assert!(tests.contains(test), "{}: no test {test}", row[0]);
        }
    }
}

/// Returns the names in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Returns the names of the tests in a source.
fn tests_in(source: &str) -> BTreeSet<&str> {
    let functions = source.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")?.split('(').next()
    });
    functions.collect()
}

fn all_sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_sources(&path, text);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn each_reason_of_a_revocation_has_one_row_with_a_test() {
    let mut sources = String::new();
    all_sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut sources,
    );
    let tests = tests_in(&sources);
    let rows = rows(REVOCATION);
    let documented: Vec<&str> = rows.iter().flat_map(|row| quoted(row[0])).collect();
    let reasons: Vec<&str> = RevocationReason::ALL
        .iter()
        .map(|reason| reason.as_str())
        .collect();
    assert_eq!(documented, reasons);
    for row in rows {
        assert_eq!(row.len(), 5, "{row:?}");
        let named: Vec<&str> = quoted(row[4]).collect();
        assert!(!named.is_empty(), "{row:?}");
        for test in named {
            assert!(tests.contains(test), "there is no test {test}");
        }
    }
}

#[test]
fn each_phase_that_a_process_may_die_in_has_rows_with_all_recovery_tests() {
    let rows = rows(RECOVERY);
    let phases: BTreeSet<&str> = rows.iter().map(|row| row[1]).collect();
    let all: BTreeSet<&str> = Phase::ALL.iter().map(|phase| phase.as_str()).collect();
    assert_eq!(phases, all);
    let named: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(row[3])).collect();
    let elsewhere = tests_in(RECONCILIATION_TESTS);
    let tests = tests_in(RECOVERY_TESTS);
    let (here, others): (Vec<&str>, Vec<&str>) =
        named.iter().partition(|test| tests.contains(*test));
    for test in others {
        assert!(elsewhere.contains(test), "there is no test {test}");
    }
    let attributes = RECOVERY_TESTS.matches("#[tokio::test]").count();
    assert_eq!(here.len(), attributes, "each test of the file has its row");
}

/// Returns the text of a source before its tests.
fn without_tests(source: &str) -> &str {
    source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
}

fn deletions(folder: &Path, root: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .strip_prefix(root)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        // Providers and their wrappers only pass a deletion on.
        let is_provider = ["provider", "sandbox"].contains(&name.as_str())
            || name.ends_with("instrumented_provider.rs");
        if is_provider || path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            deletions(&path, root, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code: String = without_tests(&text).split_whitespace().collect();
        let calls = code.matches(".delete(").count();
        found.extend(std::iter::repeat_n(name, calls));
    }
}

#[test]
fn one_place_sends_deletions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    deletions(&root, &root, &mut found);
    assert_eq!(found, ["engine/effects/revoke.rs"]);
}
