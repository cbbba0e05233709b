//! Whether rekeyd may work with another admin key than the one in use.

use async_trait::async_trait;

use crate::core::active_credential::ActiveCredential;
use crate::core::ids::CredentialId;
use crate::core::secret::{EndMatch, Secret};
use crate::provider::{ErrorKind, Provider, ProviderError};

/// The number of live credentials that a candidate is asked for: a single one may have been
/// deleted by hand.
const MAX_WITNESSES: usize = 5;

/// A credential of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedCredential {
    /// Its id.
    pub id: CredentialId,
    /// Its secret as the provider shows it.
    pub redacted_value: Option<String>,
    /// What becomes of it.
    pub state: RecordedState,
}

/// What becomes of a credential of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordedState {
    /// It is live, and stays so until it is replaced.
    Kept,
    /// It is live, and rekeyd revokes it some day.
    Ending,
    /// rekeyd has revoked it, and the provider may still accept it for a moment.
    Revoked,
}

/// The credentials of the ledger.
#[async_trait]
pub trait RecordedCredentials: Send + Sync {
    /// Returns the live ones, the current ones first, and those that were revoked lately; none
    /// if the ledger does not respond.
    async fn read(&self) -> Option<Vec<RecordedCredential>>;
}

/// Why rekeyd does not work with an admin key.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    /// The provider does not accept it.
    #[error("the provider does not accept it: {}", .0.cause())]
    Refused(ProviderError),
    /// The provider's answer says nothing about it.
    #[error("it cannot be tried now: {}", .0.cause())]
    Untried(ProviderError),
    /// The ledger did not respond.
    #[error("it cannot be compared with the ledger, which does not respond")]
    NoLedger,
    /// It is one that rekeyd has replaced.
    #[error(
        "it is the secret of {id}, which rekeyd has replaced and is going to revoke; hint: create \
         another admin key"
    )]
    Retired {
        /// The credential.
        id: CredentialId,
    },
    /// It is one that rekeyd has revoked.
    #[error("it is the secret of {id}, which rekeyd has revoked; hint: create another admin key")]
    Revoked {
        /// The credential.
        id: CredentialId,
    },
    /// It does not show any of the live credentials that were asked for.
    #[error(
        "it does not show {id}, which is live in this ledger, so it is one of another \
         organization; hint: create an admin key in the organization of this ledger"
    )]
    Foreign {
        /// The first of them.
        id: CredentialId,
    },
}

impl CandidateError {
    /// Returns the error of a request with the candidate.
    fn of_request(error: ProviderError) -> Self {
        match error.kind {
            ErrorKind::CredentialRefused => Self::Refused(error),
            ErrorKind::NoCredential
            | ErrorKind::Forbidden
            | ErrorKind::NotFound
            | ErrorKind::Refused
            | ErrorKind::ScopeRefused
            | ErrorKind::RateLimited
            | ErrorKind::QuotaExhausted
            | ErrorKind::Unreachable
            | ErrorKind::NoAnswer
            | ErrorKind::ServerError
            | ErrorKind::BadAnswer => Self::Untried(error),
        }
    }

    /// Returns whether the same key may pass at another time.
    #[must_use]
    pub const fn may_pass_later(&self) -> bool {
        match self {
            Self::Untried(_) | Self::NoLedger => true,
            Self::Refused(_)
            | Self::Retired { .. }
            | Self::Revoked { .. }
            | Self::Foreign { .. } => false,
        }
    }
}

/// Checks that the provider accepts an admin key and, where another one is in use, that it is
/// none that the ledger ends, and that it shows a live credential of the ledger: only then is
/// it certainly of the same organization.
///
/// # Errors
/// Why rekeyd must not work with it, or cannot know that now.
pub(super) async fn examine(
    provider: &impl Provider,
    active: &ActiveCredential,
    ledger: Option<&dyn RecordedCredentials>,
    secret: &Secret,
) -> Result<(), CandidateError> {
    let verified = provider.verify(secret).await;
    verified.map_err(CandidateError::of_request)?;
    let Some(ledger) = ledger.filter(|_| active.get().is_some()) else {
        return Ok(());
    };
    let recorded = ledger.read().await.ok_or(CandidateError::NoLedger)?;
    for credential in &recorded {
        let shown = credential.redacted_value.as_deref();
        let is_same = || active.compare(secret, &credential.id, shown) == EndMatch::Same;
        let id = || credential.id.clone();
        match credential.state {
            RecordedState::Ending if is_same() => return Err(CandidateError::Retired { id: id() }),
            RecordedState::Revoked if is_same() => {
                return Err(CandidateError::Revoked { id: id() });
            }
            RecordedState::Kept | RecordedState::Ending | RecordedState::Revoked => {}
        }
    }
    if active.is_of_organization(secret) {
        return Ok(());
    }
    let mut unseen = None;
    let is_live = |credential: &&RecordedCredential| credential.state != RecordedState::Revoked;
    for credential in recorded.iter().filter(is_live).take(MAX_WITNESSES) {
        let seen = provider.sees(secret, &credential.id).await;
        if seen.map_err(CandidateError::of_request)? {
            active.record_same_organization(secret);
            return Ok(());
        }
        let _ = unseen.get_or_insert_with(|| credential.id.clone());
    }
    // Without a live credential there is nothing that another organization could harm.
    unseen.map_or(Ok(()), |id| Err(CandidateError::Foreign { id }))
}
