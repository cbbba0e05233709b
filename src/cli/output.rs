//! Standard output for data, standard error for messages.

use std::io::{self, BufWriter, ErrorKind, IsTerminal as _, Write};

use serde::Serialize;
use serde_json::Serializer;

use crate::cli::failure::{Failure, ProblemFormat};
use crate::cli::json_output::VisibleFormatter;
use crate::cli::logging;
use crate::cli::terminal_text::{TerminalWriter, visible};
use crate::config::render_problems;
use crate::core::os_error;
use crate::ledger::LedgerError;
use crate::platform::log::queue;

/// Writes data. A closed pipe is no failure.
pub(crate) fn print(data: &[u8]) -> Result<(), Failure> {
    print_stream(|out| Ok(out.write_all(data)?))
}

/// Writes a message that the daemon or the provider worded, as a terminal shows it.
pub(crate) fn print_message(text: &str) -> Result<(), Failure> {
    print(format!("{}\n", visible(text)).as_bytes())
}

/// The failure to print data that is read from the ledger.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrintError {
    /// Standard output cannot be written.
    #[error("{}", os_error::describe(.0))]
    Output(#[from] io::Error),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Writes data piece by piece, and stops if the pipe is closed.
pub(crate) fn print_stream(
    write: impl FnOnce(&mut dyn Write) -> Result<(), PrintError>,
) -> Result<(), Failure> {
    let stdout = BufWriter::new(io::stdout().lock());
    let mut out: Box<dyn Write> = if io::stdout().is_terminal() {
        Box::new(TerminalWriter::new(stdout))
    } else {
        Box::new(stdout)
    };
    match write(&mut out).and_then(|()| Ok(out.flush()?)) {
        Ok(()) => Ok(()),
        Err(PrintError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(PrintError::Output(error)) => Err(Failure::Other(format!(
            "cannot write to standard output: {}",
            os_error::describe(&error)
        ))),
        Err(PrintError::Ledger(error)) => Err(error.into()),
    }
}

/// Writes one JSON document and a newline.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    // By way of a value, which orders the members by name.
    let value = serde_json::to_value(value).map_err(|error| Failure::Other(error.to_string()))?;
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, VisibleFormatter::default());
    let written = value.serialize(&mut serializer);
    written.map_err(|error| Failure::Other(error.to_string()))?;
    text.push(b'\n');
    print(&text)
}

/// Writes the failure of a command. Problems of a configuration are shown with
/// their lines on a terminal, unless the command asks for one line each.
pub(crate) fn report_failure(failure: &Failure) {
    let text = failure.to_string();
    if let Failure::Problems { problems, format } = failure
        && *format == ProblemFormat::Auto
        && io::stderr().is_terminal()
    {
        write_message(&render_problems(problems, logging::may_color()));
    } else if !text.is_empty() {
        report_error(&text);
    }
}

/// Writes a message, each line of it marked as an error.
pub(crate) fn report_error(text: &str) {
    let lines: String = visible(text)
        .lines()
        .map(|line| format!("error: {line}\n"))
        .collect();
    write_message(&lines);
}

/// Writes a remark about what follows, if there is one.
pub(crate) fn report_note(text: &str) {
    if !text.is_empty() {
        write_message(&format!("note: {}\n", visible(text)));
    }
}

/// Writes a message that is no error.
pub(crate) fn report_warning(text: &str) {
    write_message(&format!("warning: {}\n", visible(text)));
}

/// Writes to standard error, after what is logged there.
fn write_message(message: &str) {
    if !queue::write(message) {
        // A failure cannot be reported anywhere.
        let _ = io::stderr().lock().write_all(message.as_bytes());
    }
}
