//! The options of a section of the file.

/// A section of the configuration file, or a type of sink or channel, with the
/// options that it allows. An option that no section lists is refused as
/// unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// The name that identifies it, such as `provider` or `sink.file`.
    pub name: &'static str,
    /// The names of its options.
    pub options: &'static [&'static str],
}

impl Section {
    /// Whether it lists an option of that name.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }
}
