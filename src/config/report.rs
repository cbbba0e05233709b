//! The problems found so far, and where the lines of the file begin.
//!
//! Deliberately not here: toml's own rendering of an error. It shows the line,
//! which may hold anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::problem::{Kind, Problem};
use super::quote::unless_secret;

/// More problems than anybody reads; a file of another kind could have one in
/// each of its lines.
const MOST_PROBLEMS: usize = 1_000;

/// The problems found so far.
pub(super) struct Report {
    file: PathBuf,
    /// The lines that are no TOML. What seems to be missing may only stand
    /// behind them, what follows a header among them seems to stand elsewhere,
    /// and what was made of them is not what they say.
    broken: BTreeSet<usize>,
    problems: Vec<Problem>,
    /// How many more there were.
    left_out: usize,
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            broken: BTreeSet::new(),
            problems: Vec::new(),
            left_out: 0,
        }
    }

    /// What is there and wrong.
    pub(super) fn wrong(
        &mut self,
        place: &Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let is_broken = place.line.is_some_and(|line| self.broken.contains(&line));
        if !is_broken {
            self.note(place, message.into(), hint.into());
        }
    }

    fn note(&mut self, place: &Place, message: String, hint: String) {
        if self.problems.len() < MOST_PROBLEMS {
            let problem = self.problem(place, message, hint);
            self.problems.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    fn problem(&self, place: &Place, message: String, hint: String) -> Problem {
        Problem {
            kind: Kind::Configuration,
            file: self.file.clone(),
            line: place.line,
            at: place.to_string(),
            message,
            hint,
        }
    }

    /// What should be there and is not.
    pub(super) fn missing(&mut self, place: &Place, message: &str, hint: &str) {
        if self.broken.is_empty() {
            self.wrong(place, message, hint);
        }
    }

    /// Takes over toml's own complaints: their words and lines, not the text.
    pub(super) fn no_toml(&mut self, errors: &[toml::de::Error], lines: &Lines) {
        for error in errors {
            let line = error.span().map(|span| lines.of(span.start));
            let place = Place::line_of_file(line);
            let words = unless_secret(error.message().to_owned());
            self.note(&place, format!("not TOML: {words}"), String::new());
            self.broken.extend(line);
        }
    }

    /// Whether the file is no TOML in places.
    pub(super) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// How many problems there are by now.
    pub(super) const fn count(&self) -> usize {
        self.problems.len()
    }

    /// The problems in the order of their lines.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        if self.left_out > 0 {
            let message = format!("{} more problems are not shown", self.left_out);
            let last = self.problem(&Place::file(), message, String::new());
            self.problems.push(last);
        }
        self.problems
    }
}

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(at, _)| at).collect())
    }

    pub(super) fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}
