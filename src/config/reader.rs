//! A walk over toml's spanned tables, so that every value has its line and its
//! key path, and every problem can be told at once.
//!
//! Deliberately not here: what any option means. And toml's own rendering of
//! an error is never used: it shows the line, which may hold anything.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::options::{Section, nearest};
use super::problem::{Kind, Problem};
use super::quote::{quoted, segment, unless_secret};

/// More problems than anybody reads; a file of another kind could have one in
/// each of its lines.
const MOST_PROBLEMS: usize = 1_000;

/// The problems found so far.
pub(super) struct Report {
    file: PathBuf,
    /// The lines that are no TOML. What seems to be missing may only stand
    /// behind them, what follows a header among them seems to stand elsewhere,
    /// and what was made of them is not what they say.
    broken: Vec<usize>,
    problems: Vec<Problem>,
}

/// Where something stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    line: Option<usize>,
    at: String,
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

/// A table of the file, or one that is not there and so has no options.
pub(super) struct Table<'t> {
    pub(super) place: Place,
    entries: Option<&'t DeTable<'t>>,
    lines: &'t Lines,
}

/// One value of the file.
pub(super) struct Value<'t> {
    pub(super) place: Place,
    value: &'t DeValue<'t>,
    lines: &'t Lines,
}

impl Report {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            broken: Vec::new(),
            problems: Vec::new(),
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
            self.problems.push(Problem {
                kind: Kind::Configuration,
                file: self.file.clone(),
                line: place.line,
                at: place.at.clone(),
                message,
                hint,
            });
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
            let place = Place {
                line,
                at: String::new(),
            };
            let words = unless_secret(error.message().to_owned());
            self.note(&place, format!("not TOML: {words}"), String::new());
            self.broken.extend(line);
        }
    }

    /// How many problems there are by now.
    pub(super) const fn count(&self) -> usize {
        self.problems.len()
    }

    /// The problems in the order of their lines.
    pub(super) fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| problem.line);
        self.problems
    }
}

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(ends.map(|(at, _)| at).collect())
    }

    fn of(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

impl Place {
    /// The file as a whole.
    pub(super) fn file() -> Self {
        Self {
            line: None,
            at: String::new(),
        }
    }

    /// The key path.
    pub(super) fn path(&self) -> &str {
        &self.at
    }

    /// The same line, told as an option of something else.
    pub(super) fn told_as(&self, at: String) -> Self {
        Self {
            line: self.line,
            at,
        }
    }

    /// An option that is not there, in the line of its table.
    pub(super) fn option(&self, name: &str) -> Self {
        self.told_as(self.below(name))
    }

    fn below(&self, name: &str) -> String {
        if self.at.is_empty() {
            segment(name)
        } else {
            format!("{}.{}", self.at, segment(name))
        }
    }
}

impl<'t> Table<'t> {
    /// The file itself.
    pub(super) fn top(table: &'t DeTable<'t>, lines: &'t Lines) -> Self {
        Self {
            place: Place::file(),
            entries: Some(table),
            lines,
        }
    }

    /// An option's value, if it is there. It must be one of `section`'s: a
    /// name that is read and not listed would be refused as unknown.
    pub(super) fn get(&self, section: Section, name: &str) -> Option<Value<'t>> {
        debug_assert!(section.options().contains(&name), "{name}");
        let (key, value) = self.entries?.get_key_value(name)?;
        Some(self.entry(key, value))
    }

    /// Where an option stands, or would.
    pub(super) fn place_of(&self, section: Section, name: &str) -> Place {
        let value = self.get(section, name);
        value.map_or_else(|| self.place.option(name), |value| value.place)
    }

    /// Every entry, in whatever order.
    pub(super) fn entries(&self) -> Vec<(&'t str, Value<'t>)> {
        let entries = self.entries.into_iter().flatten();
        entries
            .map(|(key, value)| (&**key.get_ref(), self.entry(key, value)))
            .collect()
    }

    fn entry(&self, key: &'t Spanned<Cow<'t, str>>, value: &'t Spanned<DeValue<'t>>) -> Value<'t> {
        Value {
            place: Place {
                line: Some(self.lines.of(key.span().start)),
                at: self.place.below(key.get_ref()),
            },
            value: value.get_ref(),
            lines: self.lines,
        }
    }

    /// A table within, or an empty one.
    pub(super) fn table(&self, section: Section, name: &str, report: &mut Report) -> Self {
        let found = self.get(section, name);
        found.and_then(|value| value.table(report)).unwrap_or(Self {
            place: self.place.option(name),
            entries: None,
            lines: self.lines,
        })
    }

    /// Refuses every option that none of `sections` has.
    pub(super) fn refuse_unknown(&self, sections: &[Section], report: &mut Report) {
        if !report.broken.is_empty() {
            return;
        }
        let known: Vec<&str> = sections
            .iter()
            .flat_map(|section| section.options())
            .copied()
            .collect();
        for (name, value) in self.entries() {
            if !known.contains(&name) {
                let hint = match nearest(name, &known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                report.wrong(&value.place, "there is no such option", hint);
            }
        }
    }
}

impl<'t> Value<'t> {
    /// The value if it is text.
    pub(super) fn text(&self, report: &mut Report) -> Option<&'t str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.other_type("text in quotes", report);
        }
        text
    }

    /// The value if it is text; what else it may be is told by others.
    pub(super) fn as_text(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    /// The value if it is `true` or `false`.
    pub(super) fn flag(&self, report: &mut Report) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.other_type("true or false", report);
        }
        flag
    }

    /// The value if it is `true` or `false`; what else it may be is told by
    /// others.
    pub(super) fn as_flag(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// The value if it is a whole number from `least` to `most`.
    pub(super) fn number(&self, least: usize, most: usize, report: &mut Report) -> Option<usize> {
        let allowed = format!("a whole number from {least} to {most}");
        let Some(number) = self.value.as_integer() else {
            self.other_type(&allowed, report);
            return None;
        };
        let value = usize::from_str_radix(number.as_str(), number.radix()).ok();
        let within = value.filter(|value| (least..=most).contains(value));
        if within.is_none() {
            let found = quoted(&number.to_string());
            let message = format!("{} is out of range", found.trim_matches('"'));
            report.wrong(&self.place, message, format!("{allowed} is allowed"));
        }
        within
    }

    /// The value if it is a table.
    pub(super) fn table(&self, report: &mut Report) -> Option<Table<'t>> {
        let Some(table) = self.value.as_table() else {
            let hint = format!("[{}]", self.place.at);
            self.other_type(&format!("a table ({hint})"), report);
            return None;
        };
        Some(Table {
            place: self.place.clone(),
            entries: Some(table),
            lines: self.lines,
        })
    }

    /// The values if they are tables: `[[key.billing.sink]]`.
    pub(super) fn tables(&self, report: &mut Report) -> Vec<Table<'t>> {
        let wanted = format!("a list of tables ([[{}]])", self.place.at);
        let Some(items) = self.value.as_array() else {
            self.other_type(&wanted, report);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let value = Value {
                place: Place {
                    line: Some(self.lines.of(item.span().start)),
                    at: format!("{}[{number}]", self.place.at),
                },
                value: item.get_ref(),
                lines: self.lines,
            };
            match value.value.as_table() {
                Some(_) => tables.extend(value.table(report)),
                None => value.other_type(&wanted, report),
            }
        }
        tables
    }

    fn other_type(&self, allowed: &str, report: &mut Report) {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        report.wrong(
            &self.place,
            format!("found {found}"),
            format!("{allowed} is allowed"),
        );
    }
}
