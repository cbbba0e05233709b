//! Sanitizes text from outside (the provider, a receiver, a command) for logs, errors and
//! the ledger: masked, printable and short.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::SecretString;
use secrecy::zeroize::{Zeroize as _, Zeroizing};

use crate::core::secret;

/// The maximum length of a sanitized text, in characters.
const MAX_SANITIZED_CHARS: usize = 200;

/// The maximum number of characters that are searched for secrets. It is larger than the
/// maximum length, so that masks do not make a text too short.
const MAX_SEARCHED_CHARS: usize = 8 * 1024;

/// The maximum number of bytes that [`sanitize_bytes`] reads: more than the longest
/// encoding of the searched characters.
pub const MAX_INPUT_BYTES: usize = 4 * (MAX_SEARCHED_CHARS + 1);

/// The minimum length of the start of a secret that is masked at the end of a text, in
/// bytes. Shorter ones occur in harmless words.
const MIN_PARTIAL_SECRET_BYTES: usize = 10;

/// The prefixes of the secrets of all providers. Each kind of key declares the prefixes
/// of its own secrets; a test checks that they are here.
const SECRET_PREFIXES: [&str; 3] = ["sk-admin-", "sk-proj-", "sk-svcacct-"];

/// The minimum number of characters after a prefix that are masked even when the prefix
/// is the end of a longer word, as in `task-proj-a`.
const MIN_GLUED_SECRET_CHARS: usize = 20;

/// The replacement of a secret.
const MASK: &str = "[secret]";

/// Returns the text on one line of at most 200 characters, without control characters.
/// Masks every secret in memory, its base64 forms and every text with the prefix of a
/// secret (`sk-admin-…`).
#[must_use]
pub fn sanitize(text: &str) -> String {
    let end = text.char_indices().nth(MAX_SEARCHED_CHARS);
    let (text, is_cut) = end.map_or((text, false), |(end, _)| (&text[..end], true));
    printable_line(&mask_prefixed(&mask_known(text, is_cut)))
}

/// Returns the text on one line, printable and cut to the maximum length.
fn printable_line(masked: &str) -> String {
    let clean: String = masked
        .chars()
        .map(|character| {
            if is_unprintable(character) {
                ' '
            } else {
                character
            }
        })
        .collect();
    let words = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(MAX_SANITIZED_CHARS) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// Returns the result of [`sanitize`] for bytes that may not be UTF-8.
#[must_use]
pub fn sanitize_bytes(bytes: &[u8]) -> String {
    let end = bytes.len().min(MAX_INPUT_BYTES);
    sanitize(&String::from_utf8_lossy(&bytes[..end]))
}

/// Returns the result of [`sanitize`] for each line of a longer text, without empty
/// lines. `is_cut` means that the text continued.
///
/// The text is masked before it is split, because base64 often contains line breaks. It
/// is searched completely: the caller limits its length.
#[must_use]
pub fn sanitize_lines(bytes: &[u8], is_cut: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = if is_cut {
        // A cut character at the end would hide a cut secret before it.
        text.trim_end_matches(char::REPLACEMENT_CHARACTER)
    } else {
        &text
    };
    let masked = mask_prefixed(&mask_known(text, is_cut));
    let lines = masked.split(['\n', '\r']).map(printable_line);
    lines.filter(|line| !line.is_empty()).collect()
}

/// Returns whether a character is a control character, or an invisible one that changes
/// or hides its neighbours.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Masks the secrets in memory. In a cut text, also masks the start of a secret at the
/// end.
fn mask_known(text: &str, is_cut: bool) -> String {
    let condensed = CondensedText::new(text);
    let mut found: Vec<Range<usize>> = Vec::new();
    // The start of a secret does not look like one, so even one character is masked where
    // the text was cut here.
    let shortest = if is_cut { 1 } else { MIN_PARTIAL_SECRET_BYTES };
    secret::for_each_live(encoded_forms, |form| {
        found.extend(condensed.ranges(form));
        found.extend(condensed.find_partial_at_end(form, shortest));
    });
    mask_ranges(text, found)
}

/// Returns the forms in which a text can contain a secret: as it is, and in base64.
fn encoded_forms(value: &str) -> Vec<SecretString> {
    let mut forms = base64_forms(value);
    forms.push(value.to_owned());
    let condensed = forms
        .iter()
        .map(|form| CondensedText::new(form).text.into());
    let condensed = condensed.collect();
    forms.zeroize();
    condensed
}

/// A text without the characters that split a long word into lines: white space,
/// unprintable characters, and the backslashes that escape them and `/` in JSON.
struct CondensedText {
    text: String,
    /// For each byte of `text`, the range of its character in the source.
    source_ranges: Vec<Range<usize>>,
}

impl CondensedText {
    fn new(text: &str) -> Self {
        let mut condensed = Self {
            text: String::with_capacity(text.len()),
            source_ranges: Vec::with_capacity(text.len()),
        };
        let mut rest = text.char_indices().peekable();
        while let Some((at, character)) = rest.next() {
            if character == '\\' {
                rest.next_if(|(_, next)| matches!(next, 'n' | 'r' | 't'));
            } else if !character.is_whitespace() && !is_unprintable(character) {
                condensed.text.push(character);
                let range = at..at + character.len_utf8();
                condensed.source_ranges.resize(condensed.text.len(), range);
            }
        }
        condensed
    }

    /// Returns where `form` occurs, as ranges of the source.
    fn ranges(&self, form: &str) -> Vec<Range<usize>> {
        // A search for a long word is expensive to prepare, and most texts are an id or a
        // name.
        if self.text.len() < form.len() {
            return Vec::new();
        }
        let found = self.text.match_indices(form);
        found
            .map(|(at, _)| self.source_range(at..at + form.len()))
            .collect()
    }

    /// Returns the range of the start of `form` at the end of the text, if it has at
    /// least `shortest` bytes.
    fn find_partial_at_end(&self, form: &str, shortest: usize) -> Option<Range<usize>> {
        let longest = self.text.len().min(form.len().saturating_sub(1));
        // The last character rules out nearly all.
        let last = self.text.as_bytes().last();
        let length = (shortest..=longest).rev().find(|end| {
            form.as_bytes().get(end - 1) == last
                && form.is_char_boundary(*end)
                && self.text.ends_with(&form[..*end])
        })?;
        Some(self.source_range(self.text.len() - length..self.text.len()))
    }

    fn source_range(&self, found: Range<usize>) -> Range<usize> {
        self.source_ranges[found.start].start..self.source_ranges[found.end - 1].end
    }
}

/// Replaces each group of overlapping ranges by one mask.
fn mask_ranges(text: &str, mut ranges: Vec<Range<usize>>) -> String {
    ranges.sort_by_key(|range| range.start);
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for range in ranges {
        if range.start >= done {
            masked.push_str(&text[done..range.start]);
            masked.push_str(MASK);
        }
        done = done.max(range.end);
    }
    masked.push_str(&text[done..]);
    masked
}

/// Returns the parts of the base64 of a longer text that contains `value`: one form for
/// each of the three offsets in the groups of three bytes, without the outer characters,
/// which depend on the neighbours.
fn base64_forms(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for shift in 0..3 {
        let mut bytes = Zeroizing::new(vec![0_u8; shift + value.len()]);
        bytes[shift..].copy_from_slice(value.as_bytes());
        let first = [0, 2, 3][shift];
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = Zeroizing::new(engine.encode(&*bytes));
            let last = encoded.len() - usize::from(!bytes.len().is_multiple_of(3));
            let form = &encoded[first..last];
            if !forms.iter().any(|other| other == form) {
                forms.push(form.to_owned());
            }
        }
    }
    forms
}

/// Masks every word with the prefix of a provider's secret, even of one that this process
/// does not know. A redacted value (`sk-admin...def`) is not masked.
fn mask_prefixed(text: &str) -> String {
    let prefixes = SECRET_PREFIXES.iter();
    let found = prefixes
        .flat_map(|prefix| text.match_indices(prefix))
        .filter_map(|(start, prefix)| find_secret(text, start, prefix.len()));
    mask_ranges(text, found.collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::secret::Secret;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn secrets_in_memory_are_masked_in_every_form() {
        let secret = Secret::new("hunter2-hunter2+?~ÿ".to_owned());
        assert_eq!(
            sanitize(&format!("no {} here", secret.expose())),
            "no [secret] here"
        );
        for padding in ["", "a", "ab", "abc"] {
            for suffix in ["", "z", "zz"] {
                let hidden = STANDARD.encode(format!("{padding}{}{suffix}", secret.expose()));
                let text = sanitize(&format!("basic {hidden}"));
                assert!(text.contains(MASK), "{padding:?} {suffix:?}: {text}");
            }
        }
    }

    #[test]
    fn base64_of_a_whole_secret_is_masked_completely() {
        let secret = Secret::new("twelve-bytes".to_owned());
        let hidden = STANDARD.encode(secret.expose());
        assert_eq!(sanitize(&format!("basic {hidden}")), "basic [secret]");
        drop(secret);
    }

    #[test]
    fn unknown_secrets_are_masked_by_prefix() {
        let long = "aB1_".repeat(5);
        for prefix in SECRET_PREFIXES {
            assert_eq!(
                sanitize(&format!(
                    "bad key {prefix}AbC_1-2, {prefix}{prefix}x, sk-proj...def"
                )),
                "bad key [secret], [secret], sk-proj...def"
            );
            assert_eq!(
                sanitize(&format!("key{prefix}{long}!")),
                "key[secret]!",
                "glued to a word"
            );
            assert_eq!(sanitize(prefix), MASK);
        }
        for innocent in ["task-proj-alpha", "/etc/disk-admin-1/key", "sk-other-thing"] {
            assert_eq!(sanitize(innocent), innocent);
        }
    }

    #[test]
    fn text_is_truncated_and_printable() {
        assert_eq!(sanitize("a\r\n\tb\u{1b}[31mc\0"), "a b [31mc");
        assert_eq!(sanitize(&"ä".repeat(500)).chars().count(), 201);
        assert_eq!(sanitize_bytes(&[0xff, 0xfe, b'x']), "\u{fffd}\u{fffd}x");
    }

    #[test]
    fn secrets_broken_by_whitespace_and_escapes_are_masked() {
        let secret = Secret::new("broken/over+lines-and-more".to_owned());
        for text in [
            "broken/over+lin\r\n  es-and-more",
            "broken\\/over+lin\\r\\nes-and-more",
            "broken/over+lin\u{200b}es-and\u{0}-more",
        ] {
            assert_eq!(sanitize(&format!("a {text} b")), "a [secret] b");
        }
        drop(secret);
        assert_eq!(sanitize("over+lin\\r\\nes"), "over+lin\\r\\nes");
    }

    #[test]
    fn secrets_across_line_breaks_are_masked() {
        let secret = Secret::new("broken-into/lines+at-76-columns".repeat(4));
        let encoded = STANDARD.encode(secret.expose());
        let wrapped = format!("{}\n{}", &encoded[..76], &encoded[76..]);
        let output = format!(
            "begun\n\n{wrapped}\r\nin between {}\tdone\n",
            secret.expose()
        );
        let lines = sanitize_lines(output.as_bytes(), false);
        assert_eq!(lines[0], "begun");
        assert_eq!(lines.last().unwrap(), "in between [secret] done");
        for piece in [&encoded[8..40], &encoded[80..100], "broken-into"] {
            assert!(lines.iter().all(|line| !line.contains(piece)), "{lines:?}");
        }
        let long = "x".repeat(500);
        assert_eq!(
            sanitize_lines(long.as_bytes(), false)[0].chars().count(),
            201
        );
        // Cut within the secret, and within a letter behind it.
        let half = [&secret.expose().as_bytes()[..20], b"\xc3"].concat();
        assert_eq!(sanitize_lines(&half, true), [MASK]);
    }

    #[test]
    fn overlapping_secrets_are_masked_completely() {
        let whole = "first-half-of-it, second-half-of-it";
        let secrets = [whole, &whole[..16], &whole[8..20]].map(|text| Secret::new(text.to_owned()));
        assert_eq!(sanitize(&format!("a {whole} b")), "a [secret] b");
        drop(secrets);
    }

    #[test]
    fn truncated_secret_at_the_end_is_masked() {
        let secret = Secret::new("half-of-this-will-do".to_owned());
        let hidden = STANDARD.encode(secret.expose());
        for length in MIN_PARTIAL_SECRET_BYTES..secret.expose().len() {
            let part = &secret.expose()[..length];
            assert_eq!(sanitize(&format!("not with {part}")), "not with [secret]");
            let part = &hidden[..length];
            assert_eq!(sanitize(&format!("not with {part}")), "not with [secret]");
        }
        assert_eq!(sanitize("one half-of-t"), "one half-of-t");
        drop(secret);
    }

    #[test]
    fn secret_across_the_search_limit_is_masked() {
        for length in [20, 400, 2_000, 20_000] {
            let secret = Secret::new("S3cret".repeat(length));
            let text = secret.expose().repeat(10 + 68 * 20 / length);
            assert!(!sanitize(&text).contains("S3cr"), "{length}");
            assert!(
                !sanitize_bytes(text.as_bytes()).contains("S3cr"),
                "{length}"
            );
        }
    }

    #[test]
    fn masked_and_invisible_text_does_not_use_up_the_length_limit() {
        let masked = format!("sk-admin-{} word", "x".repeat(2_000));
        assert_eq!(sanitize(&masked), "[secret] word");
        // Four bytes each, and none of them shown.
        let blanks = "\u{e0001}".repeat(5_000);
        assert_eq!(sanitize_bytes(format!("{blanks}word").as_bytes()), "word");
        let secret = Secret::new("𝔰𝔢𝔠𝔯𝔢𝔱".repeat(4));
        for length in MAX_SEARCHED_CHARS - 30..MAX_SEARCHED_CHARS + 5 {
            let text = format!("{}{}", "\u{e0001}".repeat(length), secret.expose());
            assert!(!sanitize_bytes(text.as_bytes()).contains('𝔰'), "{length}");
        }
        drop(secret);
    }
}
