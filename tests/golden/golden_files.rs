//! The golden files: the recordings as JSON, compared with the files in the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::recording::Recording;

/// The number of equal lines around each change in a difference.
const CONTEXT: usize = 3;

/// The content of each golden file, by its name without `.json`.
pub(crate) struct GoldenFiles {
    files: BTreeMap<String, String>,
    /// The files that this host cannot record, which stay unchanged.
    skipped: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/faces")
}

fn path_of(name: &str) -> PathBuf {
    folder().join(format!("{name}.json"))
}

impl GoldenFiles {
    pub(crate) fn of(recording: Recording) -> Self {
        let skipped = recording.skipped.clone();
        let files = recording.into_files();
        let text = |value: &Value| format!("{value:#}\n");
        Self {
            files: files
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
            skipped,
        }
    }

    /// Replaces every golden file.
    pub(crate) fn write(&self) {
        fs::create_dir_all(folder()).unwrap();
        for name in recorded_names() {
            if !self.files.contains_key(&name) && !self.skipped.contains(&name) {
                fs::remove_file(path_of(&name)).unwrap();
            }
        }
        for (name, text) in &self.files {
            fs::write(path_of(name), text).unwrap();
        }
    }

    /// Panics with every difference.
    pub(crate) fn compare(&self) {
        let mut report = String::new();
        for (name, text) in &self.files {
            let path = path_of(name);
            match fs::read_to_string(&path) {
                Ok(golden) if golden == *text => {}
                Ok(golden) => {
                    let displayed = path.display();
                    report.push_str(&format!("\n{displayed} differs (- golden, + now):\n"));
                    report.push_str(&difference(&golden, text));
                }
                Err(error) => {
                    report.push_str(&format!("\ncannot read {}: {error}\n", path.display()));
                }
            }
        }
        for name in recorded_names() {
            if !self.files.contains_key(&name) && !self.skipped.contains(&name) {
                report.push_str(&format!(
                    "\n{} was not recorded\n",
                    path_of(&name).display()
                ));
            }
        }
        assert!(
            report.is_empty(),
            "public faces changed:\n{report}\nhint: where that is intended, write the golden \
             files anew: REKEYD_GOLDEN=write cargo test --test golden"
        );
    }
}

/// Returns the names of the golden files in the repository.
fn recorded_names() -> Vec<String> {
    let entries = fs::read_dir(folder()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(".json")?.to_owned())
    });
    names.collect()
}

/// A line of a difference.
enum Line<'l> {
    Equal(&'l str),
    Removed(&'l str),
    Added(&'l str),
}

/// Returns the differing lines with their surroundings.
fn difference(golden: &str, now: &str) -> String {
    let lines = aligned(golden, now);
    let changed: Vec<usize> = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !matches!(line, Line::Equal(_)))
        .map(|(at, _)| at)
        .collect();
    let mut text = String::new();
    let mut gap = false;
    for (at, line) in lines.iter().enumerate() {
        let is_near = changed.iter().any(|change| change.abs_diff(at) <= CONTEXT);
        if !is_near {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) {
            text.push_str("  …\n");
        }
        let (mark, line) = match line {
            Line::Equal(line) => (' ', line),
            Line::Removed(line) => ('-', line),
            Line::Added(line) => ('+', line),
        };
        text.push_str(&format!("{mark} {line}\n"));
    }
    text
}

/// Merges both texts by their longest common subsequence of lines.
fn aligned<'l>(golden: &'l str, now: &'l str) -> Vec<Line<'l>> {
    let (before, after): (Vec<_>, Vec<_>) = (golden.lines().collect(), now.lines().collect());
    let mut common = vec![vec![0_usize; after.len() + 1]; before.len() + 1];
    for left in (0..before.len()).rev() {
        for right in (0..after.len()).rev() {
            common[left][right] = if before[left] == after[right] {
                common[left + 1][right + 1] + 1
            } else {
                common[left + 1][right].max(common[left][right + 1])
            };
        }
    }
    let (mut left, mut right) = (0, 0);
    let mut lines = Vec::new();
    while left < before.len() || right < after.len() {
        if left < before.len() && right < after.len() && before[left] == after[right] {
            lines.push(Line::Equal(before[left]));
            (left, right) = (left + 1, right + 1);
        } else if right == after.len()
            || left < before.len() && common[left + 1][right] >= common[left][right + 1]
        {
            lines.push(Line::Removed(before[left]));
            left += 1;
        } else {
            lines.push(Line::Added(after[right]));
            right += 1;
        }
    }
    lines
}
