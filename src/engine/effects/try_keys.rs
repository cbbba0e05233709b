//! Tries keys in targets at the provider: a few characters of two secrets may be equal by
//! chance, and an adopted credential is revoked later.

use crate::core::ids::{CredentialId, SinkId};
use crate::core::secret::Secret;
use crate::core::state::CredentialMetadata;
use crate::engine::effects::held_keys::{describe_keys, holds_credential, is_any_of};
use crate::engine::operator_command::CommandError;
use crate::engine::worker::Worker;
use crate::provider::ErrorKind;
use crate::sink::TargetContent;

/// Follows what is said of an adoption whose key the provider did not answer about.
const UNPROVEN: &str = "; the provider did not say whether the key in the sink works, so only its \
                        end shows that it is this credential's";

/// What the provider says of a key in a target.
pub(super) enum KeyAnswer {
    Works,
    /// It is dead, or one of another kind.
    Refused,
    None,
}

/// What the keys in targets show of a credential. Whoever can write a file can also write
/// the few characters there that the provider shows of a secret, so that only a whole key
/// that works proves anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldKey {
    /// No target holds a key that ends as it does.
    Absent,
    /// The provider refuses each such key.
    Refused,
    /// The provider did not answer about such a key.
    Unproven,
    /// The provider accepts such a key.
    Works,
}

impl HeldKey {
    /// Returns what to add to the reply about an adoption.
    pub(super) const fn doubt(self) -> &'static str {
        match self {
            Self::Unproven => UNPROVEN,
            Self::Absent | Self::Refused | Self::Works => "",
        }
    }

    const fn strongest(self, other: Self) -> Self {
        match (self, other) {
            (Self::Works, _) | (_, Self::Works) => Self::Works,
            (Self::Unproven, _) | (_, Self::Unproven) => Self::Unproven,
            (Self::Refused, _) | (_, Self::Refused) => Self::Refused,
            (Self::Absent, Self::Absent) => Self::Absent,
        }
    }
}

impl Worker {
    /// Tries each key in a target that ends as the provider shows `credential`: a few
    /// characters may be equal by chance.
    ///
    /// # Errors
    /// Without `force`, if the provider refuses such a key.
    pub(super) async fn try_held_keys(
        &self,
        credential: &CredentialMetadata,
        held: &[(SinkId, TargetContent)],
        force: bool,
    ) -> Result<HeldKey, CommandError> {
        let provider = self.services.provider.as_ref();
        let mut shown = HeldKey::Absent;
        let mut tried: Vec<&Secret> = Vec::new();
        for (sink, content) in held {
            for secret in content.keys() {
                let keys = std::slice::from_ref(secret);
                let is_tried = tried.iter().any(|tried| tried.same_as(secret));
                // One of this key's own credentials says nothing of another one with its end.
                let is_of_this_key = || is_any_of(provider, keys, self.live_credentials());
                if is_tried || !holds_credential(provider, keys, credential) || is_of_this_key() {
                    continue;
                }
                tried.push(secret);
                let answer = match self.try_key(secret).await {
                    KeyAnswer::Works => HeldKey::Works,
                    KeyAnswer::None => HeldKey::Unproven,
                    KeyAnswer::Refused if force => HeldKey::Refused,
                    KeyAnswer::Refused => {
                        let id = &credential.id;
                        return Err(CommandError::Rejected(format!(
                            "{}; hint: --force adopts {id} anyway",
                            describe_refused(sink, keys, id)
                        )));
                    }
                };
                shown = shown.strongest(answer);
            }
        }
        Ok(shown)
    }

    /// Returns whether the provider says that a key from a target does not work any more. One
    /// that may do less than an admin key is alive.
    pub(super) async fn is_dead(&self, secret: &Secret) -> bool {
        let answer = self.services.provider.verify(secret).await;
        self.observe_response(&answer);
        let kind = answer.err().map(|error| error.kind);
        kind == Some(ErrorKind::CredentialRefused)
    }

    /// Sends one harmless request with a key from a target.
    pub(super) async fn try_key(&self, secret: &Secret) -> KeyAnswer {
        let answer = self.services.provider.verify(secret).await;
        self.observe_response(&answer);
        match answer.map_err(|error| error.kind) {
            Ok(_) => KeyAnswer::Works,
            Err(ErrorKind::CredentialRefused | ErrorKind::Forbidden) => KeyAnswer::Refused,
            Err(_) => KeyAnswer::None,
        }
    }
}

/// Says that the provider did not answer about a key in a target.
pub(super) fn describe_unproven(
    sink: &SinkId,
    keys: &[Secret],
    credential: &CredentialId,
) -> String {
    format!(
        "{sink} holds {}, as the secret of {credential} does, but the provider did not say \
         whether that key works",
        describe_keys(keys)
    )
}

/// Says that the provider refuses a key in a target.
pub(super) fn describe_refused(
    sink: &SinkId,
    keys: &[Secret],
    credential: &CredentialId,
) -> String {
    format!(
        "{sink} holds {}, as the secret of {credential} does, but the provider refuses that key, \
         so it is dead or another one",
        describe_keys(keys)
    )
}
