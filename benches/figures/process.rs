//! Processes and their costs.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

pub(crate) use crate::many::folder;

/// Whether this host has the program.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Describes those of `programs` that this host does not have.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| !installed(program))
        .copied()
        .collect();
    (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
}

/// Runs a command that must succeed. Returns the time from the start of its
/// process to its end.
pub(crate) fn time_command(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let started = Instant::now();
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let time = started.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    time
}

/// Sets the environment variables with which the unit tunes the daemon's
/// memory.
pub(crate) fn with_malloc_as_in_the_unit(command: &mut Command) -> &mut Command {
    let unit = include_str!("../../systemd/rekeyd.service");
    let lines = unit.lines();
    let variables = lines.filter_map(|line| line.strip_prefix("Environment="));
    let variables = variables.flat_map(str::split_whitespace);
    let variables = variables.filter(|word| word.starts_with("MALLOC_"));
    let variables: Vec<_> = variables.filter_map(|word| word.split_once('=')).collect();
    assert!(!variables.is_empty(), "the unit sets them");
    command.envs(variables)
}

/// Returns the median time of `count` runs.
pub(crate) fn median_time(count: usize, mut command: impl FnMut() -> Command) -> Duration {
    median((0..count).map(|_| time_command(&mut command())).collect())
}

/// Runs a command that must succeed. Returns its peak memory in KiB: the
/// high-water mark just before its end.
pub(crate) fn peak_memory(command: &mut Command) -> u64 {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    // A process that has ended has no mark any more.
    while let Some(mark) = proc_value(&status, "VmHWM:") {
        peak = mark;
    }
    assert!(child.wait().unwrap().success(), "{command:?}");
    peak
}

/// Returns the highest peak memory of a few runs.
pub(crate) fn highest_peak(mut command: impl FnMut() -> Command) -> u64 {
    (0..5).map(|_| peak_memory(&mut command())).max().unwrap()
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Returns the processor time of all children that were waited for, and of
/// theirs. The resolution of /proc, a hundredth of a second, is as long as one
/// run.
pub(crate) fn children_cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds());
    Duration::from_micros(u64::try_from(micros.iter().sum::<i64>()).unwrap())
}

/// Returns the number after `name` in a file of /proc, if it is there.
fn proc_value(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Forgets the highest memory that a process had before.
pub(crate) fn reset_peak_memory(process: &str) {
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
}

/// Returns the highest memory of a process since then, in KiB.
pub(crate) fn peak_memory_of(process: &str) -> u64 {
    proc_value(&format!("/proc/{process}/status"), "VmHWM:").unwrap()
}

/// Returns the resident memory of a process, and the anonymous part of it, in
/// KiB.
pub(crate) fn memory(process: &str) -> (u64, u64) {
    let file = format!("/proc/{process}/smaps_rollup");
    let value = |name| proc_value(&file, name).unwrap();
    (value("Rss:"), value("Anonymous:"))
}

/// The context switches and processor time of each task of a process up to now.
pub(crate) struct TaskUsage(BTreeMap<String, (u64, Duration)>);

/// Reads the usage of the tasks of a process.
pub(crate) fn task_usage(process: u32) -> TaskUsage {
    let folder = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let tasks = folder.flatten().filter_map(|entry| {
        let path = entry.path().display().to_string();
        let status = format!("{path}/status");
        let switches = proc_value(&status, "voluntary_ctxt_switches:")?
            + proc_value(&status, "nonvoluntary_ctxt_switches:")?;
        let cpu_time = fs::read_to_string(format!("{path}/schedstat")).ok()?;
        let cpu_time = cpu_time.split_whitespace().next()?.parse().ok()?;
        Some((path, (switches, Duration::from_nanos(cpu_time))))
    });
    let tasks: BTreeMap<_, _> = tasks.collect();
    assert!(
        !tasks.is_empty(),
        "the kernel does not report the usage of tasks"
    );
    TaskUsage(tasks)
}

impl TaskUsage {
    /// Returns the context switches and processor time since `before`.
    pub(crate) fn since(&self, before: &Self) -> (u64, Duration) {
        let zero = (0, Duration::ZERO);
        let differences = self.0.iter().map(|(task, (switches, cpu_time))| {
            let previous = before.0.get(task).unwrap_or(&zero);
            (switches - previous.0, *cpu_time - previous.1)
        });
        differences.fold(zero, |sum, difference| {
            (sum.0 + difference.0, sum.1 + difference.1)
        })
    }
}
