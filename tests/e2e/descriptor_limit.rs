//! The limit of open files.

use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text};

/// The limit of open files is raised for the daemon, and not for what it starts.
#[test]
fn program_gets_the_limit_of_the_start() {
    let world = TestEnv::start(&[]);
    let on_change = "on-change = [\"/bin/sh\", \"-c\", \"ulimit -n >DIR/limit\"]\n";
    world.configure(&format!("{}{on_change}", file_key_text("24h")));
    let shell = ["-c", "ulimit -Sn 200; exec \"$0\" \"$@\""];
    let plain = world.command(&["run"]);
    let mut command = Command::new("/bin/sh");
    command
        .args(shell)
        .arg(plain.get_program())
        .args(plain.get_args());
    command.env_clear().envs(
        plain
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let mut daemon = Daemon::from_command(command);
    daemon.wait_for("is the current credential");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.id())).unwrap();
    let limit = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let own: u64 = limit
        .unwrap()
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap();
    assert!(own > 200, "{limits}");
    let given = std::fs::read_to_string(world.path("limit")).unwrap();
    assert_eq!(given.trim(), "200");
    daemon.stop();
}
