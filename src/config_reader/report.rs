//! The problems found so far.
//!
//! Deliberately not here: toml's own rendering of an error. It shows the line,
//! which may hold anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::location::Location;
use super::problem::{Problem, ProblemKind};
use super::quote::redact_if_secret;

/// The most problems that are reported. A file of another kind could have one in
/// each of its lines.
const MAX_PROBLEMS: usize = 1_000;

/// The problems found so far.
pub(crate) struct ProblemReport {
    file: PathBuf,
    syntax_errors: Option<SyntaxErrors>,
    problems: Vec<ReportedProblem>,
    /// How many more there were.
    omitted: usize,
}

/// The lines that are no TOML, of which there is at least one. An option that
/// seems to be missing may be in one of them, and what follows a broken header
/// seems to belong to another table.
struct SyntaxErrors {
    lines: LineIndex,
    line_numbers: BTreeSet<usize>,
}

/// Where the lines of a text end.
struct LineIndex(Vec<usize>);

/// A problem at a place whose line is not counted yet.
struct ReportedProblem {
    offset: Option<usize>,
    option: String,
    message: String,
    hint: String,
}

impl ProblemReport {
    pub(crate) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            syntax_errors: None,
            problems: Vec::new(),
            omitted: 0,
        }
    }

    /// Adds a problem with something that is there.
    pub(crate) fn add_problem(
        &mut self,
        place: &Location,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let broken = self.syntax_errors.as_ref();
        if !broken.is_some_and(|broken| broken.contains(place)) {
            self.push(place, message.into(), hint.into());
        }
    }

    fn push(&mut self, place: &Location, message: String, hint: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(ReportedProblem {
                offset: place.offset,
                option: place.to_string(),
                message,
                hint,
            });
        } else {
            self.omitted += 1;
        }
    }

    /// Adds a problem with something that is missing.
    pub(crate) fn add_missing(&mut self, place: &Location, message: &str, hint: &str) {
        if !self.has_syntax_errors() {
            self.add_problem(place, message, hint);
        }
    }

    /// Adds the parser's errors: their words and lines, not the text.
    pub(crate) fn add_syntax_errors(&mut self, errors: &[toml::de::Error], text: &str) {
        let offset = |error: &toml::de::Error| error.span().map(|span| span.start);
        for error in errors {
            let words = redact_if_secret(error.message().to_owned());
            let place = Location::at_offset(offset(error));
            self.push(&place, format!("not TOML: {words}"), String::new());
        }
        let mut offsets = errors.iter().filter_map(offset).peekable();
        if offsets.peek().is_some() {
            let all = LineIndex::new(text);
            let numbers = offsets.map(|offset| all.line_of(offset)).collect();
            self.syntax_errors = Some(SyntaxErrors {
                lines: all,
                line_numbers: numbers,
            });
        }
    }

    /// Whether the file is no TOML in places.
    pub(crate) fn has_syntax_errors(&self) -> bool {
        self.syntax_errors.is_some()
    }

    /// How many problems there are by now.
    pub(crate) const fn count(&self) -> usize {
        self.problems.len()
    }

    /// The problems of the file with this text, in the order of its lines.
    pub(crate) fn into_problems(self, text: &str) -> Vec<Problem> {
        if self.problems.is_empty() {
            return Vec::new();
        }
        let lines = LineIndex::new(text);
        let problem = |found: ReportedProblem| Problem {
            kind: ProblemKind::Configuration,
            file: self.file.clone(),
            line: found.offset.map(|offset| lines.line_of(offset)),
            option: found.option,
            message: found.message,
            hint: found.hint,
        };
        let mut problems: Vec<_> = self.problems.into_iter().map(problem).collect();
        problems.sort_by_key(|problem| problem.line);
        if self.omitted > 0 {
            problems.push(problem(ReportedProblem {
                offset: None,
                option: String::new(),
                message: format!("{} more problems are not shown", self.omitted),
                hint: String::new(),
            }));
        }
        problems
    }
}

impl SyntaxErrors {
    fn contains(&self, place: &Location) -> bool {
        let line = place.offset.map(|offset| self.lines.line_of(offset));
        line.is_some_and(|line| self.line_numbers.contains(&line))
    }
}

impl LineIndex {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(at, _)| at).collect())
    }

    /// The number of the line at an offset, from 1.
    fn line_of(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}
