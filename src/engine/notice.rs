//! Has people told what is wrong: where a key's state changes, when its time
//! has come, and when something is wrong with rekeyd as a whole.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::core::audience::Audience;
use crate::core::cause::Facts;
use crate::core::names::KeyName;
use crate::engine::condition::Condition;
use crate::engine::post::{Posted, Recorded};
use crate::engine::probe::problem;
use crate::engine::sweep::Lookalike;
use crate::engine::{Back, Engine};

impl Engine {
    /// Tells whoever delivers notices that some were written.
    #[must_use]
    pub fn posted(&self) -> watch::Receiver<Posted> {
        self.watch.post.posted()
    }

    /// Looks at one key, unless somebody works on it: then it is looked at
    /// when it comes back.
    pub(super) fn watch_key(&mut self, key: &KeyName, now: Timestamp) {
        if self.watch.audience.is_empty() {
            return;
        }
        let Some(slot) = self.keys.get(key) else {
            return;
        };
        let Some(state) = slot.state() else {
            return;
        };
        let required = slot.managed.as_ref().map(|managed| managed.required());
        let policy = slot.managed.as_ref().map(|managed| managed.policy.as_ref());
        let facts = Facts {
            state,
            configured: policy.zip(required.as_deref()),
            failing_since: slot.failing_since,
            troubled_since: None,
            watching_since: None,
            held_up: !self.parts.conditions.may_begin(),
        };
        self.watch.key(facts, self.parts.chance.as_ref(), now);
    }

    /// Looks at the keys whose time has come.
    pub(super) fn watch_due(&mut self, now: Timestamp) {
        for key in self.watch.due(now) {
            self.watch_key(&key, now);
        }
        self.record_notices();
    }

    /// Looks at what is wrong with rekeyd as a whole.
    pub(super) fn watch_conditions(&mut self) {
        let held = self.parts.conditions.held();
        let (chance, now) = (self.parts.chance.as_ref(), self.parts.clock.now());
        self.watch.conditions(&held, chance, now);
        self.record_notices();
    }

    /// The provider was listed.
    pub(super) fn watch_listed(&mut self, lookalikes: &[Lookalike], now: Timestamp) {
        self.watch.confirm();
        let chance = self.parts.chance.as_ref();
        self.watch.lookalikes(lookalikes, chance, now);
    }

    /// Records the notices that are to be told: in a commit of its own, for as
    /// many as there are.
    fn record_notices(&mut self) {
        // It is told by others, and what is wrong with keys waits.
        if self.parts.conditions.holds(Condition::Ledger) {
            return;
        }
        let tellings = self.watch.post.take_unrecorded();
        if tellings.is_empty() {
            return;
        }
        let parts = Arc::clone(&self.parts);
        self.running.spawn(async move {
            let Err(error) = parts.ledger.tell(tellings).await else {
                return Back::Told(Recorded::Done);
            };
            if error.is_about_content() {
                tracing::error!("cannot record what people are to be told: {error}");
                return Back::Told(Recorded::Refused);
            }
            let text = problem(Condition::Ledger, &error.to_string());
            parts.conditions.raise(Condition::Ledger, &text);
            Back::Told(Recorded::Failed)
        });
    }

    /// Others are told from now on.
    pub(super) fn tell_others(&mut self, audience: Arc<Audience>, now: Timestamp) {
        let ids = audience.ids();
        if !self.watch.tell_others(audience, now) {
            return;
        }
        let states = self.keys.values().filter_map(|slot| slot.state());
        for state in states {
            self.watch.know(state);
        }
        let ledger = self.parts.ledger.clone();
        self.running.spawn(async move {
            if let Err(error) = ledger.tell_only(ids).await {
                tracing::debug!(%error, "cannot forget what nobody is told any more");
            }
            Back::Noted
        });
    }

    /// Tells what is wrong as it stands, for a process that ends and cannot
    /// wait whether it passes. Returns when that is recorded, or cannot be.
    pub async fn tell_what_is_wrong(&mut self) {
        if self.watch.audience.is_empty() {
            return;
        }
        let now = self.parts.clock.now();
        let monotonic = self.parts.clock.monotonic();
        let conditions = &self.parts.conditions;
        if conditions.may_begin() && conditions.held_from(now, monotonic).is_some() {
            self.watch.confirm();
        }
        self.watch.lose_patience();
        self.watch_conditions();
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            self.watch_key(&key, now);
        }
        self.record_notices();
        while self.finish_some().await {}
    }
}
