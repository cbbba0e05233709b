//! The steps with an external effect, each followed by one commit.

mod create;
mod deliver;
mod discrepancy;
pub(super) mod drift;
mod operator;
mod preconditions;
mod revoke;
mod verify;

use std::time::Duration;

use crate::core::change::{Change, Transition};
use crate::core::ids::RotationId;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::state::CredentialMetadata;
use crate::core::time;
use crate::engine::worker::Worker;
use crate::provider::{ListedCredential, ProviderError, RetryAdvice};

/// How long to wait where only an operator can repair the cause.
const PERMANENT_FAILURE_PAUSE: Duration = time::HOUR;

impl Worker {
    /// Returns the changes of a failed rotation: the next one waits.
    fn failure_changes(
        &self,
        rotation: &RotationId,
        event: LifecycleEvent,
        error: &ProviderError,
    ) -> Vec<Change> {
        let text = error.to_string();
        let moved = Transition {
            error: Some(text.clone()),
            ..Transition::new(rotation, event)
        };
        vec![
            Change::from(moved),
            self.back_off_key(&text, retry_delay(error)),
        ]
    }
}

/// Returns the pause that the provider asks for, or that its refusal needs.
fn retry_delay(error: &ProviderError) -> Option<Duration> {
    match error.retry {
        RetryAdvice::Later(after) => after,
        RetryAdvice::Never => Some(PERMANENT_FAILURE_PAUSE),
    }
}

/// Returns the redacted value of a credential: from a fresh answer, or as it was
/// recorded, since the answer to a create may lack it; empty if there is none.
pub(crate) fn redacted_value_of<'c>(
    seen: Option<&'c ListedCredential>,
    known: &'c CredentialMetadata,
) -> &'c str {
    let seen = seen.and_then(|seen| seen.metadata.redacted_value.as_deref());
    seen.or(known.redacted_value.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Effect, ErrorKind};

    #[test]
    fn permanent_errors_are_retried_after_an_hour() {
        let minute = Some(Duration::from_secs(60));
        for (retry, pause) in [
            (RetryAdvice::Later(None), None),
            (RetryAdvice::Later(minute), minute),
            (RetryAdvice::Never, Some(PERMANENT_FAILURE_PAUSE)),
        ] {
            let error = ProviderError {
                operation: String::new(),
                effect: Effect::NotApplied,
                retry,
                kind: ErrorKind::Refused,
                message: String::new(),
                request_id: None,
                server_time: None,
            };
            assert_eq!(retry_delay(&error), pause);
        }
    }
}
