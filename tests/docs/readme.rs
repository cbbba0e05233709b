//! Every configuration and command in the README is valid, and it is short.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::command_lines;
use crate::json_schema::{from_toml, problems, schema};
use crate::support::{TestEnv, text, write};
use clap::{CommandFactory as _, Parser as _};
use rekeyd::cli::Cli;

const README: &str = include_str!("../../README.md");

/// Commands of the host for setting up a service, without arguments that this test could
/// check.
const HOST_COMMANDS: [&str; 4] = ["apt", "install", "systemctl", "journalctl"];

/// The words before a command that runs as the service does.
const AS_SERVICE: [&str; 4] = ["runuser", "-u", "rekeyd", "--"];

/// A fenced block.
pub(crate) struct CodeBlock {
    pub(crate) language: String,
    pub(crate) content: String,
}

/// Returns the blocks of a page, and the text around them.
pub(crate) fn read_blocks(page: &str) -> (Vec<CodeBlock>, String) {
    let (mut blocks, mut prose): (Vec<CodeBlock>, _) = (Vec::new(), String::new());
    let mut inside = false;
    for line in page.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside;
            if inside {
                blocks.push(CodeBlock {
                    language: language.trim().to_owned(),
                    content: String::new(),
                });
            }
        } else {
            let place = if inside {
                &mut blocks.last_mut().unwrap().content
            } else {
                &mut prose
            };
            place.push_str(line);
            place.push('\n');
        }
    }
    assert!(!inside, "a block is not closed");
    (blocks, prose)
}

fn blocks_in(language: &str) -> Vec<String> {
    let (blocks, _) = read_blocks(README);
    let in_language = blocks
        .into_iter()
        .filter(|block| block.language == language);
    in_language.map(|block| block.content).collect()
}

/// Returns the text between backticks of a page, with a table's escapes removed.
pub(crate) fn code_spans_of(page: &str) -> Vec<String> {
    let (_, prose) = read_blocks(page);
    let lines = prose.lines().flat_map(|line| {
        let spans = line.split('`').skip(1).step_by(2);
        spans.map(|span| span.replace("\\|", "|"))
    });
    lines.collect()
}

/// Returns every command in a block, and every rekeyd command in the text.
fn commands() -> Vec<Vec<String>> {
    let blocks = blocks_in("sh");
    let in_blocks = blocks
        .iter()
        .flat_map(|block| crate::command_lines::commands(block));
    let in_text = code_spans_of(README);
    let in_text = in_text
        .iter()
        .filter(|span| span.starts_with("cargo ") || span.starts_with("rekeyd "))
        .flat_map(|span| crate::command_lines::commands(span));
    let all = in_blocks.chain(in_text);
    all.map(
        |words| match words.strip_prefix(&AS_SERVICE.map(str::to_owned)) {
            Some(words) => words.to_vec(),
            None => words,
        },
    )
    .collect()
}

#[test]
fn readme_is_short() {
    assert!(README.lines().count() <= 150);
}

#[test]
fn every_block_and_command_is_checked() {
    let (blocks, _) = read_blocks(README);
    for block in &blocks {
        let is_known = ["sh", "toml", "text"].contains(&block.language.as_str());
        assert!(
            is_known,
            "nothing checks a block {:?}:\n{}",
            block.language, block.content
        );
    }
    let programs: BTreeSet<_> = commands()
        .into_iter()
        .map(|words| words[0].clone())
        .collect();
    for program in &programs {
        let is_known = ["rekeyd", "cargo", "debian/build"]
            .iter()
            .chain(&HOST_COMMANDS)
            .any(|known| known == program);
        assert!(is_known, "nothing checks the command {program}");
    }
    for program in ["rekeyd", "cargo"] {
        assert!(programs.contains(program), "{program} is shown");
    }
}

/// Moves every path in the text below `dir` and creates it, so that only the text itself
/// can be wrong.
fn relocate_below(text: &str, dir: &Path) -> String {
    let mut relocated = String::new();
    for line in text.lines() {
        let mut pieces = line.split('"');
        relocated.push_str(pieces.next().unwrap());
        let option = line.split('=').next().unwrap().trim();
        for piece in pieces {
            relocated.push('"');
            if let Some(below) = piece.strip_prefix('/') {
                let path = dir.join(below);
                create_named_file(option, &path);
                relocated.push_str(path.to_str().unwrap());
            } else {
                relocated.push_str(piece);
            }
        }
        relocated.push('\n');
    }
    relocated
}

fn create_named_file(option: &str, path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    match option {
        "signing-secret-file" => write(path, "whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLXRlc3Rz\n"),
        "credential-file" | "bearer-token-file" => write(path, "secret-of-the-tests\n"),
        "argv" | "on-change" => {
            write(path, "#!/bin/sh\n");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        _ => {}
    }
}

/// Checks a configuration below a scratch folder, as `rekeyd check` does.
pub(crate) fn check_configuration(configuration: &str) -> Result<(), String> {
    let world = TestEnv::without_sandbox(String::new(), "unused", crate::support::scratch_dir());
    write(
        &world.path("config.toml"),
        &relocate_below(configuration, world.dir.path()),
    );
    // A service manager supplies an admin key that the configuration does not name.
    let given = world.path("credentials");
    std::fs::create_dir(&given).unwrap();
    write(&given.join("openai-admin-key"), "unused\n");
    let mut check = world.command(&["check"]);
    check.env("CREDENTIALS_DIRECTORY", given);
    // It also supplies the folder of the ledger.
    let output = check.env("STATE_DIRECTORY", world.dir.path()).output();
    let output = output.unwrap();
    // A problem of this host is no mistake of the text.
    let message = text(&output.stderr);
    let is_of_host =
        |line: &str| line.contains("/usr/sbin/sendmail") || line.contains(" is not in /etc/passwd");
    let is_of_host = !message.is_empty()
        && message
            .lines()
            .all(|line| line.is_empty() || line.starts_with("note: ") || is_of_host(line));
    if output.status.success() || is_of_host {
        return Ok(());
    }
    Err(format!("{}{message}", text(&output.stdout)))
}

#[test]
fn every_configuration_is_valid() {
    let schema = schema("config");
    let blocks = blocks_in("toml");
    assert!(!blocks.is_empty());
    for block in blocks {
        check_configuration(&block).unwrap_or_else(|error| panic!("{block}\n{error}"));
        assert_eq!(problems(&schema, &from_toml(&block)), [""; 0], "{block}");
    }
}

/// Parses a command line as the program does, without running it.
pub(crate) fn parse_command_line(words: &[String]) -> Result<(), String> {
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(error) if !error.use_stderr() => Ok(()),
        Err(error) => Err(format!("{}: {error}", words.join(" "))),
    }
}

#[test]
fn every_command_line_parses() {
    for words in commands() {
        if words[0] == "rekeyd" {
            parse_command_line(&words).unwrap();
        }
    }
    let spans = code_spans_of("Run `rekeyd rotat KEY`.");
    assert_eq!(
        spans,
        ["rekeyd rotat KEY"],
        "a command in a sentence is one"
    );
    for (wrong, reason) in [
        ("rekeyd rotat KEY", "a command"),
        ("rekeyd check [--onlin]", "an option"),
        ("rekeyd once [--for KEY]", "a value"),
        ("rekeyd status [--json | --jsn]", "an alternative"),
        ("rekeyd completions", "a missing argument"),
    ] {
        let lines = crate::command_lines::lines_of(wrong);
        assert!(
            lines.iter().any(|line| parse_command_line(line).is_err()),
            "sees {reason}"
        );
    }
}

/// Checks that the texts between backticks parse, and name every command.
pub(crate) fn check_every_command_is_described(spans: &[String]) {
    let mut described = BTreeSet::new();
    let mut before = String::new();
    for span in spans {
        if !span.starts_with("rekeyd ") {
            continue;
        }
        // `rekeyd hold A [B]`, `rekeyd release …`: the rest repeats the first.
        let same = span
            .strip_suffix('…')
            .filter(|rest| rest.split_whitespace().count() == 2);
        let span = match same {
            Some(rest) => {
                let arguments: Vec<_> = before.split_whitespace().skip(2).collect();
                format!("{rest}{}", arguments.join(" "))
            }
            None => span.clone(),
        };
        for line in command_lines::lines_of(&command_lines::usage_of(&span)) {
            described.extend(line.get(1).cloned());
            parse_command_line(&line).unwrap();
        }
        before = span;
    }
    let mut program = Cli::command();
    program.build();
    let all = program
        .get_subcommands()
        .filter(|subcommand| !subcommand.is_hide_set());
    for name in all
        .map(clap::Command::get_name)
        .filter(|name| *name != "help")
    {
        assert!(described.contains(name), "rekeyd {name} is described");
    }
}

/// Replaces `cargo run --release -- demo` by the built program's `demo`.
fn as_built_binary(words: &[String]) -> Option<Vec<String>> {
    let arguments = words.strip_prefix(&["cargo", "run", "--release", "--"].map(str::to_owned))?;
    let program = "target/release/rekeyd".to_owned();
    Some([&[program], arguments].concat())
}

fn options(words: &[String]) -> BTreeSet<&String> {
    words.iter().filter(|word| word.starts_with('-')).collect()
}

#[test]
fn ci_runs_the_documented_cargo_commands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/run");
    // A package has the README without the CI configuration.
    let Ok(script) = std::fs::read_to_string(path) else {
        return;
    };
    // Some are in functions that run side by side.
    let lines = script.lines().map(str::trim_start);
    let lines = lines.filter_map(|line| line.strip_prefix("step "));
    let run: Vec<_> = lines.flat_map(crate::command_lines::commands).collect();
    let mut kinds = BTreeSet::new();
    for words in commands().into_iter().filter(|words| words[0] == "cargo") {
        kinds.insert(words[1].clone());
        // Benches take long and cannot fail, so their names are checked alone.
        if let [_, bench, option, name, parts @ ..] = words.as_slice()
            && (bench.as_str(), option.as_str()) == ("bench", "--bench")
        {
            let file = format!("benches/{name}.rs");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let source = std::fs::read_to_string(file).expect(name);
            for part in parts.iter().filter(|part| *part != "--") {
                assert!(source.contains(&format!("(\"{part}\", ")), "{part}");
            }
            continue;
        }
        let found = match as_built_binary(&words) {
            Some(operator) => run.iter().any(|line| {
                // Durations and paths may differ.
                line.get(..2) == operator.get(..2) && options(line).is_superset(&options(&operator))
            }),
            None => run.contains(&words),
        };
        assert!(found, ".ci/run has no: {}", words.join(" "));
    }
    let makes = |words: &[String]| words[0] == "debian/build";
    assert!(commands().iter().any(|words| makes(words)));
    assert!(run.iter().any(|words| makes(words)), "the package is made");
    for kind in ["test", "run"] {
        assert!(kinds.contains(kind), "cargo {kind} is shown");
    }
}
