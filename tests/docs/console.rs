//! Blocks marked `console` show what the real binary prints.
//!
//! `REKEYD_DOCS=write cargo test --test docs console` writes their output again; ids, times
//! and ages may differ between a page and a run, and are not compared.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::command_lines;
use crate::links::pages_below;
use crate::support::{TestEnv, text, write};

/// The variable that has the blocks written.
const WRITE: &str = "REKEYD_DOCS";

/// The address of a sandbox without options.
const SANDBOX: &str = "http://127.0.0.1:8787/v1";

/// A segment of a page: lines outside of blocks marked `console`, or such a block.
enum Segment {
    Text(String),
    Console(String),
}

fn segments_of(page: &str) -> Vec<Segment> {
    let mut segments = vec![Segment::Text(String::new())];
    for line in page.lines() {
        let is_end = line == "```" && matches!(segments.last(), Some(Segment::Console(_)));
        if is_end {
            segments.push(Segment::Text(String::new()));
        }
        if let Some(Segment::Text(text) | Segment::Console(text)) = segments.last_mut() {
            writeln!(text, "{line}").unwrap();
        }
        if line == "```console" {
            segments.push(Segment::Console(String::new()));
        }
    }
    segments
}

/// Returns the folder that the configuration of a page uses: that of its ledger.
fn folder_of(configuration: &str) -> String {
    let (_, path) = configuration.split_once("[ledger]\npath = \"").unwrap();
    let (folder, _) = path.split_once("/ledger.db\"").unwrap();
    folder.to_owned()
}

/// Runs the commands of a block, and returns them with their outputs.
fn run(block: &str, world: &TestEnv, folder: &str) -> String {
    let mut shown = String::new();
    for command in block.lines().filter(|line| line.starts_with("$ ")) {
        writeln!(shown, "{command}").unwrap();
        for words in command_lines::commands(command) {
            assert_eq!(words[0], "rekeyd", "{command}");
            let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
            let mut command = world.command(&[]);
            let output = command.args(arguments).env("NO_COLOR", "1").output();
            let output = output.unwrap();
            for stream in [output.stderr, output.stdout] {
                let stream = text(&stream);
                // Notes depend on who runs the test.
                for line in stream.lines().filter(|line| !line.starts_with("note: ")) {
                    writeln!(shown, "{line}").unwrap();
                }
            }
        }
    }
    shown
        .replace(&world.dir.path().display().to_string(), folder)
        .replace(&world.base_url, SANDBOX)
}

/// Replaces what differs between two runs: ids, words with digits, and the widths of columns.
fn normalized(output: &str) -> String {
    let line_without_values = |line: &str| {
        let words = line.split_whitespace().map(|word| {
            let has_value =
                word.contains("key_") || word.contains(|sign: char| sign.is_ascii_digit());
            if has_value && !word.contains('/') {
                "#"
            } else {
                word
            }
        });
        let mut kept: Vec<&str> = Vec::new();
        for word in words {
            // An age has one unit or two: `5 s`, `1 min 5 s`.
            let is_unit = ["s", "min", "h", "d"].contains(&word.trim_matches(['(', ')', ',']));
            let repeats = word == "#" && kept.last() == Some(&"#");
            if !is_unit && !repeats {
                kept.push(word);
            }
        }
        kept.join(" ")
    };
    let lines: Vec<_> = output.lines().map(line_without_values).collect();
    lines.join("\n")
}

/// Runs the blocks of a page. Returns it with their present output.
fn rendered(page: &str) -> String {
    let (_, configuration) = page.split_once("```toml\n").unwrap();
    let (configuration, _) = configuration.split_once("```").unwrap();
    let folder = folder_of(configuration);
    let world = TestEnv::start(&[]);
    let configuration = configuration
        .replace(&folder, &world.dir.path().display().to_string())
        .replace(SANDBOX, &world.base_url);
    write(&world.path("config.toml"), &configuration);
    let segments = segments_of(page).into_iter().map(|segment| match segment {
        Segment::Text(text) => text,
        Segment::Console(block) => {
            let output = run(&block, &world, &folder);
            if normalized(&output) == normalized(&block) {
                block
            } else {
                output
            }
        }
    });
    segments.collect()
}

#[test]
fn consoles_show_what_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = pages_below("docs");
    pages.push(PathBuf::from("README.md"));
    let mut count = 0;
    for path in pages {
        let page = std::fs::read_to_string(root.join(&path)).unwrap();
        if !page.contains("\n```console\n") {
            continue;
        }
        count += 1;
        let present = rendered(&page);
        if std::env::var_os(WRITE).is_some_and(|value| value == "write") {
            std::fs::write(root.join(&path), present).unwrap();
        } else {
            let changed = present.lines().find(|line| !page.contains(line));
            assert_eq!(
                changed,
                None,
                "{}: {WRITE}=write cargo test --test docs console writes it again",
                path.display()
            );
            assert_eq!(page, present, "{}", path.display());
        }
    }
    assert!(count > 0);
}

#[test]
fn values_are_not_compared() {
    let shown = "a  key_1Ab  5 s   healthy (in 2 d 3 h)\n";
    assert_eq!(
        normalized(shown),
        normalized("a key_Xyz  1 min 10 s healthy (in 1 h)")
    );
    assert_ne!(
        normalized(shown),
        normalized("a key_9 5 s failing (in 1 h)")
    );
}
