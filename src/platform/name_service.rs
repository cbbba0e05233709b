//! The groups that the host's name service knows, also those of a directory such as LDAP or
//! SSSD, which no file of this host lists.
//!
//! `id` and `getent` ask it, each in a process of its own: the service loads modules into the
//! process that asks, and a module may wait for a server that does not answer.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::core::{duration, os_error};

/// How long the name service may take.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Where the programs are.
const PROGRAM_FOLDERS: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// The time between two looks for the end of a program.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The reason why the name service gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// This host does not have the program.
    #[error("this host has no program `{program}`")]
    NoProgram {
        /// The program.
        program: &'static str,
    },
    /// The program of this host takes names alone, and an account may have a number as its name.
    #[error("`{program}` of this host takes no numbers of users")]
    NoNumbers {
        /// The program.
        program: &'static str,
    },
    /// The program did not end in time, and was killed.
    #[error("`{program}` did not end within {}", duration::to_text(PATIENCE))]
    TimedOut {
        /// The program.
        program: &'static str,
    },
    /// The system failed.
    #[error("cannot run `{program}`: {}", os_error::describe(source))]
    Failed {
        /// The program.
        program: &'static str,
        /// The error of the system.
        source: io::Error,
    },
}

/// Returns the numbers of all groups of a user, none for a user whom nobody knows. Blocks for
/// twice [`PATIENCE`] at most.
///
/// # Errors
/// The name service gave no answer.
pub fn groups_of(user: u32) -> Result<BTreeSet<u32>, LookupError> {
    // Without the sign, an account with this name would come first.
    if let Some(text) = ask("id", &["-G", "--", &format!("+{user}")])? {
        return Ok(parse_groups(&text));
    }
    // That of busybox knows no such number of any user.
    match ask("id", &["-u", "--", "+0"])? {
        Some(_) => Ok(BTreeSet::new()),
        None => Err(LookupError::NoNumbers { program: "id" }),
    }
}

/// Returns the number of the group with this name, if there is one. Blocks for [`PATIENCE`] at
/// most.
///
/// # Errors
/// The name service gave no answer.
pub fn group_number(name: &str) -> Result<Option<u32>, LookupError> {
    let answer = ask("getent", &["group", "--", name])?;
    Ok(answer.and_then(|text| parse_group(&text, name)))
}

/// Returns what a program prints, or none if it ends with another code than 0.
fn ask(program: &'static str, arguments: &[&str]) -> Result<Option<String>, LookupError> {
    let failed = |source| LookupError::Failed { program, source };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs([("PATH", PROGRAM_FOLDERS), ("LC_ALL", "C")])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            LookupError::NoProgram { program }
        } else {
            failed(source)
        }
    })?;
    let deadline = Instant::now() + PATIENCE;
    // What it prints fits into the pipe, or it counts as no answer.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL_INTERVAL),
            ended => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(match ended {
                    Err(source) => failed(source),
                    Ok(_) => LookupError::TimedOut { program },
                });
            }
        }
    };
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take().filter(|_| status.success()) {
        stdout.read_to_string(&mut text).map_err(failed)?;
        return Ok(Some(text));
    }
    Ok(None)
}

/// Parses what `id -G` prints.
fn parse_groups(text: &str) -> BTreeSet<u32> {
    let numbers = text.split_ascii_whitespace();
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// Parses what `getent group NAME` prints, which may be a group with this number.
fn parse_group(text: &str, name: &str) -> Option<u32> {
    let mut fields = text.lines().next()?.split(':');
    let found = fields.next()?;
    let number = fields.nth(1)?.parse().ok()?;
    (found == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_service_knows_root() {
        match (groups_of(0), group_number("root")) {
            (Ok(groups), Ok(number)) => {
                assert!(groups.contains(&0), "{groups:?}");
                assert_eq!(number, Some(0));
            }
            (Err(LookupError::NoProgram { .. } | LookupError::NoNumbers { .. }), _)
            | (_, Err(LookupError::NoProgram { .. })) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unknown_users_and_groups_are_no_failure() {
        for (answer, name) in [
            (
                groups_of(4_000_000_017).map(|groups| groups.is_empty()),
                "user",
            ),
            (
                group_number("no-such-group-here").map(|found| found.is_none()),
                "group",
            ),
        ] {
            match answer {
                Ok(is_unknown) => assert!(is_unknown, "{name}"),
                Err(LookupError::NoProgram { .. } | LookupError::NoNumbers { .. }) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        let missing = ask("rekeyd-no-such-program", &[]);
        assert!(matches!(missing, Err(LookupError::NoProgram { .. })));
    }

    #[test]
    fn program_that_does_not_end_is_killed() {
        let started = Instant::now();
        let error = ask("sleep", &["1000"]).unwrap_err();
        assert!(matches!(error, LookupError::TimedOut { .. }), "{error}");
        assert!(started.elapsed() >= PATIENCE);
    }

    #[test]
    fn answers_are_parsed() {
        assert_eq!(
            parse_groups("1000 27 4294967295\n"),
            [27, 1000, u32::MAX].into()
        );
        assert_eq!(parse_groups(""), [].into());
        for (text, name, expected) in [
            ("ops:x:50:anna,bob\n", "ops", Some(50)),
            (
                "ops@corp.example:*:1200500:\n",
                "ops@corp.example",
                Some(1_200_500),
            ),
            // The name service takes digits for a number.
            ("ops:x:50:\n", "50", None),
            ("ops:x:+50:\n", "ops2", None),
            ("ops:x\n", "ops", None),
            ("", "ops", None),
        ] {
            assert_eq!(parse_group(text, name), expected, "{text:?} {name}");
        }
    }
}
