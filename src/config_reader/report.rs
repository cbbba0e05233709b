//! The problems found so far.
//!
//! It deliberately does not use toml's rendering of an error, which quotes a
//! line that may hold a secret.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::location::Location;
use super::problem::{Problem, ProblemKind};
use super::quote::redact_if_secret;
use super::section::Section;

/// The limit of reported problems. A file of another kind could have one in
/// each line.
const MAX_PROBLEMS: usize = 1_000;

/// The problems found so far.
pub(crate) struct ProblemReport {
    file: PathBuf,
    syntax_errors: Option<SyntaxErrors>,
    problems: Vec<ReportedProblem>,
    /// The number of problems beyond the limit.
    omitted: usize,
}

/// The lines that are not TOML, at least one. An option that seems missing may
/// be in one of them, and options after a broken header seem to belong to
/// another table.
struct SyntaxErrors {
    lines: LineIndex,
    line_numbers: BTreeSet<usize>,
}

/// The offsets of the line ends of a text.
struct LineIndex(Vec<usize>);

/// A problem whose line number is not computed yet.
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

    /// Adds a problem of an option that is set.
    pub(crate) fn add_problem(
        &mut self,
        location: &Location,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let syntax_errors = self.syntax_errors.as_ref();
        if !syntax_errors.is_some_and(|syntax_errors| syntax_errors.contains(location)) {
            self.push(location, message.into(), hint.into());
        }
    }

    fn push(&mut self, location: &Location, message: String, hint: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(ReportedProblem {
                offset: location.offset,
                option: location.to_string(),
                message,
                hint,
            });
        } else {
            self.omitted += 1;
        }
    }

    /// Adds the problem that a table lacks an option, with its `purpose`.
    pub(crate) fn add_missing_option(
        &mut self,
        table: &Location,
        section: Section,
        name: &'static str,
        purpose: &str,
    ) {
        let example = section.find(name).map_or("…", |option| option.example);
        let message = format!("missing option `{name}`");
        let hint = format!("add {name} = {example}, {purpose}");
        self.add_missing(table, &message, &hint);
    }

    /// Adds a problem of something missing.
    pub(crate) fn add_missing(&mut self, location: &Location, message: &str, hint: &str) {
        if !self.has_syntax_errors() {
            self.add_problem(location, message, hint);
        }
    }

    /// Adds the parser's errors: their messages and lines, without the text.
    pub(crate) fn add_syntax_errors(&mut self, errors: &[toml::de::Error], text: &str) {
        let offset = |error: &toml::de::Error| error.span().map(|span| span.start);
        for error in errors {
            let message = redact_if_secret(error.message().to_owned());
            let location = Location::at_offset(offset(error));
            self.push(&location, format!("invalid TOML: {message}"), String::new());
        }
        let mut offsets = errors.iter().filter_map(offset).peekable();
        if offsets.peek().is_some() {
            let lines = LineIndex::new(text);
            let line_numbers = offsets.map(|offset| lines.line_of(offset)).collect();
            self.syntax_errors = Some(SyntaxErrors {
                lines,
                line_numbers,
            });
        }
    }

    /// Whether parts of the file are not TOML.
    pub(crate) fn has_syntax_errors(&self) -> bool {
        self.syntax_errors.is_some()
    }

    /// Returns the number of problems so far.
    pub(crate) const fn count(&self) -> usize {
        self.problems.len()
    }

    /// Returns the problems of the file with this text, ordered by line.
    pub(crate) fn into_problems(self, text: &str) -> Vec<Problem> {
        if self.problems.is_empty() {
            return Vec::new();
        }
        let lines = LineIndex::new(text);
        let problem = |reported: ReportedProblem| Problem {
            kind: ProblemKind::Configuration,
            file: self.file.clone(),
            line: reported.offset.map(|offset| lines.line_of(offset)),
            option: reported.option,
            message: reported.message,
            hint: reported.hint,
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
    fn contains(&self, location: &Location) -> bool {
        let line = location.offset.map(|offset| self.lines.line_of(offset));
        line.is_some_and(|line| self.line_numbers.contains(&line))
    }
}

impl LineIndex {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(at, _)| at).collect())
    }

    /// Returns the number of the line at an offset, from 1.
    fn line_of(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}
