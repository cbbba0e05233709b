//! The forms in which a provider shows the names that it was sent.

/// The length after which a provider cuts names.
const MAX_LENGTH: usize = 25;

/// A form of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameForm {
    /// As they were sent.
    Kept,
    LowerCase,
    UpperCase,
    Prefixed,
    /// Cut, within the random part of the shorter labels and before that of the longest.
    Cut,
    /// All of it at once.
    PrefixedAndCutInLowerCase,
}

impl NameForm {
    pub(crate) const CHANGED: [Self; 5] = [
        Self::LowerCase,
        Self::UpperCase,
        Self::Prefixed,
        Self::Cut,
        Self::PrefixedAndCutInLowerCase,
    ];

    /// Returns the name of the scenario with this form.
    pub(crate) const fn scenario_name(self) -> &'static str {
        match self {
            Self::Kept => "names-kept",
            Self::LowerCase => "names-in-lower-case",
            Self::UpperCase => "names-in-upper-case",
            Self::Prefixed => "names-prefixed",
            Self::Cut => "names-cut",
            Self::PrefixedAndCutInLowerCase => "names-prefixed-cut-in-lower-case",
        }
    }

    /// Returns the name that the provider shows of a credential.
    pub(crate) fn apply(self, name: &str) -> String {
        let cut = || &name[..name.len().min(MAX_LENGTH)];
        match self {
            Self::Kept => name.to_owned(),
            Self::LowerCase => name.to_lowercase(),
            Self::UpperCase => name.to_uppercase(),
            Self::Prefixed => format!("acme/{name}"),
            Self::Cut => cut().to_owned(),
            Self::PrefixedAndCutInLowerCase => format!("acme/{}", cut().to_lowercase()),
        }
    }
}
