//! What programs are started with.

use std::fs;
use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, copy_binary, text, write};
use rustix::process::Signal;

/// Configures a key whose command sink runs a script with these lines, in which `$1` is the
/// folder of the environment.
fn configure(world: &TestEnv, lines: &str, more: &str) {
    write(&world.path("put"), &format!("{lines}\n"));
    world.configure(&format!(
        "[key.billing]\nschedule = \"@monthly\"\noverlap = \"1s\"\nverify-interval = \"0s\"\n\
         [[key.billing.sink]]\ntype = \"command\"\nname = \"put\"\n\
         argv = [\"/bin/sh\", \"DIR/put\", \"DIR\"]\n{more}"
    ));
}

/// Returns `command`, started by a shell that runs `first`.
fn through_shell(first: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("{first}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args());
    let variables = command.get_envs();
    shell
        .env_clear()
        .envs(variables.filter_map(|(name, value)| Some((name, value?))));
    shell
}

#[test]
fn program_inherits_three_descriptors_and_no_ignored_signal() {
    let world = TestEnv::start(&[]);
    // The last one is of the folder that is listed.
    let lines = "cat >/dev/null\ngrep SigIgn /proc/self/status >\"$1/ignored\"\n\
         exec ls /proc/self/fd >\"$1/descriptors\"";
    configure(&world, lines, "");
    let once = world.command(&["once"]);
    let output = through_shell("exec 3</dev/null 7<\"$PWD\"", &once).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let listed = fs::read_to_string(world.path("descriptors")).unwrap();
    assert_eq!(listed, "0\n1\n2\n3\n");
    let ignored = fs::read_to_string(world.path("ignored")).unwrap();
    let ignored = ignored.trim().rsplit('\t').next().unwrap();
    let ignored = u64::from_str_radix(ignored, 16).unwrap();
    let broken_pipe = 1 << (Signal::PIPE.as_raw() - 1);
    assert_eq!(ignored & broken_pipe, 0, "{ignored:x}");
}

#[test]
fn program_starts_after_the_file_of_rekeyd_was_replaced() {
    let world = TestEnv::start(&[]);
    configure(&world, "cat >\"$1/secret\"", "");
    let program = world.path("rekeyd");
    copy_binary(&program);
    let plain = world.command(&["run"]);
    let mut command = Command::new(&program);
    command.args(plain.get_args()).env_clear();
    // Another secret is delivered while another file, which is no program, has the name.
    let mut daemon = Daemon::from_command(command);
    daemon.wait_for("is the current credential");
    write(&world.path("other"), "no program");
    fs::rename(world.path("other"), &program).unwrap();
    fs::remove_file(world.path("secret")).unwrap();
    world.ok(&["rotate", "billing"]);
    assert!(world.path("secret").exists());
    daemon.stop();
}
