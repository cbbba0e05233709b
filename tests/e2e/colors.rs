//! Colors on a terminal, which `NO_COLOR` and `TERM=dumb` turn off in every output.

use std::process::Command;

use crate::support::host::report_missing;
use crate::support::{TestEnv, file_key_text, text};

/// The start of every escape sequence.
const ESCAPE: char = '\u{1b}';

/// Returns what a command writes to a terminal, with these additional variables.
fn on_terminal(world: &TestEnv, arguments: &[&str], variables: &[(&str, &str)]) -> Option<String> {
    let given = world.command(arguments);
    let words = std::iter::once(given.get_program()).chain(given.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
    let mut command = Command::new("script");
    command
        .args(["-q", "-c", &line.join(" "), "/dev/null"])
        .env_remove("NO_COLOR")
        .env_remove("OPENAI_ADMIN_KEY")
        .env_remove("CI")
        .env_remove("CLICOLOR_FORCE")
        .env("TERM", "xterm-256color")
        .envs(variables.iter().copied());
    let output = command.output().ok()?;
    Some(text(&output.stdout))
}

#[test]
fn no_output_has_colors_if_the_user_wants_none() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    let Some(plain) = on_terminal(&world, &["once"], &[]) else {
        report_missing("script(1) of bsdutils");
        return;
    };
    assert!(plain.contains(ESCAPE), "a capable terminal shows colors");
    for variables in [
        &[("NO_COLOR", "1")][..],
        &[("TERM", "dumb")],
        &[("TERM", "dumb"), ("CI", "true")],
        &[("TERM", "dumb"), ("CLICOLOR_FORCE", "1")],
        &[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")],
    ] {
        for arguments in [
            &["--help"][..],
            &["rotate", "--help"],
            &["no-such-command"],
            &["hold", "billing", "--until", "never"],
            &["check"],
            &["check", "--online"],
            &["rotate", "billing"],
            &["rotate", "nobody"],
            &["once"],
            &["status"],
            &["history"],
            &["schedule"],
            &["audit"],
            &["backup", "/dev/null/absent"],
            &["demo", "--for", "1s"],
        ] {
            let output = on_terminal(&world, arguments, variables).unwrap();
            let colored = output.lines().find(|line| line.contains(ESCAPE));
            assert_eq!(colored, None, "{variables:?} {arguments:?}");
        }
    }
}

/// Returns a line as a terminal shows it: without escape sequences.
fn visible_text(line: &str) -> String {
    let mut parts = line.split(ESCAPE);
    let first = parts.next().unwrap_or_default().to_owned();
    let rest = parts.filter_map(|part| part.split_once('m'));
    rest.fold(first, |text, (_, part)| text + part)
}

/// A terminal shows colors, and a symbol for each state; nothing else does. The lines below
/// a row, and the sentences below a table, are not part of the table.
#[test]
fn tables_fit_a_terminal_of_80_columns() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("1h"));
    world.ok(&["once"]);
    world.ok(&["rotate", "billing"]);
    let symbols = ['●', '○', '▲', '✗'];
    for (arguments, title, has_state) in [
        (&["status"][..], "KEY ", true),
        (&["status", "--verbose"], "KEY ", true),
        (&["history"], "KEY ", true),
        (&["audit"], "STATUS ", true),
        (&["show", "billing"], "SINK ", true),
        (&["schedule"], "KEY ", false),
    ] {
        let Some(terminal) = on_terminal(&world, arguments, &[("COLUMNS", "80")]) else {
            report_missing("script(1) of bsdutils");
            return;
        };
        assert!(terminal.contains(ESCAPE), "{arguments:?}: {terminal}");
        assert_eq!(terminal.contains(symbols), has_state, "{terminal}");
        let lines = terminal.lines().map(|line| visible_text(line.trim_end()));
        let mut table = lines.skip_while(|line| !line.starts_with(title)).peekable();
        assert!(table.peek().is_some(), "{arguments:?}: {terminal}");
        for line in table.take_while(|line| !line.starts_with("billing: ")) {
            let width = line.chars().count();
            assert!(
                width <= 80 || line.starts_with("  "),
                "{arguments:?}: {line}"
            );
        }
        let file = world.ok(arguments);
        assert!(!file.contains(ESCAPE), "{arguments:?}: {file}");
        assert!(!file.contains(symbols), "{arguments:?}: {file}");
    }
}
