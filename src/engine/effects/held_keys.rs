//! Compares keys that targets hold with what the provider shows of credentials, and
//! describes them to people.

use crate::core::first_few::join_few;
use crate::core::secret::{EndMatch, Secret, compare_end};
use crate::core::state::CredentialMetadata;

/// The number of characters of a secret's end that people are shown, as the provider
/// shows them.
const SHOWN_END_CHARS: usize = 3;

/// Returns whether one of `keys` is that of one of `credentials`.
pub(super) fn is_any_of<'c>(
    keys: &[Secret],
    mut credentials: impl Iterator<Item = &'c CredentialMetadata>,
) -> bool {
    credentials.any(|credential| holds_credential(keys, credential))
}

/// Returns whether one of `keys` ends as the provider shows the secret of `credential`.
pub(super) fn holds_credential(keys: &[Secret], credential: &CredentialMetadata) -> bool {
    let is_same = |key: &Secret| compare(key, credential) == EndMatch::Same;
    keys.iter().any(is_same)
}

/// Returns whether a key certainly is not that of `credential`.
pub(super) fn shows_other_end(key: &Secret, credential: &CredentialMetadata) -> bool {
    compare(key, credential) == EndMatch::Different
}

fn compare(key: &Secret, credential: &CredentialMetadata) -> EndMatch {
    compare_end(key.expose(), credential.redacted_value.as_deref())
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
