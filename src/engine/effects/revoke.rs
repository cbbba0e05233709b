//! Revokes credentials: makes the observations that the decision needs, and sends the
//! deletion.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use crate::core::active_credential::CredentialUsage;
use crate::core::change::{
    Change, CredentialName, MissingCredential, RevocationDeferral, Transition,
};
use crate::core::condition::Condition;
use crate::core::decide::revocation::{
    Blocker, Candidate, DeferReason, Deferral, Identity, Observation, ObservationPart, OtherHolder,
    RemoteAnswer, Revocation, RevocationReason, decide, describe_unmoved, leak_reason,
};
use crate::core::gate::RequestClass;
use crate::core::ids::{CredentialId, RotationId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::RetryClass;
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, DeferralKind, Rotation};
use crate::core::time;
use crate::engine::conditions::{Conditions, clock_mismatch_message};
use crate::engine::credential_locks::LockedCredential;
use crate::engine::effects::held_elsewhere::{HeldElsewhere, Holder, evidence_of};
use crate::engine::effects::{redacted_value_of, retry_delay};
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{ErrorKind, ListedCredential, ProviderError, ProviderResponse};

/// The error of a deletion that must be sent again.
pub(super) const STILL_SHOWN: &str = "the provider still shows it after deleting it";

/// The reason why a deletion is not sent yet.
pub(super) const RECONFIGURED: &str = "the configuration changed";

/// Why a revocation is not executed whose ledger changed.
pub(super) const LEDGER_CHANGED: &str = "another program changed the ledger";

/// The outcome of a revocation.
pub(super) enum RevocationOutcome {
    /// The credential was deleted, and the provider does not have it any more.
    Deleted,
    /// The provider did not have the credential.
    AlreadyGone,
    /// The provider still shows the credential after deleting it.
    StillShown,
    /// The revocation is decided again later.
    Deferred(Deferral),
    /// The credential is not revoked.
    Blocked(Blocker),
    /// The provider does not show the credential under its recorded name.
    OtherName(OtherName),
    /// The files of sinks hold the credential, although no row says so.
    HeldElsewhere(HeldElsewhere),
    /// The configuration changed after the observation: the revocation is decided again
    /// by the new one.
    Reconfigured,
    /// The ledger's files changed after the observation: the next work finds out how.
    LedgerChanged,
}

/// How the provider shows the credential that a row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnIdentity {
    /// Under its recorded name, or the row has none.
    Confirmed,
    /// Under another name.
    OtherName,
    /// Not at all.
    Absent,
}

/// A credential that is kept because the provider shows another name of it.
pub(super) struct OtherName {
    recorded: Option<String>,
    /// The name that the provider shows; empty if it shows none.
    pub(super) shown: String,
    /// When the revocation is decided again.
    until: Timestamp,
}

impl OtherName {
    /// Returns the problem for people.
    pub(super) fn message(&self) -> String {
        let recorded = self.recorded.as_deref().unwrap_or("an unknown name");
        match self.shown.as_str() {
            "" => format!(
                "the provider shows it without a name, and its creation time does not prove that \
                 it is {recorded}"
            ),
            shown => format!("the provider shows it as {shown:?}, not as {recorded:?}"),
        }
    }

    /// Returns the command that revokes the credential nevertheless.
    pub(super) fn advice(&self, credential: &CredentialId) -> String {
        format!(
            "it may not be rekeyd's, so compare it at the provider; to revoke it anyway, run as \
             root: rekeyd revoke {credential} --force --name {:?}",
            self.shown
        )
    }
}

/// The names by which a credential is recognized.
#[derive(Clone, Copy, Default)]
pub(super) struct ExpectedName<'a> {
    /// The recorded name; of a double the label that it bears.
    pub(super) recorded: Option<&'a str>,
    /// The name that an operator has confirmed.
    pub(super) confirmed: Option<&'a str>,
    /// Whether the recorded time of creation proves the credential where no name is shown.
    pub(super) is_proven_by_time: bool,
}

impl<'a> ExpectedName<'a> {
    /// Returns the recorded name of a rotation's credential.
    pub(super) fn of_rotation(rotation: &'a Rotation, conditions: &Conditions) -> Self {
        Self {
            recorded: rotation.name.as_deref(),
            confirmed: None,
            is_proven_by_time: rotation.is_proven_by_time(conditions.shows_precise_times()),
        }
    }
}

/// A decision with its observations.
pub(super) struct DecidedRevocation {
    pub(super) revocation: Revocation,
    pub(super) observation: Observation,
    /// The redacted value that the credential was compared by.
    redacted: Option<String>,
    /// The name that the provider shows.
    shown_name: Option<String>,
    /// The files that hold the credential, although no row says so.
    holders: Vec<Holder>,
}

impl Worker {
    /// Revokes the credential of a rotation that is due.
    pub(crate) async fn revoke(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let is_recheck = self.rechecks.remove(rotation);
        let recorded = self.state.rotation(rotation).and_then(Rotation::credential);
        let id = recorded.map(|credential| credential.id.clone());
        let lock = match &id {
            Some(id) => Some(self.lock_credential(id).await?),
            None => None,
        };
        let row = self.state.rotation(rotation).cloned();
        if row.is_none() && lock.is_some() {
            // Another key's worker ended all rows of the credential.
            return Ok(());
        }
        let Some((lock, (row, credential, reason))) = lock.zip(row.and_then(|row| {
            let credential = row.credential.clone()?;
            let reason = leak_reason(&row, &self.state, self.now());
            let reason = reason.or_else(|| RevocationReason::of_rotation(&row, &self.state))?;
            Some((row, credential, reason))
        })) else {
            return Err(LedgerError::Corrupt(format!(
                "no credential to revoke for the rotation {rotation}"
            )));
        };
        // A returned sink still holds its credential, and its return is recorded only
        // once the provider's time is known.
        let is_leaked = matches!(reason, RevocationReason::Leaked { .. });
        if !is_leaked
            && self.needs_sink_sync
            && self.retrieve(&credential).await.is_ok()
            && self.has_provider_time()
        {
            self.rechecks.extend(is_recheck.then(|| rotation.clone()));
            return Ok(());
        }
        let Some(row) = self.record_missing_name(row).await? else {
            self.rechecks.extend(is_recheck.then(|| rotation.clone()));
            return Ok(());
        };
        if reason == RevocationReason::Orphan && self.end_sightings_of_orphan(&row).await? {
            return Ok(());
        }
        let name = ExpectedName::of_rotation(&row, &self.services.conditions);
        let outcome = self
            .revoke_if_allowed(&lock, &credential, Some(&row), reason, name)
            .await;
        let change = match outcome {
            Ok(RevocationOutcome::Deleted | RevocationOutcome::AlreadyGone) => {
                Change::from(Transition::new(rotation, deletion_event(row.phase)))
            }
            Ok(RevocationOutcome::StillShown) => {
                self.schedule_retry(rotation, RetryClass::Provider, STILL_SHOWN, None)
            }
            Ok(RevocationOutcome::Deferred(deferral)) => {
                let deferral = deferral.for_reason(reason, self.now());
                let text = if deferral.reason == DeferReason::UsedByOtherKey {
                    let candidate = self.candidate(&lock, &credential, Some(&row), reason);
                    describe_unmoved(&candidate, self.now())
                } else {
                    deferral.message()
                };
                let changes = self.deferral_changes(rotation, &deferral, text);
                return self.record(changes).await;
            }
            Ok(RevocationOutcome::OtherName(other)) => {
                let advice = other.advice(&credential.id);
                Change::from(RevocationDeferral {
                    rotation: rotation.clone(),
                    retry_at: other.until,
                    kind: DeferralKind::OtherName,
                    reason: format!("{}; {advice}", other.message()),
                    final_warning: false,
                })
            }
            Ok(RevocationOutcome::HeldElsewhere(held)) => {
                // The check records since when its own file holds it.
                let mut keys = held.holders.iter().map(|holder| &holder.key);
                self.needs_drift_check |= keys.any(|key| *key == self.state.key);
                let mut changes = self.sightings_of_orphan(&row, &held.holders);
                changes.push(Change::from(RevocationDeferral {
                    rotation: rotation.clone(),
                    retry_at: held.until,
                    kind: held.kind,
                    reason: held.deferral_reason(&credential.id),
                    final_warning: held.final_warning,
                }));
                return self.record(changes).await;
            }
            // A change of the ledger or of a condition leads to another decision, and
            // so may the new configuration.
            Ok(RevocationOutcome::Blocked(blocker)) => {
                self.log_not_revoked(rotation, &credential, &blocker);
                return Ok(());
            }
            Ok(RevocationOutcome::Reconfigured) => {
                self.log_not_revoked(rotation, &credential, &RECONFIGURED);
                return Ok(());
            }
            Ok(RevocationOutcome::LedgerChanged) => {
                self.log_not_revoked(rotation, &credential, &LEDGER_CHANGED);
                return Ok(());
            }
            Err(error) if self.is_global_failure(&error).await => {
                // It is decided when the condition has ended.
                self.rechecks.extend(is_recheck.then(|| rotation.clone()));
                return Ok(());
            }
            Err(error) => {
                // A reconciliation shows whether that concerns every credential.
                self.needs_follow_up |= error.kind == ErrorKind::NotFound;
                let text = error.to_string();
                self.schedule_retry(rotation, RetryClass::Provider, &text, retry_delay(&error))
            }
        };
        self.record(vec![change]).await
    }

    /// Logs for somebody who looks for the cause why a credential stays, without a record.
    fn log_not_revoked(
        &self,
        rotation: &RotationId,
        credential: &CredentialMetadata,
        reason: &dyn std::fmt::Display,
    ) {
        let (name, id) = (&self.state.key, &credential.id);
        tracing::debug!(
            key = %name, %rotation, credential = %id,
            "{name}: {id} is not revoked now: {reason}"
        );
    }

    /// Decides whether a credential is revoked, and deletes it if it is. Every deletion
    /// passes through here. The caller keeps the lock until it has recorded the outcome.
    pub(super) async fn revoke_if_allowed(
        &self,
        lock: &LockedCredential,
        credential: &CredentialMetadata,
        rotation: Option<&Rotation>,
        reason: RevocationReason,
        name: ExpectedName<'_>,
    ) -> Result<RevocationOutcome, ProviderError> {
        let decided = self
            .decide_revocation(lock, credential, rotation, reason, name)
            .await?;
        let other_name = |until| {
            RevocationOutcome::OtherName(OtherName {
                recorded: name.recorded.map(str::to_owned),
                shown: decided.shown_name.clone().unwrap_or_default(),
                until,
            })
        };
        let held_elsewhere = |until, kind, revoked_at, final_warning| {
            RevocationOutcome::HeldElsewhere(HeldElsewhere {
                holders: decided.holders.clone(),
                kind,
                until,
                revoked_at,
                final_warning,
            })
        };
        match decided.revocation {
            Revocation::Delete => self.send_deletion(credential, reason, &decided).await,
            Revocation::AlreadyGone => Ok(RevocationOutcome::AlreadyGone),
            Revocation::Defer(deferral) if deferral.reason == DeferReason::OtherName => {
                Ok(other_name(deferral.until))
            }
            Revocation::Defer(deferral) => Ok(match deferral.reason.end_by_files() {
                Some(end) => held_elsewhere(
                    deferral.until,
                    deferral.reason.kind(),
                    end,
                    deferral.final_warning,
                ),
                None => RevocationOutcome::Deferred(deferral),
            }),
            Revocation::Blocked(Blocker::HeldElsewhere) => Ok(held_elsewhere(
                self.now(),
                DeferralKind::HeldElsewhere,
                None,
                false,
            )),
            Revocation::Blocked(Blocker::OtherName) => Ok(other_name(self.now())),
            Revocation::Blocked(blocker) => Ok(RevocationOutcome::Blocked(blocker)),
            // `decide_revocation` never returns this variant.
            Revocation::Observe(_) => Ok(RevocationOutcome::Blocked(Blocker::NotDue(None))),
        }
    }

    /// Makes the observations that the decision needs, one by one, until it is made.
    pub(super) async fn decide_revocation(
        &self,
        lock: &LockedCredential,
        credential: &CredentialMetadata,
        rotation: Option<&Rotation>,
        reason: RevocationReason,
        name: ExpectedName<'_>,
    ) -> Result<DecidedRevocation, ProviderError> {
        let mut shown_name = None;
        let mut holders = Vec::new();
        let mut observation = Observation::default();
        let mut redacted = redacted_value_of(None, credential);
        loop {
            let candidate = self.candidate(lock, credential, rotation, reason);
            let revocation = decide(&candidate, &observation, self.now());
            match revocation {
                Revocation::Observe(ObservationPart::Credential) => {
                    let mut answer = self.retrieve(credential).await?;
                    // One 404 may come from a stale replica, and nothing repeats what
                    // an operator said.
                    if answer.value.is_none() && reason.is_by_operator() {
                        answer = self.retrieve(credential).await?;
                    }
                    // Where an operator insists, the answer to the deletion counts.
                    let is_forced = reason == RevocationReason::Operator { force: true };
                    if answer.value.is_none() && !is_forced {
                        // A double is revoked an overlap later, which what leaked cannot
                        // wait for.
                        let label = rotation.and_then(|rotation| rotation.label.as_ref());
                        let label = label.filter(|_| is_ended_by_order(reason));
                        self.confirm_absence(&credential.id, label).await?;
                    }
                    let listed = answer.value.as_ref();
                    redacted = redacted_value_of(listed, credential);
                    shown_name = listed.and_then(|listed| listed.name.clone());
                    observation.server_time = answer.server_time;
                    observation.credential =
                        Some(
                            listed.map_or(RemoteAnswer::Gone, |listed| RemoteAnswer::Live {
                                last_use: listed.last_use(),
                                identity: identify(credential, listed, name),
                            }),
                        );
                }
                Revocation::Observe(ObservationPart::Usage) => {
                    observation.usage = Some(
                        self.observe_usage(&credential.id, redacted.as_deref())
                            .await?,
                    );
                }
                Revocation::Observe(ObservationPart::Successor) => {
                    observation.successor_exists = Some(self.successors_exist(&lock.others).await?);
                }
                Revocation::Observe(ObservationPart::Files) => {
                    let searched = CredentialMetadata {
                        redacted_value: redacted.clone(),
                        ..credential.clone()
                    };
                    holders = self.find_holders(&searched, &candidate).await;
                    observation.files = Some(evidence_of(&holders));
                }
                Revocation::Delete
                | Revocation::AlreadyGone
                | Revocation::Defer(_)
                | Revocation::Blocked(_) => {
                    if revocation == Revocation::Blocked(Blocker::Clock) {
                        let problem = clock_mismatch_message(observation.server_time, self.now());
                        self.services.conditions.raise(Condition::Clock, &problem);
                    }
                    return Ok(DecidedRevocation {
                        revocation,
                        observation,
                        redacted,
                        shown_name,
                        holders,
                    });
                }
            }
        }
    }

    /// Records the name of an adopted credential whose name was not known. Returns the
    /// row afterwards; none if it could not be asked for.
    pub(super) async fn record_missing_name(
        &mut self,
        row: Rotation,
    ) -> Result<Option<Rotation>, LedgerError> {
        let Some(credential) = row.credential.clone().filter(|_| row.name.is_none()) else {
            return Ok(Some(row));
        };
        let name = match self.retrieve(&credential).await {
            Ok(answer) => answer.value.and_then(|listed| listed.name),
            Err(error) if self.is_global_failure(&error).await => return Ok(None),
            Err(error) => {
                let (text, after) = (error.to_string(), retry_delay(&error));
                let change = self.schedule_retry(&row.id, RetryClass::Provider, &text, after);
                self.record(vec![change]).await?;
                return Ok(None);
            }
        };
        if let Some(name) = name {
            let named = CredentialName {
                rotation: row.id.clone(),
                name,
            };
            self.record(vec![Change::from(named)]).await?;
        }
        Ok(self.state.rotation(&row.id).cloned())
    }

    /// Returns whether the provider shows a rotation's credential under its recorded
    /// name: only then can another one with its label be a double.
    pub(super) async fn identify_own(&self, row: &Rotation) -> Result<OwnIdentity, ProviderError> {
        let Some(credential) = &row.credential else {
            return Ok(OwnIdentity::Confirmed);
        };
        let answer = self.retrieve(credential).await?;
        let name = ExpectedName::of_rotation(row, &self.services.conditions);
        Ok(match answer.value {
            None => OwnIdentity::Absent,
            Some(listed) if identify(credential, &listed, name) == Identity::Confirmed => {
                OwnIdentity::Confirmed
            }
            Some(_) => OwnIdentity::OtherName,
        })
    }

    pub(super) fn candidate<'a>(
        &'a self,
        lock: &'a LockedCredential,
        credential: &'a CredentialMetadata,
        rotation: Option<&'a Rotation>,
        reason: RevocationReason,
    ) -> Candidate<'a> {
        Candidate {
            key: &self.state,
            rotation,
            credential: &credential.id,
            others: &lock.others,
            policy: self.managed.as_ref().map(|managed| managed.policy.as_ref()),
            reason,
            is_clock_trusted: self
                .services
                .conditions
                .permits(&self.context.scope)
                .can_trust_clock,
        }
    }

    pub(crate) async fn retrieve(
        &self,
        credential: &CredentialMetadata,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        let answer = self.services.provider.retrieve(&credential.id).await;
        self.observe_response(&answer);
        if let Ok(ProviderResponse {
            value: Some(listed),
            ..
        }) = &answer
        {
            let conditions = &self.services.conditions;
            conditions.report_unreadable_times(&listed.unreadable_times);
            self.observe_end(listed);
        }
        answer
    }

    /// Sends a deletion, and checks that the credential is gone. No other function of
    /// rekeyd sends one.
    ///
    /// A fall-back or a reload may have taken the credential into use since the
    /// observation, so its usage is checked once more. No `.await` separates this check
    /// from the start of the request: `delete` reads the credential that it authenticates
    /// with before it first waits. A reload may also have returned a sink that holds the
    /// credential, or set a longer overlap.
    async fn send_deletion(
        &self,
        credential: &CredentialMetadata,
        reason: RevocationReason,
        decided: &DecidedRevocation,
    ) -> Result<RevocationOutcome, ProviderError> {
        let (id, reason) = (&credential.id, reason.as_str());
        tracing::trace!(key = %self.state.key, credential = %id, "{}: deleting {id} ({reason})", self.state.key);
        // The observations took time, and no commit checked the ledger meanwhile.
        if self.services.ledger.check_files().await.is_err() {
            return Ok(RevocationOutcome::LedgerChanged);
        }
        let observed = decided.observation.usage;
        let provider = &self.services.provider;
        let usage = provider.usage(id, decided.redacted.as_deref());
        if usage != CredentialUsage::Unused && Some(usage) != observed {
            let deferral = Deferral::self_credential(usage, self.now());
            return Ok(RevocationOutcome::Deferred(deferral));
        }
        if self.interrupted.load(Ordering::Relaxed) {
            return Ok(RevocationOutcome::Reconfigured);
        }
        let deleted = self.services.provider.delete(&credential.id).await;
        self.observe_response(&deleted);
        deleted?;
        if let Some(pass) = self.passes.get(&RequestClass::Delete) {
            pass.succeed();
        }
        let after = self.retrieve(credential).await?;
        let was_shown = decided.observation.credential != Some(RemoteAnswer::Gone);
        if after.value.is_none() && !was_shown {
            self.confirm_absence(&credential.id, None).await?;
        }
        Ok(if after.value.is_none() {
            RevocationOutcome::Deleted
        } else {
            RevocationOutcome::StillShown
        })
    }

    /// Observes whether rekeyd authenticates with a credential. rekeyd may have fallen
    /// back to it, or may have to: a check request makes it switch to a newer one that
    /// works.
    pub(super) async fn observe_usage(
        &self,
        id: &CredentialId,
        redacted: Option<&str>,
    ) -> Result<CredentialUsage, ProviderError> {
        let provider = &self.services.provider;
        if provider.usage(id, redacted) == CredentialUsage::Unused {
            return Ok(CredentialUsage::Unused);
        }
        let answer = provider.check().await;
        self.observe_response(&answer);
        answer?;
        let usage = provider.usage(id, redacted);
        let generation = provider.own_credential_generation();
        let is_listed = self.context.compared_with == Some(generation);
        if usage == CredentialUsage::MayBeInUse
            && !is_listed
            && self.services.conditions.wants_list_of_ends(generation)
        {
            // The list shows rekeyd's own credential, and so how the provider shows ends.
            let listed = provider.list(&Scope::AdminKeys).await;
            self.observe_response(&listed);
            if let Err(error) = listed {
                self.services.conditions.forget_list_of_ends();
                return Err(error);
            }
            return Ok(provider.usage(id, redacted));
        }
        Ok(usage)
    }

    /// Returns whether the provider has the key's current credential, and those of other
    /// keys that have the credential to revoke. A retired key needs none.
    async fn successors_exist(&self, others: &[OtherHolder]) -> Result<bool, ProviderError> {
        let keys = std::iter::once(&self.state).chain(others.iter().map(|other| &other.key));
        for key in keys.filter(|key| !key.is_retired()) {
            let current = key.current();
            let Some(credential) = current.and_then(Rotation::credential) else {
                return Ok(false);
            };
            if self.retrieve(credential).await?.value.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn deferral_changes(
        &self,
        rotation: &RotationId,
        deferral: &Deferral,
        text: String,
    ) -> Vec<Change> {
        let mut changes = vec![Change::from(RevocationDeferral {
            rotation: rotation.clone(),
            retry_at: deferral.until,
            kind: deferral.reason.kind(),
            reason: text,
            final_warning: deferral.final_warning,
        })];
        if deferral.reason == DeferReason::SuccessorMissing
            && let Some(current) = self.state.current()
            && current.missing.is_none()
        {
            changes.push(Change::from(MissingCredential {
                rotation: current.id.clone(),
                missing: self.missing_since(current),
            }));
        }
        changes
    }
}

/// Returns the event of a deletion: what ends at a deadline may be current or stranded.
const fn deletion_event(phase: Phase) -> LifecycleEvent {
    match phase {
        Phase::Created | Phase::Verified | Phase::Current | Phase::Stranded => {
            LifecycleEvent::RevokedManually
        }
        Phase::Intended | Phase::Retired | Phase::Orphaned | Phase::Revoked | Phase::Failed => {
            LifecycleEvent::Deleted
        }
    }
}

/// Returns whether a person ordered the end of the credential.
const fn is_ended_by_order(reason: RevocationReason) -> bool {
    matches!(
        reason,
        RevocationReason::Leaked { .. } | RevocationReason::Operator { .. }
    )
}

pub(super) fn identify(
    recorded: &CredentialMetadata,
    listed: &ListedCredential,
    name: ExpectedName<'_>,
) -> Identity {
    let created_at = |metadata: &CredentialMetadata| metadata.created_at.map(time::whole_seconds);
    Identity::compare(
        (
            name.recorded,
            created_at(recorded).filter(|_| name.is_proven_by_time),
        ),
        (listed.name.as_deref(), created_at(&listed.metadata)),
        name.confirmed,
    )
}
