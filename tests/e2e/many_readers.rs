//! Sixty readers of the metrics beside ten thousand keys: reading delays no work, and one
//! rendering serves all who wait for it.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, free_address, get};

const KEYS: usize = 10_000;
const READERS: usize = 60;

/// The pages that each reader reads at least.
const ROUNDS: usize = 3;

/// How long the start and two rotations may take, on a host with many tests and two
/// processors. Rendered in the event loop, the pages of these readers would delay each step of
/// a rotation by a minute.
const PATIENCE: Duration = Duration::from_secs(300);

/// Returns a number of `/proc/PROCESS/status`, in KiB.
fn memory(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// Reads a page to its end, and returns its status.
fn read_page(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(String::from_utf8_lossy(&status).into_owned())
}

/// Readers that read pages one after the other until they are stopped.
struct Readers {
    threads: Vec<std::thread::JoinHandle<()>>,
    is_stopped: Arc<AtomicBool>,
    pages: Arc<AtomicUsize>,
}

impl Readers {
    fn start(address: &str) -> Self {
        let (is_stopped, pages): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let threads = (0..READERS).map(|_| {
            let (is_stopped, pages) = (Arc::clone(&is_stopped), Arc::clone(&pages));
            let address = address.to_owned();
            std::thread::spawn(move || {
                while !is_stopped.load(Ordering::Relaxed) {
                    // A connection may be closed to make room for another one.
                    if let Ok(status) = read_page(&address) {
                        assert_eq!(status, "HTTP/1.1 200");
                        pages.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        });
        Self {
            threads: threads.collect(),
            is_stopped,
            pages,
        }
    }

    fn wait_for(&self, count: usize) {
        let started_at = Instant::now();
        while self.pages.load(Ordering::Relaxed) < count {
            assert!(self.threads.iter().all(|thread| !thread.is_finished()));
            assert!(started_at.elapsed() < PATIENCE, "the pages are not read");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops them, and returns the number of pages that they have read.
    fn stop(self) -> usize {
        self.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.pages.load(Ordering::Relaxed)
    }
}

/// Starts a daemon with paused keys and metrics at `address`, and waits until it is ready.
fn start(world: &TestEnv, address: &str) -> Daemon {
    let mut keys = String::new();
    for number in 0..KEYS {
        write!(
            keys,
            "[key.key-{number}]\nschedule = \"@yearly\"\nverify-interval = \"0s\"\n\
             [[key.key-{number}.sink]]\ntype = \"file\"\npath = \"DIR/key-{number}\"\n"
        )
        .unwrap();
    }
    world.configure(&format!("[metrics]\nlisten = \"{address}\"\n{keys}"));
    // Without a credential, each key is due.
    world.ok(&["pause", "--all", "--reason", "only one of them is rotated"]);
    let daemon = Daemon::start_with(world, &["--log-level", "debug"]);
    let started_at = Instant::now();
    while TcpStream::connect(address).is_err() || get(address, "/readyz").0 != 200 {
        assert!(started_at.elapsed() < PATIENCE, "it becomes ready");
        std::thread::sleep(Duration::from_millis(100));
    }
    daemon
}

#[test]
fn many_readers_delay_no_rotation() {
    let address = free_address();
    let world = TestEnv::start(&[]);
    let daemon = start(&world, &address);
    let idle = memory(daemon.id(), "VmRSS:");
    // Only root may forget the peak of the start.
    let clear_refs = format!("/proc/{}/clear_refs", daemon.id());
    let is_peak_measured = fs::write(clear_refs, "5").is_ok();

    let readers = Readers::start(&address);
    readers.wait_for(READERS);
    let started_at = Instant::now();
    for key in ["key-0", "key-5000"] {
        world.ok(&["rotate", key]);
        // Whoever has the answer reads what it says.
        let page = get(&address, "/metrics").2;
        for sample in [
            format!("rekeyd_rotations_total{{key=\"{key}\",outcome=\"current\"}} 1"),
            format!("rekeyd_live_credentials{{key=\"{key}\",phase=\"current\"}} 1"),
        ] {
            assert!(page.lines().any(|line| line == sample), "{sample}");
        }
        assert_eq!(get(&address, "/healthz").0, 200);
    }
    let duration = started_at.elapsed();
    readers.wait_for(READERS * ROUNDS);
    let pages = readers.stop();
    let peak = memory(daemon.id(), "VmHWM:");
    let page = get(&address, "/metrics").2;
    let log = daemon.stop();

    assert!(duration < PATIENCE, "{duration:?}");
    let renderings = log.matches("rendered the metrics for").count();
    assert!(renderings > 0);
    assert!(
        renderings * 4 <= pages,
        "{renderings} renderings of {pages} pages"
    );
    assert!(page.len() > KEYS * 400, "{} bytes", page.len());
    assert!(
        !is_peak_measured || peak * 2 <= idle * 3,
        "{peak} KiB, and {idle} KiB at rest"
    );
}
