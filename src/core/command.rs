//! A program with its arguments, as the configuration names it, and the
//! environment that it gets for a delivery.

use std::fmt;
use std::path::Path;

/// A program and its arguments. No shell is involved: each argument reaches the
/// program as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program's absolute path.
    pub program: String,
    /// Its arguments, without the program itself.
    pub arguments: Vec<String>,
}

impl CommandLine {
    /// Returns the program's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.program)
    }

    /// Returns the program and then its arguments.
    pub fn argv(&self) -> impl Iterator<Item = &str> {
        let arguments = self.arguments.iter().map(String::as_str);
        std::iter::once(self.program.as_str()).chain(arguments)
    }
}

impl fmt::Display for CommandLine {
    /// Writes one line, which identifies a sink: words are quoted wherever two
    /// command lines would otherwise read the same.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.argv().enumerate() {
            if index > 0 {
                formatter.write_str(" ")?;
            }
            if is_safe_unquoted(word) {
                formatter.write_str(word)?;
            } else {
                write!(formatter, "{word:?}")?;
            }
        }
        Ok(())
    }
}

fn is_safe_unquoted(word: &str) -> bool {
    let is_safe = |letter: char| letter.is_alphanumeric() || "-_./:=@%+,~".contains(letter);
    !word.is_empty() && word.chars().all(is_safe)
}

/// Returns the environment variables of a delivery's command. The secret is not
/// among them: the command reads it from its standard input.
#[must_use]
pub fn delivery_environment(
    key: &str,
    rotation: &str,
    sequence: u64,
    sink: &str,
    credential: &str,
) -> [(&'static str, String); 5] {
    [
        ("REKEYD_KEY", key.to_owned()),
        ("REKEYD_ROTATION", rotation.to_owned()),
        ("REKEYD_SEQUENCE", sequence.to_string()),
        ("REKEYD_SINK", sink.to_owned()),
        ("REKEYD_CREDENTIAL_ID", credential.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_quotes_ambiguous_words() {
        let display = |argv: &[&str]| {
            let line = CommandLine {
                program: argv[0].to_owned(),
                arguments: argv[1..].iter().map(|word| (*word).to_owned()).collect(),
            };
            line.to_string()
        };
        for (argv, expected) in [
            (&["/bin/put", "billing"][..], "/bin/put billing"),
            (&["/bin/put", "a b", "c"], "/bin/put \"a b\" c"),
            (&["/bin/put", "a", "b c"], "/bin/put a \"b c\""),
            (&["/bin/put", ""], "/bin/put \"\""),
            (&["/bin/put", "\"a\""], "/bin/put \"\\\"a\\\"\""),
            (&["/bin/put", "a\nb"], "/bin/put \"a\\nb\""),
            (&["/opt/my tools/put"], "\"/opt/my tools/put\""),
        ] {
            assert_eq!(display(argv), expected);
        }
    }
}
