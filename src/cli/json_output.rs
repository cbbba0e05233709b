//! JSON that is safe on a terminal, where a pager or another program may show it: a text from
//! outside must not act on it.

use std::io::{self, Write};

use serde_json::ser::{Formatter, PrettyFormatter};

use crate::core::redact::is_printable;

/// The pretty format of `serde_json`, with an escape for each character that a terminal does
/// not show as itself. A program reads the same.
#[derive(Default)]
pub(crate) struct VisibleFormatter(PrettyFormatter<'static>);

impl Formatter for VisibleFormatter {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, is_first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        is_first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, is_first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(start) = rest.find(|character| !is_printable(character)) {
            let (shown, hidden) = rest.split_at(start);
            writer.write_all(shown.as_bytes())?;
            let mut characters = hidden.chars();
            for unit in characters
                .next()
                .into_iter()
                .collect::<String>()
                .encode_utf16()
            {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize as _;
    use serde_json::{Serializer, Value, json};

    use super::*;

    fn written(value: &Value) -> String {
        let mut out = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut out, VisibleFormatter::default());
        value.serialize(&mut serializer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_from_outside_does_not_act_on_a_terminal() {
        let error = "a\u{9b}31mb\u{202e}c\u{7f}\u{1b}\n\u{e0041}";
        let value = json!([{"error": error}, [], {}, null]);
        let text = written(&value);
        assert!(
            text.contains(r"a\u009b31mb\u202ec\u007f\u001b\n\udb40\udc41"),
            "{text}"
        );
        let is_shown = |character| is_printable(character) || character == '\n';
        assert!(text.chars().all(is_shown), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn other_text_is_as_serde_json_writes_it() {
        let value = json!({"key": "übel ● \"x\"", "rows": [1, {"a": []}, [[]]], "none": {}});
        assert_eq!(written(&value), format!("{value:#}"));
    }
}
