//! Log lines with the output of a sink's program.

use tracing::{info, warn};

use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::platform::process::ProcessExit;

/// The delivery that a program ran for.
pub(super) struct ProgramContext<'w> {
    /// The program's name in the log: `command`, or the option that names it.
    pub(super) role: &'static str,
    pub(super) key: &'w KeyName,
    pub(super) rotation: &'w RotationId,
    pub(super) sink: &'w SinkId,
}

/// Logs the program's output, line by line: standard error as warnings.
pub(super) fn log_output(context: &ProgramContext<'_>, exit: &ProcessExit) {
    let ProgramContext {
        role,
        key,
        rotation,
        sink,
    } = context;
    let sink = &sink.name;
    let source = source_text(sink, role);
    for line in exit.stdout.display_lines() {
        info!(%key, %rotation, %sink, "{key}, {source}: {line}");
    }
    for line in exit.stderr.display_lines() {
        warn!(%key, %rotation, %sink, "{key}, {source}: {line}");
    }
}

/// Describes the program of a sink. A sink that has its program's name is not named twice.
fn source_text(sink: &str, role: &str) -> String {
    if sink == role {
        format!("sink {sink}")
    } else {
        format!("sink {sink}: {role}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_named_once() {
        assert_eq!(source_text("command", "command"), "sink command");
        assert_eq!(source_text("vault", "command"), "sink vault: command");
        assert_eq!(source_text("file", "on-change"), "sink file: on-change");
    }
}
