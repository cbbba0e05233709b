//! The admin key that rekeyd authenticates with: its sources, and the
//! selection of one of them.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
use crate::platform::file_stamp::FileStamp;
use crate::platform::path_walk::TrustedPaths;
use crate::platform::secret_file::{
    self, ADMIN_CREDENTIAL_NAME, PermissionCheck, permission_check_for,
};
use crate::platform::service_unit::StoredCredential;
use crate::provider::candidate::{CandidateError, RecordedCredentials, examine};
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
    /// rekeyd must not work with the key from there.
    Unfit(AdminKeyPlace, CandidateError),
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
            Self::Unfit(place, error) => {
                write!(formatter, "not using the admin key from {place}: {error}")
            }
        }
    }
}

/// The sources of the admin key.
#[async_trait]
pub trait CredentialSource: Send + Sync {
    /// Reads the sources. Returns each credential with its place, in the order of
    /// precedence, and the problems of the other sources.
    async fn read_all(&self) -> (Vec<(AdminKeyPlace, Secret)>, Vec<String>);

    /// Returns the stamp of the configured file, if that can be seen now: none in it if there
    /// is no such file.
    async fn file_stamp(&self) -> Option<Option<FileStamp>> {
        Some(None)
    }

    /// Returns where the next process looks for the admin key first.
    fn first_place(&self) -> Option<AdminKeyPlace> {
        None
    }
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

    async fn file_stamp(&self) -> Option<Option<FileStamp>> {
        let Some(path) = self.file.clone() else {
            return Some(None);
        };
        let describe = || "checking the file with the admin key".to_owned();
        let seen = READS.run(describe, READ_TIMEOUT, move || FileStamp::of(&path));
        seen.await.ok()
    }

    fn first_place(&self) -> Option<AdminKeyPlace> {
        let is_of_service = self.credentials_directory.is_some() || self.stored.is_some();
        match &self.file {
            Some(path) => Some(AdminKeyPlace::File(path.clone())),
            None if is_of_service => Some(self.service_place(None)),
            None => self.env_secret.as_ref().map(|_| AdminKeyPlace::Variable),
        }
    }
}

/// The pause before a changed file is tried again that could not be tried.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

/// What was seen of the configured file.
#[derive(Debug, Default)]
struct SeenFile {
    /// Its stamp when it was read last; none before that.
    stamp: Option<Option<FileStamp>>,
    /// Before when a change is not tried again.
    retry_at: Option<Instant>,
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
    /// The ledger by which another credential is recognized.
    ledger: Option<Arc<dyn RecordedCredentials>>,
    seen_file: Mutex<SeenFile>,
}

/// What became of an admin key that a person gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenCredential {
    /// Where it has to be stored so that the next process finds it; none if a place holds it.
    pub to_store_in: Option<AdminKeyPlace>,
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
            ledger: None,
            seen_file: Mutex::default(),
        }
    }

    /// Returns a provider that replaces the credential in use only by one that shows a live
    /// credential of this ledger.
    #[must_use]
    pub fn with_ledger(self, ledger: Arc<dyn RecordedCredentials>) -> Self {
        Self {
            ledger: Some(ledger),
            ..self
        }
    }

    /// Selects a credential, if none is in use.
    async fn ensure_selected(&self) -> Result<(), ProviderError> {
        if self.active.get().is_some() {
            return Ok(());
        }
        let problems = self.select(Fallback::Previous).await;
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

    /// Selects the first credential that the provider does not refuse: one that a person
    /// gave, those of the sources, then the one before the last switch. If it refuses all,
    /// the one in use stays. Returns the problems of the sources.
    async fn select(&self, fallback: Fallback) -> Vec<SourceProblem> {
        let stamp = self.source.file_stamp().await;
        let (mut credentials, problems) = self.source.read_all().await;
        // A file that is replaced after the stamp was taken counts as changed.
        self.lock_seen_file().stamp = stamp;
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
        if let Some(given) = self.active.given() {
            let mut stored = credentials.iter();
            if stored.any(|(_, secret)| secret.same_as(&given)) {
                self.active.forget_given();
            } else {
                credentials.insert(0, (AdminKeyPlace::Given, given));
            }
        }
        let previous = match fallback {
            Fallback::Previous => self.active.previous(),
            Fallback::InUse => None,
        };
        credentials.extend(previous.map(|secret| (AdminKeyPlace::Previous, secret)));
        for (source, secret) in credentials {
            match self.try_credential(&source, &secret).await {
                Ok(()) => {
                    self.activate(&source, secret);
                    return problems;
                }
                Err(CandidateError::Refused(_)) => {
                    self.note_place(&source, &secret);
                    problems.push(SourceProblem::Rejected(source));
                }
                Err(
                    error @ (CandidateError::Retired { .. }
                    | CandidateError::Revoked { .. }
                    | CandidateError::Foreign { .. }),
                ) => problems.push(SourceProblem::Unfit(source, error)),
                // This error does not concern the credential, so precedence
                // decides.
                Err(CandidateError::Untried(_) | CandidateError::NoLedger) => {
                    if self.active.get().is_none() {
                        self.activate(&source, secret);
                    }
                    return problems;
                }
            }
        }
        problems
    }

    /// Tries a credential. One that rekeyd works or worked with only has to be accepted.
    async fn try_credential(
        &self,
        place: &AdminKeyPlace,
        secret: &Secret,
    ) -> Result<(), CandidateError> {
        let in_use = self.active.get();
        let is_known = matches!(place, AdminKeyPlace::Previous)
            || in_use.is_some_and(|in_use| in_use.same_as(secret));
        let ledger = self.ledger.as_deref().filter(|_| !is_known);
        examine(&self.inner, &self.active, ledger, secret).await
    }

    /// Works with an admin key that a person gives, before those of every place until one of
    /// them holds it.
    ///
    /// # Errors
    /// Why it is not used. Nothing has changed then.
    pub async fn give(&self, secret: Secret) -> Result<TakenCredential, CandidateError> {
        let place = AdminKeyPlace::Given;
        self.try_credential(&place, &secret).await?;
        let (stored, _) = self.source.read_all().await;
        let mut stored = stored.into_iter();
        let holder = stored.find(|(_, stored)| stored.same_as(&secret));
        let holder = holder.map(|(place, _)| place);
        self.replace(holder.as_ref().unwrap_or(&place), secret.clone());
        if holder.is_some() {
            return Ok(TakenCredential { to_store_in: None });
        }
        self.active.give(secret);
        let to_store_in = self.source.first_place();
        Ok(TakenCredential { to_store_in })
    }

    /// Checks whether the configured file has changed, and works with the key in it if rekeyd
    /// may. Each change is tried once, and again only if nothing could be learned of the key.
    /// Returns whether rekeyd works with another key now.
    pub async fn check_file(&self) -> bool {
        let Some(stamp) = self.source.file_stamp().await else {
            return false;
        };
        if !self.lock_seen_file().has_news(stamp) {
            return false;
        }
        let (stored, problems) = self.source.read_all().await;
        let mut stored = stored.into_iter();
        let in_file = stored.find(|(place, _)| matches!(place, AdminKeyPlace::File(_)));
        let Some((place, secret)) = in_file else {
            self.lock_seen_file().take_note(stamp);
            for problem in problems {
                tracing::warn!("{CHANGE_REFUSED}: {problem}");
            }
            return false;
        };
        if self.is_known_change(&secret) {
            self.lock_seen_file().take_note(stamp);
            return false;
        }
        match self.try_credential(&place, &secret).await {
            Ok(()) => {
                self.lock_seen_file().take_note(stamp);
                self.replace(&place, secret);
                true
            }
            Err(error) if error.may_pass_later() => {
                self.lock_seen_file().retry_at = Some(Instant::now() + RETRY_PAUSE);
                false
            }
            Err(error) => {
                self.lock_seen_file().take_note(stamp);
                tracing::warn!("{CHANGE_REFUSED}: the one in {place} is not used: {error}");
                false
            }
        }
    }

    /// Returns whether a file that changed tells nothing new: rekeyd works with its key, or
    /// wrote it, or a person gave another one that counts before it.
    fn is_known_change(&self, secret: &Secret) -> bool {
        if let Some(given) = self.active.given() {
            if given.same_as(secret) {
                self.active.forget_given();
            }
            return true;
        }
        let in_use = self.active.get();
        in_use.is_none_or(|in_use| in_use.same_as(secret))
            || self.active.origin(secret) == SecretOrigin::Created
    }

    fn lock_seen_file(&self) -> MutexGuard<'_, SeenFile> {
        let seen = self.seen_file.lock();
        seen.unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the sources again, and selects the first credential that the
    /// provider accepts.
    pub async fn reselect(&self) {
        for problem in self.select(Fallback::InUse).await {
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

    /// Works with another credential, and keeps the one in use as the previous one.
    fn replace(&self, place: &AdminKeyPlace, secret: Secret) {
        tracing::info!("using the admin key from {place}");
        self.active.record_own(&secret);
        self.active.replace(secret.clone());
        self.note_place(place, &secret);
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

impl SeenFile {
    /// Returns whether a file with this stamp has to be read.
    fn has_news(&self, stamp: Option<FileStamp>) -> bool {
        let is_changed = self.stamp.is_some_and(|seen| seen != stamp);
        is_changed && self.retry_at.is_none_or(|at| Instant::now() >= at)
    }

    fn take_note(&mut self, stamp: Option<FileStamp>) {
        self.stamp = Some(stamp);
        self.retry_at = None;
    }
}

/// How the log begins to say that a changed file changes nothing.
const CHANGE_REFUSED: &str = "[provider] credential-file has changed, and rekeyd goes on with the admin key \
                    in use";

/// What is used where no source has a credential that works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fallback {
    /// The one before the last switch, because the one in use is refused.
    Previous,
    /// The one in use.
    InUse,
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
            self.select(Fallback::Previous).await;
        }
        let previous = self.active.get();
        let mut error = match self.inner.check().await {
            Err(error) if error.kind == ErrorKind::CredentialRefused => error,
            response => return response,
        };
        let problems = self.select(Fallback::Previous).await;
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
            SourceProblem::Unusable(_) | SourceProblem::Unfit(..) => None,
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

    async fn sees(&self, secret: &Secret, id: &CredentialId) -> Result<bool, ProviderError> {
        self.inner.sees(secret, id).await
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
