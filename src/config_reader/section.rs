//! The options of a section of the file, as they are read and as they are
//! documented.
//!
//! The example configuration, the manual page, the tables of the book and the JSON
//! Schema are made from these descriptions, and the reader takes the ranges and the
//! words that it accepts from them.

use std::time::Duration;

use crate::core::duration::{MAX_DURATION, to_text};

/// A section of the configuration file, or a type of sink or channel, with the
/// options that it allows. An option that no section lists is refused as
/// unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The name that identifies it, such as `provider` or `sink.file`.
    pub name: &'static str,
    /// What it is, in sentences of Markdown without links.
    pub about: &'static str,
    /// Its options.
    pub options: &'static [ConfigOption],
}

/// An option: what it takes, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigOption {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub value: ValueType,
    /// A valid value, in TOML, for messages and where there is no default.
    pub example: &'static str,
    /// What holds without it.
    pub default: DefaultValue,
    /// The other option without which this one is refused.
    pub needs: Option<Need>,
    /// What it means, in sentences of Markdown without links. The range is added.
    pub meaning: &'static str,
    /// What else the manual page says.
    pub details: &'static str,
}

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// Text that matches a regular expression. The reader may refuse more.
    Text(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// The name of a type: of sink or of channel.
    TypeName,
    /// `true` or `false`.
    Flag,
    /// A whole number between two others.
    Number(usize, usize),
    /// A duration between two others.
    Duration(Duration, Duration),
    /// The absolute path of a file.
    Path,
    /// A URL.
    Url,
    /// A list of texts that match a regular expression.
    Texts(&'static str),
    /// A text that matches a regular expression, or a list of them.
    TextOrTexts(&'static str),
    /// A list of these words.
    Choices(&'static [&'static str]),
    /// The absolute path of a program, and its arguments.
    CommandLine,
    /// A table.
    Table,
    /// A list of tables.
    Tables,
}

/// What holds without an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// The option is required.
    Required,
    /// Either this option or the other is required.
    RequiredUnless(&'static str),
    /// There is none.
    None,
    /// This value, in TOML.
    Value(&'static str),
    /// What this text of Markdown says.
    Described(&'static str),
}

/// The other option without which an option is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Its name.
    pub option: &'static str,
    /// The text that it must have, if not any.
    pub text: Option<&'static str>,
}

impl ConfigOption {
    /// Returns an option without a default.
    #[must_use]
    pub const fn new(
        name: &'static str,
        value: ValueType,
        example: &'static str,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            value,
            example,
            default: DefaultValue::None,
            needs: None,
            meaning,
            details: "",
        }
    }

    /// Returns the option as a required one.
    #[must_use]
    pub const fn required(self) -> Self {
        self.with_default(DefaultValue::Required)
    }

    /// Returns the option with a default, in TOML.
    #[must_use]
    pub const fn or(self, default: &'static str) -> Self {
        self.with_default(DefaultValue::Value(default))
    }

    /// Returns the option with a default.
    #[must_use]
    pub const fn with_default(self, default: DefaultValue) -> Self {
        Self { default, ..self }
    }

    /// Returns the option as one that is refused without another option, or without a text
    /// of that option.
    #[must_use]
    pub const fn only_with(self, option: &'static str, text: Option<&'static str>) -> Self {
        let needs = Some(Need { option, text });
        Self { needs, ..self }
    }

    /// Returns the option with more sentences for the manual page.
    #[must_use]
    pub const fn with_details(self, details: &'static str) -> Self {
        Self { details, ..self }
    }

    /// Returns the sentence about the range of its values, if it has one.
    #[must_use]
    pub fn range_text(&self) -> Option<String> {
        match self.value {
            ValueType::Number(minimum, maximum) => Some(format!("From {minimum} to {maximum}.")),
            ValueType::Duration(Duration::ZERO, MAX_DURATION) => None,
            ValueType::Duration(minimum, MAX_DURATION) => {
                Some(format!("At least {}.", to_text(minimum)))
            }
            ValueType::Duration(Duration::ZERO, maximum) => {
                Some(format!("At most {}.", to_text(maximum)))
            }
            ValueType::Duration(minimum, maximum) => {
                let (minimum, maximum) = (to_text(minimum), to_text(maximum));
                Some(format!("From {minimum} to {maximum}."))
            }
            ValueType::Text(_)
            | ValueType::Choice(_)
            | ValueType::TypeName
            | ValueType::Flag
            | ValueType::Path
            | ValueType::Url
            | ValueType::Texts(_)
            | ValueType::TextOrTexts(_)
            | ValueType::Choices(_)
            | ValueType::CommandLine
            | ValueType::Table
            | ValueType::Tables => None,
        }
    }
}

impl Section {
    /// Iterates over the names of its options.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.options.iter().map(|option| option.name)
    }

    /// Returns the option of that name, if it lists one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'static ConfigOption> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Whether it lists an option of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}
