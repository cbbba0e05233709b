//! A ledger of an earlier release, as its users see it.

use std::fs;
use std::path::Path;

use crate::support::{TestEnv, file_key_text, text, write_ledger};

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/ledger-0.1.0.db"
);

/// Copies a ledger of 0.1.0 to the configured path, as if this host had written it for
/// this provider.
pub(crate) fn place_first_release(world: &TestEnv, path: &Path) {
    fs::copy(FIXTURE, path).unwrap();
    let ledger = write_ledger(path);
    let adjusted = "UPDATE identity SET provider = ?1, organization = '', machine = NULL";
    ledger.execute(adjusted, [&world.base_url]).unwrap();
}

#[test]
fn first_release_is_announced_by_check_and_migrated_by_the_next_writer() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let path = world.path("ledger.db");
    place_first_release(&world, &path);
    let kept_file = format!("{}.0.1.0", path.display());

    let note = world.ok(&["check"]);
    assert!(note.contains("rekeyd 0.1.0 wrote the ledger"), "{note}");
    assert!(note.contains(&kept_file), "{note}");
    for command in ["status", "history"] {
        let refused = world.run(&[command]);
        assert_eq!(refused.status.code(), Some(1), "{command}");
        let stderr = text(&refused.stderr);
        assert!(stderr.contains("`rekeyd once` migrates it"), "{stderr}");
    }
    assert!(!Path::new(&kept_file).exists());

    let writer = world.run(&["pause", "billing"]);
    let stderr = text(&writer.stderr);
    assert!(writer.status.success(), "{stderr}");
    let migrated = format!(
        "migrated the ledger {} from version 5 of rekeyd 0.1.0 to version 100; \
         kept the old ledger as {kept_file}",
        path.display()
    );
    assert!(stderr.contains(&migrated), "{stderr}");
    let status = text(&world.run(&["status"]).stdout);
    assert!(status.contains("\nbilling "), "{status}");
    let note = world.ok(&["check"]);
    assert!(!note.contains("0.1.0"), "{note}");
}
