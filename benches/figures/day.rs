//! A day of continuous rotations, in a process of its own. SQLite's page cache
//! fills in the first hours, and its size is constant from then on.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rekeyd::core::time;
use rekeyd::engine::{Engine, RunMode};
use rekeyd::platform::clock::{Clock as _, SystemClock};

use crate::instant::{self, InstantProvider};
use crate::table::{TableRow, mb};
use crate::{engine, many, process};

const KEYS: usize = 10;

const OPTIONS: &str = "schedule = \"* * * * *\"\noverlap = \"30s\"\nverify-interval = \"0s\"\n\
     max-creates-per-day = 5000\nrevoke-when-idle-for = \"0s\"";

const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn rows() -> Vec<TableRow> {
    let output =
        process::with_malloc_as_in_the_unit(&mut Command::new(std::env::current_exe().unwrap()))
            .args(["--child", "day"])
            .output()
            .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = stdout
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    let [hour, half, day, hour_files, day_files, created] = numbers[..] else {
        panic!("{stdout}");
    };
    vec![
        TableRow::new(
            format!("its own memory after 24 simulated hours, {created} rotations"),
            mb(day),
        )
        .beside(format!(
            "after 1 hour: {}, after 12: {}",
            mb(hour),
            mb(half)
        ))
        .reach("no growth"),
        TableRow::new("open files then", day_files.to_string())
            .beside(format!("after the first hour: {hour_files}"))
            .reach("the same"),
    ]
}

/// Simulates the day, and prints the memory after an hour, half of the day and
/// all of it.
pub(crate) fn child() {
    let dir = process::folder();
    let provider = Arc::new(InstantProvider::new(SystemClock.now()));
    let settings = engine::settings(KEYS, dir.path(), OPTIONS, &provider);
    engine::runtime().block_on(async {
        let ledger = many::open_ledger(&settings, provider.now());
        let services = instant::services(&provider, &settings, ledger);
        let managed_keys = engine::managed_keys(&settings, &provider);
        let mut engine = Engine::open(services, managed_keys, RunMode::Daemon)
            .await
            .unwrap();
        let start = provider.now();
        run_until_age(&mut engine, &provider, start, HOUR).await;
        let (hour, hour_files) = memory_and_files();
        run_until_age(&mut engine, &provider, start, HOUR * 12).await;
        let (half, _) = memory_and_files();
        run_until_age(&mut engine, &provider, start, HOUR * 24).await;
        let (day, day_files) = memory_and_files();
        let created = provider.created_count();
        println!("{hour} {half} {day} {hour_files} {day_files} {created}");
    });
}

async fn run_until_age(
    engine: &mut Engine,
    provider: &InstantProvider,
    start: jiff::Timestamp,
    age: Duration,
) {
    let end = time::after(start, age);
    while provider.now() < end {
        engine::run_until_idle(engine).await;
        let next = engine.next_at().unwrap().min(end);
        provider.skip(time::until(provider.now(), next));
    }
}

/// Returns the anonymous memory in KiB, and the number of open files.
fn memory_and_files() -> (u64, usize) {
    let (_, anonymous) = process::memory("self");
    (
        anonymous,
        std::fs::read_dir("/proc/self/fd").unwrap().count(),
    )
}
