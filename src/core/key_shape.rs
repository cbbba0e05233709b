//! Which text looks like an API key, in a file that somebody else wrote.

/// The prefix of every secret of the provider, whatever its kind.
const PREFIX: &str = "sk-";

/// The shortest text behind the prefix that is taken for a secret.
const MIN_PREFIXED_LEN: usize = 16;

/// The shortest text without the prefix that is taken for a secret, if it is all that
/// a file holds.
const MIN_BARE_LEN: usize = 24;

/// The size below which a file holds no key, whatever it is.
pub const MIN_KEY_BYTES: usize = PREFIX.len() + MIN_PREFIXED_LEN;

/// Returns every text that looks like a key, in order: words with the prefix of a
/// secret, and a single long word of letters and digits that is the whole content.
#[must_use]
pub fn find_keys(content: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in content.split(|character| !is_key_character(character)) {
        // A name such as `task-1` may end where the prefix begins.
        let starts = word.match_indices(PREFIX).map(|(at, _)| at);
        let mut starts = starts.filter(|at| !word[..*at].ends_with(char::is_alphanumeric));
        let key = starts.next().map(|at| &word[at..]);
        let key = key.filter(|key| key.len() >= MIN_KEY_BYTES);
        found.extend(key.filter(|key| !found.contains(key)));
    }
    if found.is_empty() {
        found.extend(bare_key(content));
    }
    found
}

/// Returns the single word that is the whole content, or the value of a single
/// `NAME=VALUE`, if it has the form of a random secret.
fn bare_key(content: &str) -> Option<&str> {
    let content = content
        .trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}');
    let (_, value) = content.rsplit_once('=').unwrap_or(("", content));
    let word = value.trim_matches(['"', '\'', ' ']);
    let has = |is: fn(&u8) -> bool| word.bytes().any(|byte| is(&byte));
    let is_random = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    (word.len() >= MIN_BARE_LEN && word.chars().all(is_key_character) && is_random).then_some(word)
}

fn is_key_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-admin-AbCd0123EfGh4567";
    const OTHER: &str = "sk-proj-0123456789abcdefXYZ";

    #[test]
    fn keys_are_found_in_every_form_of_a_file() {
        for content in [
            "KEY",
            "KEY\n",
            "KEY\r\n",
            "\u{feff}KEY",
            "  KEY  ",
            "OPENAI_API_KEY=KEY\n",
            "export OPENAI_API_KEY=\"KEY\"\nDEBUG=1\n",
            "# note\nkey: 'KEY' # mine\n",
            "{\"value\":\"KEY\",\"created_at\":1732854839}",
            "[openai]\napi_key = KEY\n",
            "Authorization: Bearer KEY",
            "https://user:KEY@host/path",
        ] {
            let content = content.replace("KEY", KEY);
            assert_eq!(find_keys(&content), [KEY], "{content:?}");
        }
        let two = format!("A={KEY}\nB={OTHER}\nC={KEY}\n");
        assert_eq!(find_keys(&two), [KEY, OTHER]);
        // Of another kind, and without the prefix of one.
        for bare in ["sk-0123456789abcdefghij", "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4"] {
            assert_eq!(find_keys(&format!("{bare}\n")), [bare]);
            assert_eq!(find_keys(&format!("TOKEN={bare}\n")), [bare]);
        }
    }

    #[test]
    fn other_text_is_no_key() {
        for content in [
            "",
            "\n",
            "sk-",
            "sk-short",
            "changeme",
            "to be filled in by rekeyd",
            "{\"value\":null}",
            "the-quick-brown-fox-jumps-over-it",
            "/etc/ssl/certs/ca-certificates-2026.crt",
        ] {
            assert_eq!(find_keys(content), [""; 0], "{content:?}");
        }
    }
}
