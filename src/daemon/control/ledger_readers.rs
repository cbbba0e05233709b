//! The users to whom a copy of the ledger is being sent: few at a time, and each user once, so
//! that users who read slowly hold little memory. Few others wait for that, so that they take no
//! connection from anybody else.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

/// The number of copies that are sent at one time. Each may be of another state of the ledger.
const MAX_READERS: usize = 4;

/// The number of requests that wait for a copy, of one user and of all.
const MAX_WAITING: (usize, usize) = (4, 16);

/// The length of the parts in which a copy is sent. The server holds a few of them at a time,
/// besides the copy itself.
const PART_BYTES: usize = 64 * 1024;

/// The users who read a copy.
#[derive(Debug, Default)]
pub(super) struct LedgerReaders {
    table: Mutex<ReaderTable>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct ReaderTable {
    reading: BTreeSet<Option<u32>>,
    /// The number of requests of each user that wait.
    waiting: BTreeMap<Option<u32>, usize>,
}

/// A request that waits, which it does no longer on drop.
struct WaitingReader<'r> {
    user: Option<u32>,
    readers: &'r LedgerReaders,
}

/// The place of one reader, which is free again on drop.
#[derive(Debug)]
pub(super) struct ReaderPlace {
    user: Option<u32>,
    readers: Arc<LedgerReaders>,
}

/// A copy that is being sent, with the place of its reader.
pub(super) struct CopyBody {
    /// What is not sent yet.
    rest: Bytes,
    _place: ReaderPlace,
}

impl LedgerReaders {
    /// Waits until `user` reads no other copy, and a place is free; none if too many wait.
    pub(super) async fn admit(self: &Arc<Self>, user: Option<u32>) -> Option<ReaderPlace> {
        if let Some(place) = self.try_admit(user) {
            return Some(place);
        }
        let _waiting = self.begin_wait(user)?;
        loop {
            let changed = self.changed.notified();
            if let Some(place) = self.try_admit(user) {
                return Some(place);
            }
            changed.await;
        }
    }

    fn try_admit(self: &Arc<Self>, user: Option<u32>) -> Option<ReaderPlace> {
        let reading = &mut self.lock().reading;
        let is_admitted = reading.len() < MAX_READERS && reading.insert(user);
        is_admitted.then(|| ReaderPlace {
            user,
            readers: Arc::clone(self),
        })
    }

    fn begin_wait(&self, user: Option<u32>) -> Option<WaitingReader<'_>> {
        let waiting = &mut self.lock().waiting;
        let all: usize = waiting.values().sum();
        let own = waiting.get(&user).copied().unwrap_or_default();
        let (most_of_one, most) = MAX_WAITING;
        if own >= most_of_one || all >= most {
            return None;
        }
        waiting.insert(user, own + 1);
        Some(WaitingReader {
            user,
            readers: self,
        })
    }

    fn lock(&self) -> MutexGuard<'_, ReaderTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitingReader<'_> {
    fn drop(&mut self) {
        let waiting = &mut self.readers.lock().waiting;
        if let Some(count) = waiting.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.user);
            }
        }
    }
}

impl Drop for ReaderPlace {
    fn drop(&mut self) {
        self.readers.lock().reading.remove(&self.user);
        self.readers.changed.notify_waiters();
    }
}

impl CopyBody {
    pub(super) const fn new(content: Bytes, place: ReaderPlace) -> Self {
        Self {
            rest: content,
            _place: place,
        }
    }
}

impl Body for CopyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PART_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    /// Each user reads one copy at a time, and all of them a few.
    #[tokio::test(start_paused = true)]
    async fn readers_wait_for_a_place() {
        let readers = Arc::new(LedgerReaders::default());
        let most = u32::try_from(MAX_READERS).unwrap();
        let mut places = Vec::new();
        for user in 1..most {
            places.push(readers.try_admit(Some(user)).unwrap());
            assert!(readers.try_admit(Some(user)).is_none(), "{user}");
        }
        let content = Bytes::from(vec![7; PART_BYTES * 3 / 2]);
        let place = readers.try_admit(None).unwrap();
        let body = CopyBody::new(content.clone(), place);
        assert!(readers.try_admit(Some(most)).is_none());
        let waiting = tokio::spawn({
            let readers = Arc::clone(&readers);
            async move { readers.admit(Some(most)).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let sent = to_bytes(axum::body::Body::new(body), usize::MAX).await;
        assert_eq!(sent.unwrap(), content);
        let _place = waiting.await.unwrap().unwrap();
        assert!(readers.try_admit(Some(1)).is_none());
    }

    /// Each request that waits holds a connection: a user with several user ids has many.
    #[tokio::test(start_paused = true)]
    async fn few_requests_wait() {
        let readers = Arc::new(LedgerReaders::default());
        let most = u32::try_from(MAX_READERS).unwrap();
        let places: Vec<_> = (0..most)
            .map(|user| readers.try_admit(Some(user)).unwrap())
            .collect();
        let (most_of_one, most) = MAX_WAITING;
        let mut waiting = Vec::new();
        for user in 0.. {
            if waiting.len() == most {
                break;
            }
            for _ in 0..most_of_one {
                let readers = Arc::clone(&readers);
                waiting.push(tokio::spawn(async move {
                    readers.admit(Some(user)).await.is_some()
                }));
            }
            tokio::task::yield_now().await;
            assert!(readers.admit(Some(user)).await.is_none(), "{user}");
        }
        assert!(readers.admit(None).await.is_none(), "all wait already");
        // Who gives up waits no longer.
        waiting.pop().unwrap().abort();
        tokio::task::yield_now().await;
        let another = tokio::spawn({
            let readers = Arc::clone(&readers);
            async move { readers.admit(None).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!another.is_finished());
        drop(places);
        assert!(another.await.unwrap());
        for waiting in waiting {
            assert!(waiting.await.unwrap());
        }
        assert!(readers.lock().waiting.is_empty());
    }
}
