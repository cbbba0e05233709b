//! Ledgers of earlier releases are migrated without losing a row, and an interrupted
//! migration leaves either the former or the new ledger.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rekeyd::core::lifecycle::{LifecycleEvent, Phase};
use rekeyd::core::state::KeyState;
use rekeyd::ledger::{
    Ledger, LedgerError, LedgerIdentity, LedgerOptions, LedgerReader, SCHEMA_VERSION, WriterDriver,
    prepare_unlocked,
};
use rusqlite::types::Value;

use crate::{at, block_on, key, options, rotation_started};

const FIRST_RELEASE: &str = "ledger-0.1.0.db";

/// The columns that the view `history` had in 0.1.0.
const FORMER_HISTORY: &str = "SELECT rotation, key, sequence, \"trigger\", scheduled_for,
         started_at, label, credential_id, redacted_value, created_at, expires_at, phase,
         current_at, retired_at, revoke_after, revoked_at, error
     FROM history ORDER BY rotation";

/// Queries with the same result in a ledger of 0.1.0 and in the migrated one.
const SAME_ROWS: [[&str; 2]; 14] = [
    [
        "SELECT * FROM history ORDER BY rotation",
        FORMER_HISTORY,
    ],
    ["SELECT * FROM deliveries ORDER BY rotation, sink, last_attempt_at, error"; 2],
    [
        "SELECT seq, at, rotation, key,
             replace(replace(replace(replace(replace(
                 detail, '\"until\":\"9999-12-30T22:00:00Z\"', '\"until\":null'),
                 '\"looks\":', '\"checks\":'), '\"owed\":', '\"pending_run\":'),
                 '\"then\":\"made up for\"', '\"outcome\":\"catch-up\"'),
                 '\"then\":', '\"outcome\":')
         FROM journal ORDER BY seq",
        "SELECT seq, at, rotation, key, detail FROM events ORDER BY seq",
    ],
    [
        "SELECT id, rotation, attempt, retry_at, maybe_made, stranded_at, missing_since,
             missing_looks, hold_until IS NOT NULL,
             CASE WHEN hold_until < '9999' THEN hold_until END, revoke_now, slot
         FROM rotation ORDER BY id",
        "SELECT id, rotation, attempt, retry_at, maybe_created, stranded_at, missing_since,
             missing_checks, is_held, hold_until, revoke_now, exclusive_state FROM rotation ORDER BY id",
    ],
    [
        "SELECT rotation, place, sink, target, required, state, maybe_taken, attempts,
             last_attempt_at, written_at, accepted_at, removed_at, retry_at, error
         FROM delivery ORDER BY rotation, place",
        "SELECT rotation_row, ordinal, sink, target, required, state, maybe_accepted, attempts,
             last_attempt_at, written_at, accepted_at, removed_at, retry_at, error
         FROM delivery ORDER BY rotation_row, ordinal",
    ],
    [
        "SELECT key, sequence, attempt, retry_at, problem, revoke_previous, timetable,
             counts_from, owed, paused_from, paused_until FROM key_state ORDER BY key",
        "SELECT key, sequence, attempt, retry_at, last_error, revoke_previous, timetable,
             counts_from, pending_run, paused_from, paused_until FROM key_state ORDER BY key",
    ],
    [
        "SELECT id, provider, organization, machine, swept_at, made_at FROM identity",
        "SELECT id, provider, organization, host, reconciled_at, created_at
         FROM ledger_identity, scope WHERE scope = 'admin-keys'",
    ],
    [
        "SELECT credential_id, replace(kind, 'foreign', 'unrecognized'), name, seen_at
         FROM stranger ORDER BY credential_id",
        "SELECT credential_id, kind, name, last_seen_at
         FROM unknown_credential ORDER BY credential_id",
    ],
    [
        "SELECT key, cause, credential, since FROM cause ORDER BY key, cause, credential",
        "SELECT key, kind, credential_id, since FROM alert ORDER BY key, kind, credential_id",
    ],
    [
        "SELECT id, notice, at, state, key, cause, credential, since, text
         FROM notice ORDER BY id",
        "SELECT id, notification_id, created_at, state, key, alert_kind, credential_id, since, text
         FROM notification ORDER BY id",
    ],
    [
        "SELECT notifier, notice, attempts, retry_at, error,
             replace(replace(outcome, 'told', 'sent'), 'given-up', 'abandoned'), ended_at
         FROM telling ORDER BY notifier, notice",
        "SELECT channel, notification_row, attempts, retry_at, error, outcome, finished_at
         FROM outbox_entry ORDER BY channel, notification_row",
    ],
    [
        "SELECT seq FROM sqlite_sequence WHERE name = 'notice'",
        "SELECT seq FROM sqlite_sequence WHERE name = 'notification'",
    ],
    [
        "SELECT rotation FROM rotation WHERE phase = 'retired'
             AND error LIKE '%see that its consumers read the new one%' ORDER BY id",
        "SELECT rotation FROM rotation WHERE final_warning = 1 ORDER BY id",
    ],
    [
        "SELECT rotation, (SELECT min(at) FROM journal_entry
             WHERE rotation = r.id AND event = 'held-back')
         FROM rotation r WHERE phase = 'retired' AND error LIKE 'it was used at %' ORDER BY id",
        "SELECT rotation, deferred_since FROM rotation WHERE deferred_since IS NOT NULL
         ORDER BY id",
    ],
];

/// The event words of 0.1.0 that were renamed.
const RENAMED_EVENTS: [(&str, &str); 30] = [
    ("adopted-besides", "adopted-alongside"),
    ("after-failed", "on-change-failed"),
    ("deferred", "key-backed-off"),
    ("delivery-begun", "delivery-started"),
    ("double-revoked", "duplicate-revoked"),
    ("due", "started"),
    ("extended", "overlap-extended"),
    ("firing-missed", "run-missed"),
    ("found", "credential-found"),
    ("found-open", "interrupted"),
    ("given-up", "abandoned"),
    ("given-up-delivering", "abandoned-during-delivery"),
    ("gone", "found-deleted"),
    ("held-back", "revocation-deferred"),
    ("hold", "hold-set"),
    ("missing", "credential-missing"),
    ("not-done", "not-created"),
    ("pause", "paused"),
    ("refused", "verification-failed"),
    ("release", "hold-released"),
    ("resume", "resumed"),
    ("revoke-now", "immediate-revocation-requested"),
    ("revoke-previous-now", "revoke-previous-requested"),
    ("revoked-by-hand", "revoked-manually"),
    ("seen-alive", "found-alive"),
    ("sink-missed", "delivery-skipped"),
    ("target-lost", "sink-drifted"),
    ("timetable", "timetable-changed"),
    ("try-now", "retry-requested"),
    ("worked", "verified"),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// Returns a folder with that ledger as `ledger.db`.
fn place(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    fs::copy(fixture(name), &path).unwrap();
    (dir, path)
}

/// Returns the path at which a migration keeps the former ledger.
fn kept_path(path: &Path) -> PathBuf {
    path.with_extension("db.0.1.0")
}

fn read_rows(path: &Path, sql: &str) -> Vec<Vec<Value>> {
    let reader = rusqlite::Connection::open(path).unwrap();
    let mut statement = reader.prepare(sql).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect());
    rows.unwrap().map(Result::unwrap).collect()
}

fn read_text(path: &Path, sql: &str) -> Vec<String> {
    let rows = read_rows(path, sql).into_iter();
    rows.map(|row| match &row[..] {
        [Value::Text(text)] => text.clone(),
        other => panic!("{sql}: {other:?}"),
    })
    .collect()
}

fn read_number(path: &Path, sql: &str) -> i64 {
    match &read_rows(path, sql)[..] {
        [row] => match row[..] {
            [Value::Integer(number)] => number,
            ref other => panic!("{sql}: {other:?}"),
        },
        other => panic!("{sql}: {other:?}"),
    }
}

/// Returns every row of every table, and the schema.
fn dump(path: &Path) -> Vec<Vec<Value>> {
    let mut rows = read_rows(
        path,
        "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2",
    );
    for table in read_text(
        path,
        "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1",
    ) {
        rows.extend(read_rows(
            path,
            &format!("SELECT * FROM {table} ORDER BY 1, 2"),
        ));
    }
    rows.extend(read_rows(path, "PRAGMA user_version"));
    rows
}

/// Returns the options with which the writer of this ledger opens it.
fn recorded_options(path: &Path) -> LedgerOptions {
    let of_release = "SELECT provider || ' ' || organization FROM";
    let is_first = read_number(path, "PRAGMA user_version") < 100;
    let table = if is_first { "identity" } else { "scope" };
    let text = read_text(path, &format!("{of_release} {table}")).remove(0);
    let (provider, organization) = text.split_once(' ').unwrap();
    LedgerOptions::new(LedgerIdentity {
        provider: provider.to_owned(),
        organization: organization.to_owned(),
    })
}

fn migrate(path: &Path) -> Result<(), LedgerError> {
    prepare_unlocked(path, &recorded_options(path), at())
}

fn check_migrated(path: &Path, former: &Path) {
    for [before, after] in SAME_ROWS {
        assert_eq!(read_rows(path, after), read_rows(former, before), "{after}");
    }
    let events = "ORDER BY seq";
    let before = read_text(former, &format!("SELECT event FROM journal {events}"));
    let after = read_text(path, &format!("SELECT event FROM events {events}"));
    let missing = RENAMED_EVENTS
        .iter()
        .find(|(former, _)| !before.iter().any(|word| word == former));
    assert_eq!(missing, None, "the fixture has every event");
    let renamed = before.iter().map(|word| {
        let found = RENAMED_EVENTS.iter().find(|(former, _)| former == word);
        found.map_or(word.as_str(), |(_, renamed)| renamed)
    });
    assert_eq!(after, renamed.collect::<Vec<_>>());
    check_whole(path);
}

/// Checks that a migrated ledger equals a new one except for its rows.
fn check_whole(path: &Path) {
    assert_eq!(read_text(path, "PRAGMA integrity_check"), ["ok"]);
    assert!(read_rows(path, "PRAGMA foreign_key_check").is_empty());
    let dir = tempfile::tempdir().unwrap();
    let new = dir.path().join("ledger.db");
    prepare_unlocked(&new, &recorded_options(path), at()).unwrap();
    for sql in [
        "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name",
        "PRAGMA user_version",
        "PRAGMA application_id",
        "PRAGMA journal_mode",
    ] {
        assert_eq!(read_rows(path, sql), read_rows(&new, sql), "{sql}");
    }
    let raw = rusqlite::Connection::open(path).unwrap();
    for sql in ["UPDATE event_log SET event = 'x'", "DELETE FROM rotation"] {
        assert!(raw.execute(sql, []).is_err(), "{sql}");
    }
    let transitions = "SELECT DISTINCT event FROM events WHERE detail ->> 'to' IS NOT NULL";
    for word in read_text(path, transitions) {
        assert!(LifecycleEvent::from_text(&word).is_some(), "{word}");
    }
    let reader = LedgerReader::open(path).unwrap();
    let live = reader.snapshot().unwrap().key_states().unwrap();
    let live: usize = live.values().map(|state| state.live.len()).sum();
    let live_rows = "SELECT count(*) FROM history WHERE phase NOT IN ('revoked', 'failed')";
    assert_eq!(i64::try_from(live).unwrap(), read_number(path, live_rows));
}

/// Returns the files in the ledger's folder whose names begin with that of the kept one.
fn kept_files(path: &Path) -> Vec<String> {
    let folder = fs::read_dir(path.parent().unwrap()).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut kept_files: Vec<_> = names.filter(|name| name.contains("0.1.0")).collect();
    kept_files.sort();
    kept_files
}

#[test]
fn every_earlier_version_has_a_fixture_with_every_phase() {
    let later = (100..SCHEMA_VERSION).map(|version| format!("ledger-{version}.db"));
    let phases: BTreeSet<_> = Phase::ALL.map(|phase| phase.as_str().to_owned()).into();
    for name in later.chain([FIRST_RELEASE.to_owned()]) {
        let (_dir, path) = place(&name);
        let found = read_text(&path, "SELECT DISTINCT phase FROM history");
        assert_eq!(BTreeSet::from_iter(found), phases, "{name}");
        migrate(&path).unwrap();
        check_whole(&path);
    }
}

#[test]
fn ledger_of_the_first_release_is_migrated() {
    let (_dir, path) = place(FIRST_RELEASE);
    let before = dump(&path);
    migrate(&path).unwrap();
    let kept_file = kept_path(&path);
    assert_eq!(dump(&kept_file), before);
    let mode = kept_file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    check_migrated(&path, &kept_file);
    // Another start migrates nothing.
    let after = dump(&path);
    migrate(&path).unwrap();
    assert_eq!(dump(&path), after);
    assert_eq!(kept_files(&path), ["ledger.db.0.1.0"]);
}

#[test]
fn event_numbers_go_on_after_a_migration() {
    let (_dir, path) = place(FIRST_RELEASE);
    let newest = "SELECT max(seq) FROM journal_entry";
    let newest = read_number(&path, newest);
    let options = recorded_options(&path);
    block_on(async {
        let ledger = Ledger::open_unlocked(&path, &options, at(), WriterDriver::Task).unwrap();
        let (unknown, started) = (KeyState::unknown(key(1)), [rotation_started(1)]);
        ledger.record(&unknown, at(), &started).await.unwrap();
    });
    let next = read_number(&path, "SELECT max(seq) FROM events");
    assert_eq!(next, newest + 1);
}

/// The write-ahead log of a ledger that was not closed properly has its newest rows.
#[test]
fn rows_that_are_only_in_the_write_ahead_log_are_migrated() {
    let (_dir, path) = place(FIRST_RELEASE);
    let other = rusqlite::Connection::open(&path).unwrap();
    let in_log = "PRAGMA journal_mode = WAL;
         INSERT INTO journal_entry (at, key, event, detail)
         VALUES ('2026-01-01T00:00:00Z', NULL, 'due', '{}')";
    other.execute_batch(in_log).unwrap();
    let count = read_number(&path, "SELECT count(*) FROM journal");
    migrate(&path).unwrap();
    drop(other);
    assert_eq!(read_number(&path, "SELECT count(*) FROM events"), count);
    check_migrated(&path, &kept_path(&path));
}

/// 0.1.0 recorded what the provider showed of a secret, which may be most of it.
#[test]
fn long_redacted_values_are_shortened() {
    let (_dir, path) = place(FIRST_RELEASE);
    let former = rusqlite::Connection::open(&path).unwrap();
    former
        .execute_batch("DROP TRIGGER IF EXISTS moves")
        .unwrap();
    let shown = [
        ("sk-admin...pE3", "sk-admin...pE3"),
        (
            "sk-admin-0123456789...a1b2c3d4e5f6g7h8",
            "sk-admin-012...f6g7h8",
        ),
        ("sk-admin-0123456789abcdefghijklmnop", ""),
        ("", ""),
    ];
    let mut expected = BTreeSet::new();
    for (number, (value, short)) in shown.iter().enumerate() {
        let number = i64::try_from(number + 1).unwrap();
        let update = "UPDATE rotation SET redacted_value = nullif(?1, '') WHERE id = ?2";
        assert_eq!(former.execute(update, (value, number)).unwrap(), 1);
        expected.insert(format!("{number} {short}"));
    }
    drop(former);
    migrate(&path).unwrap();
    let migrated = "SELECT id || ' ' || coalesce(redacted_value, '') FROM rotation WHERE id <= 4";
    assert_eq!(BTreeSet::from_iter(read_text(&path, migrated)), expected);
}

/// The steps in which 0.1.0 created its ledgers.
const FORMER_MIGRATIONS: [&str; 5] = [
    include_str!("../../migrations/first_release/schema/0001.sql"),
    include_str!("../../migrations/first_release/schema/0002.sql"),
    include_str!("../../migrations/first_release/schema/0003.sql"),
    include_str!("../../migrations/first_release/schema/0004.sql"),
    include_str!("../../migrations/first_release/schema/0005.sql"),
];

/// Creates a ledger of this version of 0.1.0 at `path`, with the rows of the one at `source`
/// that fit.
fn create_former(path: &Path, source: &Path, version: usize) {
    let ledger = rusqlite::Connection::open(path).unwrap();
    ledger.pragma_update(None, "foreign_keys", false).unwrap();
    for migration in &FORMER_MIGRATIONS[..version] {
        ledger.execute_batch(migration).unwrap();
    }
    let texts = |sql: &str| -> Vec<String> {
        let mut query = ledger.prepare(sql).unwrap();
        let rows = query.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    // They refuse rows that are in a later phase.
    let triggers = texts("SELECT sql FROM sqlite_schema WHERE type = 'trigger'");
    for name in texts("SELECT name FROM sqlite_schema WHERE type = 'trigger'") {
        ledger
            .execute_batch(&format!("DROP TRIGGER {name}"))
            .unwrap();
    }
    ledger
        .execute("ATTACH ?1 AS newer", [source.to_str().unwrap()])
        .unwrap();
    for table in texts(
        "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
    ) {
        let columns = texts(&format!("SELECT name FROM pragma_table_info('{table}')"));
        let columns = columns.iter().map(|column| format!("\"{column}\""));
        let columns = columns.collect::<Vec<_>>().join(", ");
        ledger
            .execute_batch(&format!(
                "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}"
            ))
            .unwrap();
    }
    ledger.execute_batch("DETACH newer").unwrap();
    for trigger in triggers {
        ledger.execute_batch(&trigger).unwrap();
    }
    ledger.pragma_update(None, "user_version", version).unwrap();
}

#[test]
fn every_version_of_the_first_release_is_migrated() {
    for version in 1..=FORMER_MIGRATIONS.len() {
        let (dir, source) = place(FIRST_RELEASE);
        let path = dir.path().join("former.db");
        create_former(&path, &source, version);
        let former = read_rows(&path, "SELECT * FROM history ORDER BY rotation");
        migrate(&path).unwrap();
        let migrated = read_rows(&path, FORMER_HISTORY);
        assert_eq!(migrated, former, "version {version}");
        check_whole(&path);
        // What it has now is what a new ledger has.
        migrate(&path).unwrap();
    }
}

/// SQL of another program is found before the migration runs it.
#[test]
fn former_ledger_with_foreign_sql_is_refused_untouched() {
    for sql in [
        "CREATE TRIGGER audit AFTER INSERT ON journal_entry BEGIN SELECT 1; END",
        "CREATE VIEW events AS SELECT 1",
        "ALTER TABLE rotation ADD COLUMN note TEXT DEFAULT ''",
    ] {
        let (_dir, path) = place(FIRST_RELEASE);
        let ledger = rusqlite::Connection::open(&path).unwrap();
        ledger.execute_batch(sql).unwrap();
        drop(ledger);
        let before = dump(&path);
        let error = migrate(&path).unwrap_err();
        assert!(
            matches!(error, LedgerError::ForeignObject { .. }),
            "{error:?}"
        );
        assert_eq!(dump(&path), before);
    }
}

/// An incomplete ledger is refused before its migration begins.
#[test]
fn a_ledger_without_a_table_is_not_migrated() {
    let (_dir, path) = place(FIRST_RELEASE);
    let damaged = rusqlite::Connection::open(&path).unwrap();
    damaged.execute_batch("DROP TABLE stranger").unwrap();
    drop(damaged);
    let before = dump(&path);
    let error = migrate(&path).unwrap_err();
    assert!(
        matches!(error, LedgerError::MissingObject { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("table stranger"), "{error}");
    assert_eq!(dump(&path), before);
    assert!(kept_files(&path).is_empty(), "{:?}", kept_files(&path));
}

#[test]
fn files_that_an_interrupted_migration_left_are_used() {
    let (_dir, path) = place(FIRST_RELEASE);
    migrate(&path).unwrap();
    let copy = fs::read(kept_path(&path)).unwrap();
    for (ending, left) in [
        ("0.1.0", &copy[..]),
        ("0.1.0", b""),
        ("0.1.0.unfinished", &copy[..4_096]),
    ] {
        let (_dir, path) = place(FIRST_RELEASE);
        fs::write(path.with_extension(format!("db.{ending}")), left).unwrap();
        migrate(&path).unwrap();
        assert_eq!(kept_files(&path), ["ledger.db.0.1.0"]);
        assert_eq!(fs::read(kept_path(&path)).unwrap(), copy);
    }
}

#[test]
fn a_file_with_the_name_of_the_kept_ledger_is_not_overwritten() {
    let (_dir, path) = place(FIRST_RELEASE);
    let before = dump(&path);
    let others = ["ledger.db.0.1.0", "ledger.db.0.1.0-2"];
    for name in others {
        fs::write(path.with_file_name(name), name).unwrap();
    }
    migrate(&path).unwrap();
    for name in others {
        assert_eq!(
            fs::read(path.with_file_name(name)).unwrap(),
            name.as_bytes()
        );
    }
    assert_eq!(dump(&path.with_file_name("ledger.db.0.1.0-3")), before);
}

#[test]
fn readers_name_the_command_that_migrates() {
    let (_dir, path) = place(FIRST_RELEASE);
    let before = fs::read(&path).unwrap();
    let error = LedgerReader::open(&path).err().unwrap().to_string();
    for part in ["0.1.0", "`rekeyd run` or `rekeyd once`", "ledger.db.0.1.0"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn newer_ledgers_and_those_of_another_header_are_refused_untouched() {
    let newer = format!("PRAGMA user_version = {}", SCHEMA_VERSION + 1);
    let is_newer = format!("has version {}", SCHEMA_VERSION + 1);
    let other_header = "rekeyd restore BACKUP";
    for (sql, expected) in [
        (newer.as_str(), is_newer.as_str()),
        ("PRAGMA user_version = 5", other_header),
        ("PRAGMA application_id = 1196444487", other_header),
        ("PRAGMA application_id = 0", other_header),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        prepare_unlocked(&path, &options(), at()).unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        raw.execute_batch(sql).unwrap();
        drop(raw);
        let before = dump(&path);
        for error in [
            prepare_unlocked(&path, &options(), at()).unwrap_err(),
            LedgerReader::open(&path).err().unwrap(),
        ] {
            assert!(error.to_string().contains(expected), "{sql}: {error}");
        }
        assert_eq!(dump(&path), before, "{sql}");
        assert!(kept_files(&path).is_empty(), "{sql}");
    }
}

/// Another application may also count its versions from 1.
#[test]
fn another_database_with_a_low_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("CREATE TABLE rotation (id); PRAGMA user_version = 5")
        .unwrap();
    let before = fs::read(&path).unwrap();
    let error = prepare_unlocked(&path, &options(), at()).unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Runs `ledger_migration_child_process` with this ledger.
fn spawn_child(path: &Path, largest_file: Option<u64>) -> std::process::Child {
    let limit = largest_file.map_or(String::new(), |bytes| bytes.to_string());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "migration::ledger_migration_child_process"])
        .env("REKEYD_TEST_MIGRATION", path)
        .env("REKEYD_TEST_LARGEST_FILE", limit)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The child of the two tests below; does nothing by itself.
#[test]
fn ledger_migration_child_process() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Some(path) = std::env::var_os("REKEYD_TEST_MIGRATION").map(PathBuf::from) else {
        return;
    };
    if let Ok(bytes) = std::env::var("REKEYD_TEST_LARGEST_FILE").unwrap().parse() {
        // The signal's default action would end the process.
        let signal = signal_hook::consts::SIGXFSZ;
        signal_hook::flag::register(signal, std::sync::Arc::default()).unwrap();
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        setrlimit(Resource::Fsize, limit).unwrap();
    }
    migrate(&path).unwrap();
}

#[test]
fn a_full_disk_leaves_the_former_ledger() {
    let (_dir, path) = place(FIRST_RELEASE);
    let before = dump(&path);
    let size = path.metadata().unwrap().len();
    // The first limit is too small for the copy, the second for the new tables, which the
    // commit writes to the log. The copy stays after a failed commit.
    for (limit, kept_names) in [(size / 2, &[][..]), (size + 4_096, &["ledger.db.0.1.0"])] {
        let ended = spawn_child(&path, Some(limit)).wait().unwrap();
        assert_eq!(ended.code(), Some(101), "{limit}");
        assert_eq!(dump(&path), before, "{limit}");
        assert_eq!(kept_files(&path), kept_names);
    }
    migrate(&path).unwrap();
    assert_eq!(kept_files(&path), ["ledger.db.0.1.0"]);
    check_migrated(&path, &kept_path(&path));
}

#[test]
fn a_killed_migration_is_made_by_the_next_start() {
    let mut killed_before_the_end = 0;
    for delay in 0..40 {
        let (_dir, path) = place(FIRST_RELEASE);
        let before = dump(&path);
        let mut child = spawn_child(&path, None);
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        if read_number(&path, "PRAGMA user_version") < 100 {
            killed_before_the_end += 1;
            assert_eq!(dump(&path), before, "{delay}: {:?}", ended.signal());
        }
        migrate(&path).unwrap();
        assert_eq!(kept_files(&path), ["ledger.db.0.1.0"], "{delay}");
        assert_eq!(dump(&kept_path(&path)), before, "{delay}");
        check_migrated(&path, &kept_path(&path));
    }
    assert!(killed_before_the_end > 0);
}
