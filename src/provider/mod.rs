//! The provider, which issues, verifies, lists and revokes credentials.
//!
//! [`Provider`] is the contract with the engine, whose decisions rest on its
//! obligations. [`openai`] implements it over HTTP, and [`failover`] selects
//! the credential of the requests.

pub mod candidate;
pub mod failover;
pub mod kind;
pub mod openai;
pub mod settings;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::core::active_credential::{CredentialUsage, OwnSecrets, SecretOrigin};
use crate::core::expected_secret::ExpectedSecret;
use crate::core::gate::{GateCause, RequestClass};
use crate::core::ids::{CredentialId, Label};
pub use crate::core::in_flight::CreatedCredential;
use crate::core::reported_time::{EXPIRY_FIELD, ReportedTime, ShownEnd};
use crate::core::scope::Scope;
use crate::core::secret::{EndMatch, Secret};
use crate::core::state::CredentialMetadata;

/// How a person replaces an admin key of which the place is not known.
const GENERAL_ADVICE: &str = "store a valid admin key where rekeyd reads it";

/// The provider's operations. One call sends at most one request that changes
/// anything, and repeats none.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Creates a credential that bears `label`. MUST NOT be called twice with
    /// one label. An error with [`Effect::Unknown`] may have created it.
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError>;

    /// Sends a harmless request with the credential in use, which shows that
    /// the provider is reachable and accepts it, and returns the provider's
    /// time.
    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError>;

    /// Returns whether rekeyd authenticates with a credential, by its id and the
    /// redacted value that the provider shows. When in doubt, it may.
    fn usage(&self, id: &CredentialId, redacted_value: Option<&str>) -> CredentialUsage;

    /// Records the secret of a credential that was just created, for [`Self::usage`].
    /// Returns whether the redacted value in the same answer contradicts it.
    fn record_created(
        &self,
        id: &CredentialId,
        secret: &Secret,
        redacted_value: Option<&str>,
    ) -> bool;

    /// Returns where a secret is known from.
    fn origin(&self, secret: &Secret) -> SecretOrigin;

    /// Records the secret of an answer that was not believed: no later create has it.
    fn record_refused(&self, secret: &Secret);

    /// Compares a secret with that of a credential: by what came in the answer to its
    /// create since this process started, else by the end that its redacted value shows.
    fn compare_secret(
        &self,
        secret: &Secret,
        id: &CredentialId,
        redacted_value: Option<&str>,
    ) -> EndMatch;

    /// Returns which secrets rekeyd works with now.
    fn own_secrets(&self) -> OwnSecrets {
        OwnSecrets::default()
    }

    /// Records that a credential whose secret was lost is newer than these secrets.
    fn record_newer(&self, id: &CredentialId, own: OwnSecrets) {
        let _ = (id, own);
    }

    /// Returns what this process knows of the secret of a credential.
    fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret;

    /// From now on, takes no redacted value as proof that a credential is not the one in
    /// use.
    fn distrust_redacted_values(&self);

    /// Returns how a person replaces the credential in use where it came from.
    fn admin_key_advice(&self) -> String {
        GENERAL_ADVICE.to_owned()
    }

    /// Returns a number that changes whenever rekeyd authenticates with another credential:
    /// what [`Provider::usage`] returned may be wrong then.
    fn own_credential_version(&self) -> u64 {
        0
    }

    /// Returns a number that changes whenever rekeyd begins to authenticate with a
    /// credential that may be of another organization; 0 before the first.
    fn own_credential_generation(&self) -> u64 {
        0
    }

    /// Lists every credential of a scope once, over all pages.
    async fn list(
        &self,
        scope: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError>;

    /// Retrieves one credential. Returns `None` if the provider reports that
    /// there is none (404 with its error envelope).
    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError>;

    /// Sends a harmless request with `secret` instead of the credential in use.
    /// `Ok` means that it works; [`ErrorKind::CredentialRefused`] and
    /// [`ErrorKind::Forbidden`] mean that the provider refused it.
    async fn verify(&self, secret: &Secret) -> Result<ProviderResponse<()>, ProviderError>;

    /// Returns whether `secret`, used instead of the credential in use, shows a credential: only
    /// one of the same organization does.
    async fn sees(&self, secret: &Secret, id: &CredentialId) -> Result<bool, ProviderError>;

    /// Deletes a credential; `Ok` also if it did not exist any more. It MUST
    /// change the credential in use neither before nor while it sends the
    /// request, and MUST read that credential without an `.await` after the
    /// call: the caller compares it with `id` right before.
    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError>;

    /// Lists every credential of a scope that bears `label`: names need not be
    /// unique.
    async fn find(
        &self,
        scope: &Scope,
        label: &Label,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        let mut response = self.list(scope).await?;
        response
            .value
            .retain(|credential| credential.name.as_deref() == Some(label.as_str()));
        Ok(response)
    }
}

/// The result of a successful request, and the provider's time.
#[derive(Debug, Clone)]
pub struct ProviderResponse<T> {
    /// The result.
    pub value: T,
    /// The `Date` header of the response, if it had a valid one.
    pub server_time: Option<Timestamp>,
}

/// A credential as the provider lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCredential {
    /// Its metadata, which may be recorded.
    pub metadata: CredentialMetadata,
    /// Its name: one of this ledger's labels, another text, or none.
    pub name: Option<String>,
    /// Its end, as far as the response shows one.
    pub end: ShownEnd,
    /// The time of its last use. The provider reports it imprecisely and late,
    /// so that no decision rests on it alone.
    pub last_used: ReportedTime,
    /// The fields of the response with times that cannot be read.
    pub unreadable_times: Vec<&'static str>,
    /// Its owner, for people.
    pub owner: Option<String>,
}

impl ListedCredential {
    /// Returns its last use, as far as it is known. Where its end cannot be read, what
    /// the response says of it is not understood, and it counts as used.
    #[must_use]
    pub fn last_use(&self) -> ReportedTime {
        if self.unreadable_times.contains(&EXPIRY_FIELD) {
            ReportedTime::Unreadable
        } else {
            self.last_used
        }
    }
}

/// Whether a failed operation took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It certainly did not.
    NotApplied,
    /// It may have.
    Unknown,
}

/// Whether a retry can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// Later; the provider may have named a delay.
    Later(Option<Duration>),
    /// Not before a person has changed something.
    Never,
}

/// The kind of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no credential to authenticate with.
    NoCredential,
    /// 401 `invalid_api_key`: the credential is wrong, revoked or too new.
    CredentialRefused,
    /// Another 401, or 403: not allowed, which does not prove that the
    /// credential is invalid.
    Forbidden,
    /// 404 with the provider's envelope.
    NotFound,
    /// Another 4xx with the provider's envelope.
    Refused,
    /// A 4xx whose code says that the organization or the project is refused, and not this
    /// request alone.
    ScopeRefused,
    /// 429: refused before any work.
    RateLimited,
    /// A refusal by a quota or a budget, which a short wait does not resolve.
    QuotaExhausted,
    /// No connection could be made.
    Unreachable,
    /// The connection broke or timed out after the request was sent.
    NoAnswer,
    /// A 5xx, 408 or 409.
    ServerError,
    /// A response that is not the provider's: HTML, a redirect, too long,
    /// truncated.
    BadAnswer,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::NoCredential,
        Self::CredentialRefused,
        Self::Forbidden,
        Self::NotFound,
        Self::Refused,
        Self::ScopeRefused,
        Self::RateLimited,
        Self::QuotaExhausted,
        Self::Unreachable,
        Self::NoAnswer,
        Self::ServerError,
        Self::BadAnswer,
    ];

    /// Returns its label in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::CredentialRefused => "credential_refused",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::ScopeRefused => "scope_refused",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Unreachable => "unreachable",
            Self::NoAnswer => "no_answer",
            Self::ServerError => "server_error",
            Self::BadAnswer => "bad_answer",
        }
    }

    /// Returns the beginning of the message. What was to be done at the provider does not
    /// matter where it does not respond.
    fn prefix(self, operation: &str) -> String {
        match self {
            Self::Unreachable | Self::NoAnswer => String::new(),
            Self::NoCredential
            | Self::CredentialRefused
            | Self::Forbidden
            | Self::NotFound
            | Self::Refused
            | Self::ScopeRefused
            | Self::RateLimited
            | Self::QuotaExhausted
            | Self::ServerError
            | Self::BadAnswer => format!("cannot {operation}: "),
        }
    }

    /// Whether the provider, or the path to it, failed. Such an error refuses
    /// neither the request nor the credential.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        match self {
            Self::Unreachable | Self::NoAnswer | Self::ServerError | Self::BadAnswer => true,
            Self::NoCredential
            | Self::CredentialRefused
            | Self::Forbidden
            | Self::NotFound
            | Self::Refused
            | Self::ScopeRefused
            | Self::RateLimited
            | Self::QuotaExhausted => false,
        }
    }

    /// Returns why the gate of the request's scope and class closes after such an error, if
    /// it does whatever the request was.
    #[must_use]
    pub const fn gate_cause(self) -> Option<GateCause> {
        match self {
            Self::RateLimited => Some(GateCause::RateLimit),
            Self::QuotaExhausted => Some(GateCause::Quota),
            Self::ScopeRefused => Some(GateCause::Refused),
            Self::NoCredential
            | Self::CredentialRefused
            | Self::Forbidden
            | Self::NotFound
            | Self::Refused
            | Self::Unreachable
            | Self::NoAnswer
            | Self::ServerError
            | Self::BadAnswer => None,
        }
    }
}

/// The failure of an operation of the provider.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}{}", .kind.prefix(operation), self.cause())]
pub struct ProviderError {
    /// The operation, for people: `create credential billing-…`.
    pub operation: String,
    /// Whether it took effect.
    pub effect: Effect,
    /// Whether a retry can succeed.
    pub retry: RetryAdvice,
    /// The kind of the error.
    pub kind: ErrorKind,
    /// The class of the request.
    pub class: RequestClass,
    /// The provider's code for the error; masked.
    pub code: Option<String>,
    /// The reason; masked, as it may quote the provider.
    pub message: String,
    /// The request's id for the provider's support.
    pub request_id: Option<String>,
    /// The `Date` header of the response, if there was one.
    pub server_time: Option<Timestamp>,
}

impl ProviderError {
    /// Returns the same error, of a request of this class.
    #[must_use]
    pub fn in_class(self, class: RequestClass) -> Self {
        Self { class, ..self }
    }

    /// Returns the reason with the request's id, and without the operation: for a problem of
    /// all operations, or after words that name it. A credential that is not accepted is no
    /// case for the provider's support, and each request about it has another id.
    #[must_use]
    pub fn cause(&self) -> String {
        let id = self.request_id.as_deref();
        let id = id.filter(|_| self.kind != ErrorKind::CredentialRefused);
        let id = id.map(|id| format!(" (x-request-id {id})"));
        let id = id.unwrap_or_default();
        match self.message.split_once("; hint: ") {
            Some((reason, hint)) => format!("{reason}{id}; hint: {hint}"),
            None => format!("{}{id}", self.message),
        }
    }
}
