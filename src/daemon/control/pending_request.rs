//! A request in progress: waits for what it started, and collects the outcomes.

mod leak;
mod start;
mod submit;

use tokio::sync::oneshot;

use crate::core::ids::KeyName;
use crate::daemon::control::pending_item::{PendingItem, WaitCondition};
use crate::daemon::control::protocol::{ControlResponse, RequestOutcome, Wait};
use crate::engine::Engine;

/// A request in progress.
pub(super) struct PendingRequest {
    items: Vec<PendingItem>,
    outcomes: Vec<RequestOutcome>,
    reply: oneshot::Sender<ControlResponse>,
}

impl PendingRequest {
    /// Returns a request without work, whose response is sent to `reply`.
    pub(super) const fn new(reply: oneshot::Sender<ControlResponse>) -> Self {
        Self {
            items: Vec::new(),
            outcomes: Vec::new(),
            reply,
        }
    }

    fn refuse(&mut self, subject: &str, reason: &str) {
        self.push_outcome(subject, false, reason.to_owned());
    }

    fn succeed(&mut self, subject: &str, message: String) {
        self.push_outcome(subject, true, message);
    }

    fn push_outcome(&mut self, subject: &str, done: bool, message: String) {
        self.outcomes.push(RequestOutcome {
            about: subject.to_owned(),
            done,
            message,
            shared_with: Vec::new(),
            consequences: Vec::new(),
            name: None,
        });
    }

    /// Records the results that have arrived. Returns the keys whose rotation
    /// this request does not await any more.
    pub(super) fn poll(&mut self, engine: &mut Engine) -> Vec<KeyName> {
        let mut given_up = Vec::new();
        for mut item in std::mem::take(&mut self.items) {
            let result = item.poll(engine);
            if let Some(follow_up) = item.take_follow_up() {
                self.follow(follow_up, engine);
            }
            match result {
                Some(Ok(message)) => self.push_outcome(&item.subject, true, message),
                Some(Err(message)) => {
                    self.push_outcome(&item.subject, false, message);
                    if let Some(outcome) = self.outcomes.last_mut() {
                        outcome.name = item.name_to_confirm.take();
                    }
                    if let WaitCondition::Rotation { key, .. } = item.awaiting {
                        given_up.push(key);
                    }
                }
                None => self.items.push(item),
            }
        }
        given_up
    }

    /// Whether this request awaits a rotation of `key`.
    pub(super) fn is_waiting_for(&self, key: &KeyName) -> bool {
        self.items.iter().any(|item| match &item.awaiting {
            WaitCondition::Rotation { key: awaited, .. } => awaited == key,
            WaitCondition::Leak(leak) => leak.key == *key,
            WaitCondition::Command { .. } => false,
        })
    }

    /// Returns what the caller waits for.
    pub(super) fn waits(&self, engine: &Engine) -> impl Iterator<Item = Wait> {
        self.items.iter().filter_map(|item| item.awaited(engine))
    }

    /// Whether every outcome is known.
    pub(super) fn is_finished(&self) -> bool {
        self.items.is_empty()
    }

    /// Records that the items that are still open are not done, for `reason`.
    pub(super) fn fail_open_items(&mut self, engine: &Engine, reason: &str) {
        for item in std::mem::take(&mut self.items) {
            let message = item.unfinished_message(engine, reason);
            self.push_outcome(&item.subject, false, message);
        }
    }

    /// Sends the response.
    pub(super) fn send_reply(self) {
        // The caller may have disconnected.
        let _ = self.reply.send(ControlResponse {
            outcomes: self.outcomes,
        });
    }
}
