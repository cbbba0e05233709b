//! Places at the destinations of deliveries: how many attempts run at once, and
//! whose turn is next.
//!
//! A receiver that accepts connections and never answers keeps every attempt
//! until its time-out. So that it delays only what is delivered to it, each
//! destination has places of its own, apart from the provider's. A key that
//! finds no place is parked, and the engine wakes it when one is free: it does
//! not wait inside a worker, where commands and reloads could not reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::core::ids::KeyName;
use crate::sink::Destination;

/// Attempts at one scheme, host and port at the same time.
const PLACES_PER_ENDPOINT: usize = 4;

/// Programs of sinks that run at the same time.
const PLACES_FOR_PROGRAMS: usize = 16;

/// Attempts at all endpoints and programs together.
const PLACES_IN_TOTAL: usize = 256;

/// The places of one engine. Cheap to clone; all clones share them.
#[derive(Clone, Default)]
pub(crate) struct PlacePool(Arc<Shared>);

/// A place at a destination, taken until it is dropped.
#[must_use = "a place that is dropped is free again"]
pub(crate) struct Place {
    shared: Arc<Shared>,
    destination: Destination,
}

/// A place among the requests to the provider, taken until it is dropped.
#[must_use = "a place that is dropped is free again"]
pub(crate) struct ProviderPlace(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    freed: Notify,
}

#[derive(Default)]
struct Inner {
    lanes: BTreeMap<Destination, Lane>,
    /// Places taken or granted at all endpoints and programs.
    taken: usize,
    next_ticket: u64,
    /// The keys that wait, each for one destination.
    waiters: BTreeMap<KeyName, Waiter>,
    /// The first ticket of each lane that has both a free place and a queue.
    heads: BTreeMap<u64, Destination>,
    /// Keys with a granted place that the engine has not been told of.
    ready: BTreeSet<KeyName>,
    /// Keys that work with the provider.
    at_provider: usize,
    /// Whether a key waits for a place at the provider.
    is_provider_awaited: bool,
    /// Whether such a place has become free and the engine has not been told.
    is_provider_freed: bool,
}

/// The places of one destination.
#[derive(Default)]
struct Lane {
    /// Places taken or granted.
    taken: usize,
    /// The keys that wait, first come first.
    queue: BTreeMap<u64, KeyName>,
    /// The lane's entry in [`Inner::heads`].
    head: Option<u64>,
}

/// How far a key that asked for a place has got.
enum Waiter {
    /// It waits.
    Queued(Destination, u64),
    /// A place is kept for it until it takes it or leaves.
    Granted(Destination),
}

impl PlacePool {
    /// Takes a place at `destination` for `key`, or puts the key into the queue
    /// there and returns none. Files have as many places as are asked for.
    pub(crate) fn take(&self, key: &KeyName, destination: &Destination) -> Option<Place> {
        let mut inner = self.0.lock();
        let has_place = match inner.waiters.get(key) {
            Some(Waiter::Queued(queued_at, _)) if queued_at == destination => return None,
            Some(Waiter::Granted(granted_at)) if granted_at == destination => {
                inner.waiters.remove(key);
                inner.ready.remove(key);
                true
            }
            Some(Waiter::Queued(..) | Waiter::Granted(_)) => {
                inner.leave(key);
                inner.try_enter(destination)
            }
            None => inner.try_enter(destination),
        };
        if !has_place {
            inner.join(key, destination);
        }
        self.0.announce(&inner);
        has_place.then(|| Place {
            shared: Arc::clone(&self.0),
            destination: destination.clone(),
        })
    }

    /// Takes the key out of the queue that it waits in, and gives a place that
    /// is kept for it to the next.
    pub(crate) fn leave(&self, key: &KeyName) {
        let mut inner = self.0.lock();
        inner.leave(key);
        self.0.announce(&inner);
    }

    /// Whether any key waits for a place at a destination.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.0.lock().waiters.is_empty()
    }

    /// The waiting keys that were granted a place since the last call.
    pub(crate) fn take_ready(&self) -> BTreeSet<KeyName> {
        let mut inner = self.0.lock();
        inner.is_provider_freed = false;
        std::mem::take(&mut inner.ready)
    }

    /// Whether fewer than `limit` work with the provider. If not, the end of
    /// another's work is a change ([`PlacePool::changed`]).
    pub(crate) fn has_room_at_provider(&self, limit: usize) -> bool {
        let mut inner = self.0.lock();
        let has_room = inner.at_provider < limit;
        inner.is_provider_awaited |= !has_room;
        has_room
    }

    /// Takes a place among the `limit` that work with the provider at the same
    /// time. Without one, the end of another's is a change ([`PlacePool::changed`]).
    pub(crate) fn take_at_provider(&self, limit: usize) -> Option<ProviderPlace> {
        let mut inner = self.0.lock();
        if inner.at_provider >= limit {
            inner.is_provider_awaited = true;
            return None;
        }
        inner.at_provider += 1;
        Some(ProviderPlace(Arc::clone(&self.0)))
    }

    /// How many keys work with the provider.
    #[cfg(test)]
    pub(crate) fn taken_at_provider(&self) -> usize {
        self.0.lock().at_provider
    }

    /// Waits until a place that a key waits for is free. Safe to drop.
    pub(crate) async fn changed(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.0.lock().has_news() {
                return;
            }
            freed.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, inner: &Inner) {
        if inner.has_news() {
            // Kept for the next call where nobody waits: no wake-up is lost.
            self.freed.notify_one();
        }
    }
}

impl Inner {
    fn has_news(&self) -> bool {
        self.is_provider_freed || !self.ready.is_empty()
    }

    /// Counts a place as taken, if one is free. Where one is, no key waits for
    /// it: a place that becomes free is granted at once.
    fn try_enter(&mut self, destination: &Destination) -> bool {
        let Some(limit) = limit_at(destination) else {
            return true;
        };
        let taken = self.lanes.get(destination).map_or(0, |lane| lane.taken);
        if self.taken >= PLACES_IN_TOTAL || taken >= limit {
            return false;
        }
        self.taken += 1;
        self.lanes.entry(destination.clone()).or_default().taken += 1;
        true
    }

    fn exit(&mut self, destination: &Destination) {
        if limit_at(destination).is_none() {
            return;
        }
        self.taken -= 1;
        if let Some(lane) = self.lanes.get_mut(destination) {
            lane.taken -= 1;
        }
        self.refresh(destination);
        self.grant();
    }

    fn join(&mut self, key: &KeyName, destination: &Destination) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let lane = self.lanes.entry(destination.clone()).or_default();
        lane.queue.insert(ticket, key.clone());
        let waiter = Waiter::Queued(destination.clone(), ticket);
        self.waiters.insert(key.clone(), waiter);
        self.refresh(destination);
    }

    fn leave(&mut self, key: &KeyName) {
        self.ready.remove(key);
        match self.waiters.remove(key) {
            None => {}
            Some(Waiter::Granted(destination)) => self.exit(&destination),
            Some(Waiter::Queued(destination, ticket)) => {
                if let Some(lane) = self.lanes.get_mut(&destination) {
                    lane.queue.remove(&ticket);
                }
                self.refresh(&destination);
            }
        }
    }

    /// Gives each free place to the key that has waited longest for one there.
    fn grant(&mut self) {
        while self.taken < PLACES_IN_TOTAL
            && let Some((ticket, destination)) = self.heads.pop_first()
        {
            let Some(lane) = self.lanes.get_mut(&destination) else {
                continue;
            };
            lane.head = None;
            if let Some(key) = lane.queue.remove(&ticket) {
                lane.taken += 1;
                self.taken += 1;
                self.ready.insert(key.clone());
                let waiter = Waiter::Granted(destination.clone());
                self.waiters.insert(key, waiter);
            }
            self.refresh(&destination);
        }
    }

    /// Corrects the lane's entry among the heads, and drops an unused lane.
    fn refresh(&mut self, destination: &Destination) {
        let (Some(limit), Some(lane)) = (limit_at(destination), self.lanes.get_mut(destination))
        else {
            return;
        };
        let first = lane.queue.keys().next().copied();
        let head = first.filter(|_| lane.taken < limit);
        if lane.head != head {
            if let Some(before) = lane.head {
                self.heads.remove(&before);
            }
            lane.head = head;
            if let Some(ticket) = head {
                self.heads.insert(ticket, destination.clone());
            }
        }
        if lane.taken == 0 && lane.queue.is_empty() {
            self.lanes.remove(destination);
        }
    }
}

/// How many places a destination has; none where they are not limited.
const fn limit_at(destination: &Destination) -> Option<usize> {
    match destination {
        Destination::File => None,
        Destination::Program => Some(PLACES_FOR_PROGRAMS),
        Destination::Endpoint { .. } => Some(PLACES_PER_ENDPOINT),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        inner.exit(&self.destination);
        self.shared.announce(&inner);
    }
}

impl Drop for ProviderPlace {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.at_provider -= 1;
        inner.is_provider_freed |= std::mem::take(&mut inner.is_provider_awaited);
        self.0.announce(&inner);
    }
}

#[cfg(test)]
mod tests {
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
        // A later key does not overtake the one that was woken.
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
    async fn a_freed_place_wakes_whoever_waits_for_a_change() {
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
        /// Whatever keys do: no destination has more attempts than places, and
        /// where a key waits, every place is taken or was granted to a key that
        /// the engine was told of.
        #[test]
        fn limits_hold_and_no_place_stays_free_while_a_key_waits(
            actions in prop::collection::vec(action(), 1..200),
        ) {
            let places = PlacePool::default();
            let mut held: Vec<(u16, Place)> = Vec::new();
            let mut told: BTreeSet<KeyName> = BTreeSet::new();
            for action in actions {
                match action {
                    Action::Take(number, lane) => {
                        let place = places.take(&key(number), &destination(lane));
                        told.remove(&key(number));
                        held.extend(place.map(|place| (lane, place)));
                    }
                    Action::Release(number) if !held.is_empty() => {
                        drop(held.swap_remove(number % held.len()));
                    }
                    Action::Release(_) => {}
                    Action::Leave(number) => {
                        told.remove(&key(number));
                        places.leave(&key(number));
                    }
                }
                told.extend(places.take_ready());
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
                    prop_assert!(granted.iter().all(|key| told.contains(key)));
                    let limit = limit_at(&destination(lane)).unwrap();
                    let taken = used + granted.len();
                    prop_assert!(taken <= limit);
                    let known = inner.lanes.get(&destination(lane));
                    prop_assert_eq!(known.map_or(0, |lane| lane.taken), taken);
                    let waits = known.is_some_and(|lane| !lane.queue.is_empty());
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
        assert!(inner.lanes.is_empty() && inner.heads.is_empty() && inner.waiters.is_empty());
        assert_eq!(inner.taken, 0);
    }

    #[tokio::test]
    async fn a_place_freed_at_the_provider_is_news_where_a_key_waits_for_it() {
        let places = PlacePool::default();
        let first = places.take_at_provider(2).unwrap();
        let second = places.take_at_provider(2).unwrap();
        drop(first);
        assert!(!places.0.lock().has_news(), "no key waits");
        assert!(places.has_room_at_provider(2));
        let third = places.take_at_provider(2).unwrap();
        assert!(places.take_at_provider(2).is_none());
        drop(second);
        places.changed().await;
        assert!(places.take_ready().is_empty());
        assert!(!places.0.lock().has_news(), "the engine was told");
        drop(third);
    }
}
