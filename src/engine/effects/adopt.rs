//! Adopts credentials that were created manually, by their ids or by what the sinks
//! hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::active_credential::CredentialUsage;
use crate::core::change::{
    Adoption, Change, CredentialHold, OperatorNote, ScheduleChange, SharedHold, Transition,
};
use crate::core::decide::revocation::{OtherHolder, describe_deadline};
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::notification::AlertKind;
use crate::core::policy::InitialRotation;
use crate::core::reported_time::EXPIRY_FIELD;
use crate::core::secret::Secret;
use crate::core::state::{CredentialMetadata, HELD_UNTIL_RELEASED, KeyState, Rotation};
use crate::core::time;
use crate::engine::effects::held_keys::{
    describe_keys, holds_credential, is_any_of, shows_other_end,
};
use crate::engine::effects::retirement::retired_problem;
use crate::engine::effects::try_keys::{HeldKey, KeyAnswer, describe_refused, describe_unproven};
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_command::{
    CommandError, RecordedName, SharedListing, Unrecognized, UnrecognizedCredential,
    describe_unrecognized,
};
use crate::engine::operator_notice::OperatorNotice;
use crate::engine::worker::Worker;
use crate::provider::ListedCredential;
use crate::sink::inspection::inspect_batch;
use crate::sink::{Sink, TargetContent};

/// What a sink's target holds.
type InspectedTarget = (SinkId, TargetContent);

/// What an operator asks for of one credential.
struct AdoptionRequest<'a> {
    credential: &'a CredentialId,
    /// The credentials that are adopted together because sinks hold them: the provider
    /// accepts each such key. None if the operator named the credential.
    proposed: Option<&'a [CredentialMetadata]>,
    force: bool,
    unrecognized: Unrecognized,
    operator: Option<OperatorNote>,
}

/// Why a person has to confirm a credential.
struct Doubt {
    /// The other name that another key has recorded.
    recorded: Option<RecordedName>,
    /// The credentials whose secrets end as that of this one.
    same_end: Vec<CredentialId>,
    force: bool,
}

/// A credential whose secret sinks hold.
struct ProposedAdoption {
    found: ListedCredential,
    sinks: Vec<SinkId>,
}

/// The credentials whose secrets a key's sinks hold.
#[derive(Default)]
struct Proposal {
    /// Each credential to adopt; newest first.
    adoptions: Vec<ProposedAdoption>,
    /// What prevents an adoption, one line each.
    problems: Vec<String>,
}

impl Worker {
    /// Adopts one credential. With `force` also if a sink's target holds another key.
    pub(super) async fn adopt(
        &mut self,
        credential: &CredentialId,
        force: bool,
        unrecognized: Unrecognized,
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        let managed = self.configured()?;
        let held = self.inspect_sinks(&managed).await?;
        let request = AdoptionRequest {
            credential,
            proposed: None,
            force,
            unrecognized,
            operator,
        };
        self.adopt_requested(&managed, &held, request).await
    }

    /// Adopts the credentials whose secrets the key's sinks hold, or with `apply` unset
    /// only says which ones.
    pub(super) async fn adopt_from_sinks(
        &mut self,
        apply: bool,
        listing: &SharedListing,
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        let managed = self.configured()?;
        let held = self.inspect_sinks(&managed).await?;
        let proposal = self.propose(&managed, &held, listing).await?;
        let Proposal {
            adoptions,
            problems,
        } = proposal;
        let mut lines = Vec::new();
        let all: Vec<_> = adoptions
            .iter()
            .map(|one| one.found.metadata.clone())
            .collect();
        for adoption in &adoptions {
            if apply {
                let request = AdoptionRequest {
                    credential: &adoption.found.metadata.id,
                    proposed: Some(&all),
                    force: false,
                    // A sink holds its secret.
                    unrecognized: Unrecognized::Refused,
                    operator: operator.clone(),
                };
                lines.push(self.adopt_requested(&managed, &held, request).await?);
            } else {
                let (found, sinks) = (&adoption.found, &adoption.sinks);
                lines.push(describe_adoption(&managed, found, sinks));
            }
        }
        lines.extend(problems.iter().cloned());
        if !problems.is_empty() {
            return Err(CommandError::Rejected(lines.join("\n")));
        }
        if lines.is_empty() {
            lines.push(format!("{}: no sink holds a key to adopt", managed.name));
        }
        Ok(lines.join("\n"))
    }

    fn configured(&self) -> Result<Arc<ManagedKey>, CommandError> {
        if self.state.is_retired() {
            return Err(CommandError::Rejected(retired_problem(&self.state)));
        }
        self.managed.clone().ok_or_else(|| {
            CommandError::Rejected(format!("key {} is not configured", self.state.key))
        })
    }

    /// Looks at what the targets of the key's sinks hold.
    async fn inspect_sinks(
        &mut self,
        managed: &ManagedKey,
    ) -> Result<Vec<InspectedTarget>, CommandError> {
        let mut held = Vec::new();
        for (sink, _) in &managed.sinks {
            let Some(content) = self.attempt_at_sink(look_at(sink.as_ref())).await else {
                return Err(CommandError::Rejected("rekeyd is stopping".to_owned()));
            };
            held.push((sink.id().clone(), content));
        }
        Ok(held)
    }

    /// Finds the provider's credentials whose secrets the targets hold.
    async fn propose(
        &self,
        managed: &ManagedKey,
        held: &[InspectedTarget],
        listing: &SharedListing,
    ) -> Result<Proposal, CommandError> {
        let mut proposal = Proposal::default();
        let mut adoptions: BTreeMap<CredentialId, ProposedAdoption> = BTreeMap::new();
        let key = &managed.name;
        for (sink, content) in held {
            if let TargetContent::Unreadable(_) = content {
                let problem = format!("{key}: rekeyd cannot read {sink}");
                proposal.problems.push(problem);
            }
            let provider = self.services.provider.as_ref();
            if is_any_of(provider, content.keys(), self.live_credentials()) {
                continue;
            }
            for secret in content.keys() {
                let listed = listing
                    .get_or_try_init(|| self.list_credentials(managed))
                    .await?;
                let keys = std::slice::from_ref(secret);
                let is_held =
                    |one: &&ListedCredential| holds_credential(provider, keys, &one.metadata);
                match listed.iter().filter(is_held).collect::<Vec<_>>().as_slice() {
                    [] => proposal.problems.push(format!(
                        "{key}: {sink} holds {}, but the provider has no such credential",
                        describe_keys(keys)
                    )),
                    [found] => {
                        let id = &found.metadata.id;
                        match self.try_key(secret).await {
                            KeyAnswer::Works => {}
                            KeyAnswer::None => {
                                let unproven = describe_unproven(sink, keys, id);
                                proposal
                                    .problems
                                    .push(format!("{key}: {unproven}; hint: try again"));
                                continue;
                            }
                            KeyAnswer::Refused => {
                                let refused = describe_refused(sink, keys, id);
                                proposal.problems.push(format!(
                                    "{key}: {refused}; hint: `rekeyd adopt {key} {id} --force` \
                                     adopts {id} anyway, `rekeyd rotate {key} --replace` \
                                     replaces the key"
                                ));
                                continue;
                            }
                        }
                        let entry = adoptions.entry(id.clone());
                        let adoption = entry.or_insert_with(|| ProposedAdoption {
                            found: (*found).clone(),
                            sinks: Vec::new(),
                        });
                        adoption.sinks.push(sink.clone());
                    }
                    several => proposal.problems.push(format!(
                        "{key}: {sink} holds {}, which matches several credentials ({}); hint: \
                         adopt the right one by its id",
                        describe_keys(keys),
                        join_ids(several)
                    )),
                }
            }
        }
        proposal.adoptions = adoptions.into_values().collect();
        proposal
            .adoptions
            .sort_by_key(|one| std::cmp::Reverse(one.found.metadata.created_at));
        Ok(proposal)
    }

    async fn list_credentials(
        &self,
        managed: &ManagedKey,
    ) -> Result<Vec<ListedCredential>, CommandError> {
        let answer = self.services.provider.list(&managed.scope).await;
        self.observe_response(&answer);
        Ok(answer?.value)
    }

    pub(super) fn live_credentials(&self) -> impl Iterator<Item = &CredentialMetadata> {
        self.state.live.iter().filter_map(Rotation::credential)
    }

    /// Adopts a credential of a key.
    async fn adopt_requested(
        &mut self,
        managed: &ManagedKey,
        held: &[InspectedTarget],
        request: AdoptionRequest<'_>,
    ) -> Result<String, CommandError> {
        let AdoptionRequest {
            credential,
            proposed,
            force,
            unrecognized,
            operator,
        } = request;
        let beside = proposed.unwrap_or_default();
        // No key's worker deletes it meanwhile.
        let lock = self.lock_credential(credential).await?;
        self.check_adoptable(credential, &lock.others).await?;
        let found = self.retrieve_to_adopt(managed, credential, held).await?;
        let is_lookalike = is_lookalike(&self.state, &found);
        let held_key = match proposed {
            Some(_) => HeldKey::Works,
            // Its name is enough.
            None if is_lookalike && force => HeldKey::Absent,
            None => self.try_held_keys(&found.metadata, held, force).await?,
        };
        let is_shown = held_key == HeldKey::Works;
        let same_end = match is_shown && !is_lookalike && proposed.is_none() {
            true => self.find_same_end(managed, &found.metadata, held).await?,
            false => Vec::new(),
        };
        let is_recognized = is_lookalike || (is_shown && same_end.is_empty());
        if !is_recognized && unrecognized == Unrecognized::Refused {
            let refusal = self.refuse_unrecognized(&found, &same_end);
            return Err(CommandError::Rejected(refusal));
        }
        let contradiction = self.find_contradiction(&found.metadata, beside, held);
        if let Some((sink, keys)) = contradiction.filter(|_| !force) {
            return Err(CommandError::Rejected(format!(
                "{sink} holds {}, which is not the secret of {credential} ({}), so its consumers \
                 use another credential; hint: `rekeyd adopt --from-sinks` shows which credential \
                 each sink holds; --force adopts {credential} anyway",
                describe_keys(keys),
                found.metadata.redacted_value.as_deref().unwrap_or_default()
            )));
        }
        // Recorded, it would look like a credential without an end, and its key would not
        // be rotated before it.
        if found.unreadable_times.contains(&EXPIRY_FIELD) && !force {
            return Err(CommandError::Rejected(format!(
                "rekeyd cannot read when {credential} expires; hint: if it never expires, or the \
                 schedule rotates it before then, --force adopts it as one that never expires"
            )));
        }
        let recorded = find_other_name(&lock.others, &found);
        let may_rename = force && matches!(unrecognized, Unrecognized::Named(_));
        if let Some(recorded) = recorded.as_ref().filter(|_| !may_rename) {
            return Err(CommandError::Rejected(format!(
                "the provider shows {credential} as {:?}, but {recorded}, so it may be another \
                 credential now; hint: compare them at the provider; --force, as root or the owner \
                 of the ledger, adopts it under the name shown, for all keys",
                found.name.as_deref().unwrap_or_default(),
            )));
        }
        let is_confirmed = recorded.is_some() || !is_recognized;
        let doubt = Doubt {
            recorded,
            same_end,
            force,
        };
        let is_held = is_confirmed && self.must_hold(&found, doubt, &unrecognized)?;
        // An open rotation will become current, so the adopted one must not.
        let has_other = self.state.current().is_some() || self.state.open_rotation().is_some();
        let is_passed_over = self.is_passed_over(&found.metadata, held);
        let empty = self.empty_target(managed, &found.metadata, held);
        let empty = empty.filter(|_| !has_other);
        // No consumer waits for the schedule, unless the operator says so.
        let is_replaced_now =
            empty.is_some() && !force && managed.policy.initial_rotation == InitialRotation::Now;
        let mut id = [0; 8];
        if let Err(error) = self.services.entropy.fill(&mut id) {
            return Err(CommandError::Rejected(error.to_string()));
        }
        let event = if has_other || is_replaced_now {
            LifecycleEvent::AdoptedAlongside
        } else {
            LifecycleEvent::Adopted
        };
        let seen_in = self.sinks_seen_to_hold(&found.metadata, beside, held);
        // What several rows say of one credential is the same.
        let mut others = lock.others.iter();
        let recorded_name = others.find_map(|other| other.rotation.name.clone());
        let recorded = lock.others.iter().map(|other| &other.rotation);
        let adoption = Adoption {
            rotation: RotationId::new(id),
            scope: managed.scope.clone(),
            sequence: self.state.next_sequence(self.now()),
            credential: found.metadata.completed_by(recorded),
            name: found.name.or(recorded_name),
            hold: self.shared_hold(credential, &lock.others).await?,
            event,
            sinks: if is_passed_over {
                Vec::new()
            } else {
                managed.all_sinks()
            },
            seen_in,
            operator,
        };
        let rotation = adoption.rotation.clone();
        let notice = self.adoption_notice(&adoption, is_held);
        let hold = is_held.then(|| {
            Change::from(CredentialHold {
                rotation: rotation.clone(),
                until: Some(HELD_UNTIL_RELEASED),
                operator: adoption.operator.clone(),
            })
        });
        // The trouble that asked for the adoption is over: the key has a credential.
        let recovered = (!has_other).then_some(Change::Schedule(ScheduleChange::Recovered));
        let changes = [Change::from(adoption)].into_iter().chain(hold);
        self.record(changes.chain(recovered).collect()).await?;
        self.notices.push(notice);
        // One of another key's rows may have had it.
        let row = self.state.rotation(&rotation);
        let hold = row.and_then(|row| row.hold(self.now()));
        let (kept, held) = describe_hold(credential, hold);
        if is_passed_over {
            let retired = self.retire_passed_over(managed, &rotation, credential);
            return Ok(format!("{}{kept}{held}", retired.await?));
        }
        let key = &self.state.key;
        let adopted = format!("{key}: adopted {credential}");
        let adopted = match empty {
            Some(sink) if is_replaced_now => format!(
                "{adopted}; {sink} holds no key, so {key} is rotated now, and {credential} is \
                 revoked one overlap later{kept}"
            ),
            Some(sink) => format!(
                "{adopted} as its current credential; {sink} holds no key until the next \
                 rotation; hint: run `rekeyd rotate {key}` to deliver one now"
            ),
            None if has_other => {
                format!(
                    "{adopted}; it is revoked one overlap after the next delivery to each sink{kept}"
                )
            }
            None => format!("{adopted} as its current credential"),
        };
        Ok(format!("{adopted}{held}{}", held_key.doubt()))
    }

    /// Returns the other credentials of the provider whose secrets a key may be that a target
    /// holds for that of `credential`: a few characters do not show which one it is.
    async fn find_same_end(
        &self,
        managed: &ManagedKey,
        credential: &CredentialMetadata,
        held: &[InspectedTarget],
    ) -> Result<Vec<CredentialId>, CommandError> {
        let provider = self.services.provider.as_ref();
        let keys = held.iter().flat_map(|(_, content)| content.keys());
        let keys: Vec<_> = keys
            .map(std::slice::from_ref)
            .filter(|key| holds_credential(provider, key, credential))
            .collect();
        let listed = self.list_credentials(managed).await?;
        let others = listed.into_iter().map(|one| one.metadata);
        let others = others.filter(|other| {
            let is_same = |key: &&[Secret]| holds_credential(provider, key, other);
            other.id != credential.id && keys.iter().any(is_same)
        });
        Ok(others.map(|other| other.id).collect())
    }

    fn refuse_unrecognized(&self, found: &ListedCredential, same_end: &[CredentialId]) -> String {
        let (key, id) = (&self.state.key, &found.metadata.id);
        let name = found.name.as_deref().unwrap_or_default();
        let why = describe_unrecognized(key, name, same_end);
        format!(
            "{id} was not adopted: {why}, so only root or the owner of the ledger may adopt it; \
             hint: use `sudo rekeyd adopt {key} {id}`"
        )
    }

    /// Returns whether a credential that is not recognized, or that another key has
    /// `recorded` under another name, is held once it is adopted.
    ///
    /// # Errors
    /// A person has to confirm its name first, or gave another one.
    fn must_hold(
        &self,
        found: &ListedCredential,
        doubt: Doubt,
        unrecognized: &Unrecognized,
    ) -> Result<bool, CommandError> {
        let shown = found.name.as_deref().unwrap_or_default();
        match unrecognized {
            Unrecognized::Adopted => Ok(false),
            Unrecognized::Refused => Err(CommandError::Rejected(
                self.refuse_unrecognized(found, &doubt.same_end),
            )),
            Unrecognized::Named(Some(name)) if name == shown => Ok(true),
            Unrecognized::Named(Some(name)) => Err(CommandError::Rejected(format!(
                "{} was not adopted: the provider shows it as {shown:?}, not as {name:?}; hint: \
                 compare the id",
                found.metadata.id
            ))),
            Unrecognized::Named(None) => Err(CommandError::Unrecognized(Box::new(
                UnrecognizedCredential {
                    key: self.state.key.clone(),
                    credential: found.metadata.id.clone(),
                    name: shown.to_owned(),
                    recorded: doubt.recorded,
                    same_end: doubt.same_end,
                    force: doubt.force,
                    owner: found.owner.clone(),
                    created_at: found.metadata.created_at,
                    last_used: found.last_use(),
                    now: self.now(),
                },
            ))),
        }
    }

    fn adoption_notice(&self, adoption: &Adoption, is_held: bool) -> OperatorNotice {
        let (key, id) = (&self.state.key, &adoption.credential.id);
        let name = adoption.name.as_deref().unwrap_or("unnamed");
        let held = if is_held {
            "; it is on hold until a person releases it"
        } else {
            ""
        };
        OperatorNotice::new(
            AlertKind::Adopted,
            Some(id.clone()),
            adoption.operator.as_ref(),
            format!("adopted {id} ({name}) into {key}{held}"),
        )
    }

    /// Returns whether every sink is seen to hold the current credential, and none the
    /// adopted one: nobody needs another rotation then.
    fn is_passed_over(&self, adopted: &CredentialMetadata, held: &[InspectedTarget]) -> bool {
        let current = self.state.current().and_then(Rotation::credential);
        let current = current.filter(|_| self.state.open_rotation().is_none());
        let provider = self.services.provider.as_ref();
        let holds = |content: &TargetContent, credential: &CredentialMetadata| {
            holds_credential(provider, content.keys(), credential)
        };
        current.is_some_and(|current| {
            let mut held = held.iter();
            held.len() > 0
                && held.all(|(_, content)| holds(content, current) && !holds(content, adopted))
        })
    }

    /// Retires an adopted credential that no sink holds. It is revoked one overlap later,
    /// since its consumers may have read it before.
    async fn retire_passed_over(
        &mut self,
        managed: &ManagedKey,
        rotation: &RotationId,
        credential: &CredentialId,
    ) -> Result<String, CommandError> {
        let ends_at = time::after(self.overlap_start(), managed.policy.overlap);
        let ends_at = time::next_whole_second(ends_at);
        let retired = Transition {
            revoke_after: Some(ends_at),
            ..Transition::new(rotation, LifecycleEvent::Replaced)
        };
        self.record(vec![Change::from(retired)]).await?;
        Ok(format!(
            "{}: adopted {credential}; every sink holds the current credential, so {credential} \
             is revoked at {}",
            self.state.key,
            time::to_text(ends_at)
        ))
    }

    /// Returns an operator's hold on the credential, of another key that has it.
    async fn shared_hold(
        &self,
        credential: &CredentialId,
        others: &[OtherHolder],
    ) -> Result<Option<Box<SharedHold>>, CommandError> {
        let holds = others.iter().filter_map(|other| other.rotation.hold_until);
        let Some(until) = holds.max() else {
            return Ok(None);
        };
        let operator = self.services.ledger.hold_operator(credential).await?;
        Ok(Some(Box::new(SharedHold { until, operator })))
    }

    /// Checks that no row of the credential prevents its adoption: one of this key, or one
    /// of another key that ended or ends.
    async fn check_adoptable(
        &self,
        credential: &CredentialId,
        others: &[OtherHolder],
    ) -> Result<(), CommandError> {
        if let Some(deadline) = others.iter().find_map(|other| other.rotation.deadline) {
            return Err(CommandError::Rejected(format!(
                "{credential} may have leaked and {}",
                describe_deadline(deadline, self.now())
            )));
        }
        let keys = self.services.ledger.keys_of_credential(credential).await?;
        let shares = |key: &KeyName| {
            let mut others = others.iter().filter(|other| other.key.key == *key);
            others.any(|other| may_be_shared(other.rotation.phase))
        };
        match keys.iter().find(|key| !shares(key)) {
            None => Ok(()),
            Some(key) => Err(CommandError::Rejected(format!(
                "{credential} already belongs to {key} in this ledger"
            ))),
        }
    }

    /// Retrieves a credential that may be adopted.
    async fn retrieve_to_adopt(
        &self,
        managed: &ManagedKey,
        credential: &CredentialId,
        held: &[InspectedTarget],
    ) -> Result<ListedCredential, CommandError> {
        let answer = self.services.provider.retrieve(credential).await;
        self.observe_response(&answer);
        let Some(found) = answer?.value else {
            return Err(CommandError::Rejected(format!(
                "the provider has no credential {credential}"
            )));
        };
        let conditions = &self.services.conditions;
        conditions.report_unreadable_times(&found.unreadable_times);
        let redacted = found.metadata.redacted_value.as_deref();
        let usage = self.services.provider.usage(credential, redacted);
        let mut sinks = managed.sinks.iter();
        let has_self_sink = sinks.any(|(sink, _)| sink.rotates_self_credential());
        let mut contents = held.iter().map(|(_, content)| content.keys());
        let provider = self.services.provider.as_ref();
        let is_held = contents.any(|keys| holds_credential(provider, keys, &found.metadata));
        // One that only may be in use is not revoked by the schedule.
        if usage == CredentialUsage::InUse && !has_self_sink && !is_held {
            return Err(CommandError::Rejected(format!(
                "{credential} is rekeyd's own admin key; only a key with a `self` sink, or \
                 one whose file holds it, can adopt it"
            )));
        }
        Ok(found)
    }

    /// Returns a sink whose target certainly holds none of: `adopted`, those `beside`
    /// it, and the live credentials of this key.
    fn find_contradiction<'h>(
        &self,
        adopted: &CredentialMetadata,
        beside: &[CredentialMetadata],
        held: &'h [InspectedTarget],
    ) -> Option<(&'h SinkId, &'h [Secret])> {
        let known = || {
            std::iter::once(adopted)
                .chain(beside)
                .chain(self.live_credentials())
        };
        let held = held.iter().map(|(sink, content)| (sink, content.keys()));
        let is_other = |key: &Secret| shows_other_end(key, adopted);
        held.into_iter().find(|(_, keys)| {
            !keys.is_empty()
                && keys.iter().all(is_other)
                && !is_any_of(self.services.provider.as_ref(), keys, known())
        })
    }

    /// Returns the sinks whose targets were seen to hold `adopted`, and no key that is
    /// neither one of those `beside` it nor a live one of this key.
    fn sinks_seen_to_hold(
        &self,
        adopted: &CredentialMetadata,
        beside: &[CredentialMetadata],
        held: &[InspectedTarget],
    ) -> Vec<SinkId> {
        let provider = self.services.provider.as_ref();
        let is_known = |secret: &Secret| {
            let known = std::iter::once(adopted).chain(beside);
            let known = known.chain(self.live_credentials());
            is_any_of(provider, std::slice::from_ref(secret), known)
        };
        let seen = held.iter().filter(|(_, content)| {
            holds_credential(provider, content.keys(), adopted)
                && content.keys().iter().all(is_known)
        });
        seen.map(|(sink, _)| sink.clone()).collect()
    }

    /// Returns a required sink whose target holds no key, unless another one holds the
    /// adopted credential.
    fn empty_target<'h>(
        &self,
        managed: &ManagedKey,
        adopted: &CredentialMetadata,
        held: &'h [InspectedTarget],
    ) -> Option<&'h SinkId> {
        let mut contents = held.iter().map(|(_, content)| content.keys());
        let provider = self.services.provider.as_ref();
        if contents.any(|keys| holds_credential(provider, keys, adopted)) {
            return None;
        }
        let required = managed.required_sinks();
        let mut empty = held.iter().filter(|(sink, content)| {
            matches!(content, TargetContent::NoKey) && required.contains(sink)
        });
        empty.next().map(|(sink, _)| sink)
    }
}

/// Reads what a target really holds: the file of rekeyd's own credential is no exception.
pub(super) async fn look_at(sink: &dyn Sink) -> TargetContent {
    let look = sink.rotates_self_credential();
    let Some(look) = look.then(|| sink.blocking_inspection()).flatten() else {
        return sink.inspect().await;
    };
    if !sink.inspection_may_block() {
        return look();
    }
    let inspected = inspect_batch(vec![look], |_, content| Some(content)).await;
    let content = inspected.and_then(|mut contents| contents.pop());
    content.unwrap_or(TargetContent::Unknown)
}

/// Returns whether another key may adopt a credential whose row has this phase: it is
/// delivered, and nothing but the schedule ends it.
const fn may_be_shared(phase: Phase) -> bool {
    match phase {
        Phase::Current | Phase::Stranded | Phase::Retired => true,
        Phase::Intended
        | Phase::Created
        | Phase::Verified
        | Phase::Orphaned
        | Phase::Revoked
        | Phase::Failed => false,
    }
}

/// Returns whether the name of a credential looks like a label of the key, under any of its
/// names.
fn is_lookalike(state: &KeyState, found: &ListedCredential) -> bool {
    let name = found.name.as_deref();
    name.is_some_and(|name| state.names().any(|key| Label::matches_format(name, key)))
}

/// Returns the name that another key's row has of a credential, if it is not the one that the
/// provider shows.
fn find_other_name(others: &[OtherHolder], found: &ListedCredential) -> Option<RecordedName> {
    let shown = found.name.as_ref()?;
    others.iter().find_map(|other| {
        let name = other.rotation.name.clone()?;
        (name != *shown).then(|| RecordedName {
            key: other.key.key.clone(),
            name,
        })
    })
}

fn describe_adoption(managed: &ManagedKey, found: &ListedCredential, sinks: &[SinkId]) -> String {
    let name = found.name.as_deref().unwrap_or("unnamed");
    let created = found.metadata.created_at.map(time::to_text);
    let sinks: Vec<_> = sinks.iter().map(SinkId::to_string).collect();
    format!(
        "{}: would adopt {} ({name}, created {}), held by {}; hint: add --yes to adopt it",
        managed.name,
        found.metadata.id,
        created.as_deref().unwrap_or("at an unknown time"),
        sinks.join(" and ")
    )
}

/// Describes what a hold means for the end of an adopted credential, and the hold itself.
/// Both are empty without one.
fn describe_hold(
    credential: &CredentialId,
    hold: Option<Option<jiff::Timestamp>>,
) -> (&'static str, String) {
    let release = format!("`rekeyd release {credential}`");
    let end = match hold {
        None => return ("", String::new()),
        Some(None) => release,
        Some(Some(until)) => format!("{} ({release} ends it now)", time::to_text(until)),
    };
    let kept = ", but not before its hold ends";
    (kept, format!("; it is on hold until {end}"))
}

fn join_ids(credentials: &[&ListedCredential]) -> String {
    join_few(credentials.iter().map(|one| &one.metadata.id))
}
