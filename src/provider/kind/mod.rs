//! Kinds of key: what a rotation creates at the provider. Each kind is a folder
//! of its own and one line in [`registry`].

pub mod admin_key;
pub mod registry;

use crate::config_reader::section::Section;

/// One kind of key.
#[derive(Debug)]
pub struct KeyKind {
    /// What the contract calls it: `admin-key`.
    pub name: &'static str,
    /// The options that only keys of this kind have.
    pub options: Section,
}
