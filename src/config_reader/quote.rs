//! Quotations of the configuration file in messages.

/// The longest part of the file's text that a message quotes, in characters.
const MAX_QUOTED_LENGTH: usize = 60;

/// The longest text after `sk-` that still counts as part of a word such as
/// `task-queue`. Secrets are longer.
const MAX_WORD_LENGTH: usize = 40;

/// The longest name of a kind of secret, as in `sk-svcacct-…`.
const MAX_KIND_LENGTH: usize = 12;

/// The fewest characters of a random token, such as a password or a session id.
const MIN_TOKEN_LENGTH: usize = 20;

/// The replacement of a value that may be a secret.
const REDACTED: &str = "\"…\" (hidden: it may be a secret)";

/// The replacement of a name in a key path that may be a secret.
const REDACTED_SEGMENT: &str = "\"…\"";

/// Returns a name in a key path, in quotes where TOML needs them.
pub(crate) fn quote_segment(name: &str) -> String {
    if may_be_secret(name) {
        return REDACTED_SEGMENT.to_owned();
    }
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(is_bare) {
        quoted(name).trim_matches('"').to_owned()
    } else {
        quoted(name)
    }
}

/// Quotes text of the file for a message: shortened, without control
/// characters, and not at all where it may be a secret.
fn quoted(text: &str) -> String {
    if may_be_secret(text) {
        return REDACTED.to_owned();
    }
    match text.char_indices().nth(MAX_QUOTED_LENGTH) {
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
        None => format!("{text:?}"),
    }
}

/// Lists the values that an option allows: `expected "a", "b" or "c"`.
pub(crate) fn expected_one_of<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() {
        format!("expected {last}")
    } else {
        format!("expected {} or {last}", names.join(", "))
    }
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

/// Whether a message should hide `text`: it has the form of a secret, of a URL
/// with credentials or a query, or of a random token, or it has several lines,
/// as the rest of the file behind a missing quote. Words, paths and numbers have
/// none of these forms.
pub(crate) fn may_be_secret(text: &str) -> bool {
    is_secret_like(text) || has_url_credentials(text) || has_token(text) || text.contains('\n')
}

/// Whether `text` may be a URL, or a part of one, with a password or a token.
fn has_url_credentials(text: &str) -> bool {
    let after = |marker| text.split_once(marker).map(|(_, rest)| rest);
    after("://").is_some_and(|rest| rest.contains(['@', '?']))
        || after(":").is_some_and(|rest| rest.contains('@'))
}

/// Whether `text` contains a long run of letters and digits that no word is.
fn has_token(text: &str) -> bool {
    let is_dense = |run: &str| {
        run.len() >= MIN_TOKEN_LENGTH
            && run.contains(|letter: char| letter.is_ascii_digit())
            && run.contains(|letter: char| letter.is_ascii_alphabetic())
    };
    let is_mixed = |run: &str| {
        is_dense(run)
            && run.contains(|letter: char| letter.is_ascii_uppercase())
            && run.contains(|letter: char| letter.is_ascii_lowercase())
    };
    let is_in_token = |letter: char| letter.is_ascii_alphanumeric() || "-_+=".contains(letter);
    text.split(|letter: char| !letter.is_ascii_alphanumeric())
        .any(is_dense)
        || text.split(|letter| !is_in_token(letter)).any(is_mixed)
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
            assert_eq!(quote_segment(text), REDACTED_SEGMENT, "{text}");
            assert_eq!(redact_if_secret(text.to_owned()), REDACTED, "{text}");
        }
    }

    #[test]
    fn token_and_url_with_credentials_are_redacted() {
        for text in [
            "https://user:hunter2@example.com/",
            "ftp://hunter2@example.com",
            "https://example.com/?token=hunter2",
            "user:hunter2@example.com",
            "0123456789abcdef0123456789abcdef",
            "123e4567e89b12d3a456426614174000",
            "zQ7TnK2vX9mRbL4wYpD6",
            "Bearer eyJhbGciOiJIUzI1NiJ9-_x",
            "a-B3_d-E6_g-H9_j-K2_m-N5",
            "@daily\npassword = hunter2",
        ] {
            assert_eq!(quoted(text), REDACTED, "{text}");
            assert_eq!(quote_segment(text), REDACTED_SEGMENT, "{text}");
        }
        for text in [
            "billing-exporter-2026-production-eu-west-1",
            "ops@example.com",
            "2026-11-24T03:00:00Z",
            "127.0.0.1.example.com:9464",
            "https://example.com/",
            "0 3 * * Mon",
            "/var/lib/rekeyd/ledger.db.restoring",
            "OPENAI_ADMIN_KEY",
            "max-creates-per-day",
        ] {
            assert_eq!(quoted(text), format!("{text:?}"));
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
            assert_eq!(redact_if_secret(text.to_owned()), text);
        }
        assert_eq!(quote_segment("task-queue"), "task-queue");
        assert_eq!(quote_segment("a b"), "\"a b\"");
        assert_eq!(quoted("a\tb"), r#""a\tb""#);
        assert_eq!(quoted(&"x".repeat(61)), format!("\"{}…\"", "x".repeat(60)));
    }
}
