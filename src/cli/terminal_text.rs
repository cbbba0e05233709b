//! Text for a terminal: what a ledger, a provider or a file holds must not move the cursor,
//! hide or reverse what is around it, or look like something else.

use std::io::{self, Write};
use std::path::Path;

use crate::core::redact::is_printable;

/// What clears the screen, which only the beginning of an output may do.
pub(crate) const CLEAR_SCREEN: &str = "\u{1b}[H\u{1b}[2J";

/// The beginning of a sequence that changes the colour of text.
const STYLE_START: &str = "\u{1b}[";

/// The longest of these sequences.
const MAX_STYLE_BYTES: usize = 8;

/// Returns `text` with a visible character in the place of each that a terminal does not show
/// as itself. Lines stay.
pub(crate) fn visible(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    push_visible(&mut clean, text);
    clean
}

/// As [`visible`], of a text that must not look like several lines: one that another process
/// has sent.
pub(crate) fn visible_line(text: &str) -> String {
    let shown = text.chars().map(|character| {
        if is_printable(character) {
            character
        } else {
            char::REPLACEMENT_CHARACTER
        }
    });
    shown.collect()
}

/// Returns a path that another process has sent, as [`visible_line`] shows it.
pub(crate) fn visible_path(path: &Path) -> String {
    visible_line(&path.display().to_string())
}

fn push_visible(clean: &mut String, text: &str) {
    let shown = text.chars().map(|character| {
        if is_printable(character) || matches!(character, '\n' | '\t') {
            character
        } else {
            char::REPLACEMENT_CHARACTER
        }
    });
    clean.extend(shown);
}

/// As [`visible`], of text with the colours that rekeyd gives it.
fn visible_in_colour(mut text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    while let Some(start) = text.find(STYLE_START) {
        let (before, rest) = text.split_at(start);
        push_visible(&mut clean, before);
        let end = style_length(rest).unwrap_or(1);
        let (style, after) = rest.split_at(end);
        if end > 1 {
            clean.push_str(style);
        } else {
            push_visible(&mut clean, style);
        }
        text = after;
    }
    push_visible(&mut clean, text);
    clean
}

/// Returns the length of the style at the beginning of `text`: bold, dim, a colour of the
/// foreground, or none. Others could hide text.
fn style_length(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix(STYLE_START)?;
    let (numbers, _) = numbers.split_once('m')?;
    let is_style = |number: &str| {
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        let number = number.parse::<u8>().ok().filter(|_| is_number);
        number.is_some_and(|number| matches!(number, 0..=2 | 22 | 30..=37 | 39 | 90..=97))
    };
    let length = STYLE_START.len() + numbers.len() + 1;
    (length <= MAX_STYLE_BYTES && numbers.split(';').all(is_style)).then_some(length)
}

/// Writes text to a terminal, as [`visible`] shows it. Buffers the last line.
pub(crate) struct TerminalWriter<W> {
    terminal: W,
    line: Vec<u8>,
    /// Whether nothing was written yet.
    is_start: bool,
}

impl<W: Write> TerminalWriter<W> {
    pub(crate) const fn new(terminal: W) -> Self {
        Self {
            terminal,
            line: Vec::new(),
            is_start: true,
        }
    }

    fn write_lines(&mut self, end: usize) -> io::Result<()> {
        let lines: Vec<u8> = self.line.drain(..end).collect();
        let lines = String::from_utf8_lossy(&lines);
        // CSV ends its lines like this.
        let lines = lines.replace("\r\n", "\n");
        let start = std::mem::take(&mut self.is_start);
        let clear = lines.strip_prefix(CLEAR_SCREEN).filter(|_| start);
        if clear.is_some() {
            self.terminal.write_all(CLEAR_SCREEN.as_bytes())?;
        }
        let text = visible_in_colour(clear.unwrap_or(&lines));
        self.terminal.write_all(text.as_bytes())
    }
}

impl<W: Write> Write for TerminalWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(last) = self.line.iter().rposition(|byte| *byte == b'\n') {
            self.write_lines(last + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.line.is_empty() {
            self.write_lines(self.line.len())?;
        }
        self.terminal.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_the_terminal() {
        for (text, expected) in [
            ("key_1\tcurrent\n", "key_1\tcurrent\n"),
            ("übel ● ▲\n", "übel ● ▲\n"),
            ("a\u{1b}]0;title\u{7}b", "a\u{fffd}]0;title\u{fffd}b"),
            ("a\u{1b}[2Jb", "a\u{fffd}[2Jb"),
            ("a\u{9b}2Jb\u{85}", "a\u{fffd}2Jb\u{fffd}"),
            ("a\rb\u{8}", "a\u{fffd}b\u{fffd}"),
            (
                "a\u{1b}]8;;http://x\u{1b}\\b",
                "a\u{fffd}]8;;http://x\u{fffd}\\b",
            ),
            ("key_\u{202e}1\u{2066}", "key_\u{fffd}1\u{fffd}"),
            ("a\u{200b}\u{e0041}\u{feff}", "a\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(visible(text), expected);
            assert_eq!(visible_in_colour(text), expected);
            let line = expected.replace(['\n', '\t'], "\u{fffd}");
            assert_eq!(visible_line(text), line);
        }
    }

    #[test]
    fn only_own_styles_stay() {
        for style in ["0", "1", "2", "31", "1;31", "39", "94"] {
            let text = format!("\u{1b}[{style}mred\u{1b}[0m");
            assert_eq!(visible_in_colour(&text), text);
            assert_eq!(visible(&text), format!("\u{fffd}[{style}mred\u{fffd}[0m"));
        }
        for other in [
            "8",
            "7",
            "5",
            "38;5;0",
            "48;5;1",
            "",
            "1;8",
            "1m\u{1b}[8",
            "+1",
        ] {
            let text = format!("\u{1b}[{other}mred");
            assert!(
                !visible_in_colour(&text).ends_with("\u{1b}[8mred"),
                "{other}"
            );
        }
        assert_eq!(visible_in_colour("\u{1b}[8mred"), "\u{fffd}[8mred");
        assert_eq!(visible_in_colour("\u{1b}[2"), "\u{fffd}[2");
    }

    /// However the bytes are cut, and however long a line is.
    #[test]
    fn writer_sees_whole_characters_and_sequences() {
        let text = format!("{CLEAR_SCREEN}\u{1b}[31m●\u{1b}[0m ü\r\n{CLEAR_SCREEN}x");
        let cleared = CLEAR_SCREEN.replace('\u{1b}', "\u{fffd}");
        let expected = format!("{CLEAR_SCREEN}\u{1b}[31m●\u{1b}[0m ü\n{cleared}x");
        for size in 1..text.len() {
            let mut writer = TerminalWriter::new(Vec::new());
            for part in text.as_bytes().chunks(size) {
                writer.write_all(part).unwrap();
            }
            writer.flush().unwrap();
            assert_eq!(
                String::from_utf8(writer.terminal).unwrap(),
                expected,
                "{size}"
            );
        }
    }
}
