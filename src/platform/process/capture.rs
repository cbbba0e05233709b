//! The output of a program, as far as it is kept.

use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::core::redact::sanitize_lines;

/// How much is kept of each of the two outputs. The rest is read and dropped:
/// the program would block otherwise.
const MAX_CAPTURED_BYTES: usize = 8 * 1024;

/// How many lines are kept: each becomes a line of the log.
const MAX_CAPTURED_LINES: usize = 100;

/// The output of a program: redacted, sanitized and cut.
#[derive(Debug, Default)]
pub struct CapturedOutput {
    /// Its lines.
    pub lines: Vec<String>,
    /// Whether there was more.
    pub is_truncated: bool,
}

impl CapturedOutput {
    /// The lines, and a note if there was more.
    pub fn display_lines(&self) -> impl Iterator<Item = &str> {
        let more = self.is_truncated.then_some("(the rest is not shown)");
        self.lines.iter().map(String::as_str).chain(more)
    }
}

/// One of the two outputs. It is wiped, since it may hold the secret.
pub(super) struct OutputCapture {
    bytes: Zeroizing<Vec<u8>>,
    is_truncated: bool,
}

impl OutputCapture {
    pub(super) fn new() -> Self {
        Self {
            // With its full capacity: a buffer that grows leaves copies behind.
            bytes: Zeroizing::new(Vec::with_capacity(MAX_CAPTURED_BYTES)),
            is_truncated: false,
        }
    }

    /// Reads to the end.
    pub(super) async fn read(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut chunk = Zeroizing::new([0; 4 * 1024]);
        // An error counts as the end.
        while let Ok(length @ 1..) = from.read(&mut chunk[..]).await {
            let kept = length.min(MAX_CAPTURED_BYTES - self.bytes.len());
            self.bytes.extend_from_slice(&chunk[..kept]);
            self.is_truncated |= kept < length;
        }
    }

    /// Redacts and sanitizes the output. `is_whole` says that the program ended
    /// it by itself.
    pub(super) fn to_captured_output(&self, is_whole: bool) -> CapturedOutput {
        let mut lines = sanitize_lines(&self.bytes, self.is_truncated || !is_whole);
        let is_cut = self.is_truncated || lines.len() > MAX_CAPTURED_LINES;
        lines.truncate(MAX_CAPTURED_LINES);
        CapturedOutput {
            lines,
            is_truncated: is_cut,
        }
    }
}
