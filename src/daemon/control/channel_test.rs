//! Records that channels of notifications accepted a test, beside the event loop: an operator
//! has repaired them, and what is pending is sent at once.

use jiff::Timestamp;

use crate::alerting::outbox::OutboxWaker;
use crate::core::notification::ChannelId;
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, RequestOutcome};
use crate::daemon::control::tracker::IncomingRequest;
use crate::ledger::Ledger;

/// Whether [`start`] executes a request.
pub(crate) const fn is_channel_test(request: &ControlRequest) -> bool {
    matches!(request, ControlRequest::ChannelTested { .. })
}

/// Executes a request on a task of its own, and replies to it.
pub(crate) fn start(
    incoming: IncomingRequest,
    ledger: Ledger,
    dispatcher: OutboxWaker,
    now: Timestamp,
) {
    let IncomingRequest { request, reply, .. } = incoming;
    let ControlRequest::ChannelTested { channels } = request else {
        return;
    };
    tokio::spawn(async move {
        let ids = channels.iter().cloned().map(ChannelId::new).collect();
        let recorded = ledger.record_accepted_test(ids, now).await;
        if recorded.is_ok() {
            dispatcher.wake_after_test();
        }
        let outcomes = channels.into_iter().map(|about| RequestOutcome {
            done: recorded.is_ok(),
            message: match &recorded {
                Ok(()) => format!("{about} accepted the test"),
                Err(error) => format!("the test of {about} is not recorded: {error}"),
            },
            about,
            shared_with: Vec::new(),
            consequences: Vec::new(),
            name: None,
        });
        // The caller may have disconnected.
        let _ = reply.send(ControlResponse {
            outcomes: outcomes.collect(),
        });
    });
}
