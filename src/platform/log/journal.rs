//! Entries of systemd's journal in its native protocol: each field is its name, the length
//! of its value in eight bytes, and the value.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::platform::log::queue::{Lane, LogQueue};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The identifier of all entries.
const IDENTIFIER: &str = "rekeyd";

/// The prefix of field names in the journal, as in `REKEYD_KEY`.
const FIELD_PREFIX: &str = "REKEYD_";

/// The length of the longest value, in bytes: a datagram holds a few of them.
const MAX_VALUE_BYTES: usize = 48 * 1024;

/// The journal's socket. Entries go to its path, so that a restarted journal gets them.
#[derive(Debug)]
pub(crate) struct JournalSocket(UnixDatagram);

impl JournalSocket {
    /// Returns a socket for the journal, if one listens.
    pub(crate) fn connect() -> io::Result<Self> {
        let socket = Self(UnixDatagram::unbound()?);
        socket.probe()?;
        Ok(socket)
    }

    /// Checks that a journal listens. It ignores an empty datagram, and one that takes none
    /// at present exists nevertheless.
    fn probe(&self) -> io::Result<()> {
        self.0.set_nonblocking(true)?;
        let sent = self.0.send_to(&[], SOCKET);
        self.0.set_nonblocking(false)?;
        match sent {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Returns a second socket, on which no send blocks.
    pub(crate) fn without_blocking() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Sends an entry.
    pub(crate) fn send(&self, entry: &[u8]) -> io::Result<()> {
        self.0.send_to(entry, SOCKET).map(drop)
    }
}

/// What takes the entries.
pub(crate) enum JournalOutput {
    /// The queue before the journal.
    Queue(LogQueue),
    /// The journal itself, for which a command may wait.
    Socket(Arc<JournalSocket>),
}

/// Forms an entry of each event.
pub(crate) struct JournalLayer(pub(crate) JournalOutput);

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::of(metadata);
        event.record(&mut entry);
        match &self.0 {
            JournalOutput::Queue(queue) => queue.push(Lane::of(metadata), entry.0),
            // A failure cannot be reported anywhere.
            JournalOutput::Socket(socket) => drop(socket.send(&entry.0)),
        }
    }
}

/// One entry.
pub(crate) struct Entry(pub(crate) Vec<u8>);

impl Entry {
    fn of(metadata: &Metadata<'_>) -> Self {
        let mut entry = Self::new(priority(metadata.level()));
        entry.put("TARGET", metadata.target());
        if let Some(file) = metadata.file() {
            entry.put("CODE_FILE", file);
        }
        if let Some(line) = metadata.line() {
            entry.put("CODE_LINE", &line.to_string());
        }
        entry
    }

    fn new(priority: &str) -> Self {
        let mut entry = Self(Vec::with_capacity(512));
        entry.put("PRIORITY", priority);
        entry.put("SYSLOG_IDENTIFIER", IDENTIFIER);
        entry
    }

    /// Returns an entry of the level `error` with this message.
    pub(crate) fn error(message: &str) -> Self {
        let mut entry = Self::new(priority(&Level::ERROR));
        entry.put("MESSAGE", message);
        entry
    }

    /// Adds a field.
    fn put(&mut self, name: &str, value: &str) {
        let value = truncate(value);
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0
            .extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    fn put_recorded(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.put("MESSAGE", value);
        } else {
            self.put(&field_name(field.name()), value);
        }
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_recorded(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // A `String` takes everything.
        let _ = write!(text, "{value:?}");
        self.put_recorded(field, &text);
    }
}

/// Returns the usual priority of a level.
const fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Returns the name of a field in the journal, which takes capital letters, digits and
/// underscores alone.
fn field_name(name: &str) -> String {
    let allowed = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' => character.to_ascii_uppercase(),
        _ => '_',
    };
    let name = name.trim_start_matches('_').chars().map(allowed);
    FIELD_PREFIX.chars().chain(name).collect()
}

/// Returns the value without what would make a datagram too long.
fn truncate(value: &str) -> &str {
    let mut end = value.len().min(MAX_VALUE_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_is_its_name_its_length_and_its_value() {
        let mut entry = Entry(Vec::new());
        entry.put("MESSAGE", "two\nlines");
        assert_eq!(
            entry.0,
            b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n".as_slice()
        );
    }

    #[test]
    fn field_names_have_the_prefix_and_no_other_characters() {
        for (name, expected) in [
            ("key", "REKEYD_KEY"),
            ("retry_at", "REKEYD_RETRY_AT"),
            ("_log.target-x", "REKEYD_LOG_TARGET_X"),
        ] {
            assert_eq!(field_name(name), expected);
        }
    }

    #[test]
    fn long_value_is_cut_between_characters() {
        let long = format!("{}\u{e4}", "x".repeat(MAX_VALUE_BYTES - 1));
        assert_eq!(truncate(&long).len(), MAX_VALUE_BYTES - 1);
        assert_eq!(truncate("short"), "short");
    }
}
