//! What a program that rekeyd runs can reach.

use std::fs;
use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, text};
use crate::users::SharedHost;

/// Tries to read the ledger, the cookie and the admin key, and to command the daemon.
const PROGRAM: &str = "cat >/dev/null; folder=$1; \
    for file in ledger.db ledger.db.cookie admin-key; do \
    cat \"$folder/$file\" >/dev/null 2>&1 && echo \"read $file\" >>\"$folder/out/done\"; done; \
    \"$folder/rekeyd\" --config \"$folder/config.toml\" pause billing >\"$folder/out/said\" 2>&1 && \
    echo paused >>\"$folder/out/done\"; echo tried >>\"$folder/out/done\"";

fn configure(env: &TestEnv) {
    let folder = env.dir.path().display();
    let program = PROGRAM
        .replace('"', "\\\"")
        .replace("DIR", &folder.to_string());
    env.configure(&format!(
        "[key.billing]\nevery = \"30d\"\nverify-interval = \"0s\"\n[[key.billing.sink]]\n\
         type = \"command\"\nargv = [\"/bin/sh\", \"-c\", \"{program}\", \"sh\", \"{folder}\"]\n"
    ));
}

pub fn program_reads_no_state_and_commands_nothing() {
    let obstacle = rekeyd::platform::process::find_kernel_obstacle();
    assert!(
        obstacle.is_none(),
        "this kernel cannot confine: {obstacle:?}"
    );
    let host = SharedHost::new();
    configure(&host.env);
    fs::create_dir(host.env.path("out")).unwrap();
    let plain = host.env.command(&["run"]);
    let mut command = Command::new("setpriv");
    command
        .arg("--no-new-privs")
        .arg(plain.get_program())
        .args(plain.get_args());
    let mut daemon = Daemon::from_command(command);
    daemon.wait_for("is the current credential key=billing");
    let done = fs::read_to_string(host.env.path("out/done")).unwrap();
    let said = fs::read_to_string(host.env.path("out/said")).unwrap();
    assert_eq!(done, "tried\n", "{said}");
    assert!(said.contains("may only look"), "{said}");
    // Root itself finds the cookie.
    assert!(host.env.ok(&["pause", "billing"]).contains("paused"));
    let log = daemon.stop();
    assert!(!log.contains("not confined"), "{}", text(log.as_bytes()));
}
