//! Names and ids. A value of one of these types has passed its check.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::core::redact::{is_invisible, is_unprintable};

/// The longest key name. With the time and the random part of a label it stays below
/// the 100 characters that a provider can be expected to accept as a name.
pub const MAX_KEY_NAME_LENGTH: usize = 48;

/// The reason why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text does not have the form of key and sink names.
    #[error("a name is 1 to 48 characters of a-z, 0-9 and -, and does not begin with -")]
    InvalidForm,
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Cheap to clone.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_newtype! {
    /// The name of a key in the configuration: `[a-z0-9][a-z0-9-]{0,47}`.
    KeyName
}
text_newtype! {
    /// The name of one rotation's credential at the provider.
    ///
    /// Its form is `<key>-<UTC time>-<random>`, such as
    /// `billing-exporter-20261123T030000Z-5f3a9c`. It is unique to the rotation and
    /// never sent twice, so that a create with an unknown outcome can be found by it.
    Label
}
text_newtype! {
    /// The id of a rotation in this ledger: 16 random hexadecimal digits, so that
    /// webhook ids stay unique after a ledger is lost or restored.
    RotationId
}
text_newtype! {
    /// The id of a credential at the provider (`key_…`), never parsed.
    CredentialId
}
text_newtype! {
    /// A project's id at the provider (`proj_…`): opaque, never taken apart.
    ProjectId
}

impl KeyName {
    /// Checks a key name.
    ///
    /// # Errors
    /// [`NameError::InvalidForm`] for anything but `[a-z0-9][a-z0-9-]{0,47}`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if is_valid_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::InvalidForm)
        }
    }
}

impl Label {
    /// Returns the label of a rotation of `key` that starts at `at`, with three random
    /// bytes.
    #[must_use]
    pub fn new(key: &KeyName, at: Timestamp, random: [u8; 3]) -> Self {
        let time = at.strftime("%Y%m%dT%H%M%SZ");
        let [a, b, c] = random;
        Self(format!("{key}-{time}-{a:02x}{b:02x}{c:02x}").into())
    }

    /// Returns a label that was read from the ledger or the provider. It may be any
    /// text, since a label is claimed by its row and never by its form.
    #[must_use]
    pub fn from_recorded(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns whether `name` looks like a label of `key`, also as a provider changes
    /// names: in another case, cut, or behind a prefix. A credential with such a name and
    /// no row is a lookalike.
    ///
    /// What stands before the name of the key is a prefix only if it cannot belong to the
    /// name of another key: `eu-billing-…` is a label of the key `eu-billing`, perhaps of
    /// another host, and none of `billing`.
    #[must_use]
    pub fn matches_format(name: &str, key: &KeyName) -> bool {
        let name = name.trim().to_ascii_lowercase();
        let start = format!("{key}-");
        let is_cut_key =
            name.len() >= MIN_CUT_LENGTH && name != key.as_str() && start.starts_with(&name);
        is_cut_key
            || name.match_indices(&start).any(|(at, _)| {
                is_label_suffix(&name[at + start.len()..]) && !is_part_of_name(&name[..at], key)
            })
    }
}

/// The length from which the start of a key's name is taken for a label that was cut.
const MIN_CUT_LENGTH: usize = 30;

/// The length of the date, with which a cut label is recognized.
const DATE_LENGTH: usize = 8;

/// Returns whether a text before the name of a key belongs to the longer name of another
/// key. Both are in lower case.
fn is_part_of_name(before: &str, key: &KeyName) -> bool {
    let is_separator = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '-');
    let (_, start) = before.rsplit_once(is_separator).unwrap_or(("", before));
    !start.is_empty() && KeyName::new(&format!("{start}{key}")).is_ok()
}

/// Returns whether a text is the part of a label behind its key, in lower case, or the
/// start of one that has the date.
fn is_label_suffix(text: &str) -> bool {
    let bytes = text.as_bytes();
    (DATE_LENGTH..=23).contains(&bytes.len())
        && bytes.iter().enumerate().all(|(index, byte)| match index {
            8 => *byte == b't',
            15 => *byte == b'z',
            16 => *byte == b'-',
            0..=14 => byte.is_ascii_digit(),
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

impl RotationId {
    /// Returns a new id from eight random bytes.
    #[must_use]
    pub fn new(random: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(random)).into())
    }

    /// Returns an id that was read from the ledger.
    #[must_use]
    pub fn from_recorded(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl CredentialId {
    /// The longest id that a provider or an operator may name.
    pub const MAX_LENGTH: usize = 200;

    /// Returns an id that was read from the provider or the ledger.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns whether a text can be an id. An id is opaque, but it becomes a part of a
    /// URL, of a log line and of a table, from which a person copies it: no character of it
    /// is invisible or changes the direction of others.
    ///
    /// No part of it between slashes is `.` or `..`: what stands between rekeyd and the
    /// provider may decode an encoded slash, and would find another resource.
    #[must_use]
    pub fn is_valid(text: &str) -> bool {
        let is_unsafe =
            |letter: char| letter.is_whitespace() || is_unprintable(letter) || is_invisible(letter);
        (1..=Self::MAX_LENGTH).contains(&text.len())
            && !text.contains(is_unsafe)
            && decode_path(text)
                .split(['/', '\\'])
                .all(|part| !matches!(part, "." | ".."))
    }
}

/// Returns a path with its dots and slashes decoded, however often they are encoded.
fn decode_path(path: &str) -> String {
    let mut decoded = path.to_ascii_lowercase();
    loop {
        let next = [("%25", "%"), ("%2e", "."), ("%2f", "/"), ("%5c", "\\")]
            .iter()
            .fold(decoded.clone(), |text, (from, to)| text.replace(from, to));
        if next == decoded {
            return decoded;
        }
        decoded = next;
    }
}

impl ProjectId {
    /// Returns the id with this text, as the configuration or the ledger holds it.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

/// The identity of a sink: its name in the key *and* its target. A sink with another
/// name or target is another sink.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkId {
    /// Its name, unique within the key; by default its type.
    pub name: String,
    /// Its type, and its path, its URL without query, or its command line:
    /// `file:/etc/billing/key`.
    pub target: String,
}

impl fmt::Display for SinkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.target)
    }
}

/// Returns whether `text` has the form of key and sink names.
#[must_use]
pub fn is_valid_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_KEY_NAME_LENGTH
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sink_id_displays_name_and_target() {
        let sink = SinkId {
            name: "file".to_owned(),
            target: "file:/etc/billing/key".to_owned(),
        };
        assert_eq!(sink.to_string(), "file (file:/etc/billing/key)");
    }

    #[test]
    fn key_name_form_is_enforced() {
        for good in ["a", "0", "billing-exporter", &"a".repeat(48)] {
            assert!(KeyName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "A",
            "a_b",
            "a.b",
            "ä",
            "a b",
            "a\n",
            &"a".repeat(49),
        ] {
            assert_eq!(KeyName::new(bad), Err(NameError::InvalidForm), "{bad}");
        }
    }

    #[test]
    fn only_texts_that_stay_one_part_of_a_url_are_credential_ids() {
        for good in [
            "key_abc",
            "a",
            "...",
            ".a",
            "a..",
            "a/b?c",
            "a%2Fb",
            "schl\u{fc}ssel",
            "50%",
            &"a".repeat(200),
        ] {
            assert!(CredentialId::is_valid(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "key_a/..",
            "../projects/proj_a",
            "key_a/./b",
            "key_a\\..",
            "%2e",
            "%2E%2e",
            ".%2e",
            "key_a/%2e%2E/b",
            "%252e%252e",
            "%25252e",
            "..%2fproj_a",
            "a%2F%2e%2E%5cb",
            "key a",
            " key_a",
            "key_a\n",
            "key_a\t..",
            "\t..",
            "key\0",
            "key_a\u{a0}",
            "key\u{85}a",
            "key_\u{202e}1c2b",
            "key_\u{2066}a",
            "key_a\u{2069}",
            "\u{200b}key_a",
            "key_a\u{200d}b",
            "key_\u{61c}a",
            "key_\u{ad}a",
            "\u{feff}key_a",
            "key_a\u{fe0f}",
            "key_\u{34f}a",
            "key_\u{3164}a",
            "key_a\u{e0041}",
            "key_a\u{e0101}",
            "key_\u{2800}a",
            &"a".repeat(201),
        ] {
            assert!(!CredentialId::is_valid(bad), "{bad:?}");
        }
    }

    #[test]
    fn label_has_the_documented_format() {
        let key = KeyName::new("billing-exporter").unwrap();
        let label = Label::new(
            &key,
            "2026-11-23T03:00:00.5Z".parse().unwrap(),
            [0x5f, 0x3a, 0x9c],
        );
        assert_eq!(label.as_str(), "billing-exporter-20261123T030000Z-5f3a9c");
        assert!(Label::matches_format(label.as_str(), &key));
        let shorter = KeyName::new("billing").unwrap();
        assert!(!Label::matches_format(label.as_str(), &shorter));
        for other in [
            "billing-exporter",
            "billing-exporter-202611a3T030000Z-5f3a9c",
            "billing-exporter-20261123T03000aZ-5f3a9c",
            "billing-exporter-20261123-030000Z-5f3a9c",
            "billing-exporter-20261123T030000T-5f3a9c",
            "billing-exporter-20261123T030000Z05f3a9c",
            "billing-exporter-20261123T030000Z-5f3a9c0",
            "billing-exporter-",
            "billing-exporter-2",
            "billing-exporter-2026",
            "billing-exporter-20261123T030000Z-5f3a9c (copy)",
            // The labels of other keys, as they are and as a provider changes them.
            "eu-billing-exporter-20261123T030000Z-5f3a9c",
            "rebilling-exporter-20261123T030000Z-5f3a9c",
            "2billing-exporter-20261123T030000Z-5f3a9c",
            "EU-BILLING-EXPORTER-20261123T030000Z-5F3A9C",
            "Eu-billing-exporter-20261123t030000z-5f3a9c",
            "acme/eu-billing-exporter-20261123T030000Z-5f3a9c",
            "Admin key eu-billing-exporter-20261123T030000Z-5f3a9c",
            "eu-billing-exporter-20261123",
            "",
        ] {
            assert!(!Label::matches_format(other, &key), "{other}");
        }
    }

    /// Labels of a lost ledger are recognized as the provider changed them.
    #[test]
    fn changed_labels_look_like_labels() {
        let key = KeyName::new("billing-exporter").unwrap();
        for name in [
            "billing-exporter-20261123T030000Z-5F3A9C",
            "billing-exporter-20261123t030000z-5f3a9c",
            "BILLING-EXPORTER-20261123T030000Z-5F3A9C",
            "billing-exporter-20261123T030000Z-5f3",
            "billing-exporter-20261123T0300",
            "billing-exporter-20261123",
            "acme/billing-exporter-20261123T030000Z-5f3a9c",
            "Acme: billing-exporter-20261123t0300",
            "[org] BILLING-EXPORTER-20261123T0300",
            "acme_billing-exporter-20261123T030000Z-5f3a9c",
            "acme/-billing-exporter-20261123T030000Z-5f3a9c",
            "Admin key billing-exporter-20261123T030000Z-5f3a9c",
            " billing-exporter-20261123T030000Z-5f3a9c ",
        ] {
            assert!(Label::matches_format(name, &key), "{name}");
        }
        let long = KeyName::new(&"a".repeat(48)).unwrap();
        for (length, expected) in [(29, false), (32, true), (47, true), (48, false)] {
            assert_eq!(
                Label::matches_format(&"a".repeat(length), &long),
                expected,
                "{length}"
            );
        }
    }
}
