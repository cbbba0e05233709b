//! Inspects the targets of many sinks, on few threads.

use std::sync::LazyLock;
use std::time::Duration;

use super::TargetContent;
use super::contract::BlockingInspection;
use crate::core::plural::counted;
use crate::platform::BlockingPool;

/// The threads of these inspections: one pass over the files of 10,000 keys would start
/// hundreds otherwise.
static INSPECTIONS: LazyLock<BlockingPool> = LazyLock::new(|| BlockingPool::new(8));

/// How long the inspections of several targets may take before each runs alone.
const BATCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs several inspections on one thread, and returns what `compare` makes of each
/// content. None if one of them hangs.
pub(crate) async fn inspect_batch<T: Send + 'static>(
    inspections: Vec<BlockingInspection>,
    compare: impl Fn(usize, TargetContent) -> Option<T> + Send + 'static,
) -> Option<Vec<T>> {
    let count = inspections.len();
    let describe = || format!("reading {}", counted(count, "file"));
    let inspected = INSPECTIONS.run(describe, BATCH_TIMEOUT, move || {
        inspect_at_once(inspections, compare)
    });
    inspected.await.ok()
}

/// Runs several inspections on this thread, and returns what `compare` makes of each
/// content.
pub(crate) fn inspect_at_once<T>(
    inspections: Vec<BlockingInspection>,
    compare: impl Fn(usize, TargetContent) -> Option<T>,
) -> Vec<T> {
    let inspections = inspections.into_iter().enumerate();
    let found = inspections.filter_map(|(number, inspect)| compare(number, inspect()));
    found.collect()
}
