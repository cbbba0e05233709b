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
    /// Wraps lines at blanks to the width of the terminal; what continues one is indented. What
    /// stands in backquotes is copied as a whole, so it is never cut.
    pub(crate) fn wrap(&self, text: &str, indent: usize) -> String {
        let Some(width) = self.width else {
            return text.to_owned();
        };
        let lines = text.split('\n');
        let lines: Vec<_> = lines
            .map(|line| Self::wrap_line(line, indent, width))
            .collect();
        lines.join("\n")
    }

    fn wrap_line(line: &str, indent: usize, width: usize) -> String {
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

    /// Writes a time as a part of a sentence: `in 5 min`, or `at 2026-11-30T03:00:00Z`.
    pub(crate) fn moment(&self, at: Timestamp, now: Timestamp) -> String {
        self.as_part(self.time(at, now))
    }

    /// Writes a past time as a part of a sentence: `5 min ago`, or `at 2026-11-30T03:00:00Z`.
    pub(crate) fn past_moment(&self, at: Timestamp, now: Timestamp) -> String {
        self.as_part(self.past_time(at, now))
    }

    fn as_part(&self, time: String) -> String {
        match self.times {
            TimeStyle::Relative => time,
            TimeStyle::Exact | TimeStyle::Both => format!("at {time}"),
        }
    }

    /// Writes a past time in parentheses, behind a sentence that it belongs to.
    pub(crate) fn parenthesis(&self, at: Timestamp, now: Timestamp) -> String {
        match self.times {
            TimeStyle::Relative | TimeStyle::Exact => format!("({})", self.past_moment(at, now)),
            TimeStyle::Both => {
                let style = |times| Self { times, ..*self };
                let exact = style(TimeStyle::Exact).past_moment(at, now);
                let relative = style(TimeStyle::Relative).past_moment(at, now);
                format!("({exact}, {relative})")
            }
        }
    }

    /// Writes a time.
    pub(crate) fn time(&self, at: Timestamp, now: Timestamp) -> String {
        if at > now {
            let wait = duration::to_human_text(time::until(now, at));
            self.with_relative(at, format!("in {wait}"))
        } else {
            self.past_time(at, now)
        }
    }

    /// Writes the time of what has happened. The provider's clock may be ahead of this host's,
    /// and a stored time may be rounded up.
    pub(crate) fn past_time(&self, at: Timestamp, now: Timestamp) -> String {
        let age = duration::to_human_text(time::until(at.min(now), now));
        self.with_relative(at, format!("{age} ago"))
    }

    fn with_relative(&self, at: Timestamp, relative: String) -> String {
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
/// word, and so is a duration.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut start, mut is_quoted, mut is_blank) = (0, false, false);
    for (index, letter) in line.char_indices() {
        if is_blank && letter != ' ' && !is_in_duration(&line[..index], &line[index..]) {
            words.push(&line[start..index]);
            start = index;
        }
        is_quoted ^= letter == '`';
        is_blank = letter == ' ' && !is_quoted;
    }
    words.push(&line[start..]);
    words
}

/// Returns whether a duration, such as `29 d 12 h`, continues in `rest`.
fn is_in_duration(before: &str, rest: &str) -> bool {
    let is_unit = |word: &str| ["s", "min", "h", "d"].contains(&word);
    let ends_with_digit = |word: &str| word.ends_with(|letter: char| letter.is_ascii_digit());
    let next = rest.split([' ', ')', ',', ';', '.']).next();
    let next = next.unwrap_or_default();
    let mut words = before.trim_end().rsplit(' ');
    match (words.next(), words.next()) {
        (Some(last), _) if ends_with_digit(last) => is_unit(next),
        (Some(last), Some(number)) => {
            is_unit(last) && ends_with_digit(number) && (ends_with_digit(next) || next == "ago")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_happened_is_never_in_the_future() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let later = time::after(now, std::time::Duration::from_millis(700));
        for (times, expected) in [
            (TimeStyle::Relative, "0 s ago"),
            (TimeStyle::Both, "2026-11-24T12:00:00Z (0 s ago)"),
            (TimeStyle::Exact, "2026-11-24T12:00:00Z"),
        ] {
            let screen = Screen {
                times,
                ..Screen::FILE
            };
            assert_eq!(screen.past_time(later, now), expected);
        }
    }

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
        let pause = "reports: paused 2 h 30 min ago; ends in 29 d 12 h";
        assert_eq!(
            screen.wrap(pause, 2),
            "reports: paused 2 h 30 min ago; ends in\n  29 d 12 h"
        );
        let both = format!("{line}\na b");
        assert_eq!(
            screen.wrap(&both, 2),
            format!("{}\na b", screen.wrap(line, 2))
        );
        let long = format!("note            {}", "x".repeat(60));
        assert_eq!(screen.wrap(&long, 16), long, "a word is never cut");
    }
}
