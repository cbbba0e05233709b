//! Replaces values that differ between two runs, and free text, by placeholders.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// The members whose text may change freely.
const FREE_TEXT: [&str; 5] = ["error", "message", "problem", "reason", "text"];

/// Replaces the ids and secrets of one scenario.
#[derive(Default)]
pub(crate) struct Normalizer {
    /// Exact texts with their placeholders, the longest first.
    exact: Vec<(String, String)>,
    /// The number of a sequence in its key: `<sequence 2 of billing>`.
    sequences: BTreeMap<(String, i64), usize>,
    /// Free text of the scenario itself, which the program must return.
    given: Vec<String>,
}

impl Normalizer {
    pub(crate) fn replace(&mut self, text: &str, placeholder: &str) {
        if !text.is_empty() {
            self.exact.push((text.to_owned(), placeholder.to_owned()));
            self.exact
                .sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
    }

    pub(crate) fn sequence(&mut self, key: &str, sequence: i64, place: usize) {
        self.sequences.insert((key.to_owned(), sequence), place);
    }

    pub(crate) fn given(&mut self, texts: &[&str]) {
        self.given
            .extend(texts.iter().map(|text| (*text).to_owned()));
    }

    pub(crate) fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(members) => self.object(members),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn object(&self, members: &Map<String, Value>) -> Value {
        let key = members.get("key").or_else(|| members.get("REKEYD_KEY"));
        let key = key.and_then(Value::as_str).unwrap_or_default();
        let normalized = members
            .iter()
            .map(|(name, value)| (name.clone(), self.member(key, name, value)));
        Value::Object(normalized.collect())
    }

    fn member(&self, key: &str, name: &str, value: &Value) -> Value {
        match (name, value) {
            ("sequence", Value::Number(number)) => {
                self.sequence_of(key, number.as_i64().unwrap()).into()
            }
            ("REKEYD_SEQUENCE", Value::String(text)) => {
                self.sequence_of(key, text.parse().unwrap()).into()
            }
            ("age_seconds", Value::Number(_)) => "<seconds>".into(),
            ("created_at" | "expires_at", Value::Number(_)) => "<unix time>".into(),
            ("process", Value::Number(_)) => "<process>".into(),
            ("version", Value::String(_)) => "<version>".into(),
            ("host", Value::String(host)) if !host.contains(':') => "<host>".into(),
            ("sha256", Value::String(_)) => "<SHA-256>".into(),
            (name, Value::String(text))
                if FREE_TEXT.contains(&name) && !self.given.contains(text) =>
            {
                "<text>".into()
            }
            (_, value) => self.value(value),
        }
    }

    fn sequence_of(&self, key: &str, sequence: i64) -> String {
        let place = self.sequences.get(&(key.to_owned(), sequence));
        let place = place.unwrap_or_else(|| panic!("no sequence {sequence} of {key:?}"));
        format!("<sequence {place} of {key}>")
    }

    /// Normalizes text outside free text: ids, paths, addresses and times.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (exact, placeholder) in &self.exact {
            text = text.replace(exact, placeholder);
        }
        patterns(&text)
    }
}

/// Replaces every text with the form of a time, an address, a user or a hash.
fn patterns(text: &str) -> String {
    let mut normalized = String::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let is_inside = normalized
            .chars()
            .next_back()
            .is_some_and(|before| before.is_ascii_alphanumeric());
        let found = if is_inside { None } else { pattern(rest) };
        let (placeholder, length) = match found {
            Some((placeholder, length)) => (placeholder.to_owned(), length),
            None => (letter.to_string(), letter.len_utf8()),
        };
        normalized.push_str(&placeholder);
        rest = &rest[length..];
    }
    normalized
}

/// Returns a placeholder for the start of `text`, and the length of the replaced text.
fn pattern(text: &str) -> Option<(&'static str, usize)> {
    time(text)
        .or_else(|| address(text))
        .or_else(|| user(text))
        .or_else(|| redacted_value(text))
        .or_else(|| hash(text))
}

/// Matches `2026-11-23T03:00:00Z`, or the same with an offset, without fractions of a
/// second.
fn time(text: &str) -> Option<(&'static str, usize)> {
    const FORM: &[u8] = b"0000-00-00T00:00:00";
    let has_form = |text: &[u8], form: &[u8]| {
        text.len() >= form.len()
            && text.iter().zip(form).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == form,
            })
    };
    let bytes = text.as_bytes();
    if !has_form(bytes, FORM) {
        return None;
    }
    let rest = &bytes[FORM.len()..];
    if rest.first() == Some(&b'Z') {
        return Some(("<time>", FORM.len() + 1));
    }
    if has_form(rest, b"+00:00") || has_form(rest, b"-00:00") {
        return Some(("<local time with offset>", FORM.len() + 6));
    }
    None
}

/// Matches a loopback address with its port.
fn address(text: &str) -> Option<(&'static str, usize)> {
    text.strip_prefix("127.")?;
    let is_of_address = |byte: &u8| byte.is_ascii_digit() || b".:".contains(byte);
    let length = text.bytes().take_while(|byte| is_of_address(byte)).count();
    text[..length]
        .contains(':')
        .then_some(("<address>", length))
}

/// Matches a user as the author of an event: `uid 0`.
fn user(text: &str) -> Option<(&'static str, usize)> {
    let rest = text.strip_prefix("uid ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then_some(("uid <user>", "uid ".len() + digits))
}

/// Matches the provider's redacted value of a secret.
fn redacted_value(text: &str) -> Option<(&'static str, usize)> {
    let rest = text.strip_prefix("sk-admin...")?;
    let is_of_secret = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let shown = rest.bytes().take_while(|byte| is_of_secret(byte)).count();
    Some(("<redacted value>", "sk-admin...".len() + shown))
}

/// Matches 16 hexadecimal digits that are no known id.
fn hash(text: &str) -> Option<(&'static str, usize)> {
    let digits = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    let ends = !text[digits..].starts_with(|next: char| next.is_ascii_alphanumeric());
    (digits == 16 && ends).then_some(("<16 hexadecimal digits>", 16))
}
