//! The text of unit files, see systemd.syntax(7).

use std::collections::HashMap;
use std::path::PathBuf;

/// The values of the section `[Service]` of a unit and its drop-ins.
#[derive(Debug, Clone, Default)]
pub(super) struct UnitText {
    /// The values of each option, in their order. An empty one resets those
    /// before it.
    options: HashMap<String, Vec<String>>,
}

impl UnitText {
    /// Adds the text of a file of the unit `name`.
    pub(super) fn add(&mut self, text: &str, name: &str) {
        let mut is_service = false;
        for line in logical_lines(text) {
            if let Some(section) = line.strip_prefix('[') {
                is_service = section.trim_end() == "Service]";
                continue;
            }
            let Some((option, value)) = line.split_once('=').filter(|_| is_service) else {
                continue;
            };
            let value = expand(value.trim(), name);
            let values = self.options.entry(option.trim().to_owned()).or_default();
            if value.is_empty() {
                values.clear();
            }
            values.push(value);
        }
    }

    pub(super) fn has_values(&self) -> bool {
        !self.options.is_empty()
    }

    /// Returns the last value of an option, which may be empty.
    pub(super) fn last(&self, option: &str) -> Option<&str> {
        let values = self.options.get(option)?;
        values.last().map(String::as_str)
    }

    /// Returns the values of an option that may be given several times.
    pub(super) fn values(&self, option: &str) -> Vec<&str> {
        let values = self.options.get(option).into_iter().flatten();
        let values = values.map(String::as_str);
        values.filter(|value| !value.is_empty()).collect()
    }

    /// Returns the words of all values of an option.
    pub(super) fn words(&self, option: &str) -> Vec<String> {
        let values = self.values(option).into_iter();
        values.flat_map(split_words).collect()
    }

    /// Returns the paths of all values of an option, without the prefixes that
    /// systemd gives a meaning, and without the target of a bind mount.
    pub(super) fn paths(&self, option: &str) -> Vec<PathBuf> {
        let words = self.words(option).into_iter();
        let paths = words.map(|word| {
            let path = word.trim_start_matches(['-', '+']);
            let mut parts = path.splitn(3, ':');
            let source = parts.next().unwrap_or_default();
            PathBuf::from(parts.next().unwrap_or(source))
        });
        paths.collect()
    }
}

/// Whether a text is one of systemd's for true.
pub(super) fn is_true(text: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"]
        .iter()
        .any(|known| text.eq_ignore_ascii_case(known))
}

/// Returns the lines without comments, and joins those that end with `\`.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut joined = String::new();
    for line in text.lines() {
        let trimmed = line.trim();
        // A comment may stand between continued lines.
        if trimmed.starts_with(['#', ';']) {
            continue;
        }
        match trimmed.strip_suffix('\\') {
            Some(start) => {
                joined.push_str(start);
                joined.push(' ');
            }
            None => {
                joined.push_str(trimmed);
                lines.push(std::mem::take(&mut joined));
            }
        }
    }
    lines.push(joined);
    lines.retain(|line| !line.is_empty());
    lines
}

/// Splits a value into words, which may be quoted.
fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (_, '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, _) if character.is_whitespace() => words.extend(word.take()),
            (_, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Expands the specifiers of systemd.unit(5) that concern names and folders.
fn expand(text: &str, unit: &str) -> String {
    let full_name = unit.strip_suffix(".service").unwrap_or(unit);
    let (prefix, instance) = full_name.split_once('@').unwrap_or((full_name, ""));
    let mut expanded = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            expanded.push(character);
            continue;
        }
        match characters.next() {
            Some('i' | 'I') => expanded.push_str(instance),
            Some('p' | 'P') => expanded.push_str(prefix),
            Some('n') => expanded.push_str(unit),
            Some('N') => expanded.push_str(full_name),
            Some('S') => expanded.push_str("/var/lib"),
            Some('t') => expanded.push_str("/run"),
            Some('C') => expanded.push_str("/var/cache"),
            Some('L') => expanded.push_str("/var/log"),
            Some('E') => expanded.push_str("/etc"),
            Some('T') => expanded.push_str("/tmp"),
            Some('V') => expanded.push_str("/var/tmp"),
            Some('%') => expanded.push('%'),
            other => {
                expanded.push('%');
                expanded.extend(other);
            }
        }
    }
    expanded
}
