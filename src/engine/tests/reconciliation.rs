//! The consequences of a comparison with the provider.

use std::path::Path;
use std::time::Duration;

use crate::core::change::{Change, OperatorNote, RotationChange, SinkDrift};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::scope::Scope;
use crate::core::state::Trigger;
use crate::core::time;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::rotation_changes::{created, current, intended, rotation, transitioned};
use crate::engine::{Engine, RunMode};
use crate::ledger::{LedgerReader, MIN_PRUNABLE_AGE, PruneBatch, WriterDriver};
use crate::provider::{Effect, ErrorKind};

const MINUTE: Duration = Duration::from_secs(60);

async fn open_daemon(fakes: &Fakes, changes: Vec<Change>) -> Engine {
    fakes.write_ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
    fakes.open_engine(vec![managed], RunMode::Daemon).await
}

#[tokio::test]
async fn a_credential_is_gone_after_three_absences_over_a_quarter_of_an_hour() {
    let fakes = Fakes::new(&[]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    fakes.run_for(&mut engine, MINUTE * 15).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "current");
    let check_count = |calls: Vec<String>| {
        calls
            .iter()
            .filter(|call| *call == "retrieve key_1")
            .count()
    };
    assert_eq!(check_count(fakes.take_calls()), 2);
    fakes.run_for(&mut engine, MINUTE * 5).await;
    assert_eq!(check_count(fakes.take_calls()), 1);
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.current().unwrap().trigger, Trigger::Repair);
}

#[tokio::test]
async fn a_missing_credential_that_reappears_is_found() {
    let fakes = Fakes::new(&[]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    fakes.run_for(&mut engine, MINUTE * 10).await;
    fakes.add_credential("key_1", "label-1");
    fakes.run_for(&mut engine, MINUTE * 60).await;
    assert_eq!(fakes.live_ids(), ["key_1"]);
    assert!(
        engine
            .state(&key())
            .unwrap()
            .current()
            .unwrap()
            .missing
            .is_none()
    );
}

#[tokio::test]
async fn absence_from_a_listing_alone_is_not_missing() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.override_list(&[]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    fakes.run_for(&mut engine, MINUTE).await;
    assert!(fakes.take_calls().contains(&"retrieve key_1".to_owned()));
    let state = engine.state(&key()).unwrap();
    assert!(state.current().unwrap().missing.is_none());
}

#[tokio::test]
async fn presence_in_a_listing_alone_is_not_alive() {
    let mut changes = created(1);
    changes.extend([
        transitioned(1, LifecycleEvent::Abandoned),
        transitioned(1, LifecycleEvent::Deleted),
    ]);
    changes.extend(current(2));
    let fakes = Fakes::new(&[("key_2", "label-2")]);
    fakes.override_list(&[("key_1", "label-1"), ("key_2", "label-2")]);
    let mut engine = open_daemon(&fakes, changes).await;
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.journal_details("found-alive"), [""; 0]);
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    // A credential that cannot be retrieved is not alive either; it is checked again.
    fakes.fail_calls(Some(("retrieve", ErrorKind::ServerError)));
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.journal_details("found-alive"), [""; 0]);
}

#[tokio::test]
async fn an_unverifiable_live_credential_is_checked_again() {
    let mut changes = created(1);
    changes.extend([
        transitioned(1, LifecycleEvent::Abandoned),
        transitioned(1, LifecycleEvent::Deleted),
    ]);
    changes.extend(current(2));
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_2", "label-2")]);
    fakes.fail_calls(Some(("retrieve", ErrorKind::ServerError)));
    let (lines, _guard) = CapturedLog::capture();
    let mut engine = open_daemon(&fakes, changes).await;
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(
        lines
            .lines_with("WARN", "retrying at the next reconciliation")
            .len(),
        1
    );
    fakes.fail_calls(None);
    fakes.run_for(&mut engine, MINUTE * 15).await;
    assert_eq!(fakes.live_ids(), ["key_2"]);
}

#[tokio::test]
async fn a_live_credential_of_a_failed_rotation_is_revoked_after_the_overlap() {
    let mut changes = intended(1);
    changes.push(transitioned(1, LifecycleEvent::LabelNotFound));
    changes.extend(current(2));
    let fakes = Fakes::new(&[("key_late", "label-1"), ("key_2", "label-2")]);
    fakes.write_ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE * 30);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    // A process whose commits this ledger lacks may have delivered it.
    assert_eq!(fakes.live_ids(), ["key_2", "key_late"]);
    assert_eq!(fakes.phase_of(&rotation(1)), "orphaned");
    fakes.run_for(&mut engine, MINUTE * 30).await;
    assert_eq!(fakes.live_ids(), ["key_2"]);
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
}

#[tokio::test]
async fn a_live_credential_of_a_revoked_rotation_is_revoked_again() {
    let mut changes = created(1);
    changes.extend([
        transitioned(1, LifecycleEvent::Abandoned),
        transitioned(1, LifecycleEvent::Deleted),
    ]);
    changes.extend(current(2));
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_2", "label-2")]);
    let mut engine = open_daemon(&fakes, changes).await;
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.live_ids(), ["key_2"]);
}

/// Prunes every rotation that may leave the ledger, as a month after the last change.
async fn prune(fakes: &Fakes) -> usize {
    let before = time::after(at(), MINUTE);
    let now = time::after(before, MIN_PRUNABLE_AGE);
    let ledger = fakes.open_ledger_with(WriterDriver::Task);
    let archive = {
        let reader = LedgerReader::open(&fakes.ledger_path()).unwrap();
        let made = reader.snapshot().unwrap().make_archive(before, now);
        made.unwrap().unwrap()
    };
    let archive = archive.read_back(Path::new("/old.archive")).unwrap();
    let batch = PruneBatch {
        archive: archive.stamp,
        rotations: archive.rotations,
        operator: OperatorNote {
            reason: None,
            by: "ada".to_owned(),
        },
    };
    ledger.prune(batch, now).await.unwrap().rotations
}

/// The provider restored a key, and applied a create late: what stays of a pruned rotation
/// recognizes both.
#[tokio::test]
async fn live_credential_of_a_pruned_rotation_is_revoked_again() {
    let mut changes = created(1);
    changes.extend([
        transitioned(1, LifecycleEvent::Abandoned),
        transitioned(1, LifecycleEvent::Deleted),
    ]);
    changes.extend(intended(2));
    changes.push(transitioned(2, LifecycleEvent::LabelNotFound));
    changes.extend(current(3));
    let alive = [
        ("key_1", "label-1"),
        ("key_late", "label-2"),
        ("key_3", "label-3"),
    ];
    let fakes = Fakes::new(&alive);
    fakes.write_ledger(vec![(key(), changes)]).await;
    assert_eq!(prune(&fakes).await, 2);
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE * 30);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.journal_details("row-returned").len(), 2);
    assert_eq!(fakes.journal_details("found-alive").len(), 2);
    fakes.run_for(&mut engine, MINUTE * 180).await;
    assert_eq!(fakes.live_ids(), ["key_3"]);
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert_eq!(fakes.phase_of(&rotation(2)), "revoked");
}

/// Somebody put back what was pruned long ago, at the provider and in the file of a sink. Its
/// consumers get an overlap, whether rekeyd or a person replaces it there.
#[tokio::test]
async fn pruned_credential_in_a_file_gets_an_overlap_once_the_file_holds_another_one() {
    for is_repaired in [true, false] {
        let mut changes = created(1);
        changes.extend([
            transitioned(1, LifecycleEvent::Abandoned),
            transitioned(1, LifecycleEvent::Deleted),
        ]);
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(vec![(key(), changes)]).await;
        let managed = || fakes.managed_key(key(), |policy| policy.overlap = MINUTE * 30);
        let mut engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
        fakes.run_for(&mut engine, MINUTE).await;
        drop(engine);
        assert_eq!(prune(&fakes).await, 1);
        fakes.add_credential("key_1", "label-1");
        fakes.set_redacted("key_1", "sk-admin-...XYZ");
        // The secret follows from the label.
        let newest_secret = || {
            let newest = "SELECT label FROM rotation ORDER BY sequence DESC LIMIT 1";
            let label = fakes.query_rows(newest).remove(0);
            format!("sk-admin-{}", label.chars().rev().collect::<String>())
        };
        let before = newest_secret();
        let hold = |secret: &str| {
            fakes.hold_key("file", secret);
            fakes.set_content("file", Some(secret));
        };
        hold("sk-admin-0123456789abcXYZ");
        if !is_repaired {
            fakes.fail_creates(Some((ErrorKind::Refused, Effect::NotApplied)));
        }
        let mut engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
        fakes.run_for(&mut engine, MINUTE).await;
        assert_eq!(fakes.phase_of(&rotation(1)), "orphaned", "{is_repaired}");
        assert_eq!(fakes.live_ids().len(), if is_repaired { 3 } else { 2 });
        hold(&if is_repaired { newest_secret() } else { before });
        fakes.run_for(&mut engine, MINUTE * 25).await;
        assert!(
            fakes.live_ids().contains(&"key_1".to_owned()),
            "{is_repaired}: consumers may use it"
        );
        fakes.run_for(&mut engine, MINUTE * 150).await;
        assert_eq!(fakes.phase_of(&rotation(1)), "revoked", "{is_repaired}");
    }
}

#[tokio::test]
async fn a_credential_wrongly_recorded_as_gone_is_revoked_only_after_its_sinks_accept_a_newer_one()
{
    let fakes = Fakes::new(&[]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    fakes.fail_creates(Some((ErrorKind::Refused, Effect::NotApplied)));
    fakes.run_for(&mut engine, MINUTE * 20).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    // The provider was wrong, and the consumers have no other credential.
    fakes.add_credential("key_1", "label-1");
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, MINUTE * 60).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "orphaned");
    assert_eq!(fakes.live_ids(), ["key_1"]);
    fakes.fail_creates(None);
    fakes.run_for(&mut engine, MINUTE * 180).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert_eq!(fakes.live_ids().len(), 1);
}

/// The consumers have an overlap, which a wrong clock must not end.
#[tokio::test]
async fn a_wrong_clock_revokes_no_orphan_that_sinks_hold() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE * 30);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE * 20).await;
    assert_eq!(
        fakes.live_ids().len(),
        1,
        "the missing credential was replaced"
    );
    fakes.add_credential("key_1", "label-1");
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, MINUTE / 6).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "orphaned");
    fakes.set_provider_clock_ahead(MINUTE * 60);
    fakes.run_for(&mut engine, MINUTE * 40).await;
    assert!(fakes.live_ids().contains(&"key_1".to_owned()));
    fakes.set_provider_clock_ahead(Duration::ZERO);
    fakes.run_for(&mut engine, MINUTE * 30).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert_eq!(fakes.live_ids().len(), 1);
}

#[tokio::test]
async fn a_failing_listing_raises_no_condition_and_backs_off() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    fakes.run_for(&mut engine, MINUTE).await;
    fakes.take_calls();
    fakes.fail_calls(Some(("list", ErrorKind::ServerError)));
    let (lines, _guard) = CapturedLog::capture();
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, MINUTE * 60).await;
    let lists = fakes.take_calls();
    let lists = lists.iter().filter(|call| *call == "list").count();
    assert!((10..20).contains(&lists), "{lists}");
    assert_eq!(lines.lines_with("ERROR", "").len(), 0);
}

#[tokio::test]
async fn a_duplicate_of_a_label_is_revoked() {
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_double", "label-1")]);
    let mut engine = open_daemon(&fakes, current(1)).await;
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.live_ids(), ["key_1"]);
    assert_eq!(fakes.phase_of(&rotation(1)), "current");
}

/// The answer to the create showed an id that no credential has: the sinks hold what bears
/// the label.
#[tokio::test]
async fn what_bears_the_label_of_a_credential_that_is_gone_stays_for_an_overlap() {
    let fakes = Fakes::new(&[("key_real", "label-1")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let overlap = MINUTE * 60;
    let managed = fakes.managed_key(key(), |policy| policy.overlap = overlap);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE * 30).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    let is_live = || fakes.live_ids().contains(&"key_real".to_owned());
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, MINUTE).await;
    assert!(is_live(), "its overlap begins with the next rotation");
    fakes.run_for(&mut engine, overlap).await;
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, MINUTE).await;
    assert!(!is_live());
    assert_eq!(fakes.live_ids().len(), 1);
}

#[tokio::test]
async fn both_credentials_of_an_unknown_create_are_revoked() {
    let fakes = Fakes::new(&[("key_a", "label-1"), ("key_b", "label-1")]);
    let mut engine = open_daemon(&fakes, intended(1)).await;
    fakes.run_for(&mut engine, MINUTE * 10).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert_eq!(fakes.live_ids().len(), 1);
    let state = engine.state(&key()).unwrap();
    let current = state.current().unwrap().credential.as_ref().unwrap();
    assert_eq!(fakes.live_ids(), [current.id.as_str()]);
}

#[tokio::test]
async fn unknown_credentials_are_left_alone_and_logged_once() {
    let lookalike = "billing-20261123T030000Z-5f3a9c";
    let fakes = Fakes::new(&[
        ("key_1", "label-1"),
        ("key_like", lookalike),
        ("key_foreign", "somebody's"),
    ]);
    let (lines, _guard) = CapturedLog::capture();
    let mut engine = open_daemon(&fakes, current(1)).await;
    fakes.run_for(&mut engine, MINUTE).await;
    drop(engine);
    let managed = fakes.managed_key(key(), |_| {});
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(lines.lines_with("WARN", "key_like").len(), 1);
    assert_eq!(
        lines
            .lines_with("INFO", "1 admin key in this organization is not managed")
            .len(),
        1
    );
    assert_eq!(fakes.live_ids().len(), 3);
}

#[tokio::test]
async fn a_new_key_with_a_lookalike_is_not_rotated() {
    let fakes = Fakes::new(&[("key_like", "billing-20261123T030000Z-5f3a9c")]);
    let mut engine = open_daemon(&fakes, Vec::new()).await;
    fakes.run_for(&mut engine, MINUTE * 600).await;
    assert_eq!(fakes.live_ids(), ["key_like"]);
    let problem = engine.state(&key()).unwrap().last_error.clone().unwrap();
    for way in [
        "restore a backup",
        "rekeyd adopt billing key_like",
        "rekeyd rotate billing",
    ] {
        assert!(problem.contains(way), "{problem}");
    }
}

/// A rotation must not start by an old list.
#[tokio::test]
async fn a_key_added_by_reload_with_a_lookalike_is_not_rotated() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let mut engine = fakes.open_engine(Vec::new(), RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE * 60).await;
    fakes.add_credential("key_like", "billing-20261123T030000Z-5f3a9c");
    let services = engine.services().clone();
    engine.reconfigure(services, vec![fakes.managed_key(key(), |_| {})]);
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.live_ids(), ["key_like"]);
}

#[tokio::test]
async fn an_unrecognized_credential_becomes_a_lookalike_when_its_key_is_configured() {
    let fakes = Fakes::new(&[("key_like", "billing-20261123T030000Z-5f3a9c")]);
    fakes.write_ledger(Vec::new()).await;
    let mut engine = fakes.open_engine(Vec::new(), RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let kinds = "SELECT kind FROM unknown_credential";
    assert_eq!(fakes.query_rows(kinds), ["unrecognized"]);
    let (lines, _guard) = CapturedLog::capture();
    let services = engine.services().clone();
    engine.reconfigure(services, vec![fakes.managed_key(key(), |_| {})]);
    // Immediately, by the list of a minute ago.
    fakes.run_for(&mut engine, Duration::ZERO).await;
    assert_eq!(fakes.live_ids(), ["key_like"]);
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.query_rows(kinds), ["lookalike"]);
    assert_eq!(lines.lines_with("WARN", "rekeyd leaves it alone").len(), 1);
}

/// A restored ledger, or one that lost commits, must not repeat a sequence that sinks
/// have applied.
#[tokio::test]
async fn a_sequence_is_the_time_in_seconds_or_one_more_than_the_last() {
    let drift = |rotation| {
        let sink = crate::engine::tests::fake::sink_id();
        let problem = "gone".to_owned();
        Change::from(SinkDrift {
            rotation,
            sink,
            problem,
        })
    };
    let now = u64::try_from(time::whole_seconds(at()).as_second()).unwrap();
    for (last, minimum) in [(1, now), (now + 9_000, now + 9_001)] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut changes = current(1);
        let Some(Change::Rotation(RotationChange::Started(intent))) = changes.first_mut() else {
            panic!("a rotation begins with its intent");
        };
        intent.sequence = last;
        changes.push(drift(rotation(1)));
        let mut engine = open_daemon(&fakes, changes).await;
        fakes.run_for(&mut engine, MINUTE).await;
        let sequence = engine.state(&key()).unwrap().current().unwrap().sequence;
        assert!(
            (minimum..minimum + 60).contains(&sequence),
            "{last} {sequence}"
        );
    }
}
