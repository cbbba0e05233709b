//! Every link in the pages leads somewhere, and the book lists every page.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// Folders without pages of the project.
const SKIPPED: [&str; 2] = [".git", "target"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every file below `folder` whose name ends with `.md`, relative to the root.
pub(crate) fn pages_below(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect_pages(&root().join(folder), &mut found);
    found.sort();
    found
}

fn collect_pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !SKIPPED.contains(&name) {
            collect_pages(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "md") {
            found.push(path.strip_prefix(root()).unwrap().to_owned());
        }
    }
}

fn read(page: &Path) -> String {
    std::fs::read_to_string(root().join(page)).unwrap()
}

/// Returns the lines outside of fenced blocks, without the text between backticks.
fn prose(text: &str) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            lines.push(line.split('`').step_by(2).collect::<Vec<_>>().join("``"));
        }
    }
    lines
}

/// Returns the targets of the links of a page.
pub(crate) fn links(text: &str) -> Vec<String> {
    let lines = prose(text);
    let of_line = |line: &String| -> Vec<String> {
        let rest = line.split("](").skip(1);
        rest.filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_owned()))
            .collect()
    };
    lines.iter().flat_map(of_line).collect()
}

/// Returns the anchors of a page's headings, as the hosting platforms and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        }
        let heading = line.trim_start_matches('#');
        if inside || heading == line || !heading.starts_with(' ') {
            continue;
        }
        let letters = heading.trim().chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
            _ => None,
        });
        found.insert(letters.collect());
    }
    found
}

/// Returns the path without `.` and `..`; none if it leaves the project.
pub(crate) fn normalized(path: &Path) -> Option<PathBuf> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.iter().collect())
}

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    for page in pages_below("") {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") {
                let is_valid = link.starts_with("https://") && url::Url::parse(&link).is_ok();
                if !is_valid {
                    problems.push(format!("{}: {link} is no address", page.display()));
                }
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                Some(page.clone())
            } else {
                normalized(&page.with_file_name("").join(file))
            };
            let exists = target
                .as_ref()
                .is_some_and(|target| root().join(target).exists());
            let has_anchor = |target: &Path| anchors(&read(target)).contains(anchor);
            if !exists {
                problems.push(format!("{}: there is no {link}", page.display()));
            } else if !anchor.is_empty() && !target.is_some_and(|target| has_anchor(&target)) {
                problems.push(format!("{}: {link} has no such heading", page.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_book_lists_every_page_once() {
    let summary = Path::new("docs/SUMMARY.md");
    let listed = links(&read(summary));
    let listed: Vec<PathBuf> = listed
        .iter()
        .map(|link| Path::new("docs").join(link))
        .collect();
    let unique: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(unique.len(), listed.len(), "{listed:?}");
    let mut pages: BTreeSet<_> = pages_below("docs").into_iter().collect();
    assert!(pages.remove(summary));
    assert_eq!(unique, pages);
}

#[test]
fn anchors_and_links_are_recognized() {
    let page =
        "# A key's *first* time\n[a](b.md#c) `[not](one)`\n```sh\n# no heading\n```\n## x_y-Z 2\n";
    assert_eq!(links(page), ["b.md#c"]);
    let expected = ["a-keys-first-time", "x_y-z-2"].map(str::to_owned);
    assert_eq!(anchors(page), BTreeSet::from(expected));
    assert_eq!(normalized(Path::new("a/../../b")), None);
}
