//! What is wrong with the daemon as a whole: told once, probed for by one
//! probe, and over for all keys at once.

use std::time::Duration;

use crate::core::change::{Adoption, Change, Moved};
use crate::core::names::{CredentialId, KeyName};
use crate::core::record::{CredentialFacts, Pause};
use crate::core::rotation::{Event, Phase};
use crate::engine::condition::Condition;
use crate::engine::tests::fake::{Fakes, at, key};
use crate::engine::tests::lines::Lines;
use crate::engine::tests::rows::{current, rotation};
use crate::engine::{Course, Engine, Wish};
use crate::provider::{Cause, Outcome};

const HOUR: Duration = Duration::from_secs(3_600);

fn held(engine: &Engine) -> Vec<Condition> {
    let problems = engine.problems().into_iter();
    problems.map(|(condition, _)| condition).collect()
}

/// Nothing is begun before the ledger was compared with the provider: where
/// that failed at start, it is done as soon as the provider is there again.
#[tokio::test]
async fn a_daemon_that_starts_in_an_outage_goes_on_as_soon_as_that_is_over() {
    let fakes = Fakes::new(&[]);
    let managed = fakes.managed(key(), |_| {});
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.fail(Some(Cause::Unreachable));
    fakes.run(&mut engine, Duration::from_secs(10)).await;
    assert_eq!(held(&engine), [Condition::Provider]);
    assert!(fakes.alive().is_empty());
    fakes.fail(None);
    // The pause between two probes is 15 seconds by now.
    fakes.run(&mut engine, Duration::from_secs(20)).await;
    assert_eq!(held(&engine), []);
    assert_eq!(fakes.alive().len(), 1);
}

/// Its consumers have nothing that works: that a repair of it failed once does
/// not leave the key to the pause.
#[tokio::test]
async fn a_repair_in_spite_of_a_pause_is_tried_until_it_is_done() {
    for cause in [Cause::Unreachable, Cause::RateLimited] {
        let mut changes = current(1);
        changes.push(Change::Moved(Moved::new(&rotation(1), Event::Gone)));
        changes.push(Change::Paused {
            pause: Pause {
                from: at(),
                until: None,
            },
            by_hand: None,
        });
        let fakes = Fakes::new(&[]);
        fakes.ledger(vec![(key(), changes)]).await;
        let managed = fakes.managed(key(), |_| {});
        let mut engine = fakes.open(vec![managed], Course::Daemon).await;
        fakes.fail_creates(Some((cause, Outcome::NotDone)));
        fakes.run(&mut engine, Duration::from_secs(5)).await;
        let state = engine.state(&key()).unwrap();
        assert_eq!(state.newest, Some(Phase::Failed), "{cause:?}");
        fakes.fail_creates(None);
        fakes.run(&mut engine, HOUR).await;
        assert!(engine.state(&key()).unwrap().current().is_some());
    }
}

#[tokio::test]
async fn ten_thousand_due_keys_and_a_dead_provider_make_one_line_and_one_probe() {
    let fakes = Fakes::new(&[]);
    fakes.ledger(Vec::new()).await;
    let keys = (0..10_000).map(|number| {
        let name = KeyName::new(&format!("key-{number}")).unwrap();
        fakes.managed(name, |_| {})
    });
    let mut engine = fakes.open(keys.collect(), Course::Once).await;
    fakes.fail(Some(Cause::Unreachable));
    let (lines, _guard) = Lines::listen();
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(held(&engine), [Condition::Provider]);
    assert_eq!(lines.with("ERROR", "").len(), 1);
    let mut asked = fakes.take_calls();
    asked.retain(|call| call != "preflight");
    assert_eq!(asked, ["check", "check"], "the first, and one to be sure");

    // A minute is probed at 1, 3, 8, 23 and 53 seconds, and nothing else is
    // asked.
    fakes.run(&mut engine, Duration::from_secs(60)).await;
    assert_eq!(fakes.take_calls(), ["check"; 5]);
    assert_eq!(lines.with("", "").len(), 1);
    for number in [0, 9_999] {
        let name = KeyName::new(&format!("key-{number}")).unwrap();
        let state = engine.state(&name).unwrap();
        assert_eq!((state.attempt, &state.problem), (0, &None));
    }

    fakes.fail(None);
    fakes
        .run_until(&mut engine, || fakes.alive().len() == 20)
        .await;
    assert_eq!(held(&engine), []);
    let listed = fakes.take_calls();
    let listed = listed.iter().filter(|call| *call == "list");
    assert!(listed.count() <= 1, "one listing for all keys without rows");
}

#[tokio::test]
async fn a_refused_credential_is_probed_for_slowly_and_recovers() {
    let fakes = Fakes::new(&[]);
    let mut engine = fakes.engine(Vec::new(), HOUR).await;
    fakes.fail(Some(Cause::CredentialRefused));
    let (lines, _guard) = Lines::listen();
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(held(&engine), [Condition::Credential]);
    assert_eq!(lines.with("ERROR", "credential-file").len(), 1);
    assert!(fakes.take_calls().len() < 20);
    assert_eq!(engine.state(&key()).unwrap().attempt, 0);
    fakes.fail(None);
    fakes.run(&mut engine, HOUR / 10).await;
    assert!(engine.state(&key()).unwrap().current().is_some());
    assert_eq!(lines.with("INFO", "\"credential\" has passed").len(), 1);
}

#[tokio::test]
async fn while_the_clocks_disagree_nothing_is_begun_or_revoked() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    engine.wish(
        &key(),
        Wish {
            by_hand: None,
            revoke_previous: false,
        },
    );
    fakes.run(&mut engine, HOUR / 2).await;
    assert_eq!(fakes.alive().len(), 2, "the first is in its overlap");
    fakes.put_ahead(Duration::from_secs(301));
    let (lines, _guard) = Lines::listen();
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(held(&engine), [Condition::Clock]);
    assert_eq!(lines.with("ERROR", "set the clock").len(), 1);
    assert_eq!(fakes.alive().len(), 2);
    fakes.put_ahead(Duration::from_secs(299));
    fakes.run(&mut engine, HOUR / 2).await;
    assert_eq!(held(&engine), []);
    assert_eq!(fakes.alive().len(), 1);
}

/// A key with a current credential, of which the provider knows nothing.
fn gone(number: u64) -> (KeyName, Vec<Change>) {
    let adopted = Change::Adopted(Adoption {
        rotation: rotation(number),
        credential: CredentialFacts {
            id: CredentialId::new(format!("key_{number}")),
            redacted_value: None,
            created_at: Some(at()),
            expires_at: None,
        },
        event: Event::Adopted,
        sinks: Vec::new(),
        by_hand: None,
    });
    let name = KeyName::new(&format!("key-{number}")).unwrap();
    (name, vec![adopted])
}

#[tokio::test]
async fn most_credentials_gone_at_once_are_a_wrong_organization() {
    let fakes = Fakes::new(&[("key_3", "by hand")]);
    let keys: Vec<_> = (1..=3).map(gone).collect();
    let managed = keys
        .iter()
        .map(|(name, _)| fakes.managed(name.clone(), |_| {}));
    let managed = managed.collect();
    fakes.ledger(keys).await;
    let (lines, _guard) = Lines::listen();
    let mut engine = fakes.open(managed, Course::Daemon).await;
    fakes.run(&mut engine, HOUR * 24).await;
    assert_eq!(held(&engine), [Condition::Organization]);
    assert_eq!(lines.with("ERROR", "rotate --all").len(), 1);
    assert_eq!(fakes.alive(), ["key_3"], "nothing is made");

    engine.wish_all(&Wish {
        by_hand: None,
        revoke_previous: false,
    });
    fakes.run(&mut engine, HOUR * 24 * 2).await;
    assert_eq!(held(&engine), []);
    assert_eq!(lines.with("ERROR", "rotate --all").len(), 1, "and no more");
    assert_eq!(fakes.alive().len(), 3);
    assert!(!fakes.alive().contains(&"key_3".to_owned()));
}

#[tokio::test]
async fn after_a_reload_what_is_wrong_is_looked_at_at_once() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.fail(Some(Cause::CredentialRefused));
    engine.errands.sweep_now(fakes.now());
    fakes.run(&mut engine, HOUR).await;
    assert_eq!(held(&engine), [Condition::Credential]);
    fakes.fail(None);
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(held(&engine), [Condition::Credential], "five minutes apart");
    let parts = engine.parts().clone();
    engine.reconfigure(parts, vec![fakes.managed(key(), |_| {})]);
    fakes.run(&mut engine, Duration::ZERO).await;
    assert_eq!(held(&engine), []);
}
