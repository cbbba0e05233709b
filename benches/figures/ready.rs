//! The time from exec to READY, as a service manager measures it.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::provider::TlsSandbox;
use crate::support::{self, ChildGuard};
use crate::table::{TableRow, ms};
use crate::{keys, million, process};

const ROUNDS: usize = 11;

/// More than any start takes, and any rotation after it.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A daemon that has reported that it is ready.
pub(crate) struct ReadyDaemon {
    pub(crate) daemon: ChildGuard,
    pub(crate) ready_after: Duration,
    _socket: TempDir,
}

/// Starts the daemon on the configuration in `dir`.
pub(crate) fn start(dir: &Path) -> ReadyDaemon {
    // The paths of sockets must be short.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(START_TIMEOUT)).unwrap();
    let log = folder.path().join("log");
    let mut command = keys::rekeyd(dir, &["run"]);
    process::with_malloc_as_in_the_unit(&mut command)
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    let started = Instant::now();
    let daemon = ChildGuard(command.spawn().unwrap());
    let mut buffer = [0; 4_096];
    loop {
        let Ok(length) = socket.recv(&mut buffer) else {
            let log = fs::read_to_string(&log).unwrap_or_default();
            panic!("not ready within {START_TIMEOUT:?}:\n{log}");
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        if text.lines().any(|line| line == "READY=1") {
            break;
        }
    }
    ReadyDaemon {
        ready_after: started.elapsed(),
        daemon,
        _socket: folder,
    }
}

pub(crate) fn rows() -> Vec<TableRow> {
    let provider = TlsSandbox::start();
    let dir = process::folder();
    let dir = dir.path();
    let admin_key = provider.sandbox.admin_key();
    support::write(&dir.join("admin-key"), admin_key.expose());
    let text = keys::text(1, dir, &provider.base_url, &keys::yearly_schedule());
    support::write(&dir.join("config.toml"), &text);
    process::time_command(&mut keys::rekeyd(dir, &["once"]));

    let ready_after = |dir: &Path| start(dir).ready_after;
    let warm = process::median((0..ROUNDS).map(|_| ready_after(dir)).collect());
    let cold = (0..5).map(|_| drop_caches().map(|()| ready_after(dir)));
    let cold: io::Result<Vec<Duration>> = cold.collect();
    let cold = cold.map_or_else(
        |error| format!("the cache cannot be dropped: {error}"),
        |cold| ms(process::median(cold)),
    );
    let long_ledger = million::over_many_keys();
    let many = (0..ROUNDS)
        .map(|_| ready_after(long_ledger.folder()))
        .collect();
    vec![
        TableRow::new("exec to READY, 1 key", ms(warm)).reach("15 ms"),
        TableRow::new("the same with nothing of it in the page cache", cold).reach("30 ms"),
        TableRow::new(
            "exec to READY, 10,000 keys and 1,000,000 rotations",
            ms(process::median(many)),
        )
        .reach("150 ms"),
    ]
}

/// Drops the page cache, so that files are read from the disk again.
fn drop_caches() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}
