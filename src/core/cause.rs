//! What is wrong with a key now, as far as people are to be told of it: from
//! what the ledger says, what is configured, and the time.
//!
//! What is wrong is a level and not an event: whoever asks again gets the same
//! answer, and compares it with what was told. So that nobody is called for
//! what passes by itself, a cause begins later than the trouble behind it, and
//! one that was told lasts until everything is in order again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::LAST_DAY;
use crate::core::due::ends;
use crate::core::names::SinkId;
use crate::core::notice::{Cause, Matter};
use crate::core::overdue::{due_since, patience};
use crate::core::policy::KeyPolicy;
use crate::core::problem::trouble_of;
use crate::core::record::{KeyState, Rotation};
use crate::core::rotation::Phase;
use crate::core::time;

/// Trouble that has lasted for so long is told: what is tried again after 1, 2,
/// 5 and 15 s has been tried five times by then.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A person is told so long before a credential goes that was held.
const LAST_WARNING: Duration = Duration::from_secs(24 * 3_600);

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'f> {
    /// What the ledger says.
    pub state: &'f KeyState,
    /// How it is configured, with its required sinks; none if it is not.
    pub configured: Option<(&'f KeyPolicy, &'f [SinkId])>,
    /// When the present row of its failures began.
    pub failing_since: Option<Timestamp>,
    /// Since when this process has seen trouble with it.
    pub troubled_since: Option<Timestamp>,
    /// Since when the key could have been worked on: a process was there, the
    /// host was awake, nothing was wrong with rekeyd as a whole. None for
    /// whoever cannot wait, and tells what is wrong as it stands.
    pub watching_since: Option<Timestamp>,
    /// Whether something is wrong with rekeyd as a whole: then that is the
    /// cause, and no key fails or is overdue for it.
    pub held_up: bool,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Since when.
    pub since: Timestamp,
    /// In words.
    pub text: String,
}

/// What is wrong with a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Causes {
    /// Each, with its words.
    pub held: BTreeMap<Cause, Held>,
    /// When that will be otherwise by the passing of time alone.
    pub look_at: Option<Timestamp>,
}

impl Causes {
    fn look_at(&mut self, at: Timestamp) {
        self.look_at = self.look_at.into_iter().chain([at]).min();
    }

    fn hold(&mut self, cause: Cause, since: Timestamp, text: String) {
        self.held.insert(cause, Held { since, text });
    }
}

/// What is wrong with a key at `now`. `told` says which causes were told, and
/// not that they are over.
#[must_use]
pub fn causes(facts: &Facts<'_>, told: impl Fn(&Cause) -> bool, now: Timestamp) -> Causes {
    let mut found = Causes::default();
    failing(facts, &told, now, &mut found);
    overdue(facts, &told, now, &mut found);
    expiring(facts, &told, now, &mut found);
    for rotation in &facts.state.live {
        orphan(facts, rotation, now, &mut found);
        hold(facts, rotation, now, &mut found);
    }
    found
}

impl Facts<'_> {
    /// When trouble that began then has lasted for `span`, as far as somebody
    /// was there to do something about it.
    fn lasted(&self, since: Timestamp, span: Duration, now: Timestamp) -> Timestamp {
        match self.watching_since {
            Some(watching) => time::after(since.max(watching).min(now), span),
            None => Timestamp::MIN,
        }
    }

    fn status(&self) -> String {
        format!("`rekeyd status {}` shows how it stands", self.state.key)
    }
}

fn failing(facts: &Facts<'_>, told: &impl Fn(&Cause) -> bool, now: Timestamp, found: &mut Causes) {
    let state = facts.state;
    let key = &state.key;
    let trouble = trouble_of(state, facts.configured.is_some());
    let cause = Cause::of_key(key, Matter::Failing);
    if told(&cause) {
        // What follows a restart or a failed try is not over yet.
        let is_stranded = |rotation: &Rotation| rotation.phase == Phase::Stranded;
        let under_way = state.open().is_some() || state.live.iter().any(is_stranded);
        if trouble.is_some() || (under_way && facts.configured.is_some()) {
            found.hold(cause, now, trouble.unwrap_or_default());
        }
        return;
    }
    let Some(trouble) = trouble.filter(|_| !facts.held_up) else {
        return;
    };
    let since = [facts.failing_since, facts.troubled_since];
    let since = since.into_iter().flatten().min().unwrap_or(now);
    let at = facts.lasted(since, PATIENCE, now);
    if at > now {
        found.look_at(at);
        return;
    }
    let text = format!(
        "{key} is failing: {trouble}; it is tried again by itself, and {}",
        facts.status()
    );
    found.hold(cause, since, text);
}

fn overdue(facts: &Facts<'_>, told: &impl Fn(&Cause) -> bool, now: Timestamp, found: &mut Causes) {
    let Some((policy, required)) = facts.configured else {
        return;
    };
    let Some(since) = due_since(policy, required, facts.state, facts.failing_since, now) else {
        return;
    };
    let key = &facts.state.key;
    let cause = Cause::of_key(key, Matter::Overdue);
    let span = patience(policy) + Duration::from_secs(1);
    if told(&cause) {
        if time::after(since, span) <= now {
            found.hold(cause, since, String::new());
        }
        return;
    }
    if facts.held_up {
        return;
    }
    let at = facts.lasted(since, span, now).max(time::after(since, span));
    if at > now {
        found.look_at(at);
        return;
    }
    let why = match trouble_of(facts.state, true) {
        Some(trouble) => format!(": {trouble}"),
        None => String::new(),
    };
    let text = format!(
        "{key} has been due since {} and is not rotated yet{why}; {}",
        time::to_text(since),
        facts.status()
    );
    found.hold(cause, since, text);
}

fn expiring(facts: &Facts<'_>, told: &impl Fn(&Cause) -> bool, now: Timestamp, found: &mut Causes) {
    let (state, key) = (facts.state, &facts.state.key);
    let Some(((policy, _), (near, end))) = facts.configured.zip(ends(state)) else {
        return;
    };
    let current = state.current().and_then(|one| one.credential.as_ref());
    // In the last quarter of its life the key is due: it is waked then.
    let Some(credential) = current.filter(|_| near <= now) else {
        return;
    };
    let cause = Cause::of_credential(key, Matter::Expiring, &credential.id);
    if told(&cause) {
        found.hold(cause, near, String::new());
        return;
    }
    let failing = found
        .held
        .contains_key(&Cause::of_key(key, Matter::Failing));
    let span = policy.deliver_for.min(time::until(near, end) / 2);
    let at = match facts.watching_since {
        Some(_) if failing => now,
        Some(_) => facts.lasted(near, span, now),
        // Whoever cannot wait has tried, or has let it be tried.
        None if failing => now,
        None => time::after(near, span),
    };
    if at > now {
        found.look_at(at);
        return;
    }
    let why = match trouble_of(state, true) {
        Some(trouble) => format!(": {trouble}"),
        None => String::new(),
    };
    let text = format!(
        "the current credential {} of {key} ends at {}, and it has no successor yet{why}; see to \
         it before then: its consumers would be left with a dead key",
        credential.id,
        time::to_text(end)
    );
    found.hold(cause, near, text);
}

/// One that cannot be revoked at once: it is tried again for ever.
fn orphan(facts: &Facts<'_>, rotation: &Rotation, now: Timestamp, found: &mut Causes) {
    let Some(credential) = &rotation.credential else {
        return;
    };
    if rotation.phase != Phase::Orphaned {
        return;
    }
    let key = &facts.state.key;
    let why = match rotation.error.as_ref().filter(|_| rotation.attempt > 0) {
        Some(error) => format!("; revoking it fails: {error}"),
        None => String::new(),
    };
    let text = format!(
        "{} of {key} is alive at the provider, and no sink ever took it; it is revoked as soon as \
         that is possible{why}",
        credential.id
    );
    let cause = Cause::of_credential(key, Matter::Orphan, &credential.id);
    found.hold(cause, now, text);
}

/// A credential that is still used, or held by hand, and goes within a day.
fn hold(facts: &Facts<'_>, rotation: &Rotation, now: Timestamp, found: &mut Causes) {
    let Some(credential) = &rotation.credential else {
        return;
    };
    let key = &facts.state.key;
    let cause = Cause::of_credential(key, Matter::Hold, &credential.id);
    if rotation.phase == Phase::Retired
        && let Some(reason) = rotation.error.as_ref()
        && reason.contains(LAST_DAY)
    {
        let text = format!("{} of {key} is not revoked yet: {reason}", credential.id);
        found.hold(cause, now, text);
        return;
    }
    let waits = rotation.phase == Phase::Retired || rotation.phase == Phase::Orphaned;
    let decides = |until: &Timestamp| {
        waits && *until > now && rotation.revoke_after.is_none_or(|after| after < *until)
    };
    let Some(until) = rotation.hold_until.filter(decides) else {
        return;
    };
    let at = time::before(until, LAST_WARNING);
    if at > now {
        // A hold without an end is one until the end of time.
        if until < Timestamp::MAX {
            found.look_at(at);
        }
        return;
    }
    let text = format!(
        "{} of {key} is held by hand until {}, and the schedule revokes it then; `rekeyd hold {}` \
         keeps it longer",
        credential.id,
        time::to_text(until),
        credential.id
    );
    found.hold(cause, now, text);
}

/// What is said when something is over that was told.
#[must_use]
pub fn over(cause: &Cause, state: Option<&KeyState>) -> String {
    let key = cause.key.as_ref().map_or("rekeyd", |key| key.as_str());
    let credential = cause.credential.as_ref();
    let credential = credential.map_or("a credential", |id| id.as_str());
    let now = match state.and_then(KeyState::current).map(|one| &one.credential) {
        Some(Some(current)) => format!("; its current credential is {}", current.id),
        Some(None) | None => String::new(),
    };
    match cause.matter {
        Matter::Ledger => "the ledger can be written again".to_owned(),
        Matter::Credential => "the provider accepts rekeyd's own admin key again".to_owned(),
        Matter::Organization => "the keys' credentials are there again".to_owned(),
        Matter::Clock => "the clocks of this host and of the provider agree again".to_owned(),
        Matter::Provider => "the provider answers again".to_owned(),
        Matter::Failing => format!("{key} is not failing any more{now}"),
        Matter::Overdue => format!("{key} is not overdue any more{now}"),
        Matter::Expiring => format!("{credential} of {key} has a successor{now}"),
        Matter::Orphan => format!("{credential} of {key} is revoked"),
        Matter::Hold => format!("{credential} of {key} is not held for its last day any more"),
        Matter::Rotated | Matter::Lookalike => format!("{credential} of {key}"),
    }
}

#[cfg(test)]
mod tests;
