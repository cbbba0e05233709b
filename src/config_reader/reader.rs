//! A walk over toml's spanned tables, so that every value has its place in the
//! text and its key path, and every problem can be reported at once.
//!
//! Deliberately not here: what any option means.

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::location::{Location, OptionScope};
use super::quote::quoted;
use super::report::ProblemReport;
use super::section::Section;
use super::suggestion::{closest_match, renamed_to};

/// A table of the file, or one that is not there and so has no options.
pub(crate) struct ConfigTable<'t> {
    pub(crate) location: Location,
    scope: OptionScope,
    entries: Option<&'t DeTable<'t>>,
}

/// One value of the file.
pub(crate) struct ConfigValue<'t> {
    pub(crate) location: Location,
    value: &'t DeValue<'t>,
}

impl<'t> ConfigTable<'t> {
    /// The file itself.
    pub(crate) fn root(table: &'t DeTable<'t>) -> Self {
        Self::new(Location::whole_file(), Some(table))
    }

    /// A table that the file does not have.
    pub(crate) fn empty(place: Location) -> Self {
        Self::new(place, None)
    }

    fn new(place: Location, entries: Option<&'t DeTable<'t>>) -> Self {
        Self {
            scope: place.scope(),
            location: place,
            entries,
        }
    }

    /// An option's value, if it is there. It must be one of `section`'s: a
    /// name that is read and not listed would be refused as unknown.
    pub(crate) fn get(&self, section: Section, name: &'static str) -> Option<ConfigValue<'t>> {
        debug_assert!(section.has(name), "{name}");
        let (key, value) = self.entries?.get_key_value(name)?;
        Some(ConfigValue {
            location: self.scope.option(name, Some(key.span().start)),
            value: value.get_ref(),
        })
    }

    /// The location of an option, also of one that is missing.
    pub(crate) fn location_of(&self, section: Section, name: &'static str) -> Location {
        let value = self.get(section, name);
        value.map_or_else(|| self.location.option(name), |value| value.location)
    }

    /// Every entry with its name, in the order of the names.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'t str, ConfigValue<'t>)> {
        let entries = self.entries.into_iter().flatten();
        entries.map(|(name, value)| {
            let value = ConfigValue {
                location: self.entry_location(name),
                value: value.get_ref(),
            };
            (&**name.get_ref(), value)
        })
    }

    fn entry_location(&self, name: &Spanned<DeString<'_>>) -> Location {
        let offset = Some(name.span().start);
        self.scope.option(name.get_ref().to_string(), offset)
    }

    /// A table within, or an empty one.
    pub(crate) fn subtable(
        &self,
        section: Section,
        name: &'static str,
        report: &mut ProblemReport,
    ) -> Self {
        let found = self.get(section, name);
        let table = found.and_then(|value| value.table(report));
        table.unwrap_or_else(|| Self::empty(self.location.option(name)))
    }

    /// Refuses every option that none of `sections` has.
    pub(crate) fn reject_unknown(&self, sections: &[Section], report: &mut ProblemReport) {
        if report.has_syntax_errors() {
            return;
        }
        let known = || sections.iter().flat_map(|section| section.options);
        for key in self.entries.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if known().any(|option| *option == name) {
                continue;
            }
            let known: Vec<&str> = known().copied().collect();
            let hint = if let Some(new) = renamed_to(name, &known) {
                format!("`{name}` is now `{new}`")
            } else if let Some(near) = closest_match(name, &known) {
                format!("did you mean {near}?")
            } else {
                format!("known here: {}", known.join(", "))
            };
            let place = self.entry_location(key);
            report.add_problem(&place, "there is no such option", hint);
        }
    }
}

impl<'t> ConfigValue<'t> {
    /// The value if it is text.
    pub(crate) fn text(&self, report: &mut ProblemReport) -> Option<&'t str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.report_wrong_type("text in quotes", report);
        }
        text
    }

    /// The value if it is text. Another type is not reported.
    pub(crate) fn as_text(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    /// The value if it is `true` or `false`.
    pub(crate) fn flag(&self, report: &mut ProblemReport) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.report_wrong_type("true or false", report);
        }
        flag
    }

    /// The value if it is `true` or `false`. Another type is not reported.
    pub(crate) fn as_flag(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// The value if it is a whole number from `least` to `most`.
    pub(crate) fn number(
        &self,
        least: usize,
        most: usize,
        report: &mut ProblemReport,
    ) -> Option<usize> {
        let allowed = format!("a whole number from {least} to {most}");
        let Some(number) = self.value.as_integer() else {
            self.report_wrong_type(&allowed, report);
            return None;
        };
        let value = usize::from_str_radix(number.as_str(), number.radix()).ok();
        let within = value.filter(|value| (least..=most).contains(value));
        if within.is_none() {
            let found = quoted(&number.to_string());
            let message = format!("{} is out of range", found.trim_matches('"'));
            report.add_problem(&self.location, message, format!("{allowed} is allowed"));
        }
        within
    }

    /// The values if they are text, each with its own place.
    pub(crate) fn text_items(&self, report: &mut ProblemReport) -> Option<Vec<Self>> {
        let items = self.value.as_array();
        let all_are_text = |items: &&DeArray<'_>| {
            let mut items = items.iter();
            items.all(|item| item.get_ref().is_str())
        };
        let Some(items) = items.filter(all_are_text) else {
            self.report_wrong_type("a list of text in quotes", report);
            return None;
        };
        Some(self.items(items).collect())
    }

    /// The value if it is a list of text.
    pub(crate) fn text_list(&self, report: &mut ProblemReport) -> Vec<String> {
        let items = self.text_items(report).unwrap_or_default();
        let texts = items.iter().filter_map(Self::as_text);
        texts.map(str::to_owned).collect()
    }

    /// The value if it is a table.
    pub(crate) fn table(&self, report: &mut ProblemReport) -> Option<ConfigTable<'t>> {
        let Some(table) = self.value.as_table() else {
            self.report_wrong_type(&format!("a table ([{}])", self.location), report);
            return None;
        };
        Some(ConfigTable::new(self.location.clone(), Some(table)))
    }

    /// The value if it is a table. Another type is not reported.
    pub(crate) fn as_table(&self) -> Option<ConfigTable<'t>> {
        let table = self.value.as_table()?;
        Some(ConfigTable::new(self.location.clone(), Some(table)))
    }

    /// The values if they are tables: `[[key.billing.sink]]`.
    pub(crate) fn tables(&self, report: &mut ProblemReport) -> Vec<ConfigTable<'t>> {
        let wanted = || format!("a list of tables ([[{}]])", self.location);
        let Some(items) = self.value.as_array() else {
            self.report_wrong_type(&wanted(), report);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for value in self.items(items) {
            match value.value.as_table() {
                Some(_) => tables.extend(value.table(report)),
                None => value.report_wrong_type(&wanted(), report),
            }
        }
        tables
    }

    /// The values in a list.
    fn items(&self, items: &'t DeArray<'t>) -> impl Iterator<Item = Self> {
        let within = self.location.scope();
        let items = items.iter().enumerate();
        items.map(move |(number, item)| Self {
            location: within.item(number, Some(item.span().start)),
            value: item.get_ref(),
        })
    }

    fn report_wrong_type(&self, allowed: &str, report: &mut ProblemReport) {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        report.add_problem(
            &self.location,
            format!("found {found}"),
            format!("{allowed} is allowed"),
        );
    }
}
