//! Answers to creates that cannot be true.

use std::sync::Arc;
use std::time::Duration;

use crate::core::active_credential::ActiveCredential;
use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, LyingAnswer, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::tests::rotation_request;
use crate::engine::{Engine, RunMode, Services};
use crate::sink::self_credential::SelfCredentialSink;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const MINUTE: Duration = Duration::from_secs(60);
const OWN_SECRET: &str = "sk-admin-of-rekeyd-itself";

/// Returns a daemon whose key has `key_1` and is about to be rotated by request; the
/// provider also has `key_foreign`, which nobody but its owner may delete.
async fn open_daemon(fakes: &Fakes) -> Engine {
    fakes.set_own_secret(OWN_SECRET);
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

fn lies() -> Vec<LyingAnswer> {
    let text = |text: &str| Some(text.to_owned());
    let id = |id: &str| LyingAnswer {
        id: text(id),
        ..LyingAnswer::default()
    };
    let name = |name: &str| LyingAnswer {
        name: text(name),
        ..LyingAnswer::default()
    };
    let secret = |secret: String| LyingAnswer {
        secret: Some(secret),
        ..LyingAnswer::default()
    };
    vec![
        // Its own current credential, and one of somebody else.
        id("key_1"),
        id("key_foreign"),
        LyingAnswer {
            name: text("someone's"),
            ..id("key_foreign")
        },
        name("Administration Key"),
        name("billing-20260101T000000Z-000000"),
        secret(OWN_SECRET.to_owned()),
        // What works as well: servers trim a header, and some ignore the case.
        secret(format!("{OWN_SECRET} ")),
        secret(format!(" {OWN_SECRET}")),
        secret(OWN_SECRET.to_uppercase()),
        secret(OWN_SECRET.replace("sk-admin-", "sk-proj-")),
        secret(OWN_SECRET.replace("sk-admin-", "")),
        secret(format!("{OWN_SECRET}==")),
        // What the readers of a file take for something else.
        secret("sk-admin-$(id)-of-nobody".to_owned()),
        secret("sk-admin-of-nobody ".to_owned()),
        secret("sk-admin-of nobody".to_owned()),
        secret("\"sk-admin-of-nobody\"".to_owned()),
        secret("KEY=sk-admin-of-nobody".to_owned()),
        secret("sk-admin-...body".to_owned()),
    ]
}

#[tokio::test]
async fn an_answer_that_cannot_be_true_is_settled_by_its_label() {
    for lie in lies() {
        let fakes = Fakes::new(&[("key_1", "label-1"), ("key_foreign", "someone's")]);
        let mut engine = open_daemon(&fakes).await;
        fakes.lie_in_creates(lie.clone());
        request(&mut engine);
        let (captured, _guard) = CapturedLog::capture();
        fakes.run_for(&mut engine, Duration::from_secs(5)).await;
        assert_eq!(
            captured.lines_with("WARN", "for the credential").len(),
            1,
            "{lie:?}"
        );
        let calls = fakes.take_calls();
        assert!(!calls.contains(&"deliver".to_owned()), "{lie:?}: {calls:?}");
        // What was made is found by its label and revoked, and nothing else is.
        assert_eq!(
            fakes.live_ids(),
            ["key_1", "key_foreign"].map(str::to_owned),
            "{lie:?}"
        );
        assert_eq!(fakes.journal_details("answer-rejected").len(), 1, "{lie:?}");
        let state = engine.state(&key()).unwrap();
        assert_eq!(
            state
                .current()
                .unwrap()
                .credential
                .as_ref()
                .unwrap()
                .id
                .as_str(),
            "key_1"
        );
        // The rotation is tried again, and succeeds when the provider is in order.
        fakes.lie_in_creates(LyingAnswer::default());
        fakes.run_for(&mut engine, MINUTE * 30).await;
        let state = engine.state(&key()).unwrap();
        let current = state.current().unwrap().credential.as_ref().unwrap();
        assert!(
            current.id.as_str().starts_with("key_of_billing-"),
            "{lie:?}"
        );
        assert!(
            fakes.live_ids().contains(&"key_foreign".to_owned()),
            "{lie:?}"
        );
    }
}

/// A cache repeats the answer to an earlier create.
#[tokio::test]
async fn a_secret_that_was_delivered_before_is_not_delivered_again() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open_daemon(&fakes).await;
    fakes.lie_in_creates(LyingAnswer {
        secret: Some("sk-admin-of-the-first-answer".to_owned()),
        ..LyingAnswer::default()
    });
    request(&mut engine);
    fakes.run_for(&mut engine, MINUTE * 5).await;
    let first = fakes.live_ids();
    request(&mut engine);
    fakes.take_calls();
    fakes.run_for(&mut engine, Duration::from_secs(5)).await;
    assert_eq!(fakes.live_ids(), first);
    assert!(!fakes.take_calls().contains(&"deliver".to_owned()));
    assert!(fakes.journal_details("answer-rejected")[0].contains("earlier credential"));
}

/// A provider whose answer says that the new credential has ended already.
#[tokio::test]
async fn times_that_cannot_be_true_start_no_rotation() {
    let at = |text: &str| Some(text.parse().unwrap());
    for (created_at, expires_at) in [
        (None, at("2001-09-09T01:46:41Z")),
        (at("2096-10-02T07:06:40Z"), None),
        (at("2096-10-02T07:06:40Z"), at("2096-10-02T07:06:40Z")),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open_daemon(&fakes).await;
        fakes.lie_in_creates(LyingAnswer {
            created_at,
            expires_at,
            ..LyingAnswer::default()
        });
        request(&mut engine);
        let (captured, _guard) = CapturedLog::capture();
        fakes.run_for(&mut engine, MINUTE * 30).await;
        let calls = fakes.take_calls();
        let creates = calls.iter().filter(|call| *call == "create").count();
        assert_eq!(creates, 1, "{created_at:?} {expires_at:?}: {calls:?}");
        let reports = captured
            .lines_with("WARN", "unreadable or impossible")
            .len();
        assert!(reports >= 1, "{created_at:?} {expires_at:?}");
        let state = engine.state(&key()).unwrap();
        let current = state.current().unwrap().credential.clone().unwrap();
        assert!(current.id.as_str().starts_with("key_of_billing-"));
        assert!(current.expires_at.is_none(), "{current:?}");
        let recorded_at = current.created_at;
        assert!(
            recorded_at.is_none() || recorded_at != created_at,
            "{current:?}"
        );
    }
}

/// The next start reads what the sink `self` writes.
#[tokio::test]
async fn no_secret_of_another_kind_replaces_the_admin_key() {
    let secrets = [
        "sk-proj-abcdefghijkl",
        "sess-abcdefghijkl",
        "key_abcdefghijkl",
    ];
    for (secret, is_own_key, is_delivered) in [
        (secrets[0], true, false),
        (secrets[1], true, false),
        (secrets[2], true, false),
        ("sk-other-abcdefghijkl", true, true),
        (secrets[0], false, true),
        (secrets[1], false, true),
    ] {
        let fakes = Fakes::new(&[]);
        fakes.set_own_secret(OWN_SECRET);
        let mut managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
        if is_own_key {
            for (sink, _) in &mut managed.sinks {
                let replaced = SelfCredentialSink::new(sink.clone(), ActiveCredential::new());
                *sink = Arc::new(replaced);
            }
        }
        let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
        fakes.lie_in_creates(LyingAnswer {
            secret: Some(secret.to_owned()),
            ..LyingAnswer::default()
        });
        request(&mut engine);
        fakes.run_for(&mut engine, Duration::from_secs(5)).await;
        let calls = fakes.take_calls();
        assert_eq!(
            calls.contains(&"deliver".to_owned()),
            is_delivered,
            "{secret}: {calls:?}"
        );
        let rejected = fakes.journal_details("answer-rejected");
        assert_eq!(rejected.is_empty(), is_delivered, "{secret}: {rejected:?}");
        assert!(!format!("{rejected:?}").contains("abcdefghijkl"));
    }
}

/// Each further create could leave one more credential behind that no list shows.
#[tokio::test]
async fn a_key_stops_after_two_rejected_answers_that_no_list_explains() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open_daemon(&fakes).await;
    fakes.create_nothing(true);
    fakes.lie_in_creates(LyingAnswer {
        id: Some("key_1".to_owned()),
        ..LyingAnswer::default()
    });
    request(&mut engine);
    fakes.run_for(&mut engine, DAY * 2).await;
    let creates = |fakes: &Fakes| {
        let calls = fakes.take_calls();
        calls.iter().filter(|call| *call == "create").count()
    };
    assert_eq!(creates(&fakes), 2);
    let state = engine.state(&key()).unwrap();
    let problem = state.last_error.clone().unwrap();
    assert!(
        problem.contains("responses to a create were wrong"),
        "{problem}"
    );
    assert_eq!(state.current().unwrap().phase, Phase::Current);
    // A restart does not forget it, and an operator can insist.
    drop(engine);
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, DAY).await;
    assert_eq!(creates(&fakes), 0);
    fakes.create_nothing(false);
    fakes.lie_in_creates(LyingAnswer::default());
    request(&mut engine);
    fakes.run_for(&mut engine, MINUTE * 10).await;
    assert_eq!(creates(&fakes), 1);
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.last_error, None);
}

/// A provider that treats a create as an update gives a credential with a row the new
/// label: no create made it, whichever key has it.
#[tokio::test]
async fn a_credential_with_a_row_is_never_what_an_unclear_create_made() {
    for id in ["key_1", "key_9"] {
        let fakes = Fakes::new(&[("key_1", "label-1"), ("key_9", "label-9")]);
        let web = KeyName::new("web").unwrap();
        let rows = vec![(key(), current(1)), (web, current(9))];
        fakes.write_ledger(rows).await;
        let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
        let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
        fakes.run_for(&mut engine, MINUTE).await;
        fakes.take_calls();
        fakes.lie_in_creates(LyingAnswer {
            id: Some(id.to_owned()),
            is_upsert: true,
            ..LyingAnswer::default()
        });
        request(&mut engine);
        fakes.run_for(&mut engine, DAY * 2).await;
        let calls = fakes.take_calls();
        let creates = calls.iter().filter(|call| *call == "create").count();
        assert_eq!(creates, 2, "{calls:?}");
        assert_eq!(fakes.live_ids(), ["key_1", "key_9"].map(str::to_owned));
        let state = engine.state(&key()).unwrap();
        assert_eq!(state.newest_phase, Some(Phase::Failed), "{id}");
        let problem = state.last_error.clone().unwrap();
        assert!(problem.contains(id), "{problem}");
    }
}

const WEB_SECRET: &str = "sk-admin-of-web-0123456789wxYz";

/// Returns a daemon that was started after `web` received `key_9` with [`WEB_SECRET`], and
/// that is about to rotate `billing` by request.
async fn open_daemon_beside_web(fakes: &Fakes) -> Engine {
    let web = KeyName::new("web").unwrap();
    let rows = vec![(key(), current(1)), (web.clone(), current(9))];
    fakes.write_ledger(rows).await;
    fakes.execute_sql(
        "UPDATE rotation SET redacted_value = 'sk-admin...wxYz' WHERE credential_id = 'key_9'",
    );
    let managed =
        [key(), web].map(|name| fakes.managed_key(name, |policy| policy.overlap = MINUTE));
    // Both keys may be at work at once.
    let services = Services {
        max_in_flight: 2,
        ..fakes.services()
    };
    let opened = Engine::open(services, managed.into(), RunMode::Daemon).await;
    let mut engine = opened.unwrap();
    fakes.run_for(&mut engine, MINUTE).await;
    fakes.take_calls();
    engine
}

fn fakes_with_web() -> Fakes {
    Fakes::new(&[("key_1", "label-1"), ("key_9", "label-9")])
}

fn answer_secret(secret: &str) -> LyingAnswer {
    LyingAnswer {
        secret: Some(secret.to_owned()),
        ..LyingAnswer::default()
    }
}

/// The process that delivered the secret has ended, so that nothing but the end of it, and
/// what the other key's target holds, are known.
#[tokio::test]
async fn the_secret_of_another_key_is_not_delivered_after_a_restart() {
    for (held, secret) in [
        (Some(WEB_SECRET), WEB_SECRET.to_owned()),
        (Some(WEB_SECRET), WEB_SECRET.to_uppercase()),
        (Some(WEB_SECRET), WEB_SECRET.replace("sk-admin", "sk-proj")),
        (None, WEB_SECRET.to_owned()),
        (
            Some("sk-admin-of-somebody-else-000000"),
            WEB_SECRET.to_owned(),
        ),
    ] {
        let fakes = fakes_with_web();
        let mut engine = open_daemon_beside_web(&fakes).await;
        if let Some(held) = held {
            fakes.hold_key("file", held);
        }
        fakes.lie_in_creates(answer_secret(&secret));
        request(&mut engine);
        fakes.run_for(&mut engine, DAY).await;
        let calls = fakes.take_calls();
        assert!(
            !calls.contains(&"deliver".to_owned()),
            "{held:?}: {calls:?}"
        );
        assert_eq!(fakes.live_ids(), ["key_1", "key_9"].map(str::to_owned));
        assert!(!fakes.journal_details("answer-rejected").is_empty());
    }
}

/// The provider shows the credential that it really made with another end.
#[tokio::test]
async fn a_new_credential_that_shows_another_end_does_not_have_the_secret() {
    let fakes = fakes_with_web();
    let mut engine = open_daemon_beside_web(&fakes).await;
    fakes.show_redacted("sk-admin...a1B2");
    fakes.lie_in_creates(answer_secret(WEB_SECRET));
    request(&mut engine);
    fakes.run_for(&mut engine, Duration::from_secs(5)).await;
    assert!(!fakes.take_calls().contains(&"deliver".to_owned()));
    let problem = &fakes.journal_details("answer-rejected")[0];
    assert!(problem.contains("shows another end"), "{problem}");
}

/// Among many keys some secrets end alike by chance.
#[tokio::test]
async fn an_honest_secret_with_the_end_of_another_is_delivered() {
    // The other key's target shows that its secret is another one.
    let fakes = fakes_with_web();
    let mut engine = open_daemon_beside_web(&fakes).await;
    fakes.hold_key("file", WEB_SECRET);
    fakes.lie_in_creates(answer_secret("sk-admin-new-98765432100wxYz"));
    request(&mut engine);
    fakes.run_for(&mut engine, Duration::from_secs(5)).await;
    assert!(fakes.take_calls().contains(&"deliver".to_owned()));
    assert_eq!(fakes.journal_details("answer-rejected").len(), 0);
    // No target can be read: a fresh secret with another end settles it.
    let fakes = fakes_with_web();
    let mut engine = open_daemon_beside_web(&fakes).await;
    fakes.lie_in_creates(answer_secret("sk-admin-new-98765432100wxYz"));
    request(&mut engine);
    fakes.run_for(&mut engine, Duration::from_secs(2)).await;
    assert_eq!(fakes.journal_details("answer-rejected").len(), 1);
    assert!(!fakes.take_calls().contains(&"deliver".to_owned()));
    fakes.lie_in_creates(answer_secret("sk-admin-next-98765432101wxZZ"));
    fakes.run_for(&mut engine, MINUTE * 30).await;
    assert_eq!(fakes.journal_details("answer-rejected").len(), 1);
    assert!(fakes.take_calls().contains(&"deliver".to_owned()));
}

/// One new id is answered to several keys at once: one of them has it.
#[tokio::test]
async fn an_id_that_several_keys_are_answered_belongs_to_one() {
    let web = KeyName::new("web").unwrap();
    let fakes = fakes_with_web();
    let mut engine = open_daemon_beside_web(&fakes).await;
    fakes.lie_in_creates(LyingAnswer {
        id: Some("key_same".to_owned()),
        ..LyingAnswer::default()
    });
    request(&mut engine);
    engine.request_rotation(&web, rotation_request());
    let (captured, _guard) = CapturedLog::capture();
    fakes.run_for(&mut engine, Duration::from_secs(5)).await;
    assert!(captured.lines_with("ERROR", "").is_empty());
    assert_eq!(fakes.journal_details("answer-rejected").len(), 1);
    let owners = "SELECT key FROM rotation WHERE credential_id = 'key_same'";
    assert_eq!(fakes.query_rows(owners).len(), 1);
    let open = "SELECT key FROM rotation WHERE phase = 'intended'";
    assert_eq!(fakes.query_rows(open).len(), 0);
}

/// Providers show days and hours alone, local times, and times of clocks that are behind.
/// Nobody else knows the label: what bears it is rekeyd's.
#[tokio::test]
async fn a_credential_with_the_label_is_its_own_whatever_its_time() {
    for created_at in [
        "2026-11-24T03:00:00Z",
        "2026-11-24T02:54:07Z",
        "2026-11-23T22:00:07Z",
        "2026-11-23T00:00:00Z",
        "2026-08-24T03:00:07Z",
        "2001-09-09T01:46:41Z",
    ] {
        for (is_nameless, is_lost) in [(false, false), (true, false), (false, true)] {
            let fakes = Fakes::new(&[("key_1", "label-1")]);
            let mut engine = open_daemon(&fakes).await;
            fakes.run_for(&mut engine, MINUTE * 20).await;
            fakes.take_calls();
            let lie = LyingAnswer {
                created_at: Some(created_at.parse().unwrap()),
                is_shown_alike: true,
                is_nameless,
                is_lost,
                ..LyingAnswer::default()
            };
            fakes.lie_in_creates(lie.clone());
            request(&mut engine);
            fakes.run_for(&mut engine, Duration::from_secs(20)).await;
            let calls = fakes.take_calls();
            let is_delivered = calls.contains(&"deliver".to_owned());
            assert_eq!(is_delivered, !is_lost, "{lie:?}: {calls:?}");
            // What was made by a lost answer is revoked, and another one created.
            fakes.lie_in_creates(LyingAnswer::default());
            // The previous one goes after its overlap.
            fakes.run_for(&mut engine, DAY).await;
            let live = fakes.live_ids();
            assert_eq!(live.len(), 1, "{lie:?}: {live:?}");
            assert!(!live.contains(&"key_1".to_owned()), "{lie:?}: {live:?}");
        }
    }
}

/// Whatever name it bears, or none: a credential that is older than the create belongs to
/// somebody else.
#[tokio::test]
async fn a_credential_that_is_older_than_the_create_is_left_alone() {
    let replayed = |created_at: &str, name: Option<&str>| LyingAnswer {
        id: Some("key_foreign".to_owned()),
        name: name.map(str::to_owned),
        created_at: Some(created_at.parse().unwrap()),
        is_nameless: name.is_none(),
        ..LyingAnswer::default()
    };
    let relabelled = LyingAnswer {
        is_upsert: true,
        ..replayed("2026-11-24T03:00:07Z", Some("someone's"))
    };
    // The answer has the new label, and what else shows the credential does not.
    let composed = LyingAnswer {
        is_nameless: false,
        ..replayed("2026-08-24T03:00:00Z", None)
    };
    let listed = LyingAnswer {
        is_lost: true,
        is_found_by_label: true,
        ..replayed("2026-08-24T03:00:00Z", None)
    };
    for (lie, creates_nothing) in [
        (replayed("2026-11-23T03:00:07Z", None), false),
        (replayed("2026-08-24T03:00:00Z", None), true),
        (replayed("2001-09-09T01:46:41Z", None), false),
        (replayed("2026-11-24T03:00:07Z", None), false),
        (composed, false),
        (listed, true),
        (relabelled, true),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open_daemon(&fakes).await;
        // Created manually, after the last list; only one that a list showed can get a
        // label that everything shows.
        fakes.add_credential("key_foreign", "someone's");
        let minutes = if lie.is_upsert { 200 } else { 120 };
        fakes.run_for(&mut engine, MINUTE * minutes).await;
        fakes.take_calls();
        fakes.create_nothing(creates_nothing);
        fakes.lie_in_creates(lie.clone());
        request(&mut engine);
        fakes.run_for(&mut engine, MINUTE * 5).await;
        let calls = fakes.take_calls();
        assert!(!calls.contains(&"deliver".to_owned()), "{lie:?}: {calls:?}");
        let claimed = "SELECT phase FROM history WHERE credential_id = 'key_foreign'";
        if !lie.is_upsert {
            assert_eq!(fakes.query_rows(claimed), [""; 0], "{lie:?}");
        }
        let errors = fakes
            .query_rows("SELECT coalesce(error, '') FROM history")
            .concat();
        let is_named_older = errors.contains("key_foreign has its label, but is older");
        assert_eq!(is_named_older, lie.is_found_by_label, "{lie:?}: {errors}");
        fakes.create_nothing(false);
        fakes.lie_in_creates(LyingAnswer::default());
        request(&mut engine);
        fakes.run_for(&mut engine, DAY).await;
        let calls = fakes.take_calls();
        assert!(calls.contains(&"deliver".to_owned()), "{lie:?}: {calls:?}");
        let is_deleted = calls.contains(&"delete key_foreign".to_owned());
        assert!(!is_deleted, "{lie:?}: {calls:?}");
        assert!(
            fakes.live_ids().contains(&"key_foreign".to_owned()),
            "{lie:?}"
        );
    }
}

/// The provider shows no end of any secret, and that of an unclear create was lost: what it
/// made is newer than the secret that the create was sent with.
#[tokio::test]
async fn what_an_unclear_create_made_is_revoked_although_no_end_is_shown() {
    for (created_at, switches, is_revoked) in [
        (None, false, true),
        // Nothing but its label says that the create made it.
        (Some("2026-08-24T03:00:07Z"), false, false),
        // What rekeyd works with now is not what it sent the create with.
        (None, true, false),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open_daemon(&fakes).await;
        fakes.run_for(&mut engine, MINUTE * 20).await;
        fakes.work_with(OWN_SECRET);
        fakes.lie_in_creates(LyingAnswer {
            created_at: created_at.map(|at| at.parse().unwrap()),
            is_shown_alike: true,
            is_lost: true,
            ..LyingAnswer::default()
        });
        request(&mut engine);
        fakes.run_for(&mut engine, Duration::ZERO).await;
        if switches {
            fakes.set_own_secret("sk-admin-of-another-place");
        }
        fakes.lie_in_creates(LyingAnswer::default());
        fakes.run_for(&mut engine, DAY).await;
        let phases = fakes.query_rows("SELECT phase FROM rotation ORDER BY sequence");
        let expected = if is_revoked { "revoked" } else { "orphaned" };
        assert_eq!(phases[1], expected, "{created_at:?} {switches}: {phases:?}");
        // An earlier process received the secret of the first one.
        assert_eq!(
            phases[0], "retired",
            "{created_at:?} {switches}: {phases:?}"
        );
    }
}
