//! Quotations of the configuration file in messages.

use std::path::Path;

/// The longest part of the file's text that a message quotes, in characters.
const MAX_QUOTED_LENGTH: usize = 60;

/// The longest text after `sk-` that still counts as part of a word such as
/// `task-queue`. Secrets are longer.
const MAX_WORD_LENGTH: usize = 40;

/// The longest name of a kind of secret, as in `sk-svcacct-…`.
const MAX_KIND_LENGTH: usize = 12;

/// The replacement of a secret.
const REDACTED: &str = "(not shown: it looks like a secret)";

/// Returns a name in a key path, in quotes where TOML needs them.
pub(crate) fn quote_segment(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(is_bare) {
        if name.len() <= MAX_QUOTED_LENGTH && !is_secret_like(name) {
            return name.to_owned();
        }
        quoted(name).trim_matches('"').to_owned()
    } else {
        quoted(name)
    }
}

/// Quotes text of the file for a message: shortened, without control
/// characters, and not at all where it looks like a secret.
pub(crate) fn quoted(text: &str) -> String {
    if is_secret_like(text) {
        return REDACTED.to_owned();
    }
    match text.char_indices().nth(MAX_QUOTED_LENGTH) {
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
        None => format!("{text:?}"),
    }
}

/// Lists the values that an option allows: `"a", "b" or "c" is allowed`.
pub(crate) fn one_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() {
        format!("{last} is allowed")
    } else {
        format!("{} or {last} is allowed", names.join(", "))
    }
}

/// Quotes a path for a message, without quotation marks.
pub(crate) fn quote_path(path: &Path) -> String {
    redact_if_secret(path.display().to_string())
}

/// Returns a message of another library, such as the parser's, unless it may
/// quote a secret.
pub(crate) fn redact_if_secret(message: String) -> String {
    if is_secret_like(&message) {
        REDACTED.to_owned()
    } else {
        message
    }
}

/// Whether `text` contains something in the form of a secret, which the file
/// must not hold. A kind of secret, such as `sk-proj-…`, is none.
pub(crate) fn is_secret_like(text: &str) -> bool {
    let is_signing_secret = |(_, rest): (&str, &str)| !is_kind(rest);
    let is_api_secret = |(before, rest): (&str, &str)| {
        let is_within_word = before.ends_with(|letter: char| letter.is_ascii_alphabetic());
        (!is_within_word || word_length(rest) > MAX_WORD_LENGTH) && !is_kind(rest)
    };
    occurrences(text, "whsec_").any(is_signing_secret)
        || occurrences(text, "sk-").any(is_api_secret)
}

/// Returns what is before and after each `marker` in `text`.
fn occurrences<'t>(text: &'t str, marker: &'t str) -> impl Iterator<Item = (&'t str, &'t str)> {
    let parts =
        move |(start, marker): (usize, &str)| (&text[..start], &text[start + marker.len()..]);
    text.match_indices(marker).map(parts)
}

/// Whether the text after the beginning of a secret only names its kind:
/// nothing or a word in lower case, and an ellipsis.
fn is_kind(rest: &str) -> bool {
    let (word, after) = rest.split_at(word_length(rest));
    let is_name = word.is_empty() || word.len() <= MAX_KIND_LENGTH && word.ends_with('-');
    is_name
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        && after.starts_with('…')
}

/// Returns the length of what may be a secret's text at the beginning of `text`.
fn word_length(text: &str) -> usize {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    text.find(|letter| !is_word(letter)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_like_text_is_redacted() {
        let long_secret = format!("keysk-admin-{}", "a1B2".repeat(20));
        for text in [
            "sk-admin-Zq7",
            "OPENAI_ADMIN_KEY=sk-proj-Zq7",
            "/etc/sk-Zq7",
            "1sk-Zq7",
            "xwhsec_Zq7",
            "sk-proj-Zq7…",
            "sk-proj-zq7…",
            "sk-proj-zqwertyuiopasdf-…",
            "sk-proj-… and sk-proj-Zq7",
            "whsec_Zq7…",
            &long_secret,
        ] {
            assert_eq!(quoted(text), REDACTED, "{text}");
            assert_eq!(quote_segment(text), REDACTED, "{text}");
            assert_eq!(quote_path(Path::new(text)), REDACTED, "{text}");
        }
    }

    #[test]
    fn kind_of_secret_is_not_redacted() {
        for text in [
            "/etc/key has a project's key (sk-proj-…)",
            "sk-…",
            "sk-svcacct-…",
            "sk-admin-…, sk-ant-…",
            "a signing secret (whsec_…)",
        ] {
            assert!(!is_secret_like(text), "{text}");
        }
    }

    #[test]
    fn word_containing_sk_is_not_redacted() {
        for text in ["task-queue", "/mnt/disk-2/risk-engine.key", "desk", "sk"] {
            assert_eq!(quoted(text), format!("{text:?}"));
            assert_eq!(quote_path(Path::new(text)), text);
        }
        assert_eq!(quote_segment("task-queue"), "task-queue");
        assert_eq!(quote_segment("a b"), "\"a b\"");
        assert_eq!(quoted("a\tb"), r#""a\tb""#);
        assert_eq!(quoted(&"x".repeat(61)), format!("\"{}…\"", "x".repeat(60)));
    }
}
