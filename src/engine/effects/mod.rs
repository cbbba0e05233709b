//! The steps with an external effect, each followed by one commit.

mod absence;
mod adopt;
mod answer;
mod create;
mod deliver;
mod discrepancy;
pub(super) mod drift;
pub(super) mod file_access;
mod first_write;
pub(super) mod held_elsewhere;
mod held_keys;
mod intent;
mod leak;
pub(super) mod leaked_files;
mod operator;
mod preconditions;
pub(super) mod retirement;
mod revoke;
mod shown_end;
mod sightings;
mod take_secret;
mod try_keys;
mod verify;

use std::time::Duration;

use crate::core::change::{Change, Transition};
use crate::core::ids::RotationId;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::secret::{EndMatch, compare_end};
use crate::core::state::CredentialMetadata;
use crate::core::time;
use crate::engine::worker::Worker;
use crate::provider::{ListedCredential, ProviderError, RetryAdvice};

/// The delay after a failure that only an operator can repair.
const PERMANENT_FAILURE_PAUSE: Duration = time::HOUR;

impl Worker {
    /// Returns the changes of a failed rotation, and backs off its key.
    fn failure_changes(
        &self,
        rotation: &RotationId,
        event: LifecycleEvent,
        error: &ProviderError,
    ) -> Vec<Change> {
        let text = error.to_string();
        let transition = Transition {
            error: Some(text.clone()),
            ..Transition::new(rotation, event)
        };
        vec![
            Change::from(transition),
            self.back_off_key(&text, retry_delay(error)),
        ]
    }
}

/// Returns the delay that the provider requests, or the one after its refusal.
fn retry_delay(error: &ProviderError) -> Option<Duration> {
    match error.retry {
        RetryAdvice::Later(after) => after,
        RetryAdvice::Never => Some(PERMANENT_FAILURE_PAUSE),
    }
}

/// Returns the redacted value of a credential: from a fresh response if it has one,
/// or as it was recorded. Two that contradict each other show nothing.
pub(crate) fn redacted_value_of(
    response: Option<&ListedCredential>,
    recorded: &CredentialMetadata,
) -> Option<String> {
    let recorded = recorded.redacted_value.as_deref();
    let fresh = response.and_then(|listed| listed.metadata.redacted_value.as_deref());
    match (fresh, recorded) {
        (Some(fresh), Some(recorded))
            if compare_end(fresh, Some(recorded)) == EndMatch::Different =>
        {
            None
        }
        (fresh, recorded) => fresh.or(recorded).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::gate::RequestClass;
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
                class: RequestClass::Read,
                code: None,
                request_id: None,
                server_time: None,
            };
            assert_eq!(retry_delay(&error), pause);
        }
    }
}
