//! What a command waits for, on standard error or in the log: a person at the terminal, or a
//! script's log, must not see a command that hangs without a word.

use std::time::{Duration, Instant};

use crate::cli::output;
use crate::daemon::control::protocol::Wait;

/// The time after which a command says what it waits for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The time after which a change is shown: each attempt of an outage may have its own text.
const REPEAT_AFTER: Duration = Duration::from_secs(30);

/// The number of keys that one note names.
const MAX_NAMED: usize = 3;

/// The notes of one command.
pub(super) struct WaitNotes {
    started_at: Instant,
    shown: Option<(Instant, String)>,
}

impl WaitNotes {
    /// Returns the notes of a command that begins now.
    pub(super) fn start() -> Self {
        Self {
            started_at: Instant::now(),
            shown: None,
        }
    }

    /// Shows on standard error what [`WaitNotes::next`] returns.
    pub(super) fn show(&mut self, waits: &[Wait], otherwise: &str) {
        if let Some(text) = self.next(waits, otherwise) {
            output::report_note(&text);
        }
    }

    /// Returns what the command waits for, if it has waited long enough and that has changed
    /// for a while. Without any wait, that is `otherwise`, unless it is empty.
    pub(super) fn next(&mut self, waits: &[Wait], otherwise: &str) -> Option<String> {
        if self.started_at.elapsed() < PATIENCE {
            return None;
        }
        let text = describe(waits, otherwise);
        let is_known =
            |(at, shown): &(Instant, String)| *shown == text || at.elapsed() < REPEAT_AFTER;
        if text.is_empty() || self.shown.as_ref().is_some_and(is_known) {
            return None;
        }
        self.shown = Some((Instant::now(), text.clone()));
        Some(text)
    }
}

/// Describes the waits in one line.
fn describe(waits: &[Wait], otherwise: &str) -> String {
    if waits.is_empty() {
        return match otherwise {
            "" => String::new(),
            otherwise => format!("waiting for {otherwise}"),
        };
    }
    let named = waits.iter().take(MAX_NAMED);
    let named = named.map(|wait| format!("{}: {}", wait.about, wait.awaits));
    let mut text = named.collect::<Vec<_>>().join("; ");
    if waits.len() > MAX_NAMED {
        text.push_str(&format!("; and {} more", waits.len() - MAX_NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_waits_are_named() {
        let wait = |number: usize| Wait {
            about: format!("key-{number}"),
            awaits: "waiting for the provider to respond".to_owned(),
        };
        let waits: Vec<_> = (0..5).map(wait).collect();
        for (count, otherwise, expected) in [
            (0, "", ""),
            (0, "it", "waiting for it"),
            (1, "it", "key-0: waiting for the provider to respond"),
        ] {
            assert_eq!(describe(&waits[..count], otherwise), expected);
        }
        let all = describe(&waits, "");
        assert!(
            all.ends_with("key-2: waiting for the provider to respond; and 2 more"),
            "{all}"
        );
    }
}
