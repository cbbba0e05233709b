//! The cost of one rotation in the running daemon beyond the disk's: the number
//! of its commits, and its time beside that of as many bare ones.

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

/// The number of alternations between rotations of a new key and the same
/// amount of writes without rekeyd, so that changes on the host affect both.
const ALTERNATIONS: usize = 4;

/// The number of rotations in each.
const ROUNDS: usize = 50;

const OPTIONS: &str = "schedule = \"*/10 * * * *\"\noverlap = \"5m\"\nverify-interval = \"0s\"\n\
     max-creates-per-day = 1000\nrevoke-when-idle-for = \"0s\"";

const PERIOD: Duration = Duration::from_secs(600);

/// As much text as a commit of the ledger writes.
const TEXT: &str = concat!(
    "a row of the ledger, an entry of its journal and what stands in their indices: ",
    "a row of the ledger, an entry of its journal and what stands in their indices: ",
    "a row of the ledger, an entry of its journal and what stands in their indices: ",
    "a row of the ledger, an entry of its journal and what stands in their indices",
);

/// Counts the records, each of which is a commit if it is alone.
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

/// Returns the median of the counts.
fn median(counts: &mut [usize]) -> usize {
    counts.sort_unstable();
    counts[counts.len() / 2]
}

/// Returns the number of commits with `sinks` sinks.
fn commits_with_sinks(sinks: usize) -> usize {
    let dir = process::folder();
    let mut commits = Vec::new();
    rotate(dir.path(), sinks, 5, |_, count| commits.push(count));
    median(&mut commits)
}

/// Rotates a key `rounds` times. Calls `each` with the time and the number of
/// commits of each rotation.
fn rotate(dir: &Path, sinks: usize, rounds: usize, mut each: impl FnMut(Duration, usize)) {
    let provider = Arc::new(InstantProvider::new(SystemClock.now()));
    let count = Arc::new(CommitCounter::default());
    let mut options = OPTIONS.to_owned();
    for number in 1..sinks {
        let path = dir.join(format!("more-{number}.key"));
        let sink = format!("\n[[key.{}.sink]]\ntype = \"file\"\n", keys::key_name(0));
        options += &format!("{sink}name = \"more-{number}\"\npath = {path:?}");
    }
    let text = keys::text(1, dir, "https://api.openai.com/v1", &options);
    // The sink that `keys::text` adds after the others.
    let named_sink = "type = \"file\"\nname = \"file\"\npath";
    let text = text.replace("type = \"file\"\npath", named_sink);
    let settings = many::settings(&text, provider.now());
    engine::runtime().block_on(async {
        let ledger = many::open_ledger(&settings, provider.now());
        let services = Services {
            observer: Arc::clone(&count) as Arc<dyn ChangeObserver>,
            ..instant::services(&provider, &settings, ledger)
        };
        let managed_keys = engine::managed_keys(&settings, &provider);
        let mut engine = Engine::open(services, managed_keys, RunMode::Daemon)
            .await
            .unwrap();
        engine::run_until_idle(&mut engine).await;
        // The second rotation retires the first; each later one also revokes
        // one.
        for round in 0..rounds + 2 {
            provider.skip(PERIOD);
            let (created, count_before) =
                (provider.created_count(), count.0.load(Ordering::Relaxed));
            let started = Instant::now();
            engine::run_until_idle(&mut engine).await;
            let time = started.elapsed();
            assert_eq!(provider.created_count(), created + 1);
            if round >= 2 {
                each(time, count.0.load(Ordering::Relaxed) - count_before);
            }
        }
    });
}

/// Makes `rounds` rotations and nothing else, to be traced by another process.
pub(crate) fn child(rounds: usize) {
    let dir = process::folder();
    rotate(dir.path(), 1, rounds, |_, _| {});
}

/// Returns the number of syncs of one rotation, as strace counts them.
fn count_syncs() -> String {
    if let Some(missing) = process::missing(&["strace"]) {
        return missing;
    }
    let trace = |rounds: usize| -> Result<String, String> {
        let output = Command::new("strace")
            .args(["-f", "-e", "trace=fsync,fdatasync", "-e", "signal=none"])
            .arg(std::env::current_exe().unwrap())
            .args(["--child", "rotations", &rounds.to_string()])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(stderr)
        } else {
            let last = stderr.lines().last().unwrap_or_default();
            Err(format!("strace fails: {last}"))
        }
    };
    let (longer, shorter) = match (trace(60), trace(10)) {
        (Ok(longer), Ok(shorter)) => (longer, shorter),
        (Err(problem), _) | (_, Err(problem)) => return problem,
    };
    // An interrupted call has a second line for its end, without a parenthesis.
    #[expect(clippy::cast_precision_loss, reason = "only displayed")]
    let each = |call| (longer.matches(call).count() - shorter.matches(call).count()) as f64 / 50.0;
    let (commits, file) = (each(" fdatasync("), each(" fsync("));
    format!("strace: {commits:.1} syncs of the ledger, {file:.1} of the file")
}

/// The same number of commits and files as in a rotation, and nothing else.
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

    /// Measures one commit.
    fn commit(&self) -> Duration {
        let started = Instant::now();
        let insert = "INSERT INTO bare (text) VALUES (?1)";
        let mut insert = self.connection.prepare_cached(insert).unwrap();
        insert.execute([TEXT]).unwrap();
        started.elapsed()
    }

    /// Measures commits and one file.
    fn commits_and_file(&self, commits: usize) -> Duration {
        let started = Instant::now();
        for _ in 0..commits {
            self.commit();
        }
        let temp_path = self.path.with_extension("new");
        let mut file = File::create(&temp_path).unwrap();
        file.write_all(&TEXT.as_bytes()[..60]).unwrap();
        file.sync_all().unwrap();
        std::fs::rename(&temp_path, &self.path).unwrap();
        self.folder.sync_all().unwrap();
        started.elapsed()
    }
}
