//! Ledgers of a million rotations, written by the ledger's own code.
//!
//! Creating one takes minutes and gigabytes, so it is kept in the build's
//! folder for temporary files and used again on the same day.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rekeyd::config::settings::{KeySettings, Settings};
use rekeyd::core::change::{
    Change, DeliveryResult, DeliveryStart, OnChangeState, RotationChange, RotationIntent,
    Transition,
};
use rekeyd::core::ids::{CredentialId, Label, RotationId};
use rekeyd::core::lifecycle::LifecycleEvent;
use rekeyd::core::scope::Scope;
use rekeyd::core::state::{CredentialMetadata, DeliveryState, KeyState, Trigger};
use rekeyd::core::time;
use rekeyd::daemon::runtime::ledger_identity;
use rekeyd::ledger::{self, Ledger, LedgerOptions, SCHEMA_VERSION, WriterDriver};
use rekeyd::platform::clock::{Clock as _, SystemClock};
use tokio::task::JoinSet;

use crate::{engine, keys, many, support};

pub(crate) const ROTATIONS: usize = 1_000_000;

/// The number of records that wait for the ledger at once.
const MAX_PENDING: usize = 8_192;

/// A folder with a configuration, its files, and a ledger of a million
/// rotations.
pub(crate) struct LongLedger(PathBuf);

/// Returns the ledger of ten keys, each rotated 100,000 times.
pub(crate) fn over_few_keys() -> LongLedger {
    few_and_many().0
}

/// Returns the ledger of 10,000 keys, each rotated 100 times.
pub(crate) fn over_many_keys() -> LongLedger {
    few_and_many().1
}

/// Creates both concurrently if needed.
fn few_and_many() -> (LongLedger, LongLedger) {
    std::thread::scope(|scope| {
        let few = scope.spawn(|| LongLedger::with_keys(10));
        let many = LongLedger::with_keys(10_000);
        (few.join().unwrap(), many)
    })
}

impl LongLedger {
    fn with_keys(count: usize) -> Self {
        let today = SystemClock.now().strftime("%Y%m%d").to_string();
        let prefix = format!("long-{count}-");
        let name = format!("{prefix}{SCHEMA_VERSION}-{today}");
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = parent.join(&name);
        if !folder.is_dir() {
            for entry in fs::read_dir(parent).unwrap().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    fs::remove_dir_all(entry.path()).unwrap();
                }
            }
            let unfinished = parent.join(format!("{name}.unfinished"));
            let _ = fs::remove_dir_all(&unfinished);
            fs::create_dir(&unfinished).unwrap();
            create_ledger(count, &unfinished);
            fs::rename(&unfinished, &folder).unwrap();
        }
        let long_ledger = Self(folder);
        long_ledger.configure(count);
        long_ledger
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.0.join("ledger.db")
    }

    fn configure(&self, count: usize) {
        let dir = &self.0;
        let text = keys::text(count, dir, keys::UNUSED_URL, &keys::yearly_schedule());
        support::write(&dir.join("config.toml"), &text);
        support::write(&dir.join("admin-key"), "sk-admin-nobody-T3BlbkFJ-000000");
        let settings = many::settings(&text, SystemClock.now());
        // Each file holds the secret that was delivered last.
        for (key, number) in settings.keys.iter().zip(ROTATIONS - count..) {
            let file = dir.join(format!("{}.key", key.name));
            support::write(&file, &format!("sk-admin-{}", redacted_ending(number)));
        }
    }

    /// Records that every row was just compared with the provider.
    pub(crate) fn record_reconciliation(&self) {
        let text = fs::read_to_string(self.0.join("config.toml")).unwrap();
        let now = SystemClock.now();
        let ledger = many::open_ledger(&many::settings(&text, now), now);
        let recorded = engine::runtime().block_on(ledger.record_reconciliation(
            &Scope::AdminKeys,
            now,
            Vec::new(),
        ));
        recorded.unwrap();
    }
}

fn create_ledger(count: usize, dir: &Path) {
    let started = Instant::now();
    // The ledger identifies sinks by their final paths.
    let unfinished = dir.display().to_string();
    let final_dir = unfinished.strip_suffix(".unfinished").unwrap();
    let text = keys::text(
        count,
        Path::new(final_dir),
        keys::UNUSED_URL,
        &keys::yearly_schedule(),
    );
    let now = SystemClock.now();
    let settings = many::settings(&text, now);
    let path = dir.join("ledger.db");
    let options = LedgerOptions {
        // It is created again if the host fails meanwhile.
        is_synced: false,
        wal_pages: Some(50_000),
        ..LedgerOptions::new(ledger_identity(&settings))
    };
    let ledger = Ledger::open_unlocked(&path, &options, now, WriterDriver::Thread).unwrap();
    engine::runtime().block_on(record_rotations(&ledger, &settings, now));
    drop(ledger);
    checkpoint(&path);
    let size = fs::metadata(&path).unwrap().len() / 1_000_000;
    eprintln!(
        "made {ROTATIONS} rotations of {count} keys, {size} MB, in {:.0} s",
        started.elapsed().as_secs_f64()
    );
}

async fn record_rotations(ledger: &Ledger, settings: &Settings, now: Timestamp) {
    let mut recording = JoinSet::new();
    let keys = settings.keys.iter();
    let mut states: Vec<_> = keys
        .map(|key| Some(KeyState::unknown(key.name.clone())))
        .collect();
    for number in 0..ROTATIONS {
        let index = number % settings.keys.len();
        let key = &settings.keys[index];
        if states[index].is_none() || recording.len() == MAX_PENDING {
            join_all(&mut recording, &mut states).await;
        }
        let state = states[index].take().unwrap();
        let seconds_ago = i64::try_from(ROTATIONS - number).unwrap() * 30;
        let at = now - SignedDuration::from_secs(seconds_ago);
        let mut changes = rotation(number, settings.keys.len(), key, at);
        if let Some(Change::Rotation(RotationChange::Started(intent))) = changes.first_mut() {
            intent.sequence = state.next_sequence(at);
        }
        let ledger = ledger.clone();
        recording.spawn(async move { (index, ledger.record(&state, at, &changes).await) });
    }
    join_all(&mut recording, &mut states).await;
}

type Recorded = (usize, Result<KeyState, ledger::LedgerError>);

async fn join_all(recording: &mut JoinSet<Recorded>, states: &mut [Option<KeyState>]) {
    while let Some(recorded) = recording.join_next().await {
        let (index, state) = recorded.unwrap();
        states[index] = Some(state.unwrap());
    }
}

/// Waits for the writer to end, and merges the WAL into the database file.
fn checkpoint(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    while connection.query_row(checkpoint, [], |row| row.get::<_, i64>(0)) != Ok(0) {
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the changes of rotation `number`. The key's previous rotation is
/// `keys` numbers before.
fn rotation(number: usize, keys: usize, key: &KeySettings, at: Timestamp) -> Vec<Change> {
    let id = rotation_id(number);
    let sink = &key.sinks[0].id;
    let transition = |event| Change::from(Transition::new(&id, event));
    let [a, b, c, ..] = scattered(number).to_be_bytes();
    let mut changes = vec![
        Change::from(RotationIntent {
            rotation: id.clone(),
            scope: Scope::AdminKeys,
            sequence: 0,
            label: Label::new(&key.name, at, [a, b, c]),
            trigger: Trigger::Schedule,
            scheduled_for: Some(time::whole_seconds(at)),
            not_created_before: None,
            timetable: key.policy.timetable.to_text(),
            sinks: vec![(sink.clone(), true)],
            operator: None,
        }),
        Change::from(Transition {
            credential: Some(CredentialMetadata {
                id: CredentialId::new(format!("key_{}", id.as_str())),
                redacted_value: Some(format!("sk-admin...{}", redacted_ending(number))),
                created_at: Some(time::whole_seconds(at)),
                expires_at: None,
            }),
            ..Transition::new(&id, LifecycleEvent::Created)
        }),
        transition(LifecycleEvent::Verified),
        Change::from(DeliveryStart {
            rotation: id.clone(),
            sink: sink.clone(),
        }),
        Change::from(DeliveryResult {
            on_change: OnChangeState::NotPending,
            rotation: id.clone(),
            sink: sink.clone(),
            state: DeliveryState::Accepted,
            accepted_at: Some(time::next_whole_second(at)),
            retry_at: None,
            file: None,
            error: None,
        }),
    ];
    let previous = number.checked_sub(keys).map(self::rotation_id);
    if let Some(previous) = &previous {
        changes.push(Change::from(Transition {
            revoke_after: Some(time::next_whole_second(at)),
            ..Transition::new(previous, LifecycleEvent::Superseded)
        }));
    }
    changes.push(transition(LifecycleEvent::Delivered));
    let deletion =
        previous.map(|previous| Change::from(Transition::new(&previous, LifecycleEvent::Deleted)));
    changes.extend(deletion);
    changes
}

/// Returns the suffix that a redacted value shows.
fn redacted_ending(number: usize) -> String {
    format!("{:03}", scattered(number) % 1_000)
}

fn rotation_id(number: usize) -> RotationId {
    RotationId::new(scattered(number).to_be_bytes())
}

/// Returns a different number for each, spread over the whole range.
fn scattered(number: usize) -> u64 {
    let number = u64::try_from(number).unwrap() + 1;
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
