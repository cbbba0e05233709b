//! A secret of one key in the file of another, and the check that the file keeps its
//! credential.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::time;

use super::WorldState;
use super::configuration::configured_keys;
use super::consumers::Revocation;
use super::sinks::SinkState;
use crate::scenario::{KeySpec, Scenario, SinkKind};

/// The time between the search through the files and the deletion.
const SEARCHED_WITHIN: Duration = Duration::from_secs(1);

impl SinkState {
    /// Returns whether this secret was copied into the sink from another key.
    pub(super) fn holds_copy_of(&self, secret: &str) -> bool {
        let copied = self.copied.as_ref();
        copied.is_some_and(|(copied, _)| copied == secret)
    }
}

impl WorldState {
    /// Copies the first key's previous secret into the file of the second, if it is alive.
    pub(super) fn copy_file(&mut self, scenario: &Scenario, now: Timestamp) {
        let files = scenario.keys.iter().filter_map(file_of);
        let files: Vec<_> = files.collect();
        let [first, second, ..] = files.as_slice() else {
            return;
        };
        let previous = self.sinks.get(first).and_then(|sink| sink.replaced.last());
        let previous = previous.map(|(secret, _)| secret.clone());
        let Some(secret) = previous.filter(|secret| self.is_live_secret(secret)) else {
            return;
        };
        let sink = self.sinks.entry(second.clone()).or_default();
        sink.restored_at = Some(now);
        sink.copied = Some((secret.clone(), now));
        sink.writes += 1;
        if let Some(replaced) = sink.content.replace(secret) {
            sink.replaced.push((replaced, now));
        }
    }

    /// Checks that no file of a configured key holds the revoked credential of another, unless
    /// it has held it for longer than such a file counts.
    pub(super) fn check_copies(&mut self, revocation: &Revocation<'_>) {
        let credential = revocation.credential;
        if credential.deletion_requested {
            return;
        }
        let keys = configured_keys(revocation.scenario, revocation.configuration);
        let holder = keys.iter().filter_map(file_of).find(|location| {
            let Some(sink) = self.sinks.get(location) else {
                return false;
            };
            let Some((copied, at)) = &sink.copied else {
                return false;
            };
            let is_held = sink.content.as_ref() == Some(copied) && *copied == credential.secret;
            let held_span = time::until(*at, revocation.at);
            is_held
                && held_span >= SEARCHED_WITHIN
                && held_span < revocation.scenario.max_revoke_delay
        });
        if let Some(location) = holder {
            let name = &credential.name;
            self.record_violation(format!(
                "{location:?} holds the revoked {name} of another key"
            ));
        }
    }
}

/// Returns the location of a key's file.
fn file_of(key: &KeySpec) -> Option<(String, String)> {
    let mut sinks = key.sinks.iter();
    let file = sinks.find(|sink| sink.kind == SinkKind::File)?;
    Some((key.name.to_owned(), file.name.to_owned()))
}
