//! What a kind of key consists of.

use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::Section;
use crate::core::scope::Scope;

/// One kind of key.
#[derive(Debug)]
pub struct KeyKind {
    /// What the contract calls it: `admin-key`.
    pub name: &'static str,
    /// The options that only keys of this kind have.
    pub options: Section,
    /// What the secrets of this kind begin with: texts from outside are masked by
    /// it, see [`crate::core::redact`].
    pub secret_prefixes: &'static [&'static str],
    /// Reads the scope of a key of this kind from the key's table; none if that
    /// is a problem, which is reported.
    pub(crate) read_scope: fn(&ConfigTable<'_>, &mut ProblemReport) -> Option<Scope>,
}
