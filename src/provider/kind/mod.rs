//! Kinds of key, which determine the credential that a rotation creates. A kind
//! is a folder here and a line in [`KEY_KINDS`].

pub mod admin_key;
mod key_kind;

pub use self::key_kind::KeyKind;

/// Every kind of key.
pub static KEY_KINDS: &[&KeyKind] = &[&admin_key::KIND];

/// The kind of keys whose options do not name one.
pub static DEFAULT_KIND: &KeyKind = &admin_key::KIND;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::redact::sanitize;

    #[test]
    fn secrets_of_every_kind_are_masked_by_their_prefix() {
        for kind in KEY_KINDS {
            assert!(!kind.secret_prefixes.is_empty(), "{}", kind.name);
            for prefix in kind.secret_prefixes {
                let text = sanitize(&format!("refused {prefix}aB1_"));
                assert_eq!(text, "refused [secret]", "{}", kind.name);
            }
        }
    }
}
