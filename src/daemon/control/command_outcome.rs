//! The outcome of what a request submitted: of a command, and of a rotation that continues.

use tokio::sync::oneshot;

use crate::core::ids::KeyName;
use crate::core::time;
use crate::engine::operator_command::CommandError;
use crate::engine::{Engine, PendingRotation};

/// Returns the result of a command, if it is there.
pub(super) fn receive(
    result: &mut oneshot::Receiver<Result<String, CommandError>>,
) -> Option<Result<String, String>> {
    match result.try_recv() {
        Ok(outcome) => Some(outcome.map_err(|error| error.to_string())),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(oneshot::error::TryRecvError::Closed) => Some(Err(
            "the engine dropped the command; hint: report this bug".to_owned(),
        )),
    }
}

/// Describes what follows for a key whose rotation failed, if it is rotated without a
/// further request.
pub(super) fn continuation(engine: &Engine, key: &KeyName) -> Option<String> {
    Some(match engine.pending_rotation(key)? {
        PendingRotation::At(at) => {
            format!("rekeyd retries at {}", time::to_text(at))
        }
        PendingRotation::AfterCondition => "rekeyd rotates it once that is resolved".to_owned(),
        PendingRotation::AfterPause => "rekeyd rotates it when its pause ends".to_owned(),
        PendingRotation::InAnotherProcess => {
            "the next `rekeyd run` or `rekeyd once` continues with it".to_owned()
        }
    })
}
