//! How a name at the provider relates to the label that was sent.

use crate::core::ids::Label;

/// The length of a label behind the name of its key: `-20261123T030000Z-5f3a9c`.
const SUFFIX_LENGTH: usize = 24;

/// The part of it that tells one rotation from another well enough, up to the day, and
/// the part that also does so behind a prefix, up to the second.
const DAY_LENGTH: usize = 9;
const SECOND_LENGTH: usize = 16;

/// The shortest limit of names that counts for itself: a person does not give a
/// credential just such a part of a key's name.
const MIN_NAME_LIMIT: usize = 30;

/// How the name of a credential relates to a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelMatch {
    /// It is the label.
    Same,
    /// It is the label as this provider changes names.
    Changed(NameChange),
    /// It is another name.
    Other,
}

/// How a provider changes the names that it is sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameChange {
    /// The text that it puts before a name.
    prefix: String,
    /// How it changes the case of letters.
    case: CaseChange,
    /// The number of characters after which it cuts a name, without the prefix.
    cut_after: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum CaseChange {
    Kept,
    Upper,
    /// Labels are lower case but for two letters of their time.
    Lower,
}

impl CaseChange {
    fn apply(self, text: &str) -> String {
        match self {
            Self::Kept => text.to_owned(),
            Self::Upper => text.to_ascii_uppercase(),
            Self::Lower => text.to_ascii_lowercase(),
        }
    }
}

impl NameChange {
    /// Returns the name that the provider gives to a credential with this label.
    #[must_use]
    pub fn apply(&self, label: &Label) -> String {
        let label = label.as_str();
        let cut = self.cut_after.unwrap_or(label.len()).min(label.len());
        let shown = label.get(..cut).unwrap_or(label);
        format!("{}{}", self.prefix, self.case.apply(shown))
    }
}

/// Compares the name that the provider shows with the label that it was sent. Providers
/// change the case of names, cut them, trim them and put a prefix before them.
#[must_use]
pub fn match_label(label: &Label, name: &str) -> LabelMatch {
    let sent = label.as_str();
    let name = name.trim();
    if name == sent {
        return LabelMatch::Same;
    }
    for case in [CaseChange::Kept, CaseChange::Lower, CaseChange::Upper] {
        let changed = case.apply(sent);
        // The longest part first, so that a prefix is as short as possible.
        for length in (1..=changed.len()).rev() {
            let Some(prefix) = changed
                .get(..length)
                .and_then(|part| name.strip_suffix(part))
            else {
                continue;
            };
            if !is_recognizable(length, changed.len(), prefix) {
                continue;
            }
            return LabelMatch::Changed(NameChange {
                prefix: prefix.to_owned(),
                case,
                cut_after: (length < changed.len()).then_some(length),
            });
        }
    }
    LabelMatch::Other
}

/// Returns whether the first `length` characters of a label of `full` characters
/// recognize it. A name such as `billing-exporter` may be a person's.
fn is_recognizable(length: usize, full: usize, prefix: &str) -> bool {
    let key_length = full.saturating_sub(SUFFIX_LENGTH);
    if prefix.is_empty() {
        length >= key_length + DAY_LENGTH || (length >= MIN_NAME_LIMIT && length != key_length)
    } else {
        length >= key_length + SECOND_LENGTH
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LABEL: &str = "billing-exporter-20261123T030000Z-5f3a9c";

    fn label() -> Label {
        Label::from_recorded(LABEL)
    }

    #[test]
    fn changed_names_are_recognized() {
        assert_eq!(match_label(&label(), LABEL), LabelMatch::Same);
        for name in [
            &LABEL[..36],
            &LABEL[..25],
            &LABEL.to_lowercase(),
            &LABEL.to_uppercase(),
            &LABEL.to_lowercase()[..30],
            &format!("acme/{LABEL}"),
            &format!("org-{}", &LABEL[..32]),
            &format!("Admin key {}", LABEL.to_lowercase()),
        ] {
            let LabelMatch::Changed(change) = match_label(&label(), name) else {
                panic!("{name}");
            };
            assert_eq!(change.apply(&label()), name.trim_end(), "{change:?}");
        }
        for other in [
            "",
            "billing",
            "someone's key",
            "billing-exporter",
            "billing-exporter-2",
            "billing-exporter-2026",
            "my billing-exporter",
            "Billing-Exporter",
            "Administration Key",
            "billing-exporter-20261123T030000Z-5f3a9d",
            "billing-exporter-20261123T030001Z-5f3a9c",
            "billing-exporter-20261123T030000Z-5f3a9c-copy",
        ] {
            assert_eq!(match_label(&label(), other), LabelMatch::Other, "{other}");
        }
    }

    /// A provider may cut names within the name of a key.
    #[test]
    fn long_labels_are_recognized_by_half_of_them() {
        let label = Label::from_recorded(format!("{}-20261123T030000Z-5f3a9c", "k".repeat(48)));
        for (length, expected) in [(64, true), (50, true), (48, false), (32, true), (29, false)] {
            let matched = match_label(&label, &label.as_str()[..length]);
            assert_eq!(
                matches!(matched, LabelMatch::Changed(_)),
                expected,
                "{length}"
            );
        }
    }

    #[test]
    fn a_change_names_other_labels_alike() {
        let other = Label::from_recorded("web-20261124T010203Z-0011aa");
        for (name, expected) in [
            (format!("acme/{LABEL}"), "acme/web-20261124T010203Z-0011aa"),
            (LABEL[..25].to_owned(), "web-20261124T010203Z-0011"),
            (LABEL.to_lowercase(), "web-20261124t010203z-0011aa"),
        ] {
            let LabelMatch::Changed(change) = match_label(&label(), &name) else {
                panic!("{name}");
            };
            assert_eq!(change.apply(&other), expected);
        }
    }

    proptest! {
        #[test]
        fn a_change_repeats_the_name_that_showed_it(
            prefix in "[a-z]{0,6}[/ :_-]?", length in 32_usize..41, case in 0_u8..3,
        ) {
            let shown = &LABEL[..length.min(LABEL.len())];
            let shown = match case {
                0 => shown.to_owned(),
                1 => shown.to_lowercase(),
                _ => shown.to_uppercase(),
            };
            let name = format!("{prefix}{shown}");
            match match_label(&label(), &name) {
                LabelMatch::Same => prop_assert_eq!(name.trim(), LABEL),
                LabelMatch::Changed(change) => prop_assert_eq!(change.apply(&label()), name.trim()),
                LabelMatch::Other => prop_assert!(false, "{}", name),
            }
        }

        /// The name of another rotation of the key is never taken for this one's, unless
        /// the part that differs was cut.
        #[test]
        fn labels_of_other_rotations_differ(time in 0_u32..999_999, random in 0_u32..0xff_ffff) {
            let other = format!("billing-exporter-20261122T{time:06}Z-{random:06x}");
            prop_assert_eq!(match_label(&label(), &other), LabelMatch::Other);
        }
    }
}
