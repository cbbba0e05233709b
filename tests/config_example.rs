//! The example configuration is right, and has every option in it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "support/problems.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

const EXAMPLE: &str = include_str!("../config.example.toml");

fn problems(text: &str) -> Vec<String> {
    support::problems(Path::new("/etc/rekeyd/config.toml"), text)
}

/// The example with what is commented out put in.
fn everything_on() -> String {
    let is_option = |line: &str| {
        line.strip_prefix('#').is_some_and(|rest| {
            rest.split_once(" = ").is_some_and(|(name, _)| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            })
        })
    };
    let mut lines: Vec<String> = Vec::new();
    for line in EXAMPLE.lines() {
        let on = if is_option(line) { &line[1..] } else { line };
        // Goes with another format only.
        if !on.starts_with("variable =") {
            lines.push(on.to_owned());
        }
    }
    lines.join("\n")
}

#[test]
fn it_is_right_as_it_stands_and_with_everything_on() {
    assert_eq!(problems(EXAMPLE), Vec::<String>::new());
    assert_eq!(problems(&everything_on()), Vec::<String>::new());
    let env = everything_on().replace("format = \"raw\"", "format = \"env\"\nvariable = \"X\"");
    assert_eq!(problems(&env), Vec::<String>::new());
}

/// What the parser itself says there is, where it is given an unknown option.
fn known(text: &str) -> BTreeSet<String> {
    let told = problems(text)
        .into_iter()
        .find(|problem| problem.contains("no such option"));
    let told = told.expect(text);
    let list = told.split("there are: ").nth(1).unwrap();
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn no_option_is_missing_from_it() {
    let key = "[key.a]\nschedule = \"@daily\"\n[[key.a.sink]]\n";
    let mut options = BTreeSet::new();
    for table in ["[provider]\n", "[ledger]\n", "[defaults]\n", "[key.a]\n"] {
        options.extend(known(&format!("{table}nothing = 1")));
    }
    options.extend(known(&format!(
        "{key}type = \"file\"\npath = \"/x/y\"\nnothing = 1"
    )));
    let webhook = "type = \"webhook\"\nurl = \"https://x/\"\nsigning-secret-file = \"/x\"\n";
    options.extend(known(&format!("{key}{webhook}nothing = 1")));
    assert!(options.len() > 20, "the options were told: {options:?}");
    for option in options {
        let written = [
            format!("\n{option} = "),
            format!("\n#{option} = "),
            format!(".{option}]]"),
        ];
        assert!(
            written.iter().any(|form| EXAMPLE.contains(form)),
            "{option} is not in the example"
        );
    }
}
