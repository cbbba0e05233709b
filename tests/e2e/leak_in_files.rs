//! A credential leaked that the files of other keys hold, although those did not adopt it.

use std::fs;

use crate::leak::{assert_refused, configure_two_keys};
use crate::moving_in::create_manually;
use crate::support::daemon::Daemon;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, text, write};

const ORDER: [&str; 4] = ["rotate", "a", "--revoke-previous-within", "2s"];

/// Returns two keys of which the first has adopted a credential, its id and its secret.
fn adopted_by_first() -> (TestEnv, String, String) {
    let world = TestEnv::start(&[]);
    configure_two_keys(&world);
    let (id, secret) = create_manually(&world, "made for both");
    write(&world.path("a.key"), &secret);
    world.ok(&["adopt", "a", &id]);
    (world, id, secret)
}

fn file(world: &TestEnv, key: &str) -> String {
    fs::read_to_string(world.path(&format!("{key}.key"))).unwrap()
}

/// Returns whether the secret in the file of a key works.
fn works(world: &TestEnv, key: &str) -> bool {
    let secret = file(world, key);
    let live = world.live_ids();
    live.iter().any(|id| secret.contains(&world.secret_of(id)))
}

/// If somebody wrote the leaked credential into the file of another key, the same command
/// rotates that key, with its own credential.
#[test]
fn key_whose_file_holds_a_leaked_credential_is_named_and_rotated() {
    for (form, with_daemon, order) in [
        ("KEY", false, &ORDER[..]),
        ("export OPENAI_ADMIN_KEY=\"KEY\"\n", true, &ORDER[..]),
        // It does not matter whether a person also names it.
        (
            "KEY\n",
            false,
            &["rotate", "b", "a", "--revoke-previous-within", "2s"],
        ),
        (
            "{\"key\": \"KEY\"}",
            true,
            &["rotate", "--all", "--revoke-previous-within", "2s"],
        ),
    ] {
        let (world, id, secret) = adopted_by_first();
        write(&world.path("b.key"), &form.replace("KEY", &secret));
        let daemon = with_daemon.then(|| {
            let mut daemon = Daemon::start(&world);
            daemon.wait_for(" started");
            daemon
        });
        let mut order = order.to_vec();
        if !order.contains(&"b") && !order.contains(&"--all") {
            let parts = [
                &id,
                "b.key",
                "did not adopt",
                "rotated too",
                "--yes to rotate them too",
            ];
            assert_refused(&world.run(&order), &parts);
            assert_eq!(world.history().len(), 1, "nothing is begun");
            order.push("--yes");
        }
        let done = world.run(&order);
        let (message, warnings) = (text(&done.stdout), text(&done.stderr));
        assert!(done.status.success(), "{order:?}: {message} {warnings}");
        assert!(!warnings.contains("a: not rotated"), "{warnings}");
        for key in ["a", "b"] {
            assert!(message.contains(&format!("{key}: rotated")), "{message}");
            assert!(works(&world, key), "{key} of {order:?}");
        }
        assert!(!world.live_ids().contains(&id));
        assert_eq!(world.live_ids().len(), 2);
        let shared = world.history().into_iter();
        let shared = shared.filter(|row| row["credential_id"] == id.as_str());
        assert_eq!(shared.count(), 2, "b has a row of it");
        world.ok(&["status", "--offline"]);
        if let Some(daemon) = daemon {
            daemon.stop();
        }
    }
}

/// A restart right after the order continues it: both keys have the deadline.
#[test]
fn holder_of_a_leaked_credential_is_rotated_after_a_restart() {
    let (world, id, secret) = adopted_by_first();
    write(&world.path("b.key"), &secret);
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&[&ORDER[..], &["--yes", "--no-wait"]].concat());
    drop(daemon);
    let daemon = Daemon::start(&world);
    wait_until("the leaked credential is revoked", || {
        !world.live_ids().contains(&id)
    });
    world.ok(&["rotate", "a"]);
    assert!(works(&world, "a") && works(&world, "b"));
    daemon.stop();
}

/// A file that also holds another key is not overwritten, and one that cannot be read may
/// hold the credential: the reply names them, and a person decides.
#[test]
fn file_that_is_not_written_over_is_named() {
    for (name, named) in [
        ("beside", "beside another key"),
        ("link", "cannot read"),
        ("folder", "cannot read"),
    ] {
        let (world, id, secret) = adopted_by_first();
        let path = world.path("b.key");
        match name {
            "beside" => {
                let (_, other) = create_manually(&world, "nobody knows");
                write(&path, &format!("A={secret}\nB={other}\n"));
            }
            "link" => std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap(),
            _ => fs::create_dir(&path).unwrap(),
        }
        let before = fs::read(&path).ok();
        let parts = [
            &id,
            "b.key",
            named,
            "rekeyd rotate b --replace",
            "--yes to continue anyway",
        ];
        let message = assert_refused(&world.run(&ORDER), &parts);
        assert!(message.contains("a: not rotated"), "{message}");
        assert_eq!(world.history().len(), 1);
        let done = world.run(&[&ORDER[..], &["--yes"]].concat());
        let warnings = text(&done.stderr);
        assert!(done.status.success(), "{name}: {warnings}");
        assert!(warnings.contains(named), "{warnings}");
        assert!(!warnings.contains("a: not rotated"), "{warnings}");
        assert!(!world.live_ids().contains(&id));
        assert_eq!(fs::read(&path).ok(), before, "{name}");
    }
}

/// What another key delivered itself counts as that of any other key.
#[test]
fn file_that_was_overwritten_by_hand_is_rotated() {
    let (world, id, secret) = adopted_by_first();
    world.ok(&["rotate", "b"]);
    write(&world.path("b.key"), &secret);
    let parts = [&id, "b.key", "rotated too"];
    assert_refused(&world.run(&ORDER), &parts);
    world.ok(&[&ORDER[..], &["--yes"]].concat());
    assert!(works(&world, "b"));
    assert!(!world.live_ids().contains(&id));
}
