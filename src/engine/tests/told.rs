//! What the log tells: a rotation's story, and what is urgent.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Adoption, Answered, Change};
use crate::core::names::CredentialId;
use crate::core::record::{CredentialFacts, Pause};
use crate::core::rotation::Event;
use crate::core::time;
use crate::engine::tell::tell;
use crate::engine::tests::fake::{Fakes, at, key, sink_id};
use crate::engine::tests::lines::Lines;
use crate::engine::tests::rows::{current, rotation};
use crate::engine::{Course, Wish};
use crate::provider::Cause;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_rotation_tells_its_story() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let (lines, _guard) = Lines::listen();
    let mut engine = fakes.engine(current(1), HOUR).await;
    let wish = Wish {
        by_hand: None,
        revoke_previous: false,
    };
    engine.wish(&key(), wish);
    fakes.run(&mut engine, HOUR * 2).await;
    for told in [
        "rotating billing (manual)",
        "created key_of_billing",
        "its secret works",
        "delivered billing to file (file:/x)",
        "is the current credential of billing",
        "retired key_1 of billing; it is revoked after 2026-11-24T04:00:00Z",
        "revoked the previous key_1 of billing",
    ] {
        assert_eq!(lines.with("INFO", told).len(), 1, "{told}");
    }
    assert_eq!(
        lines.with("WARN", "").len() + lines.with("ERROR", "").len(),
        0
    );
}

#[tokio::test]
async fn an_end_without_a_successor_is_urgent() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let adopted = Change::Adopted(Adoption {
        rotation: rotation(1),
        credential: CredentialFacts {
            id: CredentialId::new("key_1".to_owned()),
            redacted_value: None,
            created_at: Some(time::before(at(), HOUR * 24)),
            expires_at: Some(time::after(at(), HOUR)),
        },
        event: Event::Adopted,
        sinks: Vec::new(),
        by_hand: None,
    });
    fakes.ledger(vec![(key(), vec![adopted])]).await;
    let managed = fakes.managed(key(), |_| {});
    let (lines, _guard) = Lines::listen();
    let mut engine = fakes.open(vec![managed], Course::Once).await;
    fakes.fail(Some(Cause::RateLimited));
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(lines.with("ERROR", "ends at 2026-11-24T04:00:00Z").len(), 1);
    fakes.fail(None);
    fakes.run(&mut engine, Duration::from_secs(60)).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.current().unwrap().sequence, 2);
    assert_eq!(lines.with("ERROR", "ends at").len(), 1, "and no more");
}

#[tokio::test]
async fn what_goes_missing_and_is_found_is_told() {
    let fakes = Fakes::new(&[]);
    let (lines, _guard) = Lines::listen();
    fakes.ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(lines.with("WARN", "the provider has no key_1").len(), 1);
    fakes.put("key_1", "label-1");
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(
        lines.with("INFO", "key_1 of billing is there again").len(),
        1
    );
    // And once more, for good.
    fakes.take("key_1");
    engine.errands.sweep_now(fakes.now());
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(lines.with("ERROR", "key_1 of billing is gone").len(), 1);
    assert_eq!(fakes.alive().len(), 1, "it is replaced");
}

#[tokio::test]
async fn a_backstop_that_is_off_is_told_once() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |policy| policy.expires_after = Some(HOUR * 24 * 90));
    let (lines, _guard) = Lines::listen();
    let mut engine = fakes.open(vec![managed], Course::Once).await;
    fakes.run(&mut engine, HOUR * 24 * 70).await;
    assert!(fakes.told("created").len() >= 2);
    assert_eq!(lines.with("WARN", "the backstop is off").len(), 1);
}

/// What is told of each of these changes of a key.
async fn told_of(changes: &[Change]) -> Vec<String> {
    let fakes = Fakes::new(&[]);
    let engine = fakes.engine(current(1), HOUR).await;
    let state = engine.state(&key()).unwrap();
    let (lines, _guard) = Lines::listen();
    tell(state, state, changes, at());
    lines.with("", "billing")
}

fn paused(until: Option<Timestamp>) -> Change {
    let pause = Pause { from: at(), until };
    Change::Paused {
        pause,
        by_hand: None,
    }
}

#[tokio::test]
async fn pauses_are_told_until_when_they_hold() {
    for (change, told) in [
        (
            paused(Some(time::after(at(), HOUR))),
            "billing is paused by hand until 2026-11-24T04:00:00Z",
        ),
        (paused(None), "is paused by hand until `rekeyd resume`"),
        (paused(Some(at())), "billing is resumed by hand"),
    ] {
        let lines = told_of(&[change]).await;
        assert!(
            lines.len() == 1 && lines[0].contains(told),
            "{told}: {lines:?}"
        );
    }
}

#[tokio::test]
async fn another_timetable_is_told_and_the_first_is_not() {
    let change = Change::Timetabled {
        timetable: "0 7 * * * | UTC | 0s".to_owned(),
        counts_from: None,
        owed: None,
    };
    let fakes = Fakes::new(&[]);
    let engine = fakes.engine(current(1), HOUR).await;
    let mut before = engine.state(&key()).unwrap().clone();
    for (timetable, lines) in [(None, 0), (Some("0 3 * * * | UTC | 0s"), 1)] {
        before.timetable = timetable.map(str::to_owned);
        let (told, _guard) = Lines::listen();
        tell(&before, &before, std::slice::from_ref(&change), at());
        assert_eq!(
            told.with("INFO", "the timetable of billing is now").len(),
            lines
        );
    }
}

#[tokio::test]
async fn what_became_of_a_file_is_told() {
    let answered = |written, error: Option<&str>, retry_at| {
        Change::Answered(Answered {
            written,
            error: error.map(str::to_owned),
            retry_at,
            ..Answered::uncertain(&rotation(1), &sink_id())
        })
    };
    let later = Some(time::after(at(), HOUR));
    for (change, level, told) in [
        (
            answered(true, None, None),
            "INFO",
            "stands in file (file:/x); what follows its change is run",
        ),
        (
            answered(true, Some("exit 1"), later),
            "WARN",
            "did not end well: exit 1; it is run again at 2026-11-24T04:00:00Z",
        ),
        (
            answered(false, Some("no file"), None),
            "WARN",
            "does not stand in file (file:/x) any more: no file",
        ),
        (
            answered(false, Some("full"), later),
            "WARN",
            "was not delivered to file (file:/x): full; trying again at 2026-11-24T04:00:00Z",
        ),
    ] {
        let lines = told_of(&[change]).await;
        assert!(
            lines.len() == 1 && lines[0].contains(level) && lines[0].contains(told),
            "{told}: {lines:?}"
        );
    }
}
