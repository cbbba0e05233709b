//! Suggests the known name that an unknown one was probably meant to be, or
//! that it has now.

/// The options that were renamed before the first published version, each with
/// the name that it has now.
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

/// Returns the present name of the option that was called `name` once, if that
/// option is one of `known`.
pub(crate) fn renamed_to(name: &str, known: &[&str]) -> Option<&'static str> {
    RENAMED_OPTIONS
        .iter()
        .find(|(old, _)| *old == name)
        .map(|(_, new)| *new)
        .filter(|new| known.contains(new))
}

/// Returns the known name that `name` is most likely a misspelling of.
pub(crate) fn closest_match<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
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
