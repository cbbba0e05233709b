//! The admin credential that rekeyd itself works with: where it may come from,
//! and which of them is in use.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use crate::core::names::{CredentialId, Label};
use crate::core::secret::{CredentialCell, Secret};
use crate::host::secret_file::{self, ADMIN_CREDENTIAL, Checks, checks_for};
use crate::provider::{
    Answer, Cause, Credential, NewCredential, Outcome, Provider, ProviderError, Retry,
};

/// Where the admin credential may come from, in the order in which they count.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `[provider] credential-file`.
    pub file: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`, made by systemd.
    pub directory: Option<PathBuf>,
    /// `$OPENAI_ADMIN_KEY`.
    pub variable: Option<Secret>,
}

impl Sources {
    /// Every credential that can be read, with the name of its place, and what
    /// is wrong with the other places.
    #[must_use]
    pub fn read(&self) -> (Vec<(String, Secret)>, Vec<String>) {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        let mut take = |place: String, read: Result<Secret, String>| match read {
            Ok(secret) => found.push((place, secret)),
            Err(problem) => problems.push(problem),
        };
        if let Some(path) = &self.file {
            take(
                path.display().to_string(),
                secret_file::read(path, checks_for(path, self.directory.as_deref())),
            );
        }
        if let Some(path) = self
            .directory
            .as_ref()
            .map(|folder| folder.join(ADMIN_CREDENTIAL))
            && path.exists()
        {
            // systemd guards these files, in ways that differ by its version.
            take(
                path.display().to_string(),
                secret_file::read(&path, Checks::None),
            );
        }
        if let Some(secret) = &self.variable {
            take("$OPENAI_ADMIN_KEY".to_owned(), Ok(secret.clone()));
        }
        if found.is_empty() && problems.is_empty() {
            problems.push(
                "no place for the admin credential is configured; set [provider] \
                 credential-file, or put it into /etc/credstore/openai-admin-key for rekeyd's unit"
                    .to_owned(),
            );
        }
        (found, problems)
    }
}

/// Where the admin credential may come from.
pub trait Places: Send + Sync {
    /// Every credential that can be read, with the name of its place, in the
    /// order in which they count; and what is wrong with the other places.
    fn read(&self) -> (Vec<(String, Secret)>, Vec<String>);
}

impl Places for Sources {
    fn read(&self) -> (Vec<(String, Secret)>, Vec<String>) {
        Self::read(self)
    }
}

/// A provider that is asked with the first credential it accepts. When it
/// refuses the one in use, [`Provider::check`] looks for another: so whoever
/// probes for the end of a refusal finds what a person has put right.
pub struct WithCredential<P, S = Sources> {
    inner: P,
    cell: CredentialCell,
    places: S,
}

impl<P: Provider, S: Places> WithCredential<P, S> {
    /// `cell` is the one that `inner` reads.
    pub fn new(inner: P, cell: CredentialCell, places: S) -> Self {
        Self {
            inner,
            cell,
            places,
        }
    }

    /// Puts a credential to use, if there is none.
    async fn ensure(&self) -> Result<(), ProviderError> {
        if self.cell.get().is_some() {
            return Ok(());
        }
        let problems = self.choose().await;
        if self.cell.get().is_some() {
            return Ok(());
        }
        Err(ProviderError {
            outcome: Outcome::NotDone,
            retry: Retry::Never,
            cause: Cause::NoCredential,
            operation: "find the admin credential".to_owned(),
            message: problems.join("; "),
            request_id: None,
            date: None,
        })
    }

    /// Puts the first credential to use that is not refused: those of the
    /// places, then the one from before a change over. If all are, what is in
    /// use stays. Gives what is wrong with the places.
    async fn choose(&self) -> Vec<String> {
        let (mut found, mut problems) = self.places.read();
        if self.cell.get().is_none()
            && let [(place, secret)] = found.as_slice()
        {
            // There is no choice, and whether it works is seen at once.
            self.put_to_use(place, secret.clone());
            return problems;
        }
        let former = self.cell.former();
        found.extend(former.map(|secret| ("the time before the last rotation".to_owned(), secret)));
        for (place, secret) in found {
            match self.inner.verify(&secret).await {
                Ok(_) => {
                    self.put_to_use(&place, secret);
                    return problems;
                }
                Err(error) if error.cause == Cause::CredentialRefused => {
                    problems.push(format!("the provider refuses that of {place}"));
                }
                // It says nothing about this one; what was first counts.
                Err(_) if self.cell.get().is_none() => {
                    self.put_to_use(&place, secret);
                    return problems;
                }
                Err(_) => return problems,
            }
        }
        problems
    }

    /// Looks at the places again, and puts the first credential to use that the
    /// provider accepts.
    pub async fn read_places_again(&self) {
        for problem in self.choose().await {
            tracing::warn!("{problem}");
        }
    }

    fn put_to_use(&self, place: &str, secret: Secret) {
        if self.cell.get().is_some_and(|used| used.same_as(&secret)) {
            return;
        }
        tracing::info!("working with the admin credential of {place}");
        if place.starts_with('$') {
            tracing::warn!(
                "the admin credential comes from the environment, where other \
                programs can see it: for rehearsals only"
            );
        }
        self.cell.set(secret);
    }
}

#[async_trait]
impl<P: Provider, S: Places> Provider for WithCredential<P, S> {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        self.ensure().await?;
        self.inner.create(label, expires_in).await
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        self.ensure().await?;
        if self.cell.has_fallen_back() {
            self.choose().await;
        }
        let used = self.cell.get();
        let mut error = match self.inner.check().await {
            Err(error) if error.cause == Cause::CredentialRefused => error,
            answer => return answer,
        };
        let problems = self.choose().await;
        if self
            .cell
            .get()
            .zip(used)
            .is_some_and(|(now, before)| !now.same_as(&before))
        {
            return self.inner.check().await;
        }
        for problem in problems {
            error.message.push_str("; ");
            error.message.push_str(&problem);
        }
        Err(error)
    }

    fn may_be_in_use(&self, redacted_value: &str) -> bool {
        self.inner.may_be_in_use(redacted_value)
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.ensure().await?;
        self.inner.list().await
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        self.ensure().await?;
        self.inner.retrieve(id).await
    }

    async fn verify(&self, secret: &Secret) -> Result<Answer<()>, ProviderError> {
        self.inner.verify(secret).await
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        self.ensure().await?;
        let deleted = self.inner.delete(id).await?;
        self.cell.forget(id);
        Ok(deleted)
    }
}
