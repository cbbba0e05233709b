//! The outcome of what a request submitted: of a command, and of a rotation that continues.

use tokio::sync::oneshot;

use crate::core::ids::KeyName;
use crate::core::time;
use crate::engine::operator_command::CommandError;
use crate::engine::{Engine, PendingRotation};

/// Why a command was not carried out.
pub(super) struct CommandFailure {
    pub(super) message: String,
    /// The name of a credential that a person has to confirm before it is adopted.
    pub(super) name_to_confirm: Option<String>,
}

impl From<CommandError> for CommandFailure {
    fn from(error: CommandError) -> Self {
        Self {
            message: error.to_string(),
            name_to_confirm: match error {
                CommandError::Unrecognized(credential) => Some(credential.name),
                CommandError::Rejected(_)
                | CommandError::Provider(_)
                | CommandError::Ledger(_)
                | CommandError::LedgerCondition(_) => None,
            },
        }
    }
}

/// Returns the result of a command, if it is there.
pub(super) fn receive(
    result: &mut oneshot::Receiver<Result<String, CommandError>>,
) -> Option<Result<String, CommandFailure>> {
    match result.try_recv() {
        Ok(outcome) => Some(outcome.map_err(CommandFailure::from)),
        Err(oneshot::error::TryRecvError::Empty) => None,
        Err(oneshot::error::TryRecvError::Closed) => Some(Err(CommandFailure {
            message: "the engine dropped the command; hint: report this bug".to_owned(),
            name_to_confirm: None,
        })),
    }
}

/// Describes a key that is not rotated because of `problem`, and what follows.
pub(super) fn not_rotated_message(engine: &Engine, key: &KeyName, problem: &str) -> String {
    match engine.pending_rotation(key) {
        None => format!("{key}: not rotated: {problem}"),
        // This command has given up.
        Some(pending @ PendingRotation::StartsInNextProcess(_)) => {
            let continuation = describe_pending(engine, key, pending);
            format!("{key}: not rotated: {problem}; {continuation}")
        }
        Some(pending) => {
            let continuation = describe_pending(engine, key, pending);
            format!("{key}: not rotated yet: {problem}; {continuation}")
        }
    }
}

/// Describes what follows for a key whose rotation failed, if it is rotated without a
/// further request.
pub(super) fn continuation(engine: &Engine, key: &KeyName) -> Option<String> {
    let pending = engine.pending_rotation(key)?;
    Some(describe_pending(engine, key, pending))
}

fn describe_pending(engine: &Engine, key: &KeyName, pending: PendingRotation) -> String {
    match pending {
        PendingRotation::At(at) => {
            format!("rekeyd retries at {}", time::to_text(at))
        }
        PendingRotation::AfterCondition => "rekeyd rotates it once that is resolved".to_owned(),
        PendingRotation::AfterPause => "rekeyd rotates it when its pause ends".to_owned(),
        PendingRotation::ContinuesInNextProcess => {
            "the next `rekeyd run` or `rekeyd once` continues with it".to_owned()
        }
        PendingRotation::StartsInNextProcess(at) if at > engine.now() => format!(
            "`rekeyd rotate {key}` tries again at once, `rekeyd run` and `rekeyd once` from {} on",
            time::to_text(at)
        ),
        PendingRotation::StartsInNextProcess(_) => {
            "the next `rekeyd run` or `rekeyd once` rotates it".to_owned()
        }
    }
}
