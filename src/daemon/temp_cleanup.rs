//! Removes the temporary files, with secrets in them, that a killed process
//! left beside the files of sinks, before anything is written there.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::settings::{KeySettings, Settings};
use crate::core::duration;
use crate::core::ids::{KeyName, SinkId};
use crate::core::plural::counted;
use crate::platform::run_blocking;
use crate::sink;
use crate::sink::SinkProblem;
use crate::sink::file::settings::FileTarget;
use crate::sink::file::{FileSink, stale_temp, temp_name};
use crate::sink::protected_files::ProtectedFiles;
use crate::sink::target::SinkSettings;

/// The time limit of the search for temporary files.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The time limit of the search and all removals together: a file system that hangs holds
/// up a start for no longer.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(10);

/// The time at which a cleanup ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CleanupDeadline(Instant);

impl CleanupDeadline {
    /// Returns the deadline of all cleanups that begin now.
    pub(crate) fn starting_now() -> Self {
        Self(Instant::now() + CLEANUP_TIMEOUT)
    }

    fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Removes the temporary files beside the files of sinks. Skips those of
/// `previous`, which a delivery may be writing.
pub(crate) async fn remove_stale_temps(
    settings: &Settings,
    previous: Option<&Settings>,
    deadline: CleanupDeadline,
) {
    let previous = previous.into_iter().flat_map(sink_files);
    let previous: HashSet<_> = previous
        .map(|(_, _, target)| target_path(&target).to_owned())
        .collect();
    let files: Vec<_> = sink_files(settings)
        .filter(|(_, _, target)| !previous.contains(target_path(target)))
        .collect();
    let absent = check_absent(files.iter().map(|(_, _, target)| target), deadline).await;
    let stale = without_absent(files, absent).map(|(key, sink, target)| SinkFile {
        key: key.name.clone(),
        sink: Arc::clone(sink),
        target,
        protected: Arc::clone(&settings.protected_files),
    });
    remove_all(stale, deadline).await;
}

/// Removes the temporary files beside the files of removed sinks, `(key, sink)`
/// each, which may have been removed while rekeyd was not running. One that bears the
/// name of a configured sink's file is that file.
pub(crate) async fn remove_stale_temps_of_removed_sinks(
    settings: &Settings,
    sinks: impl Iterator<Item = (&KeyName, &SinkId)>,
    deadline: CleanupDeadline,
) {
    let configured = sink_files(settings);
    let configured: HashSet<_> = configured
        .map(|(_, _, target)| target.path.clone())
        .collect();
    let files = sinks.filter_map(|(key, id)| {
        let path = sink::replaced_path(&id.target)?;
        if configured.contains(&temp_name::former_temp_path(&path)) {
            return None;
        }
        let target = Arc::new(FileTarget::with_defaults(path));
        let sink = SinkSettings {
            id: id.clone(),
            required: false,
            timeout: CLEANUP_TIMEOUT,
            target: Arc::<FileTarget>::clone(&target),
        };
        Some(SinkFile {
            key: key.clone(),
            sink: Arc::new(sink),
            target,
            protected: Arc::clone(&settings.protected_files),
        })
    });
    let files: Vec<_> = files.collect();
    if files.is_empty() {
        return;
    }
    let absent = check_absent(files.iter().map(|file| &file.target), deadline).await;
    remove_all(without_absent(files, absent), deadline).await;
}

/// Returns the files that may have a temporary file beside them.
fn without_absent<T>(files: Vec<T>, absent: Vec<bool>) -> impl Iterator<Item = T> {
    let files = files.into_iter().zip(absent);
    files.filter(|(_, absent)| !absent).map(|(file, _)| file)
}

async fn remove_all(files: impl Iterator<Item = SinkFile>, deadline: CleanupDeadline) {
    let mut removals = JoinSet::new();
    for file in files {
        removals.spawn(async move {
            let result = FileSink::new(&file.sink, &file.target, &file.protected)
                .remove_stale_temp()
                .await;
            file.log_removal(result);
        });
    }
    // A file system that hangs must not delay the start.
    let all = async { while removals.join_next().await.is_some() {} };
    if tokio::time::timeout_at(deadline.0, all).await.is_err() {
        tracing::error!(
            "cannot check within {} whether an earlier process left a temporary file with a secret \
             beside {}; hint: check whether a file system hangs",
            duration::to_text(CLEANUP_TIMEOUT),
            counted(removals.len(), "file")
        );
    }
}

/// The file of a sink of a key, which may be removed from the configuration.
struct SinkFile {
    key: KeyName,
    sink: Arc<SinkSettings>,
    target: Arc<FileTarget>,
    protected: Arc<ProtectedFiles>,
}

impl SinkFile {
    fn log_removal(&self, result: Result<bool, SinkProblem>) {
        let (key, sink) = (&self.key, &self.sink.id.name);
        match result {
            Ok(true) => tracing::warn!(%key, %sink,
                "{key}: removed a temporary file that an earlier process left beside {}",
                self.target.path.display()),
            Ok(false) => {}
            Err(error) => tracing::error!(%key, %sink,
                "{key}: sink {sink}: cannot look for a temporary file that an earlier process \
                 left: {error}"),
        }
    }
}

fn target_path(target: &FileTarget) -> &OsStr {
    target.path.as_os_str()
}

/// Returns for each of `targets` whether certainly no temporary file is beside
/// it; false for all if the search hangs. One search covers them all, since
/// there is nearly never such a file.
async fn check_absent(
    targets: impl Iterator<Item = &Arc<FileTarget>>,
    deadline: CleanupDeadline,
) -> Vec<bool> {
    let targets: Vec<_> = targets.cloned().collect();
    let all_uncertain = vec![false; targets.len()];
    let search = move || stale_temp::temp_files_absent(&targets);
    let describe = || "the search for temporary files".to_owned();
    run_blocking(describe, CHECK_TIMEOUT.min(deadline.remaining()), search)
        .await
        .unwrap_or(all_uncertain)
}

/// Lists the files that sinks write, each with its key and its sink.
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
