//! Where a command's output goes: a terminal of some width, or a file.

use std::io::{self, IsTerminal as _};

use jiff::Timestamp;

use crate::cli::logging;
use crate::core::{duration, time};

/// The width of a terminal that does not report its own.
const DEFAULT_WIDTH: usize = 80;

/// The smallest width that tables are fitted to.
const MIN_WIDTH: usize = 40;

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeStyle {
    /// As the distance from now: `in 3 h 20 min`.
    Relative,
    /// In UTC: `2026-11-30T03:00:00Z`.
    Exact,
    /// In both ways.
    Both,
}

/// What standard output can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Screen {
    /// The width of the terminal; none for files and pipes, on whose lines nothing depends.
    pub(crate) width: Option<usize>,
    /// Whether it shows colours.
    pub(crate) has_color: bool,
    /// How times are written.
    pub(crate) times: TimeStyle,
}

impl Screen {
    /// Wraps a line at blanks to the width of the terminal; further lines are indented. What
    /// stands in backquotes is copied as a whole, so it is never cut.
    pub(crate) fn wrap(&self, line: &str, indent: usize) -> String {
        let Some(width) = self.width else {
            return line.to_owned();
        };
        let mut wrapped = String::new();
        let mut column = 0;
        for word in words(line) {
            let length = word.chars().count();
            let end = column + word.trim_end().chars().count();
            if column > indent && end > width {
                wrapped.truncate(wrapped.trim_end().len());
                wrapped.push('\n');
                wrapped.push_str(&" ".repeat(indent));
                column = indent;
            }
            wrapped.push_str(word);
            column += length;
        }
        wrapped.trim_end().to_owned()
    }

    /// Returns what standard output can show. With `is_verbose` times are exact as well.
    pub(crate) fn of_output(is_verbose: bool) -> Self {
        if !io::stdout().is_terminal() {
            return Self::FILE;
        }
        Self {
            width: Some(terminal_width()),
            has_color: logging::may_color(),
            times: if is_verbose {
                TimeStyle::Both
            } else {
                TimeStyle::Relative
            },
        }
    }

    /// A file or a pipe.
    pub(crate) const FILE: Self = Self {
        width: None,
        has_color: false,
        times: TimeStyle::Exact,
    };

    /// Writes a time as a part of a sentence: `5 min ago`, or `at 2026-11-30T03:00:00Z`.
    pub(crate) fn moment(&self, at: Timestamp, now: Timestamp) -> String {
        let time = self.time(at, now);
        match self.times {
            TimeStyle::Relative => time,
            TimeStyle::Exact | TimeStyle::Both => format!("at {time}"),
        }
    }

    /// Writes a time in parentheses, behind a sentence that it belongs to.
    pub(crate) fn parenthesis(&self, at: Timestamp, now: Timestamp) -> String {
        match self.times {
            TimeStyle::Relative | TimeStyle::Exact => format!("({})", self.moment(at, now)),
            TimeStyle::Both => {
                let style = |times| Self { times, ..*self };
                let exact = style(TimeStyle::Exact).moment(at, now);
                let relative = style(TimeStyle::Relative).moment(at, now);
                format!("({exact}, {relative})")
            }
        }
    }

    /// Writes a time.
    pub(crate) fn time(&self, at: Timestamp, now: Timestamp) -> String {
        let relative = if at > now {
            let wait = duration::to_human_text(time::until(now, at));
            format!("in {wait}")
        } else {
            let age = duration::to_human_text(time::until(at, now));
            format!("{age} ago")
        };
        match self.times {
            TimeStyle::Relative => relative,
            TimeStyle::Exact => time::to_text(at),
            TimeStyle::Both => format!("{} ({relative})", time::to_text(at)),
        }
    }
}

/// Returns the width of the terminal: `COLUMNS` if it is set, or what the terminal reports.
fn terminal_width() -> usize {
    let variable = std::env::var("COLUMNS").ok();
    let from_variable = variable.and_then(|text| text.parse::<usize>().ok());
    let own = || rustix::termios::tcgetwinsize(io::stdout()).ok();
    let width = from_variable.or_else(|| own().map(|size| usize::from(size.ws_col)));
    match width {
        Some(width) if width > 0 => width.max(MIN_WIDTH),
        Some(_) | None => DEFAULT_WIDTH,
    }
}

/// Returns the words of a line, each with the blanks after it; a command in backquotes is one
/// word.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut is_quoted, mut is_blank) = (0, false, false);
    for (index, letter) in line.char_indices() {
        if is_blank && letter != ' ' {
            words.push(&line[start..index]);
            start = index;
        }
        is_quoted ^= letter == '`';
        is_blank = letter == ' ' && !is_quoted;
    }
    words.push(&line[start..]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_at_blanks_outside_of_commands() {
        let screen = Screen {
            width: Some(40),
            ..Screen::FILE
        };
        let line = "deploy: key_1 is on hold by root (uid 0): customer asked; `rekeyd release key_1` ends the hold";
        assert_eq!(
            screen.wrap(line, 2),
            "deploy: key_1 is on hold by root (uid\n  0): customer asked;\n  `rekeyd release key_1` ends \
             the hold"
        );
        assert_eq!(Screen::FILE.wrap(line, 2), line);
        let long = format!("note            {}", "x".repeat(60));
        assert_eq!(screen.wrap(&long, 16), long, "a word is never cut");
    }
}
