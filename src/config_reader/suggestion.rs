//! Suggestions for an unknown name: the known name that it resembles, or its
//! new name.

/// The options that were renamed before the first published version, each with
/// its new name.
pub(crate) const RENAMED_OPTIONS: [(&str, &str); 12] = [
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

/// Returns the new name of the renamed option `name`, if that is one of
/// `known`.
pub(crate) fn renamed_to(name: &str, known: &[&str]) -> Option<&'static str> {
    RENAMED_OPTIONS
        .iter()
        .find(|(old, _)| *old == name)
        .map(|(_, new)| *new)
        .filter(|new| known.contains(new))
}

/// Returns the known name that `name` is most likely a misspelling of.
pub(crate) fn closest_match<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    // No known name is that long, and the distance takes time in the product of
    // the lengths.
    if name.len() > 40 {
        return None;
    }
    known
        .iter()
        .map(|known| (edit_distance(name, known), *known))
        // Two exchanged letters count as two edits.
        .filter(|(distance, known)| *distance <= (known.len() / 2).min(2).max(known.len() / 3))
        .min()
        .map(|(_, known)| known)
}

/// Returns the number of letters to insert, delete or replace.
fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().replace('_', "-").chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, letter) in from.to_lowercase().replace('_', "-").chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_close_match_is_suggested() {
        let known = [
            "base-url",
            "credential-file",
            "organization",
            "max-in-flight",
        ];
        for (name, expected) in [
            ("base_url", Some("base-url")),
            ("baseurl", Some("base-url")),
            ("credentials-file", Some("credential-file")),
            ("Organisation", Some("organization")),
            ("listen", None),
            ("", None),
        ] {
            assert_eq!(closest_match(name, &known), expected, "{name}");
        }
    }
}
