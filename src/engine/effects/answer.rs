//! Checks the answer to a create before it is believed.

use jiff::Timestamp;

use crate::core::active_credential::SecretOrigin;
use crate::core::change::{Change, RejectedAnswer};
use crate::core::creation_time::existed_before;
use crate::core::decide::create_answer::{
    AnswerProblem, CreateAnswer, EqualEnd, Evidence, Resemblance, check_create_answer,
};
use crate::core::ids::{KeyName, Label, RotationId, SinkId};
use crate::core::label_match::LabelMatch;
use crate::core::lifecycle::Phase;
use crate::core::policy::RetryClass;
use crate::core::secret::{EndMatch, Secret, identifying_end, without_head};
use crate::core::secret_digests::is_same_secret;
use crate::core::secret_text::SecretForm;
use crate::core::state::Rotation;
use crate::engine::effects::PERMANENT_FAILURE_PAUSE;
use crate::engine::effects::held_keys::holds_credential;
use crate::engine::effects::preconditions::Readiness;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{CreatedCredential, ProviderError};

/// The number of rejected answers in a row after which a key creates nothing more, if no
/// list showed what they created.
const MAX_REJECTED_ANSWERS: usize = 2;

/// What the targets of a rotation say of a secret with the end of its credential.
enum HeldSecret {
    /// This one holds that very secret.
    Same(SinkId),
    /// They hold another secret with that end.
    Other,
    /// They cannot be read, or hold something else.
    Unknown,
}

impl Worker {
    /// Checks an answer to a create against the ledger and the secrets that this process
    /// knows.
    pub(super) async fn check_answer(
        &self,
        rotation: &RotationId,
        label: &Label,
        created: &CreatedCredential,
    ) -> Result<Result<LabelMatch, AnswerProblem>, LedgerError> {
        let (ledger, provider) = (&self.services.ledger, &self.services.provider);
        let id = &created.metadata.id;
        let secret = created.secret.as_ref();
        let answer = CreateAnswer {
            label,
            id,
            name: created.name.as_deref(),
            recorded_for: ledger.key_for_credential(id).await?,
            listed_as: ledger.name_without_row(&self.context.scope, id).await?,
            created_at: created.metadata.created_at,
            earliest: self.earliest_creation(rotation),
            bears_label: self.bears_label(rotation, label, created).await,
            secret,
            form: self.secret_form(),
            origin: secret.map_or(SecretOrigin::Unknown, |secret| provider.origin(secret)),
            resemblance: self.find_resemblance(rotation, created).await?,
        };
        let checked = check_create_answer(&answer);
        let (Ok(_), Some(secret)) = (&checked, secret) else {
            return Ok(checked);
        };
        // An earlier process, or a person, may have put it there, and no row shows its end.
        match self.context.file_search.find_secret(secret).await {
            Some((key, sink)) => Ok(Err(AnswerProblem::InFile { key, sink })),
            None => Ok(checked),
        }
    }

    /// Returns whether what a create answered bears its label. If its time of creation is
    /// one of before, the provider is asked for the id: an answer that is made of an older
    /// one may have the new label.
    async fn bears_label(
        &self,
        rotation: &RotationId,
        label: &Label,
        created: &CreatedCredential,
    ) -> bool {
        let is_label = |name: Option<&str>| name == Some(label.as_str());
        let is_answered = is_label(created.name.as_deref());
        if !existed_before(
            created.metadata.created_at,
            self.earliest_creation(rotation),
        ) {
            return is_answered;
        }
        match self.retrieve(&created.metadata).await {
            Ok(answer) => match answer.value {
                Some(shown) => is_label(shown.name.as_deref()),
                None => is_answered,
            },
            Err(_) => is_answered,
        }
    }

    /// Returns the earliest time of creation of what the create of a rotation made.
    pub(super) fn earliest_creation(&self, rotation: &RotationId) -> Timestamp {
        let row = self.state.rotation(rotation);
        row.map_or_else(|| self.now(), Rotation::earliest_creation)
    }

    /// Returns the form that a secret of the key must have. A compatible provider may have
    /// prefixes of its own, but rekeyd must be able to read its own credential at its next
    /// start.
    fn secret_form(&self) -> SecretForm {
        let managed = self.managed.as_ref();
        let mut sinks = managed.iter().flat_map(|managed| &managed.sinks);
        if sinks.any(|(sink, _)| sink.rotates_self_credential()) {
            SecretForm::AdminKey
        } else {
            SecretForm::Token
        }
    }

    /// Searches the live credentials of all keys for one that may have the secret of an
    /// answer: an earlier process may have delivered it.
    async fn find_resemblance(
        &self,
        rotation: &RotationId,
        created: &CreatedCredential,
    ) -> Result<Option<Resemblance>, LedgerError> {
        let Some(secret) = &created.secret else {
            return Ok(None);
        };
        let Some(end) = identifying_end(secret.expose()) else {
            return Ok(None);
        };
        let (ledger, provider) = (&self.services.ledger, &self.services.provider);
        let mut undecided: Option<(_, _, EqualEnd)> = None;
        let found = ledger.rotations_with_end(end).await?;
        // Only an end that nothing explains needs the number.
        let live = if found.is_empty() {
            0
        } else {
            ledger.count_shown_ends().await?
        };
        for (key, row) in found {
            let Some(credential) = row.credential.as_ref().filter(|_| row.id != *rotation) else {
                continue;
            };
            let shown = credential.redacted_value.as_deref();
            // A false answer may have changed the prefix of a secret.
            let shown_end = shown.map(without_head);
            if provider.compare_secret(secret, &credential.id, shown_end) != EndMatch::Same {
                continue;
            }
            let end = EqualEnd::new(secret, shown, live);
            let credential = credential.id.clone();
            match self.compare_with_targets(&key, &row, secret).await {
                HeldSecret::Same(sink) => {
                    return Ok(Some(Resemblance {
                        credential,
                        key,
                        evidence: Evidence::InTarget(sink),
                    }));
                }
                HeldSecret::Other => {}
                HeldSecret::Unknown => {
                    // The longest end is the least likely to be equal by chance.
                    if undecided
                        .as_ref()
                        .is_none_or(|(.., other)| other.length < end.length)
                    {
                        undecided = Some((credential, key, end));
                    }
                }
            }
        }
        let Some((credential, key, end)) = undecided else {
            return Ok(None);
        };
        let evidence = if self.shows_other_end(created, secret).await {
            Evidence::OtherEnd
        } else {
            Evidence::EndAlone(end)
        };
        Ok(Some(Resemblance {
            credential,
            key,
            evidence,
        }))
    }

    /// Compares a secret with what the targets of a rotation hold, as far as they can be
    /// read.
    async fn compare_with_targets(
        &self,
        key: &KeyName,
        row: &Rotation,
        secret: &Secret,
    ) -> HeldSecret {
        let Some(managed) = self.context.configured.get(key) else {
            return HeldSecret::Unknown;
        };
        let mut compared = HeldSecret::Unknown;
        for delivery in &row.deliveries {
            let Some(sink) = managed.sink(&delivery.sink) else {
                continue;
            };
            let content = sink.inspect().await;
            if content
                .keys()
                .iter()
                .any(|held| is_same_secret(held, secret))
            {
                return HeldSecret::Same(delivery.sink.clone());
            }
            // Its owner may write any text there, to have chance explain an equal end.
            if sink.has_foreign_folder() {
                continue;
            }
            // The secret of that credential is another one with the same end.
            let credential = row.credential.as_ref();
            let provider = self.services.provider.as_ref();
            let is_held = |one| holds_credential(provider, content.keys(), one);
            if credential.is_some_and(is_held) {
                compared = HeldSecret::Other;
            }
        }
        compared
    }

    /// Returns whether the provider shows the new credential with another end than that of
    /// the secret in its answer.
    async fn shows_other_end(&self, created: &CreatedCredential, secret: &Secret) -> bool {
        let provider = &self.services.provider;
        let id = &created.metadata.id;
        let answer: Result<_, ProviderError> = self.retrieve(&created.metadata).await;
        let listed = answer.ok().and_then(|answer| answer.value);
        listed.is_some_and(|listed| {
            let shown = listed.metadata.redacted_value.as_deref();
            provider.compare_secret(secret, id, shown) == EndMatch::Different
        })
    }

    /// Records that an answer is not believed. Its secret is dropped, and the next step
    /// searches for the label: whatever the create made is revoked.
    pub(super) async fn reject_answer(
        &mut self,
        rotation: &RotationId,
        label: &Label,
        (secret, problem): (Option<&Secret>, &AnswerProblem),
    ) -> Result<(), LedgerError> {
        self.needs_follow_up = true;
        if let Some(secret) = secret {
            self.services.provider.record_refused(secret);
        }
        let judged = if problem.is_doubt() {
            "may be wrong"
        } else {
            "is wrong"
        };
        let key = &self.state.key;
        tracing::warn!(%key, %rotation, %label,
            "{key}: the provider's response to the create of {label} {judged}: {problem}; \
             searching for the credential");
        let text = format!("the provider's response {judged}: {problem}");
        let retry = self.schedule_retry(rotation, RetryClass::Provider, &text, None);
        let rejected = RejectedAnswer {
            rotation: rotation.clone(),
            problem: problem.to_string(),
            is_doubt: problem.is_doubt(),
        };
        self.record(vec![Change::from(rejected), retry]).await
    }

    /// Checks that the provider's last answers to creates of this key were believed, or
    /// what they made was found: each further create could leave one more credential
    /// behind.
    pub(super) async fn check_earlier_answers(&mut self) -> Result<Readiness, LedgerError> {
        if self.state.newest_phase != Some(Phase::Failed) {
            return Ok(Readiness::Ready);
        }
        let ledger = &self.services.ledger;
        let key = &self.state.key;
        let rejected = ledger.rejected_answers(key, MAX_REJECTED_ANSWERS).await?;
        if rejected.len() < MAX_REJECTED_ANSWERS {
            return Ok(Readiness::Ready);
        }
        let creates = rejected
            .iter()
            .map(|create| format!("{}: {}", create.label, create.error));
        let creates: Vec<String> = creates.collect();
        let problem = format!(
            "the provider's last {} responses to a create were wrong, and no list shows what they \
             created ({}); hint: check any proxy between rekeyd and the provider, search the \
             provider for these names, then run `rekeyd rotate {key}`",
            rejected.len(),
            creates.join("; ")
        );
        self.record_backoff(&problem, Some(PERMANENT_FAILURE_PAUSE))
            .await?;
        Ok(Readiness::Deferred)
    }
}
