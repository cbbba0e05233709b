//! The admin key that rekeyd authenticates with: its sources, and the
//! selection of one of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::core::active_credential::{ActiveCredential, CredentialUsage, OwnSecrets, SecretOrigin};
use crate::core::expected_secret::ExpectedSecret;
use crate::core::gate::RequestClass;
use crate::core::ids::{CredentialId, Label};
use crate::core::scope::Scope;
use crate::core::secret::{EndMatch, Secret};
use crate::core::secret_text::{SecretForm, SecretTextError};
use crate::core::state::CredentialMetadata;
use crate::platform::BlockingPool;
use crate::platform::admin_key_place::AdminKeyPlace;
use crate::platform::path_walk::TrustedPaths;
use crate::platform::secret_file::{
    self, ADMIN_CREDENTIAL_NAME, PermissionCheck, permission_check_for,
};
use crate::platform::service_unit::StoredCredential;
use crate::provider::{
    CreatedCredential, Effect, ErrorKind, GENERAL_ADVICE, ListedCredential, Provider,
    ProviderError, ProviderResponse, RetryAdvice,
};

/// The sources of the admin key, in the order of their precedence.
#[derive(Debug, Clone, Default)]
pub struct AdminCredentialSources {
    /// `[provider] credential-file`.
    pub file: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`, set by systemd.
    pub credentials_directory: Option<PathBuf>,
    /// What the service manager would pass to the service, for a command that runs as the
    /// service.
    pub passed_secret: Option<Result<Secret, SecretTextError>>,
    /// The file that the service manager passes to the service, if the unit is known.
    pub stored: Option<StoredCredential>,
    /// `$OPENAI_ADMIN_KEY`.
    pub env_secret: Option<Result<Secret, SecretTextError>>,
    /// The parts of paths that others may own or write.
    pub trusted_paths: TrustedPaths,
}

impl AdminCredentialSources {
    /// Reads the sources. Returns each credential with its place, and the problems of
    /// the other sources.
    fn read_blocking(&self) -> (Vec<(AdminKeyPlace, Secret)>, Vec<String>) {
        let (mut credentials, mut problems) = (Vec::new(), Vec::new());
        if let Some(path) = &self.file {
            let place = AdminKeyPlace::File(path.clone());
            let folder = self.credentials_directory.as_deref();
            let check = permission_check_for(path, folder, &self.trusted_paths);
            match secret_file::read(path, &check, SecretForm::AdminKey) {
                Ok(secret) => credentials.push((place, secret)),
                Err(error) => problems.push(place.explain_file(&error)),
            }
        }
        let folder = self.credentials_directory.as_ref();
        if let Some(path) = folder.map(|folder| folder.join(ADMIN_CREDENTIAL_NAME))
            && path.exists()
        {
            let place = self.service_place(Some(path.clone()));
            // systemd protects these files, in ways that differ by its version.
            match secret_file::read(&path, &PermissionCheck::Skip, SecretForm::AdminKey) {
                Ok(secret) => credentials.push((place, secret)),
                Err(error) => problems.push(place.explain_file(&error)),
            }
        }
        for (place, text) in [
            (self.service_place(None), &self.passed_secret),
            (AdminKeyPlace::Variable, &self.env_secret),
        ] {
            match text {
                Some(Ok(secret)) => credentials.push((place, secret.clone())),
                Some(Err(error)) => {
                    problems.push(place.explain_text(&place, error));
                }
                None => {}
            }
        }
        if credentials.is_empty() && problems.is_empty() {
            // A credential whose file was missing at the start is not passed.
            let advice = missing_key_advice(self.stored.as_ref());
            problems.push(match &self.credentials_directory {
                Some(folder) => format!(
                    "found none: {} ($CREDENTIALS_DIRECTORY) has no {ADMIN_CREDENTIAL_NAME}, and \
                     [provider] credential-file is not set; hint: {advice}",
                    folder.display()
                ),
                None => format!("found none; hint: {advice}"),
            });
        }
        (credentials, problems)
    }

    fn service_place(&self, copy: Option<PathBuf>) -> AdminKeyPlace {
        let stored = self.stored.clone();
        AdminKeyPlace::Service { copy, stored }
    }
}

/// Returns where a person stores the admin key, if there is none: `stored` is the place that
/// the unit names.
#[must_use]
pub fn missing_key_advice(stored: Option<&StoredCredential>) -> String {
    match stored {
        _ if secret_file::is_onlooker() => {
            "run it with sudo, because only root and rekeyd's service see the admin key".to_owned()
        }
        Some(stored) => {
            let stored = Some(stored.clone());
            let place = AdminKeyPlace::Service { copy: None, stored };
            format!("{}, or set [provider] credential-file", place.advice())
        }
        None => format!(
            "set [provider] credential-file to the path of its file, or pass the key with \
             systemd's LoadCredential={ADMIN_CREDENTIAL_NAME}"
        ),
    }
}

/// What is wrong with a source of the admin key.
enum SourceProblem {
    /// The provider does not accept the key from there.
    Rejected(AdminKeyPlace),
    /// It cannot be used, in words.
    Unusable(String),
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(place) => {
                write!(
                    formatter,
                    "the provider rejects the credential from {place}"
                )
            }
            Self::Unusable(problem) => formatter.write_str(problem),
        }
    }
}

/// The sources of the admin key.
#[async_trait]
pub trait CredentialSource: Send + Sync {
    /// Reads the sources. Returns each credential with its place, in the order of
    /// precedence, and the problems of the other sources.
    async fn read_all(&self) -> (Vec<(AdminKeyPlace, Secret)>, Vec<String>);
}

/// The time limit of reading the sources.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The threads that read the sources. While these hang, each probe would occupy
/// one more thread otherwise.
static READS: LazyLock<BlockingPool> = LazyLock::new(|| BlockingPool::new(2));

#[async_trait]
impl CredentialSource for AdminCredentialSources {
    async fn read_all(&self) -> (Vec<(AdminKeyPlace, Secret)>, Vec<String>) {
        let sources = self.clone();
        let describe = || "reading the admin key".to_owned();
        READS
            .run(describe, READ_TIMEOUT, move || sources.read_blocking())
            .await
            .unwrap_or_else(|error| (Vec::new(), vec![error.to_string()]))
    }
}

/// A provider that authenticates with the first credential that it accepts.
/// When it refuses the one in use, [`Provider::check`] selects another, so that
/// the probes during a refusal find a credential that was replaced in the
/// meantime.
pub struct FailoverProvider<P, S = AdminCredentialSources> {
    inner: P,
    active: ActiveCredential,
    source: S,
    /// The place of the credential in use, as of the last selection.
    place: Mutex<Option<AdminKeyPlace>>,
}

impl<P: Provider, S: CredentialSource> FailoverProvider<P, S> {
    /// Returns a provider that selects from `source`. `inner` MUST read
    /// `active`.
    pub fn new(inner: P, active: ActiveCredential, source: S) -> Self {
        Self {
            inner,
            active,
            source,
            place: Mutex::new(None),
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
            operation: "find the admin key".to_owned(),
            message: join_problems(&problems),
            class: RequestClass::Read,
            code: None,
            request_id: None,
            server_time: None,
        })
    }

    /// Selects the first credential that the provider does not refuse: those of
    /// the sources, then the one before the last switch. If it refuses all, the
    /// one in use stays. Returns the problems of the sources.
    async fn select(&self) -> Vec<SourceProblem> {
        let (mut credentials, problems) = self.source.read_all().await;
        let problems = problems.into_iter().map(SourceProblem::Unusable);
        let mut problems: Vec<_> = problems.collect();
        for (_, secret) in &credentials {
            self.active.record_own(secret);
        }
        if self.active.get().is_none()
            && let [(source, secret)] = credentials.as_slice()
        {
            // There is no choice, and the next request shows whether the only
            // credential works.
            self.activate(source, secret.clone());
            return problems;
        }
        let previous = self.active.previous();
        credentials.extend(previous.map(|secret| (AdminKeyPlace::Previous, secret)));
        for (source, secret) in credentials {
            match self.inner.verify(&secret).await {
                Ok(_) => {
                    self.activate(&source, secret);
                    return problems;
                }
                Err(error) if error.kind == ErrorKind::CredentialRefused => {
                    self.note_place(&source, &secret);
                    problems.push(SourceProblem::Rejected(source));
                }
                // This error does not concern the credential, so precedence
                // decides.
                Err(_) if self.active.get().is_none() => {
                    self.activate(&source, secret);
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

    /// Notes where the credential in use is from, if it is this one.
    fn note_place(&self, place: &AdminKeyPlace, secret: &Secret) {
        let in_use = self.active.get();
        if in_use.is_some_and(|in_use| in_use.same_as(secret)) {
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place.clone());
        }
    }

    fn activate(&self, source: &AdminKeyPlace, secret: Secret) {
        self.note_place(source, &secret);
        if self
            .active
            .get()
            .is_some_and(|active| active.same_as(&secret))
        {
            return;
        }
        tracing::info!("using the admin key from {source}");
        if matches!(source, AdminKeyPlace::Variable) {
            tracing::warn!(
                "the admin key comes from the environment, which other programs can \
                 read; hint: do this for rehearsals only"
            );
        }
        self.active.set(secret.clone());
        self.note_place(source, &secret);
    }
}

fn join_problems(problems: &[SourceProblem]) -> String {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
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
        let previous = self.active.get();
        let mut error = match self.inner.check().await {
            Err(error) if error.kind == ErrorKind::CredentialRefused => error,
            response => return response,
        };
        let problems = self.select().await;
        if self
            .active
            .get()
            .zip(previous)
            .is_some_and(|(current, previous)| !current.same_as(&previous))
        {
            return self.inner.check().await;
        }
        // The error says already that the provider rejects it.
        let (rejected, others): (Vec<_>, Vec<_>) = problems
            .into_iter()
            .partition(|problem| matches!(problem, SourceProblem::Rejected(_)));
        let places = rejected.iter().filter_map(|problem| match problem {
            SourceProblem::Rejected(place) => Some(format!("the key from {place}")),
            SourceProblem::Unusable(_) => None,
        });
        let places: Vec<_> = places.collect();
        if !places.is_empty() {
            error
                .message
                .push_str(&format!(" (for {})", places.join(" and ")));
        }
        if !others.is_empty() {
            error
                .message
                .push_str(&format!("; {}", join_problems(&others)));
        }
        Err(error)
    }

    fn usage(&self, id: &CredentialId, redacted_value: Option<&str>) -> CredentialUsage {
        self.inner.usage(id, redacted_value)
    }

    fn record_created(
        &self,
        id: &CredentialId,
        secret: &Secret,
        redacted_value: Option<&str>,
    ) -> bool {
        self.inner.record_created(id, secret, redacted_value)
    }

    fn admin_key_advice(&self) -> String {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place.as_ref();
        place.map_or_else(|| GENERAL_ADVICE.to_owned(), AdminKeyPlace::advice)
    }

    fn own_credential_version(&self) -> u64 {
        self.active.version()
    }

    fn own_credential_generation(&self) -> u64 {
        self.active.generation()
    }

    fn origin(&self, secret: &Secret) -> SecretOrigin {
        self.inner.origin(secret)
    }

    fn record_refused(&self, secret: &Secret) {
        self.inner.record_refused(secret);
    }

    fn compare_secret(
        &self,
        secret: &Secret,
        id: &CredentialId,
        redacted_value: Option<&str>,
    ) -> EndMatch {
        self.inner.compare_secret(secret, id, redacted_value)
    }

    fn own_secrets(&self) -> OwnSecrets {
        self.inner.own_secrets()
    }

    fn record_newer(&self, id: &CredentialId, own: OwnSecrets) {
        self.inner.record_newer(id, own);
    }

    fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret {
        self.inner.expected_secret(credential)
    }

    fn distrust_redacted_values(&self) {
        self.inner.distrust_redacted_values();
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
        // No credential is selected here: the caller has compared the one in
        // use with the one to delete.
        let response = self.inner.delete(id).await?;
        self.active.forget_revoked(id);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_admin_key_names_the_place_where_it_should_be() {
        let stored = StoredCredential {
            name: ADMIN_CREDENTIAL_NAME.to_owned(),
            path: "/etc/credstore/openai-admin-key".into(),
            is_encrypted: false,
            unit: "rekeyd.service".to_owned(),
        };
        for (folder, stored) in [
            (None, None),
            (Some("/run/credentials/x"), None),
            (None, Some(stored.clone())),
            (Some("/run/credentials/x"), Some(stored)),
        ] {
            let sources = AdminCredentialSources {
                credentials_directory: folder.map(PathBuf::from),
                stored: stored.clone(),
                ..AdminCredentialSources::default()
            };
            let (credentials, problems) = sources.read_blocking();
            assert!(credentials.is_empty());
            // It is the hint of `rekeyd check`.
            let hint = format!("; hint: {}", missing_key_advice(stored.as_ref()));
            assert!(problems[0].ends_with(&hint), "{problems:?}");
            let copy = folder.map(|folder| format!("{folder} ($CREDENTIALS_DIRECTORY)"));
            assert!(
                copy.is_none_or(|copy| problems[0].contains(&copy)),
                "{problems:?}"
            );
        }
    }
}
