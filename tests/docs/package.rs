//! The files of the package beside the program: units, manual pages and the installed
//! configuration.
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use rekeyd::config::options;
use rekeyd::config::settings::Settings;
use rekeyd::config::{Environment, parse};

const UNITS: [&str; 3] = [
    include_str!("../../systemd/rekeyd.service"),
    include_str!("../../systemd/rekeyd@.service"),
    include_str!("../../systemd/rekeyd-once.service"),
];
const MAN_PAGE: &str = include_str!("../../man/rekeyd.toml.5");
const INSTALLED_CONFIG: &str = include_str!("../../debian/config.toml");

#[test]
fn units_share_the_same_sandboxing() {
    let sandboxes = UNITS.map(|unit| {
        let (_, sandbox) = unit.split_once("# The sandbox is the same").unwrap();
        sandbox.split("\n[").next().unwrap().trim_end().to_owned()
    });
    assert!(sandboxes[0].contains("NoNewPrivileges=yes"));
    assert_eq!(sandboxes[0], sandboxes[1]);
    assert_eq!(sandboxes[0], sandboxes[2]);
}

/// Returns the bold text at the start of each tagged paragraph.
fn described_options() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = MAN_PAGE.lines();
    while let Some(line) = lines.next() {
        if line != ".TP" {
            continue;
        }
        let tag = lines.next().unwrap().replace("\\-", "-");
        if let Some(names) = tag.strip_prefix(".BR ") {
            found.extend(names.split("\", \"").flat_map(|part| {
                let words = part.split([' ', '"', ',']);
                words.filter(|word| !word.is_empty()).map(str::to_owned)
            }));
        } else if let Some(name) = tag.strip_prefix(".B ") {
            found.insert(name.to_owned());
        }
    }
    found
}

#[test]
fn man_page_describes_every_option() {
    let described = described_options();
    for section in options::all_sections() {
        // The names of the tables are headings.
        if section == options::TOP {
            for table in section.names() {
                assert!(
                    MAN_PAGE.contains(&format!("[{table}")),
                    "[{table}] is described"
                );
            }
            continue;
        }
        for option in section.names() {
            // The text about their type describes these options.
            if option == "to" {
                continue;
            }
            assert!(described.contains(option), "{option} is described");
        }
    }
}

fn parse_settings(text: &str) -> Settings {
    let now = "2026-11-24T03:00:00Z".parse().unwrap();
    let path = Path::new("/etc/rekeyd/config.toml");
    parse(path, text, &Environment::empty(now)).unwrap()
}

#[test]
fn installed_configuration_has_no_keys_and_valid_examples() {
    assert_eq!(parse_settings(INSTALLED_CONFIG).keys.len(), 0);
    let enabled = INSTALLED_CONFIG.lines().map(|line| {
        let option = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|first: char| !first.is_whitespace()));
        format!("{}\n", option.unwrap_or(line))
    });
    assert_eq!(parse_settings(&enabled.collect::<String>()).keys.len(), 2);
}

#[test]
fn every_command_has_a_man_page() {
    let man = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekeyd"));
        command.arg("man").args(arguments).output().unwrap()
    };
    for (arguments, title) in [
        (&[][..], ".TH rekeyd 1"),
        (&["rotate"], ".TH rekeyd-rotate 1"),
        (&["check"], ".TH rekeyd-check 1"),
    ] {
        let page = String::from_utf8(man(arguments).stdout).unwrap();
        assert!(page.contains(title), "{page}");
    }
    assert_eq!(man(&["rotat"]).status.code(), Some(2));
}
