//! What a sink says of a program that it ran.

use tracing::{info, warn};

use crate::core::names::{KeyName, RotationId, SinkId};
use crate::host::program::Ended;

/// Whose program it was.
pub(super) struct Whose<'w> {
    /// As the log calls it: `command`, or the option that names it.
    pub(super) what: &'static str,
    pub(super) key: &'w KeyName,
    pub(super) rotation: &'w RotationId,
    pub(super) sink: &'w SinkId,
}

/// Tells the log what the program wrote, line by line.
pub(super) fn log(whose: &Whose<'_>, ended: &Ended) {
    let Whose {
        what,
        key,
        rotation,
        sink,
    } = whose;
    let name = &sink.name;
    for line in ended.out.shown() {
        info!(%key, %rotation, %sink, "the {what} of {key} to {name} says: {line}");
    }
    for line in ended.err.shown() {
        warn!(%key, %rotation, %sink, "the {what} of {key} to {name} complains: {line}");
    }
}
