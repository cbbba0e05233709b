//! A manual rotation, and the memory of the daemon, beside many readers of its metrics.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::provider::TlsSandbox;
use crate::table::{TableRow, mb, ms, ratio, time_ratio};
use crate::{idle, keys, process, ready, support};

const KEYS: usize = 10_000;
const READERS: usize = 60;
const ROTATIONS: usize = 5;

pub(crate) fn rows() -> Vec<TableRow> {
    let (provider, dir) = (TlsSandbox::start(), process::folder());
    let address = support::free_address();
    let metrics = format!("[metrics]\nlisten = \"{address}\"\n");
    idle::configure(&dir, &provider, KEYS, &keys::yearly_schedule(), &metrics);
    idle::rotate_all(dir.path(), &provider);
    let ready = ready::start(dir.path());
    wait_until_ready(&address);
    let process = ready.daemon.0.id().to_string();
    let (idle_memory, _) = process::memory(&process);
    let rotate = |number: usize| {
        let key = keys::key_name(number);
        process::time_command(&mut keys::rekeyd(dir.path(), &["rotate", &key]))
    };
    let alone = process::median((1..=ROTATIONS).map(rotate).collect());

    process::reset_peak_memory(&process);
    let readers = Readers::start(&address);
    readers.wait_for(READERS);
    let beside = (1..=ROTATIONS).map(|number| rotate(ROTATIONS + number));
    let beside = process::median(beside.collect());
    readers.wait_for(READERS * 2);
    let peak = process::peak_memory_of(&process);
    let (page_bytes, _) = read_page(&address);
    readers.stop();
    vec![
        TableRow::new(
            "a manual rotation among 10,000 keys, while 60 readers read the metrics",
            ms(beside),
        )
        .beside(format!("without a reader: {}", ms(alone)))
        .times_as_long(time_ratio(beside, alone))
        .reach("one second longer"),
        TableRow::new("the highest memory meanwhile", mb(peak))
            .beside(format!("idle: {}", mb(idle_memory)))
            .times_as_much(ratio(peak, idle_memory))
            .reach("1.5 times as much"),
        TableRow::new("the page that they read", mb(page_bytes / 1_024)).reach("12 MB"),
    ]
}

fn wait_until_ready(address: &str) {
    let started = Instant::now();
    while !read_status(address, "/readyz").is_ok_and(|is_ready| is_ready) {
        assert!(started.elapsed() < ready::START_TIMEOUT, "it is ready");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn read_status(address: &str, path: &str) -> io::Result<bool> {
    let (_, is_ok) = request(address, path)?;
    Ok(is_ok)
}

fn read_page(address: &str) -> (u64, bool) {
    request(address, "/metrics").unwrap()
}

/// Returns the length of an answer, and whether its status is 200.
fn request(address: &str, path: &str) -> io::Result<(u64, bool)> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut status = [0; 12];
    io::Read::read_exact(&mut stream, &mut status)?;
    let length = io::copy(&mut stream, &mut io::sink())?;
    Ok((length, status.ends_with(b"200")))
}

/// Readers that read pages one after the other.
struct Readers {
    threads: Vec<JoinHandle<()>>,
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
                    // A daemon that is overloaded answers with another status.
                    if request(&address, "/metrics").is_ok_and(|(_, is_ok)| is_ok) {
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
        let started = Instant::now();
        while self.pages.load(Ordering::Relaxed) < count {
            assert!(started.elapsed() < Duration::from_secs(300), "it answers");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn stop(self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}
