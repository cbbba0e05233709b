//! Removes the temporary files that a killed process left beside the files of
//! sinks, with secrets in them, before anything else is written there.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::config::settings::{KeySettings, Settings};
use crate::core::duration;
use crate::core::ids::{KeyName, SinkId};
use crate::platform::run_blocking;
use crate::sink;
use crate::sink::SinkProblem;
use crate::sink::file::settings::FileTarget;
use crate::sink::file::{FileSink, stale_temp};
use crate::sink::target::SinkSettings;

/// How long the search for temporary files may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long all removals together may take.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes the temporary files beside the files of sinks. Those of `before` are
/// left alone: a delivery may be writing one of them.
pub(crate) async fn remove_stale_temps(settings: &Settings, before: Option<&Settings>) {
    let before = before.into_iter().flat_map(sink_files);
    let before: HashSet<_> = before
        .map(|(_, _, target)| target_path(&target).to_owned())
        .collect();
    let files: Vec<_> = sink_files(settings)
        .filter(|(_, _, target)| !before.contains(target_path(target)))
        .collect();
    let absent = check_absent(files.iter().map(|(_, _, target)| target)).await;
    let left = without_absent(files, absent).map(|(key, sink, target)| SinkFile {
        key: key.name.clone(),
        sink: Arc::clone(sink),
        target,
    });
    remove_all(left).await;
}

/// Removes the temporary files beside the files of removed sinks, `(key, sink)`
/// each: they may have been removed while no rekeyd was running.
pub(crate) async fn remove_stale_temps_of_removed_sinks(
    sinks: impl Iterator<Item = (&KeyName, &SinkId)>,
) {
    let files = sinks.filter_map(|(key, id)| {
        let path = sink::replaced_path(&id.target)?;
        let target = Arc::new(FileTarget::with_defaults(path));
        let sink = SinkSettings {
            id: id.clone(),
            required: false,
            timeout: REMOVAL_TIMEOUT,
            target: Arc::<FileTarget>::clone(&target),
        };
        Some(SinkFile {
            key: key.clone(),
            sink: Arc::new(sink),
            target,
        })
    });
    let files: Vec<_> = files.collect();
    if files.is_empty() {
        return;
    }
    let absent = check_absent(files.iter().map(|file| &file.target)).await;
    remove_all(without_absent(files, absent)).await;
}

/// The files beside which there may be a temporary file.
fn without_absent<T>(files: Vec<T>, absent: Vec<bool>) -> impl Iterator<Item = T> {
    let files = files.into_iter().zip(absent);
    files.filter(|(_, absent)| !absent).map(|(file, _)| file)
}

async fn remove_all(files: impl Iterator<Item = SinkFile>) {
    let mut removals = JoinSet::new();
    for file in files {
        removals.spawn(async move {
            let removed = FileSink::new(&file.sink, &file.target)
                .remove_stale_temp()
                .await;
            file.log_removal(removed);
        });
    }
    // A file system that hangs must not delay the start.
    let all = async { while removals.join_next().await.is_some() {} };
    if tokio::time::timeout(REMOVAL_TIMEOUT, all).await.is_err() {
        tracing::error!(
            "whether an earlier process left a secret half written beside {} files could not be \
             seen within {}; see whether a file system hangs",
            removals.len(),
            duration::to_text(REMOVAL_TIMEOUT)
        );
    }
}

/// A file that a sink of a key writes, or wrote.
struct SinkFile {
    key: KeyName,
    sink: Arc<SinkSettings>,
    target: Arc<FileTarget>,
}

impl SinkFile {
    fn log_removal(&self, removed: Result<bool, SinkProblem>) {
        let (key, sink) = (&self.key, &self.sink.id);
        match removed {
            Ok(true) => tracing::warn!(%key, %sink,
                "removed what an earlier process left half written beside {}",
                self.target.path.display()),
            Ok(false) => {}
            Err(error) => tracing::error!(%key, %sink, "{error}"),
        }
    }
}

fn target_path(target: &FileTarget) -> &OsStr {
    target.path.as_os_str()
}

/// Returns for each of `targets` whether there is certainly no temporary file:
/// one search for all of them, since there is nearly never one. False for all
/// if the search hangs.
async fn check_absent(targets: impl Iterator<Item = &Arc<FileTarget>>) -> Vec<bool> {
    let targets: Vec<_> = targets.cloned().collect();
    let none = vec![false; targets.len()];
    let look = move || stale_temp::temp_files_absent(&targets);
    let describe = || "the search for temporary files".to_owned();
    run_blocking(describe, CHECK_TIMEOUT, look)
        .await
        .unwrap_or(none)
}

/// Every file that a sink writes, with its key and its sink.
fn sink_files(
    settings: &Settings,
) -> impl Iterator<Item = (&KeySettings, &Arc<SinkSettings>, Arc<FileTarget>)> {
    settings.keys.iter().flat_map(|key| {
        key.sinks.iter().filter_map(move |sink| {
            let target = Arc::clone(&sink.target).replaced_file()?;
            Some((key, sink, target))
        })
    })
}
