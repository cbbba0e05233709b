//! From exec to READY, as a service manager hears it.

use std::fs;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::provider::Provider;
use crate::support::{self, Running};
use crate::table::{Row, ms};
use crate::{keys, million, process};

const ROUNDS: usize = 11;

/// More than any start, and than any rotation after it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that has said that it is ready.
pub(crate) struct Ready {
    pub(crate) daemon: Running,
    pub(crate) after: Duration,
    _socket: TempDir,
}

/// Starts the daemon on the configuration in `dir`.
pub(crate) fn start(dir: &Path) -> Ready {
    // The paths of sockets must be short.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = folder.path().join("log");
    let mut command = keys::rekeyd(dir, &["run"]);
    process::with_malloc_as_in_the_unit(&mut command)
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    let begun = Instant::now();
    let daemon = Running(command.spawn().unwrap());
    let mut told = [0; 4_096];
    loop {
        let Ok(length) = socket.recv(&mut told) else {
            let log = fs::read_to_string(&log).unwrap_or_default();
            panic!("not ready within {PATIENCE:?}:\n{log}");
        };
        let text = String::from_utf8_lossy(&told[..length]);
        if text.lines().any(|line| line == "READY=1") {
            break;
        }
    }
    Ready {
        after: begun.elapsed(),
        daemon,
        _socket: folder,
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let provider = Provider::start();
    let dir = process::folder();
    let dir = dir.path();
    let admin_key = provider.sandbox.admin_key();
    support::write(&dir.join("admin-key"), admin_key.expose());
    let text = keys::text(1, dir, &provider.base_url, &keys::far_off());
    support::write(&dir.join("config.toml"), &text);
    process::run(&mut keys::rekeyd(dir, &["once"]));

    let after = |dir: &Path| start(dir).after;
    let warm = process::median((0..ROUNDS).map(|_| after(dir)).collect());
    let cold = (0..5).map(|_| drop_caches().map(|()| after(dir)));
    let cold: io::Result<Vec<Duration>> = cold.collect();
    let cold = cold.map_or_else(
        |error| format!("the cache cannot be dropped: {error}"),
        |cold| ms(process::median(cold)),
    );
    let long = million::over_many_keys();
    let many = (0..ROUNDS).map(|_| after(long.folder())).collect();
    vec![
        Row::new("exec to READY, 1 key", ms(warm)).reach("15 ms"),
        Row::new("the same with nothing of it in the page cache", cold).reach("30 ms"),
        Row::new(
            "exec to READY, 10,000 keys and 1,000,000 rotations",
            ms(process::median(many)),
        )
        .reach("150 ms"),
    ]
}

/// Has everything read from the disk again.
fn drop_caches() -> io::Result<()> {
    rustix::fs::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")
}
