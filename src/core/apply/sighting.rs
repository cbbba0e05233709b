//! Applies what was seen of retired credentials in the targets of sinks.

use jiff::Timestamp;

use crate::core::apply::update::{ApplyError, KeyUpdate, sink_detail};
use crate::core::change::RetiredSighting;
use crate::core::ids::{RotationId, SinkId};
use crate::core::ledger_event::LedgerEventKind;
use crate::core::state::{Delivery, DeliveryState, Sighting};

/// Begins a sighting, unless one is open: its time counts from the first. If the credential
/// was never delivered to the sink, somebody else wrote it there.
pub(super) fn begin(update: &mut KeyUpdate, seen: &RetiredSighting) -> Result<(), ApplyError> {
    let at = update.at;
    let mut is_new = false;
    update.update_rotation(&seen.rotation, |row| {
        let mut deliveries = row.deliveries.iter();
        if !deliveries.any(|delivery| delivery.sink == seen.sink) {
            let sink = (seen.sink.clone(), seen.required);
            row.add_deliveries(&[sink], DeliveryState::Uncertain);
        }
        for delivery in &mut row.deliveries {
            let is_open = delivery.sighting.is_some_and(|sighting| sighting.is_open());
            if delivery.sink == seen.sink && !is_open {
                is_new = true;
                delivery.sighting = Some(Sighting {
                    since: at,
                    until: None,
                });
            }
        }
        Ok(())
    })?;
    if is_new {
        let detail = sink_detail(&seen.sink, None);
        update.append_event(Some(&seen.rotation), LedgerEventKind::RetiredSeen, detail);
    }
    Ok(())
}

/// Ends an open sighting.
pub(super) fn end(delivery: &mut Delivery, at: Timestamp) {
    if let Some(sighting) = &mut delivery.sighting
        && sighting.is_open()
    {
        sighting.until = Some(at.max(sighting.since));
    }
}

/// Ends the sightings of older credentials at a sink that has accepted a newer one.
pub(super) fn end_older(
    update: &mut KeyUpdate,
    accepted: &RotationId,
    sink: &SinkId,
    at: Timestamp,
) -> Result<(), ApplyError> {
    let sequence = update.find_rotation(accepted)?.sequence;
    let rows = update.state.live.iter();
    let older = rows.filter(|row| row.sequence < sequence);
    let older: Vec<_> = older.map(|row| row.id.clone()).collect();
    for rotation in older {
        update.update_rotation(&rotation, |row| {
            let mut deliveries = row.deliveries.iter_mut();
            if let Some(delivery) = deliveries.find(|delivery| delivery.sink == *sink) {
                end(delivery, at);
            }
            Ok(())
        })?;
    }
    Ok(())
}
