//! The part of the file that an option and its value take.

use std::ops::Range;

use toml::de::DeValue;

/// Where the text of the file has an option or an item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceSpan {
    /// The bytes of the option's name; an item of a list has none.
    pub(crate) name: Option<Range<usize>>,
    /// The bytes of the value, or of the header of a table. Where a table has no
    /// header of its own, those of its name.
    pub(crate) value: Range<usize>,
    /// The kind of the value.
    pub(crate) kind: ValueKind,
}

impl SourceSpan {
    /// Returns the number of bytes before the option or the item.
    pub(crate) fn start(&self) -> usize {
        self.name.as_ref().unwrap_or(&self.value).start
    }
}

/// The kind of a TOML value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueKind {
    String,
    Integer,
    Float,
    Boolean,
    Datetime,
    Array,
    Table,
}

impl ValueKind {
    /// Returns the kind of a value.
    pub(crate) const fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(_) => Self::String,
            DeValue::Integer(_) => Self::Integer,
            DeValue::Float(_) => Self::Float,
            DeValue::Boolean(_) => Self::Boolean,
            DeValue::Datetime(_) => Self::Datetime,
            DeValue::Array(_) => Self::Array,
            DeValue::Table(_) => Self::Table,
        }
    }

    /// Says that a value of this kind was found.
    pub(crate) const fn found(self) -> &'static str {
        match self {
            Self::String => "found a string",
            Self::Integer => "found a whole number",
            Self::Float => "found a number with a fraction",
            Self::Boolean => "found true or false",
            Self::Datetime => "found a date or a time",
            Self::Array => "found a list",
            Self::Table => "found a table",
        }
    }
}
