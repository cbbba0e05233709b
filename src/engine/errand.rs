//! What is to be done beside the keys, and when: the probe, the sweep, the
//! look at the sinks.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::time;
use crate::engine::Course;
use crate::engine::condition::{Condition, Conditions};
use crate::engine::sweep::{AFTER_FAILURE, AFTER_UNCLEAR};
use crate::engine::worker::Parts;
use crate::ledger::LedgerError;

/// How often the sinks are asked whether they still have what they took.
const LOOK_AT_SINKS_EVERY: Duration = Duration::from_secs(3_600);

/// Something to do beside the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Find out whether what is wrong has passed.
    Probe,
    /// Compare every row with the provider.
    Sweep,
    /// Ask the sinks whether they still have what they took.
    LookAtSinks,
}

/// When each is due.
#[derive(Debug)]
pub(crate) struct Errands {
    /// The conditions as they were when this was last asked.
    held: BTreeSet<Condition>,
    probe_at: Option<Timestamp>,
    probing: bool,
    probes: u32,
    /// When the provider is swept as always: one sweep plans the next.
    regular: Option<Timestamp>,
    /// When it is swept besides, for a reason.
    sweeps: BTreeSet<Timestamp>,
    sweeping: bool,
    /// How many sweeps in a row had no answer.
    unanswered: usize,
    /// When the ledger was last compared with the provider, if that is lately
    /// enough to begin anything.
    pub(crate) compared_at: Option<Timestamp>,
    /// When it was compared at all.
    pub(crate) last_sweep: Option<Timestamp>,
    look_at: Timestamp,
    /// A person has said that the organization is the right one.
    pub(crate) organization_is_right: bool,
}

impl Errands {
    /// What is to be done at start. A process that does not last need not
    /// compare again what was compared a short while ago.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(crate) async fn at_start(
        parts: &Parts,
        course: Course,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        let recent = AFTER_UNCLEAR[2];
        let (swept_at, unclear) = parts.ledger.last_sweep(time::before(now, recent)).await?;
        let fresh = swept_at
            .is_some_and(|at| at <= now && time::until(at, now) < parts.sweep_every && !unclear);
        let mut errands = Self {
            held: BTreeSet::new(),
            probe_at: None,
            probing: false,
            probes: 0,
            regular: None,
            sweeps: BTreeSet::new(),
            sweeping: false,
            unanswered: 0,
            compared_at: swept_at.filter(|_| fresh && course != Course::Daemon),
            last_sweep: swept_at,
            look_at: now,
            organization_is_right: false,
        };
        match course {
            Course::Daemon => errands.regular = Some(now),
            Course::Once | Course::ByHand if !fresh => errands.regular = Some(now),
            Course::Once | Course::ByHand => {}
        }
        if unclear {
            errands.sweep_after_unclear(now);
        }
        if course == Course::ByHand {
            errands.look_at = time::after(now, LOOK_AT_SINKS_EVERY);
        }
        Ok(errands)
    }

    /// What is due now; each is told of once.
    pub(crate) fn due(&mut self, conditions: &Conditions, now: Timestamp) -> Vec<Errand> {
        let mut due = Vec::new();
        if self.probe_at.is_some_and(|at| at <= now) && !self.probing {
            self.probing = true;
            self.probe_at = None;
            due.push(Errand::Probe);
        }
        let blocked = !conditions.allowed().provider || conditions.holds(Condition::Ledger);
        if !self.sweeping && !blocked && self.next_sweep().is_some_and(|at| at <= now) {
            self.sweeping = true;
            self.regular = self.regular.filter(|at| *at > now);
            self.sweeps.retain(|at| *at > now);
            due.push(Errand::Sweep);
        }
        if self.look_at <= now {
            self.look_at = time::after(now, LOOK_AT_SINKS_EVERY);
            due.push(Errand::LookAtSinks);
        }
        due
    }

    /// When one is due next.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        let mut times = vec![self.look_at];
        times.extend(self.probe_at);
        // While something is wrong a sweep waits for the probe.
        if !self.sweeping && self.held.is_empty() {
            times.extend(self.next_sweep());
        }
        times.into_iter().min()
    }

    fn next_sweep(&self) -> Option<Timestamp> {
        self.regular
            .into_iter()
            .chain(self.sweeps.first().copied())
            .min()
    }

    /// What is wrong may have been put right: the probe is due now.
    pub(crate) fn probe_now(&mut self, now: Timestamp) {
        self.probe_at = self.probe_at.map(|_| now);
    }

    /// A probe has come back.
    pub(crate) fn probed(&mut self) {
        self.probing = false;
    }

    /// Plans the next probe by what holds now. True if something has passed
    /// since this was last asked.
    pub(crate) fn plan_probe(&mut self, held: &BTreeSet<Condition>, now: Timestamp) -> bool {
        let passed = self.held.iter().any(|before| !held.contains(before));
        let began = held.iter().any(|now| !self.held.contains(now));
        if held.is_empty() {
            self.probe_at = None;
            self.probes = 0;
        } else if began {
            self.probes = 0;
            self.probe_at = None;
        }
        if self.probe_at.is_none() && !self.probing {
            self.probes = self.probes.saturating_add(1);
            let pauses = held.iter().map(|condition| condition.pause(self.probes));
            self.probe_at = pauses.min().map(|pause| time::after(now, pause));
        }
        if passed && self.unanswered > 0 {
            // What it was to find out may be what everybody waits for.
            self.sweeps.insert(now);
        }
        self.held.clone_from(held);
        passed
    }

    /// The clock was set back: what was planned by it is done now.
    pub(crate) fn plan_anew(&mut self, now: Timestamp) {
        self.probe_at = self.probe_at.map(|_| now);
        self.regular = Some(now);
        self.sweeps.clear();
        self.look_at = now;
    }

    /// The provider is swept at `at`, if not before.
    pub(crate) fn sweep_at(&mut self, at: Timestamp) {
        self.regular = Some(self.regular.map_or(at, |planned| planned.min(at)));
    }

    /// A create may land late: the provider is swept a few times more.
    pub(crate) fn sweep_after_unclear(&mut self, now: Timestamp) {
        for pause in AFTER_UNCLEAR {
            self.sweeps.insert(time::after(now, pause));
        }
    }

    /// A key cannot be begun before the provider was listed again.
    pub(crate) fn sweep_now(&mut self, now: Timestamp) {
        if !self.sweeping {
            self.sweeps.insert(now);
        }
    }

    /// A sweep has come back. True if it was the first that was answered.
    pub(crate) fn swept(&mut self, answered: bool, every: Duration, now: Timestamp) -> bool {
        self.sweeping = false;
        let first = answered && self.compared_at.is_none();
        let next = if answered {
            self.compared_at = Some(now);
            self.last_sweep = Some(now);
            self.unanswered = 0;
            every
        } else {
            let pace = self.unanswered.min(AFTER_FAILURE.len() - 1);
            self.unanswered += 1;
            AFTER_FAILURE[pace]
        };
        self.regular = Some(time::after(now, next));
        first
    }
}

#[cfg(test)]
mod tests;
