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

use crate::core::decide::due::expiry_window;
use crate::core::health::alertable_error;
use crate::core::ids::SinkId;
use crate::core::lifecycle::Phase;
use crate::core::notification::{Alert, AlertKind};
use crate::core::overdue::{due_since, overdue_threshold};
use crate::core::policy::KeyPolicy;
use crate::core::state::{KeyState, Rotation};
use crate::core::time;

/// Trouble that has lasted for so long is told: what is tried again after 1, 2,
/// 5 and 15 s has been tried five times by then.
pub const FAILURE_GRACE_PERIOD: Duration = Duration::from_secs(30);

/// A person is told so long before a credential goes that was held.
const HOLD_EXPIRY_WARNING: Duration = time::DAY;

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
pub struct AlertContext<'f> {
    /// What the ledger says.
    pub state: &'f KeyState,
    /// How it is configured, with its required sinks; none if it is not.
    pub configured: Option<(&'f KeyPolicy, &'f [SinkId])>,
    /// When the present row of its failures began.
    pub failing_since: Option<Timestamp>,
    /// Since when this process has seen trouble with it.
    pub alertable_since: Option<Timestamp>,
    /// Since when the key could have been worked on: a process was there, the
    /// host was awake, nothing was wrong with rekeyd as a whole. None for
    /// whoever cannot wait, and tells what is wrong as it stands.
    pub operational_since: Option<Timestamp>,
    /// Whether something is wrong with rekeyd as a whole: then that is the
    /// cause, and no key fails or is overdue for it.
    pub has_global_alert: bool,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertDetails {
    /// Since when.
    pub since: Timestamp,
    /// In words.
    pub text: String,
}

/// What is wrong with a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActiveAlerts {
    /// Each, with its words.
    pub active: BTreeMap<Alert, AlertDetails>,
    /// When that will be otherwise by the passing of time alone.
    pub recheck_at: Option<Timestamp>,
}

impl ActiveAlerts {
    fn look_at(&mut self, at: Timestamp) {
        self.recheck_at = self.recheck_at.into_iter().chain([at]).min();
    }

    fn raise(&mut self, cause: Alert, since: Timestamp, text: String) {
        self.active.insert(cause, AlertDetails { since, text });
    }
}

/// What is wrong with a key at `now`. `told` says which causes were told, and
/// not that they are over.
#[must_use]
pub fn active_alerts(
    facts: &AlertContext<'_>,
    told: impl Fn(&Alert) -> bool,
    now: Timestamp,
) -> ActiveAlerts {
    let mut found = ActiveAlerts::default();
    check_failing(facts, &told, now, &mut found);
    check_overdue(facts, &told, now, &mut found);
    check_expiring(facts, &told, now, &mut found);
    for rotation in &facts.state.live {
        check_orphan(facts, rotation, now, &mut found);
        check_hold(facts, rotation, now, &mut found);
    }
    found
}

impl AlertContext<'_> {
    /// When trouble that began then has lasted for `span`, as far as somebody
    /// was there to do something about it.
    fn grace_period_end(&self, since: Timestamp, span: Duration, now: Timestamp) -> Timestamp {
        match self.operational_since {
            Some(watching) => time::after(since.max(watching).min(now), span),
            None => Timestamp::MIN,
        }
    }

    fn status_hint(&self) -> String {
        format!("`rekeyd status {}` shows how it stands", self.state.key)
    }
}

fn check_failing(
    facts: &AlertContext<'_>,
    told: &impl Fn(&Alert) -> bool,
    now: Timestamp,
    found: &mut ActiveAlerts,
) {
    let state = facts.state;
    let key = &state.key;
    let trouble = alertable_error(state, facts.configured.is_some());
    let cause = Alert::for_key(key, AlertKind::Failing);
    if told(&cause) {
        // What follows a restart or a failed try is not over yet.
        let is_stranded = |rotation: &Rotation| rotation.phase == Phase::Stranded;
        let under_way = state.open_rotation().is_some() || state.live.iter().any(is_stranded);
        if trouble.is_some() || (under_way && facts.configured.is_some()) {
            found.raise(cause, now, trouble.unwrap_or_default());
        }
        return;
    }
    let Some(trouble) = trouble.filter(|_| !facts.has_global_alert) else {
        return;
    };
    let since = [facts.failing_since, facts.alertable_since];
    let since = since.into_iter().flatten().min().unwrap_or(now);
    let at = facts.grace_period_end(since, FAILURE_GRACE_PERIOD, now);
    if at > now {
        found.look_at(at);
        return;
    }
    let text = format!(
        "{key} is failing: {trouble}; it is tried again by itself, and {}",
        facts.status_hint()
    );
    found.raise(cause, since, text);
}

fn check_overdue(
    facts: &AlertContext<'_>,
    told: &impl Fn(&Alert) -> bool,
    now: Timestamp,
    found: &mut ActiveAlerts,
) {
    let Some((policy, required)) = facts.configured else {
        return;
    };
    let Some(since) = due_since(policy, required, facts.state, facts.failing_since, now) else {
        return;
    };
    let key = &facts.state.key;
    let cause = Alert::for_key(key, AlertKind::Overdue);
    let span = overdue_threshold(policy) + Duration::from_secs(1);
    if told(&cause) {
        if time::after(since, span) <= now {
            found.raise(cause, since, String::new());
        }
        return;
    }
    if facts.has_global_alert {
        return;
    }
    let at = facts
        .grace_period_end(since, span, now)
        .max(time::after(since, span));
    if at > now {
        found.look_at(at);
        return;
    }
    let why = match alertable_error(facts.state, true) {
        Some(trouble) => format!(": {trouble}"),
        None => String::new(),
    };
    let text = format!(
        "{key} has been due since {} and is not rotated yet{why}; {}",
        time::to_text(since),
        facts.status_hint()
    );
    found.raise(cause, since, text);
}

fn check_expiring(
    facts: &AlertContext<'_>,
    told: &impl Fn(&Alert) -> bool,
    now: Timestamp,
    found: &mut ActiveAlerts,
) {
    let (state, key) = (facts.state, &facts.state.key);
    let Some(((policy, _), (near, end))) = facts.configured.zip(expiry_window(state)) else {
        return;
    };
    let current = state.current().and_then(|one| one.credential.as_ref());
    // In the last quarter of its life the key is due: it is waked then.
    let Some(credential) = current.filter(|_| near <= now) else {
        return;
    };
    let cause = Alert::for_credential(key, AlertKind::Expiring, &credential.id);
    if told(&cause) {
        found.raise(cause, near, String::new());
        return;
    }
    let failing = found
        .active
        .contains_key(&Alert::for_key(key, AlertKind::Failing));
    let span = policy.delivery_deadline.min(time::until(near, end) / 2);
    let at = match facts.operational_since {
        Some(_) if failing => now,
        Some(_) => facts.grace_period_end(near, span, now),
        // Whoever cannot wait has tried, or has let it be tried.
        None if failing => now,
        None => time::after(near, span),
    };
    if at > now {
        found.look_at(at);
        return;
    }
    let why = match alertable_error(state, true) {
        Some(trouble) => format!(": {trouble}"),
        None => String::new(),
    };
    let text = format!(
        "the current credential {} of {key} ends at {}, and it has no successor yet{why}; see to \
         it before then: its consumers would be left with a dead key",
        credential.id,
        time::to_text(end)
    );
    found.raise(cause, near, text);
}

/// One that cannot be revoked at once: it is tried again for ever.
fn check_orphan(
    facts: &AlertContext<'_>,
    rotation: &Rotation,
    now: Timestamp,
    found: &mut ActiveAlerts,
) {
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
    let cause = Alert::for_credential(key, AlertKind::Orphan, &credential.id);
    found.raise(cause, now, text);
}

/// A credential that is still used, or held by hand, and goes within a day.
fn check_hold(
    facts: &AlertContext<'_>,
    rotation: &Rotation,
    now: Timestamp,
    found: &mut ActiveAlerts,
) {
    let Some(credential) = &rotation.credential else {
        return;
    };
    let key = &facts.state.key;
    let cause = Alert::for_credential(key, AlertKind::Hold, &credential.id);
    if rotation.phase == Phase::Retired
        && rotation.final_warning
        && let Some(reason) = rotation.error.as_ref()
    {
        let text = format!("{} of {key} is not revoked yet: {reason}", credential.id);
        found.raise(cause, now, text);
        return;
    }
    let waits = rotation.phase == Phase::Retired || rotation.phase == Phase::Orphaned;
    let decides = |until: &Timestamp| {
        waits && *until > now && rotation.revoke_after.is_none_or(|after| after < *until)
    };
    let Some(until) = rotation.hold_until.filter(decides) else {
        return;
    };
    let at = time::before(until, HOLD_EXPIRY_WARNING);
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
    found.raise(cause, now, text);
}

/// What is said when something is over that was told.
#[must_use]
pub fn resolved_text(cause: &Alert, state: Option<&KeyState>) -> String {
    let key = cause.key.as_ref().map_or("rekeyd", |key| key.as_str());
    let credential = cause.credential.as_ref();
    let credential = credential.map_or("a credential", |id| id.as_str());
    let now = match state.and_then(KeyState::current).map(|one| &one.credential) {
        Some(Some(current)) => format!("; its current credential is {}", current.id),
        Some(None) | None => String::new(),
    };
    match cause.kind {
        AlertKind::Ledger => "the ledger can be written again".to_owned(),
        AlertKind::Credential => "the provider accepts rekeyd's own admin key again".to_owned(),
        AlertKind::Organization => "the keys' credentials are there again".to_owned(),
        AlertKind::Clock => "the clocks of this host and of the provider agree again".to_owned(),
        AlertKind::Provider => "the provider answers again".to_owned(),
        AlertKind::Failing => format!("{key} is not failing any more{now}"),
        AlertKind::Overdue => format!("{key} is not overdue any more{now}"),
        AlertKind::Expiring => format!("{credential} of {key} has a successor{now}"),
        AlertKind::Orphan => format!("{credential} of {key} is revoked"),
        AlertKind::Hold => format!("{credential} of {key} is not held for its last day any more"),
        AlertKind::Rotated | AlertKind::Lookalike => format!("{credential} of {key}"),
    }
}

#[cfg(test)]
mod tests;
