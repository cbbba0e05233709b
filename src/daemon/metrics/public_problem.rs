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

/// Replaces a word wherever no letter and no digit is beside it.
fn replace_word(text: &str, word: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut copied = 0;
    for (start, _) in text.match_indices(word) {
        let end = start + word.len();
        let before = text[..start].chars().next_back();
        let after = text[end..].chars().next();
        let is_word = [before, after]
            .into_iter()
            .flatten()
            .all(|beside| !beside.is_alphanumeric());
        if is_word {
            replaced.push_str(&text[copied..start]);
            replaced.push_str(PLACEHOLDER);
            copied = end;
        }
    }
    replaced.push_str(&text[copied..]);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys_are_replaced() {
        let names = ["billing", "billing-eu", "api"];
        let names = names.map(|name| KeyName::new(name).unwrap());
        for (problem, expected) in [
            ("billing: refused", "KEY: refused"),
            (
                "create credential rekeyd-billing-eu-17: refused",
                "create credential rekeyd-KEY-17: refused",
            ),
            ("billing", "KEY"),
            ("rapid billings of api, api", "rapid billings of KEY, KEY"),
            ("", ""),
        ] {
            assert_eq!(without_names(problem, names.iter()), expected);
        }
    }
}
