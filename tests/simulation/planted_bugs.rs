//! Whether the planted bugs of `tests/mutants` still apply. A build has no need of git, so
//! a patch is compared with the sources here.

use std::path::Path;

/// Checks that each part of the patch at `path` is found in the sources below `root`:
/// lines that a patch removes or surrounds stand there in one piece.
///
/// # Panics
/// If one does not, or if the tests that must fail are named in another line than the second,
/// the only one that `tests/mutants/run` reads.
pub(crate) fn assert_applies(root: &Path, path: &Path) {
    let patch = std::fs::read_to_string(path).unwrap();
    let has_late_tests = patch
        .lines()
        .skip(2)
        .any(|line| line.starts_with("Tests: "));
    assert!(
        !has_late_tests,
        "{}: name its tests in line 2",
        path.display()
    );
    let mut source = String::new();
    let mut hunks = 0;
    let mut lines = patch.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("--- a/") {
            source = std::fs::read_to_string(root.join(name)).unwrap();
        } else if line.starts_with("@@ ") {
            let mut expected = String::new();
            while let Some(line) = lines.next_if(|line| is_hunk_line(line)) {
                if let Some(line) = line.strip_prefix([' ', '-']) {
                    expected.extend([line, "\n"]);
                } else if line.is_empty() {
                    expected.push('\n');
                }
            }
            let whole_lines = format!("\n{source}");
            assert!(
                whole_lines.contains(&format!("\n{expected}")),
                "{}: the sources have no longer:\n{expected}",
                path.display()
            );
            hunks += 1;
        }
    }
    assert!(hunks > 0, "{} is no patch", path.display());
}

fn is_hunk_line(line: &str) -> bool {
    line.is_empty() || (line.starts_with([' ', '-', '+', '\\']) && !line.starts_with("--- a/"))
}
