//! The ledger through its handle: a change with the reply Ok is on disk, any other is
//! not.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod copies;
mod foreign_schema;
mod migration;
mod pruning;
mod scopes;

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use rekeyd::core::change::{AddedSink, Change, KeyBackoff, RotationIntent, Transition};
use rekeyd::core::condition::Condition;
use rekeyd::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use rekeyd::core::lifecycle::{LifecycleEvent, Phase};
use rekeyd::core::scope::Scope;
use rekeyd::core::state::{CredentialMetadata, KeyState, Trigger};
use rekeyd::ledger::{
    HistoryFilter, Ledger, LedgerError, LedgerIdentity, LedgerOptions, LedgerReader,
    SHORT_WAL_PAGES, WriterDriver, prepare_unlocked,
};

fn at() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

fn options() -> LedgerOptions {
    LedgerOptions::new(LedgerIdentity {
        provider: "https://example.com/v1".to_owned(),
        organization: String::new(),
    })
}

fn ledger(path: &Path) -> Ledger {
    Ledger::open_unlocked(path, &options(), at(), WriterDriver::Task).unwrap()
}

/// Returns the state of a key as a reader beside the writer sees it.
fn read_key_state(path: &Path, key: &KeyName) -> KeyState {
    let reader = LedgerReader::open(path).unwrap();
    reader.snapshot().unwrap().key_state(key).unwrap()
}

/// Returns an empty ledger, opened as only a test may.
fn raw_ledger() -> (tempfile::TempDir, PathBuf, rusqlite::Connection) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    prepare_unlocked(&path, &options(), at()).unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    (dir, path, connection)
}

fn key(number: u64) -> KeyName {
    KeyName::new(&format!("key-{number}")).unwrap()
}

fn rotation_started(number: u64) -> Change {
    let [.., a, b, c] = number.to_be_bytes();
    Change::from(RotationIntent {
        rotation: RotationId::new(number.to_be_bytes()),
        scope: Scope::AdminKeys,
        sequence: number + 1,
        label: Label::new(&key(number), at(), [a, b, c]),
        trigger: Trigger::First,
        scheduled_for: None,
        not_created_before: None,
        timetable: String::new(),
        sinks: vec![(
            SinkId {
                name: "file".to_owned(),
                target: "file:/x".to_owned(),
            },
            true,
        )],
        operator: None,
    })
}

fn transitioned(number: u64, event: LifecycleEvent) -> Change {
    Change::from(Transition::new(
        &RotationId::new(number.to_be_bytes()),
        event,
    ))
}

/// Records changes of a key by its state in the ledger.
async fn record(
    ledger: &Ledger,
    key: &KeyName,
    changes: Vec<Change>,
) -> Result<KeyState, LedgerError> {
    let before = ledger.key_state(key).await?;
    ledger.record(&before, at(), &changes).await
}

fn rotation_count(path: &Path) -> usize {
    let reader = LedgerReader::open(path).unwrap();
    let snapshot = reader.snapshot().unwrap();
    let mut history = snapshot.history(&HistoryFilter::default()).unwrap();
    history.rows().unwrap().map(Result::unwrap).count()
}

/// Keys whose rotations start in one second: their names are in another order.
#[test]
fn history_lists_rotations_of_one_second_as_they_happened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let numbers = [5, 9, 2, 7];
    block_on(async {
        let options = options();
        let ledger = Ledger::open_unlocked(&path, &options, at(), WriterDriver::Task).unwrap();
        for number in numbers {
            record(&ledger, &key(number), vec![rotation_started(number)])
                .await
                .unwrap();
        }
    });
    let reader = LedgerReader::open(&path).unwrap();
    let snapshot = reader.snapshot().unwrap();
    for (since, limit, count) in [
        (None, None, 4),
        (None, Some(3), 3),
        (Some(at()), Some(2), 2),
        (None, Some(0), 0),
    ] {
        let filter = HistoryFilter {
            key: None,
            since,
            limit,
        };
        let mut history = snapshot.history(&filter).unwrap();
        let listed = history.rows().unwrap().map(|entry| entry.unwrap().key);
        let newest_first = numbers.iter().rev().take(count);
        let expected: Vec<_> = newest_first.map(|number| key(*number)).collect();
        assert_eq!(listed.collect::<Vec<_>>(), expected, "{filter:?}");
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// Returns the size of the write-ahead log after many commits.
fn wal_size_after_many_commits(wal_pages: Option<u32>) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let options = LedgerOptions {
        wal_pages,
        ..options()
    };
    block_on(async {
        let ledger = Ledger::open_unlocked(&path, &options, at(), WriterDriver::Task).unwrap();
        for number in 1..=60 {
            record(&ledger, &key(number), vec![rotation_started(number)])
                .await
                .unwrap();
        }
    });
    assert_eq!(rotation_count(&path), 60);
    dir.path().join("ledger.db-wal").metadata().unwrap().len()
}

#[test]
fn limited_wal_does_not_grow_with_commits() {
    let short = wal_size_after_many_commits(Some(SHORT_WAL_PAGES));
    let otherwise = wal_size_after_many_commits(None);
    assert!(short * 2 < otherwise, "{short} {otherwise}");
}

#[test]
fn a_failed_operation_is_rolled_back_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let before = block_on(async {
        let ledger = ledger(&path);
        let open = record(&ledger, &key(1), vec![rotation_started(1)])
            .await
            .unwrap();
        assert_eq!(open.open_rotation().unwrap().phase, Phase::Intended);
        let failed = transitioned(1, LifecycleEvent::NotCreated);
        let failed = record(&ledger, &key(1), vec![failed]).await.unwrap();
        // The state is stale: the key's row is written, its rotation does not match, and
        // both are undone.
        let stale = [
            Change::from(KeyBackoff {
                attempt: 1,
                retry_at: at(),
                problem: "no answer".to_owned(),
                is_before_create: false,
                is_extra: false,
            }),
            transitioned(1, LifecycleEvent::LabelNotFound),
        ];
        let (unknown, started) = (KeyState::unknown(key(2)), [rotation_started(2)]);
        let (bad, good) = tokio::join!(
            ledger.record(&open, at(), &stale),
            ledger.record(&unknown, at(), &started),
        );
        let bad = bad.unwrap_err();
        assert!(
            bad.is_content_error() && bad.to_string().contains("0 rows"),
            "{bad}"
        );
        assert_eq!(good.unwrap().sequence, 3);
        failed
    });
    assert_eq!(read_key_state(&path, &key(1)), before);
    assert_eq!(rotation_count(&path), 2);
}

#[test]
fn impossible_changes_and_rows_are_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    block_on(async {
        let ledger = ledger(&path);
        record(&ledger, &key(1), vec![rotation_started(1)])
            .await
            .unwrap();
        for (change, problem) in [
            (rotation_started(2), "another rotation of the key is open"),
            (
                transitioned(1, LifecycleEvent::Verified),
                "cannot process the event",
            ),
        ] {
            let error = record(&ledger, &key(1), vec![change]).await.unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
            assert!(error.is_content_error());
        }
    });
    check_constraints(&path);
}

/// Checks the constraints on a ledger in which one key has an open rotation and nothing
/// else.
fn check_constraints(path: &Path) {
    let raw = rusqlite::Connection::open(path).unwrap();
    for (sql, expected) in [
        ("UPDATE event_log SET event = 'x'", "append-only"),
        ("DELETE FROM event_log", "append-only"),
        ("DELETE FROM rotation", "cannot be deleted"),
        (
            "UPDATE rotation SET phase = 'current'",
            "illegal transition",
        ),
        ("UPDATE rotation SET label = 'x'", "are immutable"),
        ("UPDATE rotation SET started_at = 'yesterday'", "CHECK"),
        ("UPDATE rotation SET \"trigger\" = 'x'", "CHECK"),
        ("UPDATE delivery SET state = 'x'", "CHECK"),
        ("UPDATE rotation SET phase = 'created'", "CHECK"),
        ("UPDATE delivery SET state = 'accepted'", "CHECK"),
    ] {
        let result = raw.execute(sql, []).map_err(|error| error.to_string());
        let refused = result.as_ref().is_err_and(|error| error.contains(expected));
        assert!(refused, "{sql}: {result:?}");
    }
    let adopt = |number: u8| {
        let sql = format!(
            "INSERT INTO rotation (rotation, key, sequence, \"trigger\", started_at, phase,
                                   credential_id, current_at)
             SELECT 'adopted{number:09}', key, 90 + {number}, 'adopted', at, 'current', 'key_{number}', at
             FROM key_state, (SELECT '2026-01-01T00:00:00Z' AS at)"
        );
        raw.execute(&sql, []).map_err(|error| error.to_string())
    };
    assert_eq!(adopt(1), Ok(1));
    let second = adopt(2).unwrap_err();
    assert!(second.contains("UNIQUE"), "two are current: {second}");
}

#[test]
fn key_states_contain_live_rotations_and_their_deliveries() {
    let (_dir, path, ledger) = raw_ledger();
    let rows = "INSERT INTO key_state (key, sequence) VALUES ('b', 9), ('c', 0), ('a', 4);
         INSERT INTO rotation (id, rotation, key, sequence, \"trigger\", started_at, phase,
                               credential_id, label, current_at)
         SELECT id, printf('%016d', id), key, sequence, \"trigger\", at, phase,
                'key_' || id, 'label-' || id, at
         FROM (SELECT '2026-01-01T00:00:00Z' AS at,
                      column1 AS id, column2 AS key, column3 AS sequence,
                      column4 AS \"trigger\", column5 AS phase
               FROM (VALUES (11, 'b', 9, 'adopted', 'current'), (12, 'a', 3, 'adopted', 'current'),
                            (13, 'a', 1, 'adopted', 'stranded'), (15, 'a', 2, 'adopted', 'stranded'),
                            (14, 'b', 8, 'adopted', 'stranded')));
         UPDATE rotation SET phase = 'revoked', revoked_at = current_at WHERE id = 14;
         INSERT INTO delivery (rotation_row, ordinal, sink, target, required) VALUES
             (12, 1, 'file', 'file:/2', 0), (12, 0, 'file', 'file:/1', 1),
             (14, 0, 'file', 'file:/3', 1), (15, 0, 'webhook', 'https://h.example/', 1)";
    ledger.execute_batch(rows).unwrap();
    let summary = |state: &KeyState| {
        let live = state.live.iter().map(|rotation| {
            let targets = rotation.deliveries.iter();
            let targets: Vec<_> = targets
                .map(|delivery| delivery.sink.target.clone())
                .collect();
            (rotation.sequence, rotation.phase, targets.join(" "))
        });
        (state.newest_phase, live.collect::<Vec<_>>())
    };
    let reader = LedgerReader::open(&path).unwrap();
    let snapshot = reader.snapshot().unwrap();
    let states = snapshot.key_states().unwrap();
    let none = String::new;
    let expected = [
        (
            "a",
            None,
            vec![
                (1, Phase::Stranded, none()),
                (2, Phase::Stranded, "https://h.example/".to_owned()),
                (3, Phase::Current, "file:/1 file:/2".to_owned()),
            ],
        ),
        ("b", Some(Phase::Current), vec![(9, Phase::Current, none())]),
        ("c", None, vec![]),
    ];
    assert_eq!(states.len(), expected.len());
    for (name, newest, live) in expected {
        let key = KeyName::new(name).unwrap();
        let all = &states[&key];
        assert_eq!(summary(all), (newest, live), "{name}");
        assert_eq!(*all, snapshot.key_state(&key).unwrap(), "{name}");
    }
}

#[test]
fn writes_use_no_ephemeral_table() {
    let (_dir, _, ledger) = raw_ledger();
    for sql in [
        "INSERT INTO rotation (rotation, key, sequence, \"trigger\", started_at, label, phase)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        "UPDATE rotation SET phase = ?1, attempt = 0, retry_at = NULL, error = NULL WHERE id = ?2",
        "INSERT INTO delivery (rotation_row, ordinal, sink, target, required) VALUES (?1, ?2, ?3, ?4, ?5)",
        "UPDATE delivery SET state = ?1, error = ?2 WHERE rotation_row = ?3",
        "INSERT INTO event_log (at, rotation_row, key, event, detail) VALUES (?1, ?2, ?3, ?4, ?5)",
    ] {
        let mut explained = ledger.prepare(&format!("EXPLAIN {sql}")).unwrap();
        let steps = explained.raw_query().mapped(|row| row.get("opcode"));
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(steps.iter().any(|step| step == "OpenWrite"), "{sql}");
        let own = steps.iter().any(|step| step == "OpenEphemeral");
        assert!(!own, "{sql}: {steps:?}");
    }
}

#[test]
fn recorded_changes_read_back_equal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let written = block_on(async {
        let ledger = ledger(&path);
        record(&ledger, &key(1), vec![rotation_started(1)])
            .await
            .unwrap();
        let created = Change::from(Transition {
            credential: Some(CredentialMetadata {
                id: CredentialId::new("key_abc".to_owned()),
                redacted_value: Some("sk-admin...def".to_owned()),
                created_at: Some(at()),
                expires_at: None,
            }),
            ..Transition::new(
                &RotationId::new(1_u64.to_be_bytes()),
                LifecycleEvent::Created,
            )
        });
        record(&ledger, &key(1), vec![created]).await.unwrap()
    });
    let read = read_key_state(&path, &key(1));
    assert_eq!(read, written);
    assert_eq!(read.newest_phase, Some(Phase::Created));
    let facts = read.open_rotation().unwrap().credential.clone().unwrap();
    assert_eq!(facts.id.as_str(), "key_abc");
}

/// Returns the number of commits since the ledger was created, read from the write-ahead
/// log: a frame that ends a transaction has the size of the database.
fn commit_count(path: &Path) -> usize {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let log = std::fs::read(path.with_extension("db-wal")).unwrap();
    let page = usize::try_from(number(&log[8..12])).unwrap();
    let frames = log[HEADER..].chunks_exact(FRAME_HEADER + page);
    // Frames of an earlier generation of the log have other salts.
    let current_frames = frames.filter(|frame| frame[8..16] == log[16..24]);
    current_frames
        .filter(|frame| number(&frame[4..8]) > 0)
        .count()
}

#[test]
fn concurrent_callers_share_one_transaction() {
    // The number is smaller than the runtime polls between two polls of the test itself.
    const CALLERS: u64 = 40;
    for driver in [WriterDriver::Thread, WriterDriver::Task] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        block_on(async {
            let is_thread = matches!(driver, WriterDriver::Thread);
            let ledger = Ledger::open_unlocked(&path, &options(), at(), driver).unwrap();
            let before = commit_count(&path);
            record(&ledger, &key(0), vec![rotation_started(0)])
                .await
                .unwrap();
            assert_eq!(
                commit_count(&path),
                before + 1,
                "one caller, one transaction"
            );

            // A thread would start with the first caller. While another connection holds
            // the write lock, all callers come to wait.
            let other = rusqlite::Connection::open(&path).unwrap();
            if is_thread {
                other.execute_batch("BEGIN IMMEDIATE").unwrap();
            }
            let mut callers = tokio::task::JoinSet::new();
            for number in 1..=CALLERS {
                let (ledger, path) = (ledger.clone(), path.clone());
                callers.spawn(async move {
                    let (key, changes) = (key(number), [rotation_started(number)]);
                    let unknown = KeyState::unknown(key.clone());
                    let answer = ledger.record(&unknown, at(), &changes).await;
                    // A caller that gets Ok finds its change on disk at that moment.
                    let found = read_key_state(&path, &key);
                    answer.unwrap() == found && found.open_rotation().is_some()
                });
            }
            if is_thread {
                // Every caller is polled before this one continues.
                tokio::task::yield_now().await;
                assert!(callers.try_join_next().is_none(), "nobody is told yet");
                other.execute_batch("ROLLBACK").unwrap();
            }
            let found = callers.join_all().await;
            assert_eq!(found, [true; CALLERS as usize]);
            let shared = commit_count(&path) - before - 1;
            // The first caller may have committed before the rest.
            assert!((1..=2).contains(&shared), "{is_thread}: {shared}");
        });
    }
}

#[test]
fn a_full_disk_fails_every_waiting_caller() {
    let dir = tempfile::tempdir().unwrap();
    // A child process, because the file size limit applies to a whole process.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "full_disk_child_process", "--nocapture"])
        .env("REKEYD_TEST_FULL_DISK", dir.path())
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(
        child.status.success(),
        "{output}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(output.contains("told ok: 0 of 40"), "{output}");
    // The ledger has only the changes from before the disk was full, and is valid.
    assert_eq!(rotation_count(&dir.path().join("ledger.db")), 1);
}

/// The child of the test above; does nothing by itself.
#[test]
fn full_disk_child_process() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let Some(dir) = std::env::var_os("REKEYD_TEST_FULL_DISK").map(PathBuf::from) else {
        return;
    };
    let path = dir.join("ledger.db");
    let ok_count = block_on(async {
        let ledger = ledger(&path);
        record(&ledger, &key(1), vec![rotation_started(1)])
            .await
            .unwrap();
        // The signal's default action would end the process.
        let signal = signal_hook::consts::SIGXFSZ;
        signal_hook::flag::register(signal, std::sync::Arc::default()).unwrap();
        let wal = std::fs::metadata(dir.join("ledger.db-wal")).unwrap().len();
        // The limit has room for some pages of the batch, and not for all.
        let limit = Some(wal + 3 * 4_096);
        setrlimit(
            Resource::Fsize,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )
        .unwrap();
        let mut jobs = tokio::task::JoinSet::new();
        for number in 2..42 {
            let ledger = ledger.clone();
            jobs.spawn(async move {
                record(&ledger, &key(number), vec![rotation_started(number)]).await
            });
        }
        jobs.join_all()
            .await
            .into_iter()
            .filter(Result::is_ok)
            .count()
    });
    println!("told ok: {ok_count} of 40");
}

#[test]
fn conditions_are_cleared_at_start_and_listed_by_severity() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let conditions = || {
        let reader = LedgerReader::open(&path).unwrap();
        reader.snapshot().unwrap().conditions().unwrap()
    };
    block_on(async {
        let problem = Some("it cannot be asked".to_owned());
        let first = ledger(&path);
        first
            .set_condition(None, "provider", at(), problem.clone())
            .await
            .unwrap();
        assert_eq!(conditions(), ["it cannot be asked"]);
        // The worst comes first. A problem that blocks nothing comes last, even if it is
        // older.
        let others = Condition::ALL
            .iter()
            .rev()
            .map(|condition| condition.as_str());
        let mut earlier = 9;
        for word in std::iter::once("configuration").chain(others) {
            let since = at() - jiff::SignedDuration::from_secs(earlier);
            let problem = Some(word.to_owned());
            let set = first.set_condition(None, word, since, problem);
            set.await.unwrap();
            earlier -= 1;
        }
        let mut expected = Condition::ALL.map(Condition::as_str).to_vec();
        expected.push("configuration");
        assert_eq!(conditions(), expected);
    });
    block_on(async {
        let _next = ledger(&path);
        assert_eq!(conditions(), [""; 0]);
    });
}

/// A caller whose reply was lost records its change again.
#[test]
fn a_sink_added_twice_is_recorded_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let added = Change::from(AddedSink {
        rotation: RotationId::new(1_u64.to_be_bytes()),
        sink: SinkId {
            name: "new".to_owned(),
            target: "file:/new".to_owned(),
        },
        required: true,
    });
    block_on(async {
        let (ledger, key) = (ledger(&path), key(1));
        let record = |changes| record(&ledger, &key, changes);
        record(vec![rotation_started(1)]).await.unwrap();
        record(vec![added.clone()]).await.unwrap();
        let state = record(vec![added.clone()]).await.unwrap();
        let deliveries = &state.live[0].deliveries;
        let names: Vec<_> = deliveries
            .iter()
            .map(|delivery| delivery.sink.name.as_str())
            .collect();
        assert_eq!(names, ["file", "new"]);
        assert!(deliveries[1].required);
    });
}
