//! What is pruned is in the archive, and what recognizes a credential stays.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rekeyd::core::change::{
    Change, DeliveryResult, DeliveryStart, OperatorNote, RotationIntent, Transition,
};
use rekeyd::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use rekeyd::core::lifecycle::{LifecycleEvent, Phase};
use rekeyd::core::reported_time::ShownEnd;
use rekeyd::core::scope::Scope;
use rekeyd::core::state::{CredentialMetadata, DeliveryState, KeyState, Trigger};
use rekeyd::ledger::{
    Archive, HistoryFilter, Ledger, LedgerError, LedgerReader, PruneBatch, PrunedRows,
    RemoteCredential, RemoteState,
};

use crate::{at, block_on, ledger};

fn time(text: &str) -> Timestamp {
    format!("{text}T03:00:00Z").parse().unwrap()
}

/// Two years before the present time.
fn before() -> Timestamp {
    time("2024-11-24")
}

fn billing() -> KeyName {
    KeyName::new("billing").unwrap()
}

fn id(number: u64) -> RotationId {
    RotationId::new(number.to_be_bytes())
}

fn sink(name: &str) -> SinkId {
    SinkId {
        name: name.to_owned(),
        target: format!("file:/{name}"),
    }
}

fn metadata(number: u64) -> CredentialMetadata {
    CredentialMetadata {
        id: CredentialId::new(format!("key_{number}")),
        redacted_value: Some(format!("sk-...{number:03}")),
        created_at: None,
        expires_at: None,
    }
}

fn intended(number: u64, sinks: &[&str]) -> Change {
    Change::from(RotationIntent {
        rotation: id(number),
        scope: Scope::AdminKeys,
        sequence: number,
        label: Label::from_recorded(format!("label-{number}")),
        trigger: Trigger::Schedule,
        scheduled_for: None,
        not_created_before: None,
        timetable: String::new(),
        sinks: sinks.iter().map(|name| (sink(name), true)).collect(),
        operator: None,
    })
}

fn moved(number: u64, event: LifecycleEvent) -> Change {
    Change::from(Transition::new(&id(number), event))
}

async fn record(ledger: &Ledger, on: Timestamp, changes: &[Change]) {
    let state = ledger.key_state(&billing()).await.unwrap();
    ledger.record(&state, on, changes).await.unwrap();
}

/// Records a rotation that becomes current, and the revocation of the one before.
async fn rotate(ledger: &Ledger, number: u64, on: Timestamp, sinks: &[&str]) {
    let current = ledger.key_state(&billing()).await.unwrap();
    let current = current.current().map(|current| current.id.clone());
    let mut changes = vec![
        intended(number, sinks),
        Change::from(Transition {
            credential: Some(metadata(number)),
            ..Transition::new(&id(number), LifecycleEvent::Created)
        }),
        moved(number, LifecycleEvent::Verified),
    ];
    for name in sinks {
        changes.push(Change::from(DeliveryStart {
            rotation: id(number),
            sink: sink(name),
        }));
        changes.push(Change::from(DeliveryResult {
            state: DeliveryState::Accepted,
            accepted_at: Some(on),
            ..DeliveryResult::uncertain(&id(number), &sink(name))
        }));
    }
    if let Some(current) = &current {
        changes.push(Change::from(Transition {
            revoke_after: Some(on),
            ..Transition::new(current, LifecycleEvent::Superseded)
        }));
    }
    changes.push(moved(number, LifecycleEvent::Delivered));
    record(ledger, on, &changes).await;
    if let Some(current) = &current {
        let deleted = Change::from(Transition::new(current, LifecycleEvent::Deleted));
        record(ledger, on, &[deleted]).await;
    }
}

/// Records a rotation whose create certainly made nothing.
async fn fail(ledger: &Ledger, number: u64, on: Timestamp) {
    record(ledger, on, &[intended(number, &["a"])]).await;
    record(ledger, on, &[moved(number, LifecycleEvent::NotCreated)]).await;
}

struct World {
    dir: tempfile::TempDir,
    ledger: Ledger,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(&dir.path().join("ledger.db"));
        Self { dir, ledger }
    }

    /// Returns a ledger with a rotation each year from 2020 to 2023, of which the last one is
    /// current.
    async fn of_four_years() -> Self {
        let world = Self::new();
        for number in 1..=4 {
            let on = time(&format!("{}-11-24", 2019 + number));
            rotate(&world.ledger, number, on, &["a"]).await;
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn reader(&self) -> LedgerReader {
        LedgerReader::open(&self.path("ledger.db")).unwrap()
    }

    /// Returns an archive of what may be pruned; none without anything.
    fn archive(&self) -> Option<Archive> {
        let reader = self.reader();
        let made = reader.snapshot().unwrap().make_archive(before(), at());
        let made = made.unwrap()?;
        Some(made.read_back(Path::new("/old.archive")).unwrap())
    }

    async fn prune(&self, archive: &Archive) -> Result<PrunedRows, LedgerError> {
        let batch = PruneBatch {
            archive: archive.stamp.clone(),
            rotations: archive.rotations.clone(),
            operator: OperatorNote {
                reason: Some("two years are enough".to_owned()),
                by: "ada".to_owned(),
            },
        };
        self.ledger.prune(batch, at()).await
    }

    /// Returns the sequences in the history, newest first.
    fn sequences(&self) -> Vec<u64> {
        sequences(&self.reader())
    }

    async fn state(&self) -> KeyState {
        self.ledger.key_state(&billing()).await.unwrap()
    }

    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path("ledger.db")).unwrap()
    }
}

fn sequences(reader: &LedgerReader) -> Vec<u64> {
    let snapshot = reader.snapshot().unwrap();
    let mut history = snapshot.history(&HistoryFilter::default()).unwrap();
    let rows = history.rows().unwrap();
    rows.map(|row| row.unwrap().sequence).collect()
}

fn archived(archive: Option<Archive>) -> Vec<RotationId> {
    let rotations = archive.into_iter().flat_map(|archive| archive.rotations);
    rotations.map(|one| one.rotation).collect()
}

fn listed(number: u64) -> RemoteCredential {
    RemoteCredential {
        metadata: metadata(number),
        name: Some(format!("label-{number}")),
        end: ShownEnd::Unknown,
    }
}

#[test]
fn pruned_rotations_are_known_by_what_stays() {
    block_on(async {
        let world = World::of_four_years().await;
        let state = world.state().await;
        let archive = world.archive().unwrap();
        assert_eq!(archived(world.archive()), [id(1), id(2), id(3)]);
        let pruned = world.prune(&archive).await.unwrap();
        assert_eq!((pruned.rotations, pruned.remaining.len()), (3, 0));
        assert!(pruned.events > 20, "{pruned:?}");
        assert_eq!(world.sequences(), [4]);
        assert_eq!(world.state().await, state);
        // A command that lost the reply repeats it.
        let repeated = world.prune(&archive).await.unwrap();
        assert_eq!(repeated, PrunedRows::default());
        assert!(archived(world.archive()).is_empty());

        let credential = metadata(2).id;
        let key = world.ledger.key_for_credential(&credential).await.unwrap();
        assert_eq!(key, Some(billing()));
        let keys = world.ledger.keys_of_credential(&credential).await.unwrap();
        assert_eq!(keys, [billing()]);
        let list = vec![listed(2), listed(4)];
        // As `audit` compares it, and as the daemon does.
        let reader = world.reader();
        let snapshot = reader.snapshot().unwrap();
        let audited = snapshot.reconcile(&Scope::AdminKeys, list.clone()).unwrap();
        let compared = world.ledger.reconcile(&Scope::AdminKeys, list).await;
        for found in [audited, compared.unwrap()] {
            assert_eq!(found.unknown, []);
            let alive = found.discrepancies[&billing()].iter().find(|one| {
                one.rotation == id(2)
                    && one.remote_state == RemoteState::UnexpectedlyLive(metadata(2))
            });
            assert!(alive.is_some(), "{found:?}");
        }
    });
}

#[test]
fn rotation_that_is_seen_alive_gets_its_row_back() {
    block_on(async {
        let world = World::of_four_years().await;
        world.prune(&world.archive().unwrap()).await.unwrap();
        let others = vec![id(2), id(4), id(9)];
        world.ledger.return_rows(others, at()).await.unwrap();
        assert_eq!(world.sequences(), [4, 2]);
        let row = world.ledger.rotation(&billing(), &id(2)).await.unwrap();
        let row = row.unwrap();
        assert_eq!(row.phase, Phase::Revoked);
        assert_eq!(row.credential, Some(metadata(2)));
        // One that is pruned between two steps of a worker has its row in time as well.
        for number in [1, 2] {
            let mut ended = row.clone();
            (ended.id, ended.sequence) = (id(number), number);
            ended.label = Some(Label::from_recorded(format!("label-{number}")));
            ended.credential = Some(metadata(number));
            let found = Change::from(Transition {
                ended_row: Some(Box::new(ended)),
                ..Transition::new(&id(number), LifecycleEvent::FoundAlive)
            });
            record(&world.ledger, at(), &[found]).await;
        }
        let phases: Vec<_> = world
            .state()
            .await
            .live
            .iter()
            .map(|row| row.phase)
            .collect();
        assert_eq!(phases, [Phase::Orphaned, Phase::Orphaned, Phase::Current]);
        let events =
            "SELECT count(*) FROM events WHERE event = 'row-returned' AND rotation IS NOT NULL";
        let count: u32 = world.raw().query_row(events, [], |row| row.get(0)).unwrap();
        assert_eq!(count, 2);
        // A new look keeps them: they are alive.
        assert!(archived(world.archive()).is_empty());
    });
}

#[test]
fn archive_has_every_row_and_is_no_ledger() {
    block_on(async {
        let world = World::of_four_years().await;
        let path = world.path("old.archive");
        let ledger = world.path("ledger.db");
        let events = "SELECT count(*) FROM events WHERE rotation IS NOT NULL";
        let of_four: u32 = world.raw().query_row(events, [], |row| row.get(0)).unwrap();
        let made = {
            let reader = world.reader();
            let snapshot = reader.snapshot().unwrap();
            snapshot.make_archive(before(), at()).unwrap().unwrap()
        };
        made.write(&ledger, &path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let error = made.write(&ledger, &path).unwrap_err().to_string();
        assert!(error.contains("it already exists"), "{error}");

        let archive = Archive::read(&path, File::open(&path).unwrap()).unwrap();
        assert_eq!(archive.stamp.name, "old.archive");
        let pruned = world.prune(&archive).await.unwrap();
        let shown = LedgerReader::of_archive(&path, File::open(&path).unwrap()).unwrap();
        assert_eq!(sequences(&shown), [3, 2, 1]);
        let count: u32 = rusqlite::Connection::open(&path)
            .unwrap()
            .query_row(events, [], |row| row.get(0))
            .unwrap();
        assert_eq!(u32::try_from(pruned.events).unwrap(), count);
        let left: u32 = world.raw().query_row(events, [], |row| row.get(0)).unwrap();
        assert_eq!(left + count, of_four);
        // The checkpoint says what was taken out, and is older than what follows.
        let checkpoint = "SELECT rotations || ' ' || events || ' ' || (last_event
             = (SELECT seq FROM events WHERE event = 'ledger-pruned')) FROM prune_checkpoint
             WHERE archive_digest = ?1 AND archive = 'old.archive'";
        let digest = [&archive.stamp.digest];
        let raw = world.raw();
        let found: String = raw.query_row(checkpoint, digest, |row| row.get(0)).unwrap();
        assert_eq!(found, format!("3 {count} 1"));

        let error = LedgerReader::open(&path).map(drop).unwrap_err().to_string();
        assert!(error.contains("an archive, and no ledger"), "{error}");
        for (name, content) in [("text", &b"none"[..]), ("empty", b"")] {
            let path = world.path(name);
            std::fs::write(&path, content).unwrap();
            let error = Archive::read(&path, File::open(&path).unwrap()).unwrap_err();
            assert!(error.to_string().contains("not an archive"), "{error}");
        }
        let error = Archive::read(&ledger, File::open(&ledger).unwrap()).unwrap_err();
        assert!(error.to_string().contains("not an archive"), "{error}");
    });
}

#[test]
fn what_may_be_needed_stays() {
    block_on(async {
        // The newest one failed, after the newest that was ever current: both stay.
        let world = World::of_four_years().await;
        let deleted = moved(4, LifecycleEvent::FoundDeleted);
        record(&world.ledger, time("2024-01-01"), &[deleted]).await;
        fail(&world.ledger, 5, time("2024-01-02")).await;
        fail(&world.ledger, 6, time("2024-01-03")).await;
        assert_eq!(archived(world.archive()), [id(1), id(2), id(3), id(5)]);

        // A create that certainly made nothing may leave after a month.
        fail(&world.ledger, 7, time("2026-10-01")).await;
        fail(&world.ledger, 8, time("2026-11-01")).await;
        fail(&world.ledger, 9, time("2026-11-02")).await;
        let expected = [id(1), id(2), id(3), id(5), id(6), id(7)];
        assert_eq!(archived(world.archive()), expected);

        // The newest that was ever current stays although no sink holds its secret.
        let world = World::new();
        rotate(&world.ledger, 1, time("2020-01-01"), &[]).await;
        rotate(&world.ledger, 2, time("2021-01-01"), &[]).await;
        let deleted = moved(2, LifecycleEvent::FoundDeleted);
        record(&world.ledger, time("2022-01-01"), &[deleted]).await;
        fail(&world.ledger, 3, time("2022-01-02")).await;
        fail(&world.ledger, 4, time("2022-01-03")).await;
        assert_eq!(archived(world.archive()), [id(1), id(3)]);

        // A sink that accepted nothing newer may hold what it got last.
        let world = World::new();
        rotate(&world.ledger, 1, time("2020-01-01"), &["a", "b"]).await;
        rotate(&world.ledger, 2, time("2021-01-01"), &["a", "b"]).await;
        rotate(&world.ledger, 3, time("2022-01-01"), &["a"]).await;
        rotate(&world.ledger, 4, time("2023-01-01"), &["a"]).await;
        assert_eq!(archived(world.archive()), [id(1), id(3)]);

        // What ended lately stays, however old it is.
        let world = World::new();
        rotate(&world.ledger, 1, time("2020-01-01"), &["a"]).await;
        rotate(&world.ledger, 2, time("2025-01-01"), &["a"]).await;
        assert!(archived(world.archive()).is_empty());
    });
}

#[test]
fn rotation_that_changed_since_its_archive_stays() {
    block_on(async {
        let world = World::of_four_years().await;
        let mut archive = world.archive().unwrap();
        archive.rotations[1].last_event -= 1;
        let pruned = world.prune(&archive).await.unwrap();
        assert_eq!((pruned.rotations, pruned.remaining), (2, vec![id(2)]));
        assert_eq!(world.sequences(), [4, 2]);
    });
}

#[test]
fn batch_of_another_ledger_or_of_late_rotations_is_refused() {
    block_on(async {
        let (world, other) = (World::of_four_years().await, World::of_four_years().await);
        let error = world.prune(&other.archive().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("of another ledger"), "{error}");
        let mut archive = world.archive().unwrap();
        archive.stamp.before = time("2026-11-20");
        let error = world.prune(&archive).await.unwrap_err().to_string();
        assert!(error.contains("less than 30d ago"), "{error}");
        assert_eq!(world.sequences(), [4, 3, 2, 1]);
    });
}

#[test]
fn rows_leave_through_one_door() {
    const MOVED: &str = "INSERT INTO pruned_rotation SELECT id, rotation, key, scope, sequence,
        \"trigger\", started_at, not_created_before, label, credential_id, name, redacted_value,
        wrong_redaction, maybe_created, phase, revoked_at FROM rotation WHERE id = ";
    block_on(async {
        let world = World::of_four_years().await;
        world.prune(&world.archive().unwrap()).await.unwrap();
        rotate(&world.ledger, 5, time("2026-11-01"), &["a"]).await;
        let raw = world.raw();
        raw.pragma_update(None, "foreign_keys", false).unwrap();
        let newest = format!("{MOVED} 5");
        for (sql, expected) in [
            ("DELETE FROM rotation", "a rotation cannot be deleted"),
            ("DELETE FROM delivery", "a delivery cannot be deleted"),
            ("DELETE FROM event_log", "append-only"),
            ("DELETE FROM event_log WHERE event = 'ledger-pruned'", "append-only"),
            ("DELETE FROM pruned_rotation", "cannot be deleted"),
            ("UPDATE pruned_rotation SET label = 'x'", "cannot be changed"),
            (newest.as_str(), "the newest"),
            (
                "INSERT INTO rotation (rotation, key, sequence, \"trigger\", started_at, label, phase)
                 VALUES ('x234567890123456', 'billing', 9, 'manual', '2026-11-24T03:00:00Z',
                         'label-1', 'intended')",
                "belongs to a pruned rotation",
            ),
        ] {
            let error = raw.execute(sql, []).unwrap_err().to_string();
            assert!(error.contains(expected), "{sql}: {error}");
        }
    });
}
