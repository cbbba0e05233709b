//! Recognizes secrets that this process has seen, without keeping them.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use zeroize::Zeroizing;

use crate::core::secret::Secret;

/// The number of characters from which the body of a secret identifies it. A shorter one
/// could be a part of another secret by chance.
const MIN_BODY_LEN: usize = 10;

/// The number of words before the body of a secret, as in `sk-admin-…`.
const MAX_PREFIX_WORDS: usize = 2;

/// The longest word of such a prefix.
const MAX_PREFIX_WORD_LEN: usize = 8;

/// Digests of secrets, keyed with a random key of this process, so that they say nothing
/// elsewhere. A text that has the body of a secret is recognized, whatever the case of its
/// letters, and whatever stands before and after it.
#[derive(Debug, Default)]
pub struct SecretDigests {
    hasher: RandomState,
    /// The bodies, by their digests.
    bodies: HashSet<u64>,
    /// The lengths of the bodies.
    body_lengths: BTreeSet<usize>,
    /// The digests of secrets without such a body, as a whole.
    wholes: HashSet<u64>,
}

impl SecretDigests {
    /// Adds a secret.
    pub fn insert(&mut self, secret: &Secret) {
        let folded = fold(secret.expose());
        match body(&folded) {
            Some(body) => {
                self.body_lengths.insert(body.len());
                self.bodies.insert(self.hasher.hash_one(body));
            }
            None => {
                self.wholes.insert(self.hasher.hash_one(&folded[..]));
            }
        }
    }

    /// Returns whether `text` is one of the secrets, or has the whole body of one.
    #[must_use]
    pub fn show_in(&self, text: &str) -> bool {
        let folded = fold(text);
        let mut lengths = self.body_lengths.iter();
        let has_body = lengths.any(|length| {
            let mut windows = folded.windows(*length);
            windows.any(|window| self.bodies.contains(&self.hasher.hash_one(window)))
        });
        has_body || self.wholes.contains(&self.hasher.hash_one(&folded[..]))
    }
}

/// Returns whether a secret has the whole body of another one, such as that of a file.
#[must_use]
pub fn is_same_secret(held: &Secret, secret: &Secret) -> bool {
    let mut digests = SecretDigests::default();
    digests.insert(held);
    digests.show_in(secret.expose())
}

/// Returns a text without surrounding white space and in lower case.
fn fold(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.trim().as_bytes().to_ascii_lowercase())
}

/// Returns a secret without the prefix that others share, and without the padding at its
/// end; none if the rest is short.
fn body(folded: &[u8]) -> Option<&[u8]> {
    let mut body = folded;
    while let [rest @ .., b'='] = body {
        body = rest;
    }
    for _ in 0..MAX_PREFIX_WORDS {
        let is_letter = |byte: &&u8| byte.is_ascii_lowercase();
        let word = body.iter().take_while(is_letter).count();
        if !(1..=MAX_PREFIX_WORD_LEN).contains(&word)
            || !matches!(body.get(word), Some(b'-' | b'_'))
        {
            break;
        }
        body = &body[word + 1..];
    }
    (body.len() >= MIN_BODY_LEN).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "sk-admin-Ab1-Cd2_Ef3Gh4==";

    fn digests(secrets: &[&str]) -> SecretDigests {
        let mut digests = SecretDigests::default();
        for secret in secrets {
            digests.insert(&Secret::new((*secret).to_owned()));
        }
        digests
    }

    #[test]
    fn secrets_are_recognized_by_their_bodies() {
        let digests = digests(&[SECRET, "sk-1", "0123456789abcdef0123"]);
        for known in [
            SECRET,
            "sk-admin-Ab1-Cd2_Ef3Gh4",
            "sk-admin-Ab1-Cd2_Ef3Gh4== ",
            "\t sk-admin-Ab1-Cd2_Ef3Gh4==\n",
            "SK-ADMIN-AB1-CD2_EF3GH4==",
            "Ab1-Cd2_Ef3Gh4",
            "sk-proj-ab1-cd2_ef3gh4",
            "Bearer sk-admin-Ab1-Cd2_Ef3Gh4",
            "sk-admin-Ab1-Cd2_Ef3Gh4.more",
            "key_0123456789ABCDEF0123",
            "sk-1",
            " SK-1",
        ] {
            assert!(digests.show_in(known), "{known}");
        }
        for other in [
            "",
            "sk-",
            "sk-admin-",
            "sk-12",
            "sk-admin-Ab1-Cd2_Ef3Gh5==",
            "sk-admin-Ab1-Cd2_Ef3Gh",
            "0123456789abcdef",
        ] {
            assert!(!digests.show_in(other), "{other}");
        }
        assert!(!super::SecretDigests::default().show_in(SECRET));
    }
}
