//! Which source files import which, read from their text.
use std::collections::{BTreeMap, BTreeSet};

/// The sources of a crate: their paths below `src`, and their texts.
pub(crate) type Sources = BTreeMap<String, String>;

/// The files that each file imports something from.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

/// Returns what each file imports. `mod x;` alone is no import. A re-exported
/// item is imported from the file that defines it.
pub(crate) fn imports(sources: &Sources) -> Imports {
    let tree = ModuleTree::new(sources);
    let files = tree.modules.values();
    let imports = files.map(|module| {
        let found = module.paths.iter().filter_map(|path| tree.resolve(path, 0));
        let others = found.filter(|file| *file != module.file);
        (module.file.clone(), others.collect())
    });
    imports.collect()
}

/// Returns the groups of files that import each other, directly or through
/// others.
pub(crate) fn cycles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reachable: BTreeMap<_, _> = imports
        .keys()
        .map(|file| (file, reach(imports, file)))
        .collect();
    let mut found = BTreeSet::new();
    for (file, reached) in &reachable {
        let back = reached
            .iter()
            .filter(|other| reachable[*other].contains(*file));
        let cycle: BTreeSet<String> = back.cloned().collect();
        if !cycle.is_empty() {
            found.insert(cycle);
        }
    }
    found.into_iter().collect()
}

/// Returns everything that `from` imports, directly or through others.
fn reach(imports: &Imports, from: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(file) = open.pop() {
        for next in &imports[&file] {
            if reached.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    reached
}

struct ModuleTree {
    /// The file of each module path, such as `core::state`; the crate itself has the
    /// empty path.
    modules: BTreeMap<Vec<String>, Module>,
}

struct Module {
    file: String,
    /// Every path from the crate's root that the file names.
    paths: BTreeSet<Vec<String>>,
    /// The names that its `use` declarations import, with their paths.
    used_names: BTreeMap<String, Vec<String>>,
}

impl ModuleTree {
    fn new(sources: &Sources) -> Self {
        let modules = sources.iter().map(|(file, text)| {
            let path = module_path(file);
            let tokens = tokens(&without_tests(text));
            (path.clone(), Module::new(file, &path, &tokens))
        });
        Self {
            modules: modules.collect(),
        }
    }

    /// Returns the file that defines `path`; none if it is not in this crate.
    fn resolve(&self, path: &[String], depth: usize) -> Option<String> {
        let length = (0..=path.len())
            .rev()
            .find(|length| self.modules.contains_key(&path[..*length]))?;
        let module = &self.modules[&path[..length]];
        let Some(name) = path.get(length) else {
            return Some(module.file.clone());
        };
        match module.used_names.get(name) {
            Some(target) if target != path && depth < 8 => self.resolve(target, depth + 1),
            _ => Some(module.file.clone()),
        }
    }
}

impl Module {
    fn new(file: &str, path: &[String], tokens: &[String]) -> Self {
        let mut module = Self {
            file: file.to_owned(),
            paths: BTreeSet::new(),
            used_names: BTreeMap::new(),
        };
        let children = child_modules(tokens);
        let mut at = 0;
        while at < tokens.len() {
            let is_use = tokens[at] == "use";
            let start = if is_use { at + 1 } else { at };
            let is_inner = at > 0 && tokens[at - 1] == "::";
            let first = tokens.get(start).map_or("", String::as_str);
            let is_path = matches!(first, "crate" | "super" | "self") || children.contains(first);
            let continues = tokens.get(start + 1).is_some_and(|token| token == "::");
            if !is_path || !continues || (is_inner && !is_use) {
                at += 1;
                continue;
            }
            let mut found = Vec::new();
            at = read_tree(tokens, start, &[], &mut found);
            for (names, alias) in found {
                let absolute = absolute(path, names);
                if is_use && let Some(alias) = alias.or_else(|| absolute.last().cloned()) {
                    module.used_names.insert(alias, absolute.clone());
                }
                module.paths.insert(absolute);
            }
        }
        module
    }
}

/// Reads one path with its branches from `tokens[at]` on, and returns the index after it.
fn read_tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    found: &mut Vec<(Vec<String>, Option<String>)>,
) -> usize {
    let mut path = before.to_vec();
    loop {
        let token = tokens.get(at).map_or("", String::as_str);
        if token == "{" {
            at += 1;
            while tokens.get(at).is_some_and(|token| token != "}") {
                at = read_tree(tokens, at, &path, found);
                if tokens.get(at).is_some_and(|token| token == ",") {
                    at += 1;
                }
            }
            return at + 1;
        }
        let is_branch_itself = token == "self" && !before.is_empty();
        if token != "*" && !is_branch_itself {
            path.push(token.to_owned());
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    let alias = tokens.get(at).is_some_and(|token| token == "as");
    let alias = alias.then(|| tokens[at + 1].clone());
    let at = if alias.is_some() { at + 2 } else { at };
    found.push((path, alias));
    at
}

/// Returns `crate::a::B`, `super::B` or `child::B` as a path from the crate's root.
fn absolute(module: &[String], path: Vec<String>) -> Vec<String> {
    let mut from = module.to_vec();
    let mut rest = path.into_iter().peekable();
    match rest.peek().map(String::as_str) {
        Some("crate") => {
            from.clear();
            rest.next();
        }
        Some("self") => {
            rest.next();
        }
        _ => {
            while rest.next_if(|name| name == "super").is_some() {
                from.pop();
            }
        }
    }
    from.extend(rest);
    from
}

/// Returns the modules that a file declares.
fn child_modules(tokens: &[String]) -> BTreeSet<String> {
    let declared = tokens
        .windows(3)
        .filter(|three| three[0] == "mod" && three[2] == ";");
    declared.map(|three| three[1].clone()).collect()
}

fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_end_matches(".rs").split('/').map(str::to_owned);
    let mut path: Vec<String> = path.collect();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] {
        path.pop();
    }
    path
}

/// Returns the text before its tests.
fn without_tests(text: &str) -> String {
    let lines = text.lines().scan(false, |was_test_attribute, line| {
        let starts_tests = *was_test_attribute && line.starts_with("mod ") && line.ends_with('{');
        *was_test_attribute = line == "#[cfg(test)]";
        (!starts_tests).then_some(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the names and the punctuation of paths, without comments and strings.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |at| at + 2)
        } else if letter == '"' {
            string_length(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else if letter.is_ascii_alphabetic() || letter == '_' {
            let end = rest.find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
            let end = end.unwrap_or(rest.len());
            tokens.push(rest[..end].to_owned());
            end
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !letter.is_whitespace() {
                tokens.push(letter.to_string());
            }
            letter.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Sources {
        let files = files.iter();
        files
            .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
            .collect()
    }

    fn imported(files: &[(&str, &str)], from: &str) -> Vec<String> {
        imports(&sources(files))[from].iter().cloned().collect()
    }

    const HOUSE: [(&str, &str); 4] = [
        ("lib.rs", "pub mod house;"),
        (
            "house/mod.rs",
            "mod door; pub mod roof; pub use door::{Door, Lock as Bolt}; pub fn walls() {}",
        ),
        ("house/door.rs", "pub struct Door; pub struct Lock;"),
        ("house/roof.rs", ""),
    ];

    #[test]
    fn each_way_to_name_an_item_is_an_import_of_its_file() {
        for (text, files) in [
            ("use crate::house::door::Door;", vec!["house/door.rs"]),
            (
                "use crate::house::{Door, walls};",
                vec!["house/door.rs", "house/mod.rs"],
            ),
            ("use crate::house::Bolt;", vec!["house/door.rs"]),
            (
                "use crate::house::{door::{self, Lock}};",
                vec!["house/door.rs"],
            ),
            ("use super::door::*;", vec!["house/door.rs"]),
            ("use super::*;", vec!["house/mod.rs"]),
            ("fn f() { super::walls(); }", vec!["house/mod.rs"]),
            (
                "fn f() -> crate::house::Door { loop {} }",
                vec!["house/door.rs"],
            ),
            ("mod tiles; use tiles::Tile;", vec!["house/roof/tiles.rs"]),
            (
                "mod tiles; fn f() { tiles::lay(); }",
                vec!["house/roof/tiles.rs"],
            ),
            ("mod tiles;", vec![]),
            ("use std::house::Door; // crate::house::Door", vec![]),
            (
                "/// [`crate::house::Door`]\nconst C: &str = \"crate::house::Door\";",
                vec![],
            ),
            (
                "pub(super) fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::house::Door;\n}",
                vec![],
            ),
        ] {
            let mut house = HOUSE.to_vec();
            house[3].1 = text;
            house.push(("house/roof/tiles.rs", "pub struct Tile;"));
            assert_eq!(imported(&house, "house/roof.rs"), files, "{text}");
        }
    }

    #[test]
    fn a_cycle_is_found_through_any_number_of_files() {
        let mut files = vec![
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", ""),
            ("d.rs", "use crate::a::A;"),
        ];
        assert_eq!(cycles(&imports(&sources(&files))), []);
        files[3].1 = "fn f(a: crate::a::A) {}";
        let expected = ["a.rs", "b.rs", "c.rs"].map(str::to_owned);
        assert_eq!(
            cycles(&imports(&sources(&files))),
            [BTreeSet::from(expected)]
        );
    }
}
