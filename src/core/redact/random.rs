//! Cuts long words that look random. A text from outside may quote a secret that this
//! process has wiped already, in an encoding that nobody foresaw: what is left of it is
//! a long word without a pattern.

use std::cmp::Reverse;

/// The minimum length of a random word. The secrets of providers are longer; words of
/// natural languages, names of errors and versions are shorter.
const MIN_RANDOM_CHARS: usize = 32;

/// The number of characters of a random word that stay, so that a person recognizes it.
const KEPT_CHARS: usize = 6;

/// The minimum length of a sent value that a reply may quote. Shorter ones would hide
/// that the rest of a word is random.
const MIN_QUOTED_CHARS: usize = 6;

/// Cuts each random word to its first characters. A request id and the values that were
/// `sent` stay whole.
pub(super) fn shorten(line: &str, sent: &[&str]) -> String {
    let mut shortened = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(is_word_char) {
        shortened.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|character| !is_word_char(character));
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        if looks_random(word) && !is_request_id(word) && looks_random_without(word, sent) {
            shortened.push_str(&word[..KEPT_CHARS]);
            shortened.push('…');
        } else {
            shortened.push_str(word);
        }
        rest = after;
    }
    shortened.push_str(rest);
    shortened
}

fn is_word_char(character: char) -> bool {
    character.is_ascii_alphanumeric() || "+/=_%.~-".contains(character)
}

fn looks_random(word: &str) -> bool {
    let has = |is_kind: fn(&u8) -> bool| word.as_bytes().iter().any(is_kind);
    word.len() >= MIN_RANDOM_CHARS
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
}

/// Whether a word is exactly a request id of the provider, such as `req_` and 32
/// hexadecimal digits.
fn is_request_id(word: &str) -> bool {
    word.strip_prefix("req_").is_some_and(|digits| {
        (16..=32).contains(&digits.len())
            && digits.bytes().all(|digit| digit.is_ascii_alphanumeric())
    })
}

/// Whether a word still looks random where it does not quote a sent value.
fn looks_random_without(word: &str, sent: &[&str]) -> bool {
    let is_quoted = |value: &&str| value.len() >= MIN_QUOTED_CHARS && word.contains(value);
    let mut quoted: Vec<&str> = sent.iter().copied().filter(is_quoted).collect();
    // A shorter value may be a part of a longer one.
    quoted.sort_by_key(|value| Reverse(value.len()));
    let word = word.to_owned();
    let unquoted = quoted
        .iter()
        .fold(word, |word, value| word.replace(value, " "));
    unquoted.split(' ').any(looks_random)
}
