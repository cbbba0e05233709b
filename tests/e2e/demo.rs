//! What a demo shows.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::{TestEnv, text};

/// Checks that a line names the next step in each silence, and that no step comes earlier.
fn assert_waits_are_announced(events: &[&str]) {
    let time_of = |line: &str| -> f64 {
        let (time, _) = line.trim_start().split_once("s  ").unwrap();
        time.parse().unwrap()
    };
    for pair in events.windows(2) {
        let silence = time_of(pair[1]) - time_of(pair[0]);
        if pair[1].contains("stopped after") {
            continue;
        }
        if let Some((_, wait)) = pair[0].split_once("next: ") {
            let wait = wait
                .rsplit_once("in ")
                .and_then(|(_, wait)| wait.strip_suffix(" s"));
            let wait: f64 = wait.map_or(0.0, |wait| wait.parse().unwrap());
            assert!(silence > wait - 0.3, "{pair:?}");
        } else {
            assert!(silence < 1.95 || pair[1].contains("next: "), "{pair:?}");
        }
    }
}

/// Replaces what differs between two runs: times, ids, folders and ports.
fn without_values(line: &str) -> String {
    let (_, text) = line.trim_start().split_once("s  ").unwrap();
    let words = text.split_whitespace().map(|word| {
        // An id need not have a digit.
        let has_value = word.starts_with("key_")
            || word.contains(|letter: char| letter.is_ascii_digit() || letter == '/');
        if has_value && word != "1" { "#" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Compares the transcript in the README with a run. Where the second begins decides how much
/// is left of the first wait, and how far the run gets.
fn assert_readme_shows(events: &[&str]) {
    let readme = include_str!("../../README.md");
    let (_, transcript) = readme.split_once("```text\n").unwrap();
    let (transcript, _) = transcript.split_once("```").unwrap();
    // A line that a terminal folds.
    let transcript = transcript.replace("\n         ", " ");
    let steps = |lines: &[&str]| -> Vec<String> {
        let lines = lines.iter().map(|line| without_values(line));
        // A host without an id, as a plain container, says so first.
        let is_step =
            |line: &String| !line.starts_with("next: ") && !line.contains("no machine id");
        lines.filter(is_step).collect()
    };
    let lines: Vec<_> = transcript.lines().collect();
    let (shown, printed) = (steps(&lines), steps(events));
    assert!(shown.len() > 12, "{shown:?}");
    let both = shown.iter().zip(&printed);
    assert!(
        both.filter(|(_, printed)| !printed.starts_with("stopped"))
            .all(|(shown, printed)| shown == printed),
        "README.md:\n{shown:#?}\nprinted:\n{printed:#?}"
    );
    let nexts = |lines: &[&str]| -> BTreeSet<String> {
        // On a busy host the wait may be over.
        let any_wait = |line: &&str| without_values(line).replace(" now", " in # s");
        let lines = lines.iter().map(any_wait);
        lines.filter(|line| line.starts_with("next: ")).collect()
    };
    assert!(nexts(&lines).is_superset(&nexts(events)), "{events:?}");
}

#[test]
fn demo_shows_times_and_next_steps_and_ends_with_lines_to_paste() {
    let world = TestEnv::start(&[]);
    let folder = world.path("demo of 'rekeyd'");
    let arguments = ["demo", "--dir", folder.to_str().unwrap(), "--for", "8s"];
    let output = world.command(&arguments).output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));

    let intro = shown.lines().take_while(|line| !line.is_empty());
    for line in intro.filter(|line| !line.starts_with("All files")) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let (events, end) = shown.split_once("What `rekeyd history` shows:").unwrap();
    let events: Vec<_> = events.lines().skip_while(|line| !line.is_empty()).collect();
    let events: Vec<_> = events.into_iter().filter(|line| !line.is_empty()).collect();
    let name = folder.to_str().unwrap();
    let events: Vec<_> = events.iter().map(|line| line.replace(name, "/F")).collect();
    let events: Vec<_> = events.iter().map(String::as_str).collect();
    for line in &events {
        let (time, _) = line.trim_start().split_once("s  ").expect(line);
        let (seconds, tenths) = time.split_once('.').expect(line);
        assert!(
            seconds.bytes().all(|digit| digit.is_ascii_digit()),
            "{line}"
        );
        assert_eq!((tenths.len(), line.find('.')), (1, Some(4)), "{line}");
    }
    let is_shown = |part: &str| events.iter().any(|line| line.contains(part));
    assert!(is_shown(" is revoked "), "{shown}");
    assert_waits_are_announced(&events);
    assert_readme_shows(&events);
    assert!(is_shown("stopped after 8s"), "{shown}");

    // The open rotation has ended.
    let open = ["intended", "created", "verified", "stranded"];
    assert!(!open.iter().any(|phase| end.contains(phase)), "{end}");
    let (_, lines) = end.split_once("Try next:\n").unwrap();
    assert!(lines.lines().count() >= 2, "{lines}");
    for line in lines.lines() {
        let run = Command::new("sh").args(["-c", line]).output().unwrap();
        let shown = text(&run.stdout) + &text(&run.stderr);
        assert!(
            run.status.success() && shown.contains("demo"),
            "{line}: {shown}"
        );
    }
}
