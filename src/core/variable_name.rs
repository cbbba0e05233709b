//! The name of a variable of the environment.

/// Returns whether `name` is the name of a variable, as POSIX shells and systemd take it:
/// ASCII letters, digits and `_`, and no digit first.
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| is_allowed(first) && !first.is_ascii_digit())
        && bytes.all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_and_underscores() {
        for name in ["A", "_", "_1", "a1", "OPENAI_API_KEY", "snake_case"] {
            assert!(is_variable_name(name), "{name:?}");
        }
        for text in [
            "", "1", "1A", "A-B", "A.B", "A B", " A", "A ", "A=", "$A", "Ä", "É", "A\0", "A\n",
            "١", "ａ",
        ] {
            assert!(!is_variable_name(text), "{text:?}");
        }
    }
}
