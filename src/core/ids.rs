//! Names that were checked once and can be trusted from then on.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// The longest key name; with a label's time and random part it stays below
/// the 100 characters that a name at the provider may be expected to take.
pub const MAX_KEY_NAME_LENGTH: usize = 48;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not of the form that key and sink names have.
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
            /// The text itself.
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
    /// The name that one rotation's credential bears at the provider.
    ///
    /// `<key>-<UTC time>-<random>`, such as
    /// `billing-exporter-20261123T030000Z-5f3a9c`; unique to that rotation and
    /// never sent twice, which is what makes an unclear create findable.
    Label
}
text_newtype! {
    /// One rotation's id in this ledger: 16 hexadecimal digits, random, so
    /// that webhook ids stay unique when a ledger is lost or restored.
    RotationId
}
text_newtype! {
    /// A credential's id at the provider (`key_…`): opaque, never taken apart.
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
    /// The label of a rotation of `key` that is begun `at`, with three random
    /// bytes.
    #[must_use]
    pub fn new(key: &KeyName, at: Timestamp, random: [u8; 3]) -> Self {
        let time = at.strftime("%Y%m%dT%H%M%SZ");
        let [a, b, c] = random;
        Self(format!("{key}-{time}-{a:02x}{b:02x}{c:02x}").into())
    }

    /// A label as the ledger or the provider tells it; any text, since a label
    /// is claimed by its row and never by its shape.
    #[must_use]
    pub fn from_recorded(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Whether `name` has the shape of a label of `key`: what makes a
    /// credential that has no row here a lookalike.
    #[must_use]
    pub fn matches_format(name: &str, key: &KeyName) -> bool {
        let Some(rest) = name
            .strip_prefix(key.as_str())
            .and_then(|rest| rest.strip_prefix('-'))
        else {
            return false;
        };
        let bytes = rest.as_bytes();
        bytes.len() == 23
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 => *byte == b'T',
                15 => *byte == b'Z',
                16 => *byte == b'-',
                0..=14 => byte.is_ascii_digit(),
                _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            })
    }
}

impl RotationId {
    /// A new id from eight random bytes.
    #[must_use]
    pub fn new(random: [u8; 8]) -> Self {
        Self(format!("{:016x}", u64::from_be_bytes(random)).into())
    }

    /// An id as the ledger tells it.
    #[must_use]
    pub fn from_recorded(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl CredentialId {
    /// An id as the provider or the ledger tells it.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

impl ProjectId {
    /// An id as the configuration or the ledger tells it.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }
}

/// A sink: its name in the key *and* its target. Renamed or retargeted, it is
/// another sink.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SinkId {
    /// Its name, unique within the key; its type where none was given.
    pub name: String,
    /// Type and path, URL without query, or argv: `file:/etc/billing/key`.
    pub target: String,
}

impl fmt::Display for SinkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.name, self.target)
    }
}

/// Whether `text` has the form that names of keys and of sinks share.
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
            "billing-exporter-20261123T030000Z-5F3A9C",
            "billing-exporter-202611a3T030000Z-5f3a9c",
            "billing-exporter-20261123T03000aZ-5f3a9c",
            "billing-exporter-20261123-030000Z-5f3a9c",
            "billing-exporter-20261123T030000T-5f3a9c",
            "billing-exporter-20261123T030000Z05f3a9c",
            "billing-exporter-20261123T030000Z-5f3a9c0",
            "billing-exporter-",
        ] {
            assert!(!Label::matches_format(other, &key), "{other}");
        }
    }
}
