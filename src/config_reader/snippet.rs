//! The lines of the file that a message shows: the name of an option and the
//! shape of its value, and never the text itself, which may hold a secret.

use std::ops::Range;

use super::quote::{may_be_secret, quote_segment};
use super::source::{SourceSpan, ValueKind};

/// The longest number or date that is shown as it is written, in bytes. A
/// longer one may be a secret.
const MAX_SHOWN_LITERAL: usize = 12;

/// The replacement of what is not shown.
const HIDDEN: &str = "…";

/// A line of the file as a message shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The shape of the line, each part in the column where the file has it.
    pub text: String,
    /// The bytes of `text` that the message is about.
    pub marked: Range<usize>,
    /// A remark about them.
    pub label: Option<&'static str>,
}

/// The part of an option that a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MarkedPart {
    /// Its name.
    Name,
    /// Its value.
    Value,
}

/// Returns the shape of the line in `text` that has an option or an item.
pub(crate) fn option_snippet(text: &str, span: &SourceSpan, marked: MarkedPart) -> Snippet {
    let line = SourceLine::at(text, span.start());
    let is_in_header = |name: &Range<usize>| span.value.start <= name.start;
    let is_section = match span.kind {
        ValueKind::Table => !slice(text, &span.value).starts_with('{'),
        ValueKind::Array => span.name.as_ref().is_some_and(is_in_header),
        ValueKind::String
        | ValueKind::Integer
        | ValueKind::Float
        | ValueKind::Boolean
        | ValueKind::Datetime => false,
    };
    if is_section {
        return table_snippet(&line, span, text);
    }
    let mut shape = LineShape::default();
    if let Some(name) = &span.name {
        if !line.before(name.start).trim().is_empty() {
            shape.place(line.indentation(), HIDDEN);
        }
        let (shown, is_exact) = shown_name(slice(text, name));
        let name_range = shape.place(line.column(name.start), &shown);
        let gap = text.get(name.end..span.value.start).unwrap_or_default();
        let is_literal = is_exact && gap.chars().all(|letter| " \t=".contains(letter));
        shape.push(if is_literal { gap } else { " = " });
        let value_range = shape.push(&shown_value(slice(text, &span.value), span.kind));
        shape.push(line.shown_rest(span.value.end));
        let range = match marked {
            MarkedPart::Name => name_range,
            MarkedPart::Value => value_range,
        };
        return shape.into_snippet(range);
    }
    let before = line.before(span.value.start);
    match list_start(before) {
        Some(start) => {
            shape.place(line.indentation(), start);
            let is_first = before.trim_start().len() == start.len();
            shape.push(if is_first { "" } else { HIDDEN });
        }
        None if before.trim().is_empty() => {}
        None => {
            shape.place(line.indentation(), HIDDEN);
        }
    }
    let value = shown_value(slice(text, &span.value), span.kind);
    let range = shape.place(line.column(span.value.start), &value);
    shape.push(line.shown_rest(span.value.end));
    shape.into_snippet(range)
}

/// Returns the header of a table, or its name in a line such as `provider.ca-file = "…"`.
fn table_snippet(line: &SourceLine<'_>, span: &SourceSpan, text: &str) -> Snippet {
    let mut shape = LineShape::default();
    let header = line.text.trim_start();
    if header.starts_with('[') {
        let range = shape.place(line.indentation(), &shown_header(header));
        return shape.into_snippet(range);
    }
    let name = span.name.clone().unwrap_or_else(|| span.value.clone());
    if !line.before(name.start).trim().is_empty() {
        shape.place(line.indentation(), HIDDEN);
    }
    let (shown, _) = shown_name(slice(text, &name));
    let range = shape.place(line.column(name.start), &shown);
    shape.push(HIDDEN);
    shape.into_snippet(range)
}

/// Returns the shape of a line that is not TOML, with a mark at an offset.
/// Only a name that `is_known` is shown of it.
pub(crate) fn syntax_snippet(
    text: &str,
    offset: usize,
    is_known: impl Fn(&str) -> bool,
) -> Snippet {
    let line = SourceLine::at(text, offset);
    let content = line.text.trim();
    let brackets = content.len() - content.trim_start_matches('[').len();
    let name = bare_name(&content[brackets..]);
    let after = content.get(brackets + name.len()..).unwrap_or_default();
    let mut shape = LineShape::default();
    if !content.is_empty() {
        shape.place(line.indentation(), &"[["[..brackets.min(2)]);
        if is_known(name) {
            shape.push(name);
            let equals = after.len() - after.trim_start_matches([' ', '\t']).len();
            if after[equals..].starts_with('=') {
                let rest = after[equals + 1..].trim_start_matches([' ', '\t']);
                shape.push(&after[..after.len() - rest.len()]);
            }
        }
        let hidden = shape.push(HIDDEN);
        // What is not shown has no columns of its own.
        let shown = shape.0[..hidden.start].chars().count();
        if line.column(offset) >= shown {
            return shape.into_snippet(hidden);
        }
    }
    let range = shape.mark(line.column(offset));
    shape.into_snippet(range)
}

/// Returns a name as a message shows it, and whether that is how it is written.
fn shown_name(source: &str) -> (String, bool) {
    let is_bare = bare_name(source).len() == source.len();
    let shown = if is_bare {
        quote_segment(source)
    } else {
        format!("\"{HIDDEN}\"")
    };
    let is_exact = shown == source;
    (shown, is_exact)
}

/// Returns the shape of a value.
fn shown_value(source: &str, kind: ValueKind) -> String {
    let is_empty = || {
        source
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .count()
            == 2
    };
    match kind {
        ValueKind::String => format!("\"{HIDDEN}\""),
        ValueKind::Array if is_empty() => "[]".to_owned(),
        ValueKind::Array => format!("[{HIDDEN}]"),
        ValueKind::Table if is_empty() => "{}".to_owned(),
        ValueKind::Table => format!("{{ {HIDDEN} }}"),
        ValueKind::Integer | ValueKind::Float | ValueKind::Boolean | ValueKind::Datetime
            if source.len() <= MAX_SHOWN_LITERAL =>
        {
            source.to_owned()
        }
        ValueKind::Integer | ValueKind::Float | ValueKind::Boolean | ValueKind::Datetime => {
            HIDDEN.to_owned()
        }
    }
}

/// Returns a table's header with the names that a message may show.
fn shown_header(line: &str) -> String {
    let content = line.trim_start_matches('[');
    let brackets = (line.len() - content.len()).min(2);
    let (opening, closing) = (&"[["[..brackets], &"]]"[..brackets]);
    let names = content.split(']').next().unwrap_or_default();
    let names = names.split('.').map(|name| shown_name(name.trim()).0);
    let names: Vec<_> = names.collect();
    format!("{opening}{}{closing}", names.join("."))
}

/// Returns the beginning of a line such as `argv = ["/bin/put", 1]`, up to the
/// bracket, if the line is one.
fn list_start(before: &str) -> Option<&str> {
    let line = before.trim_start();
    let name = bare_name(line);
    let equals = line.strip_prefix(name)?.trim_start_matches([' ', '\t']);
    let bracket = equals.strip_prefix('=')?.trim_start_matches([' ', '\t']);
    let rest = bracket.strip_prefix('[')?;
    let is_shown = !name.is_empty() && !may_be_secret(name);
    is_shown.then(|| &line[..line.len() - rest.len()])
}

/// Returns the name without quotes that `text` begins with.
fn bare_name(text: &str) -> &str {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    &text[..text.find(|letter| !is_bare(letter)).unwrap_or(text.len())]
}

/// Returns the text of a span.
fn slice<'t>(text: &'t str, span: &Range<usize>) -> &'t str {
    text.get(span.clone()).unwrap_or_default()
}

/// Returns the last boundary of a character at or before an offset.
fn char_boundary(text: &str, offset: usize) -> usize {
    let mut boundary = offset.min(text.len());
    while !text.is_char_boundary(boundary) {
        boundary -= 1;
    }
    boundary
}

/// A line of the file.
struct SourceLine<'t> {
    text: &'t str,
    /// The number of bytes of the file before it.
    start: usize,
}

impl<'t> SourceLine<'t> {
    /// Returns the line with the byte at `offset`.
    fn at(text: &'t str, offset: usize) -> Self {
        let offset = char_boundary(text, offset);
        let start = text[..offset].rfind('\n').map_or(0, |end| end + 1);
        let length = text[start..].find('\n');
        let end = length.map_or(text.len(), |length| start + length);
        Self {
            text: &text[start..end],
            start,
        }
    }

    /// Returns its text before a byte of the file.
    fn before(&self, offset: usize) -> &'t str {
        let length = offset.saturating_sub(self.start).min(self.text.len());
        &self.text[..char_boundary(self.text, length)]
    }

    /// Returns the column of a byte of the file, from 0, in characters.
    fn column(&self, offset: usize) -> usize {
        self.before(offset).chars().count()
    }

    /// Returns the column of its first character that is not white space.
    fn indentation(&self) -> usize {
        self.text
            .chars()
            .take_while(|letter| letter.is_whitespace())
            .count()
    }

    /// Returns what is shown of the line behind a value.
    fn shown_rest(&self, offset: usize) -> &'static str {
        let rest = self.text.get(offset.saturating_sub(self.start)..);
        let rest = rest.unwrap_or_default().trim_start();
        if rest.is_empty() || rest.starts_with('#') {
            ""
        } else {
            " …"
        }
    }
}

/// The shape of a line, while it is composed.
#[derive(Default)]
struct LineShape(String);

impl LineShape {
    /// Appends a part, in this column if nothing is there yet.
    fn place(&mut self, column: usize, part: &str) -> Range<usize> {
        let width = self.0.chars().count();
        self.0
            .extend(std::iter::repeat_n(' ', column.saturating_sub(width)));
        self.push(part)
    }

    fn push(&mut self, part: &str) -> Range<usize> {
        let start = self.0.len();
        self.0.push_str(part);
        start..self.0.len()
    }

    /// Returns the bytes of the character in a column.
    fn mark(&mut self, column: usize) -> Range<usize> {
        match self.0.char_indices().nth(column) {
            Some((start, letter)) => start..start + letter.len_utf8(),
            None => self.place(column, ""),
        }
    }

    fn into_snippet(self, marked: Range<usize>) -> Snippet {
        Snippet {
            text: self.0,
            marked,
            label: None,
        }
    }
}
