//! Problems as a terminal shows them: each file below `terminal/` beside what is printed
//! about it. `REKEYD_GOLDEN=write` writes the latter again.

use std::path::Path;

use rekeyd::config::{parse, render_problems};

use crate::configuration::environment;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config/terminal");

fn rendered(text: &str) -> String {
    let problems = parse(Path::new("/etc/rekeyd/config.toml"), text, &environment());
    render_problems(&problems.expect_err(text), false)
}

#[test]
fn problems_are_shown_with_the_shape_of_their_lines() {
    let is_writing = std::env::var_os("REKEYD_GOLDEN").is_some_and(|mode| mode == "write");
    let mut differing = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(FOLDER).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        count += 1;
        let found = rendered(&std::fs::read_to_string(&path).unwrap());
        assert!(
            !found.contains("Zq7") && !found.contains("hunter2"),
            "{found}"
        );
        let golden = path.with_extension("txt");
        if is_writing {
            std::fs::write(&golden, &found).unwrap();
        } else if std::fs::read_to_string(&golden).ok().as_ref() != Some(&found) {
            differing.push(format!("{}:\n{found}", golden.display()));
        }
    }
    assert!(count >= 15, "{count} files");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn colors_change_no_text() {
    let text = "[provider]\nmax-in-flight = \"8\"\n";
    let problems = parse(Path::new("/etc/c.toml"), text, &environment()).unwrap_err();
    let colored = render_problems(&problems, true);
    assert!(colored.contains("\u{1b}["), "{colored:?}");
    assert!(!render_problems(&problems, false).contains('\u{1b}'));
    let mut plain = String::new();
    let mut parts = colored.split('\u{1b}');
    plain.push_str(parts.next().unwrap());
    for part in parts {
        plain.push_str(part.split_once('m').unwrap().1);
    }
    assert_eq!(plain, render_problems(&problems, false));
}
