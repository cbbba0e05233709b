//! The stop of a daemon whose receivers do not work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::function_server::{ServedRequest, serve_with};
use crate::support::daemon::Daemon;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, text, write};

/// Less than the time for which a stopping daemon delivers.
const SHORT: Duration = Duration::from_secs(12);

/// Returns a key with a webhook to `url`.
fn webhook_key_text(name: &str, url: &str) -> String {
    format!(
        "[key.{name}]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
         [[key.{name}.sink]]\ntype = \"webhook\"\nurl = \"{url}\"\n\
         signing-secret-file = \"DIR/webhook-secret\"\nunauthenticated-receiver = true\n"
    )
}

fn world() -> TestEnv {
    let world = TestEnv::start(&[]);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
    write(&world.path("webhook-secret"), secret);
    world
}

#[test]
fn a_delivery_that_waits_for_its_retry_does_not_delay_the_stop() {
    let world = world();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let answer = move |_: &ServedRequest| {
        count.fetch_add(1, Ordering::Relaxed);
        (503, String::new())
    };
    let url = serve_with(answer, || "Tue, 24 Nov 2026 03:00:00 GMT".to_owned());
    world.configure(&webhook_key_text("billing", &url));
    let mut daemon = Daemon::start(&world);
    // The later attempts are seconds apart.
    wait_until("three attempts were made", || {
        requests.load(Ordering::Relaxed) >= 3
    });
    daemon.wait_for("retrying in");
    let started = Instant::now();
    daemon.stop();
    assert!(started.elapsed() < SHORT, "{:?}", started.elapsed());
}

#[test]
fn commands_are_refused_at_once_during_the_stop() {
    let world = world();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    world.configure(&webhook_key_text("billing", &url));
    let mut daemon = Daemon::start(&world);
    // The connection is made before the create; the delivery never ends.
    wait_until("the delivery runs", || {
        let history = text(&world.run(&["history", "--json"]).stdout);
        history.contains("\"verified\"")
    });
    daemon.signal(Signal::TERM);
    daemon.wait_for("finishing the running steps");
    for command in [
        &["rotate", "billing"][..],
        &["reload"],
        &["pause", "billing"],
        &["log-level", "debug"],
    ] {
        let started = Instant::now();
        let output = world.run(command);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
        assert!(stderr.contains("rekeyd is stopping"), "{stderr}");
        assert!(
            started.elapsed() < Duration::from_secs(8),
            "{command:?}: {:?}",
            started.elapsed()
        );
    }
    assert!(daemon.wait().success());
}
