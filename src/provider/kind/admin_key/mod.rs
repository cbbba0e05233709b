//! Organization admin keys: a rotation creates one, a revocation deletes it.

use crate::config_reader::section::Section;
use crate::core::scope::Scope;
use crate::provider::kind::KeyKind;

/// The kind of a key whose credentials are organization admin keys.
pub static KIND: KeyKind = KeyKind {
    name: "admin-key",
    options: Section {
        name: "key.admin-key",
        about: "An organization admin key.",
        options: &[],
    },
    secret_prefixes: &["sk-admin-"],
    read_scope: |_, _| Some(Scope::AdminKeys),
};
