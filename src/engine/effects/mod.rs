//! The steps that touch the outside, each followed by one commit.

mod begin;
mod create;
mod deliver;
mod revoke;
mod verify;

use std::time::Duration;

use crate::core::change::{Change, Moved};
use crate::core::names::RotationId;
use crate::core::record::CredentialFacts;
use crate::core::rotation::Event;
use crate::engine::worker::Worker;
use crate::provider::{Credential, ProviderError, Retry};

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

/// The redacted value of a credential: as it is `seen`, or as it was recorded,
/// since the answer to a create may not have had one; empty if there is none.
pub(crate) fn shown_end<'c>(seen: Option<&'c Credential>, known: &'c CredentialFacts) -> &'c str {
    let seen = seen.and_then(|seen| seen.facts.redacted_value.as_deref());
    seen.or(known.redacted_value.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Cause, Outcome};

    #[test]
    fn what_will_not_pass_is_not_hammered() {
        let minute = Some(Duration::from_secs(60));
        for (retry, pause) in [
            (Retry::Later(None), None),
            (Retry::Later(minute), minute),
            (Retry::Never, Some(HOPELESS_PAUSE)),
        ] {
            let error = ProviderError {
                operation: String::new(),
                outcome: Outcome::NotDone,
                retry,
                cause: Cause::Refused,
                message: String::new(),
                request_id: None,
                date: None,
            };
            assert_eq!(pause_of(&error), pause);
        }
    }
}
