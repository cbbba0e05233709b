//! The paths that a program may use if others are hidden from it.
//!
//! Landlock allows and cannot deny: what is allowed below a folder cannot be taken back. So
//! every child of each folder on the way to a hidden path is allowed, but for that way itself.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// A child of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FolderEntry {
    pub(super) name: OsString,
    /// Whether it is a symbolic link. What it leads to is allowed by its own path.
    pub(super) is_link: bool,
}

/// Returns the paths below which everything is allowed. `hidden` has no links in it; `list`
/// returns the children of a folder, or none if it cannot be listed: then nothing below it is
/// allowed.
pub(super) fn allowed_paths(
    hidden: &BTreeSet<PathBuf>,
    mut list: impl FnMut(&Path) -> Vec<FolderEntry>,
) -> Vec<PathBuf> {
    let ways: BTreeSet<&Path> = hidden
        .iter()
        .flat_map(|path| path.ancestors().skip(1))
        .collect();
    let mut allowed = Vec::new();
    let mut open = vec![PathBuf::from("/")];
    while let Some(path) = open.pop() {
        if hidden.contains(&path) {
            continue;
        }
        if !ways.contains(path.as_path()) {
            allowed.push(path);
            continue;
        }
        let children = list(&path).into_iter().filter(|child| !child.is_link);
        let children = children.map(|child| path.join(child.name));
        open.extend(children.filter(|child| !is_next_content(child, hidden)));
    }
    allowed
}

/// Whether a file has the name of one that is about to replace a hidden file: `.NAME.` with
/// digits and `.rekeyd`.
fn is_next_content(path: &Path, hidden: &BTreeSet<PathBuf>) -> bool {
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.and_then(|name| name.strip_prefix('.')?.strip_suffix(".rekeyd"));
    let target = name.and_then(|name| name.rsplit_once('.'));
    target.is_some_and(|(target, _)| hidden.contains(&path.with_file_name(target)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the allowed paths of a tree, whose links end with `@`.
    fn allowed(tree: &[&str], hidden: &[&str]) -> Vec<String> {
        let list = |folder: &Path| {
            let paths = tree
                .iter()
                .map(|path| Path::new(path.trim_end_matches('@')));
            let names: BTreeSet<_> = paths
                .filter_map(|path| path.strip_prefix(folder).ok()?.iter().next())
                .map(OsString::from)
                .collect();
            let entry = |name: OsString| FolderEntry {
                is_link: tree.contains(&format!("{}@", folder.join(&name).display()).as_str()),
                name,
            };
            names.into_iter().map(entry).collect()
        };
        let hidden = hidden.iter().map(PathBuf::from).collect();
        let mut paths: Vec<_> = allowed_paths(&hidden, list)
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.sort();
        paths
    }

    const TREE: [&str; 10] = [
        "/bin@",
        "/etc/hosts",
        "/etc/rekeyd/.admin-key.0123456789abcdef.rekeyd",
        "/etc/rekeyd/admin-key",
        "/etc/rekeyd/config.toml",
        "/run/credentials/rekeyd.service/openai-admin-key",
        "/usr/bin/sh",
        "/var/lib/app/x",
        "/var/lib/rekeyd/ledger.db",
        "/var/lib/rekeyd/acme/ledger.db",
    ];

    #[test]
    fn everything_beside_the_hidden_paths_is_allowed() {
        for (hidden, expected) in [
            (&[][..], &["/"][..]),
            (&["/"], &[]),
            (
                &["/var/lib/rekeyd"],
                &["/etc", "/run", "/usr", "/var/lib/app"],
            ),
            // What is not there hides nothing.
            (&["/srv/rekeyd"], &["/etc", "/run", "/usr", "/var"]),
            // One below another.
            (
                &["/var/lib/rekeyd", "/var/lib/rekeyd/acme"],
                &["/etc", "/run", "/usr", "/var/lib/app"],
            ),
            (
                &[
                    "/etc/rekeyd/admin-key",
                    "/run/credentials",
                    "/var/lib/rekeyd",
                ],
                &[
                    "/etc/hosts",
                    "/etc/rekeyd/config.toml",
                    "/usr",
                    "/var/lib/app",
                ],
            ),
        ] {
            assert_eq!(allowed(&TREE, hidden), expected, "{hidden:?}");
        }
    }

    proptest! {
        /// A path is below an allowed one if, and only if, it is neither hidden, nor below a
        /// hidden one, nor on the way to one.
        #[test]
        fn path_is_allowed_unless_hidden(
            tree in prop::collection::vec("/[ab](/[ab](/[abc])?)?", 1..12),
            hidden in prop::collection::vec("/[ab](/[ab](/[abc])?)?", 0..4),
        ) {
            let files: Vec<&str> = tree.iter().map(String::as_str).collect();
            let hidden_paths: Vec<&str> = hidden.iter().map(String::as_str).collect();
            let allowed = allowed(&files, &hidden_paths);
            for file in &files {
                let file = Path::new(file);
                let is_allowed = allowed.iter().any(|path| file.starts_with(path));
                let is_hidden = hidden.iter().any(|path| file.starts_with(path));
                let is_on_the_way = hidden.iter().any(|path| Path::new(path).starts_with(file));
                prop_assert_eq!(is_allowed, !is_hidden && !is_on_the_way, "{:?}", file);
            }
        }
    }
}
