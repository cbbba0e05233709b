//! The engine with several keys: places at the provider, requests, and the
//! organization's condition.

#[path = "../../tests/support/captured_log.rs"]
pub(crate) mod captured_log;
#[path = "../../tests/support/fake.rs"]
pub(crate) mod fake;
#[path = "../../tests/support/rotation_changes.rs"]
pub(crate) mod rotation_changes;

mod absence;
mod budgets;
mod clock_jumps;
mod conditions;
mod create_answers;
mod credential_names;
mod delivered_secrets;
mod ended_keys;
mod failure_scope;
mod gates;
mod held_elsewhere;
mod interrupted_deliveries;
mod leaks;
mod logging;
mod missed_runs;
mod notifications;
mod older_content;
mod outcomes;
mod pace;
mod places;
mod reconciliation;
mod recovery;
mod retired_sightings;
mod retries;
mod revocation;
mod rotation_requests;
mod scopes;
mod shared_credentials;
mod shown_ends;
mod sink_sync;
mod unclear_commit;
mod views;
mod zones;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::*;
use crate::core::condition::Condition;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::schedule::Schedule;
use crate::core::scope::Scope;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::{adopted, current};

const HOUR: Duration = Duration::from_secs(3_600);

fn key_name(number: u64) -> KeyName {
    KeyName::new(&format!("key-{number}")).unwrap()
}

/// Returns an engine whose keys have adopted the current credentials `key_NUMBER`.
async fn engine_with_adopted_keys(fakes: &Fakes, numbers: &[u64]) -> Engine {
    let rows = numbers.iter().map(|number| {
        let adopted = adopted(*number, Scope::AdminKeys);
        (key_name(*number), vec![adopted])
    });
    fakes.write_ledger(rows.collect()).await;
    let managed = numbers
        .iter()
        .map(|number| fakes.managed_key(key_name(*number), |_| {}));
    fakes.open_engine(managed.collect(), RunMode::Daemon).await
}

fn rotation_request() -> RotationRequest {
    RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    }
}

fn has_organization_condition(engine: &Engine) -> bool {
    let problems = engine.active_conditions();
    problems.iter().any(|active| {
        active.condition == Condition::Organization
            && active.scope == Some(Scope::AdminKeys)
            && active.problem.contains("rotate --all")
    })
}

#[tokio::test]
async fn missing_credentials_are_replaced_unless_a_majority_is_missing() {
    let fakes = Fakes::new(&[("key_1", "by hand"), ("key_2", "by hand")]);
    let mut engine = engine_with_adopted_keys(&fakes, &[1, 2, 3, 4]).await;
    fakes.run_for(&mut engine, HOUR).await;
    assert!(!has_organization_condition(&engine));
    assert_eq!(fakes.live_ids().len(), 4);
}

/// The keys are due, and the first that has examined its credential could start before the
/// next one does.
#[tokio::test]
async fn nothing_is_created_while_a_list_lacks_what_was_not_examined() {
    let fakes = Fakes::new(&[]);
    let numbers = [1, 2, 3];
    let rows = numbers.map(|number| (key_name(number), vec![adopted(number, Scope::AdminKeys)]));
    fakes.write_ledger(rows.to_vec()).await;
    let managed = numbers.map(|number| {
        fakes.managed_key(key_name(number), |policy| {
            policy.timetable = Schedule::parse("@hourly", TimeZone::UTC).unwrap().into();
        })
    });
    fakes.advance_clock(HOUR * 3);
    let mut engine = fakes
        .open_engine(managed.into_iter().collect(), RunMode::Daemon)
        .await;
    Arc::get_mut(&mut engine.services).unwrap().max_in_flight = 1;
    fakes.run_for(&mut engine, HOUR).await;
    assert!(has_organization_condition(&engine));
    assert!(fakes.live_ids().is_empty(), "no credential is created");
    for number in numbers {
        fakes.add_credential(&format!("key_{number}"), "by hand");
    }
    fakes.run_for(&mut engine, HOUR * 24).await;
    assert!(!has_organization_condition(&engine));
    let calls = fakes.take_calls();
    assert!(calls.contains(&"create".to_owned()), "{calls:?}");
}

#[tokio::test]
async fn a_second_mass_loss_raises_the_organization_condition_again() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let mut engine = engine_with_adopted_keys(&fakes, &[1, 2, 3]).await;
    fakes.run_for(&mut engine, HOUR).await;
    assert!(has_organization_condition(&engine));
    assert_eq!(fakes.live_ids(), ["key_1"], "no credential is created");
    // An operator's request confirms the organization until no credential is missing.
    engine.request_all(&rotation_request());
    assert!(!has_organization_condition(&engine));
    fakes.run_for(&mut engine, HOUR * 48).await;
    assert!(!has_organization_condition(&engine));
    assert_eq!(fakes.live_ids().len(), 3);
    assert!(engine.is_idle());
    // The credentials are lost again.
    for id in fakes.live_ids() {
        fakes.remove_credential(&id);
    }
    engine
        .maintenance
        .reconcile_now(&Scope::AdminKeys, fakes.now());
    fakes.run_for(&mut engine, HOUR).await;
    assert!(has_organization_condition(&engine));
    assert!(fakes.live_ids().is_empty());
}

#[tokio::test]
async fn max_in_flight_limits_keys_at_the_provider() {
    for limit in [1, 2, 5] {
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(Vec::new()).await;
        let managed = (1..=4).map(|number| fakes.managed_key(key_name(number), |_| {}));
        let mut engine = fakes.open_engine(managed.collect(), RunMode::Once).await;
        Arc::get_mut(&mut engine.services).unwrap().max_in_flight = limit;
        engine.start_due();
        assert_eq!(engine.places.taken_at_provider(), limit.min(4));
        engine.stop().await;
        assert_eq!(engine.places.taken_at_provider(), 0);
    }
}

#[tokio::test]
async fn a_request_during_a_run_is_handled_after_it() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = fakes.engine(current(1), HOUR).await;
    fakes.run_for(&mut engine, HOUR).await;
    // The first rotation of a process waits for a list.
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, HOUR / 2).await;
    engine.request_rotation(&key(), rotation_request());
    engine.start_due();
    assert_eq!(engine.active_tasks(), 1);
    // The worker has taken the first request.
    assert!(!engine.has_pending_request(&key()));
    assert!(engine.request_rotation(&key(), rotation_request()));
    assert!(engine.has_pending_request(&key()));
    assert!(!engine.is_idle());
    assert!(
        !engine.request_rotation(&key_name(9), rotation_request()),
        "it is not configured"
    );
    fakes.run_for(&mut engine, HOUR / 2).await;
    assert!(!engine.has_pending_request(&key()));
    let state = engine.state(&key()).unwrap();
    assert_eq!(fakes.place_of(state.sequence), 4, "two more");
    assert!(engine.is_idle());
}

#[tokio::test]
async fn a_credential_is_mapped_to_its_key() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let engine = fakes.engine(current(1), HOUR).await;
    let known = CredentialId::new("key_1".to_owned());
    assert_eq!(engine.key_of(&known).await.unwrap(), Some(key()));
    let other = CredentialId::new("key_2".to_owned());
    assert_eq!(engine.key_of(&other).await.unwrap(), None);
}
