//! Notifications of problems by the real binary.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, file_key_text, text, write};
use rekeyd::alerting::channel::Channel as _;
use rekeyd::alerting::channel::sendmail::{SendmailChannel, SendmailChannelTarget};
use rekeyd::core::ids::KeyName;
use rekeyd::core::notification::{
    Alert, AlertKind, ChannelId, Notification, NotificationId, NotificationState,
};
use rekeyd::net::signature::SigningKeys;
use rekeyd::platform::path_walk::TrustedPaths;
use rustix::process::Signal;
use serde_json::Value;

const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// How long a test waits for a notification.
const PATIENCE: Duration = Duration::from_secs(60);

/// A received notification.
struct ReceivedNotification {
    id: String,
    body: Value,
}

/// A receiver that accepts correctly signed notifications.
struct Hook {
    url: String,
    posted: Receiver<ReceivedNotification>,
    seen: Arc<Mutex<String>>,
}

impl Hook {
    fn start() -> Self {
        let (sender, posted) = channel();
        let sender = Mutex::new(sender);
        let seen = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&seen);
        let answer = move |request: &crate::function_server::ServedRequest| {
            all.lock().unwrap().push_str(&request.body);
            let keys = SigningKeys::parse(SIGNING).unwrap();
            let header = |name| request.header(name).to_owned();
            let good = keys.verify(
                &header("webhook-id"),
                &header("webhook-timestamp"),
                request.body.as_bytes(),
                &header("webhook-signature"),
            );
            let expected = (request.method.as_str(), request.path.as_str());
            if !good || expected != ("POST", "/hook?token=hidden") {
                return (401, "the signature is not good".to_owned());
            }
            let posted = ReceivedNotification {
                id: header("webhook-id"),
                body: serde_json::from_str(&request.body).unwrap(),
            };
            // The test may not be waiting any more.
            let _ = sender.lock().unwrap().send(posted);
            (204, String::new())
        };
        Self {
            url: crate::function_server::serve_with(answer, || {
                "Tue, 24 Nov 2026 03:00:00 GMT".to_owned()
            }),
            posted,
            seen,
        }
    }

    /// Returns its part of the configuration.
    fn configuration(&self, more: &str) -> String {
        format!(
            "[[notify]]\ntype = \"webhook\"\nurl = \"{}/hook?token=hidden\"\n\
             signing-secret-file = \"DIR/signing\"\n{more}\n",
            self.url
        )
    }

    /// Returns the event and the key of every notification so far.
    fn events(&self) -> Vec<String> {
        let posted = self.posted.try_iter();
        let word = |posted: ReceivedNotification| {
            let data = &posted.body["data"];
            let key = data["key"].as_str().unwrap_or("-");
            format!(
                "{} {} {key}",
                data["event"].as_str().unwrap(),
                data["cause"].as_str().unwrap()
            )
        };
        posted.map(word).collect()
    }
}

fn world() -> TestEnv {
    let world = TestEnv::start(&[]);
    write(&world.path("signing"), SIGNING);
    world
}

/// Returns a key whose file sink has no folder.
fn key_without_folder() -> String {
    file_key_text("1h").replace("DIR/billing.key", "DIR/away/billing.key")
}

fn make_folder(world: &TestEnv) {
    std::fs::create_dir(world.path("away")).unwrap();
}

#[test]
fn failing_sink_is_notified_once_and_once_when_resolved() {
    let (world, hook) = (world(), Hook::start());
    world.configure(&format!(
        "{}{}",
        key_without_folder(),
        hook.configuration("")
    ));
    let output = world.run(&["once", "--for", "30s"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let posted = hook.posted.try_recv().unwrap();
    let (body, data) = (&posted.body, &posted.body["data"]);
    assert_eq!(body["type"], "rekeyd.notice");
    assert_eq!(data["event"], "failure");
    assert_eq!(data["state"], "begun");
    assert_eq!(data["key"], "billing");
    assert_eq!(data["cause"], "failing");
    assert_eq!(data["credential"], Value::Null);
    let text = data["text"].as_str().unwrap();
    assert!(
        text.contains("billing is failing") && text.contains("away"),
        "{text}"
    );
    assert!(
        posted.id.contains(data["id"].as_str().unwrap()),
        "{}",
        posted.id
    );
    // It is still failing.
    assert_eq!(world.run(&["once", "--for", "30s"]).status.code(), Some(1));
    assert_eq!(hook.events(), [""; 0]);
    make_folder(&world);
    world.ok(&["rotate", "billing"]);
    world.ok(&["once", "--for", "30s"]);
    let over = hook.posted.try_recv().unwrap();
    assert_eq!(over.body["data"]["event"], "recovered");
    assert_eq!(over.body["data"]["state"], "over");
    assert_eq!(over.body["data"]["cause"], "failing");
    assert_eq!(over.body["data"]["since"], data["since"]);
    assert_ne!(over.id, posted.id);
    assert_eq!(hook.events(), [""; 0]);
    let seen = hook.seen.lock().unwrap();
    for secret in [world.secret_of(&world.live_ids()[0]), "hidden".to_owned()] {
        assert!(!seen.contains(&secret), "{seen}");
    }
}

#[test]
fn unreachable_provider_is_notified_once_for_all_keys() {
    let (mut world, hook) = (world(), Hook::start());
    let keys: String = ["a", "b", "c"]
        .iter()
        .map(|name| file_key_text("1h").replace("billing", name))
        .collect();
    world.configure(&format!("{keys}{}", hook.configuration("")));
    world.stop_sandbox();
    for _ in 0..2 {
        assert!(!world.run(&["once", "--for", "2s"]).status.success());
    }
    assert_eq!(hook.events(), ["failure provider -"]);
    world.restart_sandbox(&[]);
    world.ok(&["once", "--for", "60s"]);
    assert_eq!(hook.events(), ["recovered provider -"]);
}

#[test]
fn command_channel_gets_the_notification_and_a_clean_environment() {
    let world = world();
    write(
        &world.path("page"),
        "cat > \"$1/told\"\nenv > \"$1/environment\"\n",
    );
    let notify = "[[notify]]\ntype = \"command\"\non = [\"rotated\"]\n\
                  argv = [\"/bin/sh\", \"DIR/page\", \"DIR\"]\n";
    world.configure(&format!("{}{notify}", file_key_text("1h")));
    world.ok(&["once", "--for", "60s"]);
    let data = std::fs::read_to_string(world.path("told")).unwrap();
    let data: Value = serde_json::from_str(&data).unwrap();
    let data = &data["data"];
    let id = &world.live_ids()[0];
    assert_eq!(data["event"], "rotated");
    assert_eq!(data["state"], "once");
    assert_eq!(data["credential"], id.as_str());
    assert!(!data.to_string().contains(&world.secret_of(id)));
    let environment = std::fs::read_to_string(world.path("environment")).unwrap();
    let environment: BTreeMap<_, _> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        // The shell sets these variables itself.
        .filter(|(name, _)| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name))
        .collect();
    assert_eq!(
        environment.keys().copied().collect::<Vec<_>>(),
        [
            "LANG",
            "PATH",
            "REKEYD_EVENT",
            "REKEYD_KEY",
            "REKEYD_NOTICE"
        ]
    );
    assert_eq!(environment["REKEYD_KEY"], "billing");
    assert_eq!(environment["REKEYD_EVENT"], "rotated");
    assert_eq!(Some(environment["REKEYD_NOTICE"]), data["id"].as_str());
}

#[test]
fn channel_is_limited_to_its_keys() {
    let (world, hook) = (world(), Hook::start());
    let keys = [
        key_without_folder(),
        key_without_folder().replace("billing", "other"),
    ]
    .concat();
    let only = hook.configuration("keys = [\"other\"]");
    world.configure(&format!("{keys}{only}"));
    assert!(!world.run(&["once", "--for", "30s"]).status.success());
    assert_eq!(hook.events(), ["failure failing other"]);
}

#[test]
fn reload_changes_the_channels() {
    let (world, hook) = (world(), Hook::start());
    world.configure(&file_key_text("1h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential key=billing");
    let notify = hook.configuration("on = [\"rotated\"]");
    world.configure(&format!("{}{notify}", file_key_text("1h")));
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    world.ok(&["rotate", "billing"]);
    let posted = hook.posted.recv_timeout(PATIENCE).unwrap();
    assert_eq!(posted.body["data"]["event"], "rotated");
    daemon.wait_for("notified webhook:");
    // No channel is left.
    world.configure(&file_key_text("1h"));
    daemon.signal(Signal::HUP);
    daemon.wait_for("reloaded");
    world.ok(&["rotate", "billing"]);
    let log = daemon.stop();
    assert!(!log.contains("hidden"), "{log}");
    assert_eq!(hook.events(), [""; 0]);
}

#[test]
fn daemon_notifies_of_a_persistent_failure_and_its_resolution() {
    let (world, hook) = (world(), Hook::start());
    world.configure(&format!(
        "{}{}",
        key_without_folder(),
        hook.configuration("")
    ));
    let mut daemon = Daemon::start(&world);
    let posted = hook.posted.recv_timeout(PATIENCE).unwrap();
    assert_eq!(posted.body["data"]["event"], "failure");
    daemon.wait_for("notified webhook:");
    daemon.stop();
    let mut daemon = Daemon::start(&world);
    daemon.wait_for(" started");
    make_folder(&world);
    world.ok(&["rotate", "billing"]);
    let posted = hook.posted.recv_timeout(PATIENCE).unwrap();
    assert_eq!(posted.body["data"]["event"], "recovered", "{}", posted.body);
    daemon.wait_for("notified webhook:");
    daemon.stop();
}

#[test]
fn check_covers_notification_channels() {
    let world = world();
    let notify = "[[notify]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n\
                  signing-secret-file = \"DIR/none\"\n\
                  [[notify]]\ntype = \"command\"\nargv = [\"DIR/none\"]\n";
    world.configure(&format!("{}{notify}", file_key_text("1h")));
    let output = world.run(&["check"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for expected in ["notify[0]: ", "notify[1]: ", "/none does not exist"] {
        assert!(stderr.contains(expected), "{expected}: {stderr}");
    }
    let notify = "[[notify]]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\n\
                  signing-secret-file = \"DIR/signing\"\n";
    world.configure(&format!("{}{notify}", file_key_text("1h")));
    world.ok(&["check"]);
    let output = world.run(&["check", "--online"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("notify[0]: cannot connect to 127.0.0.1:9"),
        "{stderr}"
    );
}

/// A test has to reach people, and must not close an incident.
#[test]
fn test_is_marked_and_recorded_nowhere() {
    let (world, hook) = (world(), Hook::start());
    let page = "[[notify]]\nname = \"pager\"\ntype = \"command\"\nargv = [\"/bin/false\"]\n";
    let notify = hook.configuration("on = [\"rotated\"]");
    world.configure(&format!("{}{notify}{page}", file_key_text("1h")));
    let stdout = world.ok(&["notify", "--test", "webhook"]);
    assert!(stdout.contains("webhook: webhook:http"), "{stdout}");
    let posted = hook.posted.try_recv().unwrap();
    let data = &posted.body["data"];
    for (member, expected) in [("event", "test"), ("cause", "test"), ("state", "once")] {
        assert_eq!(data[member], expected, "{data}");
    }
    assert_eq!(data["key"], Value::Null);
    assert!(!world.path("ledger.db").exists());
    let output = world.run(&["notify", "--test"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("pager: /bin/false"), "{stderr}");
    assert_eq!(hook.events(), ["test test -"]);
    let output = world.run(&["notify", "--test", "pagers"]);
    let stderr = text(&output.stderr);
    assert!(stderr.contains("did you mean pager?"), "{stderr}");
    assert_eq!(hook.events(), [""; 0]);
    assert_eq!(world.run(&["notify"]).status.code(), Some(2));
}

#[test]
fn failing_channel_shows_in_status_and_check() {
    let world = world();
    let page = "[[notify]]\nname = \"pager\"\ntype = \"command\"\non = [\"rotated\"]\n\
                argv = [\"/bin/false\"]\n";
    world.configure(&format!("{}{page}", file_key_text("1h")));
    world.ok(&["once", "--for", "60s"]);
    let output = world.run(&["status"]);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    let expected = "problem: notifications to pager fail: /bin/false";
    assert!(stdout.contains(expected), "{stdout}");
    let status: Value = serde_json::from_slice(&world.run(&["status", "--json"]).stdout).unwrap();
    let channel = &status["notifications"][0];
    assert_eq!(channel["name"], "pager");
    assert_eq!(channel["undelivered"], 1);
    assert!(channel["problem"].as_str().unwrap().contains("/bin/false"));
    let output = world.run(&["check", "--online"]);
    let stderr = text(&output.stderr);
    let expected = "notify[0]: notifications to pager fail: /bin/false";
    assert!(stderr.contains(expected), "{stderr}");
    world.ok(&["check"]);
}

/// Whether `status` shows a channel that fails, and the metrics.
fn is_failing(world: &TestEnv, metrics: &str) -> (bool, bool) {
    let stdout = text(&world.run(&["status"]).stdout);
    let (_, _, page) = crate::support::get(metrics, "/metrics");
    let line = "rekeyd_notification_channel_failing{channel=\"pager\"} ";
    let value = page.lines().find_map(|found| found.strip_prefix(line));
    (
        stdout.contains("notifications to pager fail"),
        value.unwrap() != "0",
    )
}

#[test]
fn channel_that_accepts_a_test_is_not_failing_any_more() {
    let world = world();
    write(
        &world.path("page"),
        "test -e \"$1/repaired\" && cat >> \"$1/told\"\n",
    );
    let metrics = crate::support::free_address();
    let page = format!(
        "[metrics]\nlisten = \"{metrics}\"\n[[notify]]\nname = \"pager\"\ntype = \"command\"\n\
         on = [\"rotated\"]\nargv = [\"/bin/sh\", \"DIR/page\", \"DIR\"]\n"
    );
    world.configure(&format!("{}{page}", file_key_text("1h")));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("cannot notify command:");
    wait_until("the channel fails", || {
        is_failing(&world, &metrics) == (true, true)
    });
    assert!(!world.run(&["notify", "--test"]).status.success());
    assert_eq!(is_failing(&world, &metrics), (true, true));
    write(&world.path("repaired"), "");
    world.ok(&["notify", "--test"]);
    // What was pending is sent at once, and not after minutes.
    daemon.wait_for("notified command:");
    wait_until("the channel works", || {
        is_failing(&world, &metrics) == (false, false)
    });
    let told = std::fs::read_to_string(world.path("told")).unwrap();
    assert!(told.contains("\"rotated\"") && told.contains("\"test\""));
    daemon.stop();

    // The same without a daemon.
    std::fs::remove_file(world.path("repaired")).unwrap();
    world.ok(&["rotate", "billing"]);
    world.ok(&["once", "--for", "30s"]);
    let failing = || text(&world.run(&["status"]).stdout).contains("notifications to pager fail");
    assert!(failing());
    write(&world.path("repaired"), "");
    world.ok(&["notify", "--test"]);
    assert!(!failing());
}

#[test]
fn rehearsal_records_notifications() {
    let (world, hook) = (world(), Hook::start());
    let notify = hook.configuration("on = [\"rotated\"]");
    world.configure(&format!("{}{notify}", file_key_text("1h")));
    let (dir, config) = (world.path("rehearsal"), world.path("config.toml"));
    let (dir, config) = (dir.to_str().unwrap(), config.to_str().unwrap());
    let arguments = ["demo", "--rehearse", config, "--dir", dir, "--for", "15s"];
    let output = world.run(&arguments);
    let stdout = text(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", text(&output.stderr));
    assert!(stdout.contains("recorded in notices.jsonl"), "{stdout}");
    assert!(!stdout.contains("hidden"), "{stdout}");
    let recorded = std::fs::read_to_string(world.path("rehearsal/notices.jsonl")).unwrap();
    let first: Value = serde_json::from_str(recorded.lines().next().unwrap()).unwrap();
    assert_eq!(first["data"]["event"], "rotated");
    assert_eq!(hook.events(), [""; 0]);
}

#[tokio::test]
async fn mail_is_passed_to_sendmail() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let script = format!(
        "#!/bin/sh\necho \"$@\" > {0}/arguments\ncat > {0}/mail\n",
        dir.path().display()
    );
    std::fs::write(path("sendmail"), script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path("sendmail"), executable).unwrap();
    let mail = SendmailChannelTarget {
        to: vec!["root".to_owned(), "ops@example.com".to_owned()],
    };
    let id = ChannelId::new("sendmail:root,ops@example.com".to_owned());
    let sendmail = SendmailChannel::new(id, &mail, path("sendmail"), TrustedPaths::default());
    assert_eq!(sendmail.check().await, []);
    let key = KeyName::new("billing").unwrap();
    let notification = Notification {
        id: NotificationId::new([7; 8]),
        created_at: "2026-11-24T03:00:31Z".parse().unwrap(),
        state: NotificationState::Raised,
        alert: Alert::for_key(&key, AlertKind::Failing),
        since: "2026-11-24T03:00:01Z".parse().unwrap(),
        text: "billing is failing: its folder is gone".to_owned(),
    };
    // The program may be busy while another test forks.
    let mut result = sendmail.send(&notification, "ops1").await;
    for _ in 0..100 {
        let result_so_far = result.as_ref();
        if !result_so_far.is_err_and(|error| error.message.contains("busy")) {
            break;
        }
        result = sendmail.send(&notification, "ops1").await;
    }
    result.unwrap();
    let arguments = std::fs::read_to_string(path("arguments")).unwrap();
    assert_eq!(arguments, "-i root ops@example.com\n");
    let mail = std::fs::read_to_string(path("mail")).unwrap();
    for expected in [
        "To: root, ops@example.com\n",
        "Subject: [rekeyd] ops1: billing: failing\n",
        "\nbilling is failing: its folder is gone\n",
        "\"event\":\"failure\"",
    ] {
        assert!(mail.contains(expected), "{expected}: {mail}");
    }
}
