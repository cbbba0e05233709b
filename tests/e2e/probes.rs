//! `rekeyd status --live` and `--ready`, as a container's probes.

use crate::function_server::serve_with;
use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text, write};

/// Returns a key whose receiver answers 503.
fn refused_key() -> String {
    let receiver = serve_with(
        |_| (503, "down".to_owned()),
        || "Tue, 24 Nov 2026 03:00:00 GMT".to_owned(),
    );
    format!(
        "[key.billing]\nschedule = \"@monthly\"\nverify-interval = \"0s\"\n\
         [[key.billing.sink]]\ntype = \"webhook\"\nurl = \"{receiver}/hook\"\n\
         signing-secret-file = \"DIR/webhook-secret\"\nunauthenticated-receiver = true\n"
    )
}

/// What a probe restarts must not depend on somebody else's receiver: each restart loses the
/// undelivered secret, and creates another credential.
#[test]
fn failing_receiver_fails_status_and_neither_probe() {
    let world = TestEnv::start(&[]);
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
    write(&world.path("webhook-secret"), secret);
    world.configure(&refused_key());
    for probe in ["--live", "--ready"] {
        let absent = world.run(&["status", probe]);
        assert_eq!(absent.status.code(), Some(1), "{probe}");
        let stderr = text(&absent.stderr);
        assert!(stderr.contains("no rekeyd is running"), "{probe}: {stderr}");
    }
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("billing: delivery to ");
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1), "{}", text(&status.stdout));
    for probe in ["--live", "--ready"] {
        assert_eq!(world.ok(&["status", probe]), "ok\n", "{probe}");
    }
    daemon.stop();
}

#[test]
fn missing_provider_fails_the_readiness_alone() {
    let mut world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    world.stop_sandbox();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("cannot reach the provider");
    assert_eq!(world.ok(&["status", "--live"]), "ok\n");
    let ready = world.run(&["status", "--ready"]);
    let stderr = text(&ready.stderr);
    assert_eq!(ready.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot reach the provider"), "{stderr}");
    // A file with a mistake is no reason to restart the daemon, which goes on without it.
    world.configure("[key.billing]\nschedule = \"whenever\"\n");
    assert_eq!(world.ok(&["status", "--live"]), "ok\n");
    daemon.stop();
}

#[test]
fn probe_takes_no_other_option() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    for arguments in [
        &["status", "--live", "--json"][..],
        &["status", "--live", "--ready"],
        &["status", "--ready", "billing"],
    ] {
        let refused = world.run(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
    }
}
