//! What the target of a sink holds, whoever wrote it.

use crate::core::secret::Secret;

/// What a target holds, as far as this host can read it.
#[derive(Debug, Clone)]
pub enum TargetContent {
    /// This host cannot look at targets of this type, or not now.
    Unknown,
    /// The target does not exist, or holds nothing that looks like a key.
    NoKey,
    /// The target may hold a key, and this process may not read it.
    Unreadable,
    /// Every text that looks like a key, at least one.
    Keys(Vec<Secret>),
}

impl TargetContent {
    /// Returns the content of a target that holds `text`.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let keys = crate::core::key_shape::find_keys(text);
        let keys: Vec<_> = keys.into_iter().map(Secret::new).collect();
        if keys.is_empty() {
            Self::NoKey
        } else {
            Self::Keys(keys)
        }
    }

    /// Returns the keys that it holds, as far as they are known.
    #[must_use]
    pub fn keys(&self) -> &[Secret] {
        match self {
            Self::Keys(keys) => keys,
            Self::Unknown | Self::NoKey | Self::Unreadable => &[],
        }
    }
}
