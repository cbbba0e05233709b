//! How messages show what stands in the file.

/// The longest part of a file's text that is quoted in a message.
const LONGEST_QUOTED: usize = 60;

/// A name in a key path, in quotes where TOML needs them.
pub(super) fn segment(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(bare) {
        quoted(name).trim_matches('"').to_owned()
    } else {
        quoted(name)
    }
}

/// Text of the file as a message shows it: cut, without control characters,
/// and not at all where somebody may have written a secret.
pub(super) fn quoted(text: &str) -> String {
    if looks_secret(text) {
        return "(not shown: it looks like a secret)".to_owned();
    }
    match text.char_indices().nth(LONGEST_QUOTED) {
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
        None => format!("{text:?}"),
    }
}

/// Whether `text` has the form of a secret that must not stand in the file.
pub(super) fn looks_secret(text: &str) -> bool {
    text.contains("sk-") || text.contains("whsec_")
}
