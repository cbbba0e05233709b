//! Wrappers of toml's spanned tables, which give every value its location and
//! its key path, so that every problem can be reported at once.
//!
//! The meaning of options is deliberately elsewhere.

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

use super::location::{Location, OptionScope};
use super::quote::quoted;
use super::report::ProblemReport;
use super::section::Section;
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
            location: self.scope.option(name, Some(key.span().start)),
            value: value.get_ref(),
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
            location: self.entry_location(name),
            value: value.get_ref(),
        }
    }

    fn entry_location(&self, name: &Spanned<DeString<'_>>) -> Location {
        let offset = Some(name.span().start);
        self.scope.option(name.get_ref().to_string(), offset)
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
        if report.has_syntax_errors() {
            return;
        }
        let known_options = || sections.iter().flat_map(|section| section.options);
        for key in self.entries.into_iter().flat_map(DeTable::keys) {
            let name: &str = key.get_ref();
            if known_options().any(|option| *option == name) {
                continue;
            }
            let known: Vec<&str> = known_options().copied().collect();
            let hint = if let Some(new_name) = renamed_to(name, &known) {
                format!("`{name}` is now `{new_name}`")
            } else if let Some(suggestion) = closest_match(name, &known) {
                format!("did you mean {suggestion}?")
            } else {
                format!("known here: {}", known.join(", "))
            };
            let location = self.entry_location(key);
            report.add_problem(&location, "there is no such option", hint);
        }
    }
}

impl<'t> ConfigValue<'t> {
    /// Returns the value if it is text.
    pub(crate) fn text(&self, report: &mut ProblemReport) -> Option<&'t str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.report_wrong_type("text in quotes", report);
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

    /// Returns the value if it is a whole number from `minimum` to `maximum`.
    pub(crate) fn number(
        &self,
        minimum: usize,
        maximum: usize,
        report: &mut ProblemReport,
    ) -> Option<usize> {
        let allowed = format!("a whole number from {minimum} to {maximum}");
        let Some(number) = self.value.as_integer() else {
            self.report_wrong_type(&allowed, report);
            return None;
        };
        let value = usize::from_str_radix(number.as_str(), number.radix()).ok();
        let valid = value.filter(|value| (minimum..=maximum).contains(value));
        if valid.is_none() {
            let number_text = quoted(&number.to_string());
            let message = format!("{} is out of range", number_text.trim_matches('"'));
            report.add_problem(&self.location, message, format!("{allowed} is allowed"));
        }
        valid
    }

    /// Returns the values of a list of texts, each with its location.
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

    /// Returns the texts of a list of texts.
    pub(crate) fn text_list(&self, report: &mut ProblemReport) -> Vec<String> {
        let items = self.text_items(report).unwrap_or_default();
        let texts = items.iter().filter_map(Self::as_text);
        texts.map(str::to_owned).collect()
    }

    /// Returns the value if it is a table.
    pub(crate) fn table(&self, report: &mut ProblemReport) -> Option<ConfigTable<'t>> {
        let Some(table) = self.value.as_table() else {
            self.report_wrong_type(&format!("a table ([{}])", self.location), report);
            return None;
        };
        Some(ConfigTable::new(self.location.clone(), Some(table)))
    }

    /// Returns the tables of a list of tables, such as `[[key.billing.sink]]`.
    pub(crate) fn tables(&self, report: &mut ProblemReport) -> Vec<ConfigTable<'t>> {
        let expected = || format!("a list of tables ([[{}]])", self.location);
        let Some(items) = self.value.as_array() else {
            self.report_wrong_type(&expected(), report);
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for value in self.items(items) {
            match value.value.as_table() {
                Some(_) => tables.extend(value.table(report)),
                None => value.report_wrong_type(&expected(), report),
            }
        }
        tables
    }

    /// Iterates over the values of a list.
    fn items(&self, items: &'t DeArray<'t>) -> impl Iterator<Item = Self> {
        let scope = self.location.scope();
        let items = items.iter().enumerate();
        items.map(move |(number, item)| Self {
            location: scope.item(number, Some(item.span().start)),
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
