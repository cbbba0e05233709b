//! What a test logs, line by line.

use std::io;
use std::sync::{Arc, Mutex, Once};

use tracing::subscriber::DefaultGuard;

/// The log of the thread that made it.
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
    /// Listens until the guard is dropped.
    pub(crate) fn capture() -> (Self, DefaultGuard) {
        // With one listener only, tracing asks whichever thread comes first to
        // a line whether anybody wants it, and remembers the answer for all.
        static SOMEBODY: Once = Once::new();
        SOMEBODY.call_once(|| {
            let everybody = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::INFO)
                .with_writer(io::sink)
                .finish();
            tracing::subscriber::set_global_default(everybody).unwrap();
        });
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// The lines at `level` with `text` in them.
    pub(crate) fn lines_with(&self, level: &str, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let expected = |line: &&str| line.contains(level) && line.contains(text);
        log.lines().filter(expected).map(str::to_owned).collect()
    }
}
