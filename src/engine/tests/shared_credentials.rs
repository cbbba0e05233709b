//! One credential that several keys have adopted.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::core::authority::Authority;
use crate::core::change::{Change, OperatorChange, OperatorNote};
use crate::core::ids::{CredentialId, KeyName};
use crate::core::scope::Scope;
use crate::core::state::HELD_UNTIL_RELEASED;
use crate::core::time;
use crate::engine::operator_command::{
    CommandError, FileHolder, OperatorCommand, PendingCommand, Unrecognized,
};
use crate::engine::tests::fake::{Fakes, at, key, sink_named};
use crate::engine::tests::rotation_changes::adopted;
use crate::engine::{Engine, ManagedKey, RotationRequest, RunMode};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
/// The overlap of the first key; the other one has a longer one.
const OVERLAP: Duration = HOUR;

fn other() -> KeyName {
    KeyName::new("reports").unwrap()
}

/// Returns the two keys, each with a sink of its own.
fn keys(fakes: &Fakes) -> Vec<ManagedKey> {
    let mut first = fakes.key_with("@monthly", &[("first", true)]);
    let mut second = fakes.key_with("@monthly", &[("second", true)]);
    for (managed, name, overlap) in [
        (&mut first, key(), OVERLAP),
        (&mut second, other(), OVERLAP * 2),
    ] {
        managed.name = name;
        let policy = Arc::make_mut(&mut managed.policy);
        policy.overlap = overlap;
        policy.revoke_when_idle_for = Duration::ZERO;
    }
    vec![first, second]
}

/// Returns the adoption of `key_1` with a sink that its consumers read.
fn adoption(number: u64, sink: &str) -> Change {
    let Change::Operator(OperatorChange::CredentialAdopted(mut adopted)) =
        adopted(number, Scope::AdminKeys)
    else {
        panic!("no adoption");
    };
    adopted.credential.id = CredentialId::new("key_1".to_owned());
    adopted.sinks = vec![(sink_named(sink), true)];
    Change::from(adopted)
}

async fn engine_of(fakes: &Fakes, is_shared: bool) -> Engine {
    let mut rows = vec![(key(), vec![adoption(1, "first")])];
    if is_shared {
        rows.push((other(), vec![adoption(2, "second")]));
    }
    fakes.write_ledger(rows).await;
    let mut services = fakes.services();
    services.max_in_flight = 4;
    Engine::open(services, keys(fakes), RunMode::Daemon)
        .await
        .unwrap()
}

fn rotate(engine: &mut Engine, key: &KeyName, revoke_previous: bool) {
    let request = RotationRequest {
        operator: None,
        revoke_previous,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    assert!(engine.request_rotation(key, request));
}

fn submit(
    engine: &mut Engine,
    key: &KeyName,
    command: OperatorCommand,
) -> oneshot::Receiver<Result<String, CommandError>> {
    let (reply, receiver) = oneshot::channel();
    let pending = PendingCommand {
        command,
        started: Arc::default(),
        reply,
    };
    assert!(engine.submit_command(key, pending));
    receiver
}

fn revoke(force: bool) -> OperatorCommand {
    OperatorCommand::Revoke {
        credential: CredentialId::new("key_1".to_owned()),
        force,
        name: None,
        authority: Authority::Full,
        operator: None,
    }
}

fn is_alive(fakes: &Fakes) -> bool {
    fakes.live_ids().contains(&"key_1".to_owned())
}

/// Returns the phases of the rows of `key_1`.
fn phases(fakes: &Fakes) -> Vec<String> {
    fakes.query_rows(
        "SELECT key || ' ' || phase FROM history WHERE credential_id = 'key_1'
        ORDER BY key",
    )
}

#[tokio::test]
async fn shared_credential_goes_when_every_key_has_moved() {
    for (first, second) in [(key(), other()), (other(), key())] {
        for revokes_previous in [false, true] {
            let fakes = Fakes::new(&[("key_1", "by hand")]);
            let mut engine = engine_of(&fakes, true).await;
            rotate(&mut engine, &first, revokes_previous);
            fakes.run_for(&mut engine, OVERLAP * 30).await;
            assert!(is_alive(&fakes), "{second} still uses it");
            fakes.take_calls();
            rotate(&mut engine, &second, false);
            fakes.run_for(&mut engine, OVERLAP - MINUTE).await;
            assert!(is_alive(&fakes), "{second} is in its overlap");
            fakes.run_for(&mut engine, OVERLAP * 2).await;
            assert!(!is_alive(&fakes));
            assert_eq!(phases(&fakes), ["billing revoked", "reports revoked"]);
            // One commit has ended both rows: no key looks for it, nor revokes it again.
            let calls = fakes.take_calls();
            let of_it = |call: &&String| call.as_str() == "delete key_1";
            assert_eq!(calls.iter().filter(of_it).count(), 1, "{calls:?}");
            assert_eq!(fakes.journal_details("credential-missing"), [""; 0]);
        }
    }
}

#[tokio::test]
async fn key_that_left_the_configuration_has_not_moved() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let mut engine = engine_of(&fakes, true).await;
    rotate(&mut engine, &key(), false);
    fakes.run_for(&mut engine, MINUTE).await;
    let mut remaining = keys(&fakes);
    remaining.truncate(1);
    let mut services = fakes.services();
    services.ledger = engine.services.ledger.clone();
    services.conditions = Arc::clone(&engine.services.conditions);
    engine.reconfigure(services, remaining);
    fakes.run_for(&mut engine, HOUR * 24 * 9).await;
    assert!(is_alive(&fakes));
    let error = "SELECT error FROM history WHERE credential_id = 'key_1' AND key = 'billing'";
    assert!(fakes.query_rows(error)[0].contains("not configured"));
    // A person may end it.
    let reply = submit(&mut engine, &key(), revoke(false));
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(reply.await.unwrap().unwrap(), "revoked key_1");
    assert_eq!(phases(&fakes), ["billing revoked", "reports revoked"]);
}

/// Another key adopts the credential at each moment of its revocation: either the adoption
/// is refused, or the credential stays.
#[tokio::test]
async fn adoption_and_revocation_exclude_each_other() {
    let (mut stayed, mut went) = (0, 0);
    for calls_before in 0..8 {
        for holds_answer in [false, true] {
            let fakes = Fakes::new(&[("key_1", "by hand")]);
            let mut engine = engine_of(&fakes, false).await;
            rotate(&mut engine, &key(), false);
            fakes.run_for(&mut engine, OVERLAP - MINUTE).await;
            fakes.take_calls();
            if holds_answer {
                fakes.hold_retrieval(Some("key_1"));
            }
            let adopt = OperatorCommand::Adopt {
                credential: CredentialId::new("key_1".to_owned()),
                force: false,
                unrecognized: Unrecognized::Adopted,
                operator: None,
            };
            // The deletion has so many requests, the first of which may be unanswered.
            let count = if holds_answer {
                calls_before.min(1)
            } else {
                calls_before.min(4)
            };
            if count > 0 {
                fakes.first_started_calls(&mut engine, count).await;
            }
            let reply = submit(&mut engine, &other(), adopt);
            engine.start_due();
            fakes.hold_retrieval(None);
            // Its overlap is two hours from its own rotation on.
            fakes.run_for(&mut engine, HOUR).await;
            let is_adopted = reply.await.unwrap().is_ok();
            assert_eq!(
                is_alive(&fakes),
                is_adopted,
                "{calls_before} {holds_answer}"
            );
            if is_adopted {
                stayed += 1;
            } else {
                went += 1;
            }
        }
    }
    assert!(stayed > 0 && went > 0, "{stayed} {went}");
}

#[tokio::test]
async fn operator_revokes_a_shared_credential_for_all_keys() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let mut engine = engine_of(&fakes, true).await;
    rotate(&mut engine, &key(), false);
    fakes.run_for(&mut engine, OVERLAP * 3).await;
    let reply = submit(&mut engine, &key(), revoke(false));
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let refusal = reply.await.unwrap().unwrap_err().to_string();
    assert!(refusal.contains("held by second"), "{refusal}");
    let reply = submit(&mut engine, &key(), revoke(true));
    fakes.run_for(&mut engine, MINUTE).await;
    assert!(reply.await.unwrap().is_ok());
    assert_eq!(phases(&fakes), ["billing revoked", "reports revoked"]);
    // The other key has lost its credential, and gets a new one at once.
    let state = engine.state(&other()).unwrap();
    assert!(state.current().is_some(), "{state:?}");
}

#[tokio::test]
async fn hold_of_a_shared_credential_is_one_for_all_keys() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let mut engine = engine_of(&fakes, true).await;
    let hold = |until| OperatorCommand::Hold {
        credential: Some(CredentialId::new("key_1".to_owned())),
        until,
        authority: Authority::Full,
        operator: None,
    };
    let until = time::after(at(), HOUR * 100);
    let reply = submit(&mut engine, &key(), hold(Some(until)));
    fakes.run_for(&mut engine, MINUTE).await;
    reply.await.unwrap().unwrap();
    let held = |engine: &Engine| {
        let state = engine.state(&other()).unwrap();
        state.live[0].hold_until
    };
    assert_eq!(held(&engine), Some(until));
    for name in [key(), other()] {
        rotate(&mut engine, &name, true);
    }
    fakes.run_for(&mut engine, HOUR * 90).await;
    assert!(is_alive(&fakes), "it is held");
    let reply = submit(&mut engine, &other(), hold(None));
    fakes.run_for(&mut engine, HOUR).await;
    reply.await.unwrap().unwrap();
    assert!(!is_alive(&fakes));
    assert_eq!(phases(&fakes), ["billing revoked", "reports revoked"]);
}

/// A key that gets a row of a held credential, by an adoption or because its file holds what
/// may have leaked, shows who holds it, why and until when.
#[tokio::test]
async fn row_of_another_key_shows_who_holds_the_credential() {
    let end = time::after(at(), HOUR * 100);
    for is_leaked in [false, true] {
        for until in [end, HELD_UNTIL_RELEASED] {
            let fakes = Fakes::new(&[("key_1", "by hand")]);
            let mut engine = engine_of(&fakes, false).await;
            let note = |by: &str, reason: &str| OperatorNote {
                by: by.to_owned(),
                reason: Some(reason.to_owned()),
            };
            for (by, reason) in [("uid 7", "a mistake"), ("uid 8", "an audit")] {
                let hold = OperatorCommand::Hold {
                    credential: Some(CredentialId::new("key_1".to_owned())),
                    until: Some(until),
                    authority: Authority::Full,
                    operator: Some(note(by, reason)),
                };
                let reply = submit(&mut engine, &key(), hold);
                fakes.run_for(&mut engine, MINUTE).await;
                reply.await.unwrap().unwrap();
            }
            let (target, command) = if is_leaked {
                let holder = FileHolder {
                    key: other(),
                    credential: CredentialId::new("key_1".to_owned()),
                    sinks: vec![(sink_named("second"), true)],
                };
                let command = OperatorCommand::EndPresent {
                    within: HOUR * 50,
                    force: true,
                    may_replace: false,
                    holders: vec![holder],
                    authority: Authority::Full,
                    operator: Some(note("uid 9", "a leak")),
                };
                (key(), command)
            } else {
                let command = OperatorCommand::Adopt {
                    credential: CredentialId::new("key_1".to_owned()),
                    force: false,
                    unrecognized: Unrecognized::Adopted,
                    operator: Some(note("uid 9", "moving in")),
                };
                (other(), command)
            };
            let reply = submit(&mut engine, &target, command);
            fakes.run_for(&mut engine, MINUTE).await;
            let reply = reply.await.unwrap().unwrap();
            let shown = if until == end {
                "2026-11-28T07:00:00Z"
            } else {
                "until released"
            };
            let named = if until == end {
                shown
            } else {
                "`rekeyd release key_1`"
            };
            let named = format!("; it is on hold until {named}");
            assert!(is_leaked || reply.contains(&named), "{reply}");
            let holds = fakes.query_rows(
                "SELECT key || ' ' || held || ' ' || coalesce(holder, '') || ' ' || coalesce(hold_reason, '') || ' '
                     || coalesce(hold_until, 'until released')
                 FROM history WHERE credential_id = 'key_1' ORDER BY key",
            );
            let expected =
                ["billing", "reports"].map(|key| format!("{key} 1 uid 8 an audit {shown}"));
            assert_eq!(holds, expected, "{is_leaked} {until:?}");
            // The log of the other key has the hold once.
            let details = fakes.query_rows(
                "SELECT detail ->> 'credential_id' FROM events
                 WHERE key = 'reports' AND event = 'hold-set'",
            );
            assert_eq!(details, ["key_1"], "{is_leaked} {until:?}");
        }
    }
}

/// The credential was renamed since the first key adopted it, or is another one by now.
#[tokio::test]
async fn adoption_under_another_name_needs_its_confirmation_and_renames_all_rows() {
    let named = |name: &str| Unrecognized::Named(Some(name.to_owned()));
    for (unrecognized, force, refusal) in [
        (Unrecognized::Adopted, false, Some("--force, as root")),
        (Unrecognized::Adopted, true, Some("--force, as root")),
        (Unrecognized::Refused, true, Some("only root")),
        (named("renamed"), false, Some("--force, as root")),
        (
            Unrecognized::Named(None),
            true,
            Some("recorded it as \"by hand\""),
        ),
        (
            Unrecognized::Named(None),
            true,
            Some("--force --name renamed --yes"),
        ),
        (named("by hand"), true, Some("not as \"by hand\"")),
        (named("renamed"), true, None),
    ] {
        let fakes = Fakes::new(&[("key_1", "renamed")]);
        let mut engine = engine_of(&fakes, false).await;
        fakes.run_for(&mut engine, MINUTE).await;
        let adopt = OperatorCommand::Adopt {
            credential: CredentialId::new("key_1".to_owned()),
            force,
            unrecognized: unrecognized.clone(),
            // The name of a user gives no right.
            operator: Some(OperatorNote {
                by: "uid 0".to_owned(),
                reason: None,
            }),
        };
        let reply = submit(&mut engine, &other(), adopt);
        fakes.run_for(&mut engine, MINUTE).await;
        let reply = reply.await.unwrap();
        match refusal {
            Some(refusal) => {
                let reply = reply.unwrap_err().to_string();
                assert!(reply.contains(refusal), "{refusal}: {reply}");
            }
            None => {
                let reply = reply.unwrap();
                assert!(reply.contains("`rekeyd release key_1`"), "{reply}");
            }
        }
        let names = fakes.query_rows("SELECT name FROM rotation WHERE credential_id = 'key_1'");
        let expected: &[&str] = if refusal.is_none() {
            &["renamed", "renamed"]
        } else {
            &["by hand"]
        };
        assert_eq!(names, expected, "{unrecognized:?} {force}");
    }
}

/// What the provider shows of a credential changed since the first key adopted it, or is
/// shown no more.
#[tokio::test]
async fn all_rows_of_a_credential_have_what_the_provider_shows_at_an_adoption() {
    let (early, late) = (
        time::after(at(), HOUR * 900),
        time::after(at(), HOUR * 1_000),
    );
    let ends = |end: Option<Timestamp>| end.map(time::to_text).unwrap_or_default();
    for (recorded, shown, expected) in [
        (
            (None, None),
            (Some("...wxYz"), Some(late)),
            (Some("...wxYz"), Some(late)),
        ),
        (
            (Some("...aBcD"), Some(early)),
            (Some("...wxYz"), Some(late)),
            (Some("...wxYz"), Some(late)),
        ),
        (
            (Some("...aBcD"), Some(late)),
            (Some("...aBcD"), Some(early)),
            (Some("...aBcD"), Some(early)),
        ),
        (
            (Some("...aBcD"), Some(early)),
            (None, None),
            (Some("...aBcD"), Some(early)),
        ),
        ((None, None), (None, None), (None, None)),
    ] {
        let fakes = Fakes::new(&[("key_1", "by hand")]);
        let mut row = adoption(1, "first");
        if let Change::Operator(OperatorChange::CredentialAdopted(adopted)) = &mut row {
            adopted.credential.redacted_value = recorded.0.map(str::to_owned);
            adopted.credential.expires_at = recorded.1;
        }
        fakes.write_ledger(vec![(key(), vec![row])]).await;
        if let Some(redacted) = shown.0 {
            fakes.set_redacted("key_1", redacted);
        }
        if let Some(end) = shown.1 {
            fakes.set_end("key_1", end);
        }
        let mut engine = fakes.open_engine(keys(&fakes), RunMode::Daemon).await;
        fakes.run_for(&mut engine, MINUTE).await;
        let adopt = OperatorCommand::Adopt {
            credential: CredentialId::new("key_1".to_owned()),
            force: false,
            unrecognized: Unrecognized::Adopted,
            operator: None,
        };
        let reply = submit(&mut engine, &other(), adopt);
        fakes.run_for(&mut engine, MINUTE).await;
        reply.await.unwrap().unwrap();
        let rows = fakes.query_rows(
            "SELECT coalesce(redacted_value, '') || ' ' || coalesce(expires_at, '')
            FROM rotation WHERE credential_id = 'key_1'",
        );
        let row = format!("{} {}", expected.0.unwrap_or_default(), ends(expected.1));
        assert_eq!(rows, [row.clone(), row], "{recorded:?} {shown:?}");
        // The first key's worker continues with the row as it is now.
        let state = engine.state(&key()).unwrap();
        let credential = state.live[0].credential().unwrap();
        assert_eq!(credential.expires_at, expected.1, "{recorded:?} {shown:?}");
        let updates = "SELECT event FROM event_log WHERE event = 'credential-updated'";
        let updates = fakes.query_rows(updates).len();
        // The end is seen in the list before, and recorded on its own.
        let changed = [recorded.0 != expected.0, recorded.1 != expected.1];
        let expected = changed.into_iter().filter(|changed| *changed).count();
        assert_eq!(updates, expected, "{recorded:?} {shown:?}");
    }
}
