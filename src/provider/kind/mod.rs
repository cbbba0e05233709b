//! Kinds of key: what a rotation creates at the provider. A kind is a folder here
//! and a line in [`KEY_KINDS`].

pub mod admin_key;
mod key_kind;

pub use self::key_kind::KeyKind;

/// Every kind of key, one line each.
pub static KEY_KINDS: &[&KeyKind] = &[&admin_key::KIND];

/// The kind of a key that names none.
pub static DEFAULT_KIND: &KeyKind = &admin_key::KIND;
