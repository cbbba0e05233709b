//! How messages show what stands in the file.

use std::path::Path;

/// The longest part of a file's text that is quoted in a message.
const LONGEST_QUOTED: usize = 60;

/// What stands behind `sk-` in the middle of a word, such as `task-queue`, is a
/// part of that word while it is no longer than this. Secrets are longer.
const LONGEST_WORD: usize = 40;

/// What is shown in the place of a secret.
const NOT_SHOWN: &str = "(not shown: it looks like a secret)";

/// A name in a key path, in quotes where TOML needs them.
pub(super) fn segment(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(bare) {
        if name.len() <= LONGEST_QUOTED && !looks_secret(name) {
            return name.to_owned();
        }
        quoted(name).trim_matches('"').to_owned()
    } else {
        quoted(name)
    }
}

/// Text of the file as a message shows it: cut, without control characters,
/// and not at all where somebody may have written a secret.
pub(super) fn quoted(text: &str) -> String {
    if looks_secret(text) {
        return NOT_SHOWN.to_owned();
    }
    match text.char_indices().nth(LONGEST_QUOTED) {
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
        None => format!("{text:?}"),
    }
}

/// A path as a message shows it.
pub(super) fn path(path: &Path) -> String {
    unless_secret(path.display().to_string())
}

/// Somebody else's words that may quote the file, such as the parser's.
pub(super) fn unless_secret(words: String) -> String {
    if looks_secret(&words) {
        NOT_SHOWN.to_owned()
    } else {
        words
    }
}

/// Whether `text` has something in the form of a secret, none of which may
/// stand in the file.
pub(super) fn looks_secret(text: &str) -> bool {
    text.contains("whsec_")
        || text.match_indices("sk-").any(|(at, found)| {
            let within_a_word = text[..at].ends_with(|letter: char| letter.is_ascii_alphabetic());
            let rest = &text[at + found.len()..];
            let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
            let length = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
            !within_a_word || length > LONGEST_WORD
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_not_shown() {
        let long = format!("keysk-admin-{}", "a1B2".repeat(20));
        for text in [
            "sk-admin-Zq7",
            "OPENAI_ADMIN_KEY=sk-proj-Zq7",
            "/etc/sk-Zq7",
            "1sk-Zq7",
            "xwhsec_Zq7",
            &long,
        ] {
            assert_eq!(quoted(text), NOT_SHOWN, "{text}");
            assert_eq!(segment(text), NOT_SHOWN, "{text}");
            assert_eq!(path(Path::new(text)), NOT_SHOWN, "{text}");
        }
    }

    #[test]
    fn a_word_with_sk_in_it_is_shown() {
        for text in ["task-queue", "/mnt/disk-2/risk-engine.key", "desk", "sk"] {
            assert_eq!(quoted(text), format!("{text:?}"));
            assert_eq!(path(Path::new(text)), text);
        }
        assert_eq!(segment("task-queue"), "task-queue");
        assert_eq!(segment("a b"), "\"a b\"");
        assert_eq!(quoted("a\tb"), r#""a\tb""#);
        assert_eq!(quoted(&"x".repeat(61)), format!("\"{}…\"", "x".repeat(60)));
    }
}
