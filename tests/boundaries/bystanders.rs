//! Users of the host who are no operators: one who has nothing to do with rekeyd, and one who
//! reads the file of a sink.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::support::{file_key_text, text};
use crate::users::{CONSUMER, OTHER, SOCKET_GROUP, SharedHost, run_as};

/// The files of a running daemon, apart from what its consumers read.
const PRIVATE: [&str; 8] = [
    "ledger.db",
    "ledger.db-wal",
    "ledger.db-shm",
    "ledger.db.lock",
    "ledger.db.checkpoint",
    "ledger.db.cookie",
    "admin-key",
    "other.key",
];

/// Returns those of `files` that a user can open, to read or to write.
fn opened_by(user: u32, files: Vec<PathBuf>) -> Vec<PathBuf> {
    run_as(user, user, move || {
        let opens = |path: &PathBuf| {
            let read = fs::File::open(path).is_ok();
            read || fs::File::options().append(true).open(path).is_ok()
        };
        files.into_iter().filter(opens).collect()
    })
}

/// Returns a host with two keys, of which one's file belongs to a consumer.
fn host_with_consumer() -> SharedHost {
    let host = SharedHost::new();
    let keys = file_key_text("24h").replace("schedule = \"@monthly\"", "every = \"30d\"");
    let own = format!("{keys}owner = \"{CONSUMER}\"\n");
    let other = keys.replace("billing", "other");
    host.env.configure(&format!("{own}{other}"));
    host
}

fn private_files(host: &SharedHost) -> Vec<PathBuf> {
    let files: Vec<_> = PRIVATE.iter().map(|name| host.env.path(name)).collect();
    for file in &files {
        assert!(file.exists(), "{}", file.display());
    }
    files
}

/// A user who may not connect gets nothing, and a command of that user changes nothing.
pub fn other_user_reads_and_changes_nothing() {
    let host = host_with_consumer();
    let config = host.env.config_path();
    fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    let mut daemon = host.start();
    daemon.wait_for("is the current credential key=other");
    let mut files = private_files(&host);
    files.push(host.env.path("billing.key"));
    assert_eq!(opened_by(OTHER, files), [] as [PathBuf; 0]);
    let socket = host.env.path("control.sock");
    let refused = run_as(OTHER, OTHER, move || UnixStream::connect(socket).err());
    assert_eq!(refused.unwrap().kind(), ErrorKind::PermissionDenied);
    for command in [
        &["status"][..],
        &["history"],
        &["rotate", "billing"],
        &["pause", "billing"],
    ] {
        let output = host.run_as(OTHER, OTHER, command);
        let printed = text(&output.stdout);
        assert!(!output.status.success(), "{command:?}: {printed}");
        assert!(!printed.contains("key_"), "{command:?}: {printed}");
    }
    assert_eq!(host.env.history().len(), 2);
    daemon.stop();
}

/// The user of a sink's file has that secret, and no other one.
pub fn consumer_of_a_file_gets_no_other_secret() {
    let host = host_with_consumer();
    let mut daemon = host.start();
    // In any order.
    for _ in ["billing", "other"] {
        daemon.wait_for("is the current credential key=");
    }
    assert_eq!(
        opened_by(CONSUMER, private_files(&host)),
        [] as [PathBuf; 0]
    );
    let own = host.env.path("billing.key");
    assert_eq!(opened_by(CONSUMER, vec![own.clone()]), [own]);
    chown(host.env.path("control.sock"), None, Some(SOCKET_GROUP)).unwrap();
    let refused = host.run_as(CONSUMER, CONSUMER, &["rotate", "other"]);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    daemon.stop();
}
