//! What is run once the file has changed.

use secrecy::zeroize::Zeroizing;

use super::settings::OnChange;
use crate::core::command::delivery_environment;
use crate::core::ids::SinkId;
use crate::platform::process::{ExitKind, Invocation, run};
use crate::sink::program_log::{self, ProgramContext};
use crate::sink::{DeliveredPayload, SinkProblem};

/// The program has done what it is for.
const EXIT_SUCCESS: i32 = 0;

/// Runs it once. It reads nothing, and knows in its environment whose file has
/// changed.
pub(super) async fn run_on_change(
    after: &OnChange,
    sink: &SinkId,
    taken: &DeliveredPayload,
) -> Result<(), SinkProblem> {
    let variables = delivery_environment(
        taken.key.as_str(),
        taken.rotation.as_str(),
        taken.sequence,
        &sink.name,
        taken.credential.id.as_str(),
    );
    let ended = run(Invocation {
        command: &after.argv,
        environment: &variables,
        stdin: Zeroizing::new(Vec::new()),
        timeout: after.timeout,
    })
    .await;
    let whose = ProgramContext {
        role: "on-change",
        key: &taken.key,
        rotation: &taken.rotation,
        sink,
    };
    program_log::log_output(&whose, &ended);
    match ended.kind {
        ExitKind::Code(EXIT_SUCCESS) => Ok(()),
        ExitKind::NotStarted(_)
        | ExitKind::Code(_)
        | ExitKind::Signal(_)
        | ExitKind::TimedOut
        | ExitKind::Failed(_) => {
            let message = ended.describe(&after.argv.program, after.timeout);
            Err(SinkProblem::of_exit(&ended, message))
        }
    }
}
