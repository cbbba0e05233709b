//! The names of all options: the one list that the file is checked against
//! and that the example is checked to be complete by.

/// A part of the file with options of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The top of the file: the names of the tables.
    Top,
    /// `[provider]`.
    Provider,
    /// `[ledger]`.
    Ledger,
    /// `[control]`.
    Control,
    /// `[metrics]`.
    Metrics,
    /// `[defaults]`, and every key too.
    Defaults,
    /// What only a `[key.NAME]` has.
    Key,
    /// Every `[[key.NAME.sink]]`.
    Sink,
    /// A sink with `type = "file"`.
    File,
    /// A sink with `type = "webhook"`.
    Webhook,
    /// A sink with `type = "command"`.
    Command,
    /// A sink with `type = "self"`.
    SelfCredential,
    /// Every `[[notify]]`.
    Notify,
    /// One with `type = "webhook"`.
    NotifyWebhook,
    /// One with `type = "command"`.
    NotifyCommand,
    /// One with `type = "sendmail"`.
    NotifySendmail,
}

impl Section {
    /// Every section.
    pub const ALL: [Self; 16] = [
        Self::Top,
        Self::Provider,
        Self::Ledger,
        Self::Control,
        Self::Metrics,
        Self::Defaults,
        Self::Key,
        Self::Sink,
        Self::File,
        Self::Webhook,
        Self::Command,
        Self::SelfCredential,
        Self::Notify,
        Self::NotifyWebhook,
        Self::NotifyCommand,
        Self::NotifySendmail,
    ];

    /// The options that stand in it.
    #[must_use]
    pub const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Top => &[
                "provider", "ledger", "control", "metrics", "defaults", "key", "notify",
            ],
            Self::Provider => &[
                "base-url",
                "credential-file",
                "organization",
                "ca-file",
                "request-timeout",
                "max-in-flight",
                "reconcile-every",
            ],
            Self::Ledger => &["path"],
            Self::Control => &["socket", "admins"],
            Self::Metrics => &["listen"],
            Self::Defaults => &[
                "timezone",
                "jitter",
                "initial-rotation",
                "catch-up-window",
                "overlap",
                "verify-timeout",
                "verify-interval",
                "delivery-deadline",
                "max-creates-per-day",
                "max-live-credentials",
                "expires-after",
                "revoke-when-idle-for",
                "max-revoke-delay",
            ],
            Self::Key => &["schedule", "every", "sink"],
            Self::Sink => &["type", "name", "required", "timeout"],
            Self::File => &[
                "path",
                "format",
                "variable",
                "mode",
                "owner",
                "group",
                "on-change",
                "on-change-timeout",
            ],
            Self::Webhook => &["url", "signing-secret-file", "ca-file", "bearer-token-file"],
            Self::Command => &["argv"],
            Self::SelfCredential => &[],
            Self::Notify => &["type", "on", "keys"],
            Self::NotifyWebhook => &["url", "signing-secret-file"],
            Self::NotifyCommand => &["argv"],
            Self::NotifySendmail => &["to"],
        }
    }
}

/// The options that were renamed before the first published version, each with
/// the name that it has now.
const RENAMED_OPTIONS: [(&str, &str); 12] = [
    ("settle", "verify-interval"),
    ("verify-for", "verify-timeout"),
    ("deliver-for", "delivery-deadline"),
    ("live-at-most", "max-live-credentials"),
    ("creates-per-day", "max-creates-per-day"),
    ("sweep-every", "reconcile-every"),
    ("hold-while-used", "revoke-when-idle-for"),
    ("hold-at-most", "max-revoke-delay"),
    ("first", "initial-rotation"),
    ("window", "catch-up-window"),
    ("after", "on-change"),
    ("after-timeout", "on-change-timeout"),
];

/// Returns the present name of the option that was called `name` once, if that
/// option is one of `known`.
pub(super) fn renamed_to(name: &str, known: &[&str]) -> Option<&'static str> {
    RENAMED_OPTIONS
        .iter()
        .find(|(old, _)| *old == name)
        .map(|(_, new)| *new)
        .filter(|new| known.contains(new))
}

/// The known name that `name` was most likely meant to be.
pub(super) fn closest_match<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // Of a very long name nothing is a misspelling, and the distance costs
    // the product of the lengths.
    if name.len() > 40 {
        return None;
    }
    known
        .iter()
        .map(|known| (edit_distance(name, known), *known))
        // Two letters that changed places count as two.
        .filter(|(distance, known)| *distance <= (known.len() / 2).min(2).max(known.len() / 3))
        .min()
        .map(|(_, known)| known)
}

/// How many letters must be put in, left out or changed.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().replace('_', "-").chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.to_lowercase().replace('_', "-").chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = done + 1;
        for (at, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[at + 1];
            row[at + 1] = changed.min(diagonal + 1).min(row[at] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamed_options_name_options_that_exist_and_are_none_themselves() {
        let all: Vec<&str> = Section::ALL
            .into_iter()
            .flat_map(Section::options)
            .copied()
            .collect();
        for (old, new) in RENAMED_OPTIONS {
            assert_eq!(renamed_to(old, &all), Some(new));
            assert!(!all.contains(&old), "{old}");
            assert_eq!(renamed_to(old, &["path"]), None, "{old}");
        }
        assert_eq!(renamed_to("schedule", &all), None);
    }

    #[test]
    fn only_a_close_match_is_suggested() {
        let known = Section::Provider.options();
        for (name, expected) in [
            ("base_url", Some("base-url")),
            ("baseurl", Some("base-url")),
            ("credentials-file", Some("credential-file")),
            ("Organisation", Some("organization")),
            ("listen", None),
            ("", None),
        ] {
            assert_eq!(closest_match(name, known), expected, "{name}");
        }
    }
}
