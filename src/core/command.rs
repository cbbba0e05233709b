//! A program with its arguments, as the configuration names it, and what it is
//! told of a delivery.

use std::fmt;
use std::path::Path;

/// A program and its arguments. There is no shell: each argument reaches the
/// program as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The program; absolute.
    pub program: String,
    /// What follows it.
    pub arguments: Vec<String>,
}

impl CommandLine {
    /// The program's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        Path::new(&self.program)
    }

    /// All of it, from the program on.
    pub fn argv(&self) -> impl Iterator<Item = &str> {
        let arguments = self.arguments.iter().map(String::as_str);
        std::iter::once(self.program.as_str()).chain(arguments)
    }
}

impl fmt::Display for CommandLine {
    /// On one line, in quotes where it is needed to tell two command lines
    /// apart: sinks are known by it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.argv().enumerate() {
            if at > 0 {
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
    let plain = |letter: char| letter.is_alphanumeric() || "-_./:=@%+,~".contains(letter);
    !word.is_empty() && word.chars().all(plain)
}

/// What a delivery's command is told in its environment, beside the secret on
/// its standard input.
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
        let shown = |argv: &[&str]| {
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
            assert_eq!(shown(argv), expected);
        }
    }
}
