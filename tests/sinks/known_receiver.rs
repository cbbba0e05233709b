//! A receiver on this host gets a secret only if the right user accepts it.

use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rekeyd::core::secret::Secret;
use rekeyd::platform::users;
use rekeyd::sandbox::receiver::Receiver as SandboxReceiver;
use rekeyd::sink::{Acceptance, DeliveryError, Sink as _, SinkProblemKind};
use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::canned_server::{CannedServer, ok};
use crate::support::host::has_root;
use crate::webhook_fixture::{SECRET_VALUE, SIGNING_SECRET, WebhookFixture, own_user};

/// A user who is neither root nor the one of these tests.
const OTHER: u32 = 4_712;

/// Runs `work` on a thread of another user.
fn run_as_other<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(OTHER)).unwrap();
        set_thread_uid(Uid::from_raw(OTHER)).unwrap();
        work()
    })
}

/// Returns what a connection brings until its end.
fn read_all(mut stream: impl std::io::Read) -> String {
    let mut text = Vec::new();
    // The client may reset the connection.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Accepts `count` connections, and sends what each brings.
fn record(listener: TcpListener, count: usize) -> Receiver<String> {
    let (sender, received) = channel();
    thread::spawn(move || {
        for _ in 0..count {
            sender.send(read_all(listener.accept().unwrap().0)).unwrap();
        }
    });
    received
}

/// Answers one request with 200, and returns it.
fn answer(mut stream: impl std::io::Read + std::io::Write) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4_096];
    while !text.contains(SECRET_VALUE) || !text.ends_with("}}") {
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    text
}

/// The method is sent only if the accepting user is not known at once.
fn assert_at_most_the_method(received: &str) {
    assert!(["", "POST "].contains(&received), "{received}");
}

fn assert_not_delivered(delivered: Result<(), DeliveryError>, expected: &str) {
    let error = delivered.unwrap_err();
    assert_eq!(error.acceptance, Acceptance::NotAccepted, "{error}");
    assert!(error.message.contains(expected), "{error}");
}

#[tokio::test]
async fn owner_by_number_or_by_name_gets_the_secret() {
    let secret = Secret::new(SIGNING_SECRET.to_owned());
    let receiver = SandboxReceiver::start(&secret).await.unwrap();
    let mut hook = WebhookFixture::new(&receiver.url());
    let own = rustix::process::geteuid().as_raw();
    for owner in [Some(own.to_string()), users::user_name(own)] {
        // A host may lack the name.
        let Some(owner) = owner else { continue };
        hook.target.owner = Some(owner);
        hook.sink().preflight().await.unwrap();
        hook.deliver().await.unwrap();
    }
    assert_eq!(receiver.received()[0].value, SECRET_VALUE);
}

/// Its first bytes show nothing: the head has the token and the query.
#[tokio::test]
async fn listener_of_another_user_gets_at_most_the_method() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = record(listener, 2);
    let mut hook = WebhookFixture::new(&format!("http://{address}/hook?token=hidden"));
    hook.set_bearer_token("token-of-the-tests-1\n");
    hook.target.owner = Some((rustix::process::geteuid().as_raw() + 1).to_string());
    let problems = hook.sink().preflight().await.unwrap_err().problems;
    assert_eq!(problems[0].kind, SinkProblemKind::Host);
    let expected = format!("the process that answers at {address} belongs to ");
    assert!(
        problems[0].message.starts_with(&expected),
        "{}",
        problems[0]
    );
    assert_at_most_the_method(&received.recv().unwrap());
    assert_not_delivered(hook.deliver().await, "; nothing was sent; hint: ");
    assert_at_most_the_method(&received.recv().unwrap());
}

#[tokio::test]
async fn other_users_process_gets_no_secret_and_the_users_own_does() {
    if !has_root() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut hook = WebhookFixture::new(&format!("http://{address}/"));
    // Who accepts counts, and not who listens.
    let listening = listener.try_clone().unwrap();
    let accepted = run_as_other(move || read_all(listening.accept().unwrap().0));
    let delivered = hook.deliver().await;
    assert_not_delivered(
        delivered,
        &format!("belongs to {}", users::describe_user(OTHER)),
    );
    assert_at_most_the_method(&accepted.join().unwrap());
    hook.target.owner = Some(OTHER.to_string());
    let accepted = run_as_other(move || answer(listener.accept().unwrap().0));
    hook.deliver().await.unwrap();
    assert!(accepted.join().unwrap().contains(SECRET_VALUE));
}

/// The receiver may listen on one address of a name only.
#[tokio::test]
async fn other_user_on_the_other_address_of_a_name_keeps_nothing_from_the_receiver() {
    if !has_root() {
        return;
    }
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let Ok(impostor) = TcpListener::bind(("::1", port)) else {
        return;
    };
    let hook = WebhookFixture::new(&format!("http://localhost:{port}/"));
    let stolen = run_as_other(move || read_all(impostor.accept().unwrap().0));
    let accepted = thread::spawn(move || answer(receiver.accept().unwrap().0));
    hook.deliver().await.unwrap();
    assert!(accepted.join().unwrap().contains(SECRET_VALUE));
    assert_at_most_the_method(&stolen.join().unwrap());
}

#[tokio::test]
async fn receiver_that_accepts_late_gets_the_secret() {
    for bound in ["127.0.0.1:0", "[::]:0"] {
        // A host may lack IPv6.
        let Ok(listener) = TcpListener::bind(bound) else {
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        let hook = WebhookFixture::new(&format!("http://127.0.0.1:{port}/hook?token=given"));
        let mut delivery = std::pin::pin!(hook.deliver());
        let early = tokio::time::timeout(Duration::from_millis(30), &mut delivery).await;
        assert!(early.is_err(), "{early:?}");
        let accepted = thread::spawn(move || answer(listener.accept().unwrap().0));
        delivery.await.unwrap();
        let request = accepted.join().unwrap();
        let expected = "POST /hook?token=given HTTP/1.1\r\n";
        assert!(request.starts_with(expected), "{request}");
        assert!(
            request.contains(&format!("\r\nhost: 127.0.0.1:{port}\r\n")),
            "{request}"
        );
    }
}

/// The system accepts the connection; no program does, and so no program has the secret.
#[tokio::test]
async fn receiver_that_is_not_seen_in_time_is_not_delivered_to() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut hook = WebhookFixture::new(&format!("http://{}/", listener.local_addr().unwrap()));
    hook.settings.timeout = Duration::from_secs(1);
    let expected = "no process accepted the connection to ";
    let problem = hook
        .sink()
        .preflight()
        .await
        .unwrap_err()
        .problems
        .remove(0);
    assert_eq!(problem.kind, SinkProblemKind::Unreachable);
    assert!(problem.message.starts_with(expected), "{problem}");
    assert_not_delivered(hook.deliver().await, expected);
    for _ in ["the check", "the delivery"] {
        assert_eq!(read_all(listener.accept().unwrap().0), "POST ");
    }
}

#[tokio::test]
async fn receiver_that_nothing_names_gets_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let own = rustix::process::geteuid().as_raw();
    let name = users::user_name(own).unwrap_or_else(own_user);
    for host in [address.to_string(), format!("localhost:{}", address.port())] {
        let mut hook = WebhookFixture::new(&format!("http://{host}/?token=hidden"));
        hook.target.owner = None;
        let [problem] = &hook.sink().check().await[..] else {
            panic!("one problem");
        };
        assert_eq!(problem.kind, SinkProblemKind::Host);
        let expected = format!("hint: add owner = \"{name}\" if the receiver runs as ");
        assert!(problem.message.contains(&expected), "{problem}");
        assert!(!problem.message.contains("hidden"), "{problem}");
        assert!(hook.sink().preflight().await.is_err());
        assert_not_delivered(hook.deliver().await, &expected);
        assert!(listener.accept().is_err());
    }
    drop(listener);
    let mut hook = WebhookFixture::new(&format!("http://{address}/"));
    hook.target.owner = None;
    let problem = hook.sink().check().await.remove(0);
    assert!(
        problem.message.contains("add owner = \"USER\", with"),
        "{problem}"
    );
}

#[tokio::test]
async fn owner_that_does_not_exist_is_a_problem_of_the_host() {
    let mut hook = WebhookFixture::new("http://127.0.0.1:9/");
    hook.target.owner = Some("nobody-has-this-name".to_owned());
    let problem = hook.sink().check().await.remove(0);
    assert_eq!(problem.kind, SinkProblemKind::Host);
    let expected = "cannot use owner: user nobody-has-this-name is not in /etc/passwd; hint: ";
    assert!(problem.message.starts_with(expected), "{problem}");
    assert_not_delivered(hook.deliver().await, expected);
}

#[tokio::test]
async fn unauthenticated_receiver_is_whoever_accepts() {
    let server = CannedServer::start(vec![ok("")]).await;
    let mut hook = WebhookFixture::new(server.url.as_str());
    hook.target.owner = None;
    hook.target.unauthenticated_receiver = true;
    hook.sink().preflight().await.unwrap();
    hook.deliver().await.unwrap();
    assert!(
        server
            .requests()
            .iter()
            .any(|request| request.contains(SECRET_VALUE))
    );
}

/// Returns a sink whose receiver listens on this socket.
fn socket_fixture(socket: &Path, request: &str) -> WebhookFixture {
    let mut hook = WebhookFixture::new(&format!("http://localhost{request}"));
    hook.target.socket = Some(socket.to_owned());
    hook.target.owner = None;
    hook
}

#[tokio::test]
async fn socket_of_the_right_user_gets_the_secret() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("app.sock");
    let mut hook = socket_fixture(&socket, "/hook?token=given");
    // The receiver may not run yet.
    assert_eq!(hook.sink().check().await, []);
    let problem = hook
        .sink()
        .preflight()
        .await
        .unwrap_err()
        .problems
        .remove(0);
    assert_eq!(problem.kind, SinkProblemKind::Unreachable);
    assert!(
        problem.message.ends_with("; hint: start the receiver"),
        "{problem}"
    );
    let listener = UnixListener::bind(&socket).unwrap();
    let accepted = thread::spawn(move || {
        listener
            .accept()
            .unwrap()
            .0
            .shutdown(Shutdown::Both)
            .unwrap();
        [(); 2].map(|()| answer(listener.accept().unwrap().0))
    });
    hook.sink().preflight().await.unwrap();
    hook.deliver().await.unwrap();
    hook.target.owner = Some(own_user());
    hook.deliver().await.unwrap();
    for request in accepted.join().unwrap() {
        let expected = "POST /hook?token=given HTTP/1.1\r\n";
        assert!(request.starts_with(expected), "{request}");
        assert!(request.contains("\r\nhost: localhost\r\n"), "{request}");
    }
}

#[tokio::test]
async fn socket_of_another_user_gets_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("app.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut hook = socket_fixture(&socket, "/");
    hook.target.owner = Some((rustix::process::geteuid().as_raw() + 1).to_string());
    let accepted = thread::spawn(move || [(); 2].map(|()| read_all(listener.accept().unwrap().0)));
    let problem = hook
        .sink()
        .preflight()
        .await
        .unwrap_err()
        .problems
        .remove(0);
    assert_eq!(problem.kind, SinkProblemKind::Host);
    assert_not_delivered(hook.deliver().await, "app.sock belongs to ");
    assert_eq!(accepted.join().unwrap(), ["", ""]);
}

/// A service owns the folder of its socket: the line to add names its user.
#[tokio::test]
async fn socket_in_the_folder_of_its_service_names_the_owner_to_set() {
    if !has_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("app");
    std::fs::create_dir(&folder).unwrap();
    std::os::unix::fs::chown(&folder, Some(OTHER), Some(OTHER)).unwrap();
    let hook = socket_fixture(&folder.join("app.sock"), "/");
    let expected =
        format!("hint: set owner = \"{OTHER}\" if the receiver runs as uid {OTHER}, or ");
    let problem = hook.sink().check().await.remove(0);
    assert!(problem.message.contains(&expected), "{problem}");
    assert_not_delivered(hook.deliver().await, &expected);
}

/// Whoever exchanges a socket can only be refused; the receiver would get nothing either.
#[tokio::test]
async fn socket_that_another_user_could_exchange_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("open");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let _listener = UnixListener::bind(folder.join("app.sock")).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    for (path, expected) in [
        ("open/app.sock", "so another user could exchange"),
        ("file", "is not a socket; hint: "),
        ("file/app.sock", "not a directory"),
    ] {
        let hook = socket_fixture(&dir.path().join(path), "/");
        let problem = hook.sink().check().await.remove(0);
        assert!(problem.message.contains(expected), "{path}: {problem}");
        assert_not_delivered(hook.deliver().await, expected);
    }
}
