//! The cost of many keys: `cargo bench --bench many_keys`.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "many/instant.rs"]
mod instant;
#[path = "many/mod.rs"]
mod many;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rekeyd::core::decide::due::{Downtime, check_due};
use rekeyd::core::ids::SinkId;
use rekeyd::core::schedule::Schedule;
use rekeyd::core::state::KeyState;
use rekeyd::engine::{Engine, RunMode};
use rekeyd::ledger::LedgerReader;

use instant::InstantProvider;
use many::COUNTS;

const BASE_URL: &str = "https://api.openai.com/v1";

fn now() -> Timestamp {
    "2026-11-24T03:00:00Z".parse().unwrap()
}

/// Reads a configuration: keys that share one schedule, and keys with a
/// schedule each.
fn bench_configuration(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("configuration");
    for count in COUNTS {
        let dir = Path::new("/var/lib/rekeyd");
        let shared = many::config_text(count, dir, BASE_URL, |_| "30 2 * * Mon".to_owned());
        let id = BenchmarkId::new("one schedule", count);
        group.bench_with_input(id, &shared, |bencher, text| {
            bencher.iter(|| many::settings(black_box(text), now()));
        });
        let distinct = many::config_text(count, dir, BASE_URL, distinct_schedule);
        let id = BenchmarkId::new("a schedule each", count);
        group.bench_with_input(id, &distinct, |bencher, text| {
            bencher.iter(|| many::settings(black_box(text), now()));
        });
    }
    group.finish();
}

/// Returns one of ten thousand different schedules.
fn distinct_schedule(number: usize) -> String {
    let (minute, hour, day) = (number % 60, number / 60 % 24, number / 1_440 + 1);
    format!("{minute} {hour} {day} * *")
}

/// Schedules, each parsed or shared with an earlier one.
fn bench_schedules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedules");
    for count in COUNTS {
        group.bench_function(BenchmarkId::new("read", count), |bencher| {
            bencher.iter(|| -> Vec<_> {
                (0..count)
                    .map(|_| Schedule::parse(black_box("30 2 * * Mon"), TimeZone::UTC).unwrap())
                    .collect()
            });
        });
        group.bench_function(BenchmarkId::new("shared", count), |bencher| {
            let parsed = Schedule::parse("30 2 * * Mon", TimeZone::UTC).unwrap();
            bencher.iter(|| -> Vec<_> {
                (0..count)
                    .map(|_| black_box(&parsed).in_zone(TimeZone::UTC))
                    .collect()
            });
        });
    }
    group.finish();
}

/// The computations of the engine: the states of all keys, the keys that are
/// due, and the time of the next work.
fn bench_keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("keys");
    for count in COUNTS {
        let dir = tempfile::tempdir().unwrap();
        let text = many::config_text(count, dir.path(), BASE_URL, |_| "30 2 * * Mon".to_owned());
        let settings = many::settings(&text, now());
        let provider = Arc::new(InstantProvider::new(now()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ledger = many::open_ledger(&settings, now());
        runtime.block_on(many::rotate_all(&ledger, &settings, now(), |label| {
            provider.create_credential(label, now())
        }));

        let reader = LedgerReader::open(&settings.ledger).unwrap();
        let snapshot = reader.snapshot().unwrap();
        group.bench_function(BenchmarkId::new("all states", count), |bencher| {
            bencher.iter(|| snapshot.key_states().unwrap());
        });

        let states = snapshot.key_states().unwrap();
        let inputs: Vec<_> = settings
            .keys
            .iter()
            .map(|key| {
                let sinks: Vec<SinkId> = key.sinks.iter().map(|sink| sink.id.clone()).collect();
                let state: &KeyState = &states[&key.name];
                (&key.policy, sinks, state)
            })
            .collect();
        let downtime = Downtime::before_start(now());
        group.bench_function(BenchmarkId::new("due", count), |bencher| {
            bencher.iter(|| {
                for (policy, sinks, state) in &inputs {
                    black_box(check_due(policy, sinks, state, downtime, now()));
                }
            });
        });

        let services = instant::services(&provider, &settings, ledger);
        let managed_keys = instant::managed_keys(&settings);
        let engine = runtime
            .block_on(Engine::open(services, managed_keys, RunMode::Daemon))
            .unwrap();
        group.bench_function(BenchmarkId::new("next", count), |bencher| {
            bencher.iter(|| black_box(&engine).next_at());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1));
    targets = bench_configuration, bench_schedules, bench_keys
}
criterion_main!(benches);
