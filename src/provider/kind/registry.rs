//! The kinds of key.

use super::{KeyKind, admin_key};

/// Every kind of key, one line each.
pub static KEY_KINDS: [&KeyKind; 1] = [&admin_key::KIND];

/// The kind of a key that names none.
pub static DEFAULT_KIND: &KeyKind = &admin_key::KIND;
