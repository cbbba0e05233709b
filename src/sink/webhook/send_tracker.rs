//! The request's body, and whether any of it may have left.
//!
//! A time that runs out says nothing about how far the request had come: the
//! TLS handshake may have been all that hung. The secret is in the body alone,
//! so what was never asked for it was never sent the secret.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use secrecy::zeroize::Zeroizing;

/// Nobody has asked for the body.
const NOT_SENT: u8 = 0;
/// It was given out, and may have left.
const HANDED_OUT: u8 = 1;
/// It is not given out any more.
const CANCELLED: u8 = 2;

/// The buffer that an HTTP client sends.
type BodyBytes = <String as Body>::Data;

/// A body that remembers that it was asked for. Its buffer is wiped when the
/// client is done with it.
pub(super) struct TrackedBody {
    bytes: Option<Zeroizing<Vec<u8>>>,
    state: Arc<AtomicU8>,
}

/// Asks about a body, after the request took it.
pub(super) struct SendTracker(Arc<AtomicU8>);

/// The body was asked for after it had been withdrawn.
#[derive(Debug, thiserror::Error)]
#[error("the request was given up")]
pub(super) struct SendCancelled;

impl TrackedBody {
    pub(super) fn new(bytes: Zeroizing<Vec<u8>>) -> (Self, SendTracker) {
        let state = Arc::new(AtomicU8::new(NOT_SENT));
        let trace = SendTracker(Arc::clone(&state));
        let bytes = Some(bytes);
        (Self { bytes, state }, trace)
    }
}

impl SendTracker {
    /// True when no byte of the body has left, nor ever will.
    pub(super) fn cancel_if_unsent(&self) -> bool {
        let before =
            self.0
                .compare_exchange(NOT_SENT, CANCELLED, Ordering::SeqCst, Ordering::SeqCst);
        before != Err(HANDED_OUT)
    }
}

impl Body for TrackedBody {
    type Data = BodyBytes;
    type Error = SendCancelled;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, SendCancelled>>> {
        let before =
            self.state
                .compare_exchange(NOT_SENT, HANDED_OUT, Ordering::SeqCst, Ordering::SeqCst);
        if before == Err(CANCELLED) {
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
        let (mut body, trace) = tracked_body();
        assert!(matches!(poll_body(&mut body), Poll::Ready(Some(Ok(6)))));
        assert!(!trace.cancel_if_unsent());
        let (mut body, trace) = tracked_body();
        assert_eq!(body.size_hint().exact(), Some(6));
        assert!(trace.cancel_if_unsent() && trace.cancel_if_unsent());
        assert!(matches!(
            poll_body(&mut body),
            Poll::Ready(Some(Err(SendCancelled)))
        ));
    }
}
