//! The captured part of a program's output.

use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::core::redact::sanitize_lines;

/// The bytes that are kept of each output. The rest is read and dropped, since
/// a full pipe would block the program.
const MAX_CAPTURED_BYTES: usize = 8 * 1024;

/// The number of lines that are kept: each becomes a line of the log.
const MAX_CAPTURED_LINES: usize = 100;

/// The output of a program: redacted, sanitized and truncated.
#[derive(Debug, Default)]
pub struct CapturedOutput {
    /// Its lines.
    pub lines: Vec<String>,
    /// Whether lines were dropped.
    pub is_truncated: bool,
}

impl CapturedOutput {
    /// Returns the lines, and a note if some were dropped.
    pub fn display_lines(&self) -> impl Iterator<Item = &str> {
        let note = self.is_truncated.then_some("(output truncated)");
        self.lines.iter().map(String::as_str).chain(note)
    }
}

/// A standard output or error. Wiped on drop, since it may hold the secret.
pub(super) struct OutputCapture {
    bytes: Zeroizing<Vec<u8>>,
    is_truncated: bool,
}

impl OutputCapture {
    pub(super) fn new() -> Self {
        Self {
            // With its full capacity, since a buffer that grows leaves copies.
            bytes: Zeroizing::new(Vec::with_capacity(MAX_CAPTURED_BYTES)),
            is_truncated: false,
        }
    }

    /// Reads `output` to its end.
    pub(super) async fn read(&mut self, output: Option<impl AsyncRead + Unpin>) {
        let Some(mut output) = output else { return };
        let mut chunk = Zeroizing::new([0; 4 * 1024]);
        // An error counts as the end.
        while let Ok(length @ 1..) = output.read(&mut chunk[..]).await {
            let kept_length = length.min(MAX_CAPTURED_BYTES - self.bytes.len());
            self.bytes.extend_from_slice(&chunk[..kept_length]);
            self.is_truncated |= kept_length < length;
        }
    }

    /// Redacts and sanitizes the output. `is_whole` is false if the program was
    /// killed and may have been cut off. The output may quote the values that were `sent`.
    pub(super) fn to_captured_output(&self, is_whole: bool, sent: &[&str]) -> CapturedOutput {
        let mut lines = sanitize_lines(&self.bytes, self.is_truncated || !is_whole, sent);
        let is_truncated = self.is_truncated || lines.len() > MAX_CAPTURED_LINES;
        lines.truncate(MAX_CAPTURED_LINES);
        CapturedOutput {
            lines,
            is_truncated,
        }
    }
}
