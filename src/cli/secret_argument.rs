//! Refuses a secret in the place of a name or an id: it would be sent to the provider in
//! a URL, and printed.

use std::ffi::OsString;

use crate::core::ids::KeyName;
use crate::core::key_shape::find_prefixed_keys;

/// The options whose values are text for people, which is masked where it is kept.
const TEXT_OPTIONS: [&str; 2] = ["--reason", "--name"];

/// The length from which letters and digits are random, and no word of a key's name.
const MIN_RANDOM_LEN: usize = 16;

/// Returns why a command line is refused: one of its arguments looks like a secret.
pub(super) fn find_problem(arguments: &[OsString]) -> Option<String> {
    let is_text_of =
        |option: &OsString| TEXT_OPTIONS.iter().any(|text| option.as_os_str() == *text);
    let mut before = None;
    for (number, argument) in arguments.iter().enumerate().skip(1) {
        let is_text = before.is_some_and(is_text_of);
        before = Some(argument);
        let text = argument.to_string_lossy();
        if !is_text && !text.starts_with('-') && is_secret(&text) {
            return Some(format!(
                "argument {number} looks like a secret, so rekeyd did nothing; other users of \
                 this host could see it, and the shell may have recorded it: if the secret works, \
                 rotate its key; hint: use the id of the credential, which `rekeyd history` and \
                 `rekeyd audit` show"
            ));
        }
    }
    None
}

fn is_secret(argument: &str) -> bool {
    // Also the path of a file may have such a part.
    !argument.contains('/')
        && !find_prefixed_keys(argument).is_empty()
        && (KeyName::new(argument).is_err() || argument.split('-').any(is_random))
}

fn is_random(word: &str) -> bool {
    let has = |is: fn(&u8) -> bool| word.bytes().any(|byte| is(&byte));
    word.len() >= MIN_RANDOM_LEN && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_in_the_place_of_a_name_is_found_and_never_printed() {
        for (line, expected) in [
            (
                "adopt billing sk-admin-AbCd0123EfGh4567",
                Some("argument 3"),
            ),
            ("adopt sk-admin-AbCd0123EfGh4567 key_1", Some("argument 2")),
            ("revoke sk-proj-0123456789abcdefXYZ", Some("argument 2")),
            (
                "revoke \u{feff}sk-proj-0123456789abcdefXYZ\r",
                Some("argument 2"),
            ),
            ("hold sk-admin-lqok0iar8bnx3c2m1p", Some("argument 2")),
            (
                "status --json KEY=sk-admin-AbCd0123EfGh4567",
                Some("argument 3"),
            ),
            ("sk-admin-AbCd0123EfGh4567", Some("argument 1")),
            ("adopt billing key_AbCd0123EfGh4567AbCd0123EfGh4567", None),
            ("rotate sk-billing-exporter-production-2", None),
            ("rotate task-1 sk-short", None),
            ("revoke key_1 --reason sk-admin-AbCd0123EfGh4567", None),
            (
                "revoke key_1 --force --name sk-admin-AbCd0123EfGh4567",
                None,
            ),
            (
                "--config /etc/sk-admin-AbCd0123EfGh4567/config.toml check",
                None,
            ),
        ] {
            let arguments = std::iter::once("rekeyd").chain(line.split(' '));
            let arguments: Vec<_> = arguments.map(OsString::from).collect();
            let problem = find_problem(&arguments);
            match (&problem, expected) {
                (None, None) => {}
                (Some(problem), Some(start)) => {
                    assert!(problem.starts_with(start), "{line}: {problem}");
                    assert!(!problem.contains("sk-"), "{line}: {problem}");
                }
                _ => panic!("{line}: {problem:?}"),
            }
        }
    }
}
