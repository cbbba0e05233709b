//! The admin credential that rekeyd itself works with: where it may come from,
//! and which of them is in use.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::core::names::{CredentialId, Label};
use crate::core::secret::{CredentialCell, Secret};
use crate::host::secret_file::{self, ADMIN_CREDENTIAL, Checks, checks_for};
use crate::provider::{Answer, Cause, Credential, NewCredential, Provider, ProviderError};

/// How often at most the sources are read again while all are refused.
const PROBE_EVERY: Duration = Duration::from_secs(10);

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
                "no place for the admin credential is configured; \
                 set [provider] credential-file"
                    .to_owned(),
            );
        }
        (found, problems)
    }
}

/// A provider that is asked with the first credential it accepts. While it
/// refuses the one in use, the sources are read again.
pub struct WithCredential<P> {
    inner: P,
    cell: CredentialCell,
    sources: Sources,
    probed: Mutex<Option<Instant>>,
}

impl<P: Provider> WithCredential<P> {
    /// `cell` is the one that `inner` reads.
    pub fn new(inner: P, cell: CredentialCell, sources: Sources) -> Self {
        Self {
            inner,
            cell,
            sources,
            probed: Mutex::new(None),
        }
    }

    /// Puts a credential to use, if there is none.
    async fn ensure(&self) {
        if self.cell.get().is_none() && self.may_probe() {
            self.choose().await;
        }
    }

    /// After a refusal: is there a better one by now?
    async fn heed<T>(&self, result: Result<T, ProviderError>) -> Result<T, ProviderError> {
        if let Err(error) = &result
            && error.cause == Cause::CredentialRefused
            && self.may_probe()
        {
            tracing::error!(
                "the provider refuses the admin credential in use ({error}); \
                put a valid one into [provider] credential-file"
            );
            self.choose().await;
        }
        result
    }

    fn may_probe(&self) -> bool {
        let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        let may = probed.is_none_or(|at| at.elapsed() >= PROBE_EVERY);
        if may {
            *probed = Some(Instant::now());
        }
        may
    }

    async fn choose(&self) {
        let (found, problems) = self.sources.read();
        for problem in &problems {
            tracing::error!("the admin credential cannot be used: {problem}");
        }
        let only = found.len() == 1;
        for (place, secret) in found {
            let refused = !only
                && matches!(
                    self.inner.verify(&secret).await,
                    Err(ProviderError {
                        cause: Cause::CredentialRefused,
                        ..
                    })
                );
            if refused {
                tracing::warn!("the provider refuses the admin credential of {place}");
                continue;
            }
            if self.cell.get().is_none_or(|used| !used.same_as(&secret)) {
                tracing::info!("working with the admin credential of {place}");
            }
            if place.starts_with('$') {
                tracing::warn!(
                    "the admin credential comes from the environment, where other \
                    programs can see it: for rehearsals only"
                );
            }
            self.cell.set(secret);
            return;
        }
    }
}

#[async_trait]
impl<P: Provider> Provider for WithCredential<P> {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        self.ensure().await;
        self.heed(self.inner.create(label, expires_in).await).await
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        self.ensure().await;
        self.heed(self.inner.check().await).await
    }

    fn may_be_in_use(&self, redacted_value: &str) -> bool {
        self.inner.may_be_in_use(redacted_value)
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.ensure().await;
        self.heed(self.inner.list().await).await
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        self.ensure().await;
        self.heed(self.inner.retrieve(id).await).await
    }

    async fn verify(&self, secret: &Secret) -> Result<Answer<()>, ProviderError> {
        self.inner.verify(secret).await
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        self.ensure().await;
        self.heed(self.inner.delete(id).await).await
    }
}
