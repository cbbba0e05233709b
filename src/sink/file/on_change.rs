//! The run of the `on-change` program after a file was replaced.

use secrecy::zeroize::Zeroizing;

use super::settings::OnChange;
use crate::core::command::delivery_environment;
use crate::core::ids::SinkId;
use crate::platform::path_walk::TrustedPaths;
use crate::platform::process::{ExitKind, Invocation, run};
use crate::sink::program_log::{self, ProgramContext};
use crate::sink::{DeliveredPayload, SinkProblem};

/// The program succeeded.
const EXIT_SUCCESS: i32 = 0;

/// Runs the program once. Its standard input is empty; its environment
/// identifies the delivery.
pub(super) async fn run_on_change(
    on_change: &OnChange,
    trusted_paths: &TrustedPaths,
    sink: &SinkId,
    delivered: &DeliveredPayload,
) -> Result<(), SinkProblem> {
    let environment = delivery_environment(
        delivered.key.as_str(),
        delivered.rotation.as_str(),
        delivered.sequence,
        &sink.name,
        delivered.credential.id.as_str(),
    );
    let exit = run(Invocation {
        command: &on_change.argv,
        environment: &environment,
        stdin: Zeroizing::new(Vec::new()),
        timeout: on_change.timeout,
        trusted_paths,
    })
    .await;
    let context = ProgramContext {
        role: "on-change",
        key: &delivered.key,
        rotation: &delivered.rotation,
        sink,
    };
    program_log::log_output(&context, &exit);
    match exit.kind {
        ExitKind::Code(EXIT_SUCCESS) => Ok(()),
        ExitKind::NotStarted(_)
        | ExitKind::Code(_)
        | ExitKind::Signal(_)
        | ExitKind::TimedOut
        | ExitKind::Failed(_) => {
            let message = exit.describe(&on_change.argv.program, on_change.timeout);
            Err(SinkProblem::from_exit(&exit, message))
        }
    }
}
