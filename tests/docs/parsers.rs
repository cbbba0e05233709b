//! docs/design/parsers.md names functions that exist.

use std::path::Path;

const PAGE: &str = include_str!("../../docs/design/parsers.md");

/// The number of columns of each table.
const COLUMNS: usize = 4;

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
        let places = places(row[COLUMNS - 1]);
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

#[test]
fn no_row_is_there_twice() {
    let mut names: Vec<&str> = rows().iter().map(|row| row[0]).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
