//! An object of another program in the schema of a ledger, and how to remove it.

use std::fmt;
use std::path::Path;

use crate::core::redact;
use crate::core::shell;

/// An object of a ledger's schema that rekeyd did not create, and that may change or refuse
/// what it records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignObject {
    /// A trigger.
    Trigger(String),
    /// A view.
    View(String),
    /// A column with more than a type, of a table of rekeyd's.
    Column {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A unique index on a table of rekeyd's.
    UniqueIndex(String),
    /// A table of rekeyd's with another definition.
    Table(String),
}

impl ForeignObject {
    /// Returns the statement that removes it, if there is one.
    fn removal(&self) -> Option<String> {
        match self {
            Self::Trigger(name) => Some(format!("DROP TRIGGER {}", quote(name))),
            Self::View(name) => Some(format!("DROP VIEW {}", quote(name))),
            Self::UniqueIndex(name) => Some(format!("DROP INDEX {}", quote(name))),
            Self::Column { table, column } => Some(format!(
                "ALTER TABLE {} DROP COLUMN {}",
                quote(table),
                quote(column)
            )),
            Self::Table(_) => None,
        }
    }

    /// Returns how to remove it from the ledger at `path`.
    pub(super) fn advice(&self, path: &Path) -> String {
        match self.removal() {
            // A name that cannot be printed cannot be copied either.
            Some(statement) if redact::sanitize(&statement) == statement => format!(
                "remove it: sqlite3 {} {}",
                shell::quote(&path.to_string_lossy()),
                shell::quote(&statement)
            ),
            Some(_) => "remove it with sqlite3".to_owned(),
            None => "restore the newest backup with `rekeyd restore PATH`".to_owned(),
        }
    }
}

impl fmt::Display for ForeignObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &str| redact::sanitize(name);
        match self {
            Self::Trigger(trigger) => write!(formatter, "the trigger {}", name(trigger)),
            Self::View(view) => write!(formatter, "the view {}", name(view)),
            Self::UniqueIndex(index) => write!(formatter, "the unique index {}", name(index)),
            Self::Column { table, column } => {
                write!(
                    formatter,
                    "the column {} of the table {table}",
                    name(column)
                )
            }
            Self::Table(table) => write!(formatter, "another definition of the table {table}"),
        }
    }
}

/// Quotes a name in a statement.
fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
