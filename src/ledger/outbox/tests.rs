//! Which notifications a channel gets, and when.

use super::*;
use crate::core::decide::key_names::Rename;
use crate::core::ids::{CredentialId, KeyName};
use crate::ledger::{LedgerIdentity, LedgerOptions, NextNotification};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_400_000 + seconds).unwrap()
}

fn ledger() -> Ledger {
    let identity = LedgerIdentity {
        provider: "https://example.com/v1".to_owned(),
        organization: String::new(),
    };
    Ledger::open_in_memory(&LedgerOptions::new(identity), at(0)).unwrap()
}

fn channel() -> ChannelId {
    ChannelId::new("command:/bin/page".to_owned())
}

fn notification(number: u8, kind: AlertKind, state: NotificationState) -> Notification {
    Notification {
        id: NotificationId::new([number; 8]),
        created_at: at(i64::from(number)),
        state,
        alert: Alert::for_key(&KeyName::new("k").unwrap(), kind),
        since: at(0),
        text: number.to_string(),
    }
}

async fn enqueue_all(ledger: &Ledger, notifications: &[Notification]) {
    for notification in notifications {
        let entry = OutboxEntry {
            notification: notification.clone(),
            channels: vec![channel()],
        };
        ledger.enqueue_notifications(vec![entry]).await.unwrap();
    }
}

/// Takes the next notification, as a worker does. Returns its row and its text.
async fn take(ledger: &Ledger, now: Timestamp) -> Option<(i64, String)> {
    match ledger.next_notification(&channel(), now).await.unwrap() {
        NextNotification::Send(pending) => Some((pending.row_id, pending.notification.text)),
        NextNotification::None | NextNotification::Wait(_) => None,
    }
}

async fn send_all(ledger: &Ledger, now: Timestamp) -> Vec<String> {
    let mut sent = Vec::new();
    while let Some((row, text)) = take(ledger, now).await {
        ledger
            .record_notification_sent(&channel(), row, now)
            .await
            .unwrap();
        sent.push(text);
    }
    sent
}

async fn fail(ledger: &Ledger, row: i64, is_refused: bool, retry_at: Timestamp) {
    let failed = FailedAttempt {
        retry_at,
        error: "it is away".to_owned(),
        is_refused,
    };
    ledger
        .record_notification_failure(&channel(), row, failed)
        .await
        .unwrap();
}

const RAISED: NotificationState = NotificationState::Raised;
const RESOLVED: NotificationState = NotificationState::Resolved;

#[tokio::test]
async fn a_reminder_takes_the_place_of_an_undelivered_notification() {
    let ledger = ledger();
    let failing = |number| notification(number, AlertKind::Failing, RAISED);
    enqueue_all(&ledger, &[failing(1), failing(2), failing(3)]).await;
    let state = ledger.channel_state(&channel()).await.unwrap();
    assert_eq!(state.undelivered, 1);
    assert_eq!(send_all(&ledger, at(10)).await, ["3"]);
}

#[tokio::test]
async fn a_reminder_is_not_tried_earlier_than_what_it_replaces() {
    let ledger = ledger();
    enqueue_all(&ledger, &[notification(1, AlertKind::Failing, RAISED)]).await;
    let (row, _) = take(&ledger, at(10)).await.unwrap();
    fail(&ledger, row, false, at(100)).await;
    enqueue_all(&ledger, &[notification(2, AlertKind::Failing, RAISED)]).await;
    assert_eq!(take(&ledger, at(50)).await, None);
    let state = ledger.channel_state(&channel()).await.unwrap();
    assert_eq!(state.failure.unwrap().error, "it is away");
    assert_eq!(send_all(&ledger, at(100)).await, ["2"]);
    let state = ledger.channel_state(&channel()).await.unwrap();
    assert_eq!((state.undelivered, state.failure), (0, None));
    assert_eq!(state.last_sent_at, Some(at(100)));
}

#[tokio::test]
async fn the_end_of_an_alert_goes_only_to_channels_that_were_told() {
    for (is_sent, expected) in [(true, vec!["2"]), (false, vec![])] {
        let ledger = ledger();
        enqueue_all(&ledger, &[notification(1, AlertKind::Failing, RAISED)]).await;
        if is_sent {
            assert_eq!(send_all(&ledger, at(5)).await, ["1"]);
        }
        enqueue_all(&ledger, &[notification(2, AlertKind::Failing, RESOLVED)]).await;
        assert_eq!(send_all(&ledger, at(10)).await, expected, "{is_sent}");
    }
}

/// The end of an alert may come while its beginning is on its way.
#[tokio::test]
async fn the_end_follows_a_beginning_that_was_being_sent() {
    for (is_accepted, expected) in [(true, vec!["2"]), (false, vec![])] {
        let ledger = ledger();
        enqueue_all(&ledger, &[notification(1, AlertKind::Failing, RAISED)]).await;
        let (row, _) = take(&ledger, at(5)).await.unwrap();
        enqueue_all(&ledger, &[notification(2, AlertKind::Failing, RESOLVED)]).await;
        if is_accepted {
            ledger
                .record_notification_sent(&channel(), row, at(6))
                .await
                .unwrap();
        } else {
            fail(&ledger, row, false, at(7)).await;
        }
        assert_eq!(send_all(&ledger, at(10)).await, expected, "{is_accepted}");
    }
}

#[tokio::test]
async fn a_reminder_that_was_sent_tells_the_channel_as_well() {
    let ledger = ledger();
    let failing = |number, state| notification(number, AlertKind::Failing, state);
    enqueue_all(&ledger, &[failing(1, RAISED)]).await;
    send_all(&ledger, at(5)).await;
    enqueue_all(&ledger, &[failing(2, RAISED)]).await;
    send_all(&ledger, at(6)).await;
    let raised = ledger.retain_channels(vec![channel()]).await.unwrap();
    let notified: Vec<_> = raised.notified_at.into_values().collect();
    assert_eq!(notified, [BTreeMap::from([(channel(), at(2))])]);
    enqueue_all(&ledger, &[failing(3, RESOLVED)]).await;
    assert_eq!(send_all(&ledger, at(7)).await, ["3"]);
}

#[tokio::test]
async fn a_refused_notification_does_not_hold_up_those_behind_it() {
    let ledger = ledger();
    enqueue_all(
        &ledger,
        &[
            notification(1, AlertKind::Failing, RAISED),
            notification(2, AlertKind::Overdue, RAISED),
        ],
    )
    .await;
    let (row, text) = take(&ledger, at(10)).await.unwrap();
    assert_eq!(text, "1");
    fail(&ledger, row, true, at(100)).await;
    assert_eq!(send_all(&ledger, at(11)).await, ["2"]);
    let next = ledger.next_notification(&channel(), at(12)).await.unwrap();
    assert_eq!(next, NextNotification::Wait(at(100)));
    assert_eq!(send_all(&ledger, at(100)).await, ["1"]);
}

/// A channel that is away for days is notified once of what still lasts then.
#[tokio::test]
async fn what_lasts_is_sent_with_a_new_id_and_its_first_start() {
    let ledger = ledger();
    let lasting = notification(1, AlertKind::Failing, RAISED);
    let once = notification(2, AlertKind::Rotated, NotificationState::OneTime);
    enqueue_all(&ledger, &[lasting.clone(), once]).await;
    let day = 86_400;
    let ended = ledger
        .abandon_notifications(&channel(), at(day), at(day + 5))
        .await
        .unwrap();
    assert_eq!((ended.abandoned, ended.renewed), (1, 1));
    let next = ledger.next_notification(&channel(), at(2 * day)).await;
    let NextNotification::Send(pending) = next.unwrap() else {
        panic!("nothing is pending");
    };
    let sent = pending.notification;
    assert_ne!(sent.id, lasting.id);
    assert_eq!((sent.since, &*sent.text), (lasting.since, "1"));
    assert_eq!(sent.created_at, at(day + 5));
    let row = pending.row_id;
    ledger
        .record_notification_sent(&channel(), row, at(2 * day))
        .await
        .unwrap();
    assert_eq!(send_all(&ledger, at(2 * day)).await, [""; 0]);
}

/// Each act of an operator is news, however long the channel is away.
#[tokio::test]
async fn acts_of_operators_do_not_replace_each_other() {
    let ledger = ledger();
    let act = |number| notification(number, AlertKind::Released, NotificationState::OneTime);
    enqueue_all(&ledger, &[act(1), act(2)]).await;
    assert_eq!(send_all(&ledger, at(10)).await, ["1", "2"]);
}

#[tokio::test]
async fn a_notification_is_recorded_once() {
    let ledger = ledger();
    let failing = notification(1, AlertKind::Failing, RAISED);
    enqueue_all(&ledger, std::slice::from_ref(&failing)).await;
    assert_eq!(send_all(&ledger, at(5)).await, ["1"]);
    enqueue_all(&ledger, &[failing]).await;
    assert_eq!(send_all(&ledger, at(6)).await, [""; 0]);
}

/// The alert ended and began again while the channel was away.
#[tokio::test]
async fn end_of_a_later_alert_reaches_who_was_told_of_the_earlier_one() {
    let ledger = ledger();
    enqueue_all(&ledger, &[notification(1, AlertKind::Failing, RAISED)]).await;
    assert_eq!(send_all(&ledger, at(5)).await, ["1"]);
    let later = |number: u8, state: NotificationState| Notification {
        since: at(10),
        ..notification(number, AlertKind::Failing, state)
    };
    let ended = notification(2, AlertKind::Failing, RESOLVED);
    enqueue_all(&ledger, &[ended, later(3, RAISED), later(4, RESOLVED)]).await;
    assert_eq!(send_all(&ledger, at(20)).await, ["4"]);
    enqueue_all(&ledger, &[later(5, RESOLVED)]).await;
    assert_eq!(
        send_all(&ledger, at(30)).await,
        [""; 0],
        "it was told of the end"
    );
}

/// Who was told of an alert is known however many notifications follow.
#[tokio::test]
async fn who_was_told_of_a_lasting_alert_is_not_forgotten() {
    let ledger = ledger();
    enqueue_all(&ledger, &[notification(1, AlertKind::Failing, RAISED)]).await;
    assert_eq!(send_all(&ledger, at(5)).await, ["1"]);
    let rotated = |number: u32| {
        let credential = CredentialId::new(format!("key_{number}"));
        let key = KeyName::new("k").unwrap();
        Notification {
            id: NotificationId::from_recorded(format!("{number:016}")),
            alert: Alert::for_credential(&key, AlertKind::Rotated, &credential),
            ..notification(2, AlertKind::Rotated, NotificationState::OneTime)
        }
    };
    let entries = (0..1_100).map(|number| OutboxEntry {
        notification: rotated(number),
        channels: vec![channel()],
    });
    ledger
        .enqueue_notifications(entries.collect())
        .await
        .unwrap();
    send_all(&ledger, at(6)).await;
    enqueue_all(&ledger, &[notification(3, AlertKind::Failing, RESOLVED)]).await;
    assert_eq!(send_all(&ledger, at(7)).await, ["3"]);
}

/// A batch may be on its way while its key is renamed.
#[tokio::test]
async fn notification_under_a_former_name_counts_for_the_present_one() {
    let ledger = ledger();
    ledger
        .submit(|connection| {
            connection.execute("INSERT INTO key_state (key) VALUES ('k')", [])?;
            Ok(())
        })
        .await
        .unwrap();
    let present = KeyName::new("present").unwrap();
    let rename = Rename {
        from: KeyName::new("k").unwrap(),
        to: present.clone(),
    };
    ledger.rename_keys(vec![rename], at(1)).await.unwrap();
    enqueue_all(&ledger, &[notification(1, AlertKind::Failing, RAISED)]).await;
    let raised = ledger.retain_channels(vec![channel()]).await.unwrap();
    let alert = Alert::for_key(&present, AlertKind::Failing);
    assert_eq!(
        raised.since.into_keys().collect::<Vec<_>>(),
        std::slice::from_ref(&alert)
    );
    assert_eq!(send_all(&ledger, at(5)).await, ["1"]);
    let ended = Notification {
        alert,
        ..notification(2, AlertKind::Failing, RESOLVED)
    };
    enqueue_all(&ledger, &[ended]).await;
    assert_eq!(send_all(&ledger, at(6)).await, ["2"]);
}
