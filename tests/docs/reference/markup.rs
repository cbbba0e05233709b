//! The little Markdown of the descriptions, in the form of each document.

use rekeyd::cli::manual::wrap;

/// The width of a comment in the example.
const COMMENT_WIDTH: usize = 79;

/// Splits a text at its backticks: each piece, and whether it is code.
fn split_at_code(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let parts = text.split('`').enumerate();
    parts.map(|(number, piece)| (piece, number % 2 == 1))
}

/// Returns the text as it is in a comment: code that cannot be taken for prose needs no
/// mark.
pub(super) fn comment_text(text: &str) -> String {
    let texts = split_at_code(text).map(|(piece, is_code)| {
        let is_quoted = piece.starts_with('"');
        if is_code && piece.contains(' ') && !is_quoted {
            format!("`{piece}`")
        } else {
            piece.to_owned()
        }
    });
    texts.collect()
}

/// Returns the text as lines of a comment.
pub(super) fn comment(text: &str) -> String {
    wrap(&comment_text(text), COMMENT_WIDTH - 2, |line| {
        format!("# {line}\n")
    })
}

/// Returns the text as a cell of a table.
pub(super) fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn texts_are_converted() {
    let text = "`\"a\"`: see `rekeyd rotate` and `x-y`.";
    assert_eq!(comment_text(text), "\"a\": see `rekeyd rotate` and x-y.");
    assert_eq!(cell("A | b."), "A \\| b.");
}
