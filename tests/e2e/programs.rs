//! What programs are started with, and what is kept from them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::host::{report_missing, report_unsupported};
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

/// Returns whether this kernel confines programs.
fn is_supported() -> bool {
    let obstacle = rekeyd::platform::process::find_kernel_obstacle();
    if let Some(obstacle) = &obstacle {
        report_unsupported(&format!(
            "this kernel does not confine programs: {obstacle}"
        ));
    }
    obstacle.is_none()
}

/// Tries to read and write each file that is named, and lists what succeeded.
const TRY_ALL: &str = "cat >/dev/null\n\
    tell() { echo \"$1\" >>\"$folder/elsewhere/done\"; }\n\
    folder=$1\n\
    for file in ledger.db ledger.db-wal admin-key elsewhere/file; do\n\
    cat \"$folder/$file\" >/dev/null && tell \"read $file\"\n\
    dd if=/dev/null of=\"$folder/$file\" conv=notrunc,nocreat && tell \"wrote $file\"\n\
    done\n\
    touch \"$folder/new\" && tell made\n\
    mv \"$folder/elsewhere/file\" \"$folder/other/file\" && tell moved\n\
    head -c 0 /proc/$PPID/mem && tell memory\n\
    ls / >/dev/null && tell listed\n\
    exit 0";

#[test]
fn program_without_new_privileges_cannot_reach_the_state() {
    let mut world = TestEnv::start(&[]);
    configure(&world, TRY_ALL, "");
    world.keep_configuration_apart();
    let folders = |world: &TestEnv| {
        for folder in ["elsewhere", "other"] {
            let _ = fs::create_dir(world.path(folder));
        }
        write(&world.path("elsewhere/file"), "x");
        for file in ["elsewhere/done", "new"] {
            let _ = fs::remove_file(world.path(file));
        }
    };
    let done = |world: &TestEnv| {
        let text = fs::read_to_string(world.path("elsewhere/done")).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // The folder of the ledger is not rekeyd's alone, so its files are hidden and not all of it.
    fs::set_permissions(world.dir.path(), Permissions::from_mode(0o755)).unwrap();
    folders(&world);
    let output = world.run(&["once"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(done(&world).contains(&"read admin-key".to_owned()));
    let log = text(&output.stderr);
    assert!(log.contains("programs are not confined"), "{log}");
    if !is_supported() {
        return;
    }
    folders(&world);
    let mut command = Command::new("setpriv");
    let rotate = world.command(&["rotate", "billing"]);
    command
        .arg("--no-new-privs")
        .arg(rotate.get_program())
        .args(rotate.get_args());
    let output = command.output().unwrap();
    let log = text(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(!log.contains("programs are not confined"), "{log}");
    assert_eq!(
        done(&world),
        [
            "read elsewhere/file",
            "wrote elsewhere/file",
            "moved",
            "listed"
        ],
        "{log}"
    );
}

/// rekeyd starts its own file first, by its name in /proc.
#[test]
fn host_without_proc_starts_no_program_and_creates_nothing() {
    let world = TestEnv::start(&[]);
    configure(&world, "cat >/dev/null", "");
    let once = world.command(&["once"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "/bin/sh", "-c"]);
    command.arg("umount -l /proc || exit 200; exec \"$0\" \"$@\"");
    command.arg(once.get_program()).args(once.get_args());
    let output = command.output().unwrap();
    let messages = text(&output.stderr);
    if output.status.code() == Some(200) || messages.contains("unshare: ") {
        report_missing("the right to unmount /proc in a namespace (unshare)");
        return;
    }
    assert!(messages.contains("hint: mount /proc"), "{messages}");
    assert_eq!(world.live_ids(), [""; 0], "{messages}");
}
