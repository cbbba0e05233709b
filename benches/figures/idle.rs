//! The memory and processor time of a daemon while nothing is due, after its
//! requests over https.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use rekeyd::platform::clock::{Clock as _, SystemClock};
use tempfile::TempDir;

use crate::provider::TlsSandbox;
use crate::ready::{self, ReadyDaemon};
use crate::table::{TableRow, mb, ms};
use crate::{engine, keys, many, process, support};

const MANY_KEYS: usize = 10_000;

/// The time for which a daemon is observed.
const WATCH_TIME: Duration = Duration::from_secs(10);

/// A little more than the time for which an idle thread is kept.
const CALM_TIME: Duration = Duration::from_secs(15);

pub(crate) fn rows() -> Vec<TableRow> {
    let (one_provider, many_provider) = (TlsSandbox::start(), TlsSandbox::start());
    let (one, many) = (process::folder(), process::folder());
    configure(&one, &one_provider, 1, &keys::yearly_schedule(), "");
    configure(
        &many,
        &many_provider,
        MANY_KEYS,
        &keys::yearly_schedule(),
        "",
    );
    rotate_all(many.path(), &many_provider);

    let (one, rotated_file) = (
        ready::start(one.path()),
        one.path().join("billing-exporter.key"),
    );
    let many = ready::start(many.path());
    let started = Instant::now();
    while !rotated_file.exists() {
        assert!(started.elapsed() < ready::START_TIMEOUT, "it rotates");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(CALM_TIME);
    let ((one_all, one_own), (switches, cpu_time)) = observe(&one);
    let ((many_all, many_own), (_, many_cpu_time)) = observe(&many);
    let bytes_per_key = (many_own - one_own) * 1_024 / (MANY_KEYS as u64 - 1);
    let wakes = f64::from(u32::try_from(switches).unwrap()) / WATCH_TIME.as_secs_f64();
    vec![
        TableRow::new("idle, 1 key, after a rotation over https", mb(one_all)).reach("12 MB"),
        TableRow::new("of it its own (anonymous)", mb(one_own)).reach("4 MB"),
        TableRow::new("wake-ups a second", format!("{wakes:.1}")).reach("5"),
        TableRow::new("processor time in ten seconds", ms(cpu_time)).reach("6 ms"),
        TableRow::new(
            "idle, 10,000 keys, each rotated once",
            format!("{}, {} in ten seconds", mb(many_all), ms(many_cpu_time)),
        )
        .reach("40 MB"),
        TableRow::new("memory held for each key", format!("{bytes_per_key} bytes")),
    ]
}

/// Writes a configuration with `count` keys, each with these options, and more `sections`.
pub(crate) fn configure(
    dir: &TempDir,
    provider: &TlsSandbox,
    count: usize,
    options: &str,
    sections: &str,
) {
    let dir = dir.path();
    let admin_key = provider.sandbox.admin_key();
    support::write(&dir.join("admin-key"), admin_key.expose());
    let text = keys::text(count, dir, &provider.secure_url, options);
    let trusted_provider = format!("{sections}[provider]\nca-file = {:?}", provider.ca_file());
    let text = text.replacen("[provider]", &trusted_provider, 1);
    support::write(&dir.join("config.toml"), &text);
}

/// Records that every key was rotated yesterday.
pub(crate) fn rotate_all(dir: &Path, provider: &TlsSandbox) {
    let text = std::fs::read_to_string(dir.join("config.toml")).unwrap();
    let settings = many::settings(&text, SystemClock.now());
    let rotated_at = SystemClock.now() - SignedDuration::from_hours(24);
    engine::runtime().block_on(async {
        let ledger = many::open_ledger(&settings, rotated_at);
        let create = |label: &rekeyd::core::ids::Label| {
            let (id, _) = provider.sandbox.create_manually(label.as_str());
            id
        };
        many::rotate_all(&ledger, &settings, rotated_at, create).await;
    });
    keys::write_files(settings.keys.len(), dir);
}

/// Returns the memory of a daemon, and its context switches and processor time
/// over [`WATCH_TIME`].
fn observe(ready: &ReadyDaemon) -> ((u64, u64), (u64, Duration)) {
    let process = ready.daemon.0.id();
    let usage_before = process::task_usage(process);
    std::thread::sleep(WATCH_TIME);
    let usage = process::task_usage(process).since(&usage_before);
    (process::memory(&process.to_string()), usage)
}
