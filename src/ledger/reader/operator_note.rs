//! Who held a credential or paused a key, and why: the event log has it.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use crate::core::ids::{KeyName, RotationId};
use crate::core::ledger_event::LedgerEventKind;
use crate::core::lifecycle::LifecycleEvent;
use crate::ledger::error::LedgerError;
use crate::ledger::key_names::NAMES_OF_KEY;
use crate::ledger::reader::LedgerSnapshot;
use crate::ledger::rows::SqlTimestamp;

/// An operator's command in the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorRecord {
    /// When it was executed.
    pub at: Timestamp,
    /// The operator's name.
    pub by: Option<String>,
    /// The operator's reason.
    pub reason: Option<String>,
}

impl LedgerSnapshot<'_> {
    /// Returns the latest hold of a rotation's credential, or none.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn latest_hold(
        &self,
        key: &KeyName,
        rotation: &RotationId,
    ) -> Result<Option<OperatorRecord>, LedgerError> {
        self.latest_operator_event(key, Some(rotation), LedgerEventKind::HoldSet.as_str())
    }

    /// Returns the latest pause of a key, or none.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn latest_pause(&self, key: &KeyName) -> Result<Option<OperatorRecord>, LedgerError> {
        self.latest_operator_event(key, None, LedgerEventKind::Paused.as_str())
    }

    /// Returns the latest retirement of a key, or none.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn latest_retirement(&self, key: &KeyName) -> Result<Option<OperatorRecord>, LedgerError> {
        self.latest_operator_event(key, None, LedgerEventKind::KeyRetired.as_str())
    }

    /// Returns the latest order to end a rotation's credential that may have leaked, or none.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn latest_deadline(
        &self,
        key: &KeyName,
        rotation: &RotationId,
    ) -> Result<Option<OperatorRecord>, LedgerError> {
        let event = LedgerEventKind::RevocationDeadlineSet;
        self.latest_operator_event(key, Some(rotation), event.as_str())
    }

    /// Returns the adoption of a rotation's credential, or none.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub fn latest_adoption(
        &self,
        key: &KeyName,
        rotation: &RotationId,
    ) -> Result<Option<OperatorRecord>, LedgerError> {
        for event in [LifecycleEvent::Adopted, LifecycleEvent::AdoptedAlongside] {
            let record = self.latest_operator_event(key, Some(rotation), event.as_str())?;
            if record.is_some() {
                return Ok(record);
            }
        }
        Ok(None)
    }

    fn latest_operator_event(
        &self,
        key: &KeyName,
        rotation: Option<&RotationId>,
        event: &str,
    ) -> Result<Option<OperatorRecord>, LedgerError> {
        let mut query = self.transaction.prepare_cached(&format!(
            "SELECT at, detail ->> 'by', detail ->> 'reason' FROM events
             WHERE key IN {NAMES_OF_KEY} AND event = ?2 AND (?3 IS NULL OR rotation = ?3)
             ORDER BY seq DESC LIMIT 1"
        ))?;
        let rotation = rotation.map(RotationId::as_str);
        let parameters = params![key.as_str(), event, rotation];
        let record = query.query_row(parameters, |row| {
            Ok(OperatorRecord {
                at: row.get::<_, SqlTimestamp>(0)?.0,
                by: row.get(1)?,
                reason: row.get(2)?,
            })
        });
        Ok(record.optional()?)
    }
}
