//! What a kind of key consists of.

use crate::config_reader::section::Section;

/// One kind of key.
#[derive(Debug)]
pub struct KeyKind {
    /// What the contract calls it: `admin-key`.
    pub name: &'static str,
    /// The options that only keys of this kind have.
    pub options: Section,
}
