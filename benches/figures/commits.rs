//! What one rotation in the running daemon costs beyond the disk: how many
//! commits it makes, and what it takes beside as many bare ones.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rekeyd::core::change::Change;
use rekeyd::core::record::KeyState;
use rekeyd::engine::clock::{Clock as _, HostClock};
use rekeyd::engine::observe::Observer;
use rekeyd::engine::{Course, Engine, Parts};
use rusqlite::Connection;

use crate::instant::Instantly;
use crate::table::{Row, ms, times};
use crate::{engine, instant, many, process};

const ROUNDS: usize = 200;

const OPTIONS: &str = "schedule = \"*/10 * * * *\"\noverlap = \"5m\"\nsettle = \"0s\"\n\
     creates-per-day = 1000\nhold-while-used = \"0s\"";

const PERIOD: Duration = Duration::from_secs(600);

/// As much as a commit of the ledger has to tell.
const TEXT: &str = concat!(
    "a row of the ledger, an entry of its journal and what stands in their indices: ",
    "a row of the ledger, an entry of its journal and what stands in their indices: ",
    "a row of the ledger, an entry of its journal and what stands in their indices: ",
    "a row of the ledger, an entry of its journal and what stands in their indices",
);

/// Counts what is recorded: alone, each is a commit.
#[derive(Default)]
struct Count(AtomicUsize);

impl Observer for Count {
    fn recorded(&self, _: &KeyState, _: &[Change]) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let dir = process::folder();
    let bare = Bare::in_folder(dir.path());
    let (mut walls, mut floors, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    rotate(dir.path(), ROUNDS, |wall, count| {
        walls.push(wall);
        commits.push(count);
        floors.push(bare.floor(count));
    });
    let commit = process::median((0..ROUNDS).map(|_| bare.commit()).collect());
    commits.sort_unstable();
    let count = commits[commits.len() / 2];
    let (wall, floor) = (process::median(walls), process::median(floors));
    vec![
        Row::new("a bare SQLite commit on this disk (WAL, FULL)", ms(commit)),
        Row::new(
            "commits of a rotation with one sink, revocation included",
            count.to_string(),
        )
        .beside(syncs())
        .reach("5"),
        Row::new("a rotation in the daemon, without the provider", ms(wall))
            .beside(format!("its syncs alone: {}", ms(floor)))
            .ratio(times(wall, floor)),
        Row::new(
            "what it takes over its syncs",
            ms(wall.saturating_sub(floor)),
        )
        .reach("1 ms"),
    ]
}

/// A key that rotates so often; each time tells what it took and how many
/// commits it was.
fn rotate(dir: &Path, rounds: usize, mut each: impl FnMut(Duration, usize)) {
    let provider = Arc::new(Instantly::new(HostClock.now()));
    let count = Arc::new(Count::default());
    let settings = engine::settings(1, dir, OPTIONS, &provider);
    engine::runtime().block_on(async {
        let ledger = many::open(&settings, provider.now());
        let parts = Parts {
            observer: Arc::clone(&count) as Arc<dyn Observer>,
            ..instant::parts(&provider, &settings, ledger)
        };
        let managed = engine::managed(&settings, &provider);
        let mut engine = Engine::open(parts, managed, Course::Daemon).await.unwrap();
        engine::rest(&mut engine).await;
        // The second retires the first one; each after it revokes one, too.
        for round in 0..rounds + 2 {
            provider.skip(PERIOD);
            let (made, before) = (provider.made(), count.0.load(Ordering::Relaxed));
            let begun = Instant::now();
            engine::rest(&mut engine).await;
            let took = begun.elapsed();
            assert_eq!(provider.made(), made + 1);
            if round >= 2 {
                each(took, count.0.load(Ordering::Relaxed) - before);
            }
        }
    });
}

/// So many rotations and nothing else, to be watched from outside.
pub(crate) fn child(rounds: usize) {
    let dir = process::folder();
    rotate(dir.path(), rounds, |_, _| {});
}

/// How often one rotation waits for the disk, as strace counts it.
fn syncs() -> String {
    if let Some(missing) = process::missing(&["strace"]) {
        return missing;
    }
    let count = |rounds: usize| -> usize {
        let output = Command::new("strace")
            .args(["-f", "-e", "trace=fsync,fdatasync", "-e", "signal=none"])
            .arg(std::env::current_exe().unwrap())
            .args(["--child", "rotations", &rounds.to_string()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        // Of a call that another one interrupts the end is told as well.
        told.matches("sync(").count()
    };
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let syncs = (count(60) - count(10)) as f64 / 50.0;
    format!("strace: {syncs:.1} syncs, two of them the file's")
}

/// As many commits and files as a rotation makes, and nothing around them.
struct Bare {
    connection: Connection,
    folder: File,
    path: PathBuf,
}

impl Bare {
    fn in_folder(dir: &Path) -> Self {
        let connection = Connection::open(dir.join("bare.db")).unwrap();
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .unwrap();
        connection
            .pragma_update(None, "synchronous", "FULL")
            .unwrap();
        let table = "CREATE TABLE bare (id INTEGER PRIMARY KEY, text TEXT)";
        connection.execute_batch(table).unwrap();
        Self {
            connection,
            folder: File::open(dir).unwrap(),
            path: dir.join("bare.key"),
        }
    }

    /// The time for one commit.
    fn commit(&self) -> Duration {
        let begun = Instant::now();
        let insert = "INSERT INTO bare (text) VALUES (?1)";
        let mut insert = self.connection.prepare_cached(insert).unwrap();
        insert.execute([TEXT]).unwrap();
        begun.elapsed()
    }

    /// The time for so many commits and one file.
    fn floor(&self, commits: usize) -> Duration {
        let begun = Instant::now();
        for _ in 0..commits {
            self.commit();
        }
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside).unwrap();
        file.write_all(&TEXT.as_bytes()[..60]).unwrap();
        file.sync_all().unwrap();
        std::fs::rename(&beside, &self.path).unwrap();
        self.folder.sync_all().unwrap();
        begun.elapsed()
    }
}
