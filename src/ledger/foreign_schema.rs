//! What the schema of a ledger has that rekeyd did not create, and what it lacks that rekeyd
//! created.
//!
//! A trigger, a view, a default or a generated column is SQL that runs when rekeyd reads or
//! writes the ledger: it may change or refuse what is recorded, show what was not, or never
//! end. Such a ledger is refused. Tables and indexes of other programs, such as those of a
//! replication or of `ANALYZE`, stay.
//!
//! A table that was dropped has lost its rows, so that its ledger is refused. Views, indexes
//! and triggers are made again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ring::digest::{Context, SHA256};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::core::{hex, redact};
use crate::ledger::error::LedgerError;
use crate::ledger::foreign_object::ForeignObject;
use crate::ledger::missing_object::MissingObject;
use crate::ledger::version::{self, LedgerVersion};

/// The words of a column's definition that are more than its name and its type.
const CONSTRAINTS: [&str; 11] = [
    "AS",
    "CHECK",
    "COLLATE",
    "CONSTRAINT",
    "DEFAULT",
    "FOREIGN",
    "GENERATED",
    "NOT",
    "PRIMARY",
    "REFERENCES",
    "UNIQUE",
];

/// The digest of the definitions of the current version: a schema with it is rekeyd's, and its
/// parts need not be compared. After a new migration, the test below shows the new one.
const CURRENT_DIGEST: &str = "490b07149e00cece9ffe4794aa844c1ca08cb16a8b33fdbcd0f8cf9db42fbd33";

/// The definitions of a schema, by type and name.
type Definitions = BTreeMap<(String, String), SchemaRow>;

/// A row of `sqlite_schema`.
struct SchemaRow {
    table: String,
    sql: String,
    /// The number of columns of a table.
    columns: usize,
}

/// What a schema has besides rekeyd's own.
#[derive(Default)]
struct ForeignParts {
    /// What refuses the ledger.
    refused: Option<ForeignObject>,
    /// What may refuse a commit, and does not refuse the ledger.
    unique_index: Option<ForeignObject>,
    /// The names of further tables and indexes.
    further: Vec<String>,
}

/// A schema beside the one that rekeyd made.
#[derive(Default)]
struct Comparison {
    foreign: ForeignParts,
    /// Each missing object, with the statement that makes it.
    missing: Vec<(MissingObject, String)>,
}

/// Keeps the schema of a ledger from calling functions with side effects, and SQL from
/// changing the schema's own tables.
///
/// # Errors
/// SQLite's.
pub(super) fn distrust(connection: &Connection) -> Result<(), LedgerError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    Ok(())
}

/// Checks that the ledger at `path` has no SQL of other programs, and all of rekeyd's tables.
///
/// # Errors
/// [`LedgerError::ForeignObject`], [`LedgerError::MissingObject`], or SQLite's.
pub(super) fn check(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
) -> Result<(), LedgerError> {
    check_without(connection, path, version, MissingObject::is_lost)
}

/// Checks the same for a ledger that is only read, and whose views cannot be made again.
///
/// # Errors
/// The same.
pub(super) fn check_readable(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
) -> Result<(), LedgerError> {
    check_without(connection, path, version, MissingObject::is_read)
}

fn check_without(
    connection: &Connection,
    path: &Path,
    version: LedgerVersion,
    is_needed: impl Fn(&MissingObject) -> bool,
) -> Result<(), LedgerError> {
    let compared = compare(connection, version)?;
    if let Some(object) = compared.foreign.refused {
        return Err(refusal(path, object));
    }
    let mut missing = compared.missing.into_iter().map(|(object, _)| object);
    match missing.find(is_needed) {
        Some(object) => Err(LedgerError::MissingObject {
            path: path.to_owned(),
            object,
        }),
        None => Ok(()),
    }
}

/// Makes the views, indexes and triggers again that the ledger at `path` lacks.
///
/// # Errors
/// SQLite's: nothing was made then.
pub(super) fn make_missing(
    connection: &mut Connection,
    path: &Path,
    version: LedgerVersion,
) -> Result<(), LedgerError> {
    let missing = compare(connection, version)?.missing;
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (_, definition) in &missing {
        transaction.execute_batch(definition)?;
    }
    transaction.commit()?;
    for (object, _) in &missing {
        tracing::warn!(
            "the ledger {} had no {object}, which another program dropped; rekeyd made it again",
            path.display()
        );
    }
    Ok(())
}

/// Returns the names of the tables and indexes that other programs have added.
///
/// # Errors
/// SQLite's.
pub(super) fn further_objects(
    connection: &Connection,
    version: LedgerVersion,
) -> Result<Vec<String>, LedgerError> {
    Ok(compare(connection, version)?.foreign.further)
}

/// Returns the error of a ledger with an object that may have refused a statement, if it has
/// one, for the error of that statement.
pub(super) fn explain_refusal(connection: &Connection, error: &LedgerError) -> Option<LedgerError> {
    if !error.is_constraint_violation() {
        return None;
    }
    let parts = compare(connection, LedgerVersion::CURRENT).ok()?.foreign;
    let object = parts.refused.or(parts.unique_index)?;
    let path = connection.path().map(PathBuf::from).unwrap_or_default();
    Some(refusal(&path, object))
}

fn refusal(path: &Path, object: ForeignObject) -> LedgerError {
    LedgerError::ForeignObject {
        path: path.to_owned(),
        object,
    }
}

fn compare(connection: &Connection, version: LedgerVersion) -> Result<Comparison, LedgerError> {
    // The comparison makes rekeyd's schema first, which takes longer than most commands.
    if version == LedgerVersion::CURRENT && digest(connection)? == CURRENT_DIGEST {
        return Ok(Comparison::default());
    }
    static CURRENT: OnceLock<Definitions> = OnceLock::new();
    let built;
    let expected = match (version, CURRENT.get()) {
        (LedgerVersion::CURRENT, Some(expected)) => expected,
        (LedgerVersion::CURRENT, None) => {
            let expected = expected_definitions(version)?;
            CURRENT.get_or_init(|| expected)
        }
        _ => {
            built = expected_definitions(version)?;
            &built
        }
    };
    let found = read_definitions(connection)?;
    let missing = expected.iter().filter(|(id, _)| !found.contains_key(*id));
    let missing =
        missing.map(|((kind, name), own)| (MissingObject::of(kind, name), own.sql.clone()));
    let missing = missing.collect();
    Ok(Comparison {
        foreign: foreign_parts(expected, found),
        missing,
    })
}

fn foreign_parts(expected: &Definitions, found: Definitions) -> ForeignParts {
    let mut parts = ForeignParts::default();
    for ((kind, name), found) in found {
        let own = expected.get(&(kind.clone(), name.clone()));
        if own.is_some_and(|own| own.sql == found.sql) {
            continue;
        }
        let is_of_own_table = expected.contains_key(&("table".to_owned(), found.table.clone()));
        let refused = match (kind.as_str(), own) {
            ("trigger", _) => Some(ForeignObject::Trigger(name)),
            ("view", _) => Some(ForeignObject::View(name)),
            ("table", Some(own)) => changed_table(&name, own, &found),
            (_, _) => {
                let is_unique = found.sql.to_ascii_uppercase().contains("UNIQUE");
                if kind == "index" && is_unique && is_of_own_table {
                    parts.unique_index = Some(ForeignObject::UniqueIndex(name.clone()));
                }
                parts.further.push(redact::sanitize(&name));
                None
            }
        };
        parts.refused = parts.refused.or(refused);
    }
    parts
}

/// Returns the definitions that a ledger of this version has, whichever one it was first.
fn expected_definitions(version: LedgerVersion) -> Result<Definitions, LedgerError> {
    let connection = Connection::open_in_memory()?;
    for migration in version::migrations_to(version) {
        connection.execute_batch(migration)?;
    }
    read_definitions(&connection)
}

/// Returns a digest of all definitions of a schema, in hexadecimal digits.
fn digest(connection: &Connection) -> Result<String, LedgerError> {
    let sql = "SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE sql IS NOT NULL
         ORDER BY type, name";
    let mut query = connection.prepare(sql)?;
    let mut rows = query.query([])?;
    let mut context = Context::new(&SHA256);
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            // A length before each text: where one ends belongs to the schema.
            let text = row.get_ref(column)?.as_bytes_or_null();
            let text = text.map_err(rusqlite::Error::from)?.unwrap_or_default();
            context.update(&text.len().to_be_bytes());
            context.update(text);
        }
    }
    Ok(hex::encode(context.finish().as_ref()))
}

fn read_definitions(connection: &Connection) -> Result<Definitions, LedgerError> {
    // An index without SQL is part of its table.
    let sql = "SELECT type, name, tbl_name, sql,
             CASE type WHEN 'table' THEN (SELECT count(*) FROM pragma_table_xinfo(s.name)) ELSE 0 END
         FROM main.sqlite_schema s WHERE sql IS NOT NULL";
    let mut query = connection.prepare(sql)?;
    let rows = query.query_map([], |row| {
        let definition = SchemaRow {
            table: row.get(2)?,
            sql: row.get(3)?,
            columns: row.get(4)?,
        };
        Ok(((row.get(0)?, row.get(1)?), definition))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Returns what is foreign in a table of rekeyd's with another definition than its own.
/// Columns that only have a type are not.
fn changed_table(table: &str, own: &SchemaRow, found: &SchemaRow) -> Option<ForeignObject> {
    let added = added_text(&own.sql, &found.sql).filter(|added| {
        // Without another column, the text changed a constraint.
        added.matches(',').count() == found.columns.saturating_sub(own.columns)
    });
    let Some(added) = added else {
        return Some(ForeignObject::Table(table.to_owned()));
    };
    let is_constraint = |word: &str| CONSTRAINTS.contains(&word.to_ascii_uppercase().as_str());
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    added.split(',').find_map(|column| {
        let mut words = column.split(|letter| !is_word(letter));
        words.any(is_constraint).then(|| ForeignObject::Column {
            table: table.to_owned(),
            column: column_name(column),
        })
    })
}

/// Returns the text that was inserted into `own` and begins with a comma, if that is the only
/// difference.
fn added_text<'a>(own: &str, found: &'a str) -> Option<&'a str> {
    let length = found.len().checked_sub(own.len())?;
    let same = |(one, other): &(u8, u8)| one == other;
    let last = own.bytes().zip(found.bytes()).take_while(same).count();
    (last.saturating_sub(length)..=last).find_map(|start| {
        let added = found.get(start..start + length)?;
        let is_rest = found.get(start + length..)? == own.get(start..)?;
        (added.starts_with(',') && is_rest).then_some(added)
    })
}

/// Returns the name at the beginning of a column's definition.
fn column_name(definition: &str) -> String {
    let definition = definition.trim();
    let quoted = ['"', '`', '['].into_iter().find_map(|start| {
        let end = if start == '[' { ']' } else { start };
        definition.strip_prefix(start)?.split_once(end)
    });
    let first_word = || definition.split_whitespace().next().unwrap_or_default();
    quoted.map_or_else(first_word, |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_current_version() {
        let connection = Connection::open_in_memory().unwrap();
        for migration in version::migrations_to(LedgerVersion::CURRENT) {
            connection.execute_batch(migration).unwrap();
        }
        assert_eq!(digest(&connection).unwrap(), CURRENT_DIGEST);
        let own = compare(&connection, LedgerVersion::CURRENT).unwrap();
        assert!(own.foreign.refused.is_none() && own.missing.is_empty());
        connection.execute_batch("DROP VIEW history").unwrap();
        let without = compare(&connection, LedgerVersion::CURRENT).unwrap();
        assert_eq!(without.missing.len(), 1);
    }

    #[test]
    fn only_columns_with_more_than_a_type_are_foreign() {
        let row = |sql: &str, columns| SchemaRow {
            table: "t".to_owned(),
            sql: sql.to_owned(),
            columns,
        };
        let own_sql = "CREATE TABLE t (a TEXT, CHECK (a IN ('x')))";
        let own = row(own_sql, 1);
        let column = |column: &str| {
            Some(ForeignObject::Column {
                table: "t".to_owned(),
                column: column.to_owned(),
            })
        };
        for (added, expected) in [
            (", b", None),
            (", b TEXT", None),
            (", \"b c\" INTEGER, d ANY", None),
            (", b TEXT DEFAULT ''", column("b")),
            (", b TEXT, c TEXT AS (a)", column("c")),
            (", [b c] TEXT check(b=1)", column("b c")),
            (", b TEXT COLLATE\nNOCASE", column("b")),
            (", b TEXT NOT NULL", column("b")),
        ] {
            let sql = own_sql.replace("TEXT,", &format!("TEXT{added},"));
            let found = row(&sql, 1 + added.matches(',').count());
            assert_eq!(changed_table("t", &own, &found), expected, "{added}");
        }
        for sql in [
            "CREATE TABLE t (a TEXT, CHECK (a IN ('x', 'y')))",
            "CREATE TABLE t (a TEXT, CHECK (a IN ('xy')))",
            "CREATE TABLE t (a TEXT)",
            "CREATE TABLE t (b TEXT, CHECK (a IN ('x')))",
            "",
        ] {
            let changed = Some(ForeignObject::Table("t".to_owned()));
            assert_eq!(changed_table("t", &own, &row(sql, 1)), changed, "{sql}");
        }
    }
}
