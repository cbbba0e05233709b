//! Walks the configuration's tables so that every problem is found and has
//! its line.
//!
//! serde would stop at the first problem, and lose the line inside a sink. The
//! parser's own rendering of an error is never shown: it quotes the line, and
//! somebody may have put a secret into it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::problem::Problem;
use crate::core::duration;

/// Collects the problems of one file.
pub(crate) struct Report {
    file: PathBuf,
    /// Where each line begins.
    lines: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
}

impl Report {
    pub(crate) fn new(file: &Path, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0)
            .chain(breaks.map(|(at, _)| at + 1))
            .collect();
        Self {
            file: file.to_owned(),
            lines,
            problems: RefCell::new(Vec::new()),
        }
    }

    /// Notes a problem at byte `at` of the file.
    pub(crate) fn note(&self, at: Option<usize>, path: &str, message: impl Into<String>) {
        let line = at.map(|at| self.lines.partition_point(|begin| *begin <= at));
        self.problems.borrow_mut().push(Problem {
            file: self.file.clone(),
            line,
            at: path.to_owned(),
            message: message.into(),
        });
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        problems
    }
}

/// One table of the file, and which of its options were asked for.
pub(crate) struct Section<'a> {
    pub(crate) report: &'a Report,
    pub(crate) path: String,
    /// Where it begins, for what is missing in it.
    pub(crate) begins: usize,
    table: &'a DeTable<'a>,
    /// Options that hold where this table is silent: `[defaults]`.
    fallback: Option<&'a Section<'a>>,
    asked: RefCell<BTreeSet<&'static str>>,
    sound: Cell<bool>,
}

/// A value with where it stands.
pub(crate) struct Found<T> {
    pub(crate) value: T,
    pub(crate) at: usize,
    pub(crate) path: String,
}

impl<'a> Section<'a> {
    pub(crate) fn new(
        report: &'a Report,
        path: impl Into<String>,
        begins: usize,
        table: &'a DeTable<'a>,
    ) -> Self {
        Self {
            report,
            path: path.into(),
            begins,
            table,
            fallback: None,
            asked: RefCell::default(),
            sound: Cell::new(true),
        }
    }

    pub(crate) fn with_fallback(mut self, fallback: &'a Section<'a>) -> Self {
        self.fallback = Some(fallback);
        self
    }

    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Notes that something about this section as a whole is wrong.
    pub(crate) fn wrong(&self, message: impl Into<String>) {
        self.sound.set(false);
        self.report.note(Some(self.begins), &self.path, message);
    }

    /// Notes that a value of this section is wrong.
    pub(crate) fn bad<T>(&self, found: &Found<T>, message: impl Into<String>) {
        self.sound.set(false);
        self.report.note(Some(found.at), &found.path, message);
    }

    /// Whether nothing wrong was found in it so far.
    pub(crate) fn is_sound(&self) -> bool {
        self.sound.get()
    }

    pub(crate) fn raw(&self, name: &'static str) -> Option<Found<&'a DeValue<'a>>> {
        self.asked.borrow_mut().insert(name);
        match self.table.get(name) {
            Some(value) => Some(Found {
                value: value.get_ref(),
                at: value.span().start,
                path: self.path_of(name),
            }),
            None => self.fallback.and_then(|fallback| fallback.raw(name)),
        }
    }

    fn typed<T>(
        &self,
        name: &'static str,
        wanted: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<Found<T>> {
        let found = self.raw(name)?;
        match read(found.value) {
            Some(value) => Some(Found {
                value,
                at: found.at,
                path: found.path,
            }),
            None => {
                let kind = found.value.type_str();
                self.bad(&found, format!("found {kind}; it must be {wanted}"));
                None
            }
        }
    }

    pub(crate) fn text(&self, name: &'static str) -> Option<Found<&'a str>> {
        self.typed(name, "text in quotes", DeValue::as_str)
    }

    pub(crate) fn boolean(&self, name: &'static str, default: bool) -> bool {
        self.typed(name, "true or false", DeValue::as_bool)
            .map_or(default, |found| found.value)
    }

    pub(crate) fn whole_number(
        &self,
        name: &'static str,
        default: usize,
        least: usize,
        most: usize,
    ) -> usize {
        let wanted = format!("a whole number from {least} to {most}");
        let found = self.typed(name, &wanted, |value| {
            let number = value.as_integer()?;
            Some(usize::from_str_radix(number.as_str(), number.radix()).ok())
        });
        match found {
            Some(Found {
                value: Some(number),
                ..
            }) if (least..=most).contains(&number) => number,
            Some(found) => {
                self.bad(&found, format!("it must be {wanted}"));
                default
            }
            None => default,
        }
    }

    pub(crate) fn duration(&self, name: &'static str) -> Option<Found<Duration>> {
        let found = self.text(name)?;
        match duration::parse(found.value) {
            Ok(value) => Some(Found {
                value,
                at: found.at,
                path: found.path,
            }),
            Err(error) => {
                self.bad(&found, format!("found {:?}; {error}", found.value));
                None
            }
        }
    }

    /// A duration within bounds, or its default.
    pub(crate) fn bounded(
        &self,
        name: &'static str,
        default: Duration,
        least: Duration,
        most: Duration,
    ) -> Duration {
        match self.duration(name) {
            Some(found) if found.value < least || found.value > most => {
                let (least, most) = (duration::to_text(least), duration::to_text(most));
                let given = duration::to_text(found.value);
                self.bad(
                    &found,
                    format!("found {given:?}; it must be from {least} to {most}"),
                );
                default
            }
            Some(found) => found.value,
            None => default,
        }
    }

    /// An absolute path.
    pub(crate) fn file(&self, name: &'static str) -> Option<Found<PathBuf>> {
        let found = self.text(name)?;
        let path = PathBuf::from(found.value);
        if !path.is_absolute() {
            self.bad(
                &found,
                format!("found {:?}; it must begin with /", found.value),
            );
            return None;
        }
        Some(Found {
            value: path.components().collect(),
            at: found.at,
            path: found.path,
        })
    }

    /// A table within this one.
    pub(crate) fn table(&self, name: &'static str) -> Option<Section<'a>> {
        let found = self.typed(name, "a table", DeValue::as_table)?;
        Some(Section::new(self.report, found.path, found.at, found.value))
    }

    /// The tables of `[[name]]`.
    pub(crate) fn tables(&self, name: &'static str) -> Vec<Section<'a>> {
        let wanted = format!("tables, each begun with [[{}]]", self.path_of(name));
        let Some(found) = self.typed(name, &wanted, DeValue::as_array) else {
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (place, value) in found.value.iter().enumerate() {
            let path = format!("{}[{place}]", found.path);
            match value.get_ref().as_table() {
                Some(table) => {
                    sections.push(Section::new(self.report, path, value.span().start, table));
                }
                None => self.report.note(
                    Some(value.span().start),
                    &path,
                    format!("it must be {wanted}"),
                ),
            }
        }
        sections
    }

    /// Every member with its name: for tables whose names the user gives.
    pub(crate) fn members(
        &self,
    ) -> impl Iterator<Item = (&'a str, usize, &'a Spanned<DeValue<'a>>)> + use<'a> {
        self.table
            .iter()
            .map(|(name, value)| (name.get_ref().as_ref(), name.span().start, value))
    }

    /// Notes every option that nobody asked for.
    pub(crate) fn finish(&self) {
        let asked = self.asked.borrow();
        for (name, at, _) in self.members() {
            if asked.contains(name) {
                continue;
            }
            let known: Vec<_> = asked.iter().copied().collect();
            let known = known.join(", ");
            self.sound.set(false);
            self.report.note(
                Some(at),
                &self.path_of(name),
                format!("no such option; there are: {known}"),
            );
        }
    }
}
