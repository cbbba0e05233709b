//! What an earlier process that was killed left half written beside the files
//! of sinks: a secret, to be removed before anything else is written there.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::core::duration;
use crate::core::names::KeyName;
use crate::core::settings::{FileTarget, KeySettings, Settings, SinkSettings, SinkTarget};
use crate::host::look;
use crate::sink::file::{FileSink, leftover};

/// How long a look at all places together may take.
const LOOK: Duration = Duration::from_secs(2);

/// How long the removals may take, all of them together.
const REMOVALS: Duration = Duration::from_secs(10);

/// Removes the secrets that an earlier process left half written beside the
/// files of sinks. Those of `before` are left alone: one of them may be being
/// written now.
pub(crate) async fn remove(settings: &Settings, before: Option<&Settings>) {
    let before = before.into_iter().flat_map(files);
    let before: HashSet<_> = before.map(|(_, _, target)| written(target)).collect();
    let files: Vec<_> = files(settings)
        .filter(|(_, _, target)| !before.contains(written(target)))
        .collect();
    let absent = absent(files.iter().map(|(_, _, target)| *target)).await;
    let mut removals = JoinSet::new();
    for ((key, sink, target), _) in files.into_iter().zip(absent).filter(|(_, absent)| !absent) {
        let (key, sink, target) = (key.name.clone(), Arc::clone(sink), Arc::clone(target));
        removals.spawn(async move {
            let removed = FileSink::new(&sink, &target).remove_leftover().await;
            tell_of_leftover(&key, &sink, &target, removed);
        });
    }
    // What hangs must not keep all else from being begun.
    let all = async { while removals.join_next().await.is_some() {} };
    if tokio::time::timeout(REMOVALS, all).await.is_err() {
        tracing::error!(
            "whether an earlier process left a secret half written beside {} files could not be \
             seen within {}; see whether a file system hangs",
            removals.len(),
            duration::to_text(REMOVALS)
        );
    }
}

fn tell_of_leftover(
    key: &KeyName,
    sink: &SinkSettings,
    target: &FileTarget,
    removed: Result<bool, String>,
) {
    match removed {
        Ok(true) => tracing::warn!(%key, sink = %sink.id,
            "removed what an earlier process left half written beside {}", target.path.display()),
        Ok(false) => {}
        Err(error) => tracing::error!(%key, sink = %sink.id, "{error}"),
    }
}

fn written(target: &FileTarget) -> &OsStr {
    target.path.as_os_str()
}

/// Beside which of `targets` certainly nothing was left: one look at all of
/// them together, since that is how it is nearly always. What hangs is left to
/// the careful way.
async fn absent(targets: impl Iterator<Item = &Arc<FileTarget>>) -> Vec<bool> {
    let targets: Vec<_> = targets.cloned().collect();
    let none = vec![false; targets.len()];
    let look = move || leftover::absent_beside(&targets);
    look::aside(LOOK, look).await.unwrap_or(none)
}

/// A file that a sink of a key writes.
type File<'s> = (&'s KeySettings, &'s Arc<SinkSettings>, &'s Arc<FileTarget>);

/// Every file that a sink writes.
fn files(settings: &Settings) -> impl Iterator<Item = File<'_>> {
    settings.keys.iter().flat_map(|key| {
        key.sinks.iter().filter_map(move |sink| match &sink.target {
            SinkTarget::File(target) | SinkTarget::Own(target) => Some((key, sink, target)),
            SinkTarget::Webhook(_) | SinkTarget::Command(_) => None,
        })
    })
}
