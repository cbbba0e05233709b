//! What people were told, what they are to be told now, and when to look
//! again.
//!
//! Everything here is compared, not remembered as an event: what is wrong now
//! with what the ledger holds as told. So a process that dies in between tells
//! neither twice nor never. Without anybody to tell it does nothing at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::core::audience::Audience;
use crate::core::cause::{self, Facts, PATIENCE};
use crate::core::names::{CredentialId, KeyName};
use crate::core::notice::{Cause, Matter, Notice, NoticeId, Occasion, State};
use crate::core::outside;
use crate::core::record::{KeyState, Rotation, Trigger};
use crate::core::time;
use crate::engine::chance::Chance;
use crate::engine::condition::Condition;
use crate::engine::post::Post;
use crate::engine::sweep::Lookalike;
use crate::ledger::Telling;

/// Who is told, and what they know.
pub(crate) struct Watch {
    pub(crate) audience: Arc<Audience>,
    /// What was told and is not over.
    told: BTreeMap<Cause, Timestamp>,
    /// Of these, what an earlier process told of rekeyd as a whole, and this
    /// one has not seen for itself yet.
    unconfirmed: BTreeSet<Cause>,
    /// When a key is to be looked at again, by time and by key.
    looks: BTreeSet<(Timestamp, KeyName)>,
    planned: BTreeMap<KeyName, Timestamp>,
    /// Since when there is trouble with a key.
    troubled: BTreeMap<KeyName, Timestamp>,
    /// Since when something is wrong with rekeyd as a whole.
    held: BTreeMap<Matter, Timestamp>,
    /// The current credentials of which nobody is told any more.
    known: BTreeMap<KeyName, CredentialId>,
    watching_since: Timestamp,
    /// Whether what may pass by itself is waited for.
    patient: bool,
    ledger_was_told: bool,
    pub(crate) post: Post,
}

impl Watch {
    /// Of a process that begins at `now`, with what an earlier one has told.
    pub(crate) fn new(
        audience: Arc<Audience>,
        told: BTreeMap<Cause, Timestamp>,
        now: Timestamp,
    ) -> Self {
        let of_all = told.keys().filter(|cause| cause.key.is_none());
        Self {
            audience,
            unconfirmed: of_all.cloned().collect(),
            told,
            looks: BTreeSet::new(),
            planned: BTreeMap::new(),
            troubled: BTreeMap::new(),
            held: BTreeMap::new(),
            known: BTreeMap::new(),
            watching_since: now,
            patient: true,
            ledger_was_told: false,
            post: Post::default(),
        }
    }

    /// Others are told from now on. True if these are not the same.
    pub(crate) fn tell_others(&mut self, audience: Arc<Audience>, now: Timestamp) -> bool {
        if *self.audience == *audience {
            return false;
        }
        self.audience = audience;
        self.known.clear();
        if self.audience.is_empty() {
            self.told.clear();
            self.unconfirmed.clear();
            self.post.forget();
            self.looks.clear();
            self.planned.clear();
            self.troubled.clear();
            self.held.clear();
        }
        self.watch_anew(now);
        true
    }

    /// The current credential of a key was there before anybody wanted to be
    /// told.
    pub(crate) fn know(&mut self, state: &KeyState) {
        if self.audience.has_ears_for(Occasion::Rotated)
            && let Some(credential) = rotated(state).and_then(|one| one.credential.as_ref())
            && self.told_rotation(&state.key).is_none()
        {
            let id = credential.id.clone();
            self.known.insert(state.key.clone(), id);
        }
    }

    /// Whatever was wrong until now, nobody was there to see to it.
    pub(crate) const fn watch_anew(&mut self, now: Timestamp) {
        self.watching_since = now;
    }

    /// From now on what is wrong is told as it stands: the process ends.
    pub(crate) const fn lose_patience(&mut self) {
        self.patient = false;
    }

    /// The provider was asked, and all is well with it.
    pub(crate) fn confirm(&mut self) {
        self.unconfirmed.clear();
    }

    /// The keys that are to be looked at now.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<KeyName> {
        let mut due = Vec::new();
        while self.looks.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.looks.pop_first() else {
                break;
            };
            self.planned.remove(&key);
            due.push(key);
        }
        due
    }

    /// When something is to be looked at again.
    pub(crate) fn next_at(&self) -> Option<Timestamp> {
        let look = self.looks.first().map(|(at, _)| *at);
        let untold = self.held.iter();
        let untold = untold.filter(|(matter, _)| self.may_tell(&Cause::of_all(**matter)));
        let conditions = untold.map(|(_, since)| time::after(*since, PATIENCE));
        look.into_iter().chain(conditions).min()
    }

    fn is_told(&self, cause: &Cause) -> bool {
        self.told.contains_key(cause)
    }

    /// Compares what is wrong with a key with what was told.
    pub(crate) fn key(&mut self, facts: Facts<'_>, chance: &dyn Chance, now: Timestamp) {
        if self.audience.is_empty() {
            return;
        }
        let (state, key) = (facts.state, &facts.state.key);
        let is_managed = facts.configured.is_some();
        if crate::core::problem::trouble_of(state, is_managed).is_none() {
            self.troubled.remove(key);
        } else {
            self.troubled.entry(key.clone()).or_insert(now);
        }
        let facts = Facts {
            troubled_since: self.troubled.get(key).copied(),
            watching_since: self.patient.then_some(self.watching_since),
            ..facts
        };
        let mut found = cause::causes(&facts, |cause| self.is_told(cause), now);
        found.held.retain(|cause, _| self.audience.wants(cause));
        self.plan(key, found.look_at);
        let over: Vec<_> = self
            .told_of(key)
            .filter(|cause| !cause.matter.happens_once() && !found.held.contains_key(cause))
            .cloned()
            .collect();
        for (cause, held) in found.held {
            self.begin(cause, State::Begun, held.since, held.text, chance, now);
        }
        for cause in over {
            let text = cause::over(&cause, Some(state));
            self.end(cause, text, chance, now);
        }
        self.rotation(state, chance, now);
    }

    fn plan(&mut self, key: &KeyName, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.planned.insert(key.clone(), at),
            None => self.planned.remove(key),
        };
        if let Some(before) = before {
            self.looks.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.looks.insert((at, key.clone()));
        }
    }

    /// What was told of a key.
    fn told_of(&self, key: &KeyName) -> impl Iterator<Item = &Cause> {
        let causes = self.told.range(Cause::of_key(key, Matter::Ledger)..);
        let causes = causes.map(|(cause, _)| cause);
        causes.take_while(move |cause| cause.key.as_ref() == Some(key))
    }

    fn told_rotation(&self, key: &KeyName) -> Option<&CredentialId> {
        let mut told = self.told_of(key);
        let told = told.find(|cause| cause.matter == Matter::Rotated);
        told.and_then(|cause| cause.credential.as_ref())
    }

    /// Tells of a rotation that has become current.
    fn rotation(&mut self, state: &KeyState, chance: &dyn Chance, now: Timestamp) {
        let key = &state.key;
        let Some(current) = rotated(state) else {
            return;
        };
        let Some(credential) = &current.credential else {
            return;
        };
        let cause = Cause::of_credential(key, Matter::Rotated, &credential.id);
        let before = self.told_rotation(key).or(self.known.get(key)).cloned();
        if before.as_ref() == Some(&credential.id) || !self.audience.wants(&cause) {
            return;
        }
        if let Some(before) = before {
            let before = Cause::of_credential(key, Matter::Rotated, &before);
            self.told.remove(&before);
        }
        let since = current.current_at.unwrap_or(now);
        let text = format!(
            "{} is the current credential of {key}: every required sink has taken it",
            credential.id
        );
        self.begin(cause, State::Once, since, text, chance, now);
    }

    /// Tells of credentials at the provider that look like ours.
    pub(crate) fn lookalikes(&mut self, seen: &[Lookalike], chance: &dyn Chance, now: Timestamp) {
        for one in seen {
            let key = &one.key;
            let cause = Cause::of_credential(key, Matter::Lookalike, &one.id);
            if !self.audience.wants(&cause) {
                continue;
            }
            let text = format!(
                "{} bears the name {}, which looks like a label of {key}, but it is not in this \
                 ledger; it is left alone: `rekeyd audit` shows more",
                one.id,
                outside::shown(&one.name)
            );
            self.begin(cause, State::Once, now, text, chance, now);
        }
    }

    /// Compares what is wrong with rekeyd as a whole with what was told.
    pub(crate) fn conditions(
        &mut self,
        held: &[(Condition, String)],
        chance: &dyn Chance,
        now: Timestamp,
    ) {
        if self.audience.is_empty() {
            return;
        }
        for condition in Condition::ALL {
            let cause = Cause::of_all(matter(condition));
            let problem = held.iter().find(|(one, _)| *one == condition);
            match problem {
                Some((_, problem)) if self.may_tell(&cause) => {
                    self.condition_holds(cause, problem, chance, now);
                }
                Some(_) => {
                    self.unconfirmed.remove(&cause);
                    self.held.entry(cause.matter).or_insert(now);
                }
                None => self.condition_passed(cause, chance, now),
            }
        }
    }

    fn may_tell(&self, cause: &Cause) -> bool {
        let again = cause.matter == Matter::Ledger && self.ledger_was_told;
        self.audience.wants(cause) && !again && !self.is_told(cause)
    }

    fn condition_holds(
        &mut self,
        cause: Cause,
        problem: &str,
        chance: &dyn Chance,
        now: Timestamp,
    ) {
        let since = self.held.entry(cause.matter).or_insert(now);
        *since = (*since).min(now);
        let since = *since;
        if self.patient && time::after(since, PATIENCE) > now {
            return;
        }
        let text = format!("{problem}; no rotation is begun until this has passed");
        self.begin(cause, State::Begun, since, text, chance, now);
    }

    fn condition_passed(&mut self, cause: Cause, chance: &dyn Chance, now: Timestamp) {
        if self.held.remove(&cause.matter).is_some() {
            self.watch_anew(now);
        }
        if self.is_told(&cause) && !self.unconfirmed.contains(&cause) {
            let text = cause::over(&cause, None);
            self.end(cause, text, chance, now);
        }
    }

    fn begin(
        &mut self,
        cause: Cause,
        state: State,
        since: Timestamp,
        text: String,
        chance: &dyn Chance,
        now: Timestamp,
    ) {
        if self.is_told(&cause) {
            return;
        }
        let since = time::whole_seconds(since);
        self.told.insert(cause.clone(), since);
        self.tell(cause, state, since, text, chance, now);
    }

    fn end(&mut self, cause: Cause, text: String, chance: &dyn Chance, now: Timestamp) {
        if let Some(since) = self.told.remove(&cause) {
            self.tell(cause, State::Over, since, text, chance, now);
        }
    }

    fn tell(
        &mut self,
        cause: Cause,
        state: State,
        since: Timestamp,
        text: String,
        chance: &dyn Chance,
        now: Timestamp,
    ) {
        let mut id = [0; 8];
        if chance.fill(&mut id).is_err() {
            // It has to be another one each time, and no more.
            let (seconds, more) = (now.as_second().unsigned_abs(), self.told.len() as u64);
            id = (seconds << 20).wrapping_add(more).to_be_bytes();
        }
        let to = self.audience.told_of(&cause, state);
        let notice = Notice {
            id: NoticeId::new(id),
            at: time::whole_seconds(now),
            state,
            cause,
            since,
            text,
        };
        if notice.cause.matter == Matter::Ledger {
            self.ledger_was_told = true;
            self.post.hand_over(notice, to);
        } else {
            self.post.add(Telling { notice, to });
        }
    }
}

/// The current rotation of a key, if it was made here.
fn rotated(state: &KeyState) -> Option<&Rotation> {
    let current = state.current();
    current.filter(|current| current.trigger != Trigger::Adopted)
}

const fn matter(condition: Condition) -> Matter {
    match condition {
        Condition::Ledger => Matter::Ledger,
        Condition::Credential => Matter::Credential,
        Condition::Organization => Matter::Organization,
        Condition::Clock => Matter::Clock,
        Condition::Provider => Matter::Provider,
    }
}

#[cfg(test)]
mod tests;
