//! The part of the ledger that `rekeyd status` reads.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::renamed_keys::pending_renames;
use crate::config::settings::Settings;
use crate::core::channel_state::ChannelState;
use crate::core::decide::key_names::Rename;
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::notification::ChannelId;
use crate::core::scope::Scope;
use crate::core::state::KeyState;
use crate::core::time::{self, DAY};
use crate::daemon::key_names::rename_states;
use crate::ledger::{
    LastRun, LedgerError, LedgerReader, LedgerSnapshot, OperatorRecord, RecordedCrashes,
    RecordedRequest,
};

/// For how long a crash counts as a recent one.
pub(super) const CRASH_MEMORY: Duration = DAY;

/// The recorded state of all keys and of the daemon.
#[derive(Default)]
pub(super) struct RecordedStatus {
    pub(super) states: BTreeMap<KeyName, KeyState>,
    /// The start of each failing key's failure.
    pub(super) failing_since: BTreeMap<KeyName, Timestamp>,
    /// The problems that affect all keys, worst first.
    pub(super) problems: Vec<String>,
    /// The time of each failing key's latest failure.
    pub(super) failed_at: BTreeMap<KeyName, Timestamp>,
    /// The operators' records of each held credential, by rotation.
    pub(super) holds: BTreeMap<RotationId, OperatorRecord>,
    /// The operators' records of each pause, by key.
    pub(super) pauses: BTreeMap<KeyName, OperatorRecord>,
    /// The operators' records of each retirement, by key.
    pub(super) retirements: BTreeMap<KeyName, OperatorRecord>,
    /// The live credentials without a row in the last list that look like rekeyd's own,
    /// with their names.
    pub(super) lookalikes: Vec<(CredentialId, String)>,
    /// The requested rotations that have not started, by key.
    pub(super) requests: BTreeMap<KeyName, RecordedRequest>,
    /// The last crash, and the number of the recent ones.
    pub(super) crashes: Option<RecordedCrashes>,
    /// The latest run that rotates by schedule, and the time of the newest event.
    pub(super) last_run: Option<(LastRun, Option<Timestamp>)>,
    /// How each notification channel stands that has a notification.
    pub(super) channels: BTreeMap<ChannelId, ChannelState>,
}

impl RecordedStatus {
    /// Reads everything in one snapshot, under the names of the file; empty without a ledger.
    pub(super) fn read(
        settings: &Settings,
        reader: Option<&LedgerReader>,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let Some(reader) = reader else {
            return Ok(Self::default());
        };
        let snapshot = reader.snapshot()?;
        let states = snapshot.key_states()?;
        let mut recorded = Self {
            problems: snapshot.conditions()?,
            last_run: snapshot.last_run()?,
            crashes: snapshot.crashes(time::before(now, CRASH_MEMORY))?,
            channels: snapshot.channel_states()?,
            lookalikes: snapshot.lookalikes(&Scope::AdminKeys)?,
            requests: snapshot
                .rotation_requests()?
                .into_iter()
                .map(|request| (request.key.clone(), request))
                .collect(),
            ..Self::default()
        };
        for (key, state) in &states {
            recorded.read_details(&snapshot, key, state)?;
        }
        recorded.states = states;
        recorded.rename(&pending_renames(settings, &snapshot)?);
        Ok(recorded)
    }

    fn rename(&mut self, renames: &[Rename]) {
        rename_states(&mut self.states, renames);
        for rename in renames {
            rename_entry(&mut self.failing_since, rename);
            rename_entry(&mut self.failed_at, rename);
            rename_entry(&mut self.pauses, rename);
            rename_entry(&mut self.retirements, rename);
            rename_entry(&mut self.requests, rename);
        }
    }

    /// Reads from the event log what the state of a key does not have, for the few keys
    /// that are failing, paused, retired or held.
    fn read_details(
        &mut self,
        snapshot: &LedgerSnapshot<'_>,
        key: &KeyName,
        state: &KeyState,
    ) -> Result<(), LedgerError> {
        if state.attempt > 0 {
            let since = snapshot.failing_since(key)?;
            self.failing_since.extend(since.map(|at| (key.clone(), at)));
        }
        if state.last_error.is_some() {
            let at = snapshot.failed_at(key)?;
            self.failed_at.extend(at.map(|at| (key.clone(), at)));
        }
        if state.pause.is_some() {
            let record = snapshot.latest_pause(key)?;
            self.pauses
                .extend(record.map(|record| (key.clone(), record)));
        }
        if state.is_retired() {
            let record = snapshot.latest_retirement(key)?;
            self.retirements
                .extend(record.map(|record| (key.clone(), record)));
        }
        for rotation in state.live.iter().filter(|one| one.hold_until.is_some()) {
            let record = snapshot.latest_hold(key, &rotation.id)?;
            self.holds
                .extend(record.map(|record| (rotation.id.clone(), record)));
        }
        Ok(())
    }
}

fn rename_entry<T>(entries: &mut BTreeMap<KeyName, T>, Rename { from, to }: &Rename) {
    if let Some(entry) = entries.remove(from) {
        entries.insert(to.clone(), entry);
    }
}
