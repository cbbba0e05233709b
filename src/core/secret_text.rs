//! The text of a secret as people and programs supply it: in a file, or in a variable of
//! the environment. It is trimmed alike everywhere, and a text that cannot be the secret is
//! refused before it is sent.

use zeroize::Zeroizing;

use super::secret::Secret;
use super::variable_name::is_variable_name;

/// The byte order mark that some editors put before a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What a text has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretForm {
    /// An admin key, which is sent in a header.
    AdminKey,
    /// A token of any kind, which is sent in a header.
    Token,
    /// Lines that their reader checks.
    Lines,
}

/// The reason why a text is not taken for a secret. Never shows any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretTextError {
    /// What the service manager keeps for the service cannot be read.
    #[error("cannot be read: {reason}; hint: replace its file")]
    Unreadable {
        /// The error of the system, or of the program that decrypts it.
        reason: String,
    },
    /// It has only white space.
    #[error("is empty; hint: write the secret into it")]
    Empty,
    /// It is not UTF-8.
    #[error(
        "is {found} instead of UTF-8 text; hint: write the file again, with nothing but the \
        secret"
    )]
    NotText {
        /// The encoding that its first bytes suggest.
        found: &'static str,
    },
    /// It has more than one line.
    #[error(
        "has {lines} lines; hint: write nothing but the secret, in one line and without a \
        comment"
    )]
    SeveralLines {
        /// The number of lines.
        lines: usize,
    },
    /// It has a character that no header can carry.
    #[error(
        "has the character U+{code:04X} at position {position}, which no secret contains; hint: \
         copy the secret again"
    )]
    ForeignCharacter {
        /// Its code point.
        code: u32,
        /// Its position, from 1.
        position: usize,
    },
    /// It begins with a quote, or with the start of a structure.
    #[error("begins with a quote or a bracket; hint: write nothing but the secret, without quotes")]
    Quoted,
    /// It is an assignment.
    #[error("begins with NAME=; hint: write nothing but the secret, without the name")]
    Assignment,
    /// It is a redacted value.
    #[error("has a redacted secret, as lists of keys show it; hint: write the whole secret")]
    Redacted,
    /// It is something else than an admin key.
    #[error(
        "has {found} instead of an admin key (sk-admin-…); hint: only an admin key can manage \
        keys"
    )]
    OtherKind {
        /// What it is.
        found: &'static str,
    },
}

impl SecretTextError {
    /// Returns the problem alone if its hint says no more than to write the secret: where to
    /// do that depends on the place.
    #[must_use]
    pub const fn problem_of_content(&self) -> Option<&'static str> {
        match self {
            Self::Empty => Some("is empty"),
            Self::Unreadable { .. }
            | Self::NotText { .. }
            | Self::SeveralLines { .. }
            | Self::ForeignCharacter { .. }
            | Self::Quoted
            | Self::Assignment
            | Self::Redacted
            | Self::OtherKind { .. } => None,
        }
    }
}

/// Reads a secret from bytes: without a byte order mark and without surrounding
/// white space.
///
/// # Errors
/// If the text cannot be a secret of this form.
pub fn parse(bytes: &[u8], form: SecretForm) -> Result<Secret, SecretTextError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SecretTextError::NotText {
        found: describe_encoding(bytes),
    })?;
    let text = text.trim_start_matches(BYTE_ORDER_MARK).trim();
    if text.is_empty() {
        return Err(SecretTextError::Empty);
    }
    check_form(text, form)?;
    Ok(Secret::new(text.to_owned()))
}

/// Checks a trimmed text.
fn check_form(text: &str, form: SecretForm) -> Result<(), SecretTextError> {
    match form {
        SecretForm::Lines => Ok(()),
        SecretForm::Token => check_word(text),
        SecretForm::AdminKey => {
            check_word(text)?;
            other_kind(text).map_or(Ok(()), |found| Err(SecretTextError::OtherKind { found }))
        }
    }
}

/// Checks that a text is a bearer token (`token68` in RFC 9110), and that [`parse`]
/// returns it unchanged.
///
/// # Errors
/// If the text cannot be a secret of this form.
pub fn check_token(text: &str, form: SecretForm) -> Result<(), SecretTextError> {
    let is_part = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_' | '~' | '+' | '/')
    };
    let body = text.trim_end_matches('=');
    if body.is_empty() {
        return Err(SecretTextError::Empty);
    }
    if let Some((index, character)) = body
        .chars()
        .enumerate()
        .find(|(_, letter)| !is_part(*letter))
    {
        return Err(SecretTextError::ForeignCharacter {
            code: character.into(),
            position: index + 1,
        });
    }
    check_form(text, form)
}

/// Reads the bytes of a variable of the environment, which are wiped.
///
/// # Errors
/// As [`parse`].
pub fn parse_variable(bytes: Vec<u8>, form: SecretForm) -> Result<Secret, SecretTextError> {
    parse(&Zeroizing::new(bytes), form)
}

fn describe_encoding(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16",
        _ => "another encoding",
    }
}

/// Checks that a text is one word that a header can carry.
fn check_word(text: &str) -> Result<(), SecretTextError> {
    let lines = text.lines().count();
    if lines > 1 {
        return Err(SecretTextError::SeveralLines { lines });
    }
    if text.starts_with(['"', '\'', '`', '{', '[', '<']) {
        return Err(SecretTextError::Quoted);
    }
    if is_assignment(text) {
        return Err(SecretTextError::Assignment);
    }
    if ["...", "…", "***"].iter().any(|mark| text.contains(mark)) {
        return Err(SecretTextError::Redacted);
    }
    let foreign = text.chars().enumerate();
    match foreign
        .into_iter()
        .find(|(_, found)| !found.is_ascii_graphic())
    {
        None => Ok(()),
        Some((index, character)) => Err(SecretTextError::ForeignCharacter {
            code: character.into(),
            position: index + 1,
        }),
    }
}

/// Whether a text is `NAME=value`, as in a file of variables. A secret may end
/// with `=`.
fn is_assignment(text: &str) -> bool {
    let text = text.strip_prefix("export ").unwrap_or(text).trim_start();
    let Some((name, value)) = text.split_once('=') else {
        return false;
    };
    is_variable_name(name.trim_end()) && !value.trim_start_matches('=').is_empty()
}

/// Returns what a text is if it is certainly something else than an admin key.
fn other_kind(text: &str) -> Option<&'static str> {
    const OTHER_KINDS: [(&str, &str); 8] = [
        ("sk-proj-", "a project's key (sk-proj-…)"),
        ("sk-svcacct-", "a service account's key (sk-svcacct-…)"),
        ("sk-ant-", "a key of another provider"),
        ("sess-", "a session's token (sess-…)"),
        ("key_", "the id of a key (key_…)"),
        ("org-", "the id of an organization (org-…)"),
        ("proj_", "the id of a project (proj_…)"),
        ("whsec_", "a signing secret of webhooks (whsec_…)"),
    ];
    /// The part that all secrets of OpenAI have in common.
    const OPENAI_MARK: &str = "T3BlbkFJ";
    let known = OTHER_KINDS
        .iter()
        .find(|(prefix, _)| text.starts_with(prefix));
    if let Some((_, found)) = known {
        return Some(found);
    }
    let is_user_key =
        text.starts_with("sk-") && !text.starts_with("sk-admin-") && text.contains(OPENAI_MARK);
    is_user_key.then_some("a user's key (sk-…)")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-admin-root0001";

    #[test]
    fn surrounding_white_space_and_byte_order_mark_are_removed() {
        for text in [
            KEY.to_owned(),
            format!("{KEY}\n"),
            format!("{KEY}\r\n"),
            format!("{KEY}\r"),
            format!(" \t{KEY} \n\n"),
            format!("\u{feff}{KEY}\n"),
            format!("\n{KEY}\u{a0}"),
        ] {
            for form in [SecretForm::AdminKey, SecretForm::Token, SecretForm::Lines] {
                let secret = parse(text.as_bytes(), form).unwrap();
                assert_eq!(secret.expose(), KEY, "{text:?} {form:?}");
            }
        }
    }

    #[test]
    fn text_that_cannot_be_sent_is_refused() {
        use SecretTextError as E;
        let foreign = |code, position| E::ForeignCharacter { code, position };
        for (text, expected) in [
            (String::new(), E::Empty),
            ("\u{feff} \r\n".to_owned(), E::Empty),
            (
                format!("{KEY}\n# made by hand\n"),
                E::SeveralLines { lines: 2 },
            ),
            (
                format!("# made by hand\n{KEY}\n"),
                E::SeveralLines { lines: 2 },
            ),
            (format!("\"{KEY}\""), E::Quoted),
            (format!("'{KEY}'"), E::Quoted),
            (format!("{{\"value\":\"{KEY}\"}}"), E::Quoted),
            (format!("OPENAI_ADMIN_KEY={KEY}"), E::Assignment),
            (format!("export OPENAI_ADMIN_KEY=\"{KEY}\""), E::Assignment),
            (format!("KEY = {KEY}"), E::Assignment),
            ("sk-admin-...0001".to_owned(), E::Redacted),
            ("sk-admin-****wxyz".to_owned(), E::Redacted),
            ("sk-admin…0001".to_owned(), E::Redacted),
            ("sk-admin-a\0b".to_owned(), foreign(0, 11)),
            ("sk-admin-\u{1b}[0m".to_owned(), foreign(0x1b, 10)),
            ("sk-admin-a\u{200b}b".to_owned(), foreign(0x200b, 11)),
            (format!("{KEY}\u{200b}"), foreign(0x200b, 18)),
            (format!("Bearer {KEY}"), foreign(0x20, 7)),
            ("sk-admin-ä".to_owned(), foreign(0xe4, 10)),
            ("sk\u{2011}admin-a".to_owned(), foreign(0x2011, 3)),
            ("a\rb".to_owned(), foreign(0x0d, 2)),
        ] {
            for form in [SecretForm::AdminKey, SecretForm::Token] {
                let error = parse(text.as_bytes(), form).unwrap_err();
                assert_eq!(error, expected, "{text:?}");
                assert!(!error.to_string().contains("root0001"), "{error}");
            }
        }
        let utf16: Vec<u8> = "\u{feff}sk"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (bytes, found) in [(&utf16[..], "UTF-16"), (b"sk-\xff", "another encoding")] {
            let error = parse(bytes, SecretForm::Lines).unwrap_err();
            assert_eq!(error, E::NotText { found });
        }
    }

    #[test]
    fn tokens_are_what_a_header_and_a_file_take_alike() {
        for good in [
            KEY,
            "a",
            "new+secret/of-the-tests",
            "hunter2.~_",
            "YWJjZA==",
            "_-",
        ] {
            assert_eq!(check_token(good, SecretForm::AdminKey), Ok(()), "{good}");
            let read = parse(format!("{good}\n").as_bytes(), SecretForm::AdminKey).unwrap();
            assert_eq!(read.expose(), good);
        }
        for bad in [
            "",
            "=",
            " ",
            "sk-admin-root0001 ",
            " sk-admin-root0001",
            "sk-admin-a b",
            "sk-admin-root0001\n",
            "sk-admin-root0001\u{a0}",
            "\u{feff}sk-admin-root0001",
            "Bearer sk-admin-root0001",
            "\"sk-admin-root0001\"",
            "sk-admin-$(touch${IFS}/x)",
            "sk-admin-`id`",
            "sk-admin-a;b",
            "sk-admin-a#b",
            "sk-admin-a&b",
            "sk-admin-a\\b",
            "sk-admin-a'b",
            "sk-admin-a%20b",
            "sk-admin-a,b",
            "sk-admin-a:b",
            "KEY=sk-admin-root0001",
            "a=b=",
            "sk-admin-...0001",
            "sk-admin-ä",
            "sk-admin-a\0",
        ] {
            for form in [SecretForm::AdminKey, SecretForm::Token, SecretForm::Lines] {
                let is_redacted = bad.contains("...");
                let is_refused = check_token(bad, form).is_err();
                assert_eq!(
                    is_refused,
                    !is_redacted || form != SecretForm::Lines,
                    "{bad:?}"
                );
            }
        }
        assert!(check_token("sk-proj-abc", SecretForm::AdminKey).is_err());
        assert!(check_token("sk-proj-abc", SecretForm::Token).is_ok());
    }

    #[test]
    fn other_kinds_of_key_are_no_admin_key() {
        for text in [
            "sk-proj-abc",
            "sk-svcacct-abc",
            "sk-ant-api03-abc",
            "sess-abc",
            "key_abc",
            "org-abc",
            "proj_abc",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "sk-abcT3BlbkFJdef",
        ] {
            let error = parse(text.as_bytes(), SecretForm::AdminKey).unwrap_err();
            assert!(matches!(error, SecretTextError::OtherKind { .. }), "{text}");
            assert!(parse(text.as_bytes(), SecretForm::Token).is_ok(), "{text}");
        }
        // Gateways before the API have keys of their own.
        for text in [
            KEY,
            "sk-1234",
            "hunter2+/=~",
            "YWJjZA==",
            "sk-admin-abcT3BlbkFJdef",
        ] {
            assert!(
                parse(text.as_bytes(), SecretForm::AdminKey).is_ok(),
                "{text}"
            );
        }
    }
}
