//! Executes operator commands.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use crate::core::change::{
    Change, CredentialHold, ImmediateRevocation, OperatorNote, PauseUpdate, Transition,
};
use crate::core::decide::due::expiry_window;
use crate::core::decide::revocation::{
    Blocker, Observation, OtherHolder, RevocationReason, has_newer_current, holding_sinks,
};
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, SinkId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::{SinkHold, overlap_or_default, sink_hold};
use crate::core::state::{
    CredentialMetadata, HELD_UNTIL_RELEASED, KeyState, Pause, Rotation, visible_hold_end,
};
use crate::core::time;
use crate::engine::credential_locks::LockedCredential;
use crate::engine::effects::revoke::{ExpectedName, RevocationOutcome};
use crate::engine::operator_command::{CommandError, OperatorCommand, PendingCommand};
use crate::engine::rotation_request::RotationRequest;
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
                operator,
            } => {
                let name = name.as_deref();
                self.revoke_manually(&credential, force, name, operator)
                    .await
            }
            OperatorCommand::EndPresent {
                within,
                force,
                may_replace,
                holders,
                operator,
            } => {
                let request = RotationRequest {
                    operator,
                    revoke_previous: false,
                    may_replace,
                };
                self.end_present(within, force, &holders, request).await
            }
            OperatorCommand::Hold {
                credential,
                until,
                operator,
            } => self.hold(credential.as_ref(), until, operator).await,
            OperatorCommand::Pause { until, operator } => self.pause(until, operator).await,
            OperatorCommand::Resume { operator } => self.resume(operator).await,
            OperatorCommand::Adopt {
                credential,
                force,
                operator,
            } => self.adopt(&credential, force, operator).await,
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
        credential: &CredentialId,
        force: bool,
        confirmed: Option<&str>,
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        let lock = self.lock_credential(credential).await?;
        let Some(rotation) = self.live_rotation(credential).cloned() else {
            return Err(CommandError::Rejected(format!(
                "{credential} is not alive in this ledger; `rekeyd history` shows every one"
            )));
        };
        let Some(metadata) = rotation.credential.clone() else {
            return Err(CommandError::Rejected(format!(
                "{credential} has no credential yet"
            )));
        };
        let Some(rotation) = self.record_missing_name(rotation).await? else {
            return Err(CommandError::Rejected(format!(
                "the provider does not answer about {credential}; try again"
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
                    "the provider still shows {credential} after deleting it; try again"
                )));
            }
            Ok(RevocationOutcome::Blocked(Blocker::HeldBy(sinks))) => {
                let message = self.held_message(&rotation, &sinks, &lock.others);
                return Err(CommandError::Rejected(message));
            }
            Ok(RevocationOutcome::Blocked(Blocker::NotDue(Some(at)))) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} is in its overlap until {}: no sink held it when it was \
                     adopted, and its consumers may still use it; wait, or leave them with a \
                     dead key (--force)",
                    time::to_text(at)
                )));
            }
            Ok(RevocationOutcome::Reconfigured) => {
                return Err(CommandError::Rejected(format!(
                    "the configuration changed before {credential} was revoked; try again"
                )));
            }
            Ok(RevocationOutcome::OtherName(other)) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} is not revoked: {}; {}",
                    other.message(),
                    other.advice(credential)
                )));
            }
            Ok(RevocationOutcome::HeldElsewhere(held)) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} is not revoked: {}; {}; or leave its consumers with a dead key \
                     (--force)",
                    held.message(),
                    held.advice(credential)
                )));
            }
            Ok(RevocationOutcome::Blocked(Blocker::MayBeInUse)) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} may be what rekeyd itself works with: its secret is not known \
                     to this process, and the provider shows no end of it that differs from \
                     that of rekeyd's own; if it is another one: `rekeyd revoke {credential} \
                     --force`"
                )));
            }
            Ok(RevocationOutcome::Blocked(_) | RevocationOutcome::Deferred(_)) => {
                return Err(CommandError::Rejected(format!(
                    "{credential} is what rekeyd itself works with; it is never revoked by rekeyd"
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
        let unmoved = others.iter().find(|other| {
            other.rotation.phase != Phase::Retired
                && !has_newer_current(&other.rotation, &other.key)
        });
        if let Some(unmoved) = unmoved {
            let other = &unmoved.key.key;
            let step = if unmoved.policy.is_some() {
                format!("rotate that (`rekeyd rotate {other}`), and wait until its overlap is over")
            } else {
                "which is not configured, so nothing replaces it there".to_owned()
            };
            return format!(
                "{credential} may be held by {names}; it is also the credential of {other}: \
                 {step}; or leave its consumers with a dead key (--force)"
            );
        }
        if self.managed.is_none() && rotation.deadline.is_none() {
            return format!(
                "{credential} may be held by {names}; the key {key} is not configured, so nothing \
                 replaces it there; see that nobody uses it any more, or that another key was \
                 written in its place, and revoke it in spite of that: `rekeyd revoke \
                 {credential} --force`"
            );
        }
        if rotation.phase != Phase::Retired {
            let advice = held_advice(rotation, &self.state);
            return format!(
                "{credential} may be held by {names}; {advice}; if it has leaked: `rekeyd rotate \
                 {key} --revoke-previous-within 30s`; or leave its consumers with a dead key \
                 (--force)"
            );
        }
        if let Some(deadline) = rotation.deadline {
            let at = time::to_text(deadline.at);
            return format!(
                "{credential} may be held by {names} and ends at {at}, since it may have leaked \
                 (`rekeyd status {key}`); wait, or leave its consumers with a dead key (--force)"
            );
        }
        let retired_at = rotation.retired_at.map(time::to_text).unwrap_or_default();
        let overlap = overlap_or_default(self.managed.as_ref().map(|key| key.policy.as_ref()));
        let held = match sink_hold(rotation, &self.state, overlap) {
            SinkHold::Until(at) => format!(
                "is in its overlap until {}, held by {names}",
                time::to_text(time::next_whole_second(at))
            ),
            SinkHold::None | SinkHold::Indefinite => {
                format!("is held by {names} until that accepts a newer one")
            }
        };
        format!(
            "{credential} was replaced at {retired_at} and {held}: its consumers may still use \
             it; wait; if it has leaked: `rekeyd rotate {key} --revoke-previous-within 30s`; or \
             leave them with a dead key (--force)"
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
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        if until.is_some_and(|until| until <= self.now()) {
            let key = &self.state.key;
            return Err(CommandError::Rejected(format!(
                "nothing of {key} can be held until a time that is over; `rekeyd release` ends a hold"
            )));
        }
        // A hold that is granted must not meet a deletion that another key's worker sends.
        let present = self.present_credentials();
        let held = present.filter(|present| credential.is_none_or(|id| present == id));
        let held = held.collect();
        let _locks = self.lock_credentials(held).await?;
        let is_selected = |rotation: &&Rotation| {
            let recorded = rotation.credential.as_ref();
            recorded.is_some_and(|recorded| credential.is_none_or(|id| recorded.id == *id))
        };
        let live = self.state.live.iter();
        let selected: Vec<_> = live.filter(is_selected).cloned().collect();
        if selected.is_empty() {
            return Err(CommandError::Rejected(match credential {
                Some(credential) => format!(
                    "{credential} is not alive in this ledger; `rekeyd history` shows every one"
                ),
                None => format!("{} has no live credential", self.state.key),
            }));
        }
        let ending = selected.iter().filter_map(|rotation| rotation.deadline);
        if let Some(deadline) = ending.min_by_key(|deadline| deadline.at)
            && until.is_some()
        {
            return Err(CommandError::Rejected(format!(
                "{} may have leaked and ends at {}: a hold does not keep it",
                credential.map_or(self.state.key.as_str(), CredentialId::as_str),
                time::to_text(deadline.at)
            )));
        }
        let now = self.now();
        let is_held = selected.iter().any(|rotation| rotation.hold(now).is_some());
        if until.is_none() && !is_held {
            let what = credential.map_or(self.state.key.as_str(), CredentialId::as_str);
            return Ok(format!("{what} is not held"));
        }
        let changes = selected.iter().map(|rotation| {
            Change::from(CredentialHold {
                rotation: rotation.id.clone(),
                until: until.map(|until| {
                    visible_hold_end(until).map_or(HELD_UNTIL_RELEASED, time::next_whole_second)
                }),
                operator: operator.clone(),
            })
        });
        self.record(changes.collect()).await?;
        let credentials = selected.iter().filter_map(|one| one.credential.as_ref());
        let ids = join_few(credentials.map(|credential| &credential.id));
        Ok(match until {
            Some(until) if visible_hold_end(until).is_none() => {
                format!("the schedule does not revoke {ids} before `rekeyd release`")
            }
            Some(until) => format!(
                "the schedule does not revoke {ids} before {}",
                time::to_text(until)
            ),
            None => format!("the schedule may revoke {ids} again"),
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
                "{key} cannot be paused until a time that is over"
            )));
        }
        // An extended pause keeps its start.
        let active = self.state.pause.filter(|pause| pause.is_active(now));
        let from = active.map_or(time::whole_seconds(now), |pause| pause.from);
        let pause = Pause { from, until };
        self.record(vec![Change::from(PauseUpdate { pause, operator })])
            .await?;
        let mut message = match until {
            Some(until) => format!(
                "{key}: nothing is begun by schedule before {}",
                time::to_text(until)
            ),
            None => format!("{key}: nothing is begun by schedule before `rekeyd resume {key}`"),
        };
        if self.state.open_rotation().is_some() {
            message.push_str("; the rotation that is open is finished");
        }
        if let Some((last_quarter, end)) = expiry_window(&self.state)
            && until.is_none_or(|until| last_quarter < until)
        {
            message.push_str(&format!(
                "\nwarning: its credential ends at {}; {key} is rotated from {} on in spite of \
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
            format!("{key} is rotated by schedule again")
        } else {
            format!("{key} is not paused any more; it is not configured, so nothing rotates it")
        })
    }
}

/// Returns what to do before a credential that sinks may hold is revoked: if a rotation is
/// open, waiting for it is right only where it replaces the credential.
fn held_advice(rotation: &Rotation, key: &KeyState) -> String {
    let name = &key.key;
    match key.open_rotation() {
        Some(open) if open.id == rotation.id => format!(
            "it is being delivered (`rekeyd status {name}`): wait for that, and then rotate \
             (`rekeyd rotate {name}`)"
        ),
        Some(open) if open.sequence > rotation.sequence => format!(
            "a newer one is under way (`rekeyd status {name}`): wait until it is delivered and \
             the overlap is over"
        ),
        Some(_) | None => {
            format!("rotate (`rekeyd rotate {name}`), and wait until the overlap is over")
        }
    }
}

#[cfg(test)]
mod tests;
