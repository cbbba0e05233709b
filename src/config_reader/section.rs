//! The options of a section of the file.

/// A section of the configuration file, or a type of sink or channel, with the
/// options that it allows. An option that no section lists is refused as
/// unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The name that identifies it, such as `provider` or `sink.file`.
    pub name: &'static str,
    /// Its options.
    pub options: &'static [ConfigOption],
}

/// An option, and an example of its value for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigOption {
    /// Its name.
    pub name: &'static str,
    /// A valid value, in TOML.
    pub example: &'static str,
}

impl ConfigOption {
    /// Returns an option with an example of its value, in TOML.
    #[must_use]
    pub const fn new(name: &'static str, example: &'static str) -> Self {
        Self { name, example }
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
