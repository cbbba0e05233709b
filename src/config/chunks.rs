//! A long file is parsed in pieces: what toml makes of the text of ten thousand
//! keys does not fit into the processor's cache, and is let go piece by piece.
//!
//! This is for files of the plainest form: first all else, then the keys, each
//! under one `[key.NAME]` and its `[[key.NAME.sink]]`. If no key stands before
//! the pieces or in two of them, such a file is TOML if each of them is, and says
//! what they say. Deliberately not here: what is wrong with a file. Whatever is
//! of another form or has a mistake is parsed as a whole.

use super::reader::OwnedEntry;

/// From this length on a text is parsed in pieces of about this length. Shorter
/// ones gain nothing, and longer ones leave the processor's cache.
pub(super) const MIN_CHUNKED_LENGTH: usize = 8 * 1024;

/// A text that was taken apart.
pub(super) struct ConfigChunks<'t> {
    /// What stands before the keys.
    pub(super) head: &'t str,
    keys: Vec<KeyChunk<'t>>,
}

/// Several keys.
struct KeyChunk<'t> {
    start: usize,
    text: &'t str,
    /// What they are called.
    names: Vec<&'t str>,
}

impl<'t> ConfigChunks<'t> {
    /// The pieces of a text, each of at least `length` bytes but the last; none
    /// if it is of another form.
    pub(super) fn split(text: &'t str, length: usize) -> Option<Self> {
        let mut keys: Vec<KeyChunk<'_>> = Vec::new();
        let mut end = 0;
        for line in text.split_inclusive('\n') {
            let start = end;
            end += line.len();
            let line = line.trim_start_matches([' ', '\t']);
            if !line.starts_with('[') {
                continue;
            }
            match (key_in_header(line), keys.last_mut()) {
                (Some(name), Some(piece)) if start - piece.start < length => piece.names.push(name),
                (Some(name), _) => keys.push(KeyChunk {
                    start,
                    text: "",
                    names: vec![name],
                }),
                (None, Some(_)) if is_sink_header(line) => {}
                (None, None) => {}
                (None, Some(_)) => return None,
            }
        }
        for piece in keys.iter_mut().rev() {
            piece.text = text.get(piece.start..end)?;
            end = piece.start;
        }
        Some(Self {
            head: text.get(..end)?,
            keys,
        })
    }

    /// What the keys are called.
    pub(super) fn key_names(&self) -> impl Iterator<Item = &'t str> {
        self.keys
            .iter()
            .flat_map(|piece| piece.names.iter().copied())
    }

    /// Has every key read; none if a piece is not what it seemed to be, or as
    /// soon as `read` gives none. It would be given a key twice that stands in
    /// two pieces.
    pub(super) fn for_each_key(
        self,
        mut read: impl FnMut(&OwnedEntry<'t>) -> Option<()>,
    ) -> Option<()> {
        for KeyChunk {
            text, mut names, ..
        } in self.keys
        {
            let entries = OwnedEntry::parse_keys(text)?;
            names.sort_unstable();
            if !entries.iter().map(OwnedEntry::name).eq(names) {
                return None;
            }
            entries.iter().try_for_each(&mut read)?;
        }
        Some(())
    }
}

/// The name in a line such as `[key.billing]`.
fn key_in_header(line: &str) -> Option<&str> {
    let (name, rest) = split_bare_key(line.strip_prefix("[key.")?)?;
    rest.starts_with(']').then_some(name)
}

/// Whether a line is such as `[[key.billing.sink]]`.
fn is_sink_header(line: &str) -> bool {
    let named = line.strip_prefix("[[key.").and_then(split_bare_key);
    named.is_some_and(|(_, rest)| rest.starts_with(".sink]]"))
}

/// A name that needs no quotes, and what follows it.
fn split_bare_key(text: &str) -> Option<(&str, &str)> {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let end = text.bytes().position(|byte| !is_bare(byte))?;
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{Environment, parse_in_chunks, parse_whole};
    use crate::core::settings::Settings;

    /// What a text says in pieces that are as small as they can be, and as a
    /// whole.
    fn parse_both_ways(text: &str) -> (Option<Settings>, Option<Settings>) {
        let environment = Environment::empty("2026-11-24T03:00:00Z".parse().unwrap());
        let path = Path::new("/etc/rekeyd/config.toml");
        let (whole, problems) = parse_whole(path, text, &environment);
        let whole = whole.filter(|_| problems.is_empty());
        let pieces = parse_in_chunks(path, text, 1, &environment);
        (pieces, whole)
    }

    const HEAD: &str = "[provider]\ncredential-file = \"/etc/rekeyd/key\"\n\
                        [ledger]\npath = \"/var/lib/rekeyd/ledger.db\"\n\
                        [[notify]]\ntype = \"command\"\nargv = [\"/bin/true\"]\nkeys = [\"a\"]\n";

    fn key(name: &str, file: &str) -> String {
        format!(
            "[key.{name}]\nschedule = \"0 3 * * Mon\"\n\
             [[key.{name}.sink]]\ntype = \"file\"\npath = \"/srv/{file}\"\n"
        )
    }

    #[test]
    fn simple_file_parses_the_same_in_chunks() {
        let text = [HEAD, &key("b", "1"), &key("c", "2"), &key("a", "3")].concat();
        let (pieces, whole) = parse_both_ways(&text);
        assert_eq!(
            format!("{:?}", pieces.unwrap()),
            format!("{:?}", whole.unwrap())
        );
    }

    #[test]
    fn invalid_file_is_not_parsed_in_chunks() {
        for wrong in [
            &*key("b", "3"),
            &key("a", "4"),
            "[key.b]\n",
            "[key.b]\nschedule = 1\n",
            "[key.b]\nno toml\n",
            "[[key.a.sink]]\ntype = \"file\"\n",
        ] {
            let text = [HEAD, &key("a", "3"), wrong].concat();
            let (pieces, whole) = parse_both_ways(&text);
            assert!(pieces.is_none() && whole.is_none(), "{text}");
        }
    }

    proptest! {
        /// Nothing is read out of pieces that the file does not say.
        #[test]
        fn pieces_say_what_the_whole_says(parts in prop::collection::vec(config_fragment(), 0..6)) {
            let (pieces, whole) = parse_both_ways(&parts.concat());
            if let Some(pieces) = pieces {
                prop_assert_eq!(format!("{pieces:?}"), format!("{:?}", whole.unwrap()));
            }
        }
    }

    /// A part of a file, mostly a plain one.
    fn config_fragment() -> impl Strategy<Value = String> {
        let odd = prop::sample::select(vec![
            "[key]\n",
            "[[key.a.sink]]\ntype = \"file\"\npath = \"/srv/5\"\n",
            "[key.\"b\"]\nevery = \"1d\"\n",
            "key.c.every = \"1d\"\n",
            "initial-rotation = \"\"\"\n",
            "[key.a]\n\"\"\"\n",
            "  [key.d]\n",
            "every = \"1d\"\n",
            "[metrics]\nlisten = \"127.0.0.1:9\"\n",
            "[defaults]\noverlap = \"1h\"\n",
            "x = [\n[key.a]\n",
        ]);
        prop_oneof![
            2 => Just(HEAD.to_owned()),
            6 => ("[a-d]", "[0-9]").prop_map(|(name, file)| key(&name, &file)),
            3 => odd.prop_map(str::to_owned),
        ]
    }

    fn chunked_key_names(text: &str) -> Option<Vec<&str>> {
        ConfigChunks::split(text, 1).map(|pieces| pieces.key_names().collect())
    }

    #[test]
    fn keys_are_found_after_other_tables() {
        let text = "[provider]\n[key.b] # second\n[[key.b.sink]]\n  [key.a-1]\n";
        assert_eq!(chunked_key_names(text), Some(vec!["b", "a-1"]));
        assert_eq!(ConfigChunks::split(text, 1).unwrap().head, "[provider]\n");
        assert_eq!(ConfigChunks::split(text, 1).unwrap().keys.len(), 2);
        assert_eq!(ConfigChunks::split(text, 1_000).unwrap().keys.len(), 1);
    }

    #[test]
    fn unusual_files_are_not_split() {
        for text in [
            "[key.a]\n[metrics]\n",
            "[key.a]\n[key]\n",
            "[key.a]\n[key.\"b\"]\n",
            "[key.a]\n[ key.b]\n",
            "[key.a]\n[key.b.sink]\n",
            "[key.a]\ninitial-rotation = [\n[1]]\n",
        ] {
            assert_eq!(chunked_key_names(text), None, "{text}");
        }
    }
}
