//! What a sink says of a program that it ran.

use tracing::{info, warn};

use crate::core::ids::{KeyName, RotationId, SinkId};
use crate::platform::process::ProcessExit;

/// Whose program it was.
pub(super) struct ProgramContext<'w> {
    /// As the log calls it: `command`, or the option that names it.
    pub(super) role: &'static str,
    pub(super) key: &'w KeyName,
    pub(super) rotation: &'w RotationId,
    pub(super) sink: &'w SinkId,
}

/// Tells the log what the program wrote, line by line.
pub(super) fn log_output(whose: &ProgramContext<'_>, ended: &ProcessExit) {
    let ProgramContext {
        role: what,
        key,
        rotation,
        sink,
    } = whose;
    let name = &sink.name;
    for line in ended.stdout.display_lines() {
        info!(%key, %rotation, %sink, "the {what} of {key} to {name} says: {line}");
    }
    for line in ended.stderr.display_lines() {
        warn!(%key, %rotation, %sink, "the {what} of {key} to {name} complains: {line}");
    }
}
