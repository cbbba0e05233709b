//! The active alerts of a key: a pure function of the ledger, the configuration
//! and the time.
//!
//! An alert is a level and not an event: a second evaluation returns the same
//! alerts, and the caller compares them with those that people were notified of.
//! An alert becomes active only after a grace period, so that nobody is called for
//! an error that passes by itself. It stays active until the key is healthy again.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::core::condition::{Condition, FAILURE_GRACE_PERIOD};
use crate::core::decide::due::expiry_window;
use crate::core::decide::sightings::{open_sightings, repair_time, sighting_text};
use crate::core::health::{alertable_error, file_access_problems, paused_repair};
use crate::core::ids::SinkId;
use crate::core::lifecycle::Phase;
use crate::core::notification::{Alert, AlertKind};
use crate::core::overdue::{dropped_runs_text, drops_runs, due_since, overdue_threshold};
use crate::core::policy::KeyPolicy;
use crate::core::state::{DeferralKind, Delivery, KeyState, Rotation, visible_hold_end};
use crate::core::time;
use crate::core::unmanaged::unmanaged;

/// How long a superseded credential may be the one that rekeyd works with before its
/// alert is raised.
const SELF_CREDENTIAL_GRACE_PERIOD: Duration = time::DAY;

/// How long before the revocation of a held credential its alert is raised.
const HOLD_EXPIRY_WARNING: Duration = time::DAY;

/// The facts from which a key's alerts follow.
#[derive(Debug, Clone, Copy)]
pub struct AlertContext<'a> {
    /// The key's state in the ledger.
    pub state: &'a KeyState,
    /// The key's policy and its required sinks; none if it is not configured.
    pub configured: Option<(&'a KeyPolicy, &'a [SinkId])>,
    /// The time of the first of its latest consecutive failures.
    pub failing_since: Option<Timestamp>,
    /// The time at which this process first saw an error of the key.
    pub alertable_since: Option<Timestamp>,
    /// The time from which the daemon could work on the key: the process ran, the
    /// host was awake, and no condition of the daemon was active. None for a
    /// command that cannot wait: it reports the errors without a grace period.
    pub operational_since: Option<Timestamp>,
    /// Whether an alert of the daemon is active: a key that is failing or overdue
    /// because of it raises no alert of its own.
    pub has_global_alert: bool,
    /// Whether a limit or a refusal of the provider holds the key back: one that is overdue
    /// because of it raises no alert of its own. Any other trouble of the key does.
    pub is_held_back: bool,
}

/// The start and the text of an active alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertDetails {
    /// When its problem began.
    pub since: Timestamp,
    /// Its text for people.
    pub text: String,
}

/// The active alerts of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActiveAlerts {
    /// Each active alert with its details.
    pub active: BTreeMap<Alert, AlertDetails>,
    /// When the passing of time alone may change them.
    pub recheck_at: Option<Timestamp>,
}

impl ActiveAlerts {
    fn recheck_no_later_than(&mut self, at: Timestamp) {
        self.recheck_at = self.recheck_at.into_iter().chain([at]).min();
    }

    fn raise(&mut self, alert: Alert, since: Timestamp, text: String) {
        self.active.insert(alert, AlertDetails { since, text });
    }
}

/// Returns the alerts of a key that are active at `now`. `was_raised` says whether
/// people were notified of an alert and not yet of its end.
#[must_use]
pub fn active_alerts(
    context: &AlertContext<'_>,
    was_raised: impl Fn(&Alert) -> bool,
    now: Timestamp,
) -> ActiveAlerts {
    let mut alerts = ActiveAlerts::default();
    check_failing(context, &was_raised, now, &mut alerts);
    check_overdue(context, &was_raised, now, &mut alerts);
    check_expiring(context, &was_raised, now, &mut alerts);
    check_unmanaged(context, &was_raised, now, &mut alerts);
    check_file_access(context, now, &mut alerts);
    for rotation in &context.state.live {
        check_orphan(context, rotation, now, &mut alerts);
        check_hold(context, rotation, now, &mut alerts);
        check_doubt(context, rotation, now, &mut alerts);
        check_sighting(context, rotation, now, &mut alerts);
    }
    alerts
}

impl AlertContext<'_> {
    /// Returns when an error that began at `since` has lasted for `span`. Time in
    /// which the daemon could not work on the key does not count.
    fn grace_period_end(&self, since: Timestamp, span: Duration, now: Timestamp) -> Timestamp {
        match self.operational_since {
            Some(operational) => time::after(since.max(operational).min(now), span),
            None => Timestamp::MIN,
        }
    }

    fn status_hint(&self) -> String {
        format!("hint: follow it with `rekeyd status {}`", self.state.key)
    }
}

fn check_failing(
    context: &AlertContext<'_>,
    was_raised: &impl Fn(&Alert) -> bool,
    now: Timestamp,
    alerts: &mut ActiveAlerts,
) {
    let state = context.state;
    let key = &state.key;
    let is_configured = context.configured.is_some();
    let error = alertable_error(state, is_configured);
    let paused = paused_repair(state, now).filter(|_| is_configured && error.is_none());
    let outlook = match paused {
        Some(_) => "",
        None => "; rekeyd keeps retrying",
    };
    let error = error.or(paused);
    let alert = Alert::for_key(key, AlertKind::Failing);
    let describe = |error: &str| {
        let hint = context.status_hint();
        format!("{key} is failing: {error}{outlook}; {hint}")
    };
    if was_raised(&alert) {
        // The repair after a restart or a failure is not finished.
        let is_stranded = |rotation: &Rotation| rotation.phase == Phase::Stranded;
        let is_in_progress = state.open_rotation().is_some() || state.live.iter().any(is_stranded);
        if error.is_some() || (is_in_progress && context.configured.is_some()) {
            let error = error.as_deref().unwrap_or("its repair is not complete");
            alerts.raise(alert, now, describe(error));
        }
        return;
    }
    let Some(error) = error.filter(|_| !context.has_global_alert) else {
        return;
    };
    let since = [context.failing_since, context.alertable_since];
    let since = since.into_iter().flatten().min().unwrap_or(now);
    let at = context.grace_period_end(since, FAILURE_GRACE_PERIOD, now);
    if at > now {
        alerts.recheck_no_later_than(at);
        return;
    }
    alerts.raise(alert, since, describe(&error));
}

fn check_overdue(
    context: &AlertContext<'_>,
    was_raised: &impl Fn(&Alert) -> bool,
    now: Timestamp,
    alerts: &mut ActiveAlerts,
) {
    let Some((policy, required)) = context.configured else {
        return;
    };
    let key = &context.state.key;
    let alert = Alert::for_key(key, AlertKind::Overdue);
    if drops_runs(context.state)
        && let Some(since) = context.state.dropped_run
    {
        let text = dropped_runs_text(context.state).unwrap_or_default();
        let text = format!("{key} is not rotated: {text}");
        alerts.raise(alert, since, text);
        return;
    }
    let Some(since) = due_since(policy, required, context.state, context.failing_since, now) else {
        return;
    };
    let span = overdue_threshold(policy) + Duration::from_secs(1);
    let why = match alertable_error(context.state, true) {
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    let text = format!(
        "{key} has been due since {} but is not rotated yet{why}; {}",
        time::to_text(since),
        context.status_hint()
    );
    if was_raised(&alert) {
        if time::after(since, span) <= now {
            alerts.raise(alert, since, text);
        }
        return;
    }
    if context.has_global_alert || context.is_held_back {
        return;
    }
    let at = context
        .grace_period_end(since, span, now)
        .max(time::after(since, span));
    if at > now {
        alerts.recheck_no_later_than(at);
        return;
    }
    alerts.raise(alert, since, text);
}

fn check_expiring(
    context: &AlertContext<'_>,
    was_raised: &impl Fn(&Alert) -> bool,
    now: Timestamp,
    alerts: &mut ActiveAlerts,
) {
    let (state, key) = (context.state, &context.state.key);
    let Some(((policy, _), (near_since, end))) = context.configured.zip(expiry_window(state))
    else {
        return;
    };
    let current = state
        .current()
        .and_then(|rotation| rotation.credential.as_ref());
    // The key is due in that last quarter, and evaluated again when it begins.
    let Some(credential) = current.filter(|_| near_since <= now) else {
        return;
    };
    let alert = Alert::for_credential(key, AlertKind::Expiring, &credential.id);
    let why = match alertable_error(state, true) {
        Some(error) => format!(": {error}"),
        None => String::new(),
    };
    let text = format!(
        "the current credential {} of {key} expires at {} and has no successor yet{why}; hint: \
         repair this before then, or its consumers lose access",
        credential.id,
        time::to_text(end)
    );
    if was_raised(&alert) {
        alerts.raise(alert, near_since, text);
        return;
    }
    let is_failing = alerts
        .active
        .contains_key(&Alert::for_key(key, AlertKind::Failing));
    let span = policy
        .delivery_deadline
        .min(time::until(near_since, end) / 2);
    let at = match context.operational_since {
        Some(_) if is_failing => now,
        Some(_) => context.grace_period_end(near_since, span, now),
        // A command that cannot wait has attempted the rotation.
        None if is_failing => now,
        None => time::after(near_since, span),
    };
    if at > now {
        alerts.recheck_no_later_than(at);
        return;
    }
    alerts.raise(alert, near_since, text);
}

/// Raises the alert of a key that is neither configured nor retired, and has a credential
/// that nothing ends.
fn check_unmanaged(
    context: &AlertContext<'_>,
    was_raised: &impl Fn(&Alert) -> bool,
    now: Timestamp,
    alerts: &mut ActiveAlerts,
) {
    let Some(unmanaged) = unmanaged(context.state).filter(|_| context.configured.is_none()) else {
        return;
    };
    let alert = Alert::for_key(&context.state.key, AlertKind::Unmanaged);
    // Without a sink that shows it, it has lasted for longer than this process.
    let since = unmanaged.since.unwrap_or(Timestamp::MIN);
    let at = context.grace_period_end(since, FAILURE_GRACE_PERIOD, now);
    if at > now && !was_raised(&alert) {
        alerts.recheck_no_later_than(at);
        return;
    }
    let key = &context.state.key;
    let text = format!("{key}: {}", unmanaged.text(key));
    alerts.raise(alert, unmanaged.since.unwrap_or(now), text);
}

/// Raises the alert of a file that does not have the owner, the group or the mode of its
/// delivery. The check that found it was no attempt that may succeed soon: nothing is waited
/// for.
fn check_file_access(context: &AlertContext<'_>, now: Timestamp, alerts: &mut ActiveAlerts) {
    let differences = file_access_problems(context.state).filter(|_| context.configured.is_some());
    let problems: Vec<_> = differences
        .map(|(sink, problem)| format!("{sink}: {problem}"))
        .collect();
    if problems.is_empty() {
        return;
    }
    let key = &context.state.key;
    let text = format!("{key}: {}", problems.join("; "));
    alerts.raise(Alert::for_key(key, AlertKind::FileAccess), now, text);
}

/// Raises the alert of a live orphan, whose revocation is retried without end.
fn check_orphan(
    context: &AlertContext<'_>,
    rotation: &Rotation,
    now: Timestamp,
    alerts: &mut ActiveAlerts,
) {
    let Some(credential) = &rotation.credential else {
        return;
    };
    if rotation.phase != Phase::Orphaned {
        return;
    }
    let key = &context.state.key;
    let why = match rotation.error.as_ref().filter(|_| rotation.attempt > 0) {
        Some(error) => format!("; the last attempt failed: {error}"),
        None => String::new(),
    };
    let was_delivered = rotation.deliveries.iter().any(Delivery::was_written);
    let cause = if was_delivered {
        "although it was recorded as revoked"
    } else {
        "but no sink ever accepted it"
    };
    let text = format!(
        "{} of {key} is alive at the provider, {cause}; rekeyd revokes it as soon as possible{why}",
        credential.id
    );
    let alert = Alert::for_credential(key, AlertKind::Orphan, &credential.id);
    alerts.raise(alert, now, text);
}

/// Raises the alert of a credential that is in use or held by an operator, and that
/// is revoked within a day.
fn check_hold(
    context: &AlertContext<'_>,
    rotation: &Rotation,
    now: Timestamp,
    alerts: &mut ActiveAlerts,
) {
    let Some(credential) = &rotation.credential else {
        return;
    };
    let key = &context.state.key;
    let alert = Alert::for_credential(key, AlertKind::Hold, &credential.id);
    if rotation.phase == Phase::Retired
        && rotation.final_warning
        // They have alerts of their own.
        && rotation.deferral.is_none_or(|kind| kind != DeferralKind::HeldAgain && !kind.is_by_files())
        && let Some(reason) = rotation.error.as_ref()
    {
        let text = format!("{} of {key} is not revoked yet: {reason}", credential.id);
        alerts.raise(alert, now, text);
        return;
    }
    let awaits_revocation = rotation.phase == Phase::Retired || rotation.phase == Phase::Orphaned;
    let delays_revocation = |until: &Timestamp| {
        awaits_revocation
            && *until > now
            && rotation.revoke_after.is_none_or(|after| after < *until)
    };
    let Some(until) = rotation.hold_until.filter(delays_revocation) else {
        return;
    };
    let at = time::before(until, HOLD_EXPIRY_WARNING);
    if at > now {
        if visible_hold_end(until).is_some() {
            alerts.recheck_no_later_than(at);
        }
        return;
    }
    let text = format!(
        "{} of {key} is on hold until {} and is revoked then; hint: run `rekeyd hold {}` to keep it \
         longer",
        credential.id,
        time::to_text(until),
        credential.id
    );
    alerts.raise(alert, now, text);
}

/// Raises the alert of a credential that the schedule does not revoke until a person
/// decides: rekeyd may itself work with it, the provider shows another name, or another
/// key's file holds it.
fn check_doubt(
    context: &AlertContext<'_>,
    rotation: &Rotation,
    now: Timestamp,
    alerts: &mut ActiveAlerts,
) {
    let Some(credential) = &rotation.credential else {
        return;
    };
    let (key, id) = (&context.state.key, &credential.id);
    let why = rotation.error.as_deref().unwrap_or_default();
    let (kind, text) = match rotation.deferral {
        Some(DeferralKind::MayBeInUse) => (
            AlertKind::MayBeInUse,
            format!(
                "{id} of {key} is not revoked yet: {why}; hint: if it is another one, run `rekeyd \
                 revoke {id} --force`"
            ),
        ),
        Some(DeferralKind::OtherName) => (
            AlertKind::OtherName,
            format!("{id} of {key} is not revoked: {why}"),
        ),
        Some(DeferralKind::HeldElsewhere | DeferralKind::FileUnseen) => (
            AlertKind::HeldElsewhere,
            format!("{id} of {key} is not revoked yet: {why}"),
        ),
        // A rotation of rekeyd's own key ends this soon. What lasts is another credential
        // whose secret ends alike, or a file that somebody put back.
        Some(DeferralKind::SelfCredential) => {
            let since = rotation.deferred_since.unwrap_or(now);
            let at = time::after(since, SELF_CREDENTIAL_GRACE_PERIOD);
            if at > now {
                alerts.recheck_no_later_than(at);
                return;
            }
            (
                AlertKind::MayBeInUse,
                format!(
                    "{id} of {key} is not revoked: it is rekeyd's own admin key, or one \
                     whose secret has the same end; hint: check that credential-file holds the \
                     newest key"
                ),
            )
        }
        Some(
            DeferralKind::RecentlyUsed
            | DeferralKind::UseUnreadable
            | DeferralKind::SuccessorMissing
            | DeferralKind::UsedByOtherKey
            | DeferralKind::HeldAgain,
        )
        | None => return,
    };
    if kind == AlertKind::HeldElsewhere && rotation.final_warning {
        let ends = Alert::for_credential(key, AlertKind::HeldElsewhereEnds, id);
        alerts.raise(ends, now, text.clone());
    }
    let alert = Alert::for_credential(key, kind, id);
    alerts.raise(alert, rotation.deferred_since.unwrap_or(now), text);
}

/// Raises the alert of a retired credential that the target of a sink holds again, and
/// another one on the last day before that target is given the newest one.
fn check_sighting(
    context: &AlertContext<'_>,
    rotation: &Rotation,
    now: Timestamp,
    alerts: &mut ActiveAlerts,
) {
    let (Some(credential), Some(sighted)) = (
        &rotation.credential,
        open_sightings(rotation).find(|_| rotation.phase == Phase::Retired),
    ) else {
        return;
    };
    let policy = context.configured.map(|(policy, _)| policy);
    let Some(line) = sighting_text(context.state, rotation, sighted, policy, now) else {
        return;
    };
    let (key, id) = (&context.state.key, &credential.id);
    let since = sighted.sighting.map_or(now, |sighting| sighting.since);
    let text = format!("{key}: {line}");
    let begun = Alert::for_credential(key, AlertKind::HeldAgain, id);
    alerts.raise(begun, since, text.clone());
    let last_day = time::before(repair_time(policy, since), HOLD_EXPIRY_WARNING);
    if last_day > now {
        alerts.recheck_no_later_than(last_day);
        return;
    }
    let ends = Alert::for_credential(key, AlertKind::HeldAgainEnds, id);
    alerts.raise(ends, now, text);
}

/// Returns the text of the notification that an alert is resolved.
#[must_use]
pub fn resolved_text(alert: &Alert, state: Option<&KeyState>) -> String {
    let key = alert.key.as_ref().map_or("rekeyd", |key| key.as_str());
    let credential = alert.credential.as_ref();
    let credential = credential.map_or("a credential", |id| id.as_str());
    let current = state.and_then(KeyState::current);
    let current = match current.and_then(|rotation| rotation.credential.as_ref()) {
        Some(credential) => format!("; its current credential is {}", credential.id),
        None => String::new(),
    };
    match alert.kind {
        AlertKind::Ledger => Condition::Ledger.resolved_text().to_owned(),
        AlertKind::ControlSocket => "rekeyd listens on its control socket again".to_owned(),
        AlertKind::MetricsAddress => "rekeyd serves its metrics again".to_owned(),
        AlertKind::Credential => Condition::Credential.resolved_text().to_owned(),
        AlertKind::Organization => Condition::Organization.resolved_text().to_owned(),
        AlertKind::Clock => Condition::Clock.resolved_text().to_owned(),
        AlertKind::Provider => Condition::Provider.resolved_text().to_owned(),
        AlertKind::Reconciliation => Condition::Reconciliation.resolved_text().to_owned(),
        AlertKind::Quota => Condition::Quota.resolved_text().to_owned(),
        AlertKind::CreateRefusal => Condition::CreateRefusal.resolved_text().to_owned(),
        AlertKind::CreateLimit => Condition::CreateLimit.resolved_text().to_owned(),
        AlertKind::ReadLimit => Condition::ReadLimit.resolved_text().to_owned(),
        AlertKind::DeleteLimit => Condition::DeleteLimit.resolved_text().to_owned(),
        AlertKind::Failing => format!("{key} is no longer failing{current}"),
        AlertKind::Overdue => format!("{key} is no longer overdue{current}"),
        AlertKind::Expiring => format!("{credential} of {key} has a successor{current}"),
        AlertKind::Orphan => format!("{credential} of {key} is revoked"),
        AlertKind::Unmanaged => {
            format!("{key} is configured again or retired, or has no live credential")
        }
        AlertKind::Hold => {
            format!("{credential} of {key} is no longer in the last day of its hold")
        }
        AlertKind::MayBeInUse => {
            format!("{credential} of {key} is revoked, or is not rekeyd's own credential")
        }
        AlertKind::OtherName => {
            format!("{credential} of {key} is revoked, or shown under its own name again")
        }
        AlertKind::HeldElsewhere | AlertKind::HeldElsewhereEnds => {
            format!("{credential} of {key} is revoked, or no other key's file holds it now")
        }
        AlertKind::HeldAgain | AlertKind::HeldAgainEnds => {
            format!("no sink holds the retired {credential} of {key} any more{current}")
        }
        AlertKind::FileAccess => {
            format!("the files of {key} have the owner, group and mode of their deliveries again")
        }
        AlertKind::Crashed => "rekeyd runs again".to_owned(),
        AlertKind::ConfigurationWaits => "no change of the configuration waits".to_owned(),
        AlertKind::Rotated
        | AlertKind::Lookalike
        | AlertKind::FileExposed
        | AlertKind::Adopted
        | AlertKind::RevokedManually
        | AlertKind::Released => format!("{credential} of {key}"),
        AlertKind::Test => "the test is over".to_owned(),
    }
}

#[cfg(test)]
mod tests;
