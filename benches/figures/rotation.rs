//! One rotation in a process each: `rekeyd once` beside a shell script that
//! requests and records the same, and beside one that takes no precautions.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rekeyd::core::lifecycle::Phase;
use rekeyd::ledger::{HistoryFilter, LedgerReader};

use crate::provider::TlsSandbox;
use crate::table::{TableRow, ms, time_ratio};
use crate::{keys, process, support};

macro_rules! script {
    ($name:literal) => {
        concat!(env!("CARGO_MANIFEST_DIR"), "/benches/figures/", $name)
    };
}

/// The scripts, with their labels in the table.
const SCRIPTS: [(&str, &str); 2] = [
    ("script with the same care", script!("rotate_with_care.sh")),
    ("script without care", script!("rotate.sh")),
];

/// The number of rotations by each.
const ROUNDS: usize = 20;

/// Makes each run due. A run revokes the credential that the run before has
/// retired.
const OPTIONS: &str = "schedule = \"*/2 * * * * *\"\noverlap = \"1s\"\nverify-interval = \"0s\"\n\
     max-creates-per-day = 86400\nrevoke-when-idle-for = \"0s\"";

/// The time between firings, and until the end of an overlap.
const PERIOD: Duration = Duration::from_millis(2_100);

pub(crate) fn rows() -> Vec<TableRow> {
    let provider = TlsSandbox::start();
    let dir = process::folder();
    let dir = dir.path();
    support::write(
        &dir.join("admin-key"),
        provider.sandbox.admin_key().expose(),
    );
    let text = keys::text(1, dir, &provider.base_url, OPTIONS);
    support::write(&dir.join("config.toml"), &text);
    let missing = process::missing(&["bash", "curl", "jq", "sqlite3"]);

    let mut once = RunCost::default();
    let mut scripts = SCRIPTS.map(|_| RunCost::default());
    // The first run of each creates its files, and revokes nothing.
    process::time_command(&mut keys::rekeyd(dir, &["once"]));
    if missing.is_none() {
        for (_, script) in SCRIPTS {
            process::time_command(&mut shell(script, &provider.base_url, dir));
        }
    }
    for _ in 0..ROUNDS {
        let started = Instant::now();
        if missing.is_none() {
            for ((_, script), cost) in SCRIPTS.iter().zip(&mut scripts) {
                cost.run(&mut shell(script, &provider.base_url, dir));
            }
        }
        std::thread::sleep(PERIOD.saturating_sub(started.elapsed()));
        once.run(&mut keys::rekeyd(dir, &["once"]));
    }
    let reader = LedgerReader::open(&dir.join("ledger.db")).unwrap();
    let snapshot = reader.snapshot().unwrap();
    let mut history = snapshot.history(&HistoryFilter::default()).unwrap();
    let rows = history.rows().unwrap().map(Result::unwrap);
    let revoked = rows.filter(|row| row.phase == Phase::Revoked).count();
    assert!(revoked >= ROUNDS - 1, "each run rotates: {revoked}");

    let wall = TableRow::new("a rotation by `once`", ms(once.wall())).reach("8 times");
    let cpu = TableRow::new("its processor time", ms(once.cpu())).reach("10 times");
    if let Some(missing) = missing {
        return vec![wall.beside(missing.clone()), cpu.beside(missing)];
    }
    let row = |cost| TableRow::new("the same", ms(cost));
    let rows = [[wall, cpu], [row(once.wall()), row(once.cpu())]];
    let mut table_rows = Vec::new();
    for (([wall, cpu], (name, _)), cost) in rows.into_iter().zip(SCRIPTS).zip(scripts) {
        table_rows.push(
            wall.beside(format!("{name}: {}", ms(cost.wall())))
                .times_less(time_ratio(cost.wall(), once.wall())),
        );
        table_rows.push(
            cpu.beside(format!("{name}: {}", ms(cost.cpu())))
                .times_less(time_ratio(cost.cpu(), once.cpu())),
        );
    }
    table_rows
}

fn shell(script: &str, base_url: &str, dir: &Path) -> Command {
    let mut command = Command::new("bash");
    command.args([script, base_url]).arg(dir);
    command
}

/// The cost of several runs.
#[derive(Default)]
struct RunCost {
    walls: Vec<Duration>,
    cpu: Duration,
}

impl RunCost {
    fn run(&mut self, command: &mut Command) {
        let before = process::children_cpu_time();
        self.walls.push(process::time_command(command));
        self.cpu += process::children_cpu_time() - before;
    }

    fn wall(&self) -> Duration {
        process::median(self.walls.clone())
    }

    /// Returns the mean processor time.
    fn cpu(&self) -> Duration {
        self.cpu / u32::try_from(self.walls.len()).unwrap()
    }
}
