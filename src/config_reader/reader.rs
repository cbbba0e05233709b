//! Wrappers of toml's spanned tables, which give every value its location and
//! its key path, so that every problem can be reported at once.
//!
//! The meaning of options is deliberately elsewhere.

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::location::{Location, OptionScope};
use super::report::ProblemReport;
use super::section::{ConfigOption, Section, ValueType};
use super::source::{SourceSpan, ValueKind};
use super::suggestion::{closest_match, renamed_to};

/// A table of the file, or a missing one, which has no options.
pub(crate) struct ConfigTable<'t> {
    pub(crate) location: Location,
    scope: OptionScope,
    entries: Option<&'t DeTable<'t>>,
}

/// One value of the file.
pub(crate) struct ConfigValue<'t> {
    pub(crate) location: Location,
    value: &'t DeValue<'t>,
    /// The option that it belongs to, unless its name is the user's.
    option: Option<&'static ConfigOption>,
}

impl<'t> ConfigTable<'t> {
    /// Returns the table of the whole file.
    pub(crate) fn root(table: &'t DeTable<'t>) -> Self {
        Self::new(Location::whole_file(), Some(table))
    }

    /// Returns the table at a location where the file has none.
    pub(crate) fn empty(location: Location) -> Self {
        Self::new(location, None)
    }

    fn new(location: Location, entries: Option<&'t DeTable<'t>>) -> Self {
        Self {
            scope: location.scope(),
            location,
            entries,
        }
    }

    /// Returns the value of an option, if it is set. `section` MUST list the
    /// option: one that is read and not listed would be refused as unknown.
    pub(crate) fn get(&self, section: Section, name: &'static str) -> Option<ConfigValue<'t>> {
        debug_assert!(section.has(name), "{name}");
        let (key, value) = self.entries?.get_key_value(name)?;
        Some(ConfigValue {
            location: self.scope.option(name, Some(entry_source(key, value))),
            value: value.get_ref(),
            option: section.find(name),
        })
    }

    /// Whether the table has any option of `section`.
    pub(crate) fn has_any(&self, section: Section) -> bool {
        let mut names = self.entries.into_iter().flat_map(DeTable::keys);
        names.any(|name| section.has(name.get_ref()))
    }

    /// Returns the location of an option, also of a missing one.
    pub(crate) fn location_of(&self, section: Section, name: &'static str) -> Location {
        let value = self.get(section, name);
        value.map_or_else(|| self.location.option(name), |value| value.location)
    }

    /// Returns the value of an entry that is, or was, in this table.
    pub(crate) fn entry<'v>(
        &self,
        name: &Spanned<DeString<'_>>,
        value: &'v Spanned<DeValue<'v>>,
    ) -> ConfigValue<'v> {
        ConfigValue {
            location: self.entry_location(name, value),
            value: value.get_ref(),
            option: None,
        }
    }

    fn entry_location(
        &self,
        name: &Spanned<DeString<'_>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Location {
        let source = entry_source(name, value);
        self.scope.option(name.get_ref().to_string(), Some(source))
    }

    /// Returns a subtable, or an empty table without one.
    pub(crate) fn subtable(
        &self,
        section: Section,
        name: &'static str,
        report: &mut ProblemReport,
    ) -> Self {
        let value = self.get(section, name);
        let table = value.and_then(|value| value.table(report));
        table.unwrap_or_else(|| Self::empty(self.location.option(name)))
    }

    /// Refuses every option that none of `sections` has.
    pub(crate) fn reject_unknown(&self, sections: &[Section], report: &mut ProblemReport) {
        for (key, value) in self.entries.into_iter().flat_map(DeTable::iter) {
            let name: &str = key.get_ref();
            if sections.iter().any(|section| section.has(name)) {
                continue;
            }
            let known: Vec<&str> = sections.iter().flat_map(Section::names).collect();
            let hint = if let Some(new_name) = renamed_to(name, &known) {
                format!("`{name}` is now `{new_name}`")
            } else if let Some(suggestion) = closest_match(name, &known) {
                format!("did you mean `{suggestion}`?")
            } else {
                format!("expected one of {}", known.join(", "))
            };
            let location = self.entry_location(key, value);
            if report.may_be_misplaced(&location) {
                continue;
            }
            let message = if self.location.is_whole_file() {
                "unknown section"
            } else {
                "unknown option"
            };
            report.add_unknown(&location, message, hint);
        }
    }
}

impl<'t> ConfigValue<'t> {
    /// Returns what its option takes, unless its name is the user's.
    pub(crate) fn value_type(&self) -> Option<ValueType> {
        self.option.map(|option| option.value)
    }

    /// Returns an example of the option for a message: `such as mode = "0640"`.
    pub(crate) fn such_as(&self) -> String {
        self.option.map_or_else(String::new, |option| {
            format!("such as {} = {}", option.name, option.example)
        })
    }

    /// Says that something else was expected, with an example of the option.
    pub(crate) fn expected(&self, description: &str) -> String {
        match self.such_as() {
            example if example.is_empty() => format!("expected {description}"),
            example => format!("expected {description}, {example}"),
        }
    }

    /// Returns the value if it is text.
    pub(crate) fn text(&self, report: &mut ProblemReport) -> Option<&'t str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.report_wrong_type("a quoted string", report);
        }
        text
    }

    /// Returns the value if it is text, without a report otherwise.
    pub(crate) fn as_text(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    /// Returns the value if it is `true` or `false`.
    pub(crate) fn flag(&self, report: &mut ProblemReport) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.report_wrong_type("true or false", report);
        }
        flag
    }

    /// Returns the value if it is `true` or `false`, without a report
    /// otherwise.
    pub(crate) fn as_flag(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// Returns the value if it is a whole number in the range of its option.
    pub(crate) fn number(&self, report: &mut ProblemReport) -> Option<usize> {
        let Some(ValueType::Number(minimum, maximum)) = self.value_type() else {
            debug_assert!(false, "{} is not a number", self.location);
            return None;
        };
        let expected = format!("a whole number from {minimum} to {maximum}");
        let Some(number) = self.value.as_integer() else {
            self.report_wrong_type(&expected, report);
            return None;
        };
        let value = usize::from_str_radix(number.as_str(), number.radix()).ok();
        let valid = value.filter(|value| (minimum..=maximum).contains(value));
        if valid.is_none() {
            report.add_problem(&self.location, "out of range", self.expected(&expected));
        }
        valid
    }

    /// Returns the values of a list, each with its location. [`Self::text`] of an
    /// item reports another kind of value.
    pub(crate) fn text_items(&self, report: &mut ProblemReport) -> Option<Vec<Self>> {
        let Some(items) = self.value.as_array() else {
            self.report_wrong_type("a list of quoted strings", report);
            return None;
        };
        Some(self.items(items).collect())
    }

    /// Returns the texts of a list of texts.
    pub(crate) fn text_list(&self, report: &mut ProblemReport) -> Vec<String> {
        let items = self.text_items(report).unwrap_or_default();
        let texts = items.iter().filter_map(|item| item.text(report));
        texts.map(str::to_owned).collect()
    }

    /// Returns the value if it is a table.
    pub(crate) fn table(&self, report: &mut ProblemReport) -> Option<ConfigTable<'t>> {
        let Some(table) = self.value.as_table() else {
            let message = format!("expected a table, written as [{}]", self.location);
            report.add_wrong_type(&self.location, message);
            return None;
        };
        Some(ConfigTable::new(self.location.clone(), Some(table)))
    }

    /// Returns the tables of a list of tables, such as `[[key.billing.sink]]`.
    pub(crate) fn tables(&self, report: &mut ProblemReport) -> Vec<ConfigTable<'t>> {
        let expected = || format!("expected tables, each written as [[{}]]", self.location);
        let Some(items) = self.value.as_array() else {
            report.add_wrong_type(&self.location, expected());
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for value in self.items(items) {
            match value.value.as_table() {
                Some(_) => tables.extend(value.table(report)),
                None => report.add_wrong_type(&value.location, expected()),
            }
        }
        tables
    }

    /// Iterates over the values of a list.
    fn items(&self, items: &'t DeArray<'t>) -> impl Iterator<Item = Self> {
        let scope = self.location.scope();
        let items = items.iter().enumerate();
        items.map(move |(number, item)| Self {
            location: scope.item(number, item_source(item)),
            value: item.get_ref(),
            option: self.option,
        })
    }

    fn report_wrong_type(&self, expected: &str, report: &mut ProblemReport) {
        report.add_wrong_type(&self.location, self.expected(expected));
    }
}

fn entry_source(name: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) -> SourceSpan {
    SourceSpan {
        name: Some(name.span()),
        ..item_source(value)
    }
}

fn item_source(item: &Spanned<DeValue<'_>>) -> SourceSpan {
    SourceSpan {
        name: None,
        value: item.span(),
        kind: ValueKind::of(item.get_ref()),
    }
}
