//! Parses command lines in documents: quotes as in a shell, and `[optional]`, `this |
//! that`, `REPEATED...` and PLACEHOLDERs.

/// A sample value for each placeholder.
const SAMPLES: [(&str, &str); 25] = [
    ("ADDRESS", "127.0.0.1:0"),
    ("CONFIG", "/etc/rekeyd/config.toml"),
    ("CREDENTIAL_ID", "key_abc"),
    ("DIR", "/nonexistent"),
    ("DURATION", "90s"),
    ("F", "/nonexistent"),
    ("FILTER", "info"),
    ("FILE", "/nonexistent"),
    ("FORMAT", "json"),
    ("KEY", "billing"),
    ("LEVEL", "info"),
    ("N", "3"),
    ("NAME", "billing"),
    ("OP:KIND:PROBABILITY", "create:429:0.5"),
    ("OPERATION:KIND:PROBABILITY", "create:429:0.5"),
    ("PATH", "/nonexistent"),
    ("PROJECT", "proj_abc"),
    ("PROJECT:RULE", "proj_abc:disabled"),
    ("REASON", "somebody left"),
    ("SECRET", "anything"),
    ("SHELL", "bash"),
    ("COMMAND", "run"),
    ("TEXT", "somebody left"),
    ("TIME", "2026-11-24T03:00:00Z"),
    ("WHEN", "2026-11-24T03:00:00Z"),
];

/// Returns the commands in a piece of shell, each as its words, without comments and
/// redirections.
pub(crate) fn commands(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    script
        .lines()
        .flat_map(|line| simple_commands(line.trim_start_matches("$ ")))
        .collect()
}

fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words) = (Vec::new(), Vec::new());
    let (mut word, mut started, mut quote) = (String::new(), false, None);
    let mut letters = line.chars().peekable();
    loop {
        let letter = letters.next();
        match (letter, quote) {
            (None, Some(_)) => panic!("a quote is not closed: {line}"),
            (Some(letter), Some(open)) if letter == open => quote = None,
            (Some('\\'), None | Some('"')) => word.extend(letters.next()),
            (Some(letter), Some(_)) => word.push(letter),
            (Some(open @ ('"' | '\'')), None) => (quote, started) = (Some(open), true),
            (None | Some(' ' | '\t' | '|' | ';' | '&' | '>' | '#'), None)
                if letter != Some('#') || word.is_empty() =>
            {
                if started || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
                if matches!(letter, None | Some('|' | ';' | '&' | '>' | '#')) && !words.is_empty() {
                    all.push(std::mem::take(&mut words));
                }
                if matches!(letter, None | Some('>' | '#')) {
                    return all;
                }
            }
            (Some(letter), None) => word.push(letter),
            (None, None) => unreachable!("the end of the line ends a word"),
        }
    }
}

/// A part of a usage: words that belong together, in all their alternatives.
struct UsagePart {
    optional: bool,
    alternatives: Vec<Vec<String>>,
}

/// Returns the usage that a text between backticks stands for: the name of a command, without
/// its arguments, stands for its help.
pub(crate) fn usage_of(span: &str) -> String {
    let words = match span.strip_prefix("rekeyd ledger ") {
        Some(rest) => rest.split_whitespace().count() + 1,
        None => span.split_whitespace().count(),
    };
    if words == 2 {
        format!("{span} --help")
    } else {
        span.to_owned()
    }
}

/// Returns the command lines that a usage allows: without any option, and with each
/// alternative of each part alone.
pub(crate) fn lines_of(usage: &str) -> Vec<Vec<String>> {
    let parts = parts(usage);
    let with = |chosen: Option<(usize, usize)>| -> Vec<String> {
        let words = parts.iter().enumerate().filter_map(|(at, part)| {
            match chosen.filter(|(part, _)| *part == at) {
                Some((_, alternative)) => Some(&part.alternatives[alternative]),
                None => (!part.optional).then(|| &part.alternatives[0]),
            }
        });
        words.flatten().cloned().collect()
    };
    let each = parts.iter().enumerate().flat_map(|(at, part)| {
        (0..part.alternatives.len()).map(move |alternative| Some((at, alternative)))
    });
    std::iter::once(None).chain(each).map(with).collect()
}

fn parts(usage: &str) -> Vec<UsagePart> {
    let spaced = usage.replace('[', " [ ").replace(']', " ] ");
    let mut words = spaced.split_whitespace().peekable();
    let mut parts: Vec<UsagePart> = Vec::new();
    let (mut optional, mut joins) = (false, false);
    while let Some(word) = words.next() {
        match word {
            "[" => optional = true,
            "]" => optional = false,
            "|" => joins = true,
            "..." | "…" => {}
            word => {
                let mut item = vec![sample(word)];
                if word.starts_with('-')
                    && let Some(value) = words.next_if(|next| is_value(next))
                {
                    item.push(sample(value));
                }
                if std::mem::take(&mut joins) {
                    parts.last_mut().expect(usage).alternatives.push(item);
                } else {
                    let alternatives = vec![item];
                    parts.push(UsagePart {
                        optional,
                        alternatives,
                    });
                }
            }
        }
    }
    parts
}

fn is_value(word: &str) -> bool {
    !word.starts_with('-') && !matches!(word, "[" | "]" | "|" | "..." | "…")
}

/// Returns a sample for a word; that of `a|b` is `a`.
fn sample(word: &str) -> String {
    let word = word.trim_end_matches("...").trim_end_matches('…');
    let word = word.split('|').next().unwrap_or(word);
    let is_placeholder = word.chars().all(|c| !c.is_ascii_lowercase())
        && word.chars().any(|c| c.is_ascii_uppercase());
    if !is_placeholder {
        return word.to_owned();
    }
    let found = SAMPLES.iter().find(|(name, _)| *name == word);
    found
        .unwrap_or_else(|| panic!("no sample for the placeholder {word}"))
        .1
        .to_owned()
}
