use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::connections::QueuedConnection;
use super::*;

/// The capacity of a connection for unread data.
const PIPE_BYTES: usize = 1024;

const BIG_ANSWER: usize = 64 * PIPE_BYTES;

/// Accepts the far ends of the connections that a test opens.
struct TestListener(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for TestListener {
    type Io = DuplexStream;
    type Addr = ();

    async fn accept(&mut self) -> (DuplexStream, ()) {
        match self.0.recv().await {
            Some(stream) => (stream, ()),
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A running server with few places.
struct TestServer {
    connect: mpsc::UnboundedSender<DuplexStream>,
    /// Ends the handler of `/held`.
    release: Arc<Notify>,
    shutdown: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl TestServer {
    fn start(max_connections: usize) -> Self {
        Self::start_with(ConnectionLimits::new(max_connections))
    }

    fn start_with(limits: ConnectionLimits) -> Self {
        let (connect, accepted) = mpsc::unbounded_channel();
        let (shutdown, stopped) = watch::channel(false);
        let release = Arc::new(Notify::new());
        let delayed = |State(release): State<Arc<Notify>>| async move {
            release.notified().await;
            "released"
        };
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/held", get(delayed))
            .route("/big", get(async || "x".repeat(BIG_ANSWER)))
            .route("/broken", get(async || hang_up()))
            .with_state(Arc::clone(&release));
        let listener = TestListener(accepted);
        let server = tokio::spawn(serve(listener, limits, router, (), stopped));
        Self {
            connect,
            release,
            shutdown,
            server,
        }
    }

    fn connect(&self) -> DuplexStream {
        let (near, far) = duplex(PIPE_BYTES);
        self.connect.send(far).unwrap();
        near
    }

    /// Opens a connection, sends `bytes`, and lets the server read them.
    async fn connect_and_send(&self, bytes: &str) -> DuplexStream {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        // With a single thread, all other tasks run until they are idle.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        stream
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

/// Reads an answer up to the known `end`.
async fn read_until(stream: &mut DuplexStream, end: &str) {
    let mut answer = Vec::new();
    while !answer.ends_with(end.as_bytes()) {
        answer.push(stream.read_u8().await.unwrap());
    }
}

/// Returns the number of bytes until the server closes the connection.
async fn read_to_end(stream: &mut DuplexStream) -> usize {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap_or_default()
}

async fn send_request(server: &TestServer) {
    let mut stream = server.connect_and_send(&request("/")).await;
    read_until(&mut stream, "hello").await;
}

#[tokio::test(start_paused = true)]
async fn slow_head_is_closed_after_ten_seconds() {
    let server = TestServer::start(4);
    let start = Instant::now();
    let mut stream = server.connect();
    let mut silent = server.connect();
    for piece in ["GET / HT", "TP/1.1\r\n", "host: x\r\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(read_to_end(&mut stream).await, 0);
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(read_to_end(&mut silent).await, 0);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn answered_connection_is_kept_idle_for_two_minutes() {
    let server = TestServer::start(4);
    let mut stream = server.connect_and_send(&request("/")).await;
    read_until(&mut stream, "hello").await;
    tokio::time::sleep(Duration::from_secs(119)).await;
    stream.write_all(request("/").as_bytes()).await.unwrap();
    read_until(&mut stream, "hello").await;
    let start = Instant::now();
    assert_eq!(read_to_end(&mut stream).await, 0);
    assert_eq!(start.elapsed().as_secs(), 120);
}

/// One that reads a byte now and then is never idle.
#[tokio::test(start_paused = true)]
async fn answer_has_to_be_read_in_its_time() {
    let limits = ConnectionLimits::new(4).with_answer_timeout(Duration::from_secs(60));
    let server = TestServer::start_with(limits);
    let mut stream = server.connect_and_send(&request("/big")).await;
    for _ in 0..59 {
        stream.read_u8().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut in_time = server.connect_and_send(&request("/big")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(read_to_end(&mut stream).await <= PIPE_BYTES);
    read_until(&mut in_time, &"x".repeat(BIG_ANSWER)).await;
    in_time.write_all(request("/").as_bytes()).await.unwrap();
    read_until(&mut in_time, "hello").await;
}

#[tokio::test(start_paused = true)]
async fn later_head_has_ten_seconds_from_its_first_byte() {
    let server = TestServer::start(4);
    let mut stream = server.connect_and_send(&request("/")).await;
    read_until(&mut stream, "hello").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let start = Instant::now();
    stream.write_all(b"GET").await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, 0);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn longest_silent_connection_is_evicted_at_once() {
    let server = TestServer::start(3);
    let mut answered = server.connect_and_send(&request("/")).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut silent = server.connect_and_send("").await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut slow = server.connect_and_send("GET /").await;
    tokio::time::advance(Duration::from_secs(1)).await;
    // Silent since its second answer, after the others.
    read_until(&mut answered, "hello").await;
    answered.write_all(request("/").as_bytes()).await.unwrap();
    read_until(&mut answered, "hello").await;
    let start = Instant::now();
    send_request(&server).await;
    assert_eq!(read_to_end(&mut silent).await, 0);
    assert_eq!(start.elapsed(), Duration::ZERO);
    // The others are unchanged, until they are the longest silent.
    tokio::time::advance(Duration::from_secs(1)).await;
    slow.write_all(b" HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut slow, "hello").await;
    answered.write_all(request("/").as_bytes()).await.unwrap();
    read_until(&mut answered, "hello").await;
}

#[tokio::test(start_paused = true)]
async fn many_silent_connections_delay_no_request() {
    let server = TestServer::start(64);
    let mut silent = Vec::new();
    for _ in 0..80 {
        silent.push(server.connect_and_send("").await);
    }
    let start = Instant::now();
    send_request(&server).await;
    assert!(start.elapsed() <= Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn connections_in_the_middle_of_a_request_are_never_evicted() {
    let server = TestServer::start(1);
    let mut delayed = server.connect_and_send(&request("/held")).await;
    let mut waiting = server.connect_and_send(&request("/")).await;
    tokio::time::advance(Duration::from_secs(300)).await;
    server.release.notify_one();
    read_until(&mut delayed, "released").await;
    // The waiting connection is admitted once the answer is written.
    read_until(&mut waiting, "hello").await;
    assert_eq!(read_to_end(&mut delayed).await, 0);
}

/// Pipelines requests and reads the answers, and connects again after each end.
async fn pipeline(connect: mpsc::UnboundedSender<DuplexStream>) {
    let requests = request("/").repeat(100);
    loop {
        let (near, far) = duplex(PIPE_BYTES);
        if connect.send(far).is_err() {
            return;
        }
        let (mut reader, mut writer) = tokio::io::split(near);
        let write = async { while writer.write_all(requests.as_bytes()).await.is_ok() {} };
        let read = async {
            let mut answers = [0; PIPE_BYTES];
            while matches!(reader.read(&mut answers).await, Ok(length) if length > 0) {}
        };
        tokio::select! {
            () = write => {}
            () = read => {}
        }
    }
}

#[tokio::test]
async fn pipelining_peers_hide_no_request() {
    let server = TestServer::start(4);
    let mut peers = JoinSet::new();
    for _ in 0..12 {
        peers.spawn(pipeline(server.connect.clone()));
    }
    for _ in 0..5 {
        let answer = tokio::time::timeout(Duration::from_secs(10), send_request(&server));
        answer.await.expect("the request is answered");
    }
    peers.abort_all();
}

#[tokio::test(start_paused = true)]
async fn accepted_connection_has_a_second_for_its_first_request() {
    let server = TestServer::start(3);
    let _handled = server.connect_and_send(&request("/held")).await;
    let _handled_too = server.connect_and_send(&request("/held")).await;
    let mut accepted = server.connect_and_send("GET /").await;
    let start = Instant::now();
    let mut waiting = server.connect_and_send(&request("/")).await;
    tokio::time::advance(Duration::from_millis(500)).await;
    accepted
        .write_all(b" HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut accepted, "hello").await;
    // It was answered, and is silent now.
    read_until(&mut waiting, "hello").await;
    assert!(start.elapsed() < Duration::from_secs(1));
    let mut silent = server.connect_and_send("").await;
    let start = Instant::now();
    send_request(&server).await;
    assert_eq!(read_to_end(&mut silent).await, 0);
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn slow_reader_receives_its_whole_answer_while_places_are_free() {
    let server = TestServer::start(2);
    let mut slow = server.connect_and_send(&request("/big")).await;
    for _ in 0..30 {
        tokio::time::advance(Duration::from_secs(10)).await;
        slow.read_exact(&mut [0; PIPE_BYTES]).await.unwrap();
        send_request(&server).await;
    }
    let rest = BIG_ANSWER - 30 * PIPE_BYTES;
    slow.read_exact(&mut vec![0; rest]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn unread_answers_make_way_when_all_places_are_taken() {
    let server = TestServer::start(2);
    let mut first = server.connect_and_send(&request("/big")).await;
    let mut second = server.connect_and_send(&request("/big")).await;
    let start = Instant::now();
    send_request(&server).await;
    assert_eq!(start.elapsed(), Duration::from_secs(1), "not at once");
    assert!(
        read_to_end(&mut first).await < BIG_ANSWER,
        "the oldest goes"
    );
    assert!(
        read_to_end(&mut second).await > BIG_ANSWER,
        "the other is kept"
    );
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_nothing_of_an_answer_is_cut_off() {
    let server = TestServer::start(4);
    let mut stream = server.connect_and_send(&request("/big")).await;
    tokio::time::sleep(Duration::from_secs(121)).await;
    assert!(read_to_end(&mut stream).await <= PIPE_BYTES);
}

#[tokio::test]
async fn hang_up_ends_the_connection_without_an_answer() {
    let server = TestServer::start(4);
    let mut stream = server.connect_and_send(&request("/broken")).await;
    assert_eq!(read_to_end(&mut stream).await, 0);
}

#[tokio::test(start_paused = true)]
async fn shutdown_finishes_open_requests_and_closes_other_connections() {
    let server = TestServer::start(4);
    let mut delayed = server.connect_and_send(&request("/held")).await;
    let mut slow = server.connect_and_send("GET /").await;
    server.shutdown.send(true).unwrap();
    assert_eq!(read_to_end(&mut slow).await, 0);
    assert!(!server.server.is_finished());
    server.release.notify_one();
    read_until(&mut delayed, "released").await;
    server.server.await.unwrap();
}

/// Takes a place and keeps it, as in the middle of a request.
async fn keep_place(connections: &Arc<Connections>, share: PlaceShare) -> Option<Connection> {
    match connections.admit(share).await {
        Admission::Admitted(connection) => {
            connection.begin_request().unwrap();
            Some(connection)
        }
        Admission::Queued(_) | Admission::Refused => None,
    }
}

/// Returns the connections of a server with two places for each user, of which three share a
/// pool, and a place that is kept.
fn with_shares() -> Arc<Connections> {
    let users = UserPlaces {
        each: 2,
        together: 3,
        own_queue: 4,
    };
    // Those of the server's own user, of the two other pools, and one more.
    let limits = ConnectionLimits::new(9).with_users(users);
    Arc::new(Connections::new(limits))
}

const fn user(pool: UserPool, number: u32) -> PlaceShare {
    PlaceShare::User(pool, Some(number))
}

async fn queue(connections: &Arc<Connections>, share: PlaceShare) -> QueuedConnection {
    match connections.admit(share).await {
        Admission::Queued(connection) => connection,
        Admission::Admitted(_) | Admission::Refused => panic!("not queued"),
    }
}

async fn is_refused(connections: &Arc<Connections>, share: PlaceShare) -> bool {
    matches!(connections.admit(share).await, Admission::Refused)
}

/// Whatever users do, others and above all root get a place at once.
#[tokio::test(start_paused = true)]
async fn users_have_shares_of_the_places() {
    let connections = with_shares();
    let one = user(UserPool::Others, 1);
    let other = PlaceShare::User(UserPool::Others, None);
    let first = keep_place(&connections, one).await.unwrap();
    let _second = keep_place(&connections, one).await.unwrap();
    assert!(keep_place(&connections, one).await.is_none());
    let _third = keep_place(&connections, other).await.unwrap();
    // The next ones wait beside the accepting of others, and further ones are refused.
    let mut waiting = Vec::new();
    for share in [one, one, other] {
        waiting.push(queue(&connections, share).await);
    }
    for share in [one, other] {
        assert!(is_refused(&connections, share).await);
    }
    let root = keep_place(&connections, PlaceShare::Every).await.unwrap();
    drop(root);
    assert!(keep_place(&connections, PlaceShare::Every).await.is_some());
    // A place that is given back goes to one that waits, and the wait ends.
    drop(first);
    assert!(waiting.remove(0).admit().await.is_some());
    let started = Instant::now();
    let last = waiting.pop().unwrap();
    drop(waiting);
    let _held = keep_place(&connections, one).await;
    assert!(matches!(connections.admit(one).await, Admission::Queued(_)));
    assert!(last.admit().await.is_none() || started.elapsed() < Duration::from_secs(11));
}

/// One pool is full, and so many wait for it that further ones are refused.
#[tokio::test(start_paused = true)]
async fn no_pool_takes_a_place_of_another() {
    let connections = with_shares();
    let pools = [
        (UserPool::Own, 2, 4),
        (UserPool::Trusted, 3, 3),
        (UserPool::Others, 3, 3),
    ];
    let mut held = Vec::new();
    let mut waiting = Vec::new();
    for (pool, places, queued) in pools {
        // The own pool has one user.
        let number = |count| if pool == UserPool::Own { 1 } else { count };
        for count in 0..places {
            let share = user(pool, number(count));
            held.push(keep_place(&connections, share).await.expect("a place"));
        }
        for count in 0..queued {
            waiting.push(queue(&connections, user(pool, number(count))).await);
        }
        assert!(is_refused(&connections, user(pool, number(99))).await);
    }
    // The place that is left is root's.
    assert!(keep_place(&connections, PlaceShare::Every).await.is_some());
}

/// A program of the server's own user fills its places, while others of that user have shown
/// who they are.
#[tokio::test(start_paused = true)]
async fn place_of_a_known_peer_is_taken_by_nobody() {
    let connections = with_shares();
    let own = user(UserPool::Own, 1);
    let admit = async || match connections.admit(own).await {
        Admission::Admitted(connection) => connection,
        Admission::Queued(_) | Admission::Refused => panic!("there are places"),
    };
    let (known, unknown) = (admit().await, admit().await);
    known.place().take_from_every();
    tokio::time::advance(Duration::from_secs(2)).await;
    // Its former place is free for one of them, and the other one is evicted for the next.
    let _flood = [
        keep_place(&connections, own).await.unwrap(),
        keep_place(&connections, own).await.unwrap(),
    ];
    assert!(known.deadline().is_some());
    assert!(unknown.deadline().is_none());
    assert!(keep_place(&connections, own).await.is_none());
    assert!(known.deadline().is_some());
}

/// Between a handshake and the request, a command's connection is as silent as those of a flood.
#[tokio::test(start_paused = true)]
async fn connection_that_goes_on_is_not_evicted_first() {
    let connections = with_shares();
    let own = user(UserPool::Own, 1);
    let admit = async || match connections.admit(own).await {
        Admission::Admitted(connection) => connection,
        Admission::Queued(_) | Admission::Refused => panic!("there are places"),
    };
    let (silent, command) = (admit().await, admit().await);
    command.begin_request().unwrap();
    command.place().expect_another();
    command.begin_answer();
    tokio::time::advance(Duration::from_millis(10)).await;
    command.note_flushed();
    tokio::time::advance(Duration::from_millis(60)).await;
    assert!(keep_place(&connections, own).await.is_some());
    assert!(silent.deadline().is_none() && command.deadline().is_some());
    assert!(command.begin_request().is_some());
}

/// The connections of users make room for one that may take every place, before those that
/// may, too.
#[tokio::test(start_paused = true)]
async fn root_evicts_users_first() {
    let connections = with_shares();
    let mut silent = Vec::new();
    let shares = [PlaceShare::Every, user(UserPool::Others, 1)];
    for share in shares.into_iter().chain([PlaceShare::Every; 7]) {
        match connections.admit(share).await {
            Admission::Admitted(connection) => silent.push(connection),
            Admission::Queued(_) | Admission::Refused => panic!("there are places"),
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    let _next = keep_place(&connections, PlaceShare::Every).await.unwrap();
    assert!(silent[0].deadline().is_some() && silent[1].deadline().is_none());
    // A user gets none of root's.
    assert!(keep_place(&connections, shares[1]).await.is_none());
    let _last = keep_place(&connections, PlaceShare::Every).await.unwrap();
    assert!(silent[0].deadline().is_none());
}

/// A user's silent connections make room for its own, and for others if it has most.
#[tokio::test(start_paused = true)]
async fn silent_connections_of_the_largest_user_make_room() {
    let users = UserPlaces {
        each: 3,
        together: 4,
        own_queue: 3,
    };
    let limits = ConnectionLimits::new(12).with_users(users);
    let connections = Arc::new(Connections::new(limits));
    let [one, other] = [1, 2].map(|number| user(UserPool::Others, number));
    let mut silent = Vec::new();
    for _ in 0..3 {
        match connections.admit(one).await {
            Admission::Admitted(connection) => silent.push(connection),
            Admission::Queued(_) | Admission::Refused => panic!("there are places"),
        }
    }
    tokio::time::advance(Duration::from_secs(2)).await;
    let own = keep_place(&connections, one).await;
    assert!(own.is_some() && silent[0].deadline().is_none());
    let others = [
        keep_place(&connections, other).await,
        keep_place(&connections, other).await,
    ];
    assert!(others.iter().all(Option::is_some));
    assert!(silent[1].deadline().is_none() && silent[2].deadline().is_some());
}
