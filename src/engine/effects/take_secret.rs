//! Takes the secret of a rotation again from a file that rekeyd itself wrote, so that
//! rekeyd need not create another credential: after a restart, and for a sink that was
//! added.

use crate::core::active_credential::{CredentialUsage, SecretOrigin};
use crate::core::change::{AddedSink, Change, DeliveryChange, RecoveredSecret};
use crate::core::decide::outcome;
use crate::core::decide::secret_source::{added_sinks, noted_files};
use crate::core::ids::{RotationId, SinkId};
use crate::core::in_flight::InFlight;
use crate::core::lifecycle::Phase;
use crate::core::policy::RetryClass;
use crate::core::secret::{EndMatch, Secret, compare_end};
use crate::core::state::{FileNote, Rotation};
use crate::core::time;
use crate::engine::effects::retry_delay;
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{ErrorKind, ProviderError};
use crate::sink::{TargetContent, read_noted_target};

impl Worker {
    /// Takes the secret of a rotation from one of its files, and continues with it. Without
    /// such a file a verified rotation is stranded, and a current one replaced.
    pub(crate) async fn take_secret(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let (Some(row), Some(managed)) =
            (self.state.rotation(rotation).cloned(), self.managed.clone())
        else {
            return Ok(());
        };
        let is_current = row.phase == Phase::Current;
        match self.secret_from_file(&row, &managed).await {
            Ok(Some((sink, secret))) => self.go_on_with(&row, &managed, sink, secret).await,
            Ok(None) if is_current => {
                self.sourceless = Some(rotation.clone());
                Ok(())
            }
            Ok(None) => {
                let now = self.now();
                let changes = outcome::interrupt(&row, &self.state, Some(&managed.policy), now);
                self.record(changes).await
            }
            Err(error) if self.is_global_failure(&error).await => Ok(()),
            Err(error) if is_current => {
                let problem = format!("cannot recover its secret from a file: {error}");
                self.record_backoff(&problem, retry_delay(&error)).await
            }
            Err(error) => {
                let (text, after) = (error.to_string(), retry_delay(&error));
                let change = self.schedule_retry(rotation, RetryClass::Provider, &text, after);
                self.record(vec![change]).await
            }
        }
    }

    /// Returns the secret of a rotation and the sink with its file: one that the provider
    /// shows the end of, that rekeyd never worked with, and that works.
    async fn secret_from_file(
        &mut self,
        row: &Rotation,
        managed: &ManagedKey,
    ) -> Result<Option<(SinkId, Secret)>, ProviderError> {
        let Some(recorded) = &row.credential else {
            return Ok(None);
        };
        let rotates_own = |sink: &SinkId| {
            let sink = managed.sink(sink);
            sink.is_some_and(|sink| sink.rotates_self_credential())
        };
        if row.deliveries.iter().any(|row| rotates_own(&row.sink)) {
            return Ok(None);
        }
        let mut candidates = Vec::new();
        for (sink, note) in noted_files(row) {
            let content = read_file(managed, sink, note).await;
            let keys = content.keys().iter().cloned();
            candidates.extend(keys.map(|key| (sink.clone(), key)));
        }
        if candidates.is_empty() {
            return Ok(None);
        }
        let Some(listed) = self.retrieve(recorded).await?.value else {
            return Ok(None);
        };
        let shown = listed.metadata.redacted_value.as_deref();
        let provider = &self.services.provider;
        let is_its_secret = |secret: &Secret| {
            compare_end(secret.expose(), shown) == EndMatch::Same
                && provider.origin(secret) != SecretOrigin::Own
        };
        let found = candidates.into_iter().find(|(_, key)| is_its_secret(key));
        let Some((sink, secret)) = found else {
            return Ok(None);
        };
        if provider.usage(&recorded.id, shown) != CredentialUsage::Unused {
            return Ok(None);
        }
        let verified = provider.verify(&secret).await;
        self.observe_response(&verified);
        match verified {
            Ok(_) => Ok(Some((sink, secret))),
            Err(error)
                if matches!(
                    error.kind,
                    ErrorKind::CredentialRefused | ErrorKind::Forbidden
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Continues a rotation as one whose secret was never lost; sinks that were added
    /// meanwhile take part.
    async fn go_on_with(
        &mut self,
        row: &Rotation,
        managed: &ManagedKey,
        sink: SinkId,
        secret: Secret,
    ) -> Result<(), LedgerError> {
        let now = self.now();
        let current = self.state.current().filter(|current| current.id != row.id);
        let replaced = current.and_then(Rotation::credential);
        let not_before = time::after(now, managed.policy.overlap);
        let previous = replaced.map(|credential| (credential.id.clone(), not_before));
        let mut changes = vec![Change::from(RecoveredSecret {
            rotation: row.id.clone(),
            sink,
        })];
        if row.phase == Phase::Current {
            changes.extend(self.added_sink_changes(row, managed));
        } else {
            self.needs_sink_sync = true;
        }
        self.in_flight = Some(InFlight {
            create_sent: true,
            secret: Some(secret),
            first_verified_at: Some(now),
            verified_at: Some(now),
            previous,
            is_recovered: row.phase.is_open(),
            ..InFlight::new(row.id.clone())
        });
        self.record(changes).await
    }

    /// Marks the sinks that are configured again, and whose files are those that the
    /// deliveries of the current credential left.
    pub(crate) async fn recognize_files(&self, changes: &mut [Change]) {
        let (Some(managed), Some(current)) = (self.managed.clone(), self.state.current()) else {
            return;
        };
        for change in changes {
            let Change::Delivery(DeliveryChange::SinkReturned(returned)) = change else {
                continue;
            };
            let mut noted = noted_files(current);
            let noted = noted.find(|(sink, _)| **sink == returned.sink);
            if let Some((sink, note)) = noted.filter(|_| returned.rotation == current.id) {
                let content = read_file(&managed, sink, note).await;
                returned.is_unchanged = matches!(content, TargetContent::Keys(_));
            }
        }
    }

    fn added_sink_changes(&self, row: &Rotation, managed: &ManagedKey) -> Vec<Change> {
        let added = added_sinks(&self.state, &managed.required_sinks(), self.now());
        let mut changes = Vec::new();
        for sink in added {
            if row.deliveries.iter().all(|delivery| delivery.sink != sink) {
                changes.push(Change::from(AddedSink {
                    rotation: row.id.clone(),
                    sink,
                    required: true,
                }));
            }
        }
        changes
    }
}

/// Reads the file of a sink, which need not be configured any more.
async fn read_file(managed: &ManagedKey, sink: &SinkId, note: FileNote) -> TargetContent {
    match managed.sink(sink) {
        Some(configured) => configured.read_noted(note).await,
        None => read_noted_target(&sink.target, note).await,
    }
}
