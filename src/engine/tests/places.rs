//! Deliveries to a hanging receiver, beside keys whose sinks work.

use crate::core::decide::key_names::Rename;
use crate::core::scope::Scope;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;
use crate::core::state::DeliveryState;
use crate::engine::operator_command::{OperatorCommand, PendingCommand};

const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Returns a key that is due now and whose only sink has this name.
fn key_to(fakes: &Fakes, number: u64, sink: &str) -> ManagedKey {
    ManagedKey {
        name: key_name(number),
        scope: Scope::AdminKeys,
        ..fakes.key_with("@monthly", &[(sink, true)])
    }
}

async fn engine_with(fakes: &Fakes, keys: Vec<ManagedKey>) -> Engine {
    fakes.write_ledger(Vec::new()).await;
    fakes.open_engine(keys, RunMode::Once).await
}

/// Drives the engine until `is_done`, even while deliveries hang.
async fn drive(engine: &mut Engine, mut is_done: impl FnMut(&Engine) -> bool) {
    let driven = async {
        loop {
            engine.start_due();
            if is_done(engine) {
                return;
            }
            tokio::select! {
                biased;
                _ = engine.process_completions(), if engine.active_tasks() > 0 => {}
                () = tokio::task::yield_now() => {}
            }
        }
    };
    timeout(TIME_LIMIT, driven).await.expect("it ends");
}

fn is_delivered(engine: &Engine, number: u64) -> bool {
    let state = engine.state(&key_name(number));
    state.is_some_and(|state| state.current().is_some())
}

/// Returns how many of these keys have a worker.
fn worker_count(engine: &Engine, numbers: std::ops::RangeInclusive<u64>) -> usize {
    let has_worker = |number: &u64| engine.state(&key_name(*number)).is_none();
    numbers.filter(has_worker).count()
}

/// Returns an engine with six keys whose receiver does not answer, and one whose sink is
/// a file, with one place at the provider.
async fn engine_beside_hanging_receiver(fakes: &Fakes) -> Engine {
    fakes.hang_deliveries(Some("endpoint"));
    let keys = (1..=6).map(|number| key_to(fakes, number, "endpoint"));
    let file = key_to(fakes, 7, "file");
    let mut engine = engine_with(fakes, keys.chain([file]).collect()).await;
    drive(&mut engine, |engine| {
        let created = |number| {
            let state = engine.state(&key_name(number));
            state.is_none_or(|state| state.sequence > 0)
        };
        is_delivered(engine, 7) && worker_count(engine, 1..=6) == 4 && (1..=6).all(created)
    })
    .await;
    engine
}

#[tokio::test]
async fn hanging_deliveries_leave_the_place_at_the_provider_to_other_keys() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_beside_hanging_receiver(&fakes).await;
    assert_eq!(engine.places.taken_at_provider(), 0);
    // The key rotates again.
    let before = engine.current_sequence(&key_name(7));
    engine.request_rotation(&key_name(7), rotation_request());
    drive(&mut engine, |engine| {
        engine.current_sequence(&key_name(7)) > before
    })
    .await;
    fakes.hang_deliveries(None);
    drive(&mut engine, |engine| {
        (1..=7).all(|number| is_delivered(engine, number))
    })
    .await;
    assert!(!engine.places.is_awaited());
}

#[tokio::test]
async fn a_delivery_that_waits_for_its_place_is_not_recorded_as_started() {
    let fakes = Fakes::new(&[]);
    let engine = engine_beside_hanging_receiver(&fakes).await;
    let waiting = (1..=6).filter_map(|number| engine.state(&key_name(number)));
    let deliveries: Vec<_> = waiting
        .filter_map(|state| state.open_rotation())
        .flat_map(|rotation| &rotation.deliveries)
        .collect();
    assert_eq!(deliveries.len(), 2);
    for delivery in deliveries {
        assert_eq!(delivery.state, DeliveryState::Pending);
        assert_eq!(delivery.attempts, 0);
        assert!(!delivery.maybe_accepted);
    }
    assert!(!engine.is_idle());
}

#[tokio::test]
async fn a_key_that_waits_for_its_place_executes_commands() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_beside_hanging_receiver(&fakes).await;
    let waiting = (1..=6).map(key_name);
    let waiting = waiting.filter(|key| engine.state(key).is_some());
    let waiting: Vec<_> = waiting.collect();
    let (reply, mut answer) = oneshot::channel();
    let pause = PendingCommand {
        command: OperatorCommand::Pause {
            until: None,
            operator: None,
        },
        started: Arc::default(),
        reply,
    };
    assert!(engine.submit_command(&waiting[0], pause));
    let mut answered = None;
    drive(&mut engine, |_| {
        answered = answer.try_recv().ok();
        answered.is_some()
    })
    .await;
    assert!(answered.unwrap().is_ok());
    // It still gets its place.
    fakes.hang_deliveries(None);
    drive(&mut engine, |engine| {
        (1..=6).all(|number| is_delivered(engine, number))
    })
    .await;
}

#[tokio::test]
async fn a_removed_key_that_waits_for_its_place_leaves_the_queue() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_beside_hanging_receiver(&fakes).await;
    engine.reconfigure(engine.services().clone(), Vec::new());
    drive(&mut engine, |engine| !engine.places.is_awaited()).await;
    fakes.hang_deliveries(None);
    drive(&mut engine, |engine| worker_count(engine, 1..=7) == 0).await;
}

#[tokio::test]
async fn dropped_deliveries_stay_uncertain() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_beside_hanging_receiver(&fakes).await;
    engine.drop_deliveries();
    timeout(TIME_LIMIT, engine.stop()).await.expect("it ends");
    let states = (1..=6).filter_map(|number| engine.state(&key_name(number)));
    let uncertain = states.filter(|state| {
        let mut deliveries = state
            .open_rotation()
            .into_iter()
            .flat_map(|rotation| &rotation.deliveries);
        deliveries.any(|delivery| delivery.state == DeliveryState::Uncertain)
    });
    assert_eq!(uncertain.count(), 4);
}

/// The engine decides, and a reload comes before the worker starts.
#[tokio::test]
async fn work_decided_before_a_reload_is_decided_again() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_with(&fakes, vec![key_to(&fakes, 1, "file")]).await;
    engine.start_due();
    assert_eq!(worker_count(&engine, 1..=1), 1);
    engine.reconfigure(engine.services().clone(), Vec::new());
    drive(&mut engine, |engine| worker_count(engine, 1..=1) == 0).await;
    assert_eq!(engine.state(&key_name(1)).unwrap().sequence, 0);
    let calls = fakes.take_calls();
    assert!(!calls.iter().any(|call| call.starts_with("create")));
}

#[tokio::test]
async fn a_burst_dispatches_no_more_keys_than_there_are_places() {
    const KEYS: u64 = 600;
    let fakes = Fakes::new(&[]);
    let keys = (1..=KEYS).map(|number| key_to(&fakes, number, "file"));
    let mut engine = engine_with(&fakes, keys.collect()).await;
    Arc::get_mut(&mut engine.services).unwrap().max_in_flight = 3;
    let mut most = 0;
    drive(&mut engine, |engine| {
        assert!(engine.places.taken_at_provider() <= 3);
        most = most.max(worker_count(engine, 1..=KEYS));
        (1..=KEYS).all(|number| is_delivered(engine, number))
    })
    .await;
    // A worker that records its delivery has no place any more, but counts here.
    assert!((3..=16).contains(&most), "{most}");
}

#[tokio::test]
async fn an_optional_delivery_that_waits_for_a_place_delays_no_rotation() {
    let fakes = Fakes::new(&[]);
    fakes.hang_deliveries(Some("endpoint"));
    let keys = (1..=6).map(|number| ManagedKey {
        name: key_name(number),
        ..fakes.key_with("@monthly", &[("file", true), ("endpoint", false)])
    });
    let mut engine = engine_with(&fakes, keys.collect()).await;
    let is_waiting = |engine: &Engine, number: &u64| is_delivered(engine, *number);
    let waiting = |engine: &Engine| (1..=6).filter(|number| is_waiting(engine, number)).count();
    drive(&mut engine, |engine| {
        worker_count(engine, 1..=6) == 4 && waiting(engine) == 2
    })
    .await;
    let number = (1..=6).find(|number| is_waiting(&engine, number)).unwrap();
    let key = key_name(number);
    let sequence = |engine: &Engine| Some(engine.state(&key)?.current()?.sequence);
    let before = sequence(&engine);
    assert!(engine.request_rotation(&key, rotation_request()));
    drive(&mut engine, |engine| sequence(engine) > before).await;
    // Nor does it delay the schedule.
    let before = sequence(&engine);
    fakes.advance_clock(HOUR * 24 * 40);
    drive(&mut engine, |engine| sequence(engine) > before).await;
    engine.drop_deliveries();
}

/// A place that is granted to a name that no key has would never be free again.
#[tokio::test]
async fn renamed_key_waits_for_no_place_under_its_former_name() {
    let fakes = Fakes::new(&[]);
    let mut engine = engine_beside_hanging_receiver(&fakes).await;
    assert!(engine.places.is_awaited());
    let waiting = (1..=6).filter(|number| engine.state(&key_name(*number)).is_some());
    let renames: Vec<_> = waiting
        .map(|number| Rename {
            from: key_name(number),
            to: key_name(number + 10),
        })
        .collect();
    assert_eq!(renames.len(), 2);
    engine.rename_keys(&renames).await.unwrap();
    assert!(!engine.places.is_awaited());
}
