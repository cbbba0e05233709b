//! The state of an open rotation that is held in memory and not in the ledger.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::active_credential::OwnSecrets;
use crate::core::ids::{CredentialId, RotationId, SinkId};
use crate::core::secret::Secret;
use crate::core::state::CredentialMetadata;

/// A credential that was just created.
#[derive(Debug, Clone)]
pub struct CreatedCredential {
    /// Its metadata, which may be recorded.
    pub metadata: CredentialMetadata,
    /// Its name in the response.
    pub name: Option<String>,
    /// Its secret; `None` if a successful response contained none.
    pub secret: Option<Secret>,
    /// The fields of the response with times that cannot be read.
    pub unreadable_times: Vec<&'static str>,
}

/// The volatile state of an open rotation, lost when the process ends.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// The rotation.
    pub rotation: RotationId,
    /// Whether its create was sent. Without an answer, its outcome is unknown.
    pub create_sent: bool,
    /// What the provider answered to a create whose outcome is unclear, for people.
    pub create_problem: Option<String>,
    /// The secrets that rekeyd worked with when its create was sent.
    pub own_secrets: OwnSecrets,
    /// The answer to its create, until it is checked and recorded.
    pub answer: Option<CreatedCredential>,
    /// Its secret.
    pub secret: Option<Secret>,
    /// Whether the answer to its create ended it so soon that another one must show that.
    pub is_short_lived: bool,
    /// When the secret worked for the first time.
    pub first_verified_at: Option<Timestamp>,
    /// When it worked for the second time.
    pub verified_at: Option<Timestamp>,
    /// The credential that this rotation replaces, and the earliest time at which
    /// the schedule revokes it. Every delivery attempt sends the same values.
    pub previous: Option<(CredentialId, Timestamp)>,
    /// Whether its secret was taken from a file again: an earlier process may have delivered
    /// it, and an older ledger does not have each of these deliveries.
    pub is_recovered: bool,
    /// The sink whose delivery started together with an earlier commit, and that no attempt
    /// has reached.
    pub unattempted: Option<SinkId>,
    /// How long the provider has refused the secret, without outages.
    pub refused_for: Duration,
    /// When it was last refused, if nothing else happened since.
    pub last_refused_at: Option<Timestamp>,
}

impl InFlight {
    /// Returns the state of a rotation whose intent was just recorded.
    #[must_use]
    pub fn new(rotation: RotationId) -> Self {
        Self {
            rotation,
            create_sent: false,
            create_problem: None,
            own_secrets: OwnSecrets::default(),
            answer: None,
            secret: None,
            is_short_lived: false,
            first_verified_at: None,
            verified_at: None,
            previous: None,
            is_recovered: false,
            unattempted: None,
            refused_for: Duration::ZERO,
            last_refused_at: None,
        }
    }
}
