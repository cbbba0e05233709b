//! Helpers of the configuration's tests.
#![allow(dead_code, reason = "no test uses all of it")]

use std::path::Path;

use rekeyd::config::settings::Settings;
use rekeyd::config::{Environment, parse};

pub(crate) fn environment() -> Environment {
    Environment::empty("2026-11-24T03:00:00Z".parse().unwrap())
}

pub(crate) fn parse_text(text: &str) -> Result<Settings, Vec<String>> {
    parse(Path::new("/etc/c.toml"), text, &environment())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// Returns a valid key from line 2 on, with more lines in its sink.
pub(crate) fn file_key_text(sink: &str) -> String {
    format!(
        "[key.a]\nschedule = \"@daily\"\n[[key.a.sink]]\ntype = \"file\"\npath = \"/k/a\"\n{sink}\n"
    )
}

/// Returns a key whose only sink is a webhook, with these lines from line 5 on.
pub(crate) fn webhook_key_text(lines: &str) -> String {
    format!("[key.a]\nschedule = \"@daily\"\n[[key.a.sink]]\ntype = \"webhook\"\n{lines}\n")
}

/// Returns a key whose only sink is a command, with these lines.
pub(crate) fn command_key_text(lines: &str) -> String {
    webhook_key_text(lines).replace("webhook", "command")
}

/// Asserts that each text has exactly these problems, each from its line number on.
pub(crate) fn expect_problems(table: &[(&str, &[&str])]) {
    for (text, expected) in table {
        let found = parse_text(text).expect_err(text);
        let expected: Vec<String> = expected
            .iter()
            .map(|line| format!("/etc/c.toml:{line}"))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}
