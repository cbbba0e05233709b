//! The notifications of a running engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::authority::Authority;
use crate::core::change::OperatorNote;
use crate::core::condition::ListenerProblem;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{ChannelId, EventKind};
use crate::core::scope::Scope;
use crate::core::subscriptions::{Subscription, Subscriptions};
use crate::engine::operator_command::{OperatorCommand, PendingCommand, Unrecognized};
use crate::engine::{Engine, ManagedKey, RunMode, Services};
use crate::ledger::NextNotification;
use crate::provider::ErrorKind;
use crate::sink::Acceptance;

use super::captured_log::CapturedLog;
use super::fake::{Fakes, key};
use super::{HOUR, rotation_request};

const SECOND: Duration = Duration::from_secs(1);

/// The recorded notifications, in order.
const NOTIFICATIONS_SQL: &str =
    "SELECT trim(key || ' ' || alert_kind || ' ' || state) FROM notification ORDER BY id";

fn channel() -> ChannelId {
    ChannelId::new("command:/bin/page".to_owned())
}

/// Sends what is pending: the end of an alert goes to those who were told of its beginning.
pub(super) async fn send_all(engine: &Engine) {
    let (ledger, now) = (&engine.services().ledger, engine.now());
    while let NextNotification::Send(pending) =
        ledger.next_notification(&channel(), now).await.unwrap()
    {
        ledger
            .record_notification_sent(&channel(), pending.row_id, now)
            .await
            .unwrap();
    }
}

fn subscriptions(on: &[EventKind]) -> Subscriptions {
    Subscriptions::new(vec![Subscription {
        channel: channel(),
        on: on.iter().copied().collect::<BTreeSet<_>>(),
        keys: None,
        remind_every: None,
    }])
}

async fn open(fakes: &Fakes, managed: Vec<ManagedKey>, on: &[EventKind]) -> Engine {
    let services = Services {
        subscriptions: Arc::new(subscriptions(on)),
        ..fakes.services()
    };
    Engine::open(services, managed, RunMode::Daemon)
        .await
        .unwrap()
}

fn hourly(fakes: &Fakes) -> ManagedKey {
    fakes.key_with("@hourly", &[("a", true)])
}

#[tokio::test]
async fn a_failing_sink_is_notified_once_and_once_when_resolved() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    let mut engine = open(&fakes, vec![hourly(&fakes)], &EventKind::DEFAULT).await;
    fakes.run_for(&mut engine, 25 * SECOND).await;
    assert_eq!(
        fakes.query_rows(NOTIFICATIONS_SQL),
        [""; 0],
        "it may pass by itself"
    );
    fakes.run_for(&mut engine, 10 * SECOND).await;
    assert_eq!(
        fakes.query_rows(NOTIFICATIONS_SQL),
        ["billing failing begun"]
    );
    send_all(&engine).await;
    // The failure lasts, even across a restart.
    fakes.run_for(&mut engine, 600 * SECOND).await;
    engine.stop().await;
    drop(engine);
    let mut engine = open(&fakes, vec![hourly(&fakes)], &EventKind::DEFAULT).await;
    fakes.run_for(&mut engine, 600 * SECOND).await;
    assert_eq!(
        fakes.query_rows(NOTIFICATIONS_SQL),
        ["billing failing begun"]
    );
    fakes.fail_deliveries(None);
    fakes.run_for(&mut engine, 600 * SECOND).await;
    let both = ["billing failing begun", "billing failing over"];
    assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), both);
    assert_eq!(fakes.query_rows("SELECT kind FROM alert"), [""; 0]);
}

#[tokio::test]
async fn a_provider_outage_is_one_alert_for_all_keys() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let managed = || {
        let names = ["a", "b", "c"].map(|name| KeyName::new(name).unwrap());
        names
            .map(|name| ManagedKey {
                name,
                scope: Scope::AdminKeys,
                ..hourly(&fakes)
            })
            .into()
    };
    let mut engine = open(&fakes, managed(), &EventKind::DEFAULT).await;
    fakes.run_for(&mut engine, 10 * SECOND).await;
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    // All keys become overdue meanwhile.
    fakes.run_for(&mut engine, 5 * HOUR).await;
    assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), ["provider begun"]);
    send_all(&engine).await;
    engine.stop().await;
    drop(engine);
    let mut engine = open(&fakes, managed(), &EventKind::DEFAULT).await;
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(
        fakes.query_rows(NOTIFICATIONS_SQL),
        ["provider begun"],
        "after a restart"
    );
    fakes.fail_provider(None);
    fakes.run_for(&mut engine, 3 * HOUR).await;
    assert_eq!(
        fakes.query_rows(NOTIFICATIONS_SQL),
        ["provider begun", "provider over"]
    );
}

#[tokio::test]
async fn a_short_outage_sends_no_notification() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let mut engine = open(&fakes, vec![hourly(&fakes)], &EventKind::DEFAULT).await;
    fakes.run_for(&mut engine, 10 * SECOND).await;
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, 10 * SECOND).await;
    fakes.fail_provider(None);
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), [""; 0]);
}

#[tokio::test]
async fn each_rotation_is_notified_to_its_subscribers() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let mut engine = open(&fakes, vec![hourly(&fakes)], &EventKind::DEFAULT).await;
    fakes.run_for(&mut engine, 600 * SECOND).await;
    engine.stop().await;
    drop(engine);
    // A rotation before the subscription is not notified.
    let mut engine = open(&fakes, vec![hourly(&fakes)], &[EventKind::Rotated]).await;
    fakes.run_for(&mut engine, 600 * SECOND).await;
    assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), [""; 0]);
    fakes.run_for(&mut engine, 2 * HOUR).await;
    let twice = ["billing rotated once", "billing rotated once"];
    assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), twice);
    assert_eq!(fakes.query_rows("SELECT kind FROM alert"), ["rotated"]);
    engine.stop().await;
    drop(engine);
    let mut engine = open(&fakes, vec![hourly(&fakes)], &[EventKind::Rotated]).await;
    fakes.run_for(&mut engine, 60 * SECOND).await;
    assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), twice);
}

/// Each adoption and each manual revocation is one notification, and no alert.
#[tokio::test]
async fn what_an_operator_does_is_notified_once() {
    for mode in [RunMode::Daemon, RunMode::Command] {
        let fakes = Fakes::new(&[("key_x", "by hand")]);
        fakes.write_ledger(Vec::new()).await;
        let services = Services {
            subscriptions: Arc::new(subscriptions(&[EventKind::Operator])),
            ..fakes.services()
        };
        let managed = vec![hourly(&fakes)];
        let mut engine = Engine::open(services, managed, mode).await.unwrap();
        let operator = || {
            Some(OperatorNote {
                reason: Some("it is theirs".to_owned()),
                by: "uid 0".to_owned(),
            })
        };
        let id = || CredentialId::new("key_x".to_owned());
        let commands = [
            OperatorCommand::Adopt {
                credential: id(),
                force: false,
                unrecognized: Unrecognized::Named(Some("by hand".to_owned())),
                operator: operator(),
            },
            OperatorCommand::Hold {
                credential: Some(id()),
                until: None,
                authority: Authority::Full,
                operator: operator(),
            },
            OperatorCommand::Revoke {
                credential: id(),
                force: true,
                name: None,
                authority: Authority::Full,
                operator: operator(),
            },
        ];
        for command in commands {
            let (reply, done) = oneshot::channel();
            let pending = PendingCommand {
                command,
                started: Arc::default(),
                reply,
            };
            assert!(engine.submit_command(&key(), pending));
            fakes.run_for(&mut engine, SECOND).await;
            done.await.unwrap().unwrap();
        }
        let notified = fakes.query_rows("SELECT text FROM notification ORDER BY id");
        assert_eq!(
            notified,
            [
                "root (uid 0) adopted key_x (by hand) into billing; it is on hold until a person \
                 releases it (reason: it is theirs)",
                "root (uid 0) ended the hold of key_x of billing, which was adopted (reason: it is \
                 theirs)",
                "root (uid 0) revoked key_x of billing (reason: it is theirs)",
            ]
        );
        let kinds = [
            "billing adopted once",
            "billing released once",
            "billing revoked-manually once",
        ];
        assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), kinds);
        assert_eq!(fakes.query_rows("SELECT kind FROM alert"), [""; 0]);
        engine.stop().await;
    }
}

/// A rotation that leaves no overlap is somebody's decision.
#[tokio::test]
async fn end_of_older_credentials_is_notified_with_who_ordered_it() {
    for revoke_previous in [true, false] {
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(Vec::new()).await;
        let mut engine = open(&fakes, vec![hourly(&fakes)], &[EventKind::Operator]).await;
        let request = crate::engine::RotationRequest {
            operator: Some(OperatorNote {
                reason: None,
                by: "uid 0".to_owned(),
            }),
            revoke_previous,
            replacement: crate::engine::ReplaceApproval::Refused,
        };
        assert!(engine.request_rotation(&key(), request));
        fakes.run_for(&mut engine, 60 * SECOND).await;
        let notified = fakes.query_rows("SELECT text FROM notification");
        let expected = "root (uid 0) ordered the end of every older credential of billing as soon as \
                        the new one is current";
        assert_eq!(notified, vec![expected; usize::from(revoke_previous)]);
        engine.stop().await;
    }
}

#[tokio::test]
async fn a_lookalike_is_notified_once() {
    let label = "billing-20261123T030000Z-5f3a9c";
    let fakes = Fakes::new(&[("key_x", label)]);
    fakes.write_ledger(Vec::new()).await;
    for _ in 0..2 {
        let mut engine = open(&fakes, vec![hourly(&fakes)], &[EventKind::Lookalike]).await;
        fakes.run_for(&mut engine, HOUR).await;
        assert_eq!(
            fakes.query_rows(NOTIFICATIONS_SQL),
            ["billing lookalike once"]
        );
        engine.stop().await;
    }
}

/// Everybody who may create credentials decides how many lookalikes there are.
#[tokio::test]
async fn many_lookalikes_are_one_notification() {
    let names: Vec<_> = (0..3_000)
        .map(|number| {
            let label = format!("billing-20261123T030000Z-{number:06x}");
            (format!("key_{number:04}"), label)
        })
        .collect();
    let named = names
        .iter()
        .map(|(id, label)| (id.as_str(), label.as_str()));
    let fakes = Fakes::new(&named.collect::<Vec<_>>());
    fakes.write_ledger(Vec::new()).await;
    let (lines, _guard) = CapturedLog::capture();
    for _ in 0..2 {
        let mut engine = open(&fakes, vec![hourly(&fakes)], &[EventKind::Lookalike]).await;
        fakes.run_for(&mut engine, HOUR).await;
        let texts = fakes.query_rows("SELECT text FROM notification");
        let [text] = texts.as_slice() else {
            panic!("{} notifications", texts.len());
        };
        let problem = engine.state(&key()).unwrap().last_error.clone().unwrap();
        for text in [text, &problem] {
            assert!(text.len() < 800, "{text}");
            assert!(text.matches("key_").count() <= 11, "{text}");
        }
        assert!(text.starts_with("3000 credentials"), "{text}");
        assert!(problem.contains("and 2990 more"), "{problem}");
        engine.stop().await;
    }
    assert_eq!(lines.lines_with("WARN", "3000 credentials").len(), 1);
    // A later one is an event of its own.
    fakes.add_credential("key_late", "billing-20261124T030000Z-5f3a9c");
    let mut engine = open(&fakes, vec![hourly(&fakes)], &[EventKind::Lookalike]).await;
    fakes.run_for(&mut engine, HOUR).await;
    let texts = fakes.query_rows("SELECT text FROM notification ORDER BY id");
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[1].starts_with("key_late has the name"), "{texts:?}");
}

#[tokio::test]
async fn lookalikes_of_many_keys_are_one_notification_of_the_daemon() {
    let names: Vec<_> = (0..5)
        .map(|number| {
            let label = format!("app-{number}-20261123T030000Z-5f3a9c");
            (format!("key_{number}"), label)
        })
        .collect();
    let named = names
        .iter()
        .map(|(id, label)| (id.as_str(), label.as_str()));
    let fakes = Fakes::new(&named.collect::<Vec<_>>());
    fakes.write_ledger(Vec::new()).await;
    for _ in 0..2 {
        let keys = (0..5).map(|number| {
            let name = KeyName::new(&format!("app-{number}")).unwrap();
            fakes.managed_key(name, |_| {})
        });
        let mut engine = open(&fakes, keys.collect(), &[EventKind::Lookalike]).await;
        fakes.run_for(&mut engine, HOUR).await;
        assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), ["lookalike once"]);
        let texts = fakes.query_rows("SELECT text FROM notification");
        let expected = "5 credentials have names that look like labels of 5 keys";
        assert!(texts[0].starts_with(expected), "{texts:?}");
        engine.stop().await;
    }
}

#[tokio::test]
async fn removing_all_subscriptions_clears_alerts_and_notifications() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    let mut engine = open(&fakes, vec![hourly(&fakes)], &EventKind::DEFAULT).await;
    fakes.run_for(&mut engine, 60 * SECOND).await;
    assert_eq!(fakes.query_rows("SELECT kind FROM alert"), ["failing"]);
    let services = Services {
        subscriptions: Arc::default(),
        ..engine.services().clone()
    };
    engine.reconfigure(services, vec![hourly(&fakes)]);
    fakes.run_for(&mut engine, HOUR).await;
    for table in ["alert", "notification", "outbox_entry"] {
        let rows = fakes.query_rows(&format!("SELECT 'row' FROM {table}"));
        assert_eq!(rows, [""; 0], "{table}");
    }
}

#[tokio::test]
async fn alerts_are_sent_without_grace_before_exit() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    let mut engine = open(&fakes, vec![hourly(&fakes)], &EventKind::DEFAULT).await;
    fakes.run_for(&mut engine, SECOND).await;
    engine.stop().await;
    engine.notify_before_exit().await;
    assert_eq!(
        fakes.query_rows(NOTIFICATIONS_SQL),
        ["billing failing begun"]
    );
    engine.notify_before_exit().await;
    assert_eq!(
        fakes.query_rows(NOTIFICATIONS_SQL),
        ["billing failing begun"]
    );
}

/// The monitoring that would show it is what is gone.
#[tokio::test]
async fn a_place_that_cannot_be_taken_is_notified() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let mut engine = open(&fakes, vec![hourly(&fakes)], &EventKind::DEFAULT).await;
    let problem = "cannot serve metrics at 127.0.0.1:9464: address in use".to_owned();
    let problems = BTreeMap::from([(ListenerProblem::Metrics, problem)]);
    engine.set_listener_problems(problems).await;
    fakes.run_for(&mut engine, 600 * SECOND).await;
    let text = "SELECT text FROM notification";
    let text = fakes.query_rows(text).concat();
    assert!(
        text.contains("9464") && text.contains("rotations continue"),
        "{text}"
    );
    assert_eq!(fakes.live_ids().len(), 1);
    send_all(&engine).await;
    engine.set_listener_problems(BTreeMap::new()).await;
    fakes.run_for(&mut engine, SECOND).await;
    let both = ["metrics-address begun", "metrics-address over"];
    assert_eq!(fakes.query_rows(NOTIFICATIONS_SQL), both);
}
