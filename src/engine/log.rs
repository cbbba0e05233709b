//! Logs recorded changes: one line for each change of phase, and for each
//! failure with the time of the next attempt.

use jiff::Timestamp;

use crate::core::change::{
    Adoption, Change, CredentialHold, DeadlineUpdate, DeliveryChange, DeliveryResult, KeyBackoff,
    KeyRetirement, MissedRun, MissingCredential, NarrowedFile, OnChangeState, OperatorChange,
    PauseUpdate, RetiredSighting, RetrySchedule, RevocationDeferral, RotationChange,
    ScheduleChange, Transition,
};
use crate::core::decide::due::imminent_expiry;
use crate::core::decide::sightings::open_sightings;
use crate::core::duration;
use crate::core::health::pause_end;
use crate::core::ids::{KeyName, RotationId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::CHECKS_UNTIL_GONE;
use crate::core::state::{
    DeferralKind, DeliveryState, KeyState, ModeNarrowing, Rotation, WideningCause, visible_hold_end,
};
use crate::core::time;

/// What a message says of a rotation without a credential.
const NO_CREDENTIAL: &str = "no credential";

/// Logs `changes`, which led from `before` to `after`.
pub(crate) fn log_changes(before: &KeyState, after: &KeyState, changes: &[Change], now: Timestamp) {
    log_expiring(after, changes, now);
    for change in changes {
        match change {
            Change::Rotation(change) => log_rotation_change(before, after, change, now),
            Change::Delivery(change) => log_delivery_change(before, after, change, now),
            Change::Schedule(change) => log_schedule_change(before, after, change, now),
            Change::Operator(change) => log_operator_change(after, change, now),
        }
    }
}

/// Logs the alarm `expiring`: a key's current credential expires soon, and the attempt
/// to replace it failed.
fn log_expiring(key: &KeyState, changes: &[Change], now: Timestamp) {
    let is_failure = |change: &Change| match change {
        Change::Rotation(change) => matches!(change, RotationChange::RetryScheduled(_)),
        Change::Schedule(change) => matches!(change, ScheduleChange::BackedOff(_)),
        Change::Delivery(DeliveryChange::Finished(result)) => {
            result.state != DeliveryState::Accepted
        }
        Change::Delivery(_) | Change::Operator(_) => false,
    };
    let Some(end) = imminent_expiry(key, now).filter(|_| changes.iter().any(is_failure)) else {
        return;
    };
    tracing::error!(
        key = %key.key, alarm = "expiring", expires_at = time::to_text(end),
        "{}: the current credential expires at {} and has no successor yet",
        key.key, time::to_text(end)
    );
}

fn log_rotation_change(
    before: &KeyState,
    after: &KeyState,
    change: &RotationChange,
    now: Timestamp,
) {
    let name = &after.key;
    match change {
        RotationChange::Started(intent) => tracing::info!(
            key = %name, rotation = %intent.rotation, trigger = intent.trigger.as_str(),
            "{name}: rotating ({})", intent.trigger.as_str()
        ),
        RotationChange::Transitioned(transition) => {
            let former = before.rotation(&transition.rotation);
            let rotation = after.rotation(&transition.rotation).or(former);
            log_transition(after, rotation, transition, former.map(|one| one.phase));
        }
        RotationChange::CredentialNamed(named) => tracing::debug!(
            key = %name, rotation = %named.rotation,
            "{name}: {} has the name {}", credential_name(after, &named.rotation), named.name
        ),
        RotationChange::CredentialUpdated(shown) => tracing::debug!(
            key = %name, rotation = %shown.rotation,
            "{name}: updated the recorded facts of {}", shown.credential.id
        ),
        // `Worker::reject_answer` logs it, before anything is recorded.
        RotationChange::AnswerRejected(_) => {}
        RotationChange::RetryScheduled(RetrySchedule {
            rotation,
            attempt,
            retry_at,
            error,
        }) => {
            // A create is never sent again: its label is searched for.
            let row = after.rotation(rotation);
            let again = match row.map(|row| row.phase) {
                Some(Phase::Intended) => "searching for its label again",
                Some(_) | None => "retrying",
            };
            tracing::warn!(
                key = %name, %rotation, attempt, retry_at = time::to_text(*retry_at),
                "{name}: {error}; {again} {}", retry_in(*retry_at, now)
            );
        }
        RotationChange::OverlapExtended(_) => {}
        RotationChange::RevocationDeferred(deferral) => {
            log_deferred_revocation(before, after, deferral);
        }
        RotationChange::CredentialMissing(MissingCredential { rotation, missing }) => {
            let credential = credential_name(after, rotation);
            tracing::warn!(
                key = %name, %rotation, credential = credential_id(after, rotation), checks = missing.checks,
                "{name}: the provider does not show {credential}; it counts as deleted after \
                 {CHECKS_UNTIL_GONE} such responses over 15 min"
            );
        }
        RotationChange::CredentialFound(found) => {
            let (rotation, credential) = (&found.rotation, credential_name(after, &found.rotation));
            tracing::info!(
                key = %name, %rotation, credential = credential_id(after, rotation),
                "{name}: the provider shows {credential} again"
            );
        }
        RotationChange::SecretRecovered(recovered) => tracing::info!(
            key = %after.key, rotation = %recovered.rotation, sink = %recovered.sink,
            "{}: recovered the secret of {} from {}", after.key,
            credential_name(after, &recovered.rotation), recovered.sink
        ),
        RotationChange::DuplicateRevoked(duplicate) => tracing::warn!(
            key = %name, rotation = %duplicate.rotation, credential = %duplicate.credential,
            "{name}: revoked {}, which had the label of another credential",
            duplicate.credential
        ),
    }
}

/// Returns when an attempt follows, relative to now: `in 10 s`. The field `retry_at` has the
/// exact time.
fn retry_in(at: Timestamp, now: Timestamp) -> String {
    let pause = time::until(now, time::next_whole_second(at));
    if pause.is_zero() {
        "now".to_owned()
    } else {
        format!("in {}", duration::to_human_text(pause))
    }
}

/// Returns the id of a rotation's credential: a field that is left out if it has none.
fn credential_id<'a>(key: &'a KeyState, rotation: &RotationId) -> Option<&'a str> {
    let credential = key.rotation(rotation)?.credential.as_ref()?;
    Some(credential.id.as_str())
}

/// Returns the id of a rotation's credential for a message, or a phrase if it has none.
fn credential_name<'a>(key: &'a KeyState, rotation: &RotationId) -> &'a str {
    credential_id(key, rotation).unwrap_or(NO_CREDENTIAL)
}

/// Returns the end of a hold that outlasts the overlap of a retired credential, as
/// [`Rotation::hold`] does. Nothing outlasts a deadline.
fn outlasting_hold(rotation: &Rotation, transition: &Transition) -> Option<Option<Timestamp>> {
    if rotation.deadline.is_some() {
        return None;
    }
    rotation.hold(transition.revoke_after?)
}

fn log_transition(
    key: &KeyState,
    rotation: Option<&Rotation>,
    transition: &Transition,
    from: Option<Phase>,
) {
    let new = transition.credential.as_ref();
    let recorded = rotation.and_then(|rotation| rotation.credential.as_ref());
    let credential_id = new.or(recorded).map(|credential| credential.id.as_str());
    let credential = credential_id.unwrap_or(NO_CREDENTIAL);
    let reason = transition.error.as_deref().unwrap_or_default();
    let deadline = rotation.and_then(|rotation| rotation.deadline);
    let ends = transition.revoke_after.into_iter();
    let ends = ends.chain(deadline.map(|deadline| deadline.at));
    let revoke_after = ends.min().map(time::to_text).unwrap_or_default();
    let (name, id) = (&key.key, &transition.rotation);
    let ended = transition.ended_row.as_ref().map(|row| row.phase);
    macro_rules! log {
        ($level:ident, $($text:tt)*) => {
            tracing::$level!(
                key = %name, rotation = %id, credential = credential_id,
                event = %transition.event, $($text)*
            )
        };
    }
    match transition.event {
        LifecycleEvent::Created => log!(info, "{name}: created {credential}"),
        LifecycleEvent::Verified => log!(info, "{name}: verified {credential}"),
        LifecycleEvent::Delivered => log!(info, "{name}: {credential} is the current credential"),
        LifecycleEvent::Superseded | LifecycleEvent::Replaced | LifecycleEvent::RetiredWithKey => {
            let hold = rotation.and_then(|rotation| outlasting_hold(rotation, transition));
            match hold {
                Some(Some(end)) => log!(
                    info,
                    "{name}: retired {credential}, which is on hold until {}",
                    time::to_text(end)
                ),
                Some(None) => log!(
                    info,
                    "{name}: retired {credential}, which is on hold until it is released"
                ),
                None => log!(
                    info,
                    "{name}: retired {credential}; revoking it after {revoke_after}"
                ),
            }
        }
        // It was nobody's credential.
        LifecycleEvent::Deleted if from == Some(Phase::Orphaned) => {
            log!(info, "{name}: revoked the orphaned credential {credential}")
        }
        LifecycleEvent::Deleted if key.is_retired() => {
            log!(
                info,
                "{name}: revoked {credential}, because the key is retired"
            )
        }
        LifecycleEvent::Deleted => {
            log!(info, "{name}: revoked the previous credential {credential}")
        }
        LifecycleEvent::Interrupted | LifecycleEvent::LabelFoundAfterRestart => log!(
            warn,
            "{name}: {credential} is stranded, because its secret was lost in a restart; \
             another rotation is due"
        ),
        LifecycleEvent::SecretLost | LifecycleEvent::LabelFound => log!(
            warn,
            "{name}: {credential} is orphaned, because its secret never arrived; revoking it"
        ),
        LifecycleEvent::VerificationFailed if key.attempt > 1 => log!(
            error,
            "{name}: {credential} failed verification: {reason}; revoking it"
        ),
        LifecycleEvent::VerificationFailed => log!(
            warn,
            "{name}: {credential} failed verification: {reason}; revoking it; another rotation \
             is due"
        ),
        LifecycleEvent::Abandoned | LifecycleEvent::AbandonedDuringDelivery => {
            log!(warn, "{name}: abandoned {credential}: {reason}");
        }
        LifecycleEvent::NotCreated => log!(warn, "{name}: no credential was created: {reason}"),
        // A later list may still show it.
        LifecycleEvent::LabelNotFound => {
            log!(warn, "{name}: found no new credential: {reason}");
        }
        LifecycleEvent::FoundDeleted
            if rotation.is_none_or(|rotation| rotation.retired_at.is_some()) =>
        {
            log!(
                info,
                "{name}: {credential} was already deleted at the provider"
            );
        }
        LifecycleEvent::FoundDeleted => {
            log!(
                warn,
                "{name}: the provider no longer has {credential}, so it counts as deleted"
            )
        }
        LifecycleEvent::RevokedManually => log!(info, "{name}: revoked {credential} on request"),
        LifecycleEvent::FoundAlive if ended == Some(Phase::Failed) => log!(
            warn,
            "{name}: {credential} is alive, although its create was recorded as failed; revoking it"
        ),
        LifecycleEvent::FoundAlive => log!(
            warn,
            "{name}: {credential} was recorded as revoked but is alive; revoking it"
        ),
        LifecycleEvent::Started | LifecycleEvent::Adopted | LifecycleEvent::AdoptedAlongside => {
            log!(info, "{name}: {}", transition.event);
        }
    }
}

/// Logs why a retired credential is not revoked: once for each reason, and again on its
/// last day.
fn log_deferred_revocation(before: &KeyState, after: &KeyState, deferral: &RevocationDeferral) {
    let (name, rotation, reason) = (&after.key, &deferral.rotation, &deferral.reason);
    let (id, credential) = (
        credential_id(after, rotation),
        credential_name(after, rotation),
    );
    let previous = before.rotation(rotation);
    let was_warned = previous.is_some_and(|previous| previous.final_warning);
    let is_new = previous.is_none_or(|previous| previous.deferral != Some(deferral.kind));
    let needs_person = is_new && deferral.kind.is_by_files();
    if deferral.final_warning && !was_warned && !needs_person {
        tracing::warn!(
            key = %name, %rotation, credential = id, alarm = "hold",
            "{name}: {credential} is not revoked yet: {reason}"
        );
    } else if !is_new {
        tracing::debug!(key = %name, %rotation, credential = id,
            "{name}: {credential} is still not revoked: {reason}");
    } else if deferral.kind == DeferralKind::OtherName {
        tracing::error!(
            key = %name, %rotation, credential = id, alarm = "other-name",
            "{name}: {credential} is not revoked: {reason}"
        );
    } else if deferral.kind.is_by_files() {
        tracing::error!(
            key = %name, %rotation, credential = id, alarm = "held-elsewhere",
            "{name}: {credential} is not revoked yet: {reason}"
        );
    } else if deferral.kind == DeferralKind::MayBeInUse {
        tracing::warn!(
            key = %name, %rotation, credential = id, alarm = "may-be-in-use",
            "{name}: {credential} is not revoked yet: {reason}; hint: if it is another one, run \
             `rekeyd revoke {credential} --force`"
        );
    } else {
        tracing::info!(
            key = %name, %rotation, credential = id,
            "{name}: {credential} is not revoked yet: {reason}"
        );
    }
}

fn log_narrowed_file(name: &KeyName, narrowed: &NarrowedFile) {
    let (rotation, sink) = (&narrowed.rotation, &narrowed.sink);
    let ModeNarrowing { from, to, cause } = narrowed.mode;
    match cause {
        WideningCause::FsGroup => tracing::info!(
            key = %name, %rotation, %sink,
            "{name}: narrowed the file of {sink} from mode {from:04o}, which fsGroup makes, to \
             {to:04o}"
        ),
        WideningCause::Other if narrowed.mode.exposes_secret() => tracing::warn!(
            key = %name, %rotation, %sink,
            "{name}: {}", narrowed.describe(name)
        ),
        WideningCause::Configuration | WideningCause::Other => tracing::info!(
            key = %name, %rotation, %sink,
            "{name}: narrowed the file of {sink} from mode {from:04o} to {to:04o}"
        ),
    }
}

fn log_delivery_change(before: &KeyState, key: &KeyState, change: &DeliveryChange, now: Timestamp) {
    let name = &key.key;
    match change {
        DeliveryChange::Started(start) => tracing::debug!(
            key = %name, rotation = %start.rotation, sink = %start.sink,
            "{name}: delivering to {}", start.sink
        ),
        DeliveryChange::Finished(result) => log_delivery_result(key, result, now),
        DeliveryChange::Skipped(skipped) => tracing::warn!(
            key = %name, rotation = %skipped.rotation, sink = %skipped.sink,
            "{name}: optional sink {} missed this credential", skipped.sink
        ),
        DeliveryChange::SinkAdded(added) => tracing::info!(
            key = %name, rotation = %added.rotation, sink = %added.sink,
            "{name}: delivering the same credential to {} too", added.sink
        ),
        DeliveryChange::SinkRemoved(removed) => tracing::info!(
            key = %name, rotation = %removed.rotation, sink = %removed.sink,
            "{name}: sink {} is no longer configured", removed.sink
        ),
        DeliveryChange::SinkReturned(returned) if returned.is_unchanged => tracing::info!(
            key = %name, rotation = %returned.rotation, sink = %returned.sink,
            "{name}: sink {} is configured again, and its file is as rekeyd left it",
            returned.sink
        ),
        DeliveryChange::SinkReturned(returned) => tracing::info!(
            key = %name, rotation = %returned.rotation, sink = %returned.sink,
            "{name}: sink {} is configured again, and may still hold an earlier credential",
            returned.sink
        ),
        DeliveryChange::SinkRequirementChanged(_) => {}
        DeliveryChange::FileAccessSeen(seen) => tracing::info!(
            key = %name, rotation = %seen.rotation, sink = %seen.sink,
            "{name}: recorded owner, group and mode of the file of {}, which an earlier version \
             delivered: {}; another owner gets no new secret from now on",
            seen.sink, seen.access
        ),
        DeliveryChange::FileAccessCompared(compared) => match &compared.problem {
            Some(problem) => tracing::warn!(
                key = %name, rotation = %compared.rotation, sink = %compared.sink,
                "{name}: {problem}"
            ),
            None => tracing::info!(
                key = %name, rotation = %compared.rotation, sink = %compared.sink,
                "{name}: the file of {} has the owner, group and mode of its delivery again",
                compared.sink
            ),
        },
        DeliveryChange::FileNarrowed(narrowed) => log_narrowed_file(name, narrowed),
        DeliveryChange::RepairWithdrawn(withdrawn) => tracing::info!(
            key = %name, rotation = %withdrawn.rotation, sink = %withdrawn.sink,
            "{name}: {} need not be written again yet", withdrawn.sink
        ),
        DeliveryChange::SinkDrifted(drift) => tracing::warn!(
            key = %name, rotation = %drift.rotation, sink = %drift.sink,
            "{name}: {} must be written again: {}; a rotation is due {}",
            drift.sink, drift.problem,
            match key.pause.filter(|pause| pause.is_active(now)) {
                Some(pause) => format!("when {}", pause_end(name, pause)),
                None => "now".to_owned(),
            }
        ),
        DeliveryChange::RetiredSeen(seen) => log_retired_seen(before, key, seen),
        DeliveryChange::SightingEnded(ended) => tracing::info!(
            key = %name, rotation = %ended.rotation, sink = %ended.sink,
            "{name}: {} no longer holds {}", ended.sink,
            credential_name(key, &ended.rotation)
        ),
    }
}

/// Logs once that the target of a sink holds a retired credential again.
fn log_retired_seen(before: &KeyState, key: &KeyState, seen: &RetiredSighting) {
    let sighted = |key: &KeyState| {
        let row = key.rotation(&seen.rotation);
        row.is_some_and(|row| open_sightings(row).any(|sighted| sighted.sink == seen.sink))
    };
    if !sighted(before) && sighted(key) {
        let (name, credential) = (&key.key, credential_name(key, &seen.rotation));
        let row = key.rotation(&seen.rotation);
        if row.is_some_and(|row| row.phase == Phase::Orphaned) {
            tracing::warn!(
                key = %name, rotation = %seen.rotation, sink = %seen.sink, credential,
                "{name}: {} holds {credential}, which was no longer alive by the ledger; it is \
                 revoked one overlap after {} holds it no more", seen.sink, seen.sink
            );
            return;
        }
        tracing::warn!(
            key = %name, rotation = %seen.rotation, sink = %seen.sink, credential,
            alarm = "held-again",
            "{name}: {} holds the retired credential {credential} again; keeping both for \
             max-revoke-delay; hint: run `rekeyd rotate {name}` to replace it now", seen.sink
        );
    }
}

fn log_delivery_result(key: &KeyState, result: &DeliveryResult, now: Timestamp) {
    let (name, rotation, sink) = (&key.key, &result.rotation, &result.sink);
    let reason = result.error.as_deref().unwrap_or_default();
    let retry_at = result.retry_at.map(time::to_text).unwrap_or_default();
    let retry_in = result.retry_at.map(|at| retry_in(at, now));
    let retry_in = retry_in.unwrap_or_default();
    match result.state {
        DeliveryState::Accepted => tracing::info!(
            key = %name, %rotation, sink = %sink.name, "{name}: delivered to {sink}"
        ),
        DeliveryState::Uncertain if result.on_change == OnChangeState::Pending => tracing::info!(
            key = %name, %rotation, sink = %sink.name,
            "{name}: wrote {sink}; running its on-change program"
        ),
        DeliveryState::Uncertain if result.on_change == OnChangeState::Failed => tracing::warn!(
            key = %name, %rotation, sink = %sink.name, retry_at,
            "{name}: wrote {sink}, but its on-change program failed: {reason}; retrying {retry_in}"
        ),
        DeliveryState::Uncertain if result.retry_at.is_none() => tracing::warn!(
            key = %name, %rotation, sink = %sink.name,
            "{name}: {sink} no longer holds the credential: {reason}"
        ),
        DeliveryState::Pending
        | DeliveryState::Uncertain
        | DeliveryState::Refused
        | DeliveryState::Missed
        | DeliveryState::Removed => tracing::warn!(
            key = %name, %rotation, sink = %sink.name, retry_at,
            "{name}: delivery to {sink} failed: {reason}; retrying {retry_in}"
        ),
    }
}

fn log_schedule_change(
    before: &KeyState,
    after: &KeyState,
    change: &ScheduleChange,
    now: Timestamp,
) {
    let name = &after.key;
    match change {
        ScheduleChange::BackedOff(backoff) => log_backoff(name, backoff, now),
        ScheduleChange::TimetableChanged(change) if before.timetable.is_some() => tracing::info!(
            key = %name, timetable = change.timetable,
            "{name}: the schedule is now {:?}", change.timetable
        ),
        ScheduleChange::RunMissed(missed) => log_missed_run(after, missed),
        ScheduleChange::TimetableChanged(_)
        | ScheduleChange::RunDue(_)
        | ScheduleChange::Recovered => {}
    }
}

/// Logs that a rotation failed or could not start: the first time as something that is
/// tried again, and later as something that needs a person.
fn log_backoff(name: &KeyName, backoff: &KeyBackoff, now: Timestamp) {
    let (attempt, problem) = (backoff.attempt, &backoff.problem);
    let retry_at = time::to_text(backoff.retry_at);
    let retry_in = retry_in(backoff.retry_at, now);
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                key = %name, attempt, retry_at,
                "{name}: rotation failed: {problem}; retrying {retry_in}"
            )
        };
    }
    if attempt > 1 {
        log!(error);
    } else {
        log!(warn);
    }
}

fn log_missed_run(key: &KeyState, missed: &MissedRun) {
    let (name, firing) = (&key.key, time::to_text(missed.firing));
    let reason = missed.reason.as_str();
    if missed.is_skipped {
        tracing::warn!(
            key = %name, firing,
            "{name}: missed the run of {firing}, because {reason}; skipping it, because it is older \
             than catch-up-window"
        );
    } else {
        tracing::info!(
            key = %name, firing,
            "{name}: missed the run of {firing}, because {reason}; catching up now"
        );
    }
}

fn log_operator_change(key: &KeyState, change: &OperatorChange, now: Timestamp) {
    let name = &key.key;
    match change {
        OperatorChange::HoldSet(hold) => log_hold(key, hold),
        OperatorChange::RevokePreviousSet(previous) if previous.is_pending => tracing::warn!(
            key = %name,
            "{name}: revoking every older credential as soon as the new one is current"
        ),
        OperatorChange::CredentialAdopted(Adoption {
            rotation,
            credential,
            ..
        }) => tracing::info!(
            key = %name, %rotation, credential = %credential.id,
            "{name}: adopted {}", credential.id
        ),
        OperatorChange::PauseSet(PauseUpdate { pause, .. }) if pause.is_active(now) => {
            let until = pause.until.map(time::to_text);
            let until = until.unwrap_or_else(|| format!("`rekeyd resume {name}`"));
            tracing::info!(key = %name, until, "{name}: paused until {until}");
        }
        OperatorChange::PauseSet(_) => tracing::info!(key = %name, "{name}: resumed"),
        OperatorChange::KeyRetired(KeyRetirement { retirement, .. }) if retirement.is_immediate => {
            tracing::info!(
                key = %name, "{name}: retired the key; revoking its credentials now"
            );
        }
        OperatorChange::KeyRetired(_) => tracing::info!(key = %name, "{name}: retired the key"),
        OperatorChange::RetirementUndone(_) => {
            tracing::info!(key = %name, "{name}: the key is no longer retired");
        }
        OperatorChange::ReplacementAllowed(_) => tracing::info!(
            key = %name,
            "{name}: the next rotation may replace keys in its sinks that rekeyd did not write"
        ),
        OperatorChange::DeadlineSet(DeadlineUpdate {
            rotation, deadline, ..
        }) => {
            let credential = credential_name(key, rotation);
            let until = time::to_text(deadline.at);
            tracing::warn!(
                key = %name, %rotation, credential, until,
                "{name}: {credential} may have leaked; revoking it at {until}"
            );
        }
        OperatorChange::RetryRequested(_)
        | OperatorChange::RevokePreviousSet(_)
        | OperatorChange::ImmediateRevocationSet(_) => {}
    }
}

fn log_hold(key: &KeyState, hold: &CredentialHold) {
    let (name, rotation) = (&key.key, &hold.rotation);
    let credential = credential_name(key, rotation);
    match hold.until {
        Some(until) => {
            let until = visible_hold_end(until).map(time::to_text);
            let until = until.unwrap_or_else(|| format!("`rekeyd release {credential}`"));
            tracing::info!(
                key = %name, %rotation, credential,
                "{name}: holding {credential} until {until}"
            );
        }
        None => tracing::info!(
            key = %name, %rotation, credential, "{name}: released {credential}"
        ),
    }
}
