//! The observations before a deletion, and what blocks it.

use std::time::Duration;

use crate::core::active_credential::CredentialUsage;
use crate::core::change::Change;
use crate::core::reported_time::ReportedTime;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::{current, intended};
use crate::engine::{Engine, RotationRequest, RunMode};

const OVERLAP: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

async fn open_daemon(fakes: &Fakes, changes: Vec<Change>) -> Engine {
    fakes.write_ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed_key(key(), |policy| policy.overlap = OVERLAP);
    fakes.open_engine(vec![managed], RunMode::Daemon).await
}

/// Returns an engine whose key has retired its first credential, `key_1`.
pub(super) async fn engine_with_retired_credential(fakes: &Fakes) -> Engine {
    let mut engine = open_daemon(fakes, current(1)).await;
    let request = RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    engine.request_rotation(&key(), request);
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.live_ids().len(), 2);
    fakes.take_calls();
    engine
}

fn successor(engine: &Engine) -> String {
    let current = engine.state(&key()).unwrap().current().unwrap();
    current.credential.as_ref().unwrap().id.as_str().to_owned()
}

fn is_deletion(call: &str) -> bool {
    call.starts_with("delete ")
}

#[tokio::test]
async fn a_duplicate_that_rekeyd_uses_is_not_revoked() {
    let alive = [("key_1", "label-1"), ("key_double", "label-1")];
    for changes in [current(1), intended(1)] {
        let fakes = Fakes::new(&alive);
        fakes.set_usage(CredentialUsage::InUse);
        let mut engine = open_daemon(&fakes, changes).await;
        fakes.run_for(&mut engine, MINUTE * 5).await;
        assert_eq!(fakes.live_ids(), ["key_1", "key_double"]);
        assert!(!fakes.take_calls().iter().any(|call| is_deletion(call)));
        // Once rekeyd uses another credential, it is revoked.
        fakes.set_usage(CredentialUsage::Unused);
        fakes.run_for(&mut engine, OVERLAP).await;
        assert!(!fakes.live_ids().contains(&"key_double".to_owned()));
    }
}

#[tokio::test]
async fn a_duplicate_that_is_gone_is_not_deleted() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.override_list(&[("key_1", "label-1"), ("key_double", "label-1")]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let calls = fakes.take_calls();
    assert!(
        calls.contains(&"retrieve key_double".to_owned()),
        "{calls:?}"
    );
    assert!(!calls.iter().any(|call| is_deletion(call)), "{calls:?}");
    assert!(fakes.journal_details("duplicate-revoked").is_empty());
}

/// A fall-back or a reload may change the usage after its observation.
#[tokio::test]
async fn a_credential_that_comes_into_use_before_the_deletion_is_not_deleted() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_retired_credential(&fakes).await;
    fakes.take_into_use_at(&format!("retrieve {}", successor(&engine)));
    fakes.run_for(&mut engine, OVERLAP * 2).await;
    assert_eq!(fakes.live_ids().len(), 2);
    assert!(!fakes.take_calls().iter().any(|call| is_deletion(call)));
    assert!(fakes.journal_details("revocation-deferred")[0].contains("rekeyd's own admin key"));
    fakes.set_usage(CredentialUsage::Unused);
    fakes.run_for(&mut engine, OVERLAP).await;
    assert_eq!(fakes.live_ids(), [successor(&engine)]);
}

/// The overlap has ended, and a reload sets a longer one while the successor is
/// retrieved.
#[tokio::test]
async fn a_reload_before_the_deletion_has_it_decided_again() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_retired_credential(&fakes).await;
    let successor = successor(&engine);
    fakes.hold_retrieval(Some(&successor));
    fakes.advance_clock(OVERLAP);
    let mut calls = Vec::new();
    while !calls.contains(&format!("retrieve {successor}")) {
        engine.start_due();
        tokio::select! {
            biased;
            _ = engine.process_completions() => {}
            () = tokio::task::yield_now() => {}
        }
        calls.extend(fakes.take_calls());
    }
    let longer = fakes.managed_key(key(), |policy| policy.overlap = OVERLAP * 3);
    engine.reconfigure(engine.services().clone(), vec![longer]);
    fakes.hold_retrieval(None);
    fakes.run_for(&mut engine, OVERLAP).await;
    assert_eq!(fakes.live_ids().len(), 2);
    assert!(!fakes.take_calls().iter().any(|call| is_deletion(call)));
    fakes.run_for(&mut engine, OVERLAP * 2).await;
    assert_eq!(fakes.live_ids(), [successor]);
}

/// If the credential in use does not work, rekeyd must fall back to the previous one.
#[tokio::test]
async fn the_credential_in_use_is_checked_before_the_previous_one_is_deleted() {
    for is_previous in [true, false] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = engine_with_retired_credential(&fakes).await;
        fakes.set_usage(if is_previous {
            CredentialUsage::Previous
        } else {
            CredentialUsage::Unused
        });
        fakes.run_for(&mut engine, OVERLAP + MINUTE).await;
        let calls = fakes.take_calls();
        let deletion = calls
            .iter()
            .position(|call| call == "delete key_1")
            .unwrap();
        let retrieved = calls[..deletion]
            .iter()
            .position(|call| call == "retrieve key_1");
        let between = &calls[retrieved.unwrap()..deletion];
        assert_eq!(
            between.contains(&"check".to_owned()),
            is_previous,
            "{between:?}"
        );
        assert_eq!(fakes.live_ids(), [successor(&engine)]);
    }
}

/// Where nothing shows whether rekeyd works with a credential, the schedule keeps it.
#[tokio::test]
async fn a_credential_that_may_be_in_use_is_not_revoked_by_the_schedule() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_retired_credential(&fakes).await;
    fakes.set_usage(CredentialUsage::MayBeInUse);
    fakes.run_for(&mut engine, OVERLAP * 30).await;
    assert!(!fakes.take_calls().iter().any(|call| is_deletion(call)));
    let deferrals = fakes.journal_details("revocation-deferred");
    assert_eq!(deferrals.len(), 1, "{deferrals:?}");
    let recorded = fakes.query_rows("SELECT deferral FROM rotation WHERE phase = 'retired'");
    assert_eq!(recorded, ["may-be-in-use"]);
}

/// What cannot be read is not taken for "never used": the credential counts as used, for
/// as long as a used one is kept.
#[tokio::test]
async fn a_credential_whose_last_use_is_unreadable_counts_as_used() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_retired_credential(&fakes).await;
    fakes.set_last_use("key_1", ReportedTime::Unreadable);
    let (captured, _guard) = CapturedLog::capture();
    fakes.run_for(&mut engine, OVERLAP * 24).await;
    assert_eq!(fakes.live_ids().len(), 2);
    let recorded = fakes.query_rows("SELECT deferral FROM rotation WHERE phase = 'retired'");
    assert_eq!(recorded, ["use-unreadable"]);
    assert_eq!(
        captured.lines_with("INFO", "cannot read the times").len(),
        1
    );
    let max_revoke_delay = OVERLAP * 24 * 8;
    fakes.run_for(&mut engine, max_revoke_delay).await;
    assert_eq!(fakes.live_ids(), [successor(&engine)]);
}

/// Once it is known that rekeyd works with another credential, the schedule continues.
#[tokio::test]
async fn a_credential_known_to_be_another_is_revoked_after_a_doubt() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_retired_credential(&fakes).await;
    fakes.set_usage(CredentialUsage::MayBeInUse);
    fakes.run_for(&mut engine, OVERLAP * 2).await;
    assert_eq!(fakes.live_ids().len(), 2);
    fakes.set_usage(CredentialUsage::Unused);
    fakes.run_for(&mut engine, OVERLAP).await;
    assert_eq!(fakes.live_ids(), [successor(&engine)]);
}

#[tokio::test]
async fn a_request_that_revokes_previous_deletes_within_the_overlap() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    let request = RotationRequest {
        operator: None,
        revoke_previous: true,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    engine.request_rotation(&key(), request);
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.live_ids(), [successor(&engine)]);
    assert!(fakes.take_calls().contains(&"delete key_1".to_owned()));
}
