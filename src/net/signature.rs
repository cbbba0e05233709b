//! Signatures of [Standard Webhooks](https://www.standardwebhooks.com):
//! HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use ring::hmac;
use secrecy::zeroize::Zeroizing;

use crate::core::secret::Secret;

/// The prefix of a signing secret.
const SIGNING_SECRET_PREFIX: &str = "whsec_";

/// The prefix of a signature with HMAC-SHA256.
const SIGNATURE_PREFIX: &str = "v1,";

/// The number of secrets that sign concurrently: the present one and its
/// successor.
const MAX_SECRETS: usize = 2;

/// Accepts secrets with and without padding, since people paste both.
const OPTIONAL_PADDING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One or two secrets that sign webhooks.
#[derive(Debug)]
pub struct SigningKeys {
    keys: Vec<hmac::Key>,
    /// The secrets without their prefix, kept alive so that they are masked in
    /// the response of a receiver that echoes them.
    _masked_secrets: Vec<Secret>,
}

impl SigningKeys {
    /// Reads one or two lines `whsec_<base64>`.
    ///
    /// # Errors
    /// The line and its problem, without any of its text.
    pub fn parse(text: &str) -> Result<Self, SigningKeyError> {
        let mut keys = Vec::new();
        let mut masked_secrets = Vec::new();
        let lines = text.lines().enumerate();
        for (number, line) in lines.map(|(number, line)| (number + 1, line.trim())) {
            if line.is_empty() {
                continue;
            }
            let encoded = line
                .strip_prefix(SIGNING_SECRET_PREFIX)
                .ok_or(SigningKeyError::MissingPrefix { line: number })?;
            let key = OPTIONAL_PADDING
                .decode(encoded)
                .map(Zeroizing::new)
                .map_err(|_| SigningKeyError::InvalidBase64 { line: number })?;
            if key.is_empty() {
                return Err(SigningKeyError::InvalidBase64 { line: number });
            }
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &key));
            masked_secrets.push(Secret::new(encoded.to_owned()));
        }
        match keys.len() {
            1..=MAX_SECRETS => Ok(Self {
                keys,
                _masked_secrets: masked_secrets,
            }),
            found => Err(SigningKeyError::WrongCount { found }),
        }
    }

    /// Returns the `webhook-signature` header: one signature for each secret.
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

    /// Whether any signature in the header was made with any of these secrets,
    /// compared in constant time.
    #[must_use]
    pub fn verify(&self, id: &str, timestamp: &str, body: &[u8], header: &str) -> bool {
        let content = Zeroizing::new(signed_parts(id, timestamp, body).concat());
        header
            .split(' ')
            .filter_map(|signature| {
                STANDARD
                    .decode(signature.strip_prefix(SIGNATURE_PREFIX)?)
                    .ok()
            })
            .any(|tag| {
                self.keys
                    .iter()
                    .any(|key| hmac::verify(key, &content, &tag).is_ok())
            })
    }
}

/// The problem of a text with signing secrets. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// A line without the prefix.
    #[error("line {line} does not begin with whsec_; hint: write each secret as whsec_<base64>")]
    MissingPrefix {
        /// The line's number, from 1.
        line: usize,
    },
    /// A line whose rest is not base64, or empty.
    #[error(
        "line {line} has no valid base64 after whsec_; hint: write each secret as whsec_<base64>"
    )]
    InvalidBase64 {
        /// The line's number, from 1.
        line: usize,
    },
    /// No secret, or too many.
    #[error("it has {found} signing secrets; hint: keep one, or two while you replace one")]
    WrongCount {
        /// The number of secrets.
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
        for secret in [KEY, other] {
            let keys = SigningKeys::parse(secret).unwrap();
            assert!(keys.verify("id", "1", b"{}", &header));
        }
    }

    #[test]
    fn errors_hide_the_value() {
        for (text, expected) in [
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
            assert_eq!(error, expected);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
