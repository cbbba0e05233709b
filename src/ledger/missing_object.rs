//! An object of rekeyd's own that the schema of a ledger lacks, because another program
//! dropped it.

use std::fmt;

use crate::core::redact;

/// An object that rekeyd created, and that a ledger does not have any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MissingObject {
    /// A table, whose rows are lost.
    Table(String),
    /// A view.
    View(String),
    /// An index.
    Index(String),
    /// A trigger.
    Trigger(String),
}

impl MissingObject {
    /// Returns the object of this type and name in `sqlite_schema`.
    pub(super) fn of(kind: &str, name: &str) -> Self {
        let name = name.to_owned();
        match kind {
            "view" => Self::View(name),
            "index" => Self::Index(name),
            "trigger" => Self::Trigger(name),
            _ => Self::Table(name),
        }
    }

    /// Returns what to do about it where rekeyd cannot make it again.
    pub(super) const fn advice(&self) -> &'static str {
        match self {
            Self::Table(_) => "restore the newest backup with `rekeyd restore PATH`",
            Self::View(_) | Self::Index(_) | Self::Trigger(_) => {
                "start rekeyd, which makes it again"
            }
        }
    }

    /// Returns whether its content is lost, so that it cannot be made again.
    pub(super) const fn is_lost(&self) -> bool {
        matches!(self, Self::Table(_))
    }

    /// Returns whether what rekeyd reads cannot be read without it.
    pub(super) const fn is_read(&self) -> bool {
        matches!(self, Self::Table(_) | Self::View(_))
    }
}

impl fmt::Display for MissingObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Table(name) => ("table", name),
            Self::View(name) => ("view", name),
            Self::Index(name) => ("index", name),
            Self::Trigger(name) => ("trigger", name),
        };
        write!(formatter, "{kind} {}", redact::sanitize(name))
    }
}
