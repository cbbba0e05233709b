//! Who could get the files that deliveries left, for sinks that keep their owners.

use crate::core::change::{Change, SeenFileAccess};
use crate::core::state::{Delivery, KeyState, Rotation};
use crate::engine::effects::drift::accepted_deliveries;
use crate::engine::managed_key::ManagedKey;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::sink::{Destination, Sink};

impl Worker {
    /// Notes for a sink of a file who could get what the last recorded delivery left there.
    pub(super) async fn note_recorded_access(&self, sink: &dyn Sink) -> Result<(), LedgerError> {
        if sink.destination() != Destination::File {
            return Ok(());
        }
        let target = &sink.id().target;
        let mut recorded = self.state.recorded_access(target);
        // Its credential may have been revoked since.
        if recorded.is_none() && self.state.sequence > 0 {
            let ledger = &self.services.ledger;
            recorded = ledger.recorded_access(&self.state.key, target).await?;
        }
        sink.note_recorded_access(recorded);
        Ok(())
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

/// Whether the ledger does not have who could get a file that a delivery left, as after an
/// upgrade.
pub(crate) fn lacks_access(state: &KeyState, delivery: &Delivery, sink: &dyn Sink) -> bool {
    delivery.file_access.is_none()
        && sink.destination() == Destination::File
        && state.recorded_access(&delivery.sink.target).is_none()
}
