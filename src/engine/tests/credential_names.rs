//! The names of credentials: what the provider changes, and what no name confirms.

use std::time::Duration;

use crate::core::lifecycle::Phase;
use crate::core::time;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, NameRule, at, key};
use crate::engine::tests::rotation_changes::{current, intended};
use crate::engine::tests::rotation_request;
use crate::engine::{Engine, RunMode};
use crate::provider::{Effect, ErrorKind};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

async fn open_daemon(fakes: &Fakes) -> Engine {
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    fakes.take_calls();
    engine
}

fn request(engine: &mut Engine) {
    engine.request_rotation(&key(), rotation_request());
}

#[tokio::test]
async fn a_changed_name_is_recorded_and_recognized_at_the_deletion() {
    for rule in [
        NameRule::Cut(27),
        NameRule::Lower,
        NameRule::Prefix("acme/"),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open_daemon(&fakes).await;
        fakes.change_names(rule);
        let (captured, _guard) = CapturedLog::capture();
        for _ in 0..3 {
            request(&mut engine);
            fakes.run_for(&mut engine, MINUTE * 10).await;
        }
        assert_eq!(
            captured.lines_with("WARN", "changed the name").len(),
            1,
            "{rule:?}"
        );
        let state = engine.state(&key()).unwrap();
        assert_eq!(state.last_error, None);
        let current = state.current().unwrap();
        let label = current.label.as_ref().unwrap().as_str();
        assert_eq!(current.name.as_deref(), Some(rule.apply(label).as_str()));
        // The earlier ones were recognized by their recorded names, and revoked.
        assert_eq!(fakes.live_ids().len(), 1, "{rule:?}");
    }
}

/// Somebody renamed the credential, or its id came from an answer that was not true.
#[tokio::test]
async fn a_credential_under_another_name_is_kept_and_reported_once() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open_daemon(&fakes).await;
    fakes.add_credential("key_1", "someone's");
    request(&mut engine);
    let (captured, _guard) = CapturedLog::capture();
    fakes.run_for(&mut engine, HOUR * 10).await;
    assert!(fakes.live_ids().contains(&"key_1".to_owned()));
    let calls = fakes.take_calls();
    assert!(
        !calls.iter().any(|call| call.starts_with("delete")),
        "{calls:?}"
    );
    let errors = captured.lines_with("ERROR", "the provider shows it as");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains("rekeyd revoke key_1 --force --name"),
        "{errors:?}"
    );
    let deferral = fakes.query_rows("SELECT deferral FROM rotation WHERE phase = 'retired'");
    assert_eq!(deferral, ["other-name"]);
    // It is revoked once it bears its own name again.
    fakes.add_credential("key_1", "label-1");
    fakes.run_for(&mut engine, HOUR).await;
    assert!(!fakes.live_ids().contains(&"key_1".to_owned()));
}

/// The recorded credential is somebody else's, so that the one with the label may be the
/// one in the sinks.
#[tokio::test]
async fn a_credential_with_the_label_of_an_unidentified_one_is_no_double() {
    let fakes = Fakes::new(&[("key_1", "someone's"), ("key_real", "label-1")]);
    let mut engine = open_daemon(&fakes).await;
    fakes.run_for(&mut engine, HOUR * 2).await;
    assert_eq!(fakes.live_ids(), ["key_1", "key_real"].map(str::to_owned));
    let calls = fakes.take_calls();
    assert!(
        !calls.iter().any(|call| call.starts_with("delete")),
        "{calls:?}"
    );
}

/// The answer to a create is lost at a provider that changes names. It is settled by a
/// changed name only where the provider was seen to make this change.
#[tokio::test]
async fn an_unclear_create_is_settled_by_a_change_that_was_seen() {
    for is_seen in [true, false] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open_daemon(&fakes).await;
        if is_seen {
            fakes.change_names(NameRule::Cut(27));
            request(&mut engine);
            fakes.run_for(&mut engine, MINUTE * 10).await;
        }
        fakes.fail_creates(Some((ErrorKind::NoAnswer, Effect::Unknown)));
        request(&mut engine);
        fakes.run_for(&mut engine, Duration::ZERO).await;
        let open = engine
            .state(&key())
            .unwrap()
            .open_rotation()
            .unwrap()
            .clone();
        assert_eq!(open.phase, Phase::Intended);
        let label = open.label.unwrap();
        fakes.add_credential("key_lost", &label.as_str()[..27]);
        fakes.fail_creates(None);
        fakes.run_for(&mut engine, MINUTE / 2).await;
        let is_alive = fakes.live_ids().contains(&"key_lost".to_owned());
        assert_eq!(is_alive, !is_seen);
        // Once it is seen, a reconciliation settles it as well, and at once: until then the
        // credential would count as somebody else's.
        fakes.change_names(NameRule::Cut(27));
        request(&mut engine);
        fakes.run_for(&mut engine, Duration::ZERO).await;
        let row = "SELECT key FROM rotation WHERE credential_id = 'key_lost'";
        assert_eq!(fakes.query_rows(row).len(), 1, "{is_seen}");
        fakes.run_for(&mut engine, HOUR * 2).await;
        assert!(
            !fakes.live_ids().contains(&"key_lost".to_owned()),
            "{is_seen}"
        );
    }
}

/// Two listed credentials have the changed name of one unclear create: nothing tells which
/// one it made.
#[tokio::test]
async fn several_credentials_with_a_changed_name_are_left_alone() {
    for is_late in [false, true] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open_daemon(&fakes).await;
        fakes.change_names(NameRule::Cut(27));
        request(&mut engine);
        fakes.run_for(&mut engine, MINUTE * 10).await;
        fakes.fail_creates(Some((ErrorKind::NoAnswer, Effect::Unknown)));
        request(&mut engine);
        fakes.run_for(&mut engine, Duration::ZERO).await;
        let state = engine.state(&key()).unwrap();
        let label = state.open_rotation().unwrap().label.clone().unwrap();
        let add_both = || {
            for id in ["key_a", "key_b"] {
                fakes.add_credential(id, &label.as_str()[..27]);
            }
        };
        // Seen by the search for the label, or by a later list.
        if !is_late {
            add_both();
        }
        fakes.run_for(&mut engine, MINUTE).await;
        if is_late {
            add_both();
        }
        fakes.fail_creates(None);
        fakes.run_for(&mut engine, HOUR * 2).await;
        request(&mut engine);
        fakes.run_for(&mut engine, HOUR * 2).await;
        let live = fakes.live_ids();
        for id in ["key_a", "key_b"] {
            assert!(live.contains(&id.to_owned()), "{is_late}: {live:?}");
            let rows = format!("SELECT key FROM rotation WHERE credential_id = '{id}'");
            assert!(fakes.query_rows(&rows).is_empty());
        }
    }
}

/// A schedule fires at whole hours, so that a precise time may look like an hour alone.
#[tokio::test]
async fn whole_hour_proves_a_nameless_credential_where_times_are_precise() {
    for (seconds, is_revoked) in [(0, false), (900, false), (86_400, false), (7, true)] {
        let fakes = Fakes::new(&[("key_1", "label-1"), ("key_hand", "by hand")]);
        let hand_made_at = time::before(at(), Duration::from_secs(seconds));
        fakes.set_created("key_hand", hand_made_at);
        fakes.hide_names("");
        let mut engine = open_daemon(&fakes).await;
        request(&mut engine);
        fakes.run_for(&mut engine, HOUR * 2).await;
        let is_alive = fakes.live_ids().contains(&"key_1".to_owned());
        assert_eq!(is_alive, !is_revoked, "{seconds}");
    }
}

/// Two credentials bear the label of an unclear create in the list, and an answer about one
/// of them, or about both, shows no name: nothing tells that it is rekeyd's, unless it has
/// the row of the create and a precise time of creation.
#[tokio::test]
async fn unidentified_credential_with_the_label_of_an_unclear_create_ends_the_search() {
    for (nameless, is_left) in [("key_a", false), ("key_b", true), ("key_", true)] {
        let fakes = Fakes::new(&[
            ("key_a", "label-1"),
            ("key_b", "label-1"),
            ("key_hand", "by hand"),
        ]);
        let precise = time::before(at(), Duration::from_secs(7));
        fakes.set_created("key_hand", precise);
        fakes.hide_names(nameless);
        fakes.write_ledger(vec![(key(), intended(1))]).await;
        let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
        let (captured, _guard) = CapturedLog::capture();
        let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
        fakes.run_for(&mut engine, HOUR * 5).await;
        let calls = fakes.take_calls();
        let searches = calls.iter().filter(|call| call.starts_with("find "));
        assert!(searches.count() <= 2, "{nameless}: {calls:?}");
        let live = fakes.live_ids();
        assert!(!live.contains(&"key_a".to_owned()), "{nameless}: {live:?}");
        assert_eq!(
            live.contains(&"key_b".to_owned()),
            is_left,
            "{nameless}: {live:?}"
        );
        let state = engine.state(&key()).unwrap();
        assert!(state.current().is_some(), "{nameless}: {state:?}");
        let advice = captured.lines_with("ERROR", "inspect it at the provider");
        assert_eq!(!advice.is_empty(), is_left, "{nameless}");
    }
}

/// The provider shows no end of any secret, so that a double of an earlier process may be
/// what rekeyd works with; one of this process is newer than that.
#[tokio::test]
async fn doubles_without_a_shown_end_end_the_search() {
    const OWN_SECRET: &str = "sk-admin-of-rekeyd-itself";
    for is_of_this_process in [false, true] {
        let fakes = Fakes::new(&[("key_0", "by hand")]);
        fakes.work_with(OWN_SECRET);
        let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
        let mut engine = if is_of_this_process {
            let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
            fakes.run_for(&mut engine, MINUTE).await;
            fakes.fail_creates(Some((ErrorKind::NoAnswer, Effect::Unknown)));
            request(&mut engine);
            fakes.run_for(&mut engine, Duration::ZERO).await;
            let open = engine.state(&key()).unwrap().open_rotation().cloned();
            let label = open.unwrap().label.unwrap();
            fakes.add_credential("key_a", label.as_str());
            fakes.add_credential("key_b", label.as_str());
            fakes.fail_creates(None);
            engine
        } else {
            fakes.add_credential("key_a", "label-1");
            fakes.add_credential("key_b", "label-1");
            fakes.write_ledger(vec![(key(), intended(1))]).await;
            fakes.open_engine(vec![managed], RunMode::Daemon).await
        };
        fakes.run_for(&mut engine, HOUR * 5).await;
        let calls = fakes.take_calls();
        let searches = calls.iter().filter(|call| call.starts_with("find "));
        assert!(searches.count() <= 3, "{is_of_this_process}: {calls:?}");
        let live = fakes.live_ids();
        for id in ["key_a", "key_b"] {
            let is_gone = !live.contains(&id.to_owned());
            assert_eq!(is_gone, is_of_this_process, "{id}: {live:?}");
        }
        let state = engine.state(&key()).unwrap();
        assert!(state.current().is_some(), "{is_of_this_process}: {state:?}");
    }
}
