//! Signatures as [Standard Webhooks](https://www.standardwebhooks.com) has
//! them: HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ring::hmac;
use secrecy::zeroize::Zeroizing;

use crate::core::secret::Secret;

/// What a signing secret begins with.
const SIGNING_SECRET_PREFIX: &str = "whsec_";

/// What a signature of this kind begins with.
const SIGNATURE_PREFIX: &str = "v1,";

/// So many secrets sign at once: the present one and its successor.
const MAX_SECRETS: usize = 2;

/// Secrets are pasted with and without padding.
const OPTIONAL_PADDING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One or two secrets that sign webhooks.
#[derive(Debug)]
pub struct SigningKeys {
    keys: Vec<hmac::Key>,
    /// Each secret without its prefix, alive as long as it is in use, so that
    /// a receiver that echoes it is masked.
    _masked_secrets: Vec<Secret>,
}

impl SigningKeys {
    /// Reads one or two lines `whsec_<base64>`.
    ///
    /// # Errors
    /// What is wrong with which line, without showing any of it.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let mut keys = Vec::new();
        let mut encoded = Vec::new();
        let lines = text.lines().enumerate();
        for (at, line) in lines.map(|(at, line)| (at + 1, line.trim())) {
            if line.is_empty() {
                continue;
            }
            let rest = line
                .strip_prefix(SIGNING_SECRET_PREFIX)
                .ok_or(SigningKeyError::MissingPrefix { line: at })?;
            let key = OPTIONAL_PADDING
                .decode(rest)
                .map(Zeroizing::new)
                .map_err(|_| SigningKeyError::InvalidBase64 { line: at })?;
            if key.is_empty() {
                return Err(SigningKeyError::InvalidBase64 { line: at });
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &key));
            encoded.push(Secret::new(rest.to_owned()));
        }
        match keys.len() {
            1..=MAX_SECRETS => Ok(Self {
                keys,
                _masked_secrets: encoded,
            }),
            found => Err(SigningKeyError::WrongCount { found }),
        }
    }

    /// The `webhook-signature` header: one signature for each secret.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        self.keys
            .iter()
            .map(|key| {
                let mut context = hmac::Context::with_key(key);
                for part in signed_parts(id, &timestamp.to_string(), body) {
                    context.update(part);
                }
                format!("{SIGNATURE_PREFIX}{}", STANDARD.encode(context.sign()))
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Whether any signature in the header is of any of these secrets, in
    /// constant time for each.
    #[must_use]
    pub fn verify(&self, id: &str, timestamp: &str, body: &[u8], header: &str) -> bool {
        let signed = Zeroizing::new(signed_parts(id, timestamp, body).concat());
        header
            .split(' ')
            .filter_map(|one| STANDARD.decode(one.strip_prefix(SIGNATURE_PREFIX)?).ok())
            .any(|tag| {
                self.keys
                    .iter()
                    .any(|key| hmac::verify(key, &signed, &tag).is_ok())
            })
    }
}

/// Why a text holds no signing secrets. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// A line without the prefix.
    #[error("line {line} does not begin with whsec_; put whsec_<base64> there")]
    MissingPrefix {
        /// Counted from 1.
        line: usize,
    },
    /// A line whose rest is no base64.
    #[error("what follows whsec_ in line {line} is not base64 of a secret")]
    InvalidBase64 {
        /// Counted from 1.
        line: usize,
    },
    /// None or too many.
    #[error("there are {found} signing secrets; put one there, or two while it is changed")]
    WrongCount {
        /// So many were found.
        found: usize,
    },
}

fn signed_parts<'a>(id: &'a str, timestamp: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn published_test_vector_matches() {
        // From the test vectors of Svix's libraries, the origin of the standard.
        let keys = SigningKeys::parse(KEY).unwrap();
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let header = keys.sign(id, 1_614_265_330, body);
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(keys.verify(id, "1614265330", body, &header));
        assert!(keys.verify(id, "1614265330", body, &format!("v1a,xx v1,?? {header}")));
        assert!(!keys.verify(id, "1614265331", body, &header));
        assert!(!keys.verify("other", "1614265330", body, &header));
    }

    #[test]
    fn two_secrets_yield_two_signatures() {
        let other = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXI";
        let both = SigningKeys::parse(&format!("{KEY}\r\n\n{other}\n")).unwrap();
        let header = both.sign("id", 1, b"{}");
        assert_eq!(header.split(' ').count(), 2);
        for one in [KEY, other] {
            let one = SigningKeys::parse(one).unwrap();
            assert!(one.verify("id", "1", b"{}", &header));
        }
    }

    #[test]
    fn errors_hide_the_value() {
        for (text, wanted) in [
            ("hunter2", SigningKeyError::MissingPrefix { line: 1 }),
            ("whsec_hunter2!", SigningKeyError::InvalidBase64 { line: 1 }),
            ("whsec_", SigningKeyError::InvalidBase64 { line: 1 }),
            ("\n", SigningKeyError::WrongCount { found: 0 }),
            (
                "whsec_aaaa\nwhsec_bbbb\nwhsec_cccc",
                SigningKeyError::WrongCount { found: 3 },
            ),
        ] {
            let error = SigningKeys::parse(text).unwrap_err();
            assert_eq!(error, wanted);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
