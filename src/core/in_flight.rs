//! What a process knows of the rotation that it began, and the ledger does not.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::ids::{CredentialId, RotationId};
use crate::core::secret::Secret;

/// What this process remembers of the rotation it began, and loses when it
/// ends.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// The rotation that this is about.
    pub rotation: RotationId,
    /// Whether its create was sent. Without an answer that was understood, the
    /// create is unclear.
    pub create_sent: bool,
    /// Its secret.
    pub secret: Option<Secret>,
    /// When the secret worked for the first time.
    pub first_verified_at: Option<Timestamp>,
    /// When it worked for the second time.
    pub verified_at: Option<Timestamp>,
    /// The credential that was current then, and before when it is not revoked
    /// by the schedule: what receivers are told, the same in every try.
    pub previous: Option<(CredentialId, Timestamp)>,
    /// How long the provider has refused it, outages left out.
    pub refused_for: Duration,
    /// When it was refused last, if nothing else has happened since.
    pub last_refused_at: Option<Timestamp>,
}

impl InFlight {
    /// Of a rotation whose intent was just recorded.
    #[must_use]
    pub fn new(rotation: RotationId) -> Self {
        Self {
            rotation,
            create_sent: false,
            secret: None,
            first_verified_at: None,
            verified_at: None,
            previous: None,
            refused_for: Duration::ZERO,
            last_refused_at: None,
        }
    }
}
