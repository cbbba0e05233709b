//! The cost of the daemon while nothing is due, beside that of the bare
//! scheduler that wakes it, and the longest delay of its loop when everything
//! is due at once: `cargo bench --bench scheduler`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

#[path = "many/instant.rs"]
mod instant;
#[path = "many/mod.rs"]
mod many;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rekeyd::daemon::{event_loop, runtime};
use rekeyd::engine::{Engine, RunMode};
use rekeyd::platform::clock::{Clock as _, SystemClock};
use rekeyd::provider::failover::AdminCredentialSources;
use rekeyd::sandbox::{Sandbox, SandboxOptions};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

use instant::InstantProvider;
use many::COUNTS;

/// The time for which an idle process is observed.
const WATCH_TIME: Duration = Duration::from_secs(30);

/// The processor time per second below which a process has completed its start.
const IDLE_THRESHOLD: Duration = Duration::from_millis(5);

/// The time limit for settling.
const MAX_SETTLING_TIME: Duration = Duration::from_secs(180);

/// The argument of a child that runs the scheduler alone.
const SCHEDULER_ONLY: &str = "empty";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [option, mode] if option == "--child" => idle(mode),
        // `cargo test --benches` only checks that it runs.
        _ if !arguments.iter().any(|argument| argument == "--bench") => {}
        _ => {
            burst(10_000);
            side_by_side();
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Returns the processor time of this process.
fn own_processor_time() -> Duration {
    processor_time(ClockId::ProcessCPUTime)
}

fn processor_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let nanos = u32::try_from(time.tv_nsec).unwrap();
    Duration::new(u64::try_from(time.tv_sec).unwrap(), nanos)
}

/// Runs the bare scheduler, and daemons with different numbers of keys, all
/// concurrently, so that other load on this host affects all of them.
fn side_by_side() {
    let runtime = runtime();
    let daemons: Vec<_> = COUNTS
        .iter()
        .map(|count| runtime.block_on(IdleDaemon::with_keys(*count)))
        .collect();
    let mut children = vec![("the scheduler alone".to_owned(), child(SCHEDULER_ONLY))];
    for (count, daemon) in COUNTS.iter().zip(&daemons) {
        let dir = daemon.dir.path().to_str().unwrap();
        children.push((format!("{count} idle keys"), child(dir)));
    }
    children.push(("the scheduler again".to_owned(), child(SCHEDULER_ONLY)));

    let outputs = runtime.spawn_blocking(move || -> Vec<_> {
        let results = children.into_iter().map(|(mode, child)| {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            (mode, text.trim().parse::<f64>().expect(&text))
        });
        results.collect()
    });
    let measured = runtime.block_on(outputs).unwrap();
    let scheduler_only = measured[0].1;
    println!(
        "processor time of an idle minute, from {} s:",
        WATCH_TIME.as_secs()
    );
    for (mode, per_minute) in measured {
        println!(
            "  {mode:<20} {per_minute:7.2} ms  {:5.2} times  {:+6.2} ms",
            per_minute / scheduler_only,
            per_minute - scheduler_only
        );
    }
}

/// Starts a process of its own, so that its processor time includes no other
/// work.
fn child(mode: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--child", mode])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A sandbox, and a ledger in which each of its keys is current.
struct IdleDaemon {
    dir: TempDir,
    _sandbox: Sandbox,
}

impl IdleDaemon {
    async fn with_keys(count: usize) -> Self {
        let dir = many::folder();
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        let base_url = sandbox.base_url();
        let text = many::config_text(count, dir.path(), base_url.as_str(), |_| {
            yearly_schedule(SystemClock.now())
        });
        write(&dir.path().join("config.toml"), &text);
        write(&dir.path().join("admin-key"), sandbox.admin_key().expose());
        let now = SystemClock.now();
        let settings = many::settings(&text, now);
        let ledger = many::open_ledger(&settings, now);
        many::rotate_all(&ledger, &settings, now, |label| {
            sandbox.create_manually(label.as_str()).0
        })
        .await;
        Self {
            dir,
            _sandbox: sandbox,
        }
    }
}

/// Returns a schedule that fires once a year, next in half a year.
fn yearly_schedule(now: Timestamp) -> String {
    let next_firing = now + SignedDuration::from_hours(180 * 24);
    let next_firing = next_firing.to_zoned(jiff::tz::TimeZone::UTC);
    format!(
        "0 0 {} {} *",
        next_firing.day().min(28),
        next_firing.month()
    )
}

fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// Idles for ever, while a thread measures the cost and then ends the process.
fn idle(mode: &str) {
    std::thread::spawn(|| {
        let cost_of_a_second = || {
            let cpu_before = own_processor_time();
            std::thread::sleep(Duration::from_secs(1));
            own_processor_time() - cpu_before
        };
        let (mut calm_seconds, started) = (0, Instant::now());
        while calm_seconds < 3 {
            if started.elapsed() > MAX_SETTLING_TIME {
                eprintln!(
                    "not at rest within {MAX_SETTLING_TIME:?}: this host is too busy to measure it"
                );
                std::process::exit(1);
            }
            calm_seconds = if cost_of_a_second() < IDLE_THRESHOLD {
                calm_seconds + 1
            } else {
                0
            };
        }
        let (cpu_before, started) = (own_processor_time(), Instant::now());
        std::thread::sleep(WATCH_TIME);
        let share =
            (own_processor_time() - cpu_before).as_secs_f64() / started.elapsed().as_secs_f64();
        println!("{}", share * 60_000.0);
        std::process::exit(0);
    });
    if mode == SCHEDULER_ONLY {
        runtime().block_on(bare_scheduler());
    } else {
        runtime().block_on(daemon(Path::new(mode)));
    }
}

/// One job, each second, whose body is one `notify_one`.
async fn bare_scheduler() {
    let ticks = Arc::new(Notify::new());
    let scheduler = JobScheduler::new().await.unwrap();
    let sender = Arc::clone(&ticks);
    let job = Job::new("* * * * * *", move |_, _| sender.notify_one()).unwrap();
    scheduler.add(job).await.unwrap();
    scheduler.start().await.unwrap();
    loop {
        ticks.notified().await;
    }
}

async fn daemon(dir: &Path) {
    let text = std::fs::read_to_string(dir.join("config.toml")).unwrap();
    let settings = Arc::new(many::settings(&text, SystemClock.now()));
    let sources = AdminCredentialSources {
        file: settings.provider.credential_file.clone(),
        ..AdminCredentialSources::default()
    };
    let runtime = runtime::start(&settings, sources, "a benchmark", RunMode::Daemon)
        .await
        .unwrap();
    event_loop::run_for(runtime, None, |_| {}).await.unwrap();
}

/// Fires `count` keys at the same moment, with a provider and sinks that
/// respond at once: the rest is the cost of the loop, the engine and the
/// ledger.
fn burst(count: usize) {
    let firing: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
    let start = firing - SignedDuration::from_secs(5);
    let provider = Arc::new(InstantProvider::new(start));
    let dir = many::folder();
    let text = many::config_text(count, dir.path(), "https://api.openai.com/v1", |_| {
        "@yearly".to_owned()
    });
    let settings = many::settings(&text, start);
    let (delay, iteration, time) = runtime().block_on(async {
        let ledger = many::open_ledger(&settings, start);
        let rotated_at = start - SignedDuration::from_hours(24);
        many::rotate_all(&ledger, &settings, rotated_at, |label| {
            provider.create_credential(label, rotated_at)
        })
        .await;
        let services = instant::services(&provider, &settings, ledger);
        let managed_keys = instant::managed_keys(&settings);
        let mut engine = Engine::open(services, managed_keys, RunMode::Daemon)
            .await
            .unwrap();
        run_loop_until(&mut engine, || provider.now() >= firing).await;
        let started = Instant::now();
        let (delay, iteration) =
            run_loop_until(&mut engine, || provider.created_count() == 2 * count).await;
        (delay, iteration, started.elapsed())
    });
    println!(
        "{count} keys due at once took {:.1} s; a timer came {:.1} ms late at most, \
         and the loop's own turn cost {:.1} ms at most",
        time.as_secs_f64(),
        delay.as_secs_f64() * 1_000.0,
        iteration.as_secs_f64() * 1_000.0
    );
}

/// Runs the loop like the daemon. Returns the longest delay of a timer of a
/// millisecond, and the longest iteration.
async fn run_loop_until(
    engine: &mut Engine,
    is_finished: impl Fn() -> bool,
) -> (Duration, Duration) {
    const PAUSE: Duration = Duration::from_millis(1);
    let finished = Arc::new(AtomicBool::new(false));
    let timer_finished = Arc::clone(&finished);
    let timer = tokio::spawn(async move {
        let mut latest = Duration::ZERO;
        while !timer_finished.load(Ordering::Relaxed) {
            let start = Instant::now();
            tokio::time::sleep(PAUSE).await;
            latest = latest.max(start.elapsed().saturating_sub(PAUSE));
        }
        latest
    });
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut longest = Duration::ZERO;
    while !is_finished() {
        // Processor time, since other load on this host does not delay the
        // loop.
        let iteration = processor_time(ClockId::ThreadCPUTime);
        engine.start_due();
        longest = longest.max(processor_time(ClockId::ThreadCPUTime) - iteration);
        tokio::select! {
            biased;
            _ = engine.process_completions(), if engine.active_tasks() > 0 => {}
            _ = tick.tick() => {}
        }
    }
    finished.store(true, Ordering::Relaxed);
    (timer.await.unwrap(), longest)
}
