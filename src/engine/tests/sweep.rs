//! What a comparison with the provider leads to.

use std::time::Duration;

use crate::core::change::Change;
use crate::core::names::Label;
use crate::core::record::Trigger;
use crate::core::rotation::Event;
use crate::core::time;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::lines::Lines;
use crate::engine::tests::rows::{created, current, intended, moved, rotation};
use crate::engine::{Course, Engine};
use crate::provider::{Cause, Outcome};

const MINUTE: Duration = Duration::from_secs(60);

async fn daemon(fakes: &Fakes, changes: Vec<Change>) -> Engine {
    fakes.ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed(key(), |policy| policy.overlap = MINUTE);
    fakes.open(vec![managed], Course::Daemon).await
}

#[tokio::test]
async fn what_is_gone_is_believed_after_three_answers_over_a_quarter_of_an_hour() {
    let fakes = Fakes::new(&[]);
    let mut engine = daemon(&fakes, current(1)).await;
    fakes.run(&mut engine, MINUTE * 15).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "current");
    let looks = |calls: Vec<String>| calls.iter().filter(|one| *one == "retrieve key_1").count();
    assert_eq!(looks(fakes.take_calls()), 2);
    fakes.run(&mut engine, MINUTE * 5).await;
    assert_eq!(looks(fakes.take_calls()), 1);
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.current().unwrap().trigger, Trigger::Repair);
}

#[tokio::test]
async fn what_was_missing_and_is_there_again_is_believed() {
    let fakes = Fakes::new(&[]);
    let mut engine = daemon(&fakes, current(1)).await;
    fakes.run(&mut engine, MINUTE * 10).await;
    fakes.put("key_1", "label-1");
    fakes.run(&mut engine, MINUTE * 60).await;
    assert_eq!(fakes.alive(), ["key_1"]);
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
async fn what_only_a_list_does_not_show_is_not_missing() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.list_as(&[]);
    let mut engine = daemon(&fakes, current(1)).await;
    fakes.run(&mut engine, MINUTE).await;
    assert!(fakes.take_calls().contains(&"retrieve key_1".to_owned()));
    let state = engine.state(&key()).unwrap();
    assert!(state.current().unwrap().missing.is_none());
}

#[tokio::test]
async fn what_only_a_list_shows_is_not_alive() {
    let mut changes = created(1);
    changes.extend([moved(1, Event::GivenUp), moved(1, Event::Deleted)]);
    changes.extend(current(2));
    let fakes = Fakes::new(&[("key_2", "label-2")]);
    fakes.list_as(&[("key_1", "label-1"), ("key_2", "label-2")]);
    let mut engine = daemon(&fakes, changes).await;
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(fakes.told("seen-alive"), [""; 0]);
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    // Nor is what cannot be asked for: it is tried again.
    fakes.fail_only(Some(("retrieve", Cause::ServerError)));
    engine.errands.sweep_now(fakes.now());
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(fakes.told("seen-alive"), [""; 0]);
}

#[tokio::test]
async fn what_was_seen_alive_and_cannot_be_asked_for_is_looked_for_again() {
    let mut changes = created(1);
    changes.extend([moved(1, Event::GivenUp), moved(1, Event::Deleted)]);
    changes.extend(current(2));
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_2", "label-2")]);
    fakes.fail_only(Some(("retrieve", Cause::ServerError)));
    let (lines, _guard) = Lines::listen();
    let mut engine = daemon(&fakes, changes).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(lines.with("WARN", "it is tried again").len(), 1);
    fakes.fail_only(None);
    fakes.run(&mut engine, MINUTE * 15).await;
    assert_eq!(fakes.alive(), ["key_2"]);
}

#[tokio::test]
async fn what_failed_and_is_alive_is_revoked() {
    let mut changes = intended(1);
    changes.push(moved(1, Event::LabelNotFound));
    changes.extend(current(2));
    let fakes = Fakes::new(&[("key_late", "label-1"), ("key_2", "label-2")]);
    let mut engine = daemon(&fakes, changes).await;
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(fakes.alive(), ["key_2"]);
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
}

#[tokio::test]
async fn what_was_revoked_and_is_alive_is_revoked_again() {
    let mut changes = created(1);
    changes.extend([moved(1, Event::GivenUp), moved(1, Event::Deleted)]);
    changes.extend(current(2));
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_2", "label-2")]);
    let mut engine = daemon(&fakes, changes).await;
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(fakes.alive(), ["key_2"]);
}

#[tokio::test]
async fn what_was_taken_for_gone_and_is_alive_stays_until_its_sinks_have_a_newer_one() {
    let fakes = Fakes::new(&[]);
    let mut engine = daemon(&fakes, current(1)).await;
    fakes.fail_creates(Some((Cause::Refused, Outcome::NotDone)));
    fakes.run(&mut engine, MINUTE * 20).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    // The provider was wrong, and its consumers have nothing else.
    fakes.put("key_1", "label-1");
    engine.errands.sweep_now(fakes.now());
    fakes.run(&mut engine, MINUTE * 60).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "orphaned");
    assert_eq!(fakes.alive(), ["key_1"]);
    fakes.fail_creates(None);
    fakes.run(&mut engine, MINUTE * 180).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert_eq!(fakes.alive().len(), 1);
}

/// Its consumers have an overlap then, and a wrong clock does not end it.
#[tokio::test]
async fn by_a_wrong_clock_no_orphan_that_has_consumers_goes() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed(key(), |policy| policy.overlap = MINUTE * 30);
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.run(&mut engine, MINUTE * 20).await;
    assert_eq!(fakes.alive().len(), 1, "it was taken for gone and replaced");
    fakes.put("key_1", "label-1");
    engine.errands.sweep_now(fakes.now());
    fakes.run(&mut engine, MINUTE / 6).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "orphaned");
    fakes.put_ahead(MINUTE * 60);
    fakes.run(&mut engine, MINUTE * 40).await;
    assert!(fakes.alive().contains(&"key_1".to_owned()));
    fakes.put_ahead(Duration::ZERO);
    fakes.run(&mut engine, MINUTE * 30).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert_eq!(fakes.alive().len(), 1);
}

#[tokio::test]
async fn a_list_that_fails_alone_stops_nothing_and_is_not_asked_for_each_second() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = daemon(&fakes, current(1)).await;
    fakes.run(&mut engine, MINUTE).await;
    fakes.take_calls();
    fakes.fail_only(Some(("list", Cause::ServerError)));
    let (lines, _guard) = Lines::listen();
    engine.errands.sweep_now(fakes.now());
    fakes.run(&mut engine, MINUTE * 60).await;
    let lists = fakes.take_calls();
    let lists = lists.iter().filter(|call| *call == "list").count();
    assert!((10..20).contains(&lists), "{lists}");
    assert_eq!(lines.with("ERROR", "").len(), 0);
}

#[tokio::test]
async fn a_second_credential_with_a_label_of_ours_is_revoked() {
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_double", "label-1")]);
    let mut engine = daemon(&fakes, current(1)).await;
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(fakes.alive(), ["key_1"]);
    assert_eq!(fakes.phase_of(&rotation(1)), "current");
}

#[tokio::test]
async fn two_credentials_of_one_unclear_create_are_both_revoked() {
    let fakes = Fakes::new(&[("key_a", "label-1"), ("key_b", "label-1")]);
    let mut engine = daemon(&fakes, intended(1)).await;
    fakes.run(&mut engine, MINUTE * 10).await;
    assert_eq!(fakes.phase_of(&rotation(1)), "revoked");
    assert_eq!(fakes.alive().len(), 1);
    let state = engine.state(&key()).unwrap();
    let current = state.current().unwrap().credential.as_ref().unwrap();
    assert_eq!(fakes.alive(), [current.id.as_str()]);
}

#[tokio::test]
async fn strangers_are_left_alone_and_told_once() {
    let lookalike = "billing-20261123T030000Z-5f3a9c";
    let fakes = Fakes::new(&[
        ("key_1", "label-1"),
        ("key_like", lookalike),
        ("key_foreign", "somebody's"),
    ]);
    let (lines, _guard) = Lines::listen();
    let mut engine = daemon(&fakes, current(1)).await;
    fakes.run(&mut engine, MINUTE).await;
    drop(engine);
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(lines.with("WARN", "key_like").len(), 1);
    assert_eq!(lines.with("INFO", "1 admin keys").len(), 1);
    assert_eq!(fakes.alive().len(), 3);
}

#[tokio::test]
async fn a_key_without_rows_is_not_begun_beside_a_lookalike() {
    let fakes = Fakes::new(&[("key_like", "billing-20261123T030000Z-5f3a9c")]);
    let mut engine = daemon(&fakes, Vec::new()).await;
    fakes.run(&mut engine, MINUTE * 600).await;
    assert_eq!(fakes.alive(), ["key_like"]);
    let problem = engine.state(&key()).unwrap().problem.clone().unwrap();
    for way in [
        "restore it from a backup",
        "rekeyd adopt billing key_like",
        "rekeyd rotate billing",
    ] {
        assert!(problem.contains(way), "{problem}");
    }
}

/// An old list is no reason to begin.
#[tokio::test]
async fn a_key_that_is_added_later_is_not_begun_beside_a_lookalike_either() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    let mut engine = fakes.open(Vec::new(), Course::Daemon).await;
    fakes.run(&mut engine, MINUTE * 60).await;
    fakes.put("key_like", "billing-20261123T030000Z-5f3a9c");
    let parts = engine.parts().clone();
    engine.reconfigure(parts, vec![fakes.managed(key(), |_| {})]);
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(fakes.alive(), ["key_like"]);
}

#[tokio::test]
async fn a_lookalike_counts_that_was_a_stranger_when_its_key_was_not_configured() {
    let fakes = Fakes::new(&[("key_like", "billing-20261123T030000Z-5f3a9c")]);
    fakes.ledger(Vec::new()).await;
    let mut engine = fakes.open(Vec::new(), Course::Daemon).await;
    fakes.run(&mut engine, MINUTE).await;
    let kinds = "SELECT kind FROM stranger";
    assert_eq!(fakes.rows(kinds), ["foreign"]);
    let (lines, _guard) = Lines::listen();
    let parts = engine.parts().clone();
    engine.reconfigure(parts, vec![fakes.managed(key(), |_| {})]);
    // At once, by the list of a minute ago.
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(fakes.alive(), ["key_like"]);
    engine.errands.sweep_now(fakes.now());
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(fakes.rows(kinds), ["lookalike"]);
    assert_eq!(lines.with("WARN", "it is left alone").len(), 1);
}

#[tokio::test]
async fn beside_a_newer_lookalike_the_sequence_goes_on_with_the_time() {
    let (older, newer) = (
        "billing-20261124T010000Z-5f3a9c",
        "billing-20261124T020000Z-5f3a9c",
    );
    let fakes = Fakes::new(&[("key_1", older), ("key_like", newer)]);
    let mut changes = current(1);
    let Some(Change::Intended(intent)) = changes.first_mut() else {
        panic!("a rotation begins with its intent");
    };
    intent.label = Label::recorded(older.to_owned());
    changes.push(Change::TargetLost {
        rotation: rotation(1),
        sink: crate::engine::tests::fake::sink_id(),
        problem: "gone".to_owned(),
    });
    let mut engine = daemon(&fakes, changes).await;
    fakes.run(&mut engine, MINUTE).await;
    let sequence = engine.state(&key()).unwrap().current().unwrap().sequence;
    let now = u64::try_from(time::whole_seconds(at()).as_second()).unwrap();
    assert!(sequence >= now, "{sequence}");
}
