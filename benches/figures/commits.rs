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
use rekeyd::core::state::KeyState;
use rekeyd::engine::observer::ChangeObserver;
use rekeyd::engine::{Engine, RunMode, Services};
use rekeyd::platform::clock::{Clock as _, SystemClock};
use rusqlite::Connection;

use crate::instant::InstantProvider;
use crate::table::{TableRow, ms, time_ratio};
use crate::{engine, instant, keys, many, process};

/// So many times a new key rotates for a while, and then as much is written
/// without rekeyd: what changes on the host meanwhile, changes for both.
const ALTERNATIONS: usize = 4;

/// Rotations in each.
const ROUNDS: usize = 50;

const OPTIONS: &str = "schedule = \"*/10 * * * *\"\noverlap = \"5m\"\nverify-interval = \"0s\"\n\
     max-creates-per-day = 1000\nrevoke-when-idle-for = \"0s\"";

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
struct CommitCounter(AtomicUsize);

impl ChangeObserver for CommitCounter {
    fn observe(&self, _: &KeyState, _: &[Change]) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn rows() -> Vec<TableRow> {
    let (mut walls, mut floors, mut commits) = (Vec::new(), Vec::new(), Vec::new());
    let mut bare_commits = Vec::new();
    for _ in 0..ALTERNATIONS {
        let dir = process::folder();
        let bare = Baseline::in_folder(dir.path());
        rotate(dir.path(), 1, ROUNDS, |wall, count| {
            walls.push(wall);
            commits.push(count);
        });
        let count = median(&mut commits);
        floors.extend((0..ROUNDS).map(|_| bare.commits_and_file(count)));
        bare_commits.extend((0..ROUNDS).map(|_| bare.commit()));
    }
    let count = median(&mut commits);
    let (wall, floor) = (process::median(walls), process::median(floors));
    let commit = process::median(bare_commits);
    vec![
        TableRow::new("a bare SQLite commit on this disk (WAL, FULL)", ms(commit)),
        TableRow::new(
            "commits of a rotation with one sink, revocation included",
            count.to_string(),
        )
        .beside(count_syncs())
        .reach("5"),
        TableRow::new("with three sinks", commits_with_sinks(3).to_string())
            .reach("one more for each"),
        TableRow::new("a rotation in the engine, without the provider", ms(wall))
            .beside(format!(
                "{count} bare commits and one bare file: {}",
                ms(floor)
            ))
            .times_as_long(time_ratio(wall, floor)),
        TableRow::new("what it takes over those", ms(wall.saturating_sub(floor))).reach("1 ms"),
    ]
}

/// Which count is in the middle.
fn median(counts: &mut [usize]) -> usize {
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// How many commits it is with so many sinks.
fn commits_with_sinks(sinks: usize) -> usize {
    let dir = process::folder();
    let mut commits = Vec::new();
    rotate(dir.path(), sinks, 5, |_, count| commits.push(count));
    median(&mut commits)
}

/// A key that rotates so often; each time tells what it took and how many
/// commits it was.
fn rotate(dir: &Path, sinks: usize, rounds: usize, mut each: impl FnMut(Duration, usize)) {
    let provider = Arc::new(InstantProvider::new(SystemClock.now()));
    let count = Arc::new(CommitCounter::default());
    let mut options = OPTIONS.to_owned();
    for more in 1..sinks {
        let path = dir.join(format!("more-{more}.key"));
        let sink = format!("\n[[key.{}.sink]]\ntype = \"file\"\n", keys::key_name(0));
        options += &format!("{sink}name = \"more-{more}\"\npath = {path:?}");
    }
    let text = keys::text(1, dir, "https://api.openai.com/v1", &options);
    // The one that comes last.
    let named = "type = \"file\"\nname = \"file\"\npath";
    let text = text.replace("type = \"file\"\npath", named);
    let settings = many::settings(&text, provider.now());
    engine::runtime().block_on(async {
        let ledger = many::open_ledger(&settings, provider.now());
        let parts = Services {
            observer: Arc::clone(&count) as Arc<dyn ChangeObserver>,
            ..instant::services(&provider, &settings, ledger)
        };
        let managed = engine::managed_keys(&settings, &provider);
        let mut engine = Engine::open(parts, managed, RunMode::Daemon).await.unwrap();
        engine::run_until_idle(&mut engine).await;
        // The second retires the first one; each after it revokes one, too.
        for round in 0..rounds + 2 {
            provider.skip(PERIOD);
            let (created, before) = (provider.made(), count.0.load(Ordering::Relaxed));
            let started = Instant::now();
            engine::run_until_idle(&mut engine).await;
            let took = started.elapsed();
            assert_eq!(provider.made(), created + 1);
            if round >= 2 {
                each(took, count.0.load(Ordering::Relaxed) - before);
            }
        }
    });
}

/// So many rotations and nothing else, to be watched from outside.
pub(crate) fn child(rounds: usize) {
    let dir = process::folder();
    rotate(dir.path(), 1, rounds, |_, _| {});
}

/// How often one rotation waits for the disk, as strace counts it.
fn count_syncs() -> String {
    if let Some(missing) = process::missing(&["strace"]) {
        return missing;
    }
    let told = |rounds: usize| -> Result<String, String> {
        let output = Command::new("strace")
            .args(["-f", "-e", "trace=fsync,fdatasync", "-e", "signal=none"])
            .arg(std::env::current_exe().unwrap())
            .args(["--child", "rotations", &rounds.to_string()])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(told)
        } else {
            let last = told.lines().last().unwrap_or_default();
            Err(format!("strace fails: {last}"))
        }
    };
    let (more, fewer) = match (told(60), told(10)) {
        (Ok(more), Ok(fewer)) => (more, fewer),
        (Err(why), _) | (_, Err(why)) => return why,
    };
    // Of a call that another one interrupts the end is told as well.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let each = |call| (more.matches(call).count() - fewer.matches(call).count()) as f64 / 50.0;
    let (commits, file) = (each(" fdatasync("), each(" fsync("));
    format!("strace: {commits:.1} syncs of the ledger, {file:.1} of the file")
}

/// As many commits and files as a rotation makes, and nothing around them.
struct Baseline {
    connection: Connection,
    folder: File,
    path: PathBuf,
}

impl Baseline {
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
        let started = Instant::now();
        let insert = "INSERT INTO bare (text) VALUES (?1)";
        let mut insert = self.connection.prepare_cached(insert).unwrap();
        insert.execute([TEXT]).unwrap();
        started.elapsed()
    }

    /// The time for so many commits and one file.
    fn commits_and_file(&self, commits: usize) -> Duration {
        let started = Instant::now();
        for _ in 0..commits {
            self.commit();
        }
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside).unwrap();
        file.write_all(&TEXT.as_bytes()[..60]).unwrap();
        file.sync_all().unwrap();
        std::fs::rename(&beside, &self.path).unwrap();
        self.folder.sync_all().unwrap();
        started.elapsed()
    }
}
