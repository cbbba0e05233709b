//! Whether the configuration file has changed, and has stayed the same since: for the metrics,
//! and for `[control] reload-on-change`.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::config;
use crate::config::settings::Settings;
use crate::platform::file_stamp::FileStamp;
use crate::platform::{BlockingError, run_blocking};

/// The interval at which a daemon checks the file that takes it by itself.
const SHORT_INTERVAL: Duration = Duration::from_secs(1);

/// The interval at which any other daemon checks it, for the metrics.
const LONG_INTERVAL: Duration = Duration::from_secs(30);

/// How long a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a changed file must stay the same before it is read: an editor, or a program that
/// writes several files, may not be done.
const QUIET_PERIOD: Duration = Duration::from_secs(5);

/// The configuration file, as a check saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenConfig {
    /// None if there is no file.
    pub(crate) stamp: Option<FileStamp>,
    /// Whether its text is another one than the daemon has loaded.
    pub(crate) is_changed: bool,
}

impl SeenConfig {
    /// Looks at the file, and reads it if it is another one than the loaded one. Blocks.
    fn of(file: &Path, loaded: Option<FileStamp>, digest: &str) -> Self {
        let stamp = FileStamp::of(file);
        let has_text =
            || std::fs::read_to_string(file).is_ok_and(|text| config::digest(&text) == digest);
        Self {
            stamp,
            is_changed: stamp != loaded && !has_text(),
        }
    }
}

/// Watches the configuration file.
#[derive(Default)]
pub(crate) struct ConfigWatch {
    checks: JoinSet<Result<SeenConfig, BlockingError>>,
    checked_at: Option<Instant>,
    /// The file that was read last because it had changed.
    read: Option<Option<FileStamp>>,
    /// A changed file that was not read yet, and since when it is the same.
    changed: Option<(Option<FileStamp>, Instant)>,
}

impl ConfigWatch {
    /// Checks the file of `settings`, if that is due and no check is in progress.
    pub(crate) fn check(&mut self, settings: &Settings) {
        let interval = if settings.control.reload_on_change {
            SHORT_INTERVAL
        } else {
            LONG_INTERVAL
        };
        let is_due = self.checked_at.is_none_or(|at| at.elapsed() >= interval);
        if is_due && self.checks.is_empty() {
            self.checked_at = Some(Instant::now());
            let (file, stamp) = (settings.file.clone(), settings.stamp);
            let digest = settings.digest.clone();
            let describe = || "checking the configuration file".to_owned();
            let check = run_blocking(describe, CHECK_TIMEOUT, move || {
                SeenConfig::of(&file, stamp, &digest)
            });
            self.checks.spawn(check);
        }
    }

    /// Waits for the end of a check, and returns what it saw. Cancel safe.
    pub(crate) async fn seen(&mut self) -> SeenConfig {
        loop {
            match self.checks.join_next().await {
                None => std::future::pending().await,
                Some(Ok(Ok(seen))) => return seen,
                // The next check may show more.
                Some(Ok(Err(_)) | Err(_)) => {}
            }
        }
    }

    /// Takes note of the file that was seen at `now`, where the daemon has loaded `loaded`.
    /// Returns whether the file has to be read: once for each change.
    pub(crate) fn note(
        &mut self,
        seen: Option<FileStamp>,
        loaded: Option<FileStamp>,
        now: Instant,
    ) -> bool {
        // The loaded file is back in its place if another one was read since.
        if seen == self.read.unwrap_or(loaded) {
            self.changed = None;
            return false;
        }
        match self.changed {
            Some((changed, since)) if changed == seen => {
                let is_quiet = now.duration_since(since) >= QUIET_PERIOD;
                if is_quiet {
                    self.read = Some(seen);
                    self.changed = None;
                }
                is_quiet
            }
            Some(_) | None => {
                self.changed = Some((seen, now));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_file_is_read_once_when_it_has_stayed_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let write = |text: &str| {
            std::fs::write(&path, text).unwrap();
            FileStamp::of(&path)
        };
        let mut watch = ConfigWatch::default();
        let start = Instant::now();
        let mut note = |seen, loaded, seconds| {
            let now = start + Duration::from_secs(seconds);
            watch.note(seen, loaded, now)
        };
        let loaded = write("1");
        assert!(!note(loaded, loaded, 0));
        assert!(!note(loaded, loaded, 60));
        let half = write("12");
        assert!(!note(half, loaded, 61));
        assert!(!note(half, loaded, 65));
        // It is still being written.
        let whole = write("123");
        assert!(!note(whole, loaded, 66));
        assert!(!note(whole, loaded, 70));
        assert!(note(whole, loaded, 71));
        assert!(!note(whole, loaded, 80), "it was refused, or waits");
        assert!(!note(whole, whole, 90), "it was loaded");
        // A file that is gone is a change as well, and so is the loaded one when it is back.
        assert!(!note(None, whole, 91));
        assert!(note(None, whole, 96));
        assert!(!note(None, whole, 120));
        assert!(!note(whole, whole, 121));
        assert!(note(whole, whole, 126));
        assert!(!note(whole, whole, 140));
    }
}
