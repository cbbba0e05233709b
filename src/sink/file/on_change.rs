//! What is run once the file has changed.

use secrecy::zeroize::Zeroizing;

use super::settings::OnChange;
use crate::core::command::delivery_environment;
use crate::core::duration;
use crate::core::ids::SinkId;
use crate::platform::process::{ExitKind, Invocation, ProcessExit, run};
use crate::sink::DeliveredPayload;
use crate::sink::program_log::{self, ProgramContext};

/// The program has done what it is for.
const EXIT_SUCCESS: i32 = 0;

/// Runs it once. It reads nothing, and knows in its environment whose file has
/// changed.
pub(super) async fn run_on_change(
    after: &OnChange,
    sink: &SinkId,
    taken: &DeliveredPayload,
) -> Result<(), String> {
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
    exit_result(after, &ended)
}

fn exit_result(after: &OnChange, ended: &ProcessExit) -> Result<(), String> {
    let program = &after.argv.program;
    let quoted = ended.error_suffix();
    Err(match &ended.kind {
        ExitKind::Code(EXIT_SUCCESS) => return Ok(()),
        ExitKind::NotStarted(why) => why.clone(),
        ExitKind::Code(code) => format!("{program} ended with exit code {code}{quoted}"),
        ExitKind::Signal(signal) => format!("{program} was ended by signal {signal}{quoted}"),
        ExitKind::TimedOut => format!(
            "{program} did not end within {} and was killed{quoted}",
            duration::to_text(after.timeout)
        ),
        ExitKind::Failed(why) => {
            format!("{program} was started, and then the system failed: {why}")
        }
    })
}
