//! Checks the answer to a create before it is believed.

use crate::core::active_credential::SecretOrigin;
use crate::core::change::{Change, RejectedAnswer};
use crate::core::decide::create_answer::{AnswerProblem, CreateAnswer, check_create_answer};
use crate::core::ids::{CredentialId, Label, RotationId};
use crate::core::label_match::LabelMatch;
use crate::core::lifecycle::Phase;
use crate::core::policy::RetryClass;
use crate::core::secret::{EndMatch, Secret, compare_end};
use crate::core::secret_text::SecretForm;
use crate::engine::effects::PERMANENT_FAILURE_PAUSE;
use crate::engine::effects::preconditions::Readiness;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::CreatedCredential;

/// The number of rejected answers in a row after which a key creates nothing more, if no
/// list showed what they created.
const MAX_REJECTED_ANSWERS: usize = 2;

impl Worker {
    /// Checks an answer to a create against the ledger and the secrets that this process
    /// knows.
    pub(super) async fn check_answer(
        &self,
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
            secret,
            form: self.secret_form(),
            origin: secret.map_or(SecretOrigin::Unknown, |secret| provider.origin(secret)),
            same_end: secret.and_then(|secret| self.credential_with_end(secret)),
        };
        Ok(check_create_answer(&answer))
    }

    /// Returns what a secret of the key has to be. A compatible provider may have prefixes
    /// of its own, but rekeyd must be able to read its own credential at its next start.
    fn secret_form(&self) -> SecretForm {
        let managed = self.managed.as_ref();
        let mut sinks = managed.iter().flat_map(|managed| &managed.sinks);
        if sinks.any(|(sink, _)| sink.rotates_self_credential()) {
            SecretForm::AdminKey
        } else {
            SecretForm::Token
        }
    }

    /// Returns a live credential of the key whose redacted value shows the end of
    /// `secret`: an earlier process may have delivered it.
    fn credential_with_end(&self, secret: &Secret) -> Option<CredentialId> {
        let live = self.state.live.iter();
        let mut credentials = live.filter_map(|rotation| rotation.credential.as_ref());
        let same = credentials.find(|credential| {
            let redacted_value = credential.redacted_value.as_deref();
            compare_end(secret.expose(), redacted_value) == EndMatch::Same
        });
        same.map(|credential| credential.id.clone())
    }

    /// Records that an answer is not believed. Its secret is dropped, and the next step
    /// searches for the label: whatever the create made is revoked.
    pub(super) async fn reject_answer(
        &mut self,
        rotation: &RotationId,
        label: &Label,
        problem: &AnswerProblem,
    ) -> Result<(), LedgerError> {
        self.needs_follow_up = true;
        tracing::warn!(key = %self.state.key, %rotation, %label,
            "the provider's answer to the create of {label} cannot be true: {problem}; looking \
             for what it made");
        let text = format!("the provider's answer cannot be true: {problem}");
        let retry = self.schedule_retry(rotation, RetryClass::Provider, &text, None);
        let rejected = RejectedAnswer {
            rotation: rotation.clone(),
            problem: problem.to_string(),
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
            "no rotation begun: the provider's last {} answers to a create could not be true, and \
             no list shows what they made ({}). See what stands between rekeyd and the provider, \
             and look there for these names; then: `rekeyd rotate {key}`",
            rejected.len(),
            creates.join("; ")
        );
        self.record_backoff(&problem, Some(PERMANENT_FAILURE_PAUSE))
            .await?;
        Ok(Readiness::Deferred)
    }
}
