//! Words for a POSIX shell, in messages that say what to run.

/// Quotes a word for a shell, if it needs that.
#[must_use]
pub fn quote(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, expected) in [
            ("--config=/etc/a.toml", "--config=/etc/a.toml"),
            ("", "''"),
            ("somebody left", "'somebody left'"),
            ("it's $HOME", "'it'\\''s $HOME'"),
        ] {
            assert_eq!(quote(word), expected);
        }
    }
}
