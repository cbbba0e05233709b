//! Commands on a real terminal, where they may ask.

use std::fs::File;
use std::io::{Read as _, Write as _};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::support::TestEnv;

/// Runs a command on a terminal, and types `answer` once it shows `prompt` and waits. Returns
/// whether it succeeded, and all that the terminal showed.
pub(crate) fn run_on_terminal(
    world: &TestEnv,
    arguments: &[&str],
    prompt: &str,
    answer: &str,
) -> (bool, String) {
    // No other test's process inherits it.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut controller = posix_openpt(flags).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname_r(&controller).unwrap();
    let terminal = || File::options().read(true).write(true).open(&name).unwrap();
    let mut command = world.command(arguments);
    command
        .stdin(terminal())
        .stdout(terminal())
        .stderr(terminal());
    let mut child = command.spawn().unwrap();
    // Its descriptors would keep the terminal open.
    drop(command);
    let mut shown = Vec::new();
    let mut is_answered = false;
    let mut buffer = [0; 4_096];
    // The last descriptor of the terminal is closed when the command ends, which is an error
    // here.
    while let Ok(length) = controller.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&shown).into_owned();
        if !is_answered && text.ends_with(prompt) {
            is_answered = true;
            controller
                .write_all(format!("{answer}\n").as_bytes())
                .unwrap();
        }
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    (child.wait().unwrap().success(), shown)
}
