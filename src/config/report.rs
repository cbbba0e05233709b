//! The problems found so far.
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
    broken: Option<Broken>,
    found: Vec<Found>,
    /// How many more there were.
    left_out: usize,
}

/// The lines that are no TOML, of which there is at least one. What seems to be
/// missing may only stand behind them, what follows a header among them seems to
/// stand elsewhere, and what was made of them is not what they say.
struct Broken {
    all: Lines,
    numbers: BTreeSet<usize>,
}

/// Where the lines of a text end.
struct Lines(Vec<usize>);

/// A problem at a place whose line is not counted yet.
struct Found {
    offset: Option<usize>,
    at: String,
    message: String,
    hint: String,
}

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            broken: None,
            found: Vec::new(),
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
        let broken = self.broken.as_ref();
        if !broken.is_some_and(|broken| broken.is_at(place)) {
            self.note(place, message.into(), hint.into());
        }
    }

    fn note(&mut self, place: &Place, message: String, hint: String) {
        if self.found.len() < MOST_PROBLEMS {
            self.found.push(Found {
                offset: place.offset,
                at: place.to_string(),
                message,
                hint,
            });
        } else {
            self.left_out += 1;
        }
    }

    /// What should be there and is not.
    pub(super) fn missing(&mut self, place: &Place, message: &str, hint: &str) {
        if !self.is_broken() {
            self.wrong(place, message, hint);
        }
    }

    /// Takes over toml's own complaints: their words and lines, not the text.
    pub(super) fn no_toml(&mut self, errors: &[toml::de::Error], text: &str) {
        let offset = |error: &toml::de::Error| error.span().map(|span| span.start);
        for error in errors {
            let words = unless_secret(error.message().to_owned());
            let place = Place::in_file(offset(error));
            self.note(&place, format!("not TOML: {words}"), String::new());
        }
        let mut offsets = errors.iter().filter_map(offset).peekable();
        if offsets.peek().is_some() {
            let all = Lines::new(text);
            let numbers = offsets.map(|offset| all.of(offset)).collect();
            self.broken = Some(Broken { all, numbers });
        }
    }

    /// Whether the file is no TOML in places.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// How many problems there are by now.
    pub(super) const fn count(&self) -> usize {
        self.found.len()
    }

    /// The problems of the file with this text, in the order of its lines.
    pub(super) fn into_problems(self, text: &str) -> Vec<Problem> {
        if self.found.is_empty() {
            return Vec::new();
        }
        let lines = Lines::new(text);
        let problem = |found: Found| Problem {
            kind: Kind::Configuration,
            file: self.file.clone(),
            line: found.offset.map(|offset| lines.of(offset)),
            at: found.at,
            message: found.message,
            hint: found.hint,
        };
        let mut problems: Vec<_> = self.found.into_iter().map(problem).collect();
        problems.sort_by_key(|problem| problem.line);
        if self.left_out > 0 {
            problems.push(problem(Found {
                offset: None,
                at: String::new(),
                message: format!("{} more problems are not shown", self.left_out),
                hint: String::new(),
            }));
        }
        problems
    }
}

impl Broken {
    fn is_at(&self, place: &Place) -> bool {
        let line = place.offset.map(|offset| self.all.of(offset));
        line.is_some_and(|line| self.numbers.contains(&line))
    }
}

impl Lines {
    fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(at, _)| at).collect())
    }

    /// The number of the line with what stands there, from 1.
    fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}
