//! The problem that `/readyz` shows, which needs no password: it names no key.

use crate::core::ids::KeyName;

/// What stands in the place of a key's name.
const PLACEHOLDER: &str = "KEY";

/// Returns a problem with the names of these keys replaced, also where they are a part of a
/// label.
pub(crate) fn without_names<'k>(problem: &str, keys: impl Iterator<Item = &'k KeyName>) -> String {
    let mut names: Vec<&str> = keys.map(KeyName::as_str).collect();
    // A name may be a part of another one.
    names.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
    let mut text = problem.to_owned();
    for name in names {
        text = replace_word(&text, name);
    }
    text
}

/// Replaces a word where it may be the name of a key.
fn replace_word(text: &str, word: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut copied = 0;
    for (start, _) in text.match_indices(word) {
        let end = start + word.len();
        if may_be_name(&text[..start], word, &text[end..]) {
            replaced.push_str(&text[copied..start]);
            replaced.push_str(PLACEHOLDER);
            copied = end;
        }
    }
    replaced.push_str(&text[copied..]);
    replaced
}

/// Returns whether a word between two texts may be the name of a key: it is not a part of
/// another word, of a compound or of a host's name, and no word of rekeyd's own sentences.
fn may_be_name(before: &str, word: &str, after: &str) -> bool {
    let (left, mut right) = (before.chars().next_back(), after.chars());
    let (next, second) = (right.next(), right.next());
    let is_part = |beside: Option<char>| beside.is_some_and(|beside| beside.is_alphanumeric());
    if is_part(left) || is_part(next) {
        return false;
    }
    match (left, next) {
        // A label: rekeyd-NAME-20261124T030000Z-5f3a9c.
        (_, Some('-')) if second.is_some_and(|second| second.is_ascii_digit()) => true,
        // A part of a path.
        (Some('/'), _) => true,
        (Some('-' | '_' | '.'), _) | (_, Some('-' | '_')) => false,
        (_, Some('.')) if is_part(second) => false,
        // A message begins with the key that it is about.
        (None, Some(':')) => true,
        _ => !OWN_WORDS.contains(&word),
    }
}

/// The words of rekeyd's own messages about conditions that a key may be named like: within a
/// sentence, they name none.
const OWN_WORDS: [&str; 40] = [
    "a",
    "admin",
    "again",
    "an",
    "and",
    "answer",
    "api",
    "at",
    "check",
    "clock",
    "configuration",
    "create",
    "credential",
    "credentials",
    "disk",
    "file",
    "for",
    "from",
    "has",
    "hint",
    "host",
    "in",
    "is",
    "it",
    "its",
    "key",
    "keys",
    "ledger",
    "list",
    "new",
    "no",
    "not",
    "of",
    "or",
    "organization",
    "provider",
    "read",
    "rekeyd",
    "the",
    "to",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys_are_replaced() {
        let names = [
            "billing",
            "billing-eu",
            "api",
            "invoices",
            "provider",
            "read",
            "the",
        ];
        let names = names.map(|name| KeyName::new(name).unwrap());
        for (problem, expected) in [
            ("billing: refused", "KEY: refused"),
            (
                "create credential rekeyd-billing-eu-17: refused",
                "create credential rekeyd-KEY-17: refused",
            ),
            ("billing", "KEY"),
            (
                "rapid billings of invoices, invoices",
                "rapid billings of KEY, KEY",
            ),
            ("key invoices; `invoices`", "key KEY; `KEY`"),
            ("cannot open /srv/billing/key", "cannot open /srv/KEY/key"),
            // Words of a sentence, a compound and a host.
            (
                "the provider api.openai.com is read-only: the list is refused",
                "the provider api.openai.com is read-only: the list is refused",
            ),
            ("provider: refused", "KEY: refused"),
            (
                "rekeyd-the-20261124T030000Z-5f",
                "rekeyd-KEY-20261124T030000Z-5f",
            ),
            ("", ""),
        ] {
            assert_eq!(without_names(problem, names.iter()), expected);
        }
    }
}
