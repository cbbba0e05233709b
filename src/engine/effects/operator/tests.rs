//! The result and the reply of each operator command.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::*;
use crate::core::active_credential::CredentialUsage;
use crate::core::authority::Authority;
use crate::core::change::{Adoption, CredentialHold, RotationIntent};
use crate::core::condition::Condition;
use crate::core::ids::{KeyName, RotationId};
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, KeyState, Trigger};
use crate::engine::operator_command::{SharedListing, Unrecognized};
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::{created, current, rotation, transitioned};
use crate::engine::{Engine, RotationRequest, RunMode};
use crate::provider::ErrorKind;

const OVERLAP: Duration = Duration::from_secs(3_600);

fn id(text: &str) -> CredentialId {
    CredentialId::new(text.to_owned())
}

fn operator() -> Option<OperatorNote> {
    Some(OperatorNote {
        reason: Some("it leaked".to_owned()),
        by: "ada".to_owned(),
    })
}

fn revoke(credential: &str, force: bool) -> OperatorCommand {
    OperatorCommand::Revoke {
        credential: id(credential),
        force,
        name: None,
        authority: Authority::Full,
        operator: operator(),
    }
}

fn hold(credential: Option<&str>, until: Option<Timestamp>) -> OperatorCommand {
    OperatorCommand::Hold {
        credential: credential.map(id),
        until,
        authority: Authority::Full,
        operator: operator(),
    }
}

fn adopt(credential: &str) -> OperatorCommand {
    OperatorCommand::Adopt {
        credential: id(credential),
        force: false,
        unrecognized: Unrecognized::Adopted,
        operator: operator(),
    }
}

/// Runs the command, and returns its reply.
async fn run_command(
    fakes: &Fakes,
    engine: &mut Engine,
    command: OperatorCommand,
) -> Result<String, String> {
    let (reply, receiver) = oneshot::channel();
    assert!(engine.submit_command(
        &key(),
        PendingCommand {
            command,
            started: Arc::default(),
            reply
        }
    ));
    fakes.run_for(engine, Duration::ZERO).await;
    let result = receiver.await.unwrap();
    result.map_err(|error| error.to_string())
}

fn assert_rejected(reply: Result<String, String>, part: &str) {
    let reply = reply.unwrap_err();
    assert!(reply.contains(part), "{reply}");
}

/// Returns an engine whose key has `key_1` and a newer current credential.
async fn engine_with_two_credentials(fakes: &Fakes) -> Engine {
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let request = RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    engine.request_rotation(&key(), request);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(fakes.live_ids().len(), 2);
    engine
}

fn current_credential(engine: &Engine) -> String {
    let current = engine.state(&key()).unwrap().current().unwrap();
    current.credential.as_ref().unwrap().id.as_str().to_owned()
}

#[tokio::test]
async fn a_credential_that_may_be_in_use_is_revoked_only_with_force() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_two_credentials(&fakes).await;
    fakes.set_usage(CredentialUsage::MayBeInUse);
    fakes.advance_clock(OVERLAP * 2);
    let reply = run_command(&fakes, &mut engine, revoke("key_1", false)).await;
    assert_rejected(reply, "may be rekeyd's own admin key");
    assert_eq!(fakes.live_ids().len(), 2);
    let reply = run_command(&fakes, &mut engine, revoke("key_1", true)).await;
    assert_eq!(reply, Ok("revoked key_1".to_owned()));
    assert_eq!(fakes.live_ids(), [current_credential(&engine)]);
}

#[tokio::test]
async fn a_credential_a_sink_may_hold_is_revoked_only_with_force() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let reply = run_command(&fakes, &mut engine, revoke("key_1", false)).await;
    assert_rejected(reply, "held by file (file:/x)");
    assert_eq!(fakes.live_ids(), ["key_1"]);
    let reply = run_command(&fakes, &mut engine, revoke("key_1", true)).await;
    assert_eq!(reply, Ok("revoked key_1".to_owned()));
    assert!(!fakes.live_ids().contains(&"key_1".to_owned()));
    let event = fakes.journal_details("revoked-manually").remove(0);
    assert!(
        event.contains("it leaked") && event.contains("ada"),
        "{event}"
    );
    let reply = run_command(&fakes, &mut engine, revoke("key_1", true)).await;
    assert_rejected(reply, "has no live credential");
}

#[tokio::test]
async fn a_sink_releases_a_credential_one_overlap_after_accepting_a_newer_one() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_two_credentials(&fakes).await;
    // Without the hold, the schedule would revoke it after the overlap.
    let later = time::after(at(), OVERLAP * 24);
    let reply = run_command(&fakes, &mut engine, hold(Some("key_1"), Some(later))).await;
    let expected = "billing: holding key_1 until 2026-11-25T03:00:00Z";
    assert_eq!(reply, Ok(expected.to_owned()));
    fakes
        .run_for(&mut engine, OVERLAP - Duration::from_secs(1))
        .await;
    let reply = run_command(&fakes, &mut engine, revoke("key_1", false)).await;
    assert_rejected(
        reply,
        "in its overlap until 2026-11-24T04:00:00Z: consumers of file",
    );
    fakes.run_for(&mut engine, Duration::from_secs(1)).await;
    let reply = run_command(&fakes, &mut engine, revoke("key_1", false)).await;
    assert_eq!(reply, Ok("revoked key_1".to_owned()));
    assert_eq!(fakes.live_ids(), [current_credential(&engine)]);
}

/// No answer shows the name of what the provider does not have: it is not deleted, and
/// one answer more is asked for first.
#[tokio::test]
async fn a_credential_that_is_gone_is_revoked_without_a_delete() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut changes = current(1);
    changes.extend(created(2));
    changes.push(transitioned(2, LifecycleEvent::Abandoned));
    let until = Some(time::after(at(), OVERLAP * 24));
    changes.push(Change::from(CredentialHold {
        rotation: rotation(2),
        until,
        operator: None,
    }));
    let mut engine = fakes.engine(changes, OVERLAP).await;
    fakes.take_calls();
    let reply = run_command(&fakes, &mut engine, revoke("key_2", false)).await;
    assert_eq!(reply, Ok("revoked key_2".to_owned()));
    let calls = fakes.take_calls();
    let count = |call: &str| calls.iter().filter(|made| *made == call).count();
    assert_eq!(count("retrieve key_2"), 2, "{calls:?}");
    assert_eq!(count("delete key_2"), 0, "{calls:?}");
}

#[tokio::test]
async fn own_credential_is_never_revoked_by_command() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    fakes.set_usage(CredentialUsage::InUse);
    let reply = run_command(&fakes, &mut engine, revoke("key_1", true)).await;
    assert_rejected(reply, "rekeyd's own admin key");
    assert_eq!(fakes.live_ids(), ["key_1"]);
}

#[tokio::test]
async fn own_credential_is_never_revoked_by_schedule() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_two_credentials(&fakes).await;
    fakes.set_usage(CredentialUsage::InUse);
    fakes.run_for(&mut engine, OVERLAP * 3).await;
    assert_eq!(fakes.live_ids().len(), 2);
    assert!(fakes.journal_details("revocation-deferred")[0].contains("rekeyd's own admin key"));
    fakes.set_usage(CredentialUsage::Unused);
    fakes.run_for(&mut engine, OVERLAP).await;
    assert_eq!(fakes.live_ids(), [current_credential(&engine)]);
}

#[tokio::test]
async fn a_held_orphan_can_be_revoked_by_command() {
    let mut changes = current(1);
    changes.extend(created(2));
    changes.push(transitioned(2, LifecycleEvent::Abandoned));
    let until = Some(time::after(at(), OVERLAP * 24));
    changes.push(Change::from(CredentialHold {
        rotation: crate::engine::tests::rotation_changes::rotation(2),
        until,
        operator: None,
    }));
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_2", "label-2")]);
    let mut engine = fakes.engine(changes, OVERLAP).await;
    let reply = run_command(&fakes, &mut engine, revoke("key_2", false)).await;
    assert_eq!(reply, Ok("revoked key_2".to_owned()));
    assert_eq!(fakes.journal_details("deleted").len(), 1);
    assert_eq!(fakes.live_ids()[0], "key_1");
}

#[tokio::test]
async fn a_hold_covers_one_or_all_credentials_until_released() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_two_credentials(&fakes).await;
    // The end that is recorded and shown has whole seconds.
    let until = time::after(at(), OVERLAP * 2);
    let until = Some(time::before(until, Duration::from_millis(400)));
    let reply = run_command(&fakes, &mut engine, hold(Some("key_9"), until)).await;
    assert_rejected(reply, "no live credential key_9");
    let reply = run_command(&fakes, &mut engine, hold(None, until)).await;
    let all = format!("key_1, {}", current_credential(&engine));
    let expected = format!("billing: holding {all} until 2026-11-24T05:00:00Z");
    assert_eq!(reply, Ok(expected));
    fakes.run_for(&mut engine, OVERLAP).await;
    assert_eq!(fakes.live_ids().len(), 2, "it is held");
    let reply = run_command(&fakes, &mut engine, hold(Some("key_1"), None)).await;
    assert_eq!(reply, Ok("billing: released key_1".to_owned()));
    fakes.run_for(&mut engine, Duration::from_secs(60)).await;
    assert_eq!(fakes.live_ids(), [current_credential(&engine)]);
    let held = fakes.journal_details("hold-set").len();
    assert_eq!(held, 2, "both of all");
}

/// What was not on hold is not released, and the ledger does not say so.
#[tokio::test]
async fn a_release_of_a_key_names_only_what_was_on_hold() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_two_credentials(&fakes).await;
    run_command(
        &fakes,
        &mut engine,
        hold(Some("key_1"), Some(time::after(at(), OVERLAP))),
    )
    .await
    .unwrap();
    let reply = run_command(&fakes, &mut engine, hold(None, None)).await;
    assert_eq!(reply, Ok("billing: released key_1".to_owned()));
    assert_eq!(fakes.journal_details("hold-released").len(), 1);
    let current = current_credential(&engine);
    let reply = run_command(&fakes, &mut engine, hold(Some(&current), None)).await;
    assert_eq!(reply, Ok(format!("billing: {current} is not on hold")));
}

#[tokio::test]
async fn a_command_is_refused_and_forgotten_while_the_ledger_cannot_be_written() {
    for is_damaged in [false, true] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = engine_with_two_credentials(&fakes).await;
        let before = fakes.query_rows("SELECT event FROM events ORDER BY seq");
        let conditions = &engine.services().conditions;
        if is_damaged {
            conditions.raise_for_good(Condition::Ledger, "its files are gone");
        } else {
            conditions.raise(Condition::Ledger, "the disk is full");
        }
        let problem = engine.ledger_problem().unwrap();
        let mut replies = Vec::new();
        for command in [hold(None, None), revoke("key_1", true), adopt("key_9")] {
            let (reply, receiver) = oneshot::channel();
            let started = Arc::default();
            let pending = PendingCommand {
                command,
                started,
                reply,
            };
            assert!(engine.submit_command(&key(), pending));
            replies.push(receiver);
        }
        engine.start_due();
        for mut reply in replies {
            let reply = reply.try_recv().expect("it is answered at once");
            let error = reply.unwrap_err().to_string();
            assert_eq!(error, format!("nothing was changed: {problem}"));
        }
        engine.services().conditions.clear(Condition::Ledger);
        fakes.run_for(&mut engine, Duration::from_secs(60)).await;
        assert_eq!(engine.ledger_problem().is_some(), is_damaged);
        let after = fakes.query_rows("SELECT event FROM events ORDER BY seq");
        assert_eq!(after, before, "nothing is done later");
        engine.stop().await;
    }
}

#[tokio::test]
async fn hold_is_rejected_without_a_live_credential() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
    let reply = run_command(&fakes, &mut engine, hold(None, None)).await;
    assert_rejected(reply, "billing has no live credential");
    let (reply, _answer) = oneshot::channel();
    let command = hold(None, None);
    let other = KeyName::new("other").unwrap();
    assert!(!engine.submit_command(
        &other,
        PendingCommand {
            command,
            started: Arc::default(),
            reply
        }
    ));
}

#[tokio::test]
async fn an_adopted_credential_is_current_only_if_none_is() {
    let fakes = Fakes::new(&[("key_a", "by hand"), ("key_b", "by hand")]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
    let reply = run_command(&fakes, &mut engine, adopt("key_z")).await;
    assert_rejected(reply, "the provider has no credential key_z");
    let reply = run_command(&fakes, &mut engine, adopt("key_a")).await;
    assert_eq!(
        reply,
        Ok("billing: adopted key_a as its current credential".to_owned())
    );
    let reply = run_command(&fakes, &mut engine, adopt("key_a")).await;
    assert_rejected(reply, "already belongs to billing in this ledger");
    let reply = run_command(&fakes, &mut engine, adopt("key_b")).await;
    assert_eq!(reply, Ok("billing: adopted key_b; it is revoked one overlap after the next delivery to each sink".to_owned()));
}

#[tokio::test]
async fn a_credential_adopted_during_a_rotation_is_stranded() {
    let intent = RotationIntent {
        rotation: RotationId::new([1; 8]),
        scope: Scope::AdminKeys,
        sequence: 1,
        label: crate::core::ids::Label::from_recorded("label-1".to_owned()),
        trigger: Trigger::First,
        scheduled_for: None,
        not_created_before: None,
        timetable: String::new(),
        sinks: Vec::new(),
        operator: None,
    };
    let fakes = Fakes::new(&[("key_a", "by hand")]);
    fakes
        .write_ledger(vec![(key(), vec![Change::from(intent)])])
        .await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
    let reply = run_command(&fakes, &mut engine, adopt("key_a")).await;
    assert_eq!(reply, Ok("billing: adopted key_a; it is revoked one overlap after the next delivery to each sink".to_owned()));
}

#[tokio::test]
async fn own_credential_is_adopted_only_by_a_key_with_a_self_sink() {
    let fakes = Fakes::new(&[("key_a", "by hand")]);
    fakes.write_ledger(Vec::new()).await;
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
    fakes.set_usage(CredentialUsage::InUse);
    let reply = run_command(&fakes, &mut engine, adopt("key_a")).await;
    assert_rejected(reply, "only a key with a `self` sink");
}

#[tokio::test]
async fn pause_warns_when_the_credential_expires_first() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let adopted = Change::from(Adoption {
        rotation: rotation(1),
        scope: Scope::AdminKeys,
        sequence: 1,
        credential: CredentialMetadata {
            id: id("key_1"),
            redacted_value: None,
            created_at: Some(at()),
            expires_at: Some(time::after(at(), OVERLAP * 8)),
        },
        name: Some("label-1".to_owned()),
        hold: None,
        event: LifecycleEvent::Adopted,
        seen_in: Vec::new(),
        sinks: Vec::new(),
        operator: None,
    });
    let mut engine = fakes.engine(vec![adopted], OVERLAP).await;
    let warning =
        "expires at 2026-11-24T11:00:00Z, so billing is rotated from 2026-11-24T09:00:00Z on";
    for (hours, warned) in [(5, false), (6, false), (7, true)] {
        let command = OperatorCommand::Pause {
            until: Some(time::after(at(), OVERLAP * hours)),
            operator: operator(),
        };
        let reply = run_command(&fakes, &mut engine, command).await.unwrap();
        assert_eq!(reply.contains(warning), warned, "{reply}");
    }
}

#[tokio::test]
async fn resume_ends_a_pause() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let resume = || OperatorCommand::Resume {
        operator: operator(),
    };
    let reply = run_command(&fakes, &mut engine, resume()).await;
    assert_eq!(reply, Ok("billing is not paused".to_owned()));
    let pause = OperatorCommand::Pause {
        until: None,
        operator: operator(),
    };
    let reply = run_command(&fakes, &mut engine, pause).await.unwrap();
    assert!(reply.ends_with("until `rekeyd resume billing`"), "{reply}");
    fakes.advance_clock(OVERLAP);
    let reply = run_command(&fakes, &mut engine, resume()).await;
    assert_eq!(reply, Ok("billing: resumed".to_owned()));
    let pause = engine.state(&key()).unwrap().pause.unwrap();
    assert_eq!((pause.from, pause.until), (at(), Some(fakes.now())));
    assert!(!pause.is_active(fakes.now()));
}

/// The ledger has whole seconds, and the reply names the one that it has.
#[tokio::test]
async fn hold_ends_at_the_time_in_its_reply() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_two_credentials(&fakes).await;
    let until = "2026-11-25T03:00:00.4Z".parse().unwrap();
    let command = hold(Some("key_1"), Some(until));
    let reply = run_command(&fakes, &mut engine, command).await.unwrap();
    assert!(reply.ends_with("until 2026-11-25T03:00:01Z"), "{reply}");
}

#[tokio::test]
async fn an_indefinite_hold_lasts_until_released() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_two_credentials(&fakes).await;
    let command = hold(Some("key_1"), Some(Timestamp::MAX));
    let reply = run_command(&fakes, &mut engine, command).await.unwrap();
    assert!(
        reply.ends_with("holding key_1 until `rekeyd release key_1`"),
        "{reply}"
    );
}

#[tokio::test]
async fn a_hold_until_a_past_time_is_rejected_and_changes_nothing() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let later = time::after(fakes.now(), OVERLAP);
    let reply = run_command(&fakes, &mut engine, hold(Some("key_1"), Some(later))).await;
    assert!(reply.is_ok());
    for until in [fakes.now(), time::before(fakes.now(), OVERLAP)] {
        let reply = run_command(&fakes, &mut engine, hold(Some("key_1"), Some(until))).await;
        assert_rejected(reply, "a time in the past");
    }
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.live[0].hold_until, Some(later));
}

#[test]
fn advice_about_a_held_credential_suits_the_open_rotation() {
    let row = |sequence: u64, phase| {
        let id = RotationId::new(sequence.to_be_bytes());
        Rotation::new(id, Scope::AdminKeys, sequence, Trigger::Manual, phase, at())
    };
    let (current, stranded) = (row(1, Phase::Current), row(3, Phase::Stranded));
    let open = row(2, Phase::Verified);
    for (of, live, expected) in [
        (
            &current,
            vec![current.clone()],
            "run `rekeyd rotate billing`",
        ),
        (
            &current,
            vec![current.clone(), open.clone()],
            "wait until the newer one",
        ),
        (
            &open,
            vec![current.clone(), open.clone()],
            "wait until it is delivered",
        ),
        // A ledger in which the open one is the older one does not replace it.
        (
            &stranded,
            vec![open.clone(), stranded.clone()],
            "run `rekeyd rotate billing`",
        ),
    ] {
        let state = KeyState {
            live,
            ..KeyState::unknown(key())
        };
        let advice = held_advice(of, &state);
        assert!(advice.starts_with(expected), "{advice}");
    }
}

/// Which credential an operator may revoke, without force: what rekeyd made, and no key uses.
#[tokio::test]
async fn operator_revokes_only_what_rekeyd_made_and_replaced() {
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_9", "by hand")]);
    let mut engine = fakes.engine(current(1), OVERLAP).await;
    let request = RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    engine.request_rotation(&key(), request);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let newest = current_credential(&engine);
    for (authority, credential, refusal) in [
        (
            Authority::Operate,
            &*newest,
            Some("it is the current credential of billing"),
        ),
        (Authority::Operate, "key_1", None),
        // The adoption is what the next rows are about.
        (Authority::Operate, "key_9", Some("it was adopted")),
        (Authority::Destroy, "key_9", None),
        (Authority::Full, &*newest, None),
    ] {
        if refusal == Some("it was adopted") {
            let adopted = run_command(&fakes, &mut engine, adopt("key_9")).await;
            adopted.unwrap();
        }
        let command = OperatorCommand::Revoke {
            credential: id(credential),
            force: false,
            name: None,
            authority,
            operator: operator(),
        };
        let reply = run_command(&fakes, &mut engine, command).await;
        match refusal {
            Some(refusal) => {
                assert_rejected(reply.clone(), refusal);
                assert_rejected(reply, "super-admins");
            }
            // What its sinks hold may still prevent it.
            None => assert!(!reply.unwrap_or_else(|error| error).contains("super-admins")),
        }
    }
}

/// What shows that a credential is the key's, and what a person has to confirm otherwise.
#[tokio::test]
async fn unrecognized_credential_is_adopted_by_its_name_alone_and_held() {
    let label = "billing-20261123T030000Z-5f3a9c";
    let other = "exporter-20261123T030000Z-5f3a9c";
    let named = |name: &str| Unrecognized::Named(Some(name.to_owned()));
    for (name, unrecognized, refusal, is_held) in [
        (label, Unrecognized::Refused, None, false),
        (label, Unrecognized::Named(None), None, false),
        (
            other,
            Unrecognized::Refused,
            Some("only root or the owner"),
            false,
        ),
        (
            other,
            Unrecognized::Named(None),
            Some("does not look like a label of billing"),
            false,
        ),
        (other, named("exporter"), Some("not as \"exporter\""), false),
        (other, named(""), Some("not as \"\""), false),
        (other, named(other), None, true),
        (
            "by hand",
            Unrecognized::Refused,
            Some("sudo rekeyd adopt billing key_9"),
            false,
        ),
        ("by hand", named("by hand"), None, true),
        ("by hand", Unrecognized::Adopted, None, false),
    ] {
        let fakes = Fakes::new(&[("key_9", name)]);
        let managed = fakes.managed_key(key(), |_| {});
        let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
        let command = OperatorCommand::Adopt {
            credential: id("key_9"),
            force: false,
            unrecognized: unrecognized.clone(),
            operator: operator(),
        };
        let reply = run_command(&fakes, &mut engine, command).await;
        let case = format!("{name} {unrecognized:?}: {reply:?}");
        match refusal {
            Some(refusal) => assert_rejected(reply, refusal),
            None => {
                let reply = reply.expect(&case);
                assert_eq!(reply.contains("rekeyd release key_9"), is_held, "{case}");
            }
        }
        let live = engine
            .state(&key())
            .map(|state| state.live.clone())
            .unwrap_or_default();
        let row = live.first();
        assert_eq!(row.is_some(), refusal.is_none(), "{case}");
        let held = row.is_some_and(|row| row.hold_until == Some(HELD_UNTIL_RELEASED));
        assert_eq!(held, is_held, "{case}");
    }
}

/// Whoever can write a sink's file can write the end of a secret there: only a whole key that
/// the provider accepts shows whose the credential is.
#[tokio::test]
async fn end_of_a_key_in_a_file_shows_nothing_unless_the_provider_accepts_the_key() {
    for (answer, is_evidence) in [
        (None, true),
        (Some(ErrorKind::CredentialRefused), false),
        (Some(ErrorKind::Forbidden), false),
        (Some(ErrorKind::RateLimited), false),
        (Some(ErrorKind::NoAnswer), false),
        (Some(ErrorKind::ServerError), false),
    ] {
        let by_id = |force, unrecognized| OperatorCommand::Adopt {
            credential: id("key_9"),
            force,
            unrecognized,
            operator: operator(),
        };
        let from_sinks = OperatorCommand::AdoptFromSinks {
            apply: true,
            listing: SharedListing::default(),
            operator: operator(),
        };
        for command in [
            by_id(false, Unrecognized::Refused),
            by_id(true, Unrecognized::Refused),
            by_id(false, Unrecognized::Named(None)),
            by_id(true, Unrecognized::Named(None)),
            from_sinks,
        ] {
            let fakes = Fakes::new(&[("key_9", "payroll")]);
            fakes.set_redacted("key_9", "sk-admin-...aBc");
            fakes.hold_key("file", &format!("sk-admin-{}aBc", "x1".repeat(20)));
            let managed = fakes.managed_key(key(), |_| {});
            let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
            fakes.fail_calls(answer.map(|kind| ("verify", kind)));
            let case = format!("{answer:?} {command:?}");
            let reply = run_command(&fakes, &mut engine, command).await;
            assert_eq!(reply.is_ok(), is_evidence, "{case}: {reply:?}");
            let rows = fakes.query_rows("SELECT credential_id FROM rotation");
            assert_eq!(rows.len(), usize::from(is_evidence), "{case}: {rows:?}");
        }
    }
}

/// The key's own credential has by chance the end of another one.
#[tokio::test]
async fn own_key_in_a_file_is_no_evidence_for_another_credential() {
    let fakes = Fakes::new(&[("key_9", "payroll"), ("key_1", "by hand")]);
    for credential in ["key_1", "key_9"] {
        fakes.set_redacted(credential, "sk-admin-...aBc");
    }
    fakes.hold_key("file", &format!("sk-admin-{}aBc", "x1".repeat(20)));
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
    let adopted = run_command(&fakes, &mut engine, adopt("key_1")).await;
    assert!(adopted.is_ok(), "{adopted:?}");
    let other = OperatorCommand::Adopt {
        credential: id("key_9"),
        force: false,
        unrecognized: Unrecognized::Refused,
        operator: operator(),
    };
    let reply = run_command(&fakes, &mut engine, other).await;
    assert_rejected(reply, "only root or the owner");
}

/// A working key of any credential that ends like another one says nothing about that one: a
/// person gives its name.
#[tokio::test]
async fn key_that_ends_like_two_credentials_is_evidence_for_neither() {
    let named = Unrecognized::Named(Some("payroll".to_owned()));
    for (other_end, unrecognized, refusal, is_held) in [
        ("xYz", Unrecognized::Refused, None, false),
        (
            "aBc",
            Unrecognized::Refused,
            Some("only root or the owner"),
            false,
        ),
        (
            "aBc",
            Unrecognized::Refused,
            Some("of other credentials too (key_7)"),
            false,
        ),
        (
            "aBc",
            Unrecognized::Named(None),
            Some("--name payroll"),
            false,
        ),
        ("aBc", named, None, true),
    ] {
        for force in [false, true] {
            let fakes = Fakes::new(&[("key_9", "payroll"), ("key_7", "a laptop")]);
            fakes.set_redacted("key_9", "sk-admin-...aBc");
            fakes.set_redacted("key_7", &format!("sk-admin-...{other_end}"));
            fakes.hold_key("file", &format!("sk-admin-{}aBc", "x1".repeat(20)));
            let managed = fakes.managed_key(key(), |_| {});
            let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
            let command = OperatorCommand::Adopt {
                credential: id("key_9"),
                force,
                unrecognized: unrecognized.clone(),
                operator: operator(),
            };
            let reply = run_command(&fakes, &mut engine, command).await;
            match refusal {
                Some(refusal) => assert_rejected(reply, refusal),
                None => {
                    let reply = reply.unwrap();
                    assert_eq!(reply.contains("rekeyd release key_9"), is_held, "{reply}");
                }
            }
            let rows = fakes.query_rows("SELECT credential_id FROM rotation");
            assert_eq!(rows.len(), usize::from(refusal.is_none()), "{rows:?}");
        }
    }
}

/// An end that cannot be read is not taken for none.
#[tokio::test]
async fn a_credential_with_an_unreadable_end_is_adopted_only_by_force() {
    for (fields, force, is_adopted) in [
        (&["expires_at"][..], false, false),
        (&["expires_at"], true, true),
        (&["created_at", "last_used_at"], false, true),
    ] {
        let fakes = Fakes::new(&[("key_9", "by hand")]);
        let managed = fakes.managed_key(key(), |_| {});
        let mut engine = fakes.open_engine(vec![managed], RunMode::Command).await;
        fakes.show_unreadable_times(fields);
        let command = OperatorCommand::Adopt {
            credential: id("key_9"),
            force,
            unrecognized: Unrecognized::Adopted,
            operator: operator(),
        };
        let reply = run_command(&fakes, &mut engine, command).await;
        assert_eq!(reply.is_ok(), is_adopted, "{fields:?} {force}: {reply:?}");
    }
}

/// What is due waits for a daemon: a command that only shows what it would adopt carries out
/// nothing of it, and leaves the ledger as it is.
#[tokio::test]
async fn proposal_carries_out_nothing_that_is_due() {
    for (mode, is_unchanged) in [(RunMode::Proposal, true), (RunMode::Command, false)] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut orphaned = created(1);
        orphaned.push(transitioned(1, LifecycleEvent::Abandoned));
        fakes.write_ledger(vec![(key(), orphaned)]).await;
        let before = fakes.query_rows("SELECT event FROM events ORDER BY seq");
        let managed = fakes.managed_key(key(), |_| {});
        let mut engine = fakes.open_engine(vec![managed], mode).await;
        let command = OperatorCommand::AdoptFromSinks {
            apply: false,
            listing: SharedListing::default(),
            operator: None,
        };
        let reply = run_command(&fakes, &mut engine, command).await;
        let nothing = "billing: no sink holds a key to adopt";
        assert_eq!(reply, Ok(nothing.to_owned()), "{mode:?}");
        fakes.run_for(&mut engine, OVERLAP).await;
        let after = fakes.query_rows("SELECT event FROM events ORDER BY seq");
        assert_eq!(after == before, is_unchanged, "{mode:?}: {after:?}");
        assert_eq!(fakes.live_ids().len() == 1, is_unchanged, "{mode:?}");
    }
}
