//! Finds secrets by the prefixes of the providers' secrets, even of a secret that this
//! process does not know.

use std::ops::Range;

/// The prefixes of the secrets of all providers. Each kind of key declares the prefixes
/// of its own secrets; a test checks that they are here.
pub(super) const SECRET_PREFIXES: [&str; 3] = ["sk-admin-", "sk-proj-", "sk-svcacct-"];

/// The minimum number of characters after a prefix that are masked even when the prefix
/// is the end of a longer word, as in `task-proj-a`.
const MIN_GLUED_SECRET_CHARS: usize = 20;

/// Returns the ranges of the words with a prefix. A redacted value (`sk-admin...def`) is
/// none.
pub(super) fn find(text: &str) -> Vec<Range<usize>> {
    let prefixes = SECRET_PREFIXES.iter();
    let found = prefixes
        .flat_map(|prefix| text.match_indices(prefix))
        .filter_map(|(start, prefix)| find_secret(text, start, prefix.len()));
    found.collect()
}

/// Returns the range of the secret whose prefix starts at `start`; none if it is no
/// secret.
fn find_secret(text: &str, start: usize, prefix_len: usize) -> Option<Range<usize>> {
    let is_outside =
        |character: char| !(character.is_ascii_alphanumeric() || matches!(character, '-' | '_'));
    let rest = &text[start + prefix_len..];
    let length = rest.find(is_outside).unwrap_or(rest.len());
    let is_glued = text[..start].ends_with(|character: char| character.is_ascii_alphanumeric());
    let is_secret = !is_glued || length >= MIN_GLUED_SECRET_CHARS;
    is_secret.then_some(start..start + prefix_len + length)
}
