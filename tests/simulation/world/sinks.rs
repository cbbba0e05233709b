//! The sinks and their content.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::state::FileNote;
use rekeyd::core::time;

use super::credentials::key_of_label;
use super::{SimWorld, WorldState};
use crate::scenario::{SinkKind, SinkSpec};

/// The names of a key and its sink.
pub(crate) type SinkLocation = (String, String);

#[derive(Debug, Default)]
pub(super) struct SinkState {
    pub(super) content: Option<String>,
    /// The last sequence that the sink applied.
    sequence: u64,
    pub(super) written_at: Option<Timestamp>,
    /// Each replaced secret, and when it was replaced.
    pub(super) replaced: Vec<(String, Timestamp)>,
    /// The number of writes, by whomever.
    pub(super) writes: i64,
    /// When somebody last wrote a secret into it.
    pub(super) restored_at: Option<Timestamp>,
    /// The last secret of another key that somebody copied into it, and when.
    pub(super) copied: Option<(String, Timestamp)>,
    /// The sequence whose next delivery it rejects, because it has applied it.
    rejects_repetition: Option<u64>,
}

/// A delivery that timed out and is applied later.
pub(super) struct LateDelivery {
    at: Timestamp,
    location: SinkLocation,
    sequence: u64,
    secret: String,
}

impl SimWorld {
    /// Writes a secret to a sink, now or after the delay.
    pub(crate) fn write_sink(
        &self,
        location: &SinkLocation,
        sequence: u64,
        secret: &str,
        delay: Option<Duration>,
    ) {
        let at = time::after(self.true_now(), delay.unwrap_or_default());
        let mut state = self.state();
        if delay.is_some() {
            state.late_deliveries.push(LateDelivery {
                at,
                location: location.clone(),
                sequence,
                secret: secret.to_owned(),
            });
        } else {
            state.apply_to_sink(location, sequence, secret, at);
        }
    }

    /// Makes a sink reject the next delivery, if it is of this sequence.
    pub(crate) fn reject_repetition(&self, location: &SinkLocation, sequence: u64) {
        let mut state = self.state();
        let sink = state.sinks.entry(location.clone()).or_default();
        sink.rejects_repetition = Some(sequence);
    }

    /// Returns whether a sink rejects this delivery as a repetition, once.
    pub(crate) fn rejects_repetition(&self, location: &SinkLocation, sequence: u64) -> bool {
        let mut state = self.state();
        let sink = state.sinks.get_mut(location);
        let rejected = sink.and_then(|sink| sink.rejects_repetition.take());
        rejected == Some(sequence)
    }

    /// Returns the sequence of a write to a file, which has none of its own: the next one, or
    /// the last one if the file already holds the secret.
    pub(crate) fn next_sequence(&self, location: &SinkLocation, secret: &str) -> u64 {
        let state = self.state();
        let Some(sink) = state.sinks.get(location) else {
            return 1;
        };
        let is_same = sink.content.as_deref() == Some(secret);
        sink.sequence + u64::from(!is_same)
    }

    pub(crate) fn sink_content(&self, location: &SinkLocation) -> Option<String> {
        self.state().sinks.get(location)?.content.clone()
    }

    /// Returns what identifies the present content of a file.
    pub(crate) fn file_note(&self, location: &SinkLocation) -> Option<FileNote> {
        let writes = self.state().sinks.get(location)?.writes;
        Some(FileNote {
            device: 1,
            inode: writes,
            size: 1,
            modified_at: writes,
            changed_at: writes,
        })
    }

    /// Returns whether somebody ever wrote a secret into a file.
    pub(crate) fn was_restored(&self, location: &SinkLocation) -> bool {
        let state = self.state();
        let sink = state.sinks.get(location);
        sink.is_some_and(|sink| sink.restored_at.is_some())
    }
}

impl WorldState {
    /// Writes the previous secret into the file of rekeyd's own credential, if that secret is
    /// alive. Only rekeyd reads that file.
    pub(super) fn restore_credential_file(&mut self) {
        let mut sinks = self
            .sinks
            .iter()
            .filter(|(location, _)| self.is_own_file(location));
        let Some((location, sink)) = sinks.next() else {
            return;
        };
        let previous = sink.replaced.last().map(|(secret, _)| secret.clone());
        let location = location.clone();
        let Some(previous) = previous.filter(|secret| self.is_live_secret(secret)) else {
            return;
        };
        self.restored_secrets.insert(previous.clone());
        if let Some(sink) = self.sinks.get_mut(&location) {
            sink.content = Some(previous);
        }
    }

    /// Writes the previous secret into the keys' files, where it is alive: consumers use it
    /// again.
    pub(super) fn restore_files(&mut self, now: Timestamp) {
        let files = self.sinks.iter().filter(|((_, sink), _)| sink == "file");
        let previous = files.filter_map(|(location, sink)| {
            let (previous, _) = sink.replaced.last()?;
            let is_other = sink.content.as_ref() != Some(previous);
            (is_other && self.is_live_secret(previous))
                .then(|| (location.clone(), previous.clone()))
        });
        for (location, previous) in previous.collect::<Vec<_>>() {
            if let Some(sink) = self.sinks.get_mut(&location) {
                sink.restored_at = Some(now);
                sink.writes += 1;
                if let Some(replaced) = sink.content.replace(previous) {
                    sink.replaced.push((replaced, now));
                }
            }
        }
    }

    /// Checks that no sink but the file of rekeyd's own credential holds what rekeyd
    /// authenticates with.
    pub(super) fn check_own_secret(&mut self) {
        let Some(own) = &self.own_secret else { return };
        let mut sinks = self.sinks.iter();
        let holder = sinks.find(|(location, sink)| {
            sink.content.as_ref() == Some(own) && !self.is_own_file(location)
        });
        if let Some(location) = holder.map(|(location, _)| location.clone()) {
            self.record_violation(format!("{location:?} holds what rekeyd authenticates with"));
        }
    }

    /// Returns whether this is the file of rekeyd's own credential.
    fn is_own_file(&self, location: &SinkLocation) -> bool {
        self.own_file.as_ref() == Some(location)
    }

    /// Returns whether a secret belongs to a credential of this key, or to one that a person
    /// created.
    fn is_of_key(&self, secret: &str, key: &str) -> bool {
        let mut credentials = self.credentials.values();
        let found = credentials.find(|credential| credential.secret == secret);
        found.is_some_and(|found| found.unmanaged || key_of_label(&found.name) == key)
    }

    /// Applies the late deliveries that are due.
    pub(super) fn apply_late_deliveries(&mut self, now: Timestamp) {
        let due: Vec<_> = self
            .late_deliveries
            .extract_if(.., |delivery| delivery.at <= now)
            .collect();
        for late in due {
            let (location, sequence) = (&late.location, late.sequence);
            self.log_trace(
                now,
                format!("the late delivery {sequence} to {location:?} is applied"),
            );
            self.apply_to_sink(location, sequence, &late.secret, late.at);
        }
    }

    /// Applies a delivery, and checks that its credential is alive and that the sink does not
    /// ignore a newer credential.
    fn apply_to_sink(
        &mut self,
        location: &SinkLocation,
        sequence: u64,
        secret: &str,
        at: Timestamp,
    ) {
        let is_live = self.is_live_secret(secret);
        let created_at = self.secret_created_at(secret);
        let content = self.sinks.get(location);
        let content = content.and_then(|sink| sink.content.as_ref());
        let is_newer = content.is_some_and(|content| created_at > self.secret_created_at(content));
        let sink = self.sinks.entry(location.clone()).or_default();
        // A receiver ignores a sequence that is not greater than the last it applied.
        if sequence <= sink.sequence {
            if is_newer {
                self.record_violation(format!("{location:?} ignores a newer credential"));
            }
            return;
        }
        sink.sequence = sequence;
        sink.writes += 1;
        sink.written_at = Some(at);
        if let Some(replaced) = sink.content.replace(secret.to_owned()) {
            sink.replaced.push((replaced, at));
        }
        self.check_own_secret();
        if self.is_own_file(location) && !self.is_of_key(secret, &location.0) {
            self.record_violation(format!(
                "{location:?} receives a secret of another key, for rekeyd to authenticate with"
            ));
        }
        let may_be_revoked = self.immediately_revoked_keys.contains(&location.0)
            || self
                .credentials
                .values()
                .any(|credential| credential.deletion_requested && credential.secret == secret);
        if !is_live && !may_be_revoked {
            self.record_violation(format!("{location:?} receives a revoked credential"));
        }
    }
}

/// Returns the locations of what a sink's consumers use: the sink, and the cache of a
/// consumer that reads the sink only when it is notified.
pub(crate) fn locations_of(key: &str, sink: &SinkSpec) -> Vec<SinkLocation> {
    let location = (key.to_owned(), sink.name.to_owned());
    match sink.kind {
        SinkKind::NotifiedFile => vec![consumer_cache(&location), location],
        SinkKind::File
        | SinkKind::Webhook
        | SinkKind::HangingWebhook
        | SinkKind::SelfCredential => vec![location],
    }
}

/// Returns the location of the cache of a consumer that reads the sink only when the
/// `on-change` command runs.
pub(crate) fn consumer_cache((key, sink): &SinkLocation) -> SinkLocation {
    (key.clone(), format!("{sink}, cached"))
}
