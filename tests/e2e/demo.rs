//! What a demo shows.

use std::process::Command;

use crate::support::{TestEnv, text};

#[test]
fn demo_shows_times_and_next_steps_and_ends_with_lines_to_paste() {
    let world = TestEnv::start(&[]);
    let folder = world.path("demo of 'rekeyd'");
    let arguments = ["demo", "--dir", folder.to_str().unwrap(), "--for", "7s"];
    let output = world.command(&arguments).output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}{}", text(&output.stderr));

    let (events, end) = shown.split_once("What `rekeyd history` shows:").unwrap();
    let events: Vec<_> = events.lines().skip_while(|line| !line.is_empty()).collect();
    let events: Vec<_> = events.into_iter().filter(|line| !line.is_empty()).collect();
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
    assert!(is_shown("next: revoke "), "{shown}");
    assert!(is_shown("stopped after 7s"), "{shown}");

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
