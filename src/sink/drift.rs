//! Runs the drift checks that read files, on few threads.

use std::sync::LazyLock;
use std::time::Duration;

use super::contract::BlockingDriftCheck;
use super::error::Drift;
use crate::core::ids::KeyName;
use crate::core::plural::counted;
use crate::platform::BlockingPool;

/// The threads of the hourly drift checks of all sinks of this process. 10,000
/// concurrent checks would start hundreds of threads otherwise, and each file system
/// that hangs would occupy some for ever.
static DRIFT_CHECKS: LazyLock<BlockingPool> = LazyLock::new(|| BlockingPool::new(16));

/// How long the checks of several sinks may take before each runs alone.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns whether a target differs from what is recorded. It blocks its thread.
pub(crate) type BlockingCheck = Box<dyn FnOnce() -> bool + Send>;

/// Runs one check within `limit`. A check that hangs finds no drift, because a file
/// system that hangs says nothing about the file.
pub(super) async fn run_check(
    describe: impl Fn() -> String,
    limit: Duration,
    check: BlockingDriftCheck,
) -> Option<Drift> {
    let checked = DRIFT_CHECKS.run(describe, limit, check);
    checked.await.ok().flatten()
}

/// Runs several checks on one thread, because starting a thread takes longer than a
/// check. Returns the keys whose sinks have drift; all keys if a check hangs, since
/// only a check of each alone finds out which.
pub(crate) async fn find_drift(checks: Vec<(KeyName, BlockingCheck)>) -> Vec<KeyName> {
    let all: Vec<_> = checks.iter().map(|(key, _)| key.clone()).collect();
    let describe = || format!("checking {}", counted(all.len(), "file"));
    let checked = DRIFT_CHECKS.run(describe, BATCH_TIMEOUT, move || {
        let checks = checks.into_iter();
        let drifted = checks.filter_map(|(key, check)| check().then_some(key));
        drifted.collect::<Vec<_>>()
    });
    checked.await.unwrap_or(all)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn key(name: &str) -> KeyName {
        KeyName::new(name).unwrap()
    }

    #[tokio::test]
    async fn drift_is_found_among_several_files() {
        let checks: Vec<(KeyName, BlockingCheck)> = vec![
            (key("a"), Box::new(|| false)),
            (key("b"), Box::new(|| true)),
        ];
        assert_eq!(find_drift(checks).await, [key("b")]);
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_checked_alone_after_one_of_them_hangs() {
        let (release, hang) = mpsc::channel::<()>();
        let hangs = move || hang.recv().is_ok();
        let checks: Vec<(KeyName, BlockingCheck)> =
            vec![(key("a"), Box::new(|| false)), (key("b"), Box::new(hangs))];
        let found = tokio::spawn(find_drift(checks));
        tokio::task::yield_now().await;
        tokio::time::advance(BATCH_TIMEOUT).await;
        assert_eq!(found.await.unwrap(), [key("a"), key("b")]);
        drop(release);
    }
}
