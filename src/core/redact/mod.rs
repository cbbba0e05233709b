//! Sanitizes text from outside (the provider, a receiver, a program) for logs, errors
//! and the ledger: without secrets, printable and short.
//!
//! Three searches find secrets: ten characters in a row of a secret in memory, in the
//! text and in what it decodes to ([`live`], [`view`]); words with the prefix of a
//! provider's secret ([`prefix`]); and, in prose, long words that look random ([`random`]),
//! which hide secrets that this process has already wiped or never had.

mod live;
mod mask;
mod prefix;
mod printable;
mod random;
mod view;

#[cfg(test)]
mod tests;

use self::mask::mask_ranges;
use self::printable::printable_line;
pub(in crate::core) use self::printable::{is_invisible, is_unprintable};
use crate::core::secret;

/// The maximum length of a sanitized text, in characters.
const MAX_SANITIZED_CHARS: usize = 200;

/// The maximum number of characters that are searched for secrets. It is larger than the
/// maximum length, so that masks do not make a text too short.
const MAX_SEARCHED_CHARS: usize = 8 * 1024;

/// The maximum number of bytes that [`sanitize_bytes`] reads: more than the longest
/// encoding of the searched characters.
pub const MAX_INPUT_BYTES: usize = 4 * (MAX_SEARCHED_CHARS + 1);

/// Returns the text on one line of at most 200 characters, without control characters.
/// Masks every secret in memory in whatever encoding, every text with the prefix of a
/// secret (`sk-admin-…`), and cuts long random words.
#[must_use]
pub fn sanitize(text: &str) -> String {
    sanitize_reply(text, &[])
}

/// Returns the result of [`sanitize`] for the answer to a request, which may quote the
/// values that were `sent`: paths, hosts, ids and labels stay whole.
#[must_use]
pub fn sanitize_reply(text: &str, sent: &[&str]) -> String {
    truncate(&random::shorten(
        &printable_line(&mask_searched(text)),
        sent,
    ))
}

/// Returns the result of [`sanitize_reply`] for bytes that may not be UTF-8.
#[must_use]
pub fn sanitize_bytes(bytes: &[u8], sent: &[&str]) -> String {
    let end = bytes.len().min(MAX_INPUT_BYTES);
    sanitize_reply(&String::from_utf8_lossy(&bytes[..end]), sent)
}

/// Returns the result of [`sanitize`] in a process that ends by a panic: without waiting for
/// a lock, which the panicking thread may hold. None if the secrets in memory cannot be
/// listed, so that the text must not be shown.
#[must_use]
pub fn sanitize_without_lock(text: &str) -> Option<String> {
    let live = secret::live_secrets_without_lock()?;
    let (text, is_cut) = searched_part(text);
    let mut found = live::find_any(&live, text, is_cut);
    found.extend(prefix::find(text));
    let masked = mask_ranges(text, found);
    Some(truncate(&random::shorten(&printable_line(&masked), &[])))
}

/// How often escapes are decoded one after the other.
const MAX_ESCAPE_ROUNDS: usize = 3;

/// Returns the texts that a text decodes to: without its escapes of URLs, JSON and HTML,
/// and without quoted-printable, base32, and bytes written as numbers.
#[must_use]
pub(in crate::core) fn decoded_texts(text: &str) -> Vec<String> {
    let mut views = Vec::new();
    let normalize = |view: view::View| view.with_plain_letters().unwrap_or(view);
    let mut current = normalize(view::View::new(text));
    for round in 0..=MAX_ESCAPE_ROUNDS {
        views.extend(current.gather());
        let next = current.unescape().filter(|_| round < MAX_ESCAPE_ROUNDS);
        views.push(current);
        let Some(next) = next else { break };
        current = normalize(next);
    }
    views.iter().map(view::View::to_text).collect()
}

/// Returns the result of [`sanitize`] for an id or a name, of which long random words
/// are a part: they stay whole.
#[must_use]
pub fn sanitize_name(text: &str) -> String {
    truncate(&printable_line(&mask_searched(text)))
}

/// Returns the result of [`sanitize_reply`] for each line of a longer text, without empty
/// lines. `is_cut` means that the text continued.
///
/// The text is masked before it is split, because base64 often contains line breaks. It
/// is searched completely: the caller limits its length.
#[must_use]
pub fn sanitize_lines(bytes: &[u8], is_cut: bool, sent: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = if is_cut {
        // A cut character at the end would hide a cut secret before it.
        text.trim_end_matches(char::REPLACEMENT_CHARACTER)
    } else {
        &text
    };
    let masked = mask(text, is_cut);
    let lines = masked.split(['\n', '\r']).map(printable_line);
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| truncate(&random::shorten(&line, sent)))
        .collect()
}

/// Returns whether a text shows a secret, as [`sanitize_name`] finds it.
#[must_use]
pub fn shows_secret(text: &str) -> bool {
    mask_searched(text) != text
}

/// Returns whether a character is shown as itself: no control character, and none that hides
/// or changes its neighbours.
#[must_use]
pub fn is_printable(character: char) -> bool {
    !is_unprintable(character) && !is_invisible(character)
}

/// Masks the secrets in the part of a text that is searched.
fn mask_searched(text: &str) -> String {
    let (text, is_cut) = searched_part(text);
    mask(text, is_cut)
}

/// Returns the part of a text that is searched, and whether it is not the whole.
fn searched_part(text: &str) -> (&str, bool) {
    let end = text.char_indices().nth(MAX_SEARCHED_CHARS);
    end.map_or((text, false), |(end, _)| (&text[..end], true))
}

/// Masks the secrets in memory and every word with the prefix of a secret.
fn mask(text: &str, is_cut: bool) -> String {
    let mut found = live::find(text, is_cut);
    found.extend(prefix::find(text));
    mask_ranges(text, found)
}

/// Returns the text, cut to the maximum length.
fn truncate(text: &str) -> String {
    match text.char_indices().nth(MAX_SANITIZED_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
