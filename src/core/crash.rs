//! How the process before ended, if it did not end in order.

use std::fmt;

use jiff::Timestamp;

/// The end of a process by a panic, an error in rekeyd itself, or without a trace: something
/// killed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// When it ended.
    pub at: Timestamp,
    /// Its version; empty if it left no trace.
    pub version: String,
    /// The place in the program: file, line and column; empty if it left no trace.
    pub location: String,
    /// The message, without secrets.
    pub reason: String,
}

/// What is known of a process that left no trace.
const KILLED: &str = "rekeyd did not end in order: it was killed (by SIGKILL, as the kernel does \
                      when memory runs out, or by another signal), or its host went down";

impl Crash {
    /// Returns the end of a process that left no trace, after it was last known to run at `at`.
    #[must_use]
    pub fn without_trace(at: Timestamp) -> Self {
        Self {
            at,
            version: String::new(),
            location: String::new(),
            reason: KILLED.to_owned(),
        }
    }

    /// Returns whether the process left no trace.
    #[must_use]
    pub const fn is_without_trace(&self) -> bool {
        self.location.is_empty()
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            version,
            location,
            reason,
            ..
        } = self;
        if self.is_without_trace() {
            return formatter.write_str(reason);
        }
        write!(
            formatter,
            "rekeyd {version} crashed at {location}: {reason}"
        )
    }
}
