//! Sends a create, once, and resolves one whose outcome is unknown.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::change::{Change, RevokedDuplicate, Transition};
use crate::core::creation_time::existed_before;
use crate::core::decide::create_answer::check_origin;
use crate::core::decide::created_times::remove_impossible_times;
use crate::core::decide::outcome;
use crate::core::decide::revocation::{DeferReason, RevocationReason};
use crate::core::gate::RequestClass;
use crate::core::ids::{CredentialId, KeyName, Label, RotationId};
use crate::core::label_match::{LabelMatch, match_label};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::policy::RetryClass;
use crate::core::reported_time::EXPIRY_FIELD;
use crate::core::state::Trigger;
use crate::core::time;
use crate::engine::effects::revoke::{
    ExpectedName, LEDGER_CHANGED, RECONFIGURED, RevocationOutcome, STILL_SHOWN,
};
use crate::engine::effects::{PERMANENT_FAILURE_PAUSE, retry_delay};
use crate::engine::gates::GatePass;
use crate::engine::probe::requested_pause;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{CreatedCredential, Effect, ListedCredential, ProviderError};

/// The error of a rotation whose create was held back.
const HELD_BACK: &str = "its create was not sent, because the provider limits or refuses creates";

/// The credentials that a create did not make, and those that it made.
type SplitCredentials = (Vec<ExistingCredential>, Vec<ListedCredential>);

/// A credential with the label of a create that did not make it.
struct ExistingCredential {
    id: CredentialId,
    evidence: ExistenceEvidence,
}

/// What shows that a create did not make a credential.
enum ExistenceEvidence {
    /// A key of this ledger has it.
    BelongsTo(KeyName),
    /// A list showed it under another name.
    HadOtherName,
    /// It was created before.
    IsOlder,
}

impl Display for ExistingCredential {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { id, evidence } = self;
        write!(f, "{id} has its label, but ")?;
        match evidence {
            ExistenceEvidence::BelongsTo(key) => write!(f, "belongs to {key} in this ledger"),
            ExistenceEvidence::HadOtherName => write!(f, "had another name before"),
            ExistenceEvidence::IsOlder => write!(f, "is older"),
        }
    }
}

impl Worker {
    fn label(&self, rotation: &RotationId) -> Result<Label, LedgerError> {
        let row = self.state.rotation(rotation);
        row.and_then(|row| row.label.clone())
            .ok_or_else(|| LedgerError::Corrupt(format!("no label for the rotation {rotation}")))
    }

    /// Sends the create, once, and records what the provider answers. An answer that
    /// could not be checked before is checked again instead.
    pub(crate) async fn create(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let label = self.label(rotation)?;
        let in_flight = self.in_flight.as_ref();
        if in_flight.is_some_and(|in_flight| in_flight.answer.is_some()) {
            return self.accept_answer(rotation, &label).await;
        }
        let Some(pass) = self.pass_for_create(rotation) else {
            return self.hold_create_back(rotation).await;
        };
        let policy = self.managed.as_ref().map(|managed| &managed.policy);
        let expires_in = policy.and_then(|policy| policy.expires_after);
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.create_sent = true;
            in_flight.own_secrets = self.services.provider.own_secrets();
        }
        let answer = self.services.provider.create(&label, expires_in).await;
        self.observe_response(&answer);
        match answer {
            Ok(mut answer) => {
                pass.succeed();
                let answered_at = answer.server_time.unwrap_or_else(|| self.now());
                let is_short_lived =
                    self.complete_times(&mut answer.value, expires_in, answered_at);
                if expires_in.is_some() && answer.value.metadata.expires_at.is_none() {
                    self.log_missing_expiry();
                }
                if let Some(in_flight) = &mut self.in_flight {
                    in_flight.answer = Some(answer.value);
                    in_flight.is_short_lived = is_short_lived;
                }
                self.accept_answer(rotation, &label).await
            }
            Err(error) if error.effect == Effect::NotApplied => {
                self.record_not_applied(rotation, &error, &pass).await
            }
            Err(error) => self.handle_unknown_create(rotation, &label, &error).await,
        }
    }

    /// Checks the answer to a create, and records it if it can be true.
    async fn accept_answer(
        &mut self,
        rotation: &RotationId,
        label: &Label,
    ) -> Result<(), LedgerError> {
        let in_flight = self.in_flight.as_ref();
        let Some(created) = in_flight.and_then(|in_flight| in_flight.answer.clone()) else {
            return Ok(());
        };
        // Another key's answer may name the same credential: the first one to be recorded
        // has it, and an adoption waits.
        let _lock = self.lock_credential(&created.metadata.id).await?;
        let checked = self.check_answer(rotation, label, &created).await?;
        let checked = checked.and_then(|matched| {
            // Another key's answer with this secret may have been believed meanwhile. Nothing
            // waits from here until the secret is recorded.
            let secret = created.secret.as_ref();
            secret.map_or(Ok(()), |secret| {
                check_origin(self.services.provider.origin(secret))
            })?;
            Ok(matched)
        });
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.answer = None;
        }
        match checked {
            Ok(matched) => {
                self.report_changed_name(rotation, &created, &matched);
                self.record_created(rotation, created).await
            }
            Err(problem) => {
                let refused = (created.secret.as_ref(), &problem);
                self.reject_answer(rotation, label, refused).await
            }
        }
    }

    async fn record_created(
        &mut self,
        rotation: &RotationId,
        mut created: CreatedCredential,
    ) -> Result<(), LedgerError> {
        let has_wrong_redaction = self.has_wrong_redaction(&mut created);
        let event = if created.secret.is_some() {
            LifecycleEvent::Created
        } else {
            LifecycleEvent::SecretLost
        };
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.secret = created.secret;
        }
        let transition = Transition {
            credential: Some(created.metadata),
            name: created.name,
            has_wrong_redaction,
            ..Transition::new(rotation, event)
        };
        let mut changes = vec![Change::from(transition)];
        if event == LifecycleEvent::SecretLost {
            changes.push(self.back_off_key("the provider's response had no secret", None));
        }
        self.record(changes).await
    }

    /// Compares the new secret with the redacted value in the same answer. One that
    /// contradicts it is removed: sinks that hold the secret would not match it.
    fn has_wrong_redaction(&self, created: &mut CreatedCredential) -> bool {
        let (metadata, provider) = (&mut created.metadata, &self.services.provider);
        let redacted_value = metadata.redacted_value.as_deref();
        let Some(secret) = &created.secret else {
            return false;
        };
        if !provider.record_created(&metadata.id, secret, redacted_value) {
            return false;
        }
        metadata.redacted_value = None;
        true
    }

    /// Logs once that the provider changes the names that it is sent, and has its list
    /// compared again.
    fn report_changed_name(
        &mut self,
        rotation: &RotationId,
        created: &CreatedCredential,
        matched: &LabelMatch,
    ) {
        let conditions = &self.services.conditions;
        if let (LabelMatch::Changed(_), Some(name)) = (matched, &created.name)
            && conditions.is_first_occurrence("changed-name")
        {
            // An earlier create without a clear result may have made a credential that such a
            // name shows to be rekeyd's.
            self.has_learned_names = true;
            tracing::warn!(
                key = %self.state.key, %rotation, credential = %created.metadata.id,
                "{}: the provider changed the name of {} to {name:?}; rekeyd recognizes \
                 credentials by such names from now on",
                self.state.key,
                created.metadata.id
            );
        }
    }

    async fn record_not_applied(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
        pass: &GatePass,
    ) -> Result<(), LedgerError> {
        let mut changes = self.failure_changes(rotation, LifecycleEvent::NotCreated, error);
        let mut cause = error.kind.gate_cause();
        let is_global = cause.is_none() && self.is_global_failure(error).await;
        if !is_global {
            cause = cause.or_else(|| self.shared_refusal(error));
        }
        if let Some(cause) = cause {
            self.close_gate(pass, RequestClass::Create, cause, error);
            // A person waits for the reason. Nobody waits where the schedule tries again.
            let row = self.state.rotation(rotation);
            let is_requested = row.is_some_and(|row| row.trigger == Trigger::Manual);
            if is_requested {
                self.request_problem = Some(error.to_string());
            }
        }
        if is_global || cause.is_some() {
            // The failure counts for no key: the next rotation starts when the condition
            // ends, or as its probe.
            changes.truncate(1);
        }
        self.record(changes).await
    }

    /// Ends a rotation whose create was not sent and must not be sent now: the key waits at
    /// the gate, as those do whose rotation did not start.
    async fn hold_create_back(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let Some(row) = self.state.rotation(rotation) else {
            return Ok(());
        };
        let change = outcome::cancel_create(row, HELD_BACK);
        self.record(vec![change]).await
    }

    /// Handles a create that may have been applied. It is never sent again: the next
    /// step searches for its label.
    async fn handle_unknown_create(
        &mut self,
        rotation: &RotationId,
        label: &Label,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        let text = error.to_string();
        self.needs_follow_up = true;
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.create_problem = Some(error.message.clone());
        }
        let key = &self.state.key;
        tracing::warn!(%key, %rotation, %label,
            "{key}: it is unclear whether the provider created {label}: {text}; searching for it");
        if self.is_global_failure(error).await {
            return Ok(());
        }
        let change = self.schedule_retry(
            rotation,
            RetryClass::Provider,
            &text,
            requested_pause(error),
        );
        self.record(vec![change]).await
    }

    /// Searches for the label of an unclear create. The rotation ends either way, because
    /// its secret is lost.
    pub(crate) async fn find(
        &mut self,
        rotation: &RotationId,
        after_restart: bool,
    ) -> Result<(), LedgerError> {
        let label = self.label(rotation)?;
        self.needs_follow_up = true;
        let answer = self
            .services
            .provider
            .find(&self.context.scope, &label)
            .await;
        self.observe_response(&answer);
        let found = match answer {
            Ok(answer) => answer.value,
            Err(error) if self.is_global_failure(&error).await => return Ok(()),
            Err(error) => return self.postpone_search(rotation, &error).await,
        };
        let split = self.split_existing(rotation, &label, found).await?;
        let (existing, found) = match split {
            Ok(split) => split,
            Err(error) if self.is_global_failure(&error).await => return Ok(()),
            Err(error) => return self.postpone_search(rotation, &error).await,
        };
        for credential in found.iter().filter(|_| !after_restart) {
            self.record_newer(rotation, &label, credential).await?;
        }
        if found.len() > 1 {
            return self
                .revoke_duplicates(rotation, &found, after_restart)
                .await;
        }
        let found = if found.is_empty() {
            match self.find_by_changed_name(&label).await? {
                Ok(found) => found,
                Err(error) if self.is_global_failure(&error).await => return Ok(()),
                Err(error) => return self.postpone_search(rotation, &error).await,
            }
        } else {
            found
        };
        let row = self.state.rotation(rotation);
        let is_rejected = row.is_some_and(|row| row.is_answer_rejected);
        let (event, reason) = match (found.first(), after_restart) {
            (Some(_), _) if is_rejected => (
                LifecycleEvent::LabelFound,
                "the response to its create was wrong",
            ),
            (None, _) if is_rejected => (
                LifecycleEvent::LabelNotFound,
                "the response to its create was wrong, and no list shows what it created",
            ),
            (Some(_), true) => (
                LifecycleEvent::LabelFoundAfterRestart,
                "its secret was lost in a restart",
            ),
            (Some(_), false) => (
                LifecycleEvent::LabelFound,
                "the secret of the new credential was lost with the response",
            ),
            (None, _) => (
                LifecycleEvent::LabelNotFound,
                "the create had no clear result, and the provider lists nothing with its name",
            ),
        };
        let reason = match existing.first() {
            Some(existing) => format!("{reason}: {existing}"),
            None => reason.to_owned(),
        };
        let reason = match self.create_problem(rotation) {
            Some(problem) => format!("{reason} ({problem})"),
            None => reason,
        };
        let transition = Transition {
            name: found.first().and_then(|credential| credential.name.clone()),
            credential: found
                .into_iter()
                .next()
                .map(|credential| credential.metadata),
            error: Some(reason.clone()),
            ..Transition::new(rotation, event)
        };
        let backoff = self.back_off_key(&reason, None);
        self.record(vec![Change::from(transition), backoff]).await
    }

    /// Returns why the outcome of a create is unclear, as far as that is known: a search
    /// that finds nothing does not show it.
    fn create_problem(&self, rotation: &RotationId) -> Option<String> {
        let in_flight = self.in_flight.as_ref();
        let answered = in_flight.and_then(|in_flight| in_flight.create_problem.clone());
        let row = self.state.rotation(rotation);
        let recorded = || Some(format!("latest error: {}", row?.error.as_ref()?));
        answered.or_else(recorded)
    }

    /// Schedules another search after one that failed. What may have leaked does not wait
    /// for it: the rotation is given up, and a list that shows its credential later has that
    /// revoked. A rejected answer stays open: creates after it need to know what it made.
    async fn postpone_search(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        let text = error.to_string();
        let row = self.state.rotation(rotation);
        let change = if row.is_some_and(|row| row.deadline.is_some() && !row.is_answer_rejected) {
            Change::from(Transition {
                error: Some(format!(
                    "abandoned, because the key may have leaked, before a search showed whether \
                     its create made anything: {text}"
                )),
                ..Transition::new(rotation, LifecycleEvent::LabelNotFound)
            })
        } else {
            self.schedule_retry(rotation, RetryClass::Provider, &text, retry_delay(error))
        };
        self.record(vec![change]).await
    }

    /// Records that the credential of a create has none of the secrets that existed before:
    /// its own secret was lost, so nothing else may show that. It needs proof that this
    /// create made the credential: no list showed it before, it has the label, and it is
    /// not older.
    async fn record_newer(
        &self,
        rotation: &RotationId,
        label: &Label,
        credential: &ListedCredential,
    ) -> Result<(), LedgerError> {
        let (id, created_at) = (&credential.metadata.id, credential.metadata.created_at);
        let (ledger, scope) = (&self.services.ledger, &self.context.scope);
        let is_new = credential.name.as_deref() == Some(label.as_str())
            && created_at.is_some()
            && !existed_before(created_at, self.earliest_creation(rotation))
            && ledger.name_without_row(scope, id).await?.is_none();
        let in_flight = self.in_flight.as_ref();
        if let Some(in_flight) = in_flight.filter(|in_flight| is_new && in_flight.create_sent) {
            let own = in_flight.own_secrets.clone();
            self.services.provider.record_newer(id, own);
        }
        Ok(())
    }

    /// Splits off the credentials that an unclear create did not make, even if a list gave
    /// one of them its label: those that have a row already, that a list showed under
    /// another name, or that are older than the create and do not bear the label in an
    /// answer about their id. A credential that has the label there was created by this
    /// create, whatever its time: nobody else knows the label.
    async fn split_existing(
        &self,
        rotation: &RotationId,
        label: &Label,
        found: Vec<ListedCredential>,
    ) -> Result<Result<SplitCredentials, ProviderError>, LedgerError> {
        let (ledger, scope) = (&self.services.ledger, &self.context.scope);
        let earliest = self.earliest_creation(rotation);
        let (mut existing, mut new) = (Vec::new(), Vec::new());
        for credential in found {
            let id = credential.metadata.id.clone();
            let is_same_name =
                |name: &String| !matches!(match_label(label, name), LabelMatch::Other);
            let listed_as = ledger.name_without_row(scope, &id).await?;
            let had_other_name =
                listed_as.is_some_and(|name| !name.as_ref().is_some_and(is_same_name));
            let evidence = match ledger.key_for_credential(&id).await? {
                Some(key) => Some(ExistenceEvidence::BelongsTo(key)),
                None => had_other_name.then_some(ExistenceEvidence::HadOtherName),
            };
            if let Some(evidence) = evidence {
                existing.push(ExistingCredential { id, evidence });
                continue;
            }
            if existed_before(credential.metadata.created_at, earliest) {
                match self.retrieve(&credential.metadata).await {
                    Ok(answer) => {
                        let name = answer.value.and_then(|shown| shown.name);
                        if name.as_deref() != Some(label.as_str()) {
                            let evidence = ExistenceEvidence::IsOlder;
                            existing.push(ExistingCredential { id, evidence });
                            continue;
                        }
                    }
                    Err(error) => return Ok(Err(error)),
                }
            }
            new.push(credential);
        }
        Ok(Ok((existing, new)))
    }

    /// Searches for the credential of an unclear create by a name that the provider made
    /// of its label. Sends a request only if the provider was seen to change names.
    async fn find_by_changed_name(
        &self,
        label: &Label,
    ) -> Result<Result<Vec<ListedCredential>, ProviderError>, LedgerError> {
        let (ledger, scope) = (&self.services.ledger, &self.context.scope);
        let changed_names = ledger.changed_names(scope).await?;
        if changed_names.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let answer = self.services.provider.list(scope).await;
        self.observe_response(&answer);
        let listed = match answer {
            Ok(answer) => answer.value,
            Err(error) => return Ok(Err(error)),
        };
        let mut found = Vec::new();
        for credential in listed {
            let (name, created_at) = (credential.name.as_deref(), credential.metadata.created_at);
            if changed_names.label_of(name, created_at) == Some(label) {
                let id = &credential.metadata.id;
                if ledger.key_for_credential(id).await?.is_none() {
                    found.push(credential);
                }
            }
        }
        // Which of several is its own, nothing tells: all of them are lookalikes.
        found.truncate(if found.len() == 1 { 1 } else { 0 });
        Ok(Ok(found))
    }

    /// Revokes one of several credentials with the label, and schedules another search. A
    /// proxy repeated the create: rekeyd created all of them, and their secrets are lost.
    async fn revoke_duplicates(
        &mut self,
        rotation: &RotationId,
        found: &[ListedCredential],
        after_restart: bool,
    ) -> Result<(), LedgerError> {
        let Some(duplicate) = found.last() else {
            return Ok(());
        };
        let credential = &duplicate.metadata;
        let reason = RevocationReason::DuplicateLabel;
        let label = self.label(rotation)?;
        let name = ExpectedName {
            recorded: Some(label.as_str()),
            ..ExpectedName::default()
        };
        let lock = self.lock_credential(&credential.id).await?;
        let revoked = self.revoke_if_allowed(&lock, credential, None, reason, name);
        let (problem, after) = match revoked.await {
            Ok(RevocationOutcome::Deleted) => {
                let revoked = RevokedDuplicate {
                    rotation: rotation.clone(),
                    credential: credential.id.clone(),
                };
                return self.record(vec![Change::from(revoked)]).await;
            }
            Ok(RevocationOutcome::AlreadyGone) => ("the list was stale".to_owned(), None),
            Ok(RevocationOutcome::StillShown) => (STILL_SHOWN.to_owned(), None),
            Ok(RevocationOutcome::Reconfigured) => (RECONFIGURED.to_owned(), None),
            Ok(RevocationOutcome::LedgerChanged) => (LEDGER_CHANGED.to_owned(), None),
            Ok(RevocationOutcome::Deferred(deferral))
                if deferral.reason == DeferReason::MayBeInUse =>
            {
                let problem = deferral.message();
                return self
                    .leave_duplicate(rotation, found, after_restart, &problem)
                    .await;
            }
            Ok(RevocationOutcome::Deferred(deferral)) => {
                let pause = time::until(self.now(), deferral.until);
                (deferral.message(), Some(pause))
            }
            Ok(RevocationOutcome::OtherName(other)) => {
                let problem = other.message();
                return self
                    .leave_duplicate(rotation, found, after_restart, &problem)
                    .await;
            }
            // A user who writes that file must not block this key.
            Ok(RevocationOutcome::HeldElsewhere(held)) => {
                let problem = held.message();
                return self
                    .leave_duplicate(rotation, found, after_restart, &problem)
                    .await;
            }
            Ok(RevocationOutcome::Blocked(_)) => (
                format!("{} belongs to another rotation", credential.id),
                None,
            ),
            // The search may be repeated, but not before a limit of deletions has ended.
            Err(error)
                if self.is_global_failure(&error).await && self.may_pass(RequestClass::Delete) =>
            {
                return Ok(());
            }
            Err(error) => (error.to_string(), retry_delay(&error)),
        };
        let text = format!("{} credentials have its label: {problem}", found.len());
        let change = self.schedule_retry(rotation, RetryClass::Provider, &text, after);
        self.record(vec![change]).await
    }

    /// Ends a rotation with several credentials, of which the last may be somebody else's
    /// or in use: no further search shows more, and only a person can decide. The first one
    /// is the rotation's own.
    async fn leave_duplicate(
        &mut self,
        rotation: &RotationId,
        found: &[ListedCredential],
        after_restart: bool,
        problem: &str,
    ) -> Result<(), LedgerError> {
        let [own, .., left] = found else {
            return Ok(());
        };
        let left = &left.metadata.id;
        let reason = format!(
            "its secret was lost, and {} credentials have its name; rekeyd leaves {left} alone: \
             {problem}; hint: inspect it at the provider, and delete it there if nothing \
             uses it",
            found.len()
        );
        tracing::error!(key = %self.state.key, %rotation, credential = %left,
            "{}: {reason}", self.state.key);
        let event = if after_restart {
            LifecycleEvent::LabelFoundAfterRestart
        } else {
            LifecycleEvent::LabelFound
        };
        let transition = Transition {
            name: own.name.clone(),
            credential: Some(own.metadata.clone()),
            error: Some(reason.clone()),
            ..Transition::new(rotation, event)
        };
        let backoff = self.back_off_key(&reason, Some(PERMANENT_FAILURE_PAUSE));
        self.record(vec![Change::from(transition), backoff]).await
    }

    /// Removes the times that cannot be true from an answer, as if they could not be
    /// read, and sets the end of a credential that was requested and cannot be read: it is
    /// not taken for one without an end. Returns whether the answer has an end that comes too
    /// soon.
    fn complete_times(
        &self,
        created: &mut CreatedCredential,
        expires_in: Option<Duration>,
        answered_at: Timestamp,
    ) -> bool {
        let conditions = &self.services.conditions;
        let removed = remove_impossible_times(&mut created.metadata, expires_in, answered_at);
        let is_short_lived = removed.contains(&EXPIRY_FIELD);
        created.unreadable_times.extend(removed);
        conditions.report_unreadable_times(&created.unreadable_times);
        if created.unreadable_times.contains(&EXPIRY_FIELD) {
            let created_at = created.metadata.created_at.unwrap_or_else(|| self.now());
            created.metadata.expires_at = expires_in.map(|life| time::after(created_at, life));
        }
        is_short_lived
    }

    fn log_missing_expiry(&self) {
        let conditions = &self.services.conditions;
        if conditions.is_first_occurrence("no-expiry") {
            tracing::warn!(
                "this provider does not let credentials expire, so expires-after has no effect"
            );
        }
    }
}
