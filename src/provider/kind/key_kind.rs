//! The description of a kind of key.

use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::Section;
use crate::core::scope::Scope;

/// One kind of key.
#[derive(Debug)]
pub struct KeyKind {
    /// Its public name, such as `admin-key`.
    pub name: &'static str,
    /// The options that only keys of this kind have.
    pub options: Section,
    /// The prefixes of this kind's secrets, by which untrusted text is masked, see
    /// [`crate::core::redact`].
    pub secret_prefixes: &'static [&'static str],
    /// Reads the scope of a key of this kind from the key's table. Returns `None`
    /// after a problem, which it reports.
    pub(crate) read_scope: fn(&ConfigTable<'_>, &mut ProblemReport) -> Option<Scope>,
}
