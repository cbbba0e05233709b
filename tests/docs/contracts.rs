//! The pages about sinks, options and the sandbox are complete.

use std::collections::BTreeSet;
use std::path::Path;

use crate::readme::read_blocks;
use rekeyd::config::options;
use rekeyd::core::lifecycle::Phase;
use serde_json::Value;

const ROTATION: &str = include_str!("../../docs/rotation.md");
const LOG: &str = include_str!("../../docs/log.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const NOTIFICATIONS: &str = include_str!("../../docs/notifications.md");
const REHEARSING: &str = include_str!("../../docs/rehearsing.md");
const FILE_PAGE: &str = include_str!("../../docs/sinks/file.md");
const WEBHOOK_PAGE: &str = include_str!("../../docs/sinks/webhook.md");
const FAULTS: &str = concat!(
    include_str!("../../src/sandbox/fault.rs"),
    include_str!("../../src/sandbox/operation.rs")
);
const COMMAND_PAGE: &str = include_str!("../../docs/sinks/command.md");

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/faces");
    let text = std::fs::read_to_string(path.join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Returns the first block of JSON on a page.
fn example(page: &str) -> Value {
    let (blocks, _) = read_blocks(page);
    let block = blocks.iter().find(|block| block.language == "json");
    serde_json::from_str(&block.unwrap().content).unwrap()
}

/// Returns the paths of all members, with those of the members below them.
fn member_paths(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        member_paths(value, &format!("{path}."), found);
        found.insert(path);
    }
}

fn paths(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    member_paths(value, "", &mut found);
    found
}

#[test]
fn examples_of_json_have_the_real_members() {
    let webhook = &golden("webhook.json")["with a previous credential"];
    assert_eq!(paths(&example(WEBHOOK_PAGE)), paths(&webhook["body"]));
    let headers = webhook["headers"].as_object().unwrap().keys();
    let own = |name: &&String| name.starts_with("webhook-") || **name == "authorization";
    for header in headers.filter(own) {
        assert!(
            WEBHOOK_PAGE.contains(&format!("| `{header}` |")),
            "{header}"
        );
    }
    let file = &golden("delivered-files.json")["json"];
    assert_eq!(paths(&example(FILE_PAGE)), paths(file));
    let notification = &golden("notifications.json")["clock, begun"];
    assert_eq!(paths(&example(NOTIFICATIONS)), paths(notification));
    for member in notification["data"].as_object().unwrap().keys() {
        assert!(NOTIFICATIONS.contains(&format!("`{member}`")), "{member}");
    }
}

#[test]
fn environment_of_programs_is_documented() {
    let programs = golden("programs.json");
    let documented = |page: &str, program: &str| {
        for (variable, value) in programs[program]["environment"].as_object().unwrap() {
            assert!(page.contains(&format!("`{variable}`")), "{variable}");
            if ["PATH", "LANG"].contains(&variable.as_str()) {
                assert!(COMMAND_PAGE.contains(value.as_str().unwrap()), "{variable}");
            }
        }
    };
    documented(COMMAND_PAGE, "command sink");
    documented(COMMAND_PAGE, "after a file has changed");
    documented(&[NOTIFICATIONS, COMMAND_PAGE].concat(), "notification");
}

#[test]
fn every_option_is_documented_on_its_page() {
    for section in options::all_sections() {
        let page = match section.name.split_once('.') {
            Some(("sink", name)) => {
                let root = Path::new(env!("CARGO_MANIFEST_DIR"));
                let path = root.join(format!("docs/sinks/{name}.md"));
                std::fs::read_to_string(path).unwrap()
            }
            Some(("notify", _)) => NOTIFICATIONS.to_owned(),
            Some(_) | None => CONFIGURATION.to_owned(),
        };
        if section == options::TOP {
            for table in section.names() {
                let is_heading = |line: &str| {
                    line.starts_with("## ") && line.split(' ').any(|word| word == table)
                };
                assert!(page.lines().any(is_heading), "[{table}]");
            }
            continue;
        }
        for option in section.names() {
            let is_row = |line: &str| {
                let cell = line
                    .strip_prefix("| ")
                    .and_then(|row| row.split(" | ").next());
                cell.is_some_and(|cell| cell.contains(&format!("`{option}`")))
            };
            assert!(page.lines().any(is_row), "{}: {option}", section.name);
        }
    }
}

#[test]
fn every_fault_is_documented() {
    let names = FAULTS.lines().filter_map(|line| {
        let (variant, name) = line.trim().split_once(" => \"")?;
        let is_name = variant.starts_with("Self::") && name.ends_with("\",");
        is_name.then(|| name.trim_end_matches("\","))
    });
    let names: Vec<_> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(REHEARSING.contains(&format!("`{name}`")), "{name}");
    }
}

#[test]
fn every_phase_has_its_row() {
    let rows = ROTATION.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.map(|row| row.split('`').next().unwrap());
    let names: Vec<_> = names.filter(|name| !name.contains(' ')).collect();
    let documented: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(documented.len(), names.len());
    let phases: BTreeSet<&str> = Phase::ALL.iter().map(|phase| phase.as_str()).collect();
    assert_eq!(documented, phases);
}

#[test]
fn fields_of_the_journal_are_real() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/faces");
    let recorded = std::fs::read_to_string(path.join("journal-fields.json")).unwrap();
    let rows = LOG
        .lines()
        .filter_map(|line| line.strip_prefix("| `REKEYD_"));
    let mut count = 0;
    for field in rows.map(|row| row.split('`').next().unwrap()) {
        // A scenario without a failure has none of these.
        let is_of_failure = ["ATTEMPT", "RETRY_AT"].contains(&field);
        assert!(
            is_of_failure || recorded.contains(&format!("REKEYD_{field}")),
            "{field}"
        );
        count += 1;
    }
    assert!(count > 3);
}
