//! Descriptions of the operating system's errors.

use std::io;

/// What the standard library puts before the number of an error.
const NUMBER_PREFIX: &str = " (os error ";

/// Describes an error of the operating system as part of a sentence: in lower case and
/// without its number, such as `permission denied`. Every message that a person reads
/// describes it in this way.
#[must_use]
pub fn describe(error: &io::Error) -> String {
    let text = without_numbers(&error.to_string());
    if error.get_ref().is_some() {
        // The words of a library or of rekeyd.
        return text;
    }
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

/// Removes each number of a system's error. Libraries put the text of such an error into
/// their own.
fn without_numbers(text: &str) -> String {
    let mut parts = text.split(NUMBER_PREFIX);
    let mut rest = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, after)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                rest.push_str(after);
            }
            _ => {
                rest.push_str(NUMBER_PREFIX);
                rest.push_str(part);
            }
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_no_number() {
        let denied = || io::Error::from_raw_os_error(13);
        for (error, expected) in [
            (denied(), "permission denied"),
            (io::Error::from_raw_os_error(28), "no space left on device"),
            (
                io::ErrorKind::UnexpectedEof.into(),
                "unexpected end of file",
            ),
            (io::Error::other("TLS is not set up"), "TLS is not set up"),
            (io::Error::other(denied()), "Permission denied"),
            (
                io::Error::other(format!("a/b: {}: no copy", denied())),
                "a/b: Permission denied: no copy",
            ),
            (io::Error::other("x (os error y)"), "x (os error y)"),
        ] {
            assert_eq!(describe(&error), expected);
        }
        // Whatever the system's number is.
        for number in 1..200 {
            let text = describe(&io::Error::from_raw_os_error(number));
            assert!(!text.contains("os error"), "{text}");
            assert!(!text.starts_with(char::is_uppercase), "{text}");
        }
    }
}
