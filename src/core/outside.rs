//! Text that came from outside (the provider, a receiver, a command), made fit
//! for logs, errors and the ledger: masked, printable and short.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::core::secret;

/// What is kept of a text from outside.
const LONGEST_SHOWN: usize = 200;

/// What is looked at: enough that masking cannot shorten the text below
/// [`LONGEST_SHOWN`] and so bring a secret that was cut in half to its end.
const LONGEST_SEARCHED: usize = 8 * 1024;

/// What every secret of the provider begins with.
const SECRET_PREFIX: &str = "sk-admin-";

/// What stands where a secret stood.
const MASK: &str = "[secret]";

/// The text, with every secret in memory, its base64 forms and everything like
/// `sk-admin-…` masked, without control characters, cut to 200 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut text: String = text.chars().take(LONGEST_SEARCHED).collect();
    secret::each_alive(|value| {
        replace(&mut text, value);
        for form in base64_forms(value) {
            replace(&mut text, &form);
        }
    });
    let text = mask_prefixed(&text);
    let clean: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
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
    let end = bytes.len().min(4 * LONGEST_SEARCHED);
    shown(&String::from_utf8_lossy(&bytes[..end]))
}

fn replace(text: &mut String, wanted: &str) {
    if text.contains(wanted) {
        *text = text.replace(wanted, MASK);
    }
}

/// What base64 of a longer text contains when `value` stands in that text: one
/// form for each of the three ways it can fall on the groups of three bytes,
/// without the outer characters, which depend on its neighbours.
fn base64_forms(value: &str) -> Vec<String> {
    let mut forms = Vec::new();
    for shift in 0..3 {
        let mut bytes = vec![0_u8; shift];
        bytes.extend_from_slice(value.as_bytes());
        let first = [0, 2, 3][shift];
        for encoded in [
            STANDARD_NO_PAD.encode(&bytes),
            URL_SAFE_NO_PAD.encode(&bytes),
        ] {
            let last = encoded.len() - usize::from(bytes.len() % 3 != 0);
            let form = encoded[first..last].to_owned();
            if !forms.contains(&form) {
                forms.push(form);
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
    fn a_secret_across_the_searched_end_never_shows() {
        let secret = Secret::new("S3cret".repeat(20));
        let text = format!("{}{}", secret.expose().repeat(68), secret.expose());
        assert!(!shown(&text).contains("S3cret"));
    }
}
