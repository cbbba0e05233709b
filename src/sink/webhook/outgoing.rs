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
const UNASKED: u8 = 0;
/// It was given out, and may have left.
const GIVEN: u8 = 1;
/// It is not given out any more.
const WITHDRAWN: u8 = 2;

/// The buffer that an HTTP client sends.
type Bytes = <String as Body>::Data;

/// A body that remembers that it was asked for. Its buffer is wiped when the
/// client is done with it.
pub(super) struct Outgoing {
    bytes: Option<Zeroizing<Vec<u8>>>,
    state: Arc<AtomicU8>,
}

/// Asks about a body, after the request took it.
pub(super) struct Trace(Arc<AtomicU8>);

/// The body was asked for after it had been withdrawn.
#[derive(Debug, thiserror::Error)]
#[error("the request was given up")]
pub(super) struct Withdrawn;

impl Outgoing {
    pub(super) fn new(bytes: Zeroizing<Vec<u8>>) -> (Self, Trace) {
        let state = Arc::new(AtomicU8::new(UNASKED));
        let trace = Trace(Arc::clone(&state));
        let bytes = Some(bytes);
        (Self { bytes, state }, trace)
    }
}

impl Trace {
    /// True when no byte of the body has left, nor ever will.
    pub(super) fn withdraw(&self) -> bool {
        let before =
            self.0
                .compare_exchange(UNASKED, WITHDRAWN, Ordering::SeqCst, Ordering::SeqCst);
        before != Err(GIVEN)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Withdrawn;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Withdrawn>>> {
        let before =
            self.state
                .compare_exchange(UNASKED, GIVEN, Ordering::SeqCst, Ordering::SeqCst);
        if before == Err(WITHDRAWN) {
            return Poll::Ready(Some(Err(Withdrawn)));
        }
        let frame = self.bytes.take();
        Poll::Ready(frame.map(|bytes| Ok(Frame::data(Bytes::from_owner(bytes)))))
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

    fn outgoing() -> (Outgoing, Trace) {
        Outgoing::new(Zeroizing::new(b"secret".to_vec()))
    }

    fn ask(body: &mut Outgoing) -> Poll<Option<Result<usize, Withdrawn>>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let frame = Pin::new(body).poll_frame(&mut context);
        frame.map_ok(|frame| frame.into_data().unwrap().len())
    }

    #[test]
    fn what_was_given_out_cannot_be_withdrawn_and_the_other_way_round() {
        let (mut body, trace) = outgoing();
        assert!(matches!(ask(&mut body), Poll::Ready(Some(Ok(6)))));
        assert!(!trace.withdraw());
        let (mut body, trace) = outgoing();
        assert_eq!(body.size_hint().exact(), Some(6));
        assert!(trace.withdraw() && trace.withdraw());
        assert!(matches!(ask(&mut body), Poll::Ready(Some(Err(Withdrawn)))));
    }
}
