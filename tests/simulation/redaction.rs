//! The forms in which a provider redacts secrets.

/// A form of redacted values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedactionForm {
    Dots,
    TwoDots,
    Ellipsis,
    Stars,
    LetterMask,
    /// The end behind a mask and a separator.
    Separated,
    BareEnd,
    UpperCase,
    /// The start alone, which is the same for all secrets.
    Start,
    Word,
    /// Two words without a mask, and no end.
    Words,
    /// The start of every secret and a word.
    StartAndWord,
    Missing,
    /// The same end for every secret, which none of them has.
    Constant,
    /// Two of the last characters.
    ShortEnd,
}

impl RedactionForm {
    pub(crate) const ALL: [Self; 15] = [
        Self::Dots,
        Self::TwoDots,
        Self::Ellipsis,
        Self::Stars,
        Self::LetterMask,
        Self::Separated,
        Self::BareEnd,
        Self::UpperCase,
        Self::Start,
        Self::Word,
        Self::Words,
        Self::StartAndWord,
        Self::Missing,
        Self::Constant,
        Self::ShortEnd,
    ];

    pub(crate) fn redact(self, secret: &str) -> Option<String> {
        let end = &secret[secret.len() - 6..];
        Some(match self {
            Self::Dots => format!("sk-admin...{end}"),
            Self::TwoDots => format!("sk-ad..{end}"),
            Self::Ellipsis => format!("sk-admin…{end}"),
            Self::Stars => format!("sk-****{end}"),
            Self::LetterMask => format!("sk-XXXXXX{end}"),
            Self::Separated => format!("****-{end}"),
            Self::BareEnd => end.to_owned(),
            Self::UpperCase => format!("SK-ADMIN…{}", end.to_uppercase()),
            Self::Start => "sk-...".to_owned(),
            Self::Word => "hidden".to_owned(),
            Self::Words => "hidden-key".to_owned(),
            Self::StartAndWord => "sk-masked".to_owned(),
            Self::Missing => return None,
            Self::Constant => "sk-admin...def".to_owned(),
            Self::ShortEnd => format!("...{}", &end[4..]),
        })
    }

    /// Returns whether the values tell one secret from another.
    pub(crate) fn identifies_secrets(self) -> bool {
        match self {
            Self::Dots
            | Self::TwoDots
            | Self::Ellipsis
            | Self::Stars
            | Self::LetterMask
            | Self::Separated
            | Self::BareEnd
            | Self::UpperCase => true,
            Self::Start
            | Self::Word
            | Self::Words
            | Self::StartAndWord
            | Self::Missing
            | Self::Constant
            | Self::ShortEnd => false,
        }
    }
}
