//! The folder of a ledger, with its open connections. Worlds use it one after another: to
//! read the schema and to prepare the statements takes longer than all else that a world
//! does.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use rekeyd::ledger::IdleWriter;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// The content of an empty ledger.
static EMPTY: OnceLock<Vec<u8>> = OnceLock::new();

thread_local! {
    /// The files that no world of this thread uses. They are removed with the thread.
    static UNUSED: RefCell<Vec<LedgerFolder>> = const { RefCell::new(Vec::new()) };
}

struct LedgerFolder {
    dir: TempDir,
    connections: Mutex<Connections>,
}

/// The open connections to the ledger.
#[derive(Default)]
struct Connections {
    /// Those of processes that have ended.
    writers: Vec<IdleWriter>,
    reader: Option<Connection>,
    eraser: Option<Eraser>,
    /// Whether the ledger was replaced by another file, or holds what it must not.
    is_discarded: bool,
}

/// A connection that makes the ledger empty again.
struct Eraser {
    connection: Connection,
    /// The statements.
    script: String,
}

/// The files that one world uses.
pub(super) struct LentFiles(Option<LedgerFolder>);

impl LentFiles {
    /// Takes the files of an earlier world, whose ledger is empty again, or makes new ones
    /// without a ledger.
    pub(super) fn take() -> Self {
        let unused = UNUSED.with_borrow_mut(Vec::pop);
        let folder = unused.unwrap_or_else(LedgerFolder::new);
        folder.erase();
        Self(Some(folder))
    }

    fn folder(&self) -> &LedgerFolder {
        self.0.as_ref().unwrap()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder().dir.path().join(name)
    }

    pub(super) fn ledger_path(&self) -> PathBuf {
        self.folder().ledger_path()
    }

    /// Calls `read` with a read-only connection to the ledger.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        let folder = self.folder();
        let mut connections = folder.connections.lock().unwrap();
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
            let reader = Connection::open_with_flags(folder.ledger_path(), flags).unwrap();
            reader.set_prepared_statement_cache_capacity(64);
            reader
        };
        read(connections.reader.get_or_insert_with(open))
    }

    pub(super) fn take_writer(&self) -> Option<IdleWriter> {
        self.folder().connections.lock().unwrap().writers.pop()
    }

    pub(super) fn keep_writer(&self, writer: IdleWriter) {
        let mut connections = self.folder().connections.lock().unwrap();
        if !connections.is_discarded {
            connections.writers.push(writer);
        }
    }

    /// Closes all connections. No later world uses these files.
    pub(super) fn discard(&self) {
        let mut connections = self.folder().connections.lock().unwrap();
        *connections = Connections {
            is_discarded: true,
            ..Connections::default()
        };
    }
}

impl Drop for LentFiles {
    fn drop(&mut self) {
        let Some(mut folder) = self.0.take() else {
            return;
        };
        // A check that panicked says nothing about later worlds.
        let is_usable = folder
            .connections
            .get_mut()
            .is_ok_and(|connections| !connections.is_discarded);
        if is_usable {
            UNUSED.with_borrow_mut(|unused| unused.push(folder));
        }
    }
}

impl LedgerFolder {
    fn new() -> Self {
        Self {
            dir: memory_tempdir(),
            connections: Mutex::default(),
        }
    }

    fn ledger_path(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }

    /// Makes the ledger empty, if there is one.
    fn erase(&self) {
        let path = self.ledger_path();
        if !path.exists() {
            return;
        }
        let mut connections = self.connections.lock().unwrap();
        let open = || Eraser::open(&path, &self.dir.path().join("empty.db"));
        connections.eraser.get_or_insert_with(open).run();
    }
}

impl Eraser {
    fn open(path: &Path, empty: &Path) -> Self {
        std::fs::write(empty, EMPTY.get().unwrap()).unwrap();
        let connection = Connection::open(path).unwrap();
        // The ledger forbids what this does.
        let triggers = DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER;
        connection.set_db_config(triggers, false).unwrap();
        let attach = "PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF;";
        connection.execute_batch(attach).unwrap();
        let attach = "ATTACH ?1 AS empty";
        connection
            .execute(attach, [empty.to_str().unwrap()])
            .unwrap();
        let mut script = "BEGIN IMMEDIATE;".to_owned();
        for table in tables(&connection) {
            script.push_str(&format!("DELETE FROM main.{table};"));
            let count = format!("SELECT count(*) FROM empty.{table}");
            let count: i64 = connection.query_row(&count, [], |row| row.get(0)).unwrap();
            if count > 0 {
                script.push_str(&format!(
                    "INSERT INTO main.{table} SELECT * FROM empty.{table};"
                ));
            }
        }
        script.push_str("COMMIT; PRAGMA main.wal_checkpoint(TRUNCATE);");
        Self { connection, script }
    }

    fn run(&self) {
        self.connection.execute_batch(&self.script).unwrap();
    }
}

/// Returns the names of all tables, that of the last row ids included.
fn tables(connection: &Connection) -> Vec<String> {
    let sql = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name <> 'sqlite_stat1'";
    let mut query = connection.prepare(sql).unwrap();
    let names = query.query_map([], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

/// Returns the content of an empty ledger, which `create` creates at `path`.
pub(super) fn empty_ledger(path: &Path, create: impl FnOnce(&Path)) -> &'static [u8] {
    EMPTY.get_or_init(|| {
        create(path);
        let connection = Connection::open(path).unwrap();
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        drop(connection);
        std::fs::read(path).unwrap()
    })
}

/// Creates a temporary folder, in memory if possible: it need not survive a restart.
fn memory_tempdir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(dir) = tempfile::tempdir_in(memory)
    {
        return dir;
    }
    tempfile::tempdir().unwrap()
}
