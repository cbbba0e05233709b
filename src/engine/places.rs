//! Places limit how many attempts run at once at each destination of deliveries and at
//! the provider; waiting keys get them in order.
//!
//! A receiver that accepts connections and never answers holds every attempt until its
//! time-out. Each destination has places of its own, apart from the provider's, so that
//! such a receiver delays only its own deliveries. A key without a place is parked, and
//! the engine wakes it when one is granted: a wait inside a worker would also delay
//! commands and reloads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::core::ids::KeyName;
use crate::sink::Destination;

/// The number of concurrent attempts at one scheme, host and port.
const PLACES_PER_ENDPOINT: usize = 4;

/// The number of programs of sinks that run at once.
const PLACES_FOR_PROGRAMS: usize = 16;

/// The number of concurrent attempts at all endpoints and programs.
const PLACES_IN_TOTAL: usize = 256;

/// The places of one engine. Cheap to clone; clones share the places.
#[derive(Clone, Default)]
pub(crate) struct PlacePool(Arc<Shared>);

/// A place at a destination, free again when it is dropped.
#[must_use = "a place that is dropped is free again"]
pub(crate) struct Place {
    shared: Arc<Shared>,
    destination: Destination,
}

/// A place at the provider, free again when it is dropped.
#[must_use = "a place that is dropped is free again"]
pub(crate) struct ProviderPlace(Arc<Shared>);

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    freed: Notify,
}

#[derive(Default)]
struct Inner {
    destinations: BTreeMap<Destination, DestinationPlaces>,
    /// The number of places taken or granted at all endpoints and programs.
    taken: usize,
    next_ticket: u64,
    /// The waiting keys, each for one destination.
    waiters: BTreeMap<KeyName, Waiter>,
    /// The first ticket of each destination that has both a free place and a queue.
    heads: BTreeMap<u64, Destination>,
    /// The keys with a granted place that the engine has not woken yet.
    ready: BTreeSet<KeyName>,
    /// The number of keys with a place at the provider.
    at_provider: usize,
    /// Whether a key waits for a place at the provider.
    is_provider_awaited: bool,
    /// Whether such a place became free since [`PlacePool::take_ready`].
    is_provider_freed: bool,
}

/// The places of one destination.
#[derive(Default)]
struct DestinationPlaces {
    /// The number of places taken or granted.
    taken: usize,
    /// The waiting keys by their tickets, in order of arrival.
    queue: BTreeMap<u64, KeyName>,
    /// The entry in [`Inner::heads`].
    head: Option<u64>,
}

/// The state of a key that requested a place and has not taken it.
enum Waiter {
    /// The key waits with this ticket.
    Queued(Destination, u64),
    /// A place is reserved for the key until it takes the place or leaves.
    Granted(Destination),
}

impl PlacePool {
    /// Takes a place at `destination` for `key`, or queues the key there and returns
    /// none. The places for files are not limited.
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

    /// Removes the key from its queue, and grants a place that is reserved for it to the
    /// next key.
    pub(crate) fn leave(&self, key: &KeyName) {
        let mut inner = self.0.lock();
        inner.leave(key);
        self.0.announce(&inner);
    }

    /// Returns whether any key waits for a place at a destination.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.0.lock().waiters.is_empty()
    }

    /// Returns the waiting keys that were granted a place since the last call.
    pub(crate) fn take_ready(&self) -> BTreeSet<KeyName> {
        let mut inner = self.0.lock();
        inner.is_provider_freed = false;
        std::mem::take(&mut inner.ready)
    }

    /// Returns whether fewer than `limit` keys have a place at the provider. If not,
    /// [`PlacePool::changed`] returns once one is free.
    pub(crate) fn has_room_at_provider(&self, limit: usize) -> bool {
        let mut inner = self.0.lock();
        let has_room = inner.at_provider < limit;
        inner.is_provider_awaited |= !has_room;
        has_room
    }

    /// Takes one of the `limit` places at the provider. If none is free,
    /// [`PlacePool::changed`] returns once one is.
    pub(crate) fn take_at_provider(&self, limit: usize) -> Option<ProviderPlace> {
        let mut inner = self.0.lock();
        if inner.at_provider >= limit {
            inner.is_provider_awaited = true;
            return None;
        }
        inner.at_provider += 1;
        Some(ProviderPlace(Arc::clone(&self.0)))
    }

    /// Returns the number of keys with a place at the provider.
    #[cfg(test)]
    pub(crate) fn taken_at_provider(&self) -> usize {
        self.0.lock().at_provider
    }

    /// Waits until a place is free for a waiting key. The future is safe to drop.
    pub(crate) async fn changed(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.0.lock().has_ready() {
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
        if inner.has_ready() {
            // `Notify` stores the permit for the next call, so no wake-up is lost.
            self.freed.notify_one();
        }
    }
}

impl Inner {
    fn has_ready(&self) -> bool {
        self.is_provider_freed || !self.ready.is_empty()
    }

    /// Counts a place as taken, if one is free. No key waits for a free place, because a
    /// place that becomes free is granted immediately.
    fn try_enter(&mut self, destination: &Destination) -> bool {
        let Some(limit) = limit_at(destination) else {
            return true;
        };
        let taken = self
            .destinations
            .get(destination)
            .map_or(0, |places| places.taken);
        if self.taken >= PLACES_IN_TOTAL || taken >= limit {
            return false;
        }
        self.taken += 1;
        self.destinations
            .entry(destination.clone())
            .or_default()
            .taken += 1;
        true
    }

    fn exit(&mut self, destination: &Destination) {
        if limit_at(destination).is_none() {
            return;
        }
        self.taken -= 1;
        if let Some(places) = self.destinations.get_mut(destination) {
            places.taken -= 1;
        }
        self.refresh(destination);
        self.grant();
    }

    fn join(&mut self, key: &KeyName, destination: &Destination) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let places = self.destinations.entry(destination.clone()).or_default();
        places.queue.insert(ticket, key.clone());
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
                if let Some(places) = self.destinations.get_mut(&destination) {
                    places.queue.remove(&ticket);
                }
                self.refresh(&destination);
            }
        }
    }

    /// Grants each free place to the key that has waited longest for it.
    fn grant(&mut self) {
        while self.taken < PLACES_IN_TOTAL
            && let Some((ticket, destination)) = self.heads.pop_first()
        {
            let Some(places) = self.destinations.get_mut(&destination) else {
                continue;
            };
            places.head = None;
            if let Some(key) = places.queue.remove(&ticket) {
                places.taken += 1;
                self.taken += 1;
                self.ready.insert(key.clone());
                let waiter = Waiter::Granted(destination.clone());
                self.waiters.insert(key, waiter);
            }
            self.refresh(&destination);
        }
    }

    /// Updates the entry of `destination` in [`Inner::heads`], and removes an unused one.
    fn refresh(&mut self, destination: &Destination) {
        let (Some(limit), Some(places)) = (
            limit_at(destination),
            self.destinations.get_mut(destination),
        ) else {
            return;
        };
        let first = places.queue.keys().next().copied();
        let head = first.filter(|_| places.taken < limit);
        if places.head != head {
            if let Some(outdated) = places.head {
                self.heads.remove(&outdated);
            }
            places.head = head;
            if let Some(ticket) = head {
                self.heads.insert(ticket, destination.clone());
            }
        }
        if places.taken == 0 && places.queue.is_empty() {
            self.destinations.remove(destination);
        }
    }
}

/// Returns the number of places at a destination; none if it is not limited.
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
mod tests;
