//! The requests in progress: the tracker submits them to the engine and replies
//! when the engine has finished them, alike in a running daemon and in a
//! command that does the work itself.

use tokio::sync::oneshot;

use crate::daemon::control::authorization::VerifiedPeer;
use crate::daemon::control::pending_request::PendingRequest;
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, Wait};
use crate::engine::Engine;

/// A request, its author and the channel for the response.
pub struct IncomingRequest {
    /// The request.
    pub request: ControlRequest,
    /// Its author.
    pub author: VerifiedPeer,
    /// The channel for the response.
    pub reply: oneshot::Sender<ControlResponse>,
}

/// A caller, and the response to its request.
pub(crate) type FinishedRequest = (oneshot::Sender<ControlResponse>, ControlResponse);

/// The requests in progress.
#[derive(Default)]
pub(crate) struct RequestTracker {
    pending: Vec<PendingRequest>,
}

impl RequestTracker {
    /// Whether no caller waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Submits a request to the engine. [`ControlRequest::Reload`] is refused. The reply
    /// follows with [`RequestTracker::reply_finished`].
    pub(crate) async fn submit(&mut self, incoming: IncomingRequest, engine: &mut Engine) {
        let IncomingRequest {
            request,
            author,
            reply,
        } = incoming;
        let mut pending = PendingRequest::new(reply);
        pending.start(request, author, engine).await;
        self.pending.push(pending);
    }

    /// Collects the outcomes that have arrived.
    pub(crate) fn collect_outcomes(&mut self, engine: &mut Engine) {
        let polled = self
            .pending
            .iter_mut()
            .flat_map(|pending| pending.poll(engine));
        let given_up: Vec<_> = polled.collect();
        for key in given_up {
            let is_awaited = self
                .pending
                .iter()
                .any(|pending| pending.is_waiting_for(&key));
            // A rotation that was reported as not done must not be done later.
            if !is_awaited {
                engine.cancel_request(&key);
            }
        }
    }

    /// Replies to the requests whose outcomes are collected.
    pub(crate) fn reply_finished(&mut self) {
        for pending in self.pending.extract_if(.., |pending| pending.is_finished()) {
            pending.send_reply();
        }
    }

    /// Returns what the callers wait for.
    pub(crate) fn waits(&self, engine: &Engine) -> Vec<Wait> {
        let pending = self.pending.iter();
        pending.flat_map(|pending| pending.waits(engine)).collect()
    }

    /// Replies `reason` to all callers that still wait, since the engine stops.
    pub(crate) fn close(&mut self, engine: &mut Engine, reason: &str) {
        self.collect_outcomes(engine);
        for mut pending in std::mem::take(&mut self.pending) {
            pending.fail_open_items(engine, reason);
            pending.send_reply();
        }
    }
}
