//! Questions to the person at the terminal.

use std::io::Write as _;

use crate::cli::failure::Failure;
use crate::core::os_error;

/// Asks a person for a line of text.
pub(super) fn ask(question: &str) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        let reason = os_error::describe(&error);
        Failure::Other(format!("cannot ask for confirmation: {reason}"))
    };
    let mut terminal = std::io::stderr();
    write!(terminal, "{question} ").map_err(failed)?;
    terminal.flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim().to_owned())
}

/// Asks a person whether to go on.
pub(super) fn confirm(question: &str) -> Result<bool, Failure> {
    Ok(is_yes(&ask(&format!("{question} [y/N]"))?))
}

/// Returns whether an answer agrees. An empty one, as at the end of the input, does not.
fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_agrees() {
        for (answer, expected) in [
            ("y\n", true),
            ("Yes\r\n", true),
            ("", false),
            ("\n", false),
            ("n\n", false),
            ("yesterday\n", false),
        ] {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }
}
