//! The log of a test, line by line.

use std::io;
use std::sync::{Arc, Mutex, Once};

use tracing::Level;
use tracing::subscriber::DefaultGuard;

/// The log of the thread that created it.
#[derive(Clone, Default)]
pub(crate) struct CapturedLog(Arc<Mutex<Vec<u8>>>);

impl io::Write for CapturedLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CapturedLog {
    /// Captures the log until the guard is dropped.
    pub(crate) fn capture() -> (Self, DefaultGuard) {
        Self::capture_from(Level::INFO)
    }

    /// Captures the log from this level on.
    pub(crate) fn capture_from(level: Level) -> (Self, DefaultGuard) {
        // With a single subscriber, tracing caches for all threads whether the first one
        // to reach a line logs it.
        static GLOBAL_SUBSCRIBER: Once = Once::new();
        GLOBAL_SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(Level::INFO)
                .with_writer(io::sink)
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// Returns the lines at `level` that contain `text`.
    pub(crate) fn lines_with(&self, level: &str, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let expected = |line: &&str| line.contains(level) && line.contains(text);
        log.lines().filter(expected).map(str::to_owned).collect()
    }
}
