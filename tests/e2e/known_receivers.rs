//! A configuration that does not say whose a receiver on this host is.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::support::daemon::Daemon;
use crate::support::host::has_root;
use crate::support::{TestEnv, file_key_text, text, write};

/// Answers each request with 200, and sends those that have a body.
fn serve_all(listener: TcpListener) -> Receiver<String> {
    let (sender, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut buffer) = (String::new(), [0; 4_096]);
            while !request.ends_with("}}") {
                match stream.read(&mut buffer) {
                    Ok(count) if count > 0 => {
                        request.push_str(&String::from_utf8_lossy(&buffer[..count]));
                    }
                    Ok(_) | Err(_) => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            if sender.send(request).is_err() {
                break;
            }
        }
    });
    received
}

/// As one of the first release.
#[test]
fn key_waits_for_the_line_to_add_and_all_others_rotate() {
    let world = TestEnv::start(&[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = serve_all(listener);
    write(
        &world.path("webhook-secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
    );
    let keys = |line: &str| {
        format!(
            "{}[key.posted]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
             [[key.posted.sink]]\ntype = \"webhook\"\nurl = \"http://{address}/\"\n{line}\
             signing-secret-file = \"DIR/webhook-secret\"\n",
            file_key_text("24h")
        )
    };
    world.configure(&keys(""));
    let problem = format!("nothing says whose the receiver at http://{address}/ is");
    let check = world.run(&["check"]);
    let found = text(&check.stderr);
    assert_eq!(check.status.code(), Some(1), "{found}");
    assert!(
        found.contains(&problem) && found.contains("add owner = \""),
        "{found}"
    );
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("billing: ");
    world.ok(&["rotate", "billing"]);
    let rotate = world.run(&["rotate", "posted"]);
    assert!(
        text(&rotate.stderr).contains(&problem),
        "{}",
        text(&rotate.stderr)
    );
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(
        text(&status.stdout).contains(&problem),
        "{}",
        text(&status.stdout)
    );
    // No credential was created that could not be delivered, and nothing was sent.
    assert!(world.history().iter().all(|row| row["key"] != "posted"));
    assert!(received.try_recv().is_err());

    world.configure(&keys("owner = \"OWN-USER\"\n"));
    world.ok(&["reload"]);
    world.ok(&["rotate", "posted"]);
    let has_secret = |request: &String| request.contains("\"value\":\"sk-admin-");
    assert!(received.iter().any(|request| has_secret(&request)));
    world.ok(&["status"]);
    world.ok(&["check", "--online"]);
    daemon.stop();
}

/// Users who are neither root nor the one of the daemon.
const RECEIVER: u32 = 4_713;
const OTHER: u32 = 4_714;

/// Serves as [`serve_all`] does, as another user.
fn serve_as(user: u32, listener: TcpListener) -> Receiver<String> {
    let thread = std::thread::spawn(move || {
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(user)).unwrap();
        set_thread_uid(Uid::from_raw(user)).unwrap();
        // Its own thread inherits the user.
        serve_all(listener)
    });
    thread.join().unwrap()
}

/// The receiver stops, and another user takes its port.
#[test]
fn user_who_takes_the_port_of_a_receiver_gets_no_secret() {
    if !has_root() {
        return;
    }
    let world = TestEnv::start(&[]);
    write(
        &world.path("webhook-secret"),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n",
    );
    let first = TcpListener::bind("127.0.0.1:0").unwrap();
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    let keys = |listener: &TcpListener| {
        format!(
            "[key.posted]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
             [[key.posted.sink]]\ntype = \"webhook\"\nurl = \"http://{}/\"\nowner = \"{RECEIVER}\"\n\
             signing-secret-file = \"DIR/webhook-secret\"\n",
            listener.local_addr().unwrap()
        )
    };
    let (first_keys, second_keys) = (keys(&first), keys(&second));
    let has_secret = |request: &String| request.contains("\"value\":\"sk-admin-");
    let received = serve_as(RECEIVER, first);
    let taken = serve_as(OTHER, second);
    world.configure(&first_keys);
    world.ok(&["once"]);
    assert!(received.iter().any(|request| has_secret(&request)));
    // As if it were the same port, which cannot be freed here.
    world.configure(&second_keys);
    let rotate = world.run(&["rotate", "posted"]);
    let said = text(&rotate.stderr);
    assert_eq!(rotate.status.code(), Some(1), "{said}");
    assert!(said.contains("; nothing was sent; hint: "), "{said}");
    assert_eq!(world.history().len(), 1, "no credential is created");
    assert!(!taken.try_iter().any(|request| has_secret(&request)));
    let check = world.run(&["check", "--online"]);
    assert!(
        text(&check.stderr).contains("; nothing was sent"),
        "{}",
        text(&check.stderr)
    );
}
