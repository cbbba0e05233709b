//! The ledger's files get content of an earlier moment while the engine works, at each
//! request of a rotation and of the revocation that follows.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::condition::Condition;
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::tests::rotation_request;
use crate::engine::{Engine, RunMode};

const MINUTE: Duration = Duration::from_secs(60);

/// A way in which older content gets into the files in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Copies of all files are written over them.
    Copy,
    /// Another program restores a backup into the ledger.
    Restore,
}

/// The files of the ledger at an earlier moment.
fn keep(ledger: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let suffixes = ["", "-wal", "-shm"].into_iter();
    let files = suffixes.map(|suffix| PathBuf::from(format!("{}{suffix}", ledger.display())));
    let contents = files.map(|file| (file.clone(), fs::read(file).unwrap()));
    contents.collect()
}

/// Puts the content back, as `cp` does, or as the shell of SQLite does by `.restore`.
fn overwrite(way: Way, ledger: &Path, kept: &[(PathBuf, Vec<u8>)]) {
    if way == Way::Copy {
        for (file, content) in kept {
            fs::write(file, content).unwrap();
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (file, content) in kept.iter().take(2) {
        let name = file.file_name().unwrap();
        fs::write(folder.path().join(name), content).unwrap();
    }
    let backup = folder.path().join(ledger.file_name().unwrap());
    let progress: Option<fn(rusqlite::backup::Progress)> = None;
    rusqlite::Connection::open(ledger)
        .unwrap()
        .restore(rusqlite::MAIN_DB, backup, progress)
        .unwrap();
}

/// Returns an engine whose key has rotated, and rotates again by request, and the files of
/// the ledger before the first of these rotations.
async fn open_daemon(fakes: &Fakes) -> (Engine, Vec<(PathBuf, Vec<u8>)>) {
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let services = fakes.services_with(fakes.open_locked_ledger());
    let managed = fakes.managed_key(key(), |policy| policy.overlap = MINUTE);
    let mut engine = Engine::open(services, vec![managed], RunMode::Daemon)
        .await
        .unwrap();
    fakes.run_for(&mut engine, MINUTE).await;
    let kept = keep(&fakes.ledger_path());
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(&mut engine, MINUTE * 5).await;
    fakes.take_calls();
    engine.request_rotation(&key(), rotation_request());
    (engine, kept)
}

#[tokio::test]
async fn older_content_at_any_request_ends_all_others() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let (mut engine, _) = open_daemon(&fakes).await;
    fakes.run_for(&mut engine, MINUTE * 5).await;
    let requests = fakes.take_calls();
    let is_sent = |call: &str| requests.iter().any(|request| request.starts_with(call));
    assert!(
        ["create", "verify", "deliver", "delete"]
            .into_iter()
            .all(is_sent),
        "{requests:?}"
    );
    drop(engine);
    for way in [Way::Copy, Way::Restore] {
        for number in 0..requests.len() {
            let case = format!("{way:?} during {number}: {}", requests[number]);
            let fakes = Fakes::new(&[("key_1", "label-1")]);
            let (lines, _guard) = CapturedLog::capture();
            let (mut engine, kept) = open_daemon(&fakes).await;
            let ledger = fakes.ledger_path();
            fakes.act_at_call(number, move || overwrite(way, &ledger, &kept));
            fakes.run_for(&mut engine, MINUTE * 5).await;
            engine.check_ledger();
            fakes.run_for(&mut engine, MINUTE * 5).await;
            let made = fakes.take_calls();
            assert_eq!(made[..=number], requests[..=number], "{case}");
            // An observation continues, and decides nothing.
            let mut later = made[number + 1..].iter();
            assert!(
                later.all(|call| call.starts_with("retrieve")),
                "{case}: {made:?}"
            );
            let mut active = engine.active_conditions().into_iter();
            let has_condition = active.any(|active| active.condition == Condition::Ledger);
            assert!(has_condition, "{case}");
            assert!(engine.alert_tracker.has_reported_damage(), "{case}");
            let told = lines.lines_with("ERROR", "may no longer have a row");
            for id in fakes.live_ids() {
                assert!(
                    told.iter().any(|line| line.contains(&id)),
                    "{case}: {id}: {told:?}"
                );
            }
        }
    }
}
