//! Who issues, verifies, lists and revokes credentials.
//!
//! [`Provider`] is what the engine asks for, with the obligations that its
//! decisions rest on; [`openai`] is the real one over HTTP, and [`failover`]
//! chooses the credential that it is asked with.

pub mod failover;
pub mod kind;
pub mod openai;
pub mod settings;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::core::ids::{CredentialId, Label};
use crate::core::scope::Scope;
use crate::core::secret::Secret;
use crate::core::state::CredentialMetadata;

/// The provider's operations. One call is at most one request that changes
/// anything; nothing is repeated in here.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Makes a credential that bears `label`. Never call it twice with one
    /// label. An error whose outcome is [`Effect::Unknown`] may have made it.
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError>;

    /// Asks for something harmless with the credential in use: whether the
    /// provider is there, accepts it, and what time it has.
    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError>;

    /// Whether the credential with this redacted value may be the one in use:
    /// that one is never revoked. When in doubt, it may.
    fn may_be_in_use(&self, redacted_value: &str) -> bool;

    /// Whether the credential with this redacted value may be the one that was
    /// in use before, which rekeyd falls back to when the one in use is refused.
    fn may_be_previous(&self, redacted_value: &str) -> bool;

    /// Every credential of a scope, all pages, each once.
    async fn list(
        &self,
        scope: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError>;

    /// One credential, or none if the provider says that there is none (404
    /// with its error envelope).
    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError>;

    /// Asks for something harmless with `secret` instead of the credential in
    /// use. `Ok` means that it works; [`ErrorKind::CredentialRefused`] and
    /// [`ErrorKind::Forbidden`] that the provider refused it.
    async fn verify(&self, secret: &Secret) -> Result<ProviderResponse<()>, ProviderError>;

    /// Deletes a credential; also `Ok` when there was none any more. It MUST
    /// change the credential in use neither before nor while it sends the
    /// request, and must read that credential without an `.await` after it was
    /// called: the caller compares it with `id` right before.
    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError>;

    /// Every credential of a scope that bears `label`: names need not be unique
    /// there.
    async fn find(
        &self,
        scope: &Scope,
        label: &Label,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        let mut answer = self.list(scope).await?;
        answer
            .value
            .retain(|credential| credential.name.as_deref() == Some(label.as_str()));
        Ok(answer)
    }
}

/// What the provider said, and when by its clock.
#[derive(Debug, Clone)]
pub struct ProviderResponse<T> {
    /// What it said.
    pub value: T,
    /// The `Date` of the answer, if it had a readable one.
    pub server_time: Option<Timestamp>,
}

/// A credential just made.
#[derive(Debug, Clone)]
pub struct CreatedCredential {
    /// What may be recorded of it.
    pub metadata: CredentialMetadata,
    /// Its secret; none if the answer was that of a success and had none.
    pub secret: Option<Secret>,
}

/// A credential as the provider lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCredential {
    /// What may be recorded of it.
    pub metadata: CredentialMetadata,
    /// Its name: a label of ours, somebody's text, or nothing.
    pub name: Option<String>,
    /// When it was last used, by what the provider knows: coarse and late, so
    /// nothing is decided on it alone.
    pub last_used_at: Option<Timestamp>,
    /// Who it belongs to, for people.
    pub owner: Option<String>,
}

/// Whether what was asked for was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It certainly was not.
    NotApplied,
    /// It may have been.
    Unknown,
}

/// Whether asking again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAdvice {
    /// Later; the provider may have said after what time.
    Later(Option<Duration>),
    /// Not before a person changed something.
    Never,
}

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no credential to ask with.
    NoCredential,
    /// 401 `invalid_api_key`: the credential is wrong, revoked or too fresh.
    CredentialRefused,
    /// Another 401, or 403: not allowed, and no proof that the credential is
    /// dead.
    Forbidden,
    /// 404 with the provider's envelope.
    NotFound,
    /// Another 4xx with the provider's envelope.
    Refused,
    /// 429: refused before any work.
    RateLimited,
    /// 429 that does not pass by waiting a little.
    QuotaExhausted,
    /// No connection could be made.
    Unreachable,
    /// The connection broke or the time was over after the request was sent.
    NoAnswer,
    /// A 5xx, 408 or 409.
    ServerError,
    /// An answer that is not the provider's: HTML, a redirect, too long,
    /// truncated.
    BadAnswer,
}

impl ErrorKind {
    /// Its word in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCredential => "no_credential",
            Self::CredentialRefused => "credential_refused",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::QuotaExhausted => "quota_exhausted",
            Self::Unreachable => "unreachable",
            Self::NoAnswer => "no_answer",
            Self::ServerError => "server_error",
            Self::BadAnswer => "bad_answer",
        }
    }

    /// Whether the provider, or the way to it, failed. Then it has refused
    /// nothing: neither the request nor the credential it was made with.
    #[must_use]
    pub const fn is_outage(self) -> bool {
        match self {
            Self::Unreachable | Self::NoAnswer | Self::ServerError | Self::BadAnswer => true,
            Self::NoCredential
            | Self::CredentialRefused
            | Self::Forbidden
            | Self::NotFound
            | Self::Refused
            | Self::RateLimited
            | Self::QuotaExhausted => false,
        }
    }
}

/// Why the provider did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation}: {message}{}", .request_id.as_deref().map(|id| format!(" (x-request-id {id})")).unwrap_or_default())]
pub struct ProviderError {
    /// What was being done, for people: `create credential billing-…`.
    pub operation: String,
    /// Whether it was done.
    pub effect: Effect,
    /// Whether asking again can help.
    pub retry: RetryAdvice,
    /// What kind of thing went wrong.
    pub kind: ErrorKind,
    /// Why, in words, masked: it may quote the provider.
    pub message: String,
    /// What the provider's support asks for.
    pub request_id: Option<String>,
    /// The `Date` of the answer, if there was one.
    pub server_time: Option<Timestamp>,
}
