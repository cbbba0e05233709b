//! The old name of each renamed option is rejected, with its line and the new name, by
//! every command that reads the configuration.

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text, write};

/// A renamed option: old name, new name, and a value that was allowed.
type Renamed = (&'static str, &'static str, &'static str);

/// The options that `[defaults]` and every key share.
const KEY_OPTIONS: [Renamed; 9] = [
    ("settle", "verify-interval", "\"0s\""),
    ("verify-for", "verify-timeout", "\"15m\""),
    ("deliver-for", "delivery-deadline", "\"1h\""),
    ("live-at-most", "max-live-credentials", "6"),
    ("creates-per-day", "max-creates-per-day", "24"),
    ("hold-while-used", "revoke-when-idle-for", "\"1h\""),
    ("hold-at-most", "max-revoke-delay", "\"7d\""),
    ("first", "initial-rotation", "\"now\""),
    ("window", "catch-up-window", "\"2h\""),
];

const PROVIDER_OPTIONS: [Renamed; 1] = [("sweep-every", "reconcile-every", "\"6h\"")];

const FILE_SINK_OPTIONS: [Renamed; 2] = [
    ("after", "on-change", "[\"/bin/true\"]"),
    ("after-timeout", "on-change-timeout", "\"30s\""),
];

/// Returns the configuration `valid` with the old options after the line `header`, and
/// the expected messages.
fn with_old_names(
    valid: &str,
    header: &str,
    scope: &str,
    options: &[Renamed],
) -> (String, Vec<String>) {
    let lines: Vec<&str> = valid.lines().collect();
    let at = lines.iter().position(|line| *line == header).unwrap() + 1;
    let assignments: Vec<String> = options
        .iter()
        .map(|(old, _, value)| format!("{old} = {value}"))
        .collect();
    let mut changed: Vec<&str> = lines[..at].to_vec();
    changed.extend(assignments.iter().map(String::as_str));
    changed.extend(&lines[at..]);
    let expected = options
        .iter()
        .enumerate()
        .map(|(index, (old, new, _))| {
            format!(
                "config.toml:{}: {scope}.{old}: unknown option; `{old}` is now `{new}`",
                at + index + 1
            )
        })
        .collect();
    (changed.join("\n") + "\n", expected)
}

#[test]
fn old_option_name_is_refused_with_its_line_and_the_new_name() {
    let world = TestEnv::start(&[]);
    world.configure(&format!("[defaults]\n{}", file_key_text("1h")));
    let valid = std::fs::read_to_string(world.path("config.toml")).unwrap();
    world.ok(&["check"]);
    let cases = [
        with_old_names(&valid, "[provider]", "provider", &PROVIDER_OPTIONS),
        with_old_names(&valid, "[defaults]", "defaults", &KEY_OPTIONS),
        with_old_names(&valid, "[key.billing]", "key.billing", &KEY_OPTIONS),
        with_old_names(
            &valid,
            "[[key.billing.sink]]",
            "key.billing.sink[0]",
            &FILE_SINK_OPTIONS,
        ),
    ];
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential key=billing");
    for (configuration, expected) in cases {
        write(&world.path("config.toml"), &configuration);
        for command in ["check", "run", "reload"] {
            let output = world.run(&[command]);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{command}: {stderr}");
            for problem in &expected {
                assert!(stderr.contains(problem), "{command}: {problem}: {stderr}");
            }
            assert_eq!(
                stderr.matches("unknown option").count(),
                expected.len(),
                "{command}: {stderr}"
            );
        }
    }
    write(&world.path("config.toml"), &valid);
    world.ok(&["reload"]);
    daemon.stop();
}

#[test]
fn old_option_name_means_nothing_where_the_option_is_not_allowed() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h").replace("overlap", "sweep-every"));
    let stderr = text(&world.run(&["check"]).stderr);
    assert!(
        stderr.contains("key.billing.sweep-every: unknown option; expected one of "),
        "{stderr}"
    );
}
