//! The question before a credential is adopted that nothing shows to be the key's, on a real
//! terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::moving_in::create_manually;
use crate::support::{TestEnv, file_key_text};

/// Runs a command on a terminal, and types `answer` once it asks. Returns whether it succeeded,
/// and all that the terminal showed.
fn run_on_terminal(world: &TestEnv, arguments: &[&str], answer: &str) -> (bool, String) {
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
        if !is_answered && text.contains("To adopt it, type ") && text.ends_with("\": ") {
            is_answered = true;
            controller
                .write_all(format!("{answer}\n").as_bytes())
                .unwrap();
        }
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    (child.wait().unwrap().success(), shown)
}

#[test]
fn adoption_is_confirmed_by_the_name_alone() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["rotate", "billing"]);
    let (id, _) = create_manually(&world, "payroll");
    let before = world.history();
    for answer in ["no", "", "y", "yes", "Payroll", &id] {
        let (is_done, shown) = run_on_terminal(&world, &["adopt", "billing", &id], answer);
        assert!(!is_done, "{answer:?}: {shown}");
        for part in [
            &format!("{id} was not adopted"),
            "it belongs to ",
            "was created at 2",
            " ago)",
            "never used",
            "To adopt it, type its name, \"payroll\": ",
            "cancelled; nothing was adopted",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(world.history(), before, "{answer:?}");
    }
    let (is_done, shown) = run_on_terminal(&world, &["adopt", "billing", &id], "payroll");
    assert!(is_done, "{shown}");
    assert!(
        shown.contains(&format!("until `rekeyd release {id}`")),
        "{shown}"
    );
    let history = world.history();
    let adopted = history
        .iter()
        .find(|row| row["credential_id"] == id.as_str());
    assert_eq!(adopted.unwrap()["held"], 1);
}
