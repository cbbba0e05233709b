//! The problems found so far.
//!
//! It deliberately does not use toml's rendering of an error, which quotes a
//! line that may hold a secret.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::core::plural::counted;

use super::location::Location;
use super::problem::{Problem, ProblemKind};
use super::quote::redact_if_secret;
use super::section::Section;
use super::snippet::{MarkedPart, Snippet, option_snippet, syntax_snippet};
use super::source::{SourceSpan, ValueKind};
use super::syntax_error::describe_syntax_error;

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
    offsets: Vec<usize>,
    /// The names that a snippet may show of such a line.
    known_names: BTreeSet<&'static str>,
}

/// The offsets of the line ends of a text.
struct LineIndex(Vec<usize>);

/// A problem whose line is not computed yet.
struct ReportedProblem {
    place: Option<SourcePlace>,
    option: String,
    message: String,
    hint: String,
    label: Option<&'static str>,
}

/// What a problem is about in the text of the file.
enum SourcePlace {
    Entry(SourceSpan, MarkedPart),
    Syntax(usize),
}

impl SourcePlace {
    fn offset(&self) -> usize {
        match self {
            Self::Entry(span, _) => span.start(),
            Self::Syntax(offset) => *offset,
        }
    }
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
        self.add(location, MarkedPart::Value, message.into(), hint.into());
    }

    /// Adds the problem that a value is of another kind than the option.
    pub(crate) fn add_wrong_type(&mut self, location: &Location, message: String) {
        let count = self.count();
        self.add(location, MarkedPart::Value, message, String::new());
        if let Some(problem) = self.problems.get_mut(count) {
            let kind = location.source.as_ref().map(|source| source.kind);
            problem.label = kind.map(ValueKind::found);
        }
    }

    /// Adds the problem that nothing has the name of an option or a section.
    pub(crate) fn add_unknown(&mut self, location: &Location, message: &str, hint: String) {
        self.add(location, MarkedPart::Name, message.to_owned(), hint);
    }

    fn add(&mut self, location: &Location, marked: MarkedPart, message: String, hint: String) {
        let syntax_errors = self.syntax_errors.as_ref();
        if syntax_errors.is_some_and(|syntax_errors| syntax_errors.contains(location)) {
            return;
        }
        let source = location.source.clone();
        self.push(ReportedProblem {
            place: source.map(|span| SourcePlace::Entry(span, marked)),
            option: location.to_string(),
            message,
            hint,
            label: None,
        });
    }

    fn push(&mut self, problem: ReportedProblem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
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
    /// Snippets show no other names of these lines than those of `sections`.
    pub(crate) fn add_syntax_errors(
        &mut self,
        errors: &[toml::de::Error],
        text: &str,
        sections: &[Section],
    ) {
        let offset = |error: &toml::de::Error| error.span().map(|span| span.start);
        for error in errors {
            let (message, hint) = describe_syntax_error(error.message());
            // The parser's other text may quote a secret.
            let message = redact_if_secret(message.to_owned());
            self.push(ReportedProblem {
                place: offset(error).map(SourcePlace::Syntax),
                option: String::new(),
                message: format!("invalid TOML: {message}"),
                hint: hint.to_owned(),
                label: None,
            });
        }
        let offsets: Vec<_> = errors.iter().filter_map(offset).collect();
        if !offsets.is_empty() {
            let lines = LineIndex::new(text);
            let line_of = |offset: &usize| lines.line_of(*offset);
            let line_numbers = offsets.iter().map(line_of).collect();
            self.syntax_errors = Some(SyntaxErrors {
                lines,
                line_numbers,
                offsets,
                known_names: sections.iter().flat_map(Section::names).collect(),
            });
        }
    }

    /// Whether the parser may have misread an option: one that is not before the first line
    /// that is not TOML may belong to another section.
    pub(crate) fn may_be_misplaced(&self, location: &Location) -> bool {
        let Some(errors) = &self.syntax_errors else {
            return false;
        };
        let line = location.source.as_ref();
        let line = line.map(|source| errors.lines.line_of(source.start()));
        errors
            .line_numbers
            .first()
            .is_some_and(|first| line.is_none_or(|line| line >= *first))
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
        let is_known = |name: &str| {
            let syntax_errors = self.syntax_errors.as_ref();
            syntax_errors.is_some_and(|errors| errors.known_names.contains(name))
        };
        let problem = |reported: ReportedProblem| Problem {
            kind: ProblemKind::Configuration,
            file: self.file.clone(),
            line: reported
                .place
                .as_ref()
                .map(|place| lines.line_of(place.offset())),
            snippet: reported.place.as_ref().map(|place| {
                let shape = match place {
                    SourcePlace::Entry(span, marked) => option_snippet(text, span, *marked),
                    SourcePlace::Syntax(offset) => syntax_snippet(text, *offset, is_known),
                };
                Box::new(Snippet {
                    label: reported.label,
                    ..shape
                })
            }),
            option: reported.option,
            message: reported.message,
            hint: reported.hint,
        };
        let mut problems: Vec<_> = self.problems.into_iter().map(problem).collect();
        problems.sort_by_key(|problem| problem.line);
        if self.omitted > 0 {
            problems.push(problem(ReportedProblem {
                place: None,
                label: None,
                option: String::new(),
                message: format!("{} not shown", counted(self.omitted, "further problem")),
                hint: String::new(),
            }));
        }
        problems
    }
}

impl SyntaxErrors {
    /// Whether an option is in a line that is not TOML, or its value has such a
    /// line, as after a missing quote.
    fn contains(&self, location: &Location) -> bool {
        let Some(source) = &location.source else {
            return false;
        };
        let value = &source.value;
        self.line_numbers
            .contains(&self.lines.line_of(source.start()))
            || self
                .offsets
                .iter()
                .any(|offset| (value.start..=value.end).contains(offset))
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
