//! Executes operator commands.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use crate::core::authority::Authority;
use crate::core::change::{
    Change, CredentialHold, ImmediateRevocation, OperatorNote, PauseUpdate, Transition,
};
use crate::core::decide::due::expiry_window;
use crate::core::decide::revocation::{
    Blocker, Observation, OtherHolder, RevocationReason, describe_deadline, has_newer_current,
    has_verified_successor, holding_sinks,
};
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, KeyName, SinkId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::notification::AlertKind;
use crate::core::policy::{SinkHold, overlap_or_default, sink_hold};
use crate::core::state::{
    CredentialMetadata, HELD_UNTIL_RELEASED, KeyState, Pause, Rotation, Trigger, visible_hold_end,
};
use crate::core::time;
use crate::engine::credential_locks::LockedCredential;
use crate::engine::effects::leak::EndOrder;
use crate::engine::effects::revoke::{ExpectedName, LEDGER_CHANGED, RevocationOutcome};
use crate::engine::operator_command::{CommandError, OperatorCommand, PendingCommand};
use crate::engine::operator_notice::OperatorNotice;
use crate::engine::rotation_request::{ReplaceApproval, RotationRequest};
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;

impl Worker {
    /// Executes a command, and replies to its caller.
    pub(crate) async fn execute(&mut self, pending: PendingCommand) -> Result<(), LedgerError> {
        let PendingCommand {
            command,
            started,
            reply,
        } = pending;
        // The caller has reported that the command was not executed.
        if reply.is_closed() {
            return Ok(());
        }
        started.store(true, Ordering::Relaxed);
        let done = match command {
            OperatorCommand::Revoke {
                credential,
                force,
                name,
                authority,
                operator,
            } => {
                let order = RevocationOrder {
                    credential,
                    force,
                    confirmed: name,
                    authority,
                };
                self.revoke_manually(order, operator).await
            }
            OperatorCommand::EndPresent {
                within,
                force,
                may_replace,
                holders,
                authority,
                operator,
            } => {
                let request = RotationRequest {
                    operator,
                    revoke_previous: false,
                    replacement: if may_replace {
                        ReplaceApproval::Approved.named_by(self.managed.as_deref())
                    } else {
                        ReplaceApproval::Refused
                    },
                };
                let order = EndOrder {
                    within,
                    force,
                    authority,
                };
                self.end_present(order, &holders, request).await
            }
            OperatorCommand::Hold {
                credential,
                until,
                authority,
                operator,
            } => {
                self.hold(credential.as_ref(), until, authority, operator)
                    .await
            }
            OperatorCommand::Pause { until, operator } => self.pause(until, operator).await,
            OperatorCommand::Resume { operator } => self.resume(operator).await,
            OperatorCommand::Retire {
                is_immediate,
                operator,
            } => self.retire_key(is_immediate, operator).await,
            OperatorCommand::UndoRetirement { operator } => self.undo_retirement(operator).await,
            OperatorCommand::Adopt {
                credential,
                force,
                unrecognized,
                operator,
            } => self.adopt(&credential, force, unrecognized, operator).await,
            OperatorCommand::AdoptFromSinks {
                apply,
                listing,
                operator,
            } => self.adopt_from_sinks(apply, &listing, operator).await,
        };
        let ledger_result = match &done {
            Err(CommandError::Ledger(error)) => Err(error.clone()),
            Ok(_)
            | Err(
                CommandError::Rejected(_)
                | CommandError::Unrecognized(_)
                | CommandError::Provider(_)
                | CommandError::LedgerCondition(_),
            ) => Ok(()),
        };
        // The caller may have stopped waiting.
        let _ = reply.send(done);
        ledger_result
    }

    fn live_rotation(&self, credential: &CredentialId) -> Option<&Rotation> {
        self.state.live.iter().find(|rotation| {
            let recorded = rotation.credential.as_ref();
            recorded.is_some_and(|recorded| recorded.id == *credential)
        })
    }

    async fn revoke_manually(
        &mut self,
        order: RevocationOrder,
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        let RevocationOrder {
            credential,
            force,
            confirmed,
            authority,
        } = &order;
        let (force, confirmed) = (*force, confirmed.as_deref());
        let lock = self.lock_credential(credential).await?;
        let Some(rotation) = self.live_rotation(credential).cloned() else {
            return Err(CommandError::Rejected(format!(
                "this ledger has no live credential {credential}; hint: `rekeyd history` lists \
                 every credential"
            )));
        };
        let Some(metadata) = rotation.credential.clone() else {
            return Err(CommandError::Rejected(format!(
                "the rotation of {credential} has no credential yet"
            )));
        };
        if *authority < Authority::Destroy
            && let Some(why) = beyond_operating(&self.state.key, &rotation, &lock.others)
        {
            return Err(CommandError::Rejected(format!(
                "{credential} was not revoked: {why}, which an operator may not revoke; hint: use \
                 `sudo rekeyd revoke {credential}`, or have one of your groups added to \
                 super-admins in [control]"
            )));
        }
        let Some(rotation) = self.record_missing_name(rotation).await? else {
            return Err(CommandError::Rejected(format!(
                "the provider does not respond about {credential}; hint: try again"
            )));
        };
        let reason = RevocationReason::Operator { force };
        let name = ExpectedName {
            confirmed,
            ..ExpectedName::of_rotation(&rotation, &self.services.conditions)
        };
        match self
            .revoke_if_allowed(&lock, &metadata, Some(&rotation), reason, name)
            .await
        {
            Ok(RevocationOutcome::Deleted | RevocationOutcome::AlreadyGone) => {}
            Ok(RevocationOutcome::StillShown) => {
                return Err(CommandError::Rejected(format!(
                    "the provider still shows {credential} after deleting it; hint: try again"
                )));
            }
            Ok(RevocationOutcome::Blocked(Blocker::HeldBy(sinks))) => {
                let message = self.held_message(&rotation, &sinks, &lock.others);
                return Err(CommandError::Rejected(message));
            }
            Ok(RevocationOutcome::Blocked(Blocker::NotDue(Some(at)))) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} is in its overlap until {}: no sink held it when it was \
                     adopted, but its consumers may still use it; hint: wait, or add --force to \
                     revoke it anyway",
                    time::to_text(at)
                )));
            }
            Ok(RevocationOutcome::Reconfigured) => {
                return Err(CommandError::Rejected(format!(
                    "the configuration changed before {credential} was revoked; hint: try again"
                )));
            }
            Ok(RevocationOutcome::LedgerChanged) => {
                return Err(CommandError::Rejected(format!(
                    "{LEDGER_CHANGED} before {credential} was revoked; hint: run `rekeyd status`"
                )));
            }
            Ok(RevocationOutcome::OtherName(other)) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} was not revoked: {}; hint: {}",
                    other.message(),
                    other.advice(credential)
                )));
            }
            Ok(RevocationOutcome::HeldElsewhere(held)) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} was not revoked: {}; hint: {}; or add --force to revoke it \
                     anyway",
                    held.message(),
                    held.advice(credential)
                )));
            }
            Ok(RevocationOutcome::Blocked(Blocker::MayBeInUse)) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} may be rekeyd's own admin key: this process does not \
                     know its secret, and the end that the provider shows does not rule it out; \
                     hint: if it is another one, run `rekeyd revoke {credential} --force`"
                )));
            }
            Ok(RevocationOutcome::Blocked(_) | RevocationOutcome::Deferred(_)) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} is rekeyd's own admin key, which rekeyd never revokes"
                )));
            }
            Err(error) => return Err(CommandError::Provider(error)),
        }
        let event = match rotation.phase {
            Phase::Orphaned => LifecycleEvent::Deleted,
            Phase::Intended
            | Phase::Created
            | Phase::Verified
            | Phase::Current
            | Phase::Retired
            | Phase::Stranded
            | Phase::Revoked
            | Phase::Failed => LifecycleEvent::RevokedManually,
        };
        let notice = OperatorNotice::new(
            AlertKind::RevokedManually,
            Some(credential.clone()),
            operator.as_ref(),
            format!("revoked {credential} of {}", self.state.key),
        );
        let transition = Transition {
            operator,
            ..Transition::new(&rotation.id, event)
        };
        let mut changes = vec![Change::from(transition)];
        if !self.holding_sinks(&lock, &rotation, &metadata).is_empty() {
            // If it is found alive later, it is revoked again although sinks hold it.
            changes.push(Change::from(ImmediateRevocation {
                rotation: rotation.id.clone(),
            }));
        }
        self.record(changes).await?;
        self.notices.push(notice);
        Ok(format!("revoked {credential}"))
    }

    /// Describes why a credential that `sinks` may hold is not revoked, and what to do.
    fn held_message(
        &self,
        rotation: &Rotation,
        sinks: &[SinkId],
        others: &[OtherHolder],
    ) -> String {
        let credential = rotation.credential.as_ref();
        let credential = credential.map_or("the credential", |held| held.id.as_str());
        let key = &self.state.key;
        let names = join_few(sinks);
        // It ends then whatever its sinks hold, its overlap and other keys.
        if let Some(deadline) = rotation.deadline {
            let end = describe_deadline(deadline, self.now());
            let is_replaced = has_verified_successor(rotation, &self.state, deadline);
            let once = if is_replaced || self.managed.is_none() {
                ""
            } else if deadline.at > self.now() {
                " if a new credential is verified by then"
            } else {
                ", which waits for a new credential that is verified"
            };
            return format!(
                "{credential} may be held by {names}; it may have leaked, and {end}{once}; hint: wait (`rekeyd status {key}`), or add --force to revoke it now"
            );
        }
        let unmoved = others.iter().find(|other| {
            other.rotation.phase != Phase::Retired
                && !has_newer_current(&other.rotation, &other.key)
        });
        if let Some(unmoved) = unmoved {
            let other = &unmoved.key.key;
            let step = if unmoved.policy.is_some() {
                format!("; hint: run `rekeyd rotate {other}`, and wait until its overlap ends")
            } else {
                format!(
                    ", which is not configured, so nothing replaces it there; hint: make sure that \
                     nothing uses it any more, then run `rekeyd retire {other}`"
                )
            };
            return format!(
                "{credential} may be held by {names}; it is also a credential of {other}{step}; \
                 or add --force to revoke it anyway"
            );
        }
        if let Some(retirement) = self.state.retirement {
            let step = if retirement.is_immediate {
                format!("wait (`rekeyd status {key}` shows for what)")
            } else {
                format!("wait, or run `rekeyd retire {key} --now` to end its overlap")
            };
            return format!(
                "{credential} may be held by {names}, and {key} is retired; {}; hint: {step}; or \
                 add --force to revoke it anyway",
                self.describe_end()
            );
        }
        if self.managed.is_none() {
            return format!(
                "{credential} may be held by {names}, and {key} is not configured, so nothing \
                 replaces it there; hint: make sure that nothing uses it any more, then run \
                 `rekeyd retire {key}`, or add --force to revoke it now"
            );
        }
        if rotation.phase != Phase::Retired {
            let advice = held_advice(rotation, &self.state);
            return format!(
                "{credential} may be held by {names}; hint: {advice}; if it has leaked, run \
                 `rekeyd rotate {key} --revoke-previous-within 30s`; or add --force to revoke it \
                 anyway"
            );
        }
        let retired_at = rotation.retired_at.map(time::to_text).unwrap_or_default();
        let overlap = overlap_or_default(self.managed.as_ref().map(|key| key.policy.as_ref()));
        let held = match sink_hold(rotation, &self.state, overlap) {
            SinkHold::Until(at) => format!(
                "is in its overlap until {}: consumers of {names}",
                time::to_text(time::next_whole_second(at))
            ),
            SinkHold::None | SinkHold::Indefinite => {
                format!("is held by {names} until a newer one is delivered there: its consumers")
            }
        };
        format!(
            "{credential} was replaced at {retired_at} and {held} may still use it; \
             hint: wait; if it has leaked, run `rekeyd rotate {key} --revoke-previous-within \
             30s`; or add --force to revoke it anyway"
        )
    }

    fn holding_sinks(
        &self,
        lock: &LockedCredential,
        rotation: &Rotation,
        credential: &CredentialMetadata,
    ) -> Vec<SinkId> {
        let reason = RevocationReason::Operator { force: true };
        let candidate = self.candidate(lock, credential, Some(rotation), reason);
        holding_sinks(&candidate, &Observation::default(), self.now())
    }

    async fn hold(
        &mut self,
        credential: Option<&CredentialId>,
        until: Option<Timestamp>,
        authority: Authority,
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        if until.is_some_and(|until| until <= self.now()) {
            let key = &self.state.key;
            return Err(CommandError::Rejected(format!(
                "cannot hold {key} until a time in the past; hint: `rekeyd release` ends a hold"
            )));
        }
        // A hold that is granted must not meet a deletion that another key's worker sends.
        let present = self.present_credentials();
        let held = present.filter(|present| credential.is_none_or(|id| present == id));
        let held = held.collect();
        let locks = self.lock_credentials(held).await?;
        let is_selected = |rotation: &&Rotation| {
            let recorded = rotation.credential.as_ref();
            recorded.is_some_and(|recorded| credential.is_none_or(|id| recorded.id == *id))
        };
        let live = self.state.live.iter();
        let mut selected: Vec<_> = live.filter(is_selected).cloned().collect();
        if selected.is_empty() {
            return Err(CommandError::Rejected(match credential {
                Some(credential) => format!(
                    "this ledger has no live credential {credential}; hint: `rekeyd history` \
                     lists every credential"
                ),
                None => format!("{} has no live credential", self.state.key),
            }));
        }
        let ending = selected.iter().filter_map(|rotation| rotation.deadline);
        if let Some(deadline) = ending.min_by_key(|deadline| deadline.at)
            && until.is_some()
        {
            return Err(CommandError::Rejected(format!(
                "{} may have leaked and {}; a hold cannot prevent that",
                credential.map_or(self.state.key.as_str(), CredentialId::as_str),
                describe_deadline(deadline, self.now())
            )));
        }
        let now = self.now();
        if until.is_none() {
            selected.retain(|rotation| rotation.hold(now).is_some());
        }
        if selected.is_empty() {
            let key = &self.state.key;
            return Ok(match credential {
                Some(credential) => format!("{key}: {credential} is not on hold"),
                None => format!("{key}: no credential is on hold"),
            });
        }
        // The answer names the end that is recorded.
        let until = until.map(|until| {
            visible_hold_end(until).map_or(HELD_UNTIL_RELEASED, time::next_whole_second)
        });
        let exposed = selected
            .iter()
            .filter(|row| ends_hold_earlier(row, until, now));
        let exposed = exposed.filter(|row| is_adopted(row, &locks));
        let exposed = exposed.filter_map(Rotation::credential);
        let exposed: Vec<_> = exposed.map(|adopted| adopted.id.clone()).collect();
        if authority < Authority::Destroy
            && let Some(adopted) = exposed.first()
        {
            return Err(CommandError::Rejected(refuse_release(adopted)));
        }
        let notices: Vec<_> = exposed
            .iter()
            .map(|adopted| release_notice(adopted, &self.state.key, until, operator.as_ref()))
            .collect();
        let changes = selected.iter().map(|rotation| {
            Change::from(CredentialHold {
                rotation: rotation.id.clone(),
                until,
                operator: operator.clone(),
            })
        });
        self.record(changes.collect()).await?;
        self.notices.extend(notices);
        let credentials = selected.iter().filter_map(|one| one.credential.as_ref());
        let ids = join_few(credentials.map(|credential| &credential.id));
        let key = &self.state.key;
        Ok(match until {
            Some(until) if visible_hold_end(until).is_none() => {
                let what = credential.map_or(self.state.key.as_str(), CredentialId::as_str);
                format!("{key}: holding {ids} until `rekeyd release {what}`")
            }
            Some(until) => {
                let until = time::to_text(time::next_whole_second(until));
                format!("{key}: holding {ids} until {until}")
            }
            None => format!("{key}: released {ids}"),
        })
    }

    async fn pause(
        &mut self,
        until: Option<Timestamp>,
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        let (now, key) = (self.now(), self.state.key.clone());
        let until = until.map(time::next_whole_second);
        if until.is_some_and(|until| until <= now) {
            return Err(CommandError::Rejected(format!(
                "cannot pause {key} until a time in the past"
            )));
        }
        // An extended pause keeps its start.
        let active = self.state.pause.filter(|pause| pause.is_active(now));
        let from = active.map_or(time::whole_seconds(now), |pause| pause.from);
        let pause = Pause { from, until };
        self.record(vec![Change::from(PauseUpdate { pause, operator })])
            .await?;
        let mut message = match until {
            Some(until) => format!("{key}: paused until {}", time::to_text(until)),
            None => format!("{key}: paused until `rekeyd resume {key}`"),
        };
        if self.state.open_rotation().is_some() {
            message.push_str("; the open rotation still finishes");
        }
        if let Some((last_quarter, end)) = expiry_window(&self.state)
            && until.is_none_or(|until| last_quarter < until)
        {
            message.push_str(&format!(
                "\nwarning: its credential expires at {}, so {key} is rotated from {} on despite \
                 the pause",
                time::to_text(end),
                time::to_text(last_quarter)
            ));
        }
        Ok(message)
    }

    async fn resume(&mut self, operator: Option<OperatorNote>) -> Result<String, CommandError> {
        let (now, key) = (self.now(), self.state.key.clone());
        let Some(pause) = self.state.pause.filter(|pause| pause.is_active(now)) else {
            return Ok(format!("{key} is not paused"));
        };
        let pause = Pause {
            until: Some(time::whole_seconds(now)),
            ..pause
        };
        self.record(vec![Change::from(PauseUpdate { pause, operator })])
            .await?;
        Ok(if self.managed.is_some() {
            format!("{key}: resumed")
        } else {
            format!("{key}: resumed, but it is not configured, so nothing rotates it")
        })
    }
}

/// Returns whether a hold until `until`, or its end with none, leaves a credential that is on
/// hold `now` without one earlier.
fn ends_hold_earlier(row: &Rotation, until: Option<Timestamp>, now: Timestamp) -> bool {
    let held = row.hold_until.filter(|held| *held > now);
    held.is_some_and(|held| until.is_none_or(|until| until < held))
}

/// Returns whether this key or another one adopted the credential of a row.
fn is_adopted(row: &Rotation, locks: &[LockedCredential]) -> bool {
    let id = row.credential().map(|credential| &credential.id);
    let others = locks.iter().flat_map(|lock| &lock.others);
    let others = others.map(|other| &other.rotation);
    let mut rows = others.filter(|other| other.credential().map(|one| &one.id) == id);
    row.trigger == Trigger::Adopted || rows.any(|other| other.trigger == Trigger::Adopted)
}

/// Says why an operator may not end the hold of an adopted credential, which the schedule
/// would then revoke.
fn refuse_release(credential: &CredentialId) -> String {
    format!(
        "the hold of {credential} was not changed: {credential} was adopted, and its hold keeps it \
         alive, which an operator may not end; hint: use `sudo rekeyd release {credential}`, or \
         have one of your groups added to super-admins in [control]"
    )
}

fn release_notice(
    credential: &CredentialId,
    key: &KeyName,
    until: Option<Timestamp>,
    operator: Option<&OperatorNote>,
) -> OperatorNotice {
    let done = match until {
        None => format!("ended the hold of {credential} of {key}, which was adopted"),
        Some(until) => format!(
            "shortened the hold of {credential} of {key}, which was adopted, to {}",
            time::to_text(until)
        ),
    };
    OperatorNotice::new(
        AlertKind::Released,
        Some(credential.clone()),
        operator,
        done,
    )
}

/// What an operator orders to be revoked.
struct RevocationOrder {
    credential: CredentialId,
    force: bool,
    /// The name that root has confirmed.
    confirmed: Option<String>,
    authority: Authority,
}

/// Returns what a credential is that an operator may not revoke: one that a person made, or
/// that a key uses now.
fn beyond_operating(key: &KeyName, rotation: &Rotation, others: &[OtherHolder]) -> Option<String> {
    let is_current = |rotation: &Rotation| rotation.phase == Phase::Current;
    let mut others = others.iter();
    if rotation.trigger == Trigger::Adopted {
        return Some("it was adopted".to_owned());
    }
    if is_current(rotation) {
        return Some(format!("it is the current credential of {key}"));
    }
    let other = others.find(|other| is_current(&other.rotation))?;
    Some(format!("it is the current credential of {}", other.key.key))
}

/// Returns what to do before a credential that sinks may hold is revoked: if a rotation is
/// open, waiting for it is right only where it replaces the credential.
fn held_advice(rotation: &Rotation, key: &KeyState) -> String {
    let name = &key.key;
    match key.open_rotation() {
        Some(open) if open.id == rotation.id => format!(
            "wait until it is delivered (`rekeyd status {name}`), then run `rekeyd rotate {name}`"
        ),
        Some(open) if open.sequence > rotation.sequence => format!(
            "wait until the newer one is delivered and the overlap ends (`rekeyd status {name}`)"
        ),
        Some(_) | None => {
            format!("run `rekeyd rotate {name}`, and wait until the overlap ends")
        }
    }
}

#[cfg(test)]
mod tests;
