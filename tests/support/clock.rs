//! A wall clock for real processes that a test can set, by libfaketime.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rekeyd::platform::clock::{Clock as _, SystemClock};
use tempfile::TempDir;

use super::host::report_unsupported;

/// The clock of every process that has its [`FakeClock::environment`]. It runs like a
/// real clock, and must outlive those processes.
pub struct FakeClock {
    library: String,
    dir: TempDir,
}

impl FakeClock {
    /// Returns a clock that shows `time`; none if `REKEYD_FAKETIME` does not name the
    /// library.
    pub fn at(time: &str) -> Option<Self> {
        let Ok(library) = std::env::var("REKEYD_FAKETIME") else {
            report_unsupported("REKEYD_FAKETIME does not name libfaketime's library");
            return None;
        };
        // The dynamic linker only warns of a library that it cannot load.
        assert!(Path::new(&library).is_file(), "no file {library}");
        let clock = Self {
            library,
            dir: super::scratch_dir(),
        };
        clock.set(time);
        Some(clock)
    }

    /// Returns the environment variables with which a process uses this clock.
    pub fn environment(&self) -> Vec<(String, String)> {
        let offset = self.dir.path().join("offset").display().to_string();
        let variables = [
            ("LD_PRELOAD", self.library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &offset),
            // The library reads the file at every call, so that all processes step at
            // once.
            ("FAKETIME_NO_CACHE", "1"),
            // Only the wall clock steps, as on a real host.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        let variables = variables.into_iter();
        let owned = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        owned.collect()
    }

    /// Sets the clock to `time`, within a second.
    pub fn set(&self, time: &str) {
        let time: Timestamp = time.parse().unwrap();
        self.shift_to(time.as_second() - SystemClock.now().as_second());
    }

    /// Sets the clock to the time of this host.
    pub fn reset(&self) {
        self.shift_to(0);
    }

    /// Sets the clock ahead by this many seconds.
    pub fn step(&self, seconds: i64) {
        self.shift_to(self.offset() + seconds);
    }

    /// Returns the time of the clock.
    pub fn now(&self) -> Timestamp {
        SystemClock.now() + jiff::SignedDuration::from_secs(self.offset())
    }

    /// Waits until the clock shows `time`.
    pub fn wait_until(&self, time: &str) {
        let time: Timestamp = time.parse().unwrap();
        while self.now() < time {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn offset(&self) -> i64 {
        let text = fs::read_to_string(self.dir.path().join("offset")).unwrap();
        text.trim().parse().unwrap()
    }

    /// Replaces the file at once: the library ends a process that reads an empty one.
    fn shift_to(&self, seconds: i64) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).unwrap();
        fs::rename(new, self.dir.path().join("offset")).unwrap();
    }
}

impl Drop for FakeClock {
    /// A killed process leaves the library's shared memory behind, and a later process
    /// with the same id would not start.
    fn drop(&mut self) {
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            let id = ["faketime_shm_", "sem.faketime_sem_"]
                .iter()
                .find_map(|prefix| name.strip_prefix(prefix));
            if id.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                // Another test may have removed it first.
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
