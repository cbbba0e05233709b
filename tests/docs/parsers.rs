//! docs/design/parsers.md names functions and tests that exist.

use std::collections::BTreeMap;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/design/parsers.md");

/// The number of columns of each table.
const COLUMNS: usize = 5;

/// Returns the rows of all tables, without their heads.
fn rows() -> Vec<Vec<&'static str>> {
    let lines = PAGE.lines().filter(|line| line.starts_with('|'));
    let cells = lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect());
    let rows = cells.filter(|row: &Vec<&str>| row[0] != "what is read" && row[0] != "---");
    rows.collect()
}

/// Returns each file that a cell names in `src`, with the functions that follow it.
fn places(cell: &str) -> Vec<(&str, Vec<&str>)> {
    let mut places: Vec<(&str, Vec<&str>)> = Vec::new();
    for name in cell.split('`').skip(1).step_by(2) {
        match places.last_mut() {
            _ if Path::new(name).extension().is_some_and(|kind| kind == "rs") => {
                places.push((name, Vec::new()));
            }
            Some((_, functions)) => functions.push(name),
            None => panic!("{cell} begins with a file"),
        }
    }
    places
}

#[test]
fn each_parser_and_comparison_is_where_its_row_says() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rows = rows();
    assert!(rows.len() > 60, "the rows were read");
    let mut problems = Vec::new();
    for row in rows {
        assert_eq!(row.len(), COLUMNS, "{row:?}");
        let places = places(row[COLUMNS - 2]);
        if places.iter().all(|(_, functions)| functions.is_empty()) {
            problems.push(format!("{}: no function is named", row[0]));
        }
        for (file, functions) in places {
            let source = std::fs::read_to_string(sources.join(file)).unwrap_or_default();
            for function in functions {
                let definitions = ["(", "<"].map(|end| format!("fn {function}{end}"));
                if !definitions.iter().any(|text| source.contains(text)) {
                    problems.push(format!("{}: {file} has no function {function}", row[0]));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What the check of an input that is taken contains.
const TAKEN: [&str; 9] = [
    "Ok(",
    "Some(",
    "is_ok()",
    "true",
    ".unwrap()",
    ".ok(",
    "expect_values(",
    "assert_eq!(",
    "LabelMatch::Changed",
];

/// What the check of an input that is refused contains.
const REFUSED: [&str; 17] = [
    "Err(",
    "None",
    "Error",
    "unwrap_err()",
    "expect_err",
    "is_err()",
    "assert!(!",
    "expect_values(",
    "LabelMatch::Other",
    "EndMatch::Different",
    "is_none()",
    "Some(1)",
    "false",
    "&[])",
    "[]",
    "[\"\"; 0]",
    "expect_problems(",
];

/// Adds the text of each test below a folder, by its name.
fn collect_tests(folder: &Path, tests: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_tests(&path, tests);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            for marker in ["#[test]", "#[tokio::test]", "#[tokio::test("] {
                for part in source.split(marker).skip(1) {
                    let Some((before, test)) = part.split_once("fn ") else {
                        continue;
                    };
                    let name = test.split('(').next().unwrap_or_default();
                    // A test ends with the first brace that is indented as it is.
                    let line = before.rsplit('\n').next().unwrap_or_default();
                    let indent = line.len() - line.trim_start().len();
                    let end = format!("\n{}}}", " ".repeat(indent));
                    let body = test.split(end.as_str()).next().unwrap_or_default();
                    tests.entry(name.to_owned()).or_default().push_str(body);
                }
            }
        }
    }
}

/// The tests of each row exist, and check inputs that are taken and inputs that are refused.
#[test]
fn each_row_has_tests_with_taken_and_refused_inputs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeMap::new();
    for folder in ["src", "tests"] {
        collect_tests(&root.join(folder), &mut tests);
    }
    let mut problems = Vec::new();
    for row in rows() {
        let names = row[COLUMNS - 1].split('`').skip(1).step_by(2);
        let mut text = String::new();
        for name in names {
            match tests.get(name) {
                Some(body) => text.push_str(body),
                None => problems.push(format!("{}: there is no test {name}", row[0])),
            }
        }
        for (kind, markers) in [("taken", &TAKEN[..]), ("refused", &REFUSED[..])] {
            let is_affirmed = || {
                text.split("assert!(")
                    .skip(1)
                    .any(|rest| !rest.starts_with('!'))
            };
            let is_checked = markers.iter().any(|marker| text.contains(marker))
                || (kind == "taken" && is_affirmed());
            if !is_checked {
                problems.push(format!(
                    "{}: no test checks an input that is {kind}",
                    row[0]
                ));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_row_is_there_twice() {
    let mut names: Vec<&str> = rows().iter().map(|row| row[0]).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
