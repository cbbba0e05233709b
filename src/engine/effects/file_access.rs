//! Who could get the files that deliveries left, for sinks that keep their owners.

use crate::core::change::{Change, ComparedFileAccess, NarrowedFile, SeenFileAccess};
use crate::core::notification::AlertKind;
use crate::core::state::{Delivery, DeliveryState, FileAccess, KeyState, Rotation};
use crate::engine::effects::drift::accepted_deliveries;
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_notice::OperatorNotice;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::{Destination, Sink};

impl Worker {
    /// Notes for a sink of a file who could get what the last recorded delivery left there.
    pub(super) async fn note_recorded_access(&self, sink: &dyn Sink) -> Result<(), LedgerError> {
        if sink.destination() != Destination::File {
            return Ok(());
        }
        let recorded = self.recorded_access_of(sink).await?;
        sink.note_recorded_access(recorded);
        Ok(())
    }

    async fn recorded_access_of(&self, sink: &dyn Sink) -> Result<Option<FileAccess>, LedgerError> {
        let target = &sink.id().target;
        let recorded = self.state.recorded_access(target);
        // Its credential may have been revoked since.
        if recorded.is_none() && self.state.sequence > 0 {
            let ledger = &self.services.ledger;
            return ledger.recorded_access(&self.state.key, target).await;
        }
        Ok(recorded)
    }

    /// Narrows the files of the current credential whose modes are wider than they may be, and
    /// records that and every other difference of owner, group and mode. Returns false if the
    /// process ends.
    pub(super) async fn keep_file_access(
        &mut self,
        managed: &ManagedKey,
        current: &Rotation,
    ) -> Result<bool, LedgerError> {
        let mut changes = Vec::new();
        for (delivery, sink, _) in accepted_deliveries(managed, current) {
            if !has_file_access(delivery, sink.as_ref()) {
                continue;
            }
            let recorded = self.recorded_access_of(sink.as_ref()).await?;
            let Some(report) = self.attempt_at_sink(sink.keep_access(recorded)).await else {
                return Ok(false);
            };
            if let Some(mode) = report.narrowed {
                let narrowed = NarrowedFile {
                    rotation: current.id.clone(),
                    sink: delivery.sink.clone(),
                    mode,
                };
                let notice = OperatorNotice {
                    kind: AlertKind::FileExposed,
                    credential: current.credential().map(|credential| credential.id.clone()),
                    text: narrowed.describe(&self.state.key),
                };
                self.notices.extend(mode.exposes_secret().then_some(notice));
                changes.push(Change::from(narrowed));
            }
            if report.problem != delivery.error {
                changes.push(Change::from(ComparedFileAccess {
                    rotation: current.id.clone(),
                    sink: delivery.sink.clone(),
                    problem: report.problem,
                }));
            }
        }
        if !changes.is_empty() {
            // What was narrowed is recorded whatever the further checks find.
            self.record(changes).await?;
        }
        Ok(true)
    }

    /// Looks at the files of the current credential whose deliveries recorded no owner, group
    /// and mode, and returns them as changes; `None` if the process ends.
    pub(super) async fn look_at_unrecorded_files(
        &mut self,
        managed: &ManagedKey,
        current: &Rotation,
    ) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        for (delivery, sink, _) in accepted_deliveries(managed, current) {
            if !lacks_access(&self.state, delivery, sink.as_ref()) {
                continue;
            }
            let access = self.attempt_at_sink(sink.look_at_access()).await?;
            changes.extend(access.map(|access| {
                Change::from(SeenFileAccess {
                    rotation: current.id.clone(),
                    sink: delivery.sink.clone(),
                    access,
                })
            }));
        }
        Some(changes)
    }
}

/// Whether the file of an accepted delivery is compared with what the delivery left. What a
/// person wrote, and was adopted, is not.
pub(crate) fn has_file_access(delivery: &Delivery, sink: &dyn Sink) -> bool {
    delivery.state == DeliveryState::Accepted && sink.destination() == Destination::File
}

/// Whether the ledger does not have who could get a file that a delivery left, as after an
/// upgrade.
pub(crate) fn lacks_access(state: &KeyState, delivery: &Delivery, sink: &dyn Sink) -> bool {
    delivery.file_access.is_none()
        && sink.destination() == Destination::File
        && state.recorded_access(&delivery.sink.target).is_none()
}
