//! A key that the operator retires for half a period, and the check that it is never due
//! meanwhile.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::time;

use super::credentials::key_of_label;
use super::{SimWorld, WorldState};
use crate::scenario::PERIOD;

/// The retirement of a key.
pub(super) struct SimRetirement {
    key: String,
    /// When the operator retired it: each sink counts as removed since then.
    since: Timestamp,
    /// The time from the start at which the operator undoes it.
    undone_at: Duration,
    /// Whether the ledger certainly has it.
    is_recorded: bool,
}

impl SimWorld {
    /// Records that the operator retires a key. Returns false if one is retired.
    pub(crate) fn retire(&self, key: &str) -> bool {
        let (since, undone_at) = (self.true_now(), self.elapsed() + PERIOD / 2);
        let mut state = self.state();
        if state.retirement.is_some() {
            return false;
        }
        state.retirement = Some(SimRetirement {
            key: key.to_owned(),
            since,
            undone_at,
            is_recorded: false,
        });
        true
    }

    /// Records that the engine has retired the key.
    pub(crate) fn record_retirement(&self) {
        if let Some(retirement) = &mut self.state().retirement {
            retirement.is_recorded = true;
        }
    }

    /// Returns whether the operator wants this key retired.
    pub(crate) fn is_retired(&self, key: &str) -> bool {
        let elapsed = self.elapsed();
        let state = self.state();
        let retirement = state.retirement.as_ref();
        retirement.is_some_and(|one| one.key == key && elapsed < one.undone_at)
    }

    /// Returns whether this key was retired, and the engine has not undone it.
    pub(crate) fn was_retired(&self, key: &str) -> bool {
        self.state().is_retiring(key)
    }

    /// Records that the operator undoes the retirement: from now on a rotation may start.
    pub(crate) fn begin_undo(&self) {
        self.state().doubt_retirement();
    }

    /// Records that no key is retired any more.
    pub(crate) fn end_retirement(&self) {
        self.state().retirement = None;
    }
}

impl WorldState {
    /// Records that the ledger may not have the retirement any more.
    pub(super) fn doubt_retirement(&mut self) {
        if let Some(retirement) = &mut self.retirement {
            retirement.is_recorded = false;
        }
    }

    /// Returns whether the operator has retired this key, and the engine has not undone it.
    pub(super) fn is_retiring(&self, key: &str) -> bool {
        self.retirement.as_ref().is_some_and(|one| one.key == key)
    }

    /// Checks that no create is sent for a retired key.
    pub(super) fn check_create_of_retired(&mut self, label: &str) {
        let key = key_of_label(label).to_owned();
        let retirement = self.retirement.as_ref();
        if retirement.is_some_and(|one| one.is_recorded && one.key == key) {
            self.record_violation(format!("{label} is created for a retired key"));
        }
    }

    /// Returns whether every sink of a key counts as removed for an overlap at least.
    pub(super) fn has_ended(&self, key: &str, overlap: Duration, at: Timestamp) -> bool {
        let retirement = self.retirement.as_ref();
        retirement.is_some_and(|one| one.key == key && at >= time::after(one.since, overlap))
    }
}
