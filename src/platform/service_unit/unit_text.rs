//! The text of unit files, see systemd.syntax(7).

use std::collections::HashMap;
use std::path::PathBuf;

/// The options that pass a credential. They fill one list: a later line takes the place of
/// an earlier one of the same name, whichever option it has.
const CREDENTIAL_OPTIONS: [&str; 2] = ["LoadCredential", "LoadCredentialEncrypted"];

/// The values of the section `[Service]` of a unit and its drop-ins.
#[derive(Debug, Clone, Default)]
pub(super) struct UnitText {
    /// The values of each option, in their order. An empty one resets those
    /// before it.
    options: HashMap<String, Vec<String>>,
    /// The lines of [`CREDENTIAL_OPTIONS`], in their order.
    credentials: Vec<CredentialLine>,
}

/// A line that hands a credential over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CredentialLine {
    /// The name under which the service finds it.
    pub(super) name: String,
    /// Its file, or its name in the folders of credentials.
    pub(super) source: String,
    pub(super) is_encrypted: bool,
}

impl UnitText {
    /// Adds the text of a file of the unit `name`.
    pub(super) fn add(&mut self, text: &str, name: &str) {
        let mut is_service = false;
        for line in logical_lines(text) {
            let line = line.trim();
            if let Some(section) = line.strip_prefix('[') {
                is_service = section == "Service]";
                continue;
            }
            let Some((option, value)) = line.split_once('=').filter(|_| is_service) else {
                continue;
            };
            let (option, value) = (option.trim(), expand(value.trim(), name));
            if CREDENTIAL_OPTIONS.contains(&option) {
                self.add_credential(option, &value);
            }
            let values = self.options.entry(option.to_owned()).or_default();
            if value.is_empty() {
                values.clear();
            }
            values.push(value);
        }
    }

    fn add_credential(&mut self, option: &str, value: &str) {
        if value.is_empty() {
            self.credentials.clear();
            return;
        }
        let (name, source) = value.split_once(':').unwrap_or((value, value));
        self.credentials.retain(|earlier| earlier.name != name);
        self.credentials.push(CredentialLine {
            name: name.to_owned(),
            source: source.to_owned(),
            is_encrypted: option == CREDENTIAL_OPTIONS[1],
        });
    }

    /// Returns the line that hands over the credential `name`.
    pub(super) fn credential(&self, name: &str) -> Option<&CredentialLine> {
        self.credentials.iter().find(|line| line.name == name)
    }

    pub(super) fn has_values(&self) -> bool {
        !self.options.is_empty()
    }

    /// Returns the last value of an option, which may be empty.
    pub(super) fn last(&self, option: &str) -> Option<&str> {
        let values = self.options.get(option)?;
        values.last().map(String::as_str)
    }

    /// Returns the values of an option that may be given several times.
    pub(super) fn values(&self, option: &str) -> Vec<&str> {
        let values = self.options.get(option).into_iter().flatten();
        let values = values.map(String::as_str);
        values.filter(|value| !value.is_empty()).collect()
    }

    /// Returns the values of an option from the last empty one on, which resets it.
    pub(super) fn all_values(&self, option: &str) -> &[String] {
        self.options.get(option).map_or(&[], Vec::as_slice)
    }

    /// Returns the words of all values of an option.
    pub(super) fn words(&self, option: &str) -> Vec<String> {
        self.split_values(option, false)
    }

    /// Returns the words of all values of an option whose words may have escapes as in
    /// C: commands and variables.
    pub(super) fn escaped_words(&self, option: &str) -> Vec<String> {
        self.split_values(option, true)
    }

    fn split_values(&self, option: &str, has_escapes: bool) -> Vec<String> {
        let values = self.values(option).into_iter();
        values
            .flat_map(|value| split_words(value, has_escapes))
            .collect()
    }

    /// Returns the paths of all values of an option, without the prefixes that
    /// systemd gives a meaning.
    pub(super) fn paths(&self, option: &str) -> Vec<PathBuf> {
        let words = self.words(option).into_iter();
        let paths = words.map(|word| PathBuf::from(word.trim_start_matches(['-', '+'])));
        paths.collect()
    }

    /// Returns where the bind mounts of all values of an option are in the service's
    /// view: `SOURCE`, or the second part of `SOURCE:TARGET:OPTIONS`.
    pub(super) fn bind_targets(&self, option: &str) -> Vec<PathBuf> {
        let words = self.words(option).into_iter();
        let targets = words.map(|word| {
            let mut parts = word.trim_start_matches('-').split(':');
            let source = parts.next().unwrap_or_default();
            PathBuf::from(parts.next().unwrap_or(source))
        });
        targets.collect()
    }
}

/// Whether a text is one of systemd's for true.
pub(super) fn is_true(text: &str) -> bool {
    ["1", "yes", "y", "true", "t", "on"]
        .iter()
        .any(|known| text.eq_ignore_ascii_case(known))
}

/// Returns the lines without comments, and joins those that end with `\`. Two of them,
/// or one before a blank, continue no line.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut joined = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        // A comment may stand between continued lines.
        if line.starts_with(['#', ';']) {
            continue;
        }
        let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\');
        let is_continued = backslashes.count() % 2 == 1;
        match line.strip_suffix('\\').filter(|_| is_continued) {
            Some(start) => {
                joined.push_str(start);
                joined.push(' ');
            }
            None => {
                joined.push_str(line);
                lines.push(std::mem::take(&mut joined));
            }
        }
    }
    lines.push(joined);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// Splits a value into words, which may be quoted. Without `has_escapes`, a backslash
/// makes the next character a part of the word, whatever it is.
fn split_words(text: &str, has_escapes: bool) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (_, '\\') => {
                let escape = if has_escapes {
                    read_escape(rest)
                } else {
                    rest.chars().next().map(|next| (next, next.len_utf8()))
                };
                let (found, length) = escape.unwrap_or(('\\', 0));
                word.get_or_insert_default().push(found);
                rest = &rest[length..];
            }
            (None, _) if character.is_ascii_whitespace() => words.extend(word.take()),
            (_, _) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

/// Returns the character of an escape as in C and the length of its text, which begins
/// behind the backslash.
fn read_escape(text: &str) -> Option<(char, usize)> {
    let number = |start: usize, count: usize, radix: u32| {
        let digits = text.get(start..start + count)?;
        let is_number = digits.chars().all(|digit| digit.is_digit(radix));
        let number = is_number.then(|| u32::from_str_radix(digits, radix).ok())??;
        Some((char::from_u32(number)?, start + count))
    };
    let plain = |character| Some((character, 1));
    match text.chars().next()? {
        'x' => number(1, 2, 16),
        'u' => number(1, 4, 16),
        'U' => number(1, 8, 16),
        '0'..='7' => number(0, 3, 8),
        'a' => plain('\u{7}'),
        'b' => plain('\u{8}'),
        'f' => plain('\u{c}'),
        'n' => plain('\n'),
        'r' => plain('\r'),
        't' => plain('\t'),
        'v' => plain('\u{b}'),
        's' => plain(' '),
        other => Some((other, other.len_utf8())),
    }
}

/// Expands the specifiers of systemd.unit(5) that concern names and folders.
fn expand(text: &str, unit: &str) -> String {
    let full_name = unit.strip_suffix(".service").unwrap_or(unit);
    let (prefix, instance) = full_name.split_once('@').unwrap_or((full_name, ""));
    let mut expanded = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            expanded.push(character);
            continue;
        }
        match characters.next() {
            Some('i' | 'I') => expanded.push_str(instance),
            Some('p' | 'P') => expanded.push_str(prefix),
            Some('n') => expanded.push_str(unit),
            Some('N') => expanded.push_str(full_name),
            Some('S') => expanded.push_str("/var/lib"),
            Some('t') => expanded.push_str("/run"),
            Some('C') => expanded.push_str("/var/cache"),
            Some('L') => expanded.push_str("/var/log"),
            Some('E') => expanded.push_str("/etc"),
            Some('T') => expanded.push_str("/tmp"),
            Some('V') => expanded.push_str("/var/tmp"),
            Some('%') => expanded.push('%'),
            other => {
                expanded.push('%');
                expanded.extend(other);
            }
        }
    }
    expanded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unit(text: &str) -> UnitText {
        let mut unit = UnitText::default();
        unit.add(text, "rekeyd@acme.service");
        unit
    }

    #[test]
    fn lines_are_joined_and_comments_left_out_as_systemd_does() {
        for (text, expected) in [
            ("A=b\nC=d", &["A=b", "C=d"][..]),
            ("A=b \\\n  c\nD=e", &["A=b  c", "D=e"]),
            ("A=b\\\n# remark\n; remark\n c", &["A=b c"]),
            ("  # remark\n\t;remark\n", &[]),
            ("A=b # no remark", &["A=b # no remark"]),
            // Two backslashes, and one before a blank, are a part of the value.
            ("A=C:\\\\\nUser=root", &["A=C:\\\\", "User=root"]),
            ("A=b\\ \nUser=root", &["A=b\\ ", "User=root"]),
            ("A=b\\\\\\\n c", &["A=b\\\\ c"]),
            ("A=b\\", &["A=b "]),
            ("A=b\r\nC=d\r\n", &["A=b", "C=d"]),
            ("\n \n\t\n", &[]),
            ("", &[]),
        ] {
            assert_eq!(logical_lines(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_the_section_of_the_service_counts() {
        for (text, expected) in [
            ("[Service]\nUser=a", Some("a")),
            (" [Service] \n User = a ", Some("a")),
            ("[Service]\nUser=a\nUser=b", Some("b")),
            ("[Service]\nUser=a\n[Service]\nUser=", Some("")),
            ("User=a", None),
            ("[service]\nUser=a", None),
            ("[Service ]\nUser=a", None),
            ("[Service]x\nUser=a", None),
            ("[X-Service]\nUser=a", None),
            ("[Unit]\nUser=a", None),
            ("[Service]\n[Install]\nUser=a", None),
            ("[Service]\nuser=a", None),
            ("[Service]\nUsers=a", None),
            ("[Service]\nUser a", None),
            ("[Service]\n#User=a", None),
            ("[Service]\nX=\\\nUser=a", None),
        ] {
            assert_eq!(unit(text).last("User"), expected, "{text:?}");
        }
    }

    #[test]
    fn words_are_split_as_systemd_does() {
        for (text, plain, escaped) in [
            ("a b\tc", &["a", "b", "c"][..], &["a", "b", "c"][..]),
            ("  ", &[], &[]),
            ("\"a b\" 'c d'", &["a b", "c d"], &["a b", "c d"]),
            ("a\" \"b", &["a b"], &["a b"]),
            ("\"\" ''", &["", ""], &["", ""]),
            ("\"it's\" '\"'", &["it's", "\""], &["it's", "\""]),
            (r"a\ b", &["a b"], &["a b"]),
            (r"a\\b", &[r"a\b"], &[r"a\b"]),
            (r"a\x20b", &["ax20b"], &["a b"]),
            (r"a\sb\tc", &["asbtc"], &["a b\tc"]),
            (r"a\040b\u00e4", &["a040bu00e4"], &["a b\u{e4}"]),
            (r"\x4", &["x4"], &[r"\x4"]),
            (r"\x+4", &["x+4"], &[r"\x+4"]),
            (r"\ud800", &["ud800"], &[r"\ud800"]),
            (r"a\", &[r"a\"], &[r"a\"]),
            ("a\u{a0}b", &["a\u{a0}b"], &["a\u{a0}b"]),
        ] {
            assert_eq!(split_words(text, false), plain, "{text}");
            assert_eq!(split_words(text, true), escaped, "{text}");
        }
    }

    #[test]
    fn specifiers_are_expanded_once() {
        for (text, expected) in [
            ("/etc/%i/%p.%n", "/etc/acme/rekeyd.rekeyd@acme.service"),
            ("100%%i", "100%i"),
            ("%", "%"),
            ("%y%", "%y%"),
        ] {
            assert_eq!(expand(text, "rekeyd@acme.service"), expected, "{text}");
        }
    }

    #[test]
    fn a_later_credential_of_one_name_replaces_an_earlier_one() {
        let plain = |source: &str| Some((source.to_owned(), false));
        let encrypted = |source: &str| Some((source.to_owned(), true));
        for (text, expected) in [
            ("LoadCredential=key", plain("key")),
            ("LoadCredential=key:/etc/a:b", plain("/etc/a:b")),
            ("LoadCredential=key:/a\nLoadCredential=key:/b", plain("/b")),
            ("LoadCredential=key:/a\nLoadCredential=key2:/b", plain("/a")),
            (
                "LoadCredential=key\nLoadCredentialEncrypted=key",
                encrypted("key"),
            ),
            (
                "LoadCredentialEncrypted=key\nLoadCredential=key",
                plain("key"),
            ),
            ("LoadCredentialEncrypted=key\nLoadCredential=", None),
            ("LoadCredential=key2:key", None),
            ("LoadCredential= key", plain("key")),
            ("LoadCredential=KEY", None),
            ("", None),
        ] {
            let unit = unit(&format!("[Service]\n{text}\n"));
            let found = unit.credential("key");
            let found = found.map(|line| (line.source.clone(), line.is_encrypted));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn paths_lose_their_prefixes_and_binds_their_sources() {
        let unit = unit(
            "[Service]\nReadWritePaths=-/a +/b -+/c:d \"/e f\"\nBindPaths=/g -/h:/i /j:/k:norbind\n",
        );
        let paths = ["/a", "/b", "/c:d", "/e f"].map(PathBuf::from);
        assert_eq!(unit.paths("ReadWritePaths"), paths);
        let targets = ["/g", "/i", "/k"].map(PathBuf::from);
        assert_eq!(unit.bind_targets("BindPaths"), targets);
    }

    #[test]
    fn only_the_words_of_systemd_are_true() {
        for text in ["1", "yes", "Y", "true", "T", "ON"] {
            assert!(is_true(text), "{text}");
        }
        for text in [
            "0", "no", "false", "off", "", "2", "yes ", "enabled", "strict",
        ] {
            assert!(!is_true(text), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        #[test]
        fn quoted_words_are_read_back(words in prop::collection::vec("[ -~\u{e4}]{0,8}", 0..5)) {
            let quote = |word: &String| {
                let word = word.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{word}\"")
            };
            let text = words.iter().map(quote).collect::<Vec<_>>().join(" ");
            prop_assert_eq!(&split_words(&text, false), &words);
            prop_assert_eq!(&split_words(&text, true), &words);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[\\[\\]A-Za-z=\\\\\"' \n%;#xu0-9\u{e4}]{0,60}") {
            let unit = unit(&format!("[Service]\n{text}"));
            unit.words("A");
            unit.escaped_words("A");
        }
    }
}
