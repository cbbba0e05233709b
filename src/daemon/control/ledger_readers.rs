//! The users to whom a copy of the ledger is being sent: few at a time, and each user once, so
//! that users who read slowly hold little memory and keep nobody else waiting.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::Notify;

/// The number of copies that are sent at one time. Each may be of another state of the ledger.
const MAX_READERS: usize = 4;

/// The length of the parts in which a copy is sent. The server holds a few of them at a time,
/// besides the copy itself.
const PART_BYTES: usize = 64 * 1024;

/// The users who read a copy.
#[derive(Debug, Default)]
pub(super) struct LedgerReaders {
    users: Mutex<BTreeSet<Option<u32>>>,
    changed: Notify,
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
    /// Waits until `user` reads no other copy, and a place is free.
    pub(super) async fn admit(self: &Arc<Self>, user: Option<u32>) -> ReaderPlace {
        loop {
            let changed = self.changed.notified();
            if let Some(place) = self.try_admit(user) {
                return place;
            }
            changed.await;
        }
    }

    fn try_admit(self: &Arc<Self>, user: Option<u32>) -> Option<ReaderPlace> {
        let mut users = self.lock();
        let is_admitted = users.len() < MAX_READERS && users.insert(user);
        is_admitted.then(|| ReaderPlace {
            user,
            readers: Arc::clone(self),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Option<u32>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ReaderPlace {
    fn drop(&mut self) {
        self.readers.lock().remove(&self.user);
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
        let _place = waiting.await.unwrap();
        assert!(readers.try_admit(Some(1)).is_none());
    }
}
