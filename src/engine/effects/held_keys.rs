//! Compares keys that targets hold with what the provider shows of credentials, and
//! describes them to people.

use crate::core::first_few::join_few;
use crate::core::secret::{EndMatch, Secret, compare_end};
use crate::core::state::CredentialMetadata;
use crate::provider::Provider;

/// The number of characters of a secret's end that people are shown, as the provider
/// shows them.
const SHOWN_END_CHARS: usize = 3;

/// Returns whether one of `keys` is that of one of `credentials`.
pub(super) fn is_any_of<'c>(
    provider: &dyn Provider,
    keys: &[Secret],
    mut credentials: impl Iterator<Item = &'c CredentialMetadata>,
) -> bool {
    credentials.any(|credential| holds_credential(provider, keys, credential))
}

/// Returns whether one of `keys` is the secret of `credential`, as far as this process
/// knows it, or ends as the provider shows it.
pub(super) fn holds_credential(
    provider: &dyn Provider,
    keys: &[Secret],
    credential: &CredentialMetadata,
) -> bool {
    !keys.is_empty() && provider.expected_secret(credential).is_among(keys)
}

/// Returns whether a key certainly is not that of `credential`.
pub(super) fn shows_other_end(key: &Secret, credential: &CredentialMetadata) -> bool {
    compare_end(key.expose(), credential.redacted_value.as_deref()) == EndMatch::Different
}

/// Describes keys by their ends, as the provider shows them.
pub(super) fn describe_keys(keys: &[Secret]) -> String {
    match keys {
        [key] => format!("a key that ends in {}", shown_end(key)),
        keys => format!("keys that end in {}", join_few(keys.iter().map(shown_end))),
    }
}

fn shown_end(secret: &Secret) -> String {
    let value = secret.expose();
    let start = value.len().saturating_sub(SHOWN_END_CHARS);
    // Text that looks like a key is ASCII.
    value.get(start..).unwrap_or_default().to_owned()
}
