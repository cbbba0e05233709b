//! Each folder of `src` uses only the folders that ARCHITECTURE.md lists for it, and no
//! files import each other in a cycle.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::imports::{Sources, cycles, imports};

fn allowed_uses() -> BTreeMap<String, BTreeSet<String>> {
    let page = include_str!("../../ARCHITECTURE.md");
    let rows = page
        .lines()
        .skip_while(|line| *line != "| folder | may use |")
        .skip(2);
    rows.take_while(|line| line.starts_with('|'))
        .map(|row| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let uses = cells[1].split(", ").filter(|name| !name.is_empty());
            (cells[0].to_owned(), uses.map(str::to_owned).collect())
        })
        .collect()
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn collect_sources(folder: &Path, found: &mut Sources) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Tests beside the code may use helpers of other folders.
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            collect_sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let name = path.strip_prefix(source_root()).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            found.insert(name.to_str().unwrap().to_owned(), text);
        }
    }
}

/// Returns the folders after each `crate::` of a source, without comments.
fn used_modules(source: &str) -> BTreeSet<String> {
    let code = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| {
        line.split("crate::")
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    })
    .map(|rest| {
        rest.chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
            .collect()
    })
    .collect()
}

#[test]
fn modules_use_only_allowed_modules() {
    let allowed = allowed_uses();
    let root = source_root();
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let folder = path.file_name().unwrap().to_string_lossy().into_owned();
        let may = allowed
            .get(&folder)
            .unwrap_or_else(|| panic!("the folder {folder} is not documented"));
        let mut found = Sources::new();
        collect_sources(&path, &mut found);
        for other in found.values().flat_map(|source| used_modules(source)) {
            // Tests alone use the last one.
            assert!(
                other == folder || may.contains(&other) || other == "test_host",
                "{folder} uses {other}"
            );
        }
    }
}

#[test]
fn cron_and_signal_libraries_have_one_place_each() {
    let root = source_root();
    let mut found = Sources::new();
    collect_sources(&root, &mut found);
    let allowed = [
        (
            "tokio_cron_scheduler::",
            &["daemon/ticker.rs", "daemon/error.rs"][..],
        ),
        ("signal_hook::", &["platform/signals/"][..]),
    ];
    for (library, places) in allowed {
        let users = found.iter().filter(|(_, source)| source.contains(library));
        let users: Vec<_> = users.map(|(file, _)| file).collect();
        assert!(!users.is_empty(), "{library}");
        for file in users {
            let is_allowed = places.iter().any(|place| file.starts_with(place));
            assert!(is_allowed, "{file} uses {library}");
        }
    }
}

/// Whether a source names a crate, and not only a module or a part of another name.
fn names_crate(source: &str, name: &str) -> bool {
    let path = format!("{name}::");
    let mut places = source.match_indices(&path);
    places.any(|(at, _)| {
        let before = source[..at].chars().next_back();
        before.is_none_or(|letter| !letter.is_alphanumeric() && letter != '_' && letter != ':')
    })
}

#[test]
fn every_dependency_is_used() {
    let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
    let mut found = Sources::new();
    collect_sources(&source_root(), &mut found);
    let mut unused = Vec::new();
    for dependency in manifest["dependencies"].as_table().unwrap().keys() {
        // The code has another name for one of them.
        let name = match dependency.as_str() {
            "rustls-webpki" => "webpki".to_owned(),
            other => other.replace('-', "_"),
        };
        if !found.values().any(|source| names_crate(source, &name)) {
            unused.push(dependency);
        }
    }
    assert!(unused.is_empty(), "no source uses {unused:?}");
    assert!(names_crate("use url::Url;", "url") && !names_crate("net::url::x", "url"));
    assert!(!names_crate("string::x", "ring"));
}

/// The engine works with every type of sink alike. Temporary files beside a target are
/// the exception: their names are claimed, and those of a killed process are removed.
#[test]
fn only_temporary_files_name_a_type_of_sink() {
    let mut found = Sources::new();
    collect_sources(&source_root(), &mut found);
    let users = found.iter().filter(|(file, source)| {
        let mut code = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        !file.starts_with("sink/") && code.any(|line| line.contains("sink::file"))
    });
    let users: Vec<&str> = users.map(|(file, _)| file.as_str()).collect();
    assert_eq!(users, ["config/claims.rs", "daemon/temp_cleanup.rs"]);
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    let mut sources = Sources::new();
    collect_sources(&source_root(), &mut sources);
    let imports = imports(&sources);
    assert!(imports.len() > 100, "the sources were read");
    assert_eq!(cycles(&imports), []);
}
