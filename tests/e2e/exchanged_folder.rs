//! A consumer exchanges the folder of its secrets for a symbolic link while rekeyd runs.

use std::fs;
use std::os::unix::fs::{lchown, symlink};

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text};

/// Returns an environment with the keys billing and web, whose files have one name.
fn two_keys() -> TestEnv {
    let world = TestEnv::start(&[]);
    for folder in ["home/secrets", "web"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    let key = |name: &str, folder: &str| {
        file_key_text("24h")
            .replace("billing.key", &format!("{folder}/openai.key"))
            .replace("key.billing", &format!("key.{name}"))
    };
    world.configure(&(key("billing", "home/secrets") + &key("web", "web")));
    world
}

#[test]
fn link_to_another_sinks_folder_stops_its_key_alone() {
    let world = two_keys();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    while world.history().len() < 2 {
        daemon.wait_for("is the current credential");
    }
    let web_content = || fs::read_to_string(world.path("web/openai.key")).unwrap();
    world.ok(&["rotate", "web"]);
    let before = web_content();

    fs::rename(world.path("home/secrets"), world.path("home/aside")).unwrap();
    symlink(world.path("web"), world.path("home/secrets")).unwrap();
    let is_foreign = lchown(world.path("home/secrets"), Some(4_711), None).is_ok();
    let live = world.live_ids().len();
    let output = world.run(&["rotate", "billing"]);
    assert!(!output.status.success());
    let message = text(&output.stderr);
    assert!(message.contains("rekeyd writes nothing there"), "{message}");
    assert_eq!(web_content(), before);
    assert_eq!(world.live_ids().len(), live, "none is created in vain");
    daemon.stop();
    if !is_foreign {
        return;
    }

    // A link of somebody else's is no mistake of the configuration.
    let checked = world.run(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    let found = text(&checked.stdout) + &text(&checked.stderr);
    assert!(
        found.contains("is a symbolic link of uid 4711, so another user"),
        "{found}"
    );
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    world.ok(&["rotate", "web"]);
    assert_ne!(web_content(), before);
    let before = web_content();
    assert!(!world.run(&["rotate", "billing"]).status.success());
    assert_eq!(web_content(), before);
    daemon.stop();
}

/// rekeyd replaces the file with its own admin key, wherever a link leads it.
#[test]
fn own_admin_key_is_not_written_by_a_link() {
    for write in ["replace", "in-place"] {
        let world = TestEnv::start(&[]);
        fs::create_dir(world.path("secrets")).unwrap();
        let key = file_key_text("24h").replace("billing.key", "secrets/admin-key")
            + &format!("write = \"{write}\"\n");
        world.configure(&key);
        let mut daemon = Daemon::start(&world);
        daemon.wait_for("is the current credential key=billing");
        fs::rename(world.path("secrets"), world.path("aside")).unwrap();
        symlink(world.dir.path(), world.path("secrets")).unwrap();
        assert!(!world.run(&["rotate", "billing"]).status.success());
        daemon.stop();
        let kept = fs::read_to_string(world.path("admin-key")).unwrap();
        assert_eq!(kept, world.admin_key, "{write}");
    }
}
