//! Text that came from outside (the provider, a receiver, a command), made fit
//! for logs, errors and the ledger: masked, printable and short.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::SecretString;
use secrecy::zeroize::{Zeroize as _, Zeroizing};

use crate::core::secret;

/// What is kept of a text from outside.
const LONGEST_SHOWN: usize = 200;

/// So many characters are looked at: enough that what is shown is not short
/// only because much of it was masked.
const LONGEST_SEARCHED: usize = 8 * 1024;

/// So many bytes are worth handing to [`shown_bytes`]: more characters than
/// are looked at, however they are written.
pub const LONGEST_READ: usize = 4 * (LONGEST_SEARCHED + 1);

/// A text may break off in the middle of a secret: so many letters of one at
/// its end are masked. Fewer may be what all secrets begin with, and are found
/// at the end of innocent words.
const SHORTEST_PART: usize = SECRET_PREFIX.len() + 1;

/// What every secret of the provider begins with.
const SECRET_PREFIX: &str = "sk-admin-";

/// What stands where a secret stood.
const MASK: &str = "[secret]";

/// The text, with every secret in memory, its base64 forms and everything like
/// `sk-admin-…` masked, without control characters, cut to 200 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let end = text.char_indices().nth(LONGEST_SEARCHED);
    let (text, is_cut) = end.map_or((text, false), |(end, _)| (&text[..end], true));
    short(&mask_prefixed(&mask_known(text, is_cut)))
}

/// Printable, on one line, and cut.
fn short(masked: &str) -> String {
    let clean: String = masked
        .chars()
        .map(|letter| if is_unprintable(letter) { ' ' } else { letter })
        .collect();
    let words = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(LONGEST_SHOWN) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

/// [`shown`] for bytes that may be no text at all.
#[must_use]
pub fn shown_bytes(bytes: &[u8]) -> String {
    let end = bytes.len().min(LONGEST_READ);
    shown(&String::from_utf8_lossy(&bytes[..end]))
}

/// [`shown`] for each line of a longer text, without the empty ones. `is_cut`
/// says that the text went on.
///
/// The whole is masked before it is taken apart, since base64 is often broken
/// into lines. All of it is looked at: it is for the caller to have limited it.
#[must_use]
pub fn shown_lines(bytes: &[u8], is_cut: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = if is_cut {
        // Half a letter at the end, behind which half a secret would hide.
        text.trim_end_matches(char::REPLACEMENT_CHARACTER)
    } else {
        &text
    };
    let masked = mask_prefixed(&mask_known(text, is_cut));
    let lines = masked.split(['\n', '\r']).map(short);
    lines.filter(|line| !line.is_empty()).collect()
}

/// Control characters, and the invisible ones that turn or hide what stands
/// beside them.
fn is_unprintable(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Masks the secrets in memory; in a text that was cut also the beginning of
/// one at its end.
fn mask_known(text: &str, is_cut: bool) -> String {
    let dense = Dense::of(text);
    let mut found: Vec<Range<usize>> = Vec::new();
    // Half a secret would look like none. Where it was cut off here, every
    // letter goes.
    let shortest = if is_cut { 1 } else { SHORTEST_PART };
    secret::each_alive(forms, |form| {
        found.extend(dense.places(form));
        found.extend(dense.beginning_at_the_end(form, shortest));
    });
    replace(text, found)
}

/// How a secret may stand in a text: as it is, and in base64.
fn forms(value: &str) -> Vec<SecretString> {
    let mut forms = base64_forms(value);
    forms.push(value.to_owned());
    let dense = forms.iter().map(|form| Dense::of(form).letters.into());
    let dense = dense.collect();
    forms.zeroize();
    dense
}

/// A text without what breaks a long word into lines: white space, what cannot
/// be printed, and the backslashes with which JSON writes these and `/`.
struct Dense {
    letters: String,
    /// For each byte of `letters`, where its letter stands in the text.
    places: Vec<Range<usize>>,
}

impl Dense {
    fn of(text: &str) -> Self {
        let mut dense = Self {
            letters: String::with_capacity(text.len()),
            places: Vec::with_capacity(text.len()),
        };
        let mut rest = text.char_indices().peekable();
        while let Some((at, letter)) = rest.next() {
            if letter == '\\' {
                rest.next_if(|(_, next)| matches!(next, 'n' | 'r' | 't'));
            } else if !letter.is_whitespace() && !is_unprintable(letter) {
                dense.letters.push(letter);
                let place = at..at + letter.len_utf8();
                dense.places.resize(dense.letters.len(), place);
            }
        }
        dense
    }

    /// Where `wanted` stands in the text.
    fn places(&self, wanted: &str) -> Vec<Range<usize>> {
        // To search for a long word costs much before the search begins, and
        // most texts are an id or a name.
        if self.letters.len() < wanted.len() {
            return Vec::new();
        }
        let found = self.letters.match_indices(wanted);
        found
            .map(|(at, _)| self.place(at..at + wanted.len()))
            .collect()
    }

    /// Where the text ends in a beginning of `wanted`, of so many bytes at
    /// least.
    fn beginning_at_the_end(&self, wanted: &str, shortest: usize) -> Option<Range<usize>> {
        let longest = self.letters.len().min(wanted.len().saturating_sub(1));
        // Nearly all are ruled out by one letter.
        let last = self.letters.as_bytes().last();
        let length = (shortest..=longest).rev().find(|end| {
            wanted.as_bytes().get(end - 1) == last
                && wanted.is_char_boundary(*end)
                && self.letters.ends_with(&wanted[..*end])
        })?;
        Some(self.place(self.letters.len() - length..self.letters.len()))
    }

    fn place(&self, found: Range<usize>) -> Range<usize> {
        self.places[found.start].start..self.places[found.end - 1].end
    }
}

/// Puts one mask in the place of what overlaps.
fn replace(text: &str, mut places: Vec<Range<usize>>) -> String {
    places.sort_by_key(|place| place.start);
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    for place in places {
        if place.start >= done {
            masked.push_str(&text[done..place.start]);
            masked.push_str(MASK);
        }
        done = done.max(place.end);
    }
    masked.push_str(&text[done..]);
    masked
}

/// What base64 of a longer text contains when `value` stands in that text: one
/// form for each of the three ways it can fall on the groups of three bytes,
/// without the outer characters, which depend on its neighbours.
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

/// Masks every run that begins like one of the provider's secrets, whether or
/// not this process knows it. A redacted value (`sk-admin...def`) is none.
fn mask_prefixed(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SECRET_PREFIX) {
        let (before, found) = rest.split_at(at);
        shown.push_str(before);
        shown.push_str(MASK);
        let end = found
            .find(|letter: char| !(letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')))
            .unwrap_or(found.len());
        rest = &found[end..];
    }
    shown.push_str(rest);
    shown
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
            shown(&format!("no {} here", secret.expose())),
            "no [secret] here"
        );
        for padding in ["", "a", "ab", "abc"] {
            for behind in ["", "z", "zz"] {
                let hidden = STANDARD.encode(format!("{padding}{}{behind}", secret.expose()));
                let text = shown(&format!("basic {hidden}"));
                assert!(text.contains(MASK), "{padding:?} {behind:?}: {text}");
            }
        }
    }

    #[test]
    fn no_letter_of_base64_is_left_that_a_secret_alone_decides() {
        let secret = Secret::new("twelve-bytes".to_owned());
        let hidden = STANDARD.encode(secret.expose());
        assert_eq!(shown(&format!("basic {hidden}")), "basic [secret]");
        drop(secret);
    }

    #[test]
    fn whatever_looks_like_a_secret_is_masked() {
        assert_eq!(
            shown("bad key sk-admin-AbC_1-2, sk-admin...def"),
            "bad key [secret], sk-admin...def"
        );
    }

    #[test]
    fn the_text_is_short_and_printable() {
        assert_eq!(shown("a\r\n\tb\u{1b}[31mc\0"), "a b [31mc");
        assert_eq!(shown(&"ä".repeat(500)).chars().count(), 201);
        assert_eq!(shown_bytes(&[0xff, 0xfe, b'x']), "\u{fffd}\u{fffd}x");
    }

    #[test]
    fn what_is_no_letter_hides_no_secret() {
        let secret = Secret::new("broken/over+lines-and-more".to_owned());
        for text in [
            "broken/over+lin\r\n  es-and-more",
            "broken\\/over+lin\\r\\nes-and-more",
            "broken/over+lin\u{200b}es-and\u{0}-more",
        ] {
            assert_eq!(shown(&format!("a {text} b")), "a [secret] b");
        }
        drop(secret);
        assert_eq!(shown("over+lin\\r\\nes"), "over+lin\\r\\nes");
    }

    #[test]
    fn lines_are_masked_as_a_whole_and_shown_one_by_one() {
        let secret = Secret::new("broken-into/lines+at-76-columns".repeat(4));
        let encoded = STANDARD.encode(secret.expose());
        let wrapped = format!("{}\n{}", &encoded[..76], &encoded[76..]);
        let told = format!(
            "begun\n\n{wrapped}\r\nin between {}\tdone\n",
            secret.expose()
        );
        let lines = shown_lines(told.as_bytes(), false);
        assert_eq!(lines[0], "begun");
        assert_eq!(lines.last().unwrap(), "in between [secret] done");
        for piece in [&encoded[8..40], &encoded[80..100], "broken-into"] {
            assert!(lines.iter().all(|line| !line.contains(piece)), "{lines:?}");
        }
        let long = "x".repeat(500);
        assert_eq!(shown_lines(long.as_bytes(), false)[0].chars().count(), 201);
        // Cut within the secret, and within a letter behind it.
        let half = [&secret.expose().as_bytes()[..20], b"\xc3"].concat();
        assert_eq!(shown_lines(&half, true), [MASK]);
    }

    #[test]
    fn a_secret_that_begins_another_leaves_no_rest() {
        let whole = "first-half-of-it, second-half-of-it";
        let secrets = [whole, &whole[..16], &whole[8..20]].map(|text| Secret::new(text.to_owned()));
        assert_eq!(shown(&format!("a {whole} b")), "a [secret] b");
        drop(secrets);
    }

    #[test]
    fn a_secret_that_the_text_breaks_off_in_is_masked() {
        let secret = Secret::new("half-of-this-will-do".to_owned());
        let hidden = STANDARD.encode(secret.expose());
        for length in SHORTEST_PART..secret.expose().len() {
            let part = &secret.expose()[..length];
            assert_eq!(shown(&format!("not with {part}")), "not with [secret]");
            let part = &hidden[..length];
            assert_eq!(shown(&format!("not with {part}")), "not with [secret]");
        }
        assert_eq!(shown("one half-of-t"), "one half-of-t");
        drop(secret);
    }

    #[test]
    fn a_secret_across_the_searched_end_never_shows() {
        for length in [20, 400, 2_000, 20_000] {
            let secret = Secret::new("S3cret".repeat(length));
            let text = secret.expose().repeat(10 + 68 * 20 / length);
            assert!(!shown(&text).contains("S3cr"), "{length}");
            assert!(!shown_bytes(text.as_bytes()).contains("S3cr"), "{length}");
        }
    }

    #[test]
    fn what_says_nothing_does_not_hide_what_does() {
        let masked = format!("sk-admin-{} word", "x".repeat(2_000));
        assert_eq!(shown(&masked), "[secret] word");
        // Four bytes each, and none of them shown.
        let blanks = "\u{e0001}".repeat(5_000);
        assert_eq!(shown_bytes(format!("{blanks}word").as_bytes()), "word");
        let secret = Secret::new("𝔰𝔢𝔠𝔯𝔢𝔱".repeat(4));
        for length in LONGEST_SEARCHED - 30..LONGEST_SEARCHED + 5 {
            let text = format!("{}{}", "\u{e0001}".repeat(length), secret.expose());
            assert!(!shown_bytes(text.as_bytes()).contains('𝔰'), "{length}");
        }
        drop(secret);
    }
}
