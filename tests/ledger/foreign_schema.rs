//! SQL of other programs in a ledger refuses it; their tables and indexes stay.

use std::path::Path;

use rekeyd::ledger::{ForeignObject, LedgerError, LedgerReader, MissingObject, prepare_unlocked};

use crate::{at, block_on, key, ledger, options, raw_ledger, rotation_started};

/// Returns the error of opening a ledger to which `sql` was added.
fn opening_error(sql: &str) -> Option<LedgerError> {
    let (_dir, path, connection) = raw_ledger();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    let opened = prepare_unlocked(&path, &options(), at()).err();
    let read = LedgerReader::open(&path).err();
    let [opened_text, read_text] = [&opened, &read].map(|error| error.as_ref().map(text));
    assert_eq!(opened_text, read_text, "{sql}");
    opened
}

fn text(error: &LedgerError) -> String {
    error.to_string()
}

#[test]
fn foreign_sql_refuses_the_ledger_and_is_removed_as_the_text_says() {
    for (sql, named, removal) in [
        (
            "CREATE TRIGGER audit AFTER INSERT ON event_log BEGIN SELECT 1; END",
            "the trigger audit,",
            "DROP TRIGGER \"audit\"",
        ),
        (
            "CREATE TABLE other (a); CREATE TRIGGER \"an audit\" AFTER INSERT ON other BEGIN SELECT 1; END",
            "the trigger an audit,",
            "DROP TRIGGER \"an audit\"",
        ),
        (
            "CREATE VIEW more AS SELECT 1",
            "the view more,",
            "DROP VIEW \"more\"",
        ),
        (
            "ALTER TABLE rotation ADD COLUMN note TEXT DEFAULT 'none'",
            "the column note of the table rotation,",
            "ALTER TABLE \"rotation\" DROP COLUMN \"note\"",
        ),
        (
            "ALTER TABLE delivery ADD COLUMN size INTEGER AS (length(target))",
            "the column size of the table delivery,",
            "ALTER TABLE \"delivery\" DROP COLUMN \"size\"",
        ),
        (
            "ALTER TABLE event_log ADD COLUMN note TEXT CHECK (note <> '')",
            "the column note of the table event_log,",
            "ALTER TABLE \"event_log\" DROP COLUMN \"note\"",
        ),
    ] {
        let (_dir, path, connection) = raw_ledger();
        connection.execute_batch(sql).unwrap();
        let refused = prepare_unlocked(&path, &options(), at()).unwrap_err();
        let message = text(&refused);
        assert!(matches!(refused, LedgerError::ForeignObject { .. }));
        assert!(message.contains(named), "{message}");
        assert!(message.contains(removal), "{message}");
        connection.execute_batch(removal).unwrap();
        prepare_unlocked(&path, &options(), at()).unwrap();
    }
}

#[test]
fn own_objects_with_another_definition_refuse_the_ledger() {
    let view = ForeignObject::View("history".to_owned());
    let trigger = ForeignObject::Trigger("rotation_no_delete".to_owned());
    let table = ForeignObject::Table("condition".to_owned());
    for (sql, expected) in [
        (
            "DROP VIEW history; CREATE VIEW history AS SELECT * FROM rotation",
            view,
        ),
        (
            "DROP TRIGGER rotation_no_delete;
             CREATE TRIGGER rotation_no_delete BEFORE DELETE ON rotation BEGIN SELECT 1; END",
            trigger,
        ),
        (
            "DROP TABLE condition; CREATE TABLE condition (scope, name, since, reason)",
            table,
        ),
    ] {
        match opening_error(sql) {
            Some(LedgerError::ForeignObject { object, .. }) => assert_eq!(object, expected),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn tables_and_indexes_of_other_programs_stay() {
    for sql in [
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
        "ANALYZE",
        "CREATE INDEX by_label ON rotation (label)",
        "CREATE UNIQUE INDEX once ON event_log (at)",
        "ALTER TABLE rotation ADD COLUMN note TEXT",
        "VACUUM",
        "REINDEX",
    ] {
        assert!(opening_error(sql).is_none(), "{sql}");
    }
}

/// Returns the types and names of what the schema has.
fn schema_of(connection: &rusqlite::Connection) -> Vec<(String, String)> {
    let sql = "SELECT type, name FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name";
    let mut query = connection.prepare(sql).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

/// Each view, index and trigger is made again, and each table refuses the ledger.
#[test]
fn dropped_objects_are_made_again_and_dropped_tables_refuse_the_ledger() {
    let (_dir, _path, connection) = raw_ledger();
    let all = schema_of(&connection);
    let kinds = ["index", "table", "trigger", "view"];
    assert!(
        kinds
            .iter()
            .all(|kind| all.iter().any(|one| one.0 == *kind))
    );
    for (kind, name) in &all {
        if name.starts_with("sqlite_") {
            continue;
        }
        let (_dir, path, connection) = raw_ledger();
        let drop = format!("PRAGMA foreign_keys = OFF; DROP {kind} {name}");
        connection.execute_batch(&drop).unwrap();
        let read = LedgerReader::open(&path).err().map(|error| text(&error));
        let opened = prepare_unlocked(&path, &options(), at()).err();
        if kind == "table" {
            let object = MissingObject::Table(name.clone());
            match &opened {
                Some(LedgerError::MissingObject { object: found, .. }) => {
                    assert_eq!(*found, object);
                }
                other => panic!("{drop}: {other:?}"),
            }
            let message = text(&opened.unwrap());
            assert!(message.contains("restore the newest backup"), "{message}");
            assert_eq!(read, Some(message), "{drop}");
        } else {
            assert!(opened.is_none(), "{drop}: {opened:?}");
            assert_eq!(schema_of(&connection), all, "{drop}");
            match read {
                Some(message) if kind == "view" => {
                    assert!(message.contains("start rekeyd"), "{message}");
                }
                None if kind != "view" => {}
                other => panic!("{drop}: {other:?}"),
            }
            LedgerReader::open(&path).unwrap();
        }
    }
}

/// Returns the error of a commit to a ledger to which `sql` was added since it was opened.
fn commit_error(sql: &str) -> LedgerError {
    let (_dir, path, connection) = raw_ledger();
    block_on(async {
        let ledger = ledger(&path);
        let other = ledger.key_state(&key(2)).await.unwrap();
        let recorded = ledger.record(&other, at(), &[rotation_started(2)]).await;
        recorded.unwrap();
        let state = ledger.key_state(&key(1)).await.unwrap();
        connection.execute_batch(sql).unwrap();
        let started = [rotation_started(1)];
        let refused = ledger.record(&state, at(), &started).await.unwrap_err();
        assert_eq!(count_rotations(&path), 1);
        refused
    })
}

fn count_rotations(path: &Path) -> i64 {
    let connection = rusqlite::Connection::open(path).unwrap();
    let count = "SELECT count(*) FROM rotation";
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn commit_that_foreign_sql_refuses_names_it() {
    let trigger =
        "CREATE TRIGGER no BEFORE INSERT ON event_log BEGIN SELECT RAISE(ABORT, 'no'); END";
    let index = "CREATE UNIQUE INDEX one_a_day ON event_log (at)";
    for (sql, named) in [
        (trigger, "the trigger no,"),
        (index, "the unique index one_a_day,"),
    ] {
        let refused = commit_error(sql);
        assert!(!refused.is_content_error());
        let message = text(&refused);
        assert!(message.contains(named), "{message}");
        assert!(message.contains("remove it: sqlite3 "), "{message}");
    }
}
