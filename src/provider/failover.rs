//! The admin credential that rekeyd authenticates with: its sources, and the
//! choice between them.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;

use crate::core::ids::{CredentialId, Label};
use crate::core::scope::Scope;
use crate::core::secret::{ActiveCredential, Secret};
use crate::platform::BlockingPool;
use crate::platform::secret_file::{
    self, ADMIN_CREDENTIAL_NAME, PermissionCheck, permission_check_for,
};
use crate::provider::{
    CreatedCredential, Effect, ErrorKind, ListedCredential, Provider, ProviderError,
    ProviderResponse, RetryAdvice,
};

/// The sources of the admin credential, in the order of their precedence.
#[derive(Debug, Clone, Default)]
pub struct AdminCredentialSources {
    /// `[provider] credential-file`.
    pub file: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`, made by systemd.
    pub credentials_directory: Option<PathBuf>,
    /// `$OPENAI_ADMIN_KEY`.
    pub env_secret: Option<Secret>,
}

impl AdminCredentialSources {
    /// Every credential that can be read with the name of its source, and the
    /// problems of the other sources.
    fn read_blocking(&self) -> (Vec<(String, Secret)>, Vec<String>) {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        let mut take = |place: String, read: Result<Secret, String>| match read {
            Ok(secret) => found.push((place, secret)),
            Err(problem) => problems.push(problem),
        };
        if let Some(path) = &self.file {
            take(
                path.display().to_string(),
                secret_file::read(
                    path,
                    permission_check_for(path, self.credentials_directory.as_deref()),
                ),
            );
        }
        if let Some(path) = self
            .credentials_directory
            .as_ref()
            .map(|folder| folder.join(ADMIN_CREDENTIAL_NAME))
            && path.exists()
        {
            // systemd guards these files, in ways that differ by its version.
            take(
                path.display().to_string(),
                secret_file::read(&path, PermissionCheck::Skip),
            );
        }
        if let Some(secret) = &self.env_secret {
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

/// The sources of the admin credential.
#[async_trait]
pub trait CredentialSource: Send + Sync {
    /// Every credential that can be read with the name of its source, in the
    /// order of precedence, and the problems of the other sources.
    async fn read_all(&self) -> (Vec<(String, Secret)>, Vec<String>);
}

/// How long the sources may take to read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the sources off the event loop's thread. While they hang, each probe
/// would cost one more thread.
static READS: LazyLock<BlockingPool> = LazyLock::new(|| BlockingPool::new(2));

#[async_trait]
impl CredentialSource for AdminCredentialSources {
    async fn read_all(&self) -> (Vec<(String, Secret)>, Vec<String>) {
        let sources = self.clone();
        let describe = || "reading the admin credential".to_owned();
        READS
            .run(describe, READ_TIMEOUT, move || sources.read_blocking())
            .await
            .unwrap_or_else(|error| (Vec::new(), vec![error.to_string()]))
    }
}

/// A provider that authenticates with the first credential that it accepts.
/// When it refuses the one in use, [`Provider::check`] selects another: a probe
/// for the end of a refusal finds a credential that was replaced meanwhile.
pub struct FailoverProvider<P, S = AdminCredentialSources> {
    inner: P,
    active: ActiveCredential,
    source: S,
}

impl<P: Provider, S: CredentialSource> FailoverProvider<P, S> {
    /// `cell` MUST be the one that `inner` reads.
    pub fn new(inner: P, cell: ActiveCredential, places: S) -> Self {
        Self {
            inner,
            active: cell,
            source: places,
        }
    }

    /// Selects a credential, if none is in use.
    async fn ensure_selected(&self) -> Result<(), ProviderError> {
        if self.active.get().is_some() {
            return Ok(());
        }
        let problems = self.select().await;
        if self.active.get().is_some() {
            return Ok(());
        }
        Err(ProviderError {
            effect: Effect::NotApplied,
            retry: RetryAdvice::Never,
            kind: ErrorKind::NoCredential,
            operation: "find the admin credential".to_owned(),
            message: problems.join("; "),
            request_id: None,
            server_time: None,
        })
    }

    /// Selects the first credential that is not refused: those of the sources,
    /// then the one before the last switch. If all are refused, the one in use
    /// stays. Returns the problems of the sources.
    async fn select(&self) -> Vec<String> {
        let (mut found, mut problems) = self.source.read_all().await;
        if self.active.get().is_none()
            && let [(place, secret)] = found.as_slice()
        {
            // There is no choice, and the next request shows whether it works.
            self.activate(place, secret.clone());
            return problems;
        }
        let former = self.active.previous();
        found.extend(former.map(|secret| ("the time before the last rotation".to_owned(), secret)));
        for (place, secret) in found {
            match self.inner.verify(&secret).await {
                Ok(_) => {
                    self.activate(&place, secret);
                    return problems;
                }
                Err(error) if error.kind == ErrorKind::CredentialRefused => {
                    problems.push(format!("the provider refuses that of {place}"));
                }
                // The error says nothing about the credential: precedence decides.
                Err(_) if self.active.get().is_none() => {
                    self.activate(&place, secret);
                    return problems;
                }
                Err(_) => return problems,
            }
        }
        problems
    }

    /// Reads the sources again, and selects the first credential that the
    /// provider accepts.
    pub async fn reselect(&self) {
        for problem in self.select().await {
            tracing::warn!("{problem}");
        }
    }

    fn activate(&self, place: &str, secret: Secret) {
        if self.active.get().is_some_and(|used| used.same_as(&secret)) {
            return;
        }
        tracing::info!("working with the admin credential of {place}");
        if place.starts_with('$') {
            tracing::warn!(
                "the admin credential comes from the environment, where other \
                programs can see it: for rehearsals only"
            );
        }
        self.active.set(secret);
    }
}

#[async_trait]
impl<P: Provider, S: CredentialSource> Provider for FailoverProvider<P, S> {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
        self.ensure_selected().await?;
        self.inner.create(label, expires_in).await
    }

    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError> {
        self.ensure_selected().await?;
        if self.active.is_using_previous() {
            self.select().await;
        }
        let used = self.active.get();
        let mut error = match self.inner.check().await {
            Err(error) if error.kind == ErrorKind::CredentialRefused => error,
            answer => return answer,
        };
        let problems = self.select().await;
        if self
            .active
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

    fn may_be_previous(&self, redacted_value: &str) -> bool {
        self.inner.may_be_previous(redacted_value)
    }

    async fn list(
        &self,
        scope: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        self.ensure_selected().await?;
        self.inner.list(scope).await
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        self.ensure_selected().await?;
        self.inner.retrieve(id).await
    }

    async fn verify(&self, secret: &Secret) -> Result<ProviderResponse<()>, ProviderError> {
        self.inner.verify(secret).await
    }

    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError> {
        // None is selected here: the caller has compared the one in use with what
        // is deleted.
        let deleted = self.inner.delete(id).await?;
        self.active.forget_revoked(id);
        Ok(deleted)
    }
}
