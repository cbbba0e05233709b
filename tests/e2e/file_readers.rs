//! A file that its consumer could not read after the replacement is not replaced.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, file_key_text, text};

/// A user and a group that are none of the process's.
const CONSUMER: u32 = 4_711;

/// Returns an environment whose file has this owner, group and mode, or `None` if the
/// tests may not give files away.
fn with_file(owner: u32, group: u32, mode: u32, options: &str) -> Option<UnprivilegedEnv> {
    let world = TestEnv::start(&[]);
    world.configure(&format!("{}{options}", file_key_text("24h")));
    let file = world.path("billing.key");
    fs::write(&file, "made by hand\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    chown(&file, Some(owner), Some(group)).ok()?;
    Some(UnprivilegedEnv::new(world, &[]))
}

fn set_folder(bound: &UnprivilegedEnv, group: u32, mode: u32) {
    chown(bound.env.path(""), None, Some(group)).unwrap();
    fs::set_permissions(bound.env.path(""), Permissions::from_mode(mode)).unwrap();
}

/// Asserts that nothing is created for a file that is kept as it is.
fn assert_refused(bound: &UnprivilegedEnv, expected: &[&str]) {
    let file = bound.env.path("billing.key");
    let access = |found: fs::Metadata| (found.uid(), found.gid(), found.mode());
    let before = access(file.metadata().unwrap());
    let check = bound.run(&["check"]);
    assert_eq!(check.status.code(), Some(1), "{}", text(&check.stdout));
    let once = bound.run(&["once"]);
    assert_eq!(once.status.code(), Some(1), "{}", text(&once.stderr));
    let printed = [check.stdout, check.stderr].concat();
    for (source, printed) in [("check", printed), ("once", once.stderr)] {
        let printed = text(&printed);
        let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in expected {
            assert!(printed.contains(part), "{source}: {part}: {printed}");
        }
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "made by hand\n");
    assert_eq!(access(file.metadata().unwrap()), before);
    let history = bound.run(&["history", "--json"]).stdout;
    let history: serde_json::Value = serde_json::from_slice(&history).unwrap();
    for row in history.as_array().unwrap() {
        assert!(row["credential_id"].is_null(), "{row}");
    }
}

#[test]
fn file_whose_owner_could_not_read_it_is_not_replaced_until_the_remedy_is_done() {
    for mode in [0o600, 0o640, 0o644] {
        let Some(bound) = with_file(CONSUMER, CONSUMER, mode, "mode = \"0640\"\n") else {
            return;
        };
        assert_refused(
            &bound,
            &["belongs to user 4711", "chgrp GROUP", "chmod g+s"],
        );
        set_folder(&bound, CONSUMER, 0o2750);
        let check = bound.run(&["check"]);
        assert!(check.status.success(), "{}", text(&check.stderr));
        let rotated = bound.run(&["rotate", "billing"]);
        assert!(rotated.status.success(), "{}", text(&rotated.stderr));
        let found = bound.env.path("billing.key").metadata().unwrap();
        assert_eq!((found.gid(), found.mode() & 0o7777), (CONSUMER, 0o640));
    }
}

#[test]
fn file_whose_group_could_not_read_it_is_not_replaced_until_the_remedy_is_done() {
    for (options, expected) in [
        ("mode = \"0640\"\n", "belongs to group 4711"),
        ("", "set mode = \"0640\""),
    ] {
        let Some(bound) = with_file(0, CONSUMER, 0o644, options) else {
            return;
        };
        assert_refused(&bound, &[expected, "4711"]);
        if options.is_empty() {
            continue;
        }
        set_folder(&bound, CONSUMER, 0o2750);
        let rotated = bound.run(&["rotate", "billing"]);
        assert!(rotated.status.success(), "{}", text(&rotated.stderr));
        let found = bound.env.path("billing.key").metadata().unwrap();
        assert_eq!((found.gid(), found.mode() & 0o7777), (CONSUMER, 0o640));
    }
}

#[test]
fn file_of_root_that_nobody_else_reads_is_replaced() {
    for mode in [0o600, 0o644] {
        let Some(bound) = with_file(0, 0, mode, "") else {
            return;
        };
        let output = bound.run(&["once"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_ne!(
            fs::read_to_string(bound.env.path("billing.key")).unwrap(),
            "made by hand\n"
        );
    }
}
