//! Every configuration, query and command in the book is valid.

use std::path::Path;

use crate::command_lines;
use crate::json_schema::{from_toml, problems, schema, strict_schema};
use crate::links::pages_below;
use crate::readme::{
    CodeBlock, check_configuration, check_every_command_is_described, code_spans_of,
    parse_command_line, read_blocks,
};
use crate::support::{TestEnv, file_key_text, read_ledger};
use rekeyd::daemon::control::protocol::ControlRequest;

/// Commands of the host, without arguments that these tests could check.
const HOST_COMMANDS: [&str; 29] = [
    ".ci/run",
    "apt",
    "base64",
    "cargo",
    "chgrp",
    "chown",
    "cp",
    "curl",
    "debian/build",
    "export",
    "git",
    "head",
    "install",
    "journalctl",
    "jq",
    "mdbook",
    "mv",
    "node",
    "openssl",
    "printf",
    "promtool",
    "python3",
    "rustup",
    "sed",
    "systemctl",
    "systemd-creds",
    "tests/mutants/run",
    "tests/systemd/run",
    "useradd",
];

/// Languages of blocks that are shown and not run.
const SHOWN: [&str; 7] = ["ini", "js", "promql", "python", "rust", "text", "yaml"];

/// The words before a command that runs as the service does.
const AS_SERVICE: [&str; 4] = ["runuser", "-u", "rekeyd", "--"];

/// Returns the blocks of every page, with the name of the page.
fn blocks() -> Vec<(String, CodeBlock)> {
    let of_page = |(name, text): (String, String)| {
        let (blocks, _) = read_blocks(&text);
        blocks.into_iter().map(move |block| (name.clone(), block))
    };
    pages().into_iter().flat_map(of_page).collect()
}

/// Returns the pages of the book for users, with their text.
fn pages() -> Vec<(String, String)> {
    let pages = pages_below("docs").into_iter();
    let pages = pages.filter(|page| !page.starts_with("docs/design"));
    let read = |page: std::path::PathBuf| {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&page));
        (page.display().to_string(), text.unwrap())
    };
    pages.map(read).collect()
}

/// Returns every command of a block of shell, without the words that set its user and its
/// variables.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (page, block) in blocks() {
        if block.language != "sh" {
            continue;
        }
        for words in command_lines::commands(&block.content) {
            let words = words
                .strip_prefix(&AS_SERVICE.map(str::to_owned))
                .unwrap_or(&words);
            let is_setting = |word: &&String| {
                let name = word.split('=').next().unwrap();
                word.contains('=') && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            };
            let words = words.iter().skip_while(is_setting);
            let words = words.skip_while(|word| *word == "{" || *word == "}");
            let words: Vec<String> = words.cloned().collect();
            if !words.is_empty() {
                found.push((page.clone(), words));
            }
        }
    }
    found
}

#[test]
fn every_block_has_a_known_language() {
    for (page, block) in blocks() {
        let is_known = ["console", "sh", "toml", "json", ""].contains(&block.language.as_str())
            || SHOWN.contains(&block.language.as_str());
        let is_development = page.starts_with("docs/development");
        assert!(
            is_known || is_development,
            "{page}: nothing checks a block {:?}:\n{}",
            block.language,
            block.content
        );
    }
}

#[test]
fn every_command_is_valid() {
    for (page, words) in commands() {
        match words[0].as_str() {
            "rekeyd" => {
                for line in command_lines::lines_of(&words.join(" ")) {
                    parse_command_line(&line).unwrap_or_else(|error| panic!("{page}: {error}"));
                }
            }
            "sqlite3" => {}
            program => assert!(
                HOST_COMMANDS.contains(&program),
                "{page}: nothing checks the command {program}"
            ),
        }
    }
}

#[test]
fn every_configuration_of_the_book_is_valid() {
    let schema = schema("config");
    let blocks = blocks().into_iter();
    let mut count = 0;
    for (page, block) in blocks.filter(|(_, block)| block.language == "toml") {
        // A part of a configuration is a sequence of tables with a key in it.
        let text = if block.content.contains("[key.") {
            block.content
        } else {
            format!(
                "{}\n[key.sample]\nschedule = \"@weekly\"\n[[key.sample.sink]]\ntype = \"file\"\n\
                 path = \"/etc/sample/key\"\n",
                block.content
            )
        };
        check_configuration(&text).unwrap_or_else(|error| panic!("{page}: {text}\n{error}"));
        assert_eq!(
            problems(&schema, &from_toml(&text)),
            [""; 0],
            "{page}: {text}"
        );
        count += 1;
    }
    assert!(count > 5);
}

#[test]
fn every_json_of_the_book_parses() {
    for (page, block) in blocks() {
        if block.language == "json" {
            let parsed = serde_json::from_str::<serde_json::Value>(&block.content);
            let parsed =
                parsed.unwrap_or_else(|error| panic!("{page}: {error}\n{}", block.content));
            let schema = match page.as_str() {
                "docs/notifications.md" => "notification",
                "docs/sinks/file.md" => "file",
                "docs/sinks/webhook.md" => "webhook",
                _ => continue,
            };
            let found = problems(&strict_schema(schema), &parsed);
            assert_eq!(found, [""; 0], "{page}: {}", block.content);
        }
    }
}

#[test]
fn every_query_of_the_book_runs() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let ledger = read_ledger(&world.path("ledger.db"));
    for (page, words) in commands() {
        if words[0] != "sqlite3" {
            continue;
        }
        let sql = words.last().unwrap();
        let mut statement = ledger
            .prepare(sql)
            .unwrap_or_else(|error| panic!("{page}: {sql}: {error}"));
        let mut rows = statement.query([]).unwrap();
        while rows.next().unwrap().is_some() {}
    }
}

#[test]
fn every_control_request_of_the_book_parses() {
    for (page, words) in commands() {
        let route = words
            .iter()
            .find_map(|word| word.strip_prefix("http://rekeyd/"));
        let Some(route) = route.filter(|_| words[0] == "curl") else {
            continue;
        };
        let body = words.iter().position(|word| word == "-d");
        let body = body.map_or("", |at| &words[at + 1]);
        if !["daemon", "configuration"].contains(&route) {
            ControlRequest::parse(route, body.as_bytes())
                .unwrap_or_else(|error| panic!("{page}: {route}: {error}"));
        }
    }
}

#[test]
fn every_command_is_described() {
    let page = include_str!("../../docs/commands.md");
    check_every_command_is_described(&code_spans_of(page));
    // `reference` compares the table with the options.
    assert!(page.contains("<!-- options: commands -->"));
}

#[test]
fn every_command_in_the_text_parses() {
    for (name, text) in pages() {
        for span in code_spans_of(&text) {
            // A message has its values left out.
            if !span.starts_with("rekeyd ") || span.contains('…') {
                continue;
            }
            for line in command_lines::lines_of(&command_lines::usage_of(&span)) {
                parse_command_line(&line).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    }
}
