//! The forms of log lines.

/// The forms of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `journald` if systemd connected standard error to the journal, otherwise `human`
    #[default]
    Auto,
    /// Plain text for people
    Human,
    /// One JSON object per line
    Json,
    /// Entries of the systemd journal, with fields such as REKEYD_KEY
    Journald,
}

impl LogFormat {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Human, Self::Json, Self::Journald];

    /// The word of every form, in the same order.
    pub const NAMES: [&'static str; Self::ALL.len()] = ["auto", "human", "json", "journald"];

    /// Returns the form with this word.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut named = Self::ALL.into_iter().zip(Self::NAMES);
        named.find_map(|(format, name)| (name == text).then_some(format))
    }
}
