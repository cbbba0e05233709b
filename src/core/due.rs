//! When a key is due.
use crate::core::names::SinkId;
use crate::core::policy::KeyPolicy;
use crate::core::record::{KeyState, Trigger};
use jiff::Timestamp;
/// stub
pub enum Due {
    /// stub
    No {
        /// stub
        next: Option<Timestamp>,
    },
    /// stub
    Since {
        /// stub
        at: Timestamp,
        /// stub
        scheduled_for: Option<Timestamp>,
        /// stub
        trigger: Trigger,
    },
}
/// stub
#[must_use]
pub fn due(_: &KeyPolicy, _: &[SinkId], _: &KeyState, _: Timestamp, _: Timestamp) -> Due {
    Due::No { next: None }
}
