//! The limits of places, their order, and which key is woken when one is freed.

use proptest::prelude::*;

use super::*;

fn key(number: usize) -> KeyName {
    KeyName::new(&format!("k{number}")).unwrap()
}

fn endpoint(number: u16) -> Destination {
    Destination::Endpoint {
        scheme: "https".to_owned(),
        host: "receiver".to_owned(),
        port: number,
    }
}

#[test]
fn an_endpoint_has_four_places_and_others_are_not_affected() {
    let places = PlacePool::default();
    let taken: Vec<_> = (0..4)
        .map(|number| places.take(&key(number), &endpoint(1)).unwrap())
        .collect();
    assert!(places.take(&key(4), &endpoint(1)).is_none());
    assert!(places.take(&key(5), &endpoint(2)).is_some());
    assert!(places.take(&key(6), &Destination::File).is_some());
    drop(taken);
}

#[test]
fn places_go_to_waiting_keys_in_order_of_arrival() {
    let places = PlacePool::default();
    let mut taken: Vec<_> = (0..4)
        .map(|number| places.take(&key(number), &endpoint(1)).unwrap())
        .collect();
    assert!(places.take(&key(4), &endpoint(1)).is_none());
    assert!(places.take(&key(5), &endpoint(1)).is_none());
    assert!(places.take_ready().is_empty());
    taken.pop();
    assert_eq!(places.take_ready(), BTreeSet::from([key(4)]));
    // A later key does not overtake the key with the granted place.
    assert!(places.take(&key(5), &endpoint(1)).is_none());
    assert!(places.take(&key(6), &endpoint(1)).is_none());
    let fourth = places.take(&key(4), &endpoint(1)).unwrap();
    assert!(places.take_ready().is_empty());
    drop(fourth);
    assert_eq!(places.take_ready(), BTreeSet::from([key(5)]));
}

#[test]
fn a_key_that_leaves_gives_its_turn_to_the_next() {
    let places = PlacePool::default();
    let mut taken: Vec<_> = (0..4)
        .map(|number| places.take(&key(number), &endpoint(1)).unwrap())
        .collect();
    assert!(places.take(&key(4), &endpoint(1)).is_none());
    assert!(places.take(&key(5), &endpoint(1)).is_none());
    taken.pop();
    places.leave(&key(4));
    assert_eq!(places.take_ready(), BTreeSet::from([key(5)]));
    assert!(places.take(&key(5), &endpoint(1)).is_some());
}

#[tokio::test]
async fn a_freed_place_wakes_the_waiting_engine() {
    let places = PlacePool::default();
    let mut taken: Vec<_> = (0..4)
        .map(|number| places.take(&key(number), &endpoint(1)).unwrap())
        .collect();
    assert!(places.take(&key(4), &endpoint(1)).is_none());
    let waiting = tokio::spawn({
        let places = places.clone();
        async move { places.changed().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    taken.pop();
    waiting.await.unwrap();
    assert_eq!(places.take_ready(), BTreeSet::from([key(4)]));
}

#[derive(Debug, Clone)]
enum Action {
    Take(usize, u16),
    Release(usize),
    Leave(usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..12usize, 0..3u16).prop_map(|(key, lane)| Action::Take(key, lane)),
        (0..12usize).prop_map(Action::Release),
        (0..12usize).prop_map(Action::Leave),
    ]
}

fn destination(lane: u16) -> Destination {
    if lane == 0 {
        Destination::Program
    } else {
        endpoint(lane)
    }
}

proptest! {
    /// No destination has more attempts than places. While a key waits, every place
    /// is taken or was granted to a key that the engine woke.
    #[test]
    fn limits_hold_and_no_place_stays_free_while_a_key_waits(
        actions in prop::collection::vec(action(), 1..200),
    ) {
        let places = PlacePool::default();
        let mut held: Vec<(u16, Place)> = Vec::new();
        let mut woken: BTreeSet<KeyName> = BTreeSet::new();
        for action in actions {
            match action {
                Action::Take(number, lane) => {
                    let place = places.take(&key(number), &destination(lane));
                    woken.remove(&key(number));
                    held.extend(place.map(|place| (lane, place)));
                }
                Action::Release(number) if !held.is_empty() => {
                    drop(held.swap_remove(number % held.len()));
                }
                Action::Release(_) => {}
                Action::Leave(number) => {
                    woken.remove(&key(number));
                    places.leave(&key(number));
                }
            }
            woken.extend(places.take_ready());
            let inner = places.0.lock();
            let granted = |lane: u16| {
                let granted = inner.waiters.iter().filter(|(_, waiter)| {
                    matches!(waiter, Waiter::Granted(at) if *at == destination(lane))
                });
                granted.map(|(key, _)| key.clone()).collect::<Vec<_>>()
            };
            for lane in 0..3 {
                let used = held.iter().filter(|(at, _)| *at == lane).count();
                let granted = granted(lane);
                prop_assert!(granted.iter().all(|key| woken.contains(key)));
                let limit = limit_at(&destination(lane)).unwrap();
                let taken = used + granted.len();
                prop_assert!(taken <= limit);
                let lane_state = inner.destinations.get(&destination(lane));
                prop_assert_eq!(lane_state.map_or(0, |lane| lane.taken), taken);
                let waits = lane_state.is_some_and(|lane| !lane.queue.is_empty());
                prop_assert!(!waits || taken == limit);
            }
        }
    }
}

#[test]
fn the_total_is_limited_and_one_freed_place_wakes_one_key() {
    let places = PlacePool::default();
    let mut taken: Vec<_> = (0..PLACES_IN_TOTAL)
        .map(|number| {
            let lane = u16::try_from(number / PLACES_PER_ENDPOINT).unwrap();
            places.take(&key(number), &endpoint(lane)).unwrap()
        })
        .collect();
    for number in 0..10 {
        let lane = endpoint(1_000 + u16::try_from(number).unwrap());
        assert!(places.take(&key(1_000 + number), &lane).is_none());
    }
    taken.pop();
    assert_eq!(places.take_ready(), BTreeSet::from([key(1_000)]));
    taken.pop();
    assert_eq!(places.take_ready(), BTreeSet::from([key(1_001)]));
    assert!(places.take_ready().is_empty());
    drop(taken);
    assert_eq!(places.take_ready().len(), 8);
    for number in 0..10 {
        places.leave(&key(1_000 + number));
    }
    let inner = places.0.lock();
    assert!(inner.destinations.is_empty() && inner.heads.is_empty() && inner.waiters.is_empty());
    assert_eq!(inner.taken, 0);
}

#[tokio::test]
async fn a_place_freed_at_the_provider_is_announced_only_to_a_waiting_key() {
    let places = PlacePool::default();
    let first = places.take_at_provider(2).unwrap();
    let second = places.take_at_provider(2).unwrap();
    drop(first);
    assert!(!places.0.lock().has_ready(), "no key waits");
    assert!(places.has_room_at_provider(2));
    let third = places.take_at_provider(2).unwrap();
    assert!(places.take_at_provider(2).is_none());
    drop(second);
    places.changed().await;
    assert!(places.take_ready().is_empty());
    assert!(!places.0.lock().has_ready(), "the engine took it");
    drop(third);
}
