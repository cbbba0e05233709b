//! The copy of the ledger that a daemon shows to users who may not open the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rekeyd::ledger::{Ledger, LedgerError, LedgerReader, WriterDriver, WriterLock};
use tempfile::TempDir;

use crate::{at, block_on, key, ledger, options, record, rotation_started};

/// Returns the ledger of a writer with one rotation, and its path.
async fn written() -> (TempDir, PathBuf, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let lock = WriterLock::acquire(&path, "rekeyd run").unwrap();
    let own = Ledger::open(lock, &options(), at(), WriterDriver::Thread).unwrap();
    record(&own, &key(1), vec![rotation_started(1)])
        .await
        .unwrap();
    (dir, path, own)
}

/// Copies the ledger of another rekeyd, with its log, to `folder`.
async fn copy_foreign(folder: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let foreign = ledger(&dir.path().join("ledger.db"));
    record(&foreign, &key(2), vec![rotation_started(2)])
        .await
        .unwrap();
    fs::create_dir(folder).unwrap();
    for name in ["ledger.db", "ledger.db-wal"] {
        fs::copy(dir.path().join(name), folder.join(name)).unwrap();
    }
}

fn move_file(from: PathBuf, to: PathBuf) {
    fs::rename(from, to).unwrap();
}

/// Returns the names and contents of the files of a folder.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut contents: Vec<_> = files
        .map(|file| (file.clone(), fs::read(&file).unwrap()))
        .collect();
    contents.sort();
    contents
}

#[test]
fn copy_shows_the_last_commit_and_opens_no_file() {
    block_on(async {
        let (dir, path, own) = written().await;
        let before = contents(dir.path());
        let copy = own.copy().await.unwrap();
        assert_eq!(contents(dir.path()), before);
        let copy = LedgerReader::of_copy(&path, (*copy).as_ref()).unwrap();
        let state = own.key_state(&key(1)).await.unwrap();
        assert_eq!(copy.snapshot().unwrap().key_state(&key(1)).unwrap(), state);
        // Later commits are not in it.
        record(&own, &key(3), vec![rotation_started(3)])
            .await
            .unwrap();
        let states = copy.snapshot().unwrap().key_states().unwrap();
        assert!(!states.contains_key(&key(3)));
        own.close().await;
    });
}

/// Many who ask between two commits hold one copy in memory.
#[test]
fn copies_between_two_commits_are_one() {
    block_on(async {
        let (_dir, path, own) = written().await;
        let first = own.copy().await.unwrap();
        let second = own.copy().await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        // A commit of its own, and one of another process.
        record(&own, &key(3), vec![rotation_started(3)])
            .await
            .unwrap();
        let third = own.copy().await.unwrap();
        assert!(!Arc::ptr_eq(&first, &third));
        let foreign = rusqlite::Connection::open(&path).unwrap();
        foreign.execute_batch("CREATE TABLE notes(x)").unwrap();
        let fourth = own.copy().await.unwrap();
        assert!(!Arc::ptr_eq(&third, &fourth));
        let reader = LedgerReader::of_copy(&path, (*fourth).as_ref()).unwrap();
        let states = reader.snapshot().unwrap().key_states().unwrap();
        assert!(states.contains_key(&key(3)));
        drop(foreign);
        own.close().await;
    });
}

/// The file at the ledger's path is not the daemon's any more.
#[test]
fn changed_files_are_refused_and_left_as_they_are() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("removed", |dir| {
            fs::remove_file(dir.join("ledger.db")).unwrap();
        }),
        ("replaced by a foreign ledger", |dir| {
            move_file(dir.join("foreign/ledger.db"), dir.join("ledger.db"));
        }),
        ("replaced with its log", |dir| {
            for name in ["ledger.db", "ledger.db-wal"] {
                move_file(dir.join("foreign").join(name), dir.join(name));
            }
        }),
        ("replaced by an empty file", |dir| {
            fs::write(dir.join("empty"), "").unwrap();
            move_file(dir.join("empty"), dir.join("ledger.db"));
        }),
        ("truncated", |dir| {
            let file = fs::File::options().write(true).open(dir.join("ledger.db"));
            file.unwrap().set_len(0).unwrap();
        }),
        ("without its log", |dir| {
            fs::remove_file(dir.join("ledger.db-wal")).unwrap();
        }),
    ];
    for (case, change) in changes {
        block_on(async {
            let (dir, _, own) = written().await;
            copy_foreign(&dir.path().join("foreign")).await;
            change(dir.path());
            fs::remove_dir_all(dir.path().join("foreign")).unwrap();
            let before = contents(dir.path());
            for _ in 0..2 {
                let refused = own.copy().await.unwrap_err();
                assert!(
                    matches!(refused, LedgerError::Damaged { .. }),
                    "{case}: {refused}"
                );
            }
            assert_eq!(contents(dir.path()), before, "{case}");
            own.close().await;
            assert_eq!(contents(dir.path()), before, "{case}");
        });
    }
}
