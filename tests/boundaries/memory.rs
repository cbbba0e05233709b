//! The memory of a running daemon, read from outside as root: a secret is there until it is
//! delivered, once, and nowhere afterwards.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text};

/// Returns how often the writable memory of a process has `text`.
fn count_copies(process: u32, text: &str) -> usize {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let memory = fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut count = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, access) = (fields.next().unwrap(), fields.next().unwrap());
        if !access.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut content = vec![0; usize::try_from(end - start).unwrap()];
        // A part that is not mapped any more.
        if memory.read_exact_at(&mut content, start).is_ok() {
            count += memmem::find_iter(&content, text).count();
        }
    }
    count
}

/// Waits until the memory has this many copies: a connection to the provider, with the last
/// request on it, is kept for a second.
fn assert_copies(daemon: &Daemon, secret: &str, expected: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut count = count_copies(daemon.id(), secret);
    while count != expected && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        count = count_copies(daemon.id(), secret);
    }
    assert_eq!(count, expected);
}

pub fn freed_memory_holds_no_secret() {
    let world = TestEnv::start(&[]);
    let command = "[[key.billing.sink]]\ntype = \"command\"\n\
                   argv = [\"/bin/sh\", \"-c\", \"cat >/dev/null; test -e DIR/open\"]\n";
    world.configure(&format!("{}{command}", file_key_text("24h")));
    let mut daemon = Daemon::start(&world);
    // Created, verified and written to the file; the command does not take it yet.
    daemon.wait_for("retrying");
    let first = world.secret_of(&world.live_ids()[0]);
    assert_copies(&daemon, &first, 1);
    fs::write(world.path("open"), "").unwrap();
    world.ok(&["rotate", "billing"]);
    assert_copies(&daemon, &first, 0);
    world.ok(&["rotate", "billing"]);
    for id in world.live_ids() {
        assert_copies(&daemon, &world.secret_of(&id), 0);
    }
    daemon.stop();
}
