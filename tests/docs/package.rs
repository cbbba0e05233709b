//! The files of the package beside the program: units, manual pages and the installed
//! configuration.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::json_schema::{from_toml, problems, schema};
use crate::links::{links, normalized};
use crate::reference::tables::{commands, options_of};
use rekeyd::cli::manual::EXAMPLES;
use rekeyd::config::settings::Settings;
use rekeyd::config::{Environment, parse};

const UNITS: [&str; 4] = [
    include_str!("../../systemd/rekeyd.service"),
    include_str!("../../systemd/rekeyd@.service"),
    include_str!("../../systemd/rekeyd-once.service"),
    include_str!("../../systemd/rekeyd-once@.service"),
];
const TIMERS: [&str; 2] = [
    include_str!("../../systemd/rekeyd-once.timer"),
    include_str!("../../systemd/rekeyd-once@.timer"),
];
const INSTALLED_CONFIG: &str = include_str!("../../debian/config.toml");

#[test]
fn units_share_the_same_sandboxing() {
    let sandboxes = UNITS.map(|unit| {
        let (_, sandbox) = unit.split_once("# The sandbox is the same").unwrap();
        sandbox.split("\n[").next().unwrap().trim_end().to_owned()
    });
    for option in ["NoNewPrivileges=yes", "MemoryMax=", "TasksMax="] {
        assert!(sandboxes[0].contains(&format!("\n{option}")), "{option}");
    }
    for sandbox in &sandboxes {
        assert_eq!(*sandbox, sandboxes[0]);
    }
}

/// Returns the values of an option of a unit.
fn values<'t>(unit: &'t str, option: &str) -> Vec<&'t str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(name, _)| *name == option)
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn instance_of_the_timer_has_the_folders_of_the_daemon_that_it_replaces() {
    let [_, daemon, plain, once] = UNITS;
    for option in [
        "Environment",
        "UnsetEnvironment",
        "LoadCredential",
        "StateDirectory",
        "CacheDirectory",
    ] {
        // The daemon's own lines on its allocator are not about the instance.
        let of_daemon = values(daemon, option);
        let of_daemon = of_daemon.iter().filter(|line| !line.contains("MALLOC"));
        let of_daemon: Vec<_> = of_daemon.copied().collect();
        assert!(!of_daemon.is_empty(), "{option}");
        assert_eq!(values(once, option), of_daemon, "{option}");
    }
    for option in ["Type", "ExecStart", "TimeoutStartSec", "KillMode"] {
        assert_eq!(values(once, option), values(plain, option), "{option}");
    }
}

#[test]
fn timers_spread_their_runs() {
    let options = TIMERS.map(|timer| timer.split_once("[Timer]").unwrap().1.to_owned());
    assert_eq!(options[0], options[1]);
    assert_eq!(values(TIMERS[0], "RandomizedDelaySec"), ["5min"]);
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
        let option = option.filter(|rest| !rest.starts_with(":schema"));
        format!("{}\n", option.unwrap_or(line))
    });
    let enabled: String = enabled.collect();
    assert_eq!(parse_settings(&enabled).keys.len(), 2);
    let schema = schema("config");
    for text in [INSTALLED_CONFIG, &enabled] {
        assert_eq!(problems(&schema, &from_toml(text)), [""; 0]);
    }
}

/// Returns the files below a folder of the sources.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.flat_map(|path| match path.is_dir() {
        true => files_below(&path),
        false => vec![path],
    });
    files.collect()
}

/// Returns where the package has the files of the sources that it documents itself with, and
/// each file.
fn shipped_documents() -> BTreeMap<PathBuf, PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let mut shipped = BTreeMap::new();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array();
    for asset in assets.unwrap() {
        let (source, target) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        let Some(folder) = target.strip_prefix("usr/share/doc/rekeyd/") else {
            continue;
        };
        let (below, files) = match source.strip_suffix("/**/*") {
            Some(below) => (root.join(below), files_below(&root.join(below))),
            None if source.contains('*') => continue,
            None => (root.to_owned(), vec![root.join(source)]),
        };
        for file in files {
            let name = file.strip_prefix(&below).unwrap();
            shipped.insert(Path::new(folder).join(name), file);
        }
    }
    shipped
}

/// Whoever reads the installed pages has no sources.
#[test]
fn every_link_of_the_installed_pages_leads_somewhere() {
    let shipped = shipped_documents();
    assert!(shipped.contains_key(Path::new("README.md")));
    assert!(shipped.contains_key(Path::new("docs/sinks/webhook.md")));
    let is_page = |path: &Path| path.extension().is_some_and(|kind| kind == "md");
    for (path, file) in shipped.iter().filter(|(path, _)| is_page(path)) {
        for link in links(&std::fs::read_to_string(file).unwrap()) {
            let (target, _) = link.split_once('#').unwrap_or((&link, ""));
            if link.contains("://") || target.is_empty() {
                continue;
            }
            let target = normalized(&path.with_file_name("").join(target)).unwrap();
            assert!(shipped.contains_key(&target), "{}: {link}", path.display());
        }
    }
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
        for section in ["EXIT STATUS", "SEE ALSO"] {
            assert!(page.contains(&format!(".SH \"{section}\"")), "{page}");
        }
    }
    let page = String::from_utf8(man(&[]).stdout).unwrap();
    for command in commands() {
        let name = command.get_name();
        assert!(
            page.contains(&format!("rekeyd\\-{}(1)", name.replace('-', "\\-"))),
            "{name}: {page}"
        );
        let own = String::from_utf8(man(&[name]).stdout).unwrap();
        for option in options_of(&command).filter_map(clap::Arg::get_long) {
            let option = option.replace('-', "\\-");
            assert!(own.contains(&format!("\\-\\-{option}")), "{name}: {option}");
        }
    }
    for section in ["ENVIRONMENT", "FILES", "EXAMPLES"] {
        assert!(page.contains(&format!(".SH \"{section}\"")), "{page}");
    }
    assert_eq!(man(&["rotat"]).status.code(), Some(2));
}

#[test]
fn examples_of_the_manual_parse() {
    for (example, _) in EXAMPLES {
        for words in crate::command_lines::commands(example) {
            crate::readme::parse_command_line(&words).unwrap();
        }
    }
}
