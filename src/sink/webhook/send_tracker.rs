//! The request's body, which records whether any of it may have been sent.
//!
//! A timeout does not say how far the request had come: perhaps only the TLS
//! handshake hung. The body alone holds the secret, so as long as the client
//! has not polled it, the receiver cannot have it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use secrecy::zeroize::Zeroizing;

/// The client has not polled the body.
const NOT_SENT: u8 = 0;
/// The client has the body, and may have sent it.
const HANDED_OUT: u8 = 1;
/// The body is not handed out any more.
const CANCELLED: u8 = 2;

/// The buffer that an HTTP client sends.
type BodyBytes = <String as Body>::Data;

/// A body that records that the client polled it. Its buffer is wiped when the
/// client drops it.
#[derive(Default)]
pub(super) struct TrackedBody {
    bytes: Option<Zeroizing<Vec<u8>>>,
    state: Arc<AtomicU8>,
}

/// The handle to a body's state while the request owns the body.
pub(super) struct SendTracker(Arc<AtomicU8>);

/// The error of a poll after the cancellation.
#[derive(Debug, thiserror::Error)]
#[error("the request was cancelled")]
pub(super) struct SendCancelled;

impl TrackedBody {
    pub(super) fn new(bytes: Zeroizing<Vec<u8>>) -> (Self, SendTracker) {
        let state = Arc::new(AtomicU8::new(NOT_SENT));
        let send_tracker = SendTracker(Arc::clone(&state));
        let bytes = Some(bytes);
        (Self { bytes, state }, send_tracker)
    }
}

impl SendTracker {
    /// Cancels the body unless it was handed out. Returns true if no byte of it
    /// was or will be sent.
    pub(super) fn cancel_if_unsent(&self) -> bool {
        let previous =
            self.0
                .compare_exchange(NOT_SENT, CANCELLED, Ordering::SeqCst, Ordering::SeqCst);
        previous != Err(HANDED_OUT)
    }
}

impl Body for TrackedBody {
    type Data = BodyBytes;
    type Error = SendCancelled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, SendCancelled>>> {
        let previous =
            self.state
                .compare_exchange(NOT_SENT, HANDED_OUT, Ordering::SeqCst, Ordering::SeqCst);
        if previous == Err(CANCELLED) {
            return Poll::Ready(Some(Err(SendCancelled)));
        }
        let frame = self.bytes.take();
        Poll::Ready(frame.map(|bytes| Ok(Frame::data(BodyBytes::from_owner(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked_body() -> (TrackedBody, SendTracker) {
        TrackedBody::new(Zeroizing::new(b"secret".to_vec()))
    }

    fn poll_body(body: &mut TrackedBody) -> Poll<Option<Result<usize, SendCancelled>>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let frame = Pin::new(body).poll_frame(&mut context);
        frame.map_ok(|frame| frame.into_data().unwrap().len())
    }

    #[test]
    fn sent_body_cannot_be_cancelled_and_vice_versa() {
        let (mut body, send_tracker) = tracked_body();
        assert!(matches!(poll_body(&mut body), Poll::Ready(Some(Ok(6)))));
        assert!(!send_tracker.cancel_if_unsent());
        let (mut body, send_tracker) = tracked_body();
        assert_eq!(body.size_hint().exact(), Some(6));
        assert!(send_tracker.cancel_if_unsent() && send_tracker.cancel_if_unsent());
        assert!(matches!(
            poll_body(&mut body),
            Poll::Ready(Some(Err(SendCancelled)))
        ));
    }
}
