//! The memory of a running daemon, read from outside as root: a secret is there until it is
//! delivered, once and in what is being sent, and nowhere afterwards.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, write};

/// The most copies while a request with the secret is sent, see
/// docs/design/decisions/freed-memory.md: the secret, and the request before and after it is
/// written.
const COPIES_IN_A_REQUEST: usize = 3;

/// How long a request may take to arrive.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

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

/// A place where requests with a new secret wait until the test has looked.
#[derive(Clone)]
struct Stop {
    arrivals: Sender<()>,
    is_open: Arc<AtomicBool>,
}

impl Stop {
    /// Returns the place, and what reports each request that has arrived.
    fn new() -> (Self, Receiver<()>) {
        let (arrivals, arrived) = channel();
        let is_open = Arc::default();
        (Self { arrivals, is_open }, arrived)
    }

    fn wait(&self) {
        // The test may not be waiting any more.
        let _ = self.arrivals.send(());
        while !self.is_open.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }
}

/// Starts the way to the provider, on which each request with another key than rekeyd's own
/// one waits. Returns its URL.
fn start_gate(world: &TestEnv, stop: &Stop) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let provider = world.base_url.strip_prefix("http://").unwrap();
    let (provider, path) = provider.split_once('/').unwrap();
    let url = format!("http://{}/{path}", listener.local_addr().unwrap());
    let (provider, own_key) = (provider.to_owned(), world.admin_key.clone());
    let stop = stop.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(&provider).unwrap());
            let (own_key, stop) = (own_key.clone(), stop.clone());
            let look = move |request: &[u8]| {
                let has = |text: &str| memmem::find(request, text.as_bytes()).is_some();
                if has("Bearer ") && !has(&own_key) {
                    stop.wait();
                }
            };
            std::thread::spawn(move || pass_on(client, server, look));
        }
    });
    url
}

/// Sends on what a client and a server send, after a look at what the client sends.
fn pass_on(mut client: TcpStream, mut server: TcpStream, look: impl Fn(&[u8])) {
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = client.read(&mut buffer)
        && count > 0
    {
        look(&buffer[..count]);
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

/// Starts a receiver in which each request with a secret waits for its answer. Returns its
/// address.
fn start_receiver(stop: &Stop) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = stop.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, stop) = (stream.unwrap(), stop.clone());
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                // A check only connects.
                while let Ok(count) = stream.read(&mut buffer)
                    && count > 0
                {
                    request.extend_from_slice(&buffer[..count]);
                    if request.ends_with(b"}") && memmem::find(&request, b"sk-admin-").is_some() {
                        stop.wait();
                        let _ = stream.write_all(b"HTTP/1.1 204 OK\r\n\r\n");
                        request.clear();
                    }
                }
            });
        }
    });
    address
}

fn assert_copies_in_a_request(daemon: &Daemon, secret: &str, phase: &str) {
    let count = count_copies(daemon.id(), secret);
    assert!(
        (1..=COPIES_IN_A_REQUEST).contains(&count),
        "{phase}: {count}"
    );
}

pub fn memory_holds_a_secret_once_and_in_requests() {
    let mut world = TestEnv::start(&[]);
    let (verification, verifying) = Stop::new();
    let (delivery, delivering) = Stop::new();
    world.base_url = start_gate(&world, &verification);
    let address = start_receiver(&delivery);
    write(
        &world.path("secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    );
    world.configure(&format!(
        "[key.billing]\nevery = \"30d\"\nverify-interval = \"0s\"\n[[key.billing.sink]]\n\
         type = \"webhook\"\nurl = \"http://{address}/\"\nowner = \"0\"\n\
         signing-secret-file = \"DIR/secret\"\n"
    ));
    let mut daemon = Daemon::start(&world);
    verifying.recv_timeout(REQUEST_TIMEOUT).unwrap();
    let secret = world.secret_of(&world.live_ids()[0]);
    assert_copies_in_a_request(&daemon, &secret, "verification");
    verification.open();
    delivering.recv_timeout(REQUEST_TIMEOUT).unwrap();
    assert_copies_in_a_request(&daemon, &secret, "delivery");
    delivery.open();
    daemon.wait_for("is the current credential key=billing");
    assert_copies(&daemon, &secret, 0);
    daemon.stop();
}
