//! The program that env(1) runs for a script whose first line names env.
//!
//! env takes options, assignments and quotes before the program. What decides which program it
//! runs is understood in a few forms; a line in another form is refused, since the program that
//! nobody has checked would get the secret.

/// What env(1) takes for blanks in the text of `-S`, see its manual.
const BLANKS: [char; 5] = [' ', '\t', '\r', '\u{b}', '\u{c}'];

/// The characters with which a word of `-S` means something else than it shows.
const SPECIAL: [char; 5] = ['\\', '\'', '"', '$', '#'];

/// The variable that says where programs are searched for.
const SEARCH_PATH: &str = "PATH";

/// What the variables begin with that make the loader load further files.
const LOADER_VARIABLES: &str = "LD_";

/// Why it cannot be told which program env(1) runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvLineError {
    /// No program is named.
    #[error("no program after env")]
    NoProgram,
    /// Blanks are a part of the name without `-S`.
    #[error("env looks for one program named \"{words}\"; hint: write env -S {words}")]
    NotSplit {
        /// The text after env.
        words: String,
    },
    /// A word in another form comes before the program.
    #[error(
        "rekeyd cannot say which program env runs after `{word}`; hint: begin the script with that \
         program, as in #!/bin/sh, or with nothing but assignments, -i or -u NAME between env -S \
         and the program"
    )]
    Unclear {
        /// The word.
        word: String,
    },
    /// The program is searched for in folders that the line itself names.
    #[error(
        "rekeyd cannot say where env finds {program} after `{word}`; hint: write the whole path of \
         {program}"
    )]
    OtherFolders {
        /// The program.
        program: String,
        /// The word.
        word: String,
    },
}

/// Returns the program that env(1) runs, from the argument that the kernel gives it: the rest of
/// the first line, with the blanks in it.
pub(super) fn program_of(argument: &str) -> Result<&str, EnvLineError> {
    let Some(split) = argument.strip_prefix("-S") else {
        return single_program(argument);
    };
    let mut words = split.split(BLANKS).filter(|word| !word.is_empty());
    let mut is_after_options = false;
    let mut other_folders = None;
    while let Some(word) = words.next() {
        let unclear = || EnvLineError::Unclear {
            word: word.to_owned(),
        };
        if word.contains(SPECIAL) {
            return Err(unclear());
        }
        if let Some((variable, _)) = word.split_once('=').filter(|_| !word.starts_with('-')) {
            if variable.is_empty() || variable.starts_with(LOADER_VARIABLES) {
                return Err(unclear());
            }
            is_after_options = true;
            other_folders = other_folders.or((variable == SEARCH_PATH).then_some(word));
        } else if word == "-i" && !is_after_options {
            // Without the variable, the C library has folders of its own.
            other_folders = other_folders.or(Some(word));
        } else if word == "-u" && !is_after_options {
            let variable = words.next().ok_or(EnvLineError::NoProgram)?;
            if variable.contains(SPECIAL) || variable.contains('=') {
                return Err(unclear());
            }
            other_folders = other_folders.or((variable == SEARCH_PATH).then_some(word));
        } else if word.starts_with('-') {
            return Err(unclear());
        } else {
            return found_program(word, other_folders);
        }
    }
    Err(EnvLineError::NoProgram)
}

fn single_program(argument: &str) -> Result<&str, EnvLineError> {
    if argument.is_empty() {
        return Err(EnvLineError::NoProgram);
    }
    if argument.starts_with('-') {
        let word = argument.to_owned();
        return Err(EnvLineError::Unclear { word });
    }
    if argument.contains(BLANKS) {
        let words = argument.to_owned();
        return Err(EnvLineError::NotSplit { words });
    }
    if argument.contains('=') {
        // env assigns it, and runs the script itself.
        return Err(EnvLineError::NoProgram);
    }
    Ok(argument)
}

fn found_program<'w>(
    program: &'w str,
    other_folders: Option<&str>,
) -> Result<&'w str, EnvLineError> {
    match other_folders {
        Some(word) if !program.contains('/') => Err(EnvLineError::OtherFolders {
            program: program.to_owned(),
            word: word.to_owned(),
        }),
        Some(_) | None => Ok(program),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_found_behind_what_is_understood() {
        for (argument, expected) in [
            ("sh", "sh"),
            ("/bin/sh", "/bin/sh"),
            ("-S sh -e", "sh"),
            ("-Ssh", "sh"),
            ("-S  \t sh", "sh"),
            ("-S A=1 B= sh -e", "sh"),
            ("-S -u LANG sh", "sh"),
            ("-S -i /bin/sh", "/bin/sh"),
            ("-S -i -u X A=b /bin/sh x", "/bin/sh"),
            ("-S PATH=/srv /bin/sh", "/bin/sh"),
            // What follows the program is its own.
            ("-S sh -c 'echo \"$A\"' # x", "sh"),
        ] {
            assert_eq!(program_of(argument), Ok(expected), "{argument}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let unclear = |word: &str| EnvLineError::Unclear {
            word: word.to_owned(),
        };
        for (argument, word) in [
            ("-vS sh", "-vS sh"),
            ("-i sh", "-i sh"),
            ("--split-string=sh", "--split-string=sh"),
            ("-S -C /srv sh", "-C"),
            ("-S -iu X sh", "-iu"),
            ("-S -uX sh", "-uX"),
            ("-S --ignore-environment sh", "--ignore-environment"),
            ("-S - sh", "-"),
            ("-S -- sh", "--"),
            ("-S -S sh", "-S"),
            ("-S -v sh", "-v"),
            ("-S A=1 -i sh", "-i"),
            ("-S ${X} sh", "${X}"),
            ("-S 'A'=1 sh", "'A'=1"),
            ("-S \"/bin/sh\"", "\"/bin/sh\""),
            ("-S /srv/a\\_b", "/srv/a\\_b"),
            ("-S #sh", "#sh"),
            ("-S A=$B sh", "A=$B"),
            ("-S LD_PRELOAD=/srv/x sh", "LD_PRELOAD=/srv/x"),
            ("-S =1 sh", "=1"),
        ] {
            assert_eq!(program_of(argument), Err(unclear(word)), "{argument}");
        }
        for argument in ["", "-S", "-S A=1", "-S -u", "-S -u X", "A=1"] {
            assert_eq!(
                program_of(argument),
                Err(EnvLineError::NoProgram),
                "{argument}"
            );
        }
        for argument in ["-S -i sh", "-S PATH=/srv sh", "-S -u PATH sh"] {
            let refused = program_of(argument).unwrap_err();
            assert!(
                matches!(refused, EnvLineError::OtherFolders { .. }),
                "{argument}: {refused}"
            );
        }
        let words = "sh -e".to_owned();
        assert_eq!(program_of("sh -e"), Err(EnvLineError::NotSplit { words }));
    }
}
