//! The steps that touch the outside, each followed by one commit.

mod begin;
mod create;
mod deliver;
mod revoke;
mod verify;

use std::time::Duration;

use crate::core::change::{Change, Moved};
use crate::core::names::RotationId;
use crate::core::rotation::Event;
use crate::engine::worker::Worker;
use crate::provider::{ProviderError, Retry};

/// How long to wait for something that will not pass before a person acts.
const HOPELESS_PAUSE: Duration = Duration::from_secs(3_600);

impl Worker {
    /// The rotation failed; the next one waits.
    fn failed(&self, rotation: &RotationId, event: Event, error: &ProviderError) -> Vec<Change> {
        let text = error.to_string();
        let moved = Moved {
            error: Some(text.clone()),
            ..Moved::new(rotation, event)
        };
        vec![Change::Moved(moved), self.deferred(&text, pause_of(error))]
    }
}

/// What the provider asks for, or what its kind of refusal needs at least.
fn pause_of(error: &ProviderError) -> Option<Duration> {
    match error.retry {
        Retry::Later(after) => after,
        Retry::Never => Some(HOPELESS_PAUSE),
    }
}
