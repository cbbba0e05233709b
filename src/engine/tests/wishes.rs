//! What a person's wish does to a rotation that is open already, and what is
//! kept of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::change::ByHand;
use crate::core::names::CredentialId;
use crate::core::rotation::Phase;
use crate::engine::order::{Asked, Order};
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rows::{current, intended, rotation};
use crate::engine::{Course, Engine, Wish};
use crate::provider::Cause;

const HOUR: Duration = Duration::from_secs(3_600);

fn wish(revoke_previous: bool) -> Wish {
    Wish {
        by_hand: None,
        revoke_previous,
    }
}

/// A key whose first secret is refused, and waits for the next try.
async fn refused(fakes: &Fakes) -> Engine {
    fakes.refuse_secrets(true);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    engine
}

fn open(engine: &Engine) -> Option<(u64, Phase, u32)> {
    let open = engine.state(&key()).unwrap().open()?;
    Some((open.sequence, open.phase, open.attempt))
}

fn remembers(engine: &Engine) -> bool {
    let idle = engine.keys[&key()].idle.as_ref().unwrap();
    idle.memory.is_some()
}

#[tokio::test]
async fn what_waits_is_tried_now() {
    let fakes = Fakes::new(&[]);
    let mut engine = refused(&fakes).await;
    assert_eq!(open(&engine), Some((1, Phase::Created, 1)));
    fakes.run(&mut engine, Duration::from_secs(1)).await;
    assert_eq!(open(&engine), Some((1, Phase::Created, 2)));
    fakes.refuse_secrets(false);
    engine.wish(&key(), wish(false));
    fakes.run(&mut engine, Duration::ZERO).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.current().unwrap().sequence, 1);
}

#[tokio::test]
async fn who_did_not_want_to_wait_is_in_the_journal() {
    let fakes = Fakes::new(&[]);
    let mut engine = refused(&fakes).await;
    let by_hand = ByHand {
        reason: Some("at once".to_owned()),
        by: "uid 7".to_owned(),
    };
    let wish = Wish {
        by_hand: Some(by_hand),
        revoke_previous: false,
    };
    engine.wish(&key(), wish);
    fakes.run(&mut engine, Duration::ZERO).await;
    let told = "SELECT detail FROM journal WHERE event = 'try-now'";
    assert_eq!(fakes.rows(told), [r#"{"by":"uid 7","reason":"at once"}"#]);
}

#[tokio::test]
async fn where_a_person_wants_another_the_open_one_is_given_up() {
    let fakes = Fakes::new(&[]);
    let mut engine = refused(&fakes).await;
    engine.wish(&key(), wish(true));
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(open(&engine), Some((2, Phase::Created, 1)));
    assert_eq!(fakes.alive().len(), 1, "the first is revoked at once");
    assert!(fakes.told("given-up")[0].contains("given up for a rotation by hand"));
}

/// Whoever asks for less later does not spare what is to go.
#[tokio::test]
async fn of_two_wishes_the_one_that_revokes_counts() {
    for early in [true, false] {
        let fakes = Fakes::new(&[]);
        let mut engine = refused(&fakes).await;
        let by = |by: &str, revoke_previous| Wish {
            by_hand: Some(ByHand {
                reason: None,
                by: by.to_owned(),
            }),
            revoke_previous,
        };
        let (first, second) = (by("uid 1", early), by("uid 2", !early));
        engine.wish(&key(), first);
        engine.wish(&key(), second);
        fakes.run(&mut engine, Duration::ZERO).await;
        assert_eq!(open(&engine), Some((2, Phase::Created, 1)));
        let revokes = if early { "uid 1" } else { "uid 2" };
        assert!(fakes.told("given-up")[0].contains("rotation by hand"));
        let told = "SELECT detail FROM journal WHERE event = 'due' ORDER BY seq DESC LIMIT 1";
        assert!(
            fakes.rows(told)[0].contains(revokes),
            "{:?}",
            fakes.rows(told)
        );
    }
}

#[tokio::test]
async fn what_is_unclear_is_settled_before_another_is_begun() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(vec![(key(), intended(1))]).await;
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Once).await;
    fakes.fail(Some(Cause::RateLimited));
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(open(&engine), Some((1, Phase::Intended, 1)));
    fakes.fail(None);
    engine.wish(&key(), wish(true));
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(fakes.phase_of(&rotation(1)), Phase::Failed.as_str());
    assert!(fakes.told("label-not-found")[0].contains("made nothing"));
    let state = engine.state(&key()).unwrap();
    assert_eq!(state.current().unwrap().sequence, 2);
}

#[tokio::test]
async fn a_secret_is_remembered_as_long_as_somebody_is_to_get_it() {
    let fakes = Fakes::new(&[]);
    let mut engine = refused(&fakes).await;
    assert!(remembers(&engine));
    fakes.refuse_secrets(false);
    fakes.run(&mut engine, HOUR).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
    assert!(!remembers(&engine));
}

#[tokio::test]
async fn why_it_came_to_nothing_is_recorded() {
    let fakes = Fakes::new(&[]);
    fakes.refuse_secrets(true);
    fakes.ledger(Vec::new()).await;
    let managed = fakes.managed(key(), |policy| policy.verify_for = Duration::ZERO);
    let mut engine = fakes.open(vec![managed], Course::Once).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    let told = &fakes.told("refused")[0];
    assert!(told.contains("CredentialRefused"), "{told}");
    let state = engine.state(&key()).unwrap();
    assert_eq!((state.attempt, state.open()), (1, None));
}

#[tokio::test]
async fn a_key_goes_on_after_a_wish_that_could_not_be_met() {
    let fakes = Fakes::new(&[]);
    fakes.fail(Some(Cause::RateLimited));
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    engine.wish(&key(), wish(false));
    fakes.run(&mut engine, Duration::ZERO).await;
    let state = engine.state(&key()).unwrap();
    assert_eq!((state.sequence, state.attempt), (0, 1));
    fakes.fail(None);
    fakes.run(&mut engine, HOUR / 2).await;
    assert_eq!(engine.state(&key()).unwrap().sequence, 1);
}

#[tokio::test]
async fn what_was_told_as_not_done_is_not_half_remembered() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.run(&mut engine, Duration::ZERO).await;
    fakes.change_ledger(
        "CREATE TRIGGER no_more BEFORE INSERT ON rotation
         BEGIN SELECT RAISE(ABORT, 'no more'); END",
    );
    engine.wish(&key(), wish(true));
    engine.start_due();
    engine.finish_some().await;
    assert!(!engine.is_wished(&key()));
    fakes.change_ledger("DROP TRIGGER no_more");
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(fakes.alive(), ["key_1"]);
    let wanted = "SELECT CAST(revoke_previous AS TEXT) FROM key_state";
    assert_eq!(fakes.rows(wanted), ["0"]);
}

#[tokio::test]
async fn what_its_asker_waits_for_no_more_is_not_done() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    let revoke = || Order::Revoke {
        credential: CredentialId::new("key_1".to_owned()),
        force: true,
        by_hand: None,
    };
    for waits in [false, true] {
        let (reply, answer) = oneshot::channel();
        let waiting = waits.then_some(answer);
        let order = revoke();
        engine.order(
            &key(),
            Asked {
                order,
                begun: Arc::default(),
                reply,
            },
        );
        fakes.run(&mut engine, Duration::ZERO).await;
        drop(waiting);
        // Revoked, a newer one comes in its place.
        assert_eq!(fakes.alive() == ["key_1"], !waits);
    }
}

#[tokio::test]
async fn a_wish_that_a_worker_held_goes_with_its_key() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.fail(Some(Cause::Unreachable));
    engine.wish(&key(), wish(false));
    // It is at work, and parked while the provider is away.
    engine.start_due();
    let parts = engine.parts().clone();
    engine.reconfigure(parts.clone(), Vec::new());
    fakes.run(&mut engine, Duration::ZERO).await;
    engine.reconfigure(parts, vec![fakes.managed(key(), |_| {})]);
    fakes.fail(None);
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(engine.state(&key()).unwrap().sequence, 1);
}
