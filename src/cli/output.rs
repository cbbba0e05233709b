//! Standard output for data, standard error for messages.

use std::io::{ErrorKind, Write as _};

use crate::cli::Failure;

/// Writes data. A reader that went away is no failure.
pub(crate) fn print(data: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Other(format!(
            "cannot write to standard output: {error}"
        ))),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes one JSON document and a newline.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(format!("{value:#}\n").as_bytes())
}

/// Writes a message, each line of it marked as an error.
pub(crate) fn report_error(text: &str) {
    let mut out = std::io::stderr().lock();
    for line in text.lines() {
        // There is nowhere left to tell of a failure.
        let _ = writeln!(out, "error: {line}");
    }
}

/// Writes a message that is no error.
pub(crate) fn report_warning(text: &str) {
    // There is nowhere left to tell of a failure.
    let _ = writeln!(std::io::stderr().lock(), "warning: {text}");
}
