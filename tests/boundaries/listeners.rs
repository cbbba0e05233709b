//! Addresses of this host that another user takes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, free_address, text, write};
use crate::users::{OTHER, run_as};

/// Listens as another user, and sends on what each connection brought within a second.
fn listen_as_other(address: String) -> Receiver<Vec<u8>> {
    let (sender, received) = channel();
    let (ready, is_ready) = channel();
    // The user who accepts a connection is the one that it has.
    std::thread::spawn(move || {
        run_as(OTHER, OTHER, move || {
            let listener = TcpListener::bind(address).unwrap();
            ready.send(()).unwrap();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream
                    .set_read_timeout(Some(Duration::from_secs(1)))
                    .unwrap();
                let mut read = Vec::new();
                let _ = stream.read_to_end(&mut read);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                if sender.send(read).is_err() {
                    break;
                }
            }
        });
    });
    is_ready.recv().unwrap();
    received
}

/// The receiver is stopped, and another user listens at its port.
pub fn impostor_of_a_receiver_gets_no_secret() {
    let env = TestEnv::start(&[]);
    let address = free_address();
    write(
        &env.path("secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    );
    env.configure(&format!(
        "[key.billing]\nevery = \"30d\"\nverify-interval = \"0s\"\n[[key.billing.sink]]\n\
         type = \"webhook\"\nurl = \"http://{address}/\"\nowner = \"0\"\n\
         signing-secret-file = \"DIR/secret\"\n"
    ));
    let received = listen_as_other(address);
    for command in ["check", "once"] {
        let output = env.run(&[command]);
        let printed = text(&output.stdout) + &text(&output.stderr);
        let expected = format!("uid {OTHER}");
        assert!(
            command == "check" || printed.contains(&expected),
            "{command}: {printed}"
        );
    }
    assert_eq!(env.live_ids(), [""; 0], "nothing is created for it");
    for request in received.try_iter() {
        let request = text(&request);
        assert!(!request.contains("sk-admin"), "{request}");
        assert!(!request.to_lowercase().contains("webhook-"), "{request}");
    }
}

/// It answers `/readyz` in the place of rekeyd until it is seen.
pub fn taken_metrics_address_is_shown_and_tried_again() {
    let env = TestEnv::start(&[]);
    let address = free_address();
    env.configure(&format!(
        "[metrics]\nlisten = \"{address}\"\n{}",
        file_key_text("24h")
    ));
    let taken = address.clone();
    let listener = run_as(OTHER, OTHER, move || TcpListener::bind(taken).unwrap());
    let mut daemon = Daemon::start(&env);
    // No rotation waits for it.
    daemon.wait_for("is the current credential key=billing");
    let status = env.run(&["status"]);
    let shown = text(&status.stdout);
    assert_eq!(status.status.code(), Some(1), "{shown}");
    assert!(shown.contains(&address), "{shown}");
    drop(listener);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !env.run(&["status"]).status.success() {
        assert!(Instant::now() < deadline, "{}", env.ok(&["status"]));
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut stream = TcpStream::connect(&address).unwrap();
    write!(stream, "GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    assert!(fs::metadata(env.path("billing.key")).is_ok());
}
