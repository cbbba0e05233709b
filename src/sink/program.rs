//! What a sink says of a program that it ran.

use tracing::{info, warn};

use crate::core::names::{KeyName, RotationId, SinkId};
use crate::host::program::{Ended, Told};

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
    for line in lines(&ended.out) {
        info!(%key, %rotation, %sink, "the {what} of {key} to {name} says: {line}");
    }
    for line in lines(&ended.err) {
        warn!(%key, %rotation, %sink, "the {what} of {key} to {name} complains: {line}");
    }
}

/// The lines, and that there were more.
fn lines(told: &Told) -> impl Iterator<Item = &str> {
    let more = told.is_cut.then_some("(the rest is not shown)");
    told.lines.iter().map(String::as_str).chain(more)
}

/// The last that the program said, most often what went wrong, as the end of a
/// sentence.
pub(super) fn quoted(ended: &Ended) -> String {
    let last = ended.err.lines.last().or(ended.out.lines.last());
    last.map_or_else(String::new, |line| format!(": {line}"))
}
