//! What a redacted value shows of its secret.
//!
//! Providers show the end of a secret behind a mask, such as `sk-admin...def`, and
//! write the mask in many forms. A value whose end cannot be told from its mask shows
//! nothing: a wrong conclusion could revoke the credential that rekeyd works with.

/// The number of characters from which an end identifies a secret.
const MIN_END_CHARS: usize = 3;

/// The number of equal characters in a row from which they may be a mask.
const MIN_RUN: usize = 3;

/// The number of letters of one case, with nothing but separators around them, from
/// which they may be a word, such as `hidden`, instead of an end.
const MIN_WORD_CHARS: usize = 5;

/// The most digits behind a separator that may be the length of the secret, or of what is
/// not shown of it.
const MAX_LENGTH_DIGITS: usize = 3;

/// The most characters of a secret's end that are recorded and shown, and the most of its
/// start, with the prefix that all secrets have.
const MAX_END_CHARS: usize = 6;
const MAX_START_CHARS: usize = 12;

/// What the provider's secrets begin with, and what names their kind behind it.
const SECRET_PREFIX: &str = "sk-";
const KINDS: [&str; 5] = ["admin", "none", "proj", "service", "svcacct"];

/// The most characters that are a prefix, such as `sk-svcacct-`, and no part of what is
/// secret.
const MAX_PREFIX_CHARS: usize = 16;

/// The most characters of a value without a mask that may be an end: a longer one may be a
/// fingerprint.
const MAX_BARE_END_CHARS: usize = 8;

/// Words that stand for what is not shown, or that describe it. They count wherever no
/// other letters are beside them.
const WORDS: [&str; 45] = [
    "abc",
    "active",
    "admin",
    "api",
    "bytes",
    "char",
    "chars",
    "digest",
    "end",
    "eof",
    "etc",
    "false",
    "fingerprint",
    "hash",
    "hidden",
    "id",
    "key",
    "last",
    "len",
    "length",
    "live",
    "masked",
    "more",
    "none",
    "not",
    "null",
    "omitted",
    "private",
    "prod",
    "redacted",
    "removed",
    "rot",
    "secret",
    "set",
    "sha",
    "shown",
    "starred",
    "test",
    "token",
    "total",
    "true",
    "unset",
    "value",
    "void",
    "yes",
];

/// Whether a secret ends as its supposed redacted value shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndMatch {
    /// It ends with the three or more characters that the value shows.
    Same,
    /// It has another end: the value belongs to another secret.
    Different,
    /// The value shows no end, or too little of it.
    Unknown,
}

/// Compares the end of `secret` with the one that `redacted_value` shows.
///
/// The case of letters does not count, because some providers change it.
#[must_use]
pub fn compare_end(secret: &str, redacted_value: Option<&str>) -> EndMatch {
    let value = trim_quotes(redacted_value.unwrap_or_default());
    match value.rfind(is_mask) {
        Some(at) => {
            let end = value[at..].trim_start_matches(is_mask);
            judge_head(secret, &value[..at])
                .weigh(|| compare_shown(secret, end, is_upper_cased(&value[..at])))
        }
        None => compare_unmasked(secret, value),
    }
}

/// The form of a redacted value: whether the start of a secret stands before its mask, and
/// the mask's last character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RedactionForm {
    has_start: bool,
    mask: Option<char>,
}

impl RedactionForm {
    /// Returns the form of a value.
    #[must_use]
    pub fn of(redacted_value: &str) -> Self {
        let (head, mask, _) = parts(trim_quotes(redacted_value));
        Self {
            has_start: !head.is_empty(),
            mask,
        }
    }

    /// Returns whether a value of this form proves that it is another secret's only if the
    /// provider is known to show ends in this form: what stands behind the mask may be a
    /// part of a fingerprint, or the number of hidden characters.
    #[must_use]
    pub fn is_doubtful(self, secret: &str, redacted_value: &str) -> bool {
        let (head, _, end) = parts(trim_quotes(redacted_value));
        let mut letters = end.chars().filter(|character| !is_separator(*character));
        let is_number = letters.all(|character| character.is_ascii_digit());
        (!self.has_start || is_number) && judge_head(secret, head) != Head::Contradicts
    }
}

/// Returns the end that a value shows, in lower case and without the separators before it.
#[must_use]
pub fn shown_end(redacted_value: &str) -> String {
    let (_, _, end) = parts(trim_quotes(redacted_value));
    end.trim_start_matches(is_separator).to_ascii_lowercase()
}

/// Returns what stands before the mask of a value, the mask's last character, and what
/// stands behind it.
fn parts(value: &str) -> (&str, Option<char>, &str) {
    let (head, mask, end) = if let Some(at) = value.rfind(is_mask) {
        let end = value[at..].trim_start_matches(is_mask);
        (&value[..at], value[at..].chars().next(), end)
    } else if let Some(end) = end_behind_run(value) {
        let head = &value[..value.len() - end.len()];
        (head, head.chars().next_back(), end)
    } else {
        let end = behind_prefix(SECRET_PREFIX, value);
        (&value[..value.len() - end.len()], None, end)
    };
    let start = head.find(is_mask).unwrap_or(head.len());
    let start = start_of_run(&head[..start]).unwrap_or(start);
    (head[..start].trim_end_matches(is_mask), mask, end)
}

/// What the text before a mask says of the end behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    /// It is empty, or a start of the secret: the end decides.
    Fits,
    /// It is the start of another secret.
    Contradicts,
    /// It is a remark, such as `key ending in`: an equal end counts.
    Remark,
    /// It is none of a secret, such as `sha256:9f86`, so neither is the end.
    SaysNothing,
}

impl Head {
    fn weigh(self, compare: impl FnOnce() -> EndMatch) -> EndMatch {
        match self {
            Self::Fits => compare(),
            Self::Contradicts => EndMatch::Different,
            Self::Remark => match compare() {
                EndMatch::Same => EndMatch::Same,
                EndMatch::Different | EndMatch::Unknown => EndMatch::Unknown,
            },
            Self::SaysNothing => EndMatch::Unknown,
        }
    }
}

/// Judges what stands before the last mask of a value.
fn judge_head(secret: &str, text: &str) -> Head {
    let start = text.find(is_mask).unwrap_or(text.len());
    let (head, masks) = text.split_at(start);
    let is_hidden = |character: char| is_mask(character) || is_filler(character);
    if !masks.chars().all(is_hidden) {
        return Head::SaysNothing;
    }
    // Letters may continue the mask to its left.
    let head = start_of_run(head).map_or(head, |at| &head[..at]);
    let bare = head.trim_end_matches(is_filler);
    if starts_with(SECRET_PREFIX, bare) || starts_behind_prefix(secret, bare) {
        return Head::Fits;
    }
    let has_digit = bare.contains(|character: char| character.is_ascii_digit());
    if bare.contains(char::is_whitespace) && !has_digit {
        return Head::Remark;
    }
    if !starts_with(bare, SECRET_PREFIX) || !starts_with(secret, SECRET_PREFIX) {
        return Head::SaysNothing;
    }
    let rest = behind_prefix(secret, bare);
    let has_known_kind = |text: &str| {
        let kind = text[SECRET_PREFIX.len()..].split(is_separator).next();
        kind.is_some_and(|kind| KINDS.iter().any(|known| kind.eq_ignore_ascii_case(known)))
    };
    let has_own_kind = rest.len() + SECRET_PREFIX.len() < bare.len();
    let has_other_kind = !has_own_kind && has_known_kind(bare);
    // Another word in the place of the kind may be the provider's name for it.
    if !has_own_kind && !has_other_kind && has_known_kind(secret) {
        return Head::SaysNothing;
    }
    if has_other_kind || !is_decorated("", rest, is_upper_cased(bare)) {
        Head::Contradicts
    } else {
        Head::SaysNothing
    }
}

/// Returns whether `start` is a start of a secret, with its prefix or without.
fn starts_behind_prefix(secret: &str, start: &str) -> bool {
    let separators = secret.match_indices(is_separator);
    let mut behind = separators.map(|(at, separator)| at + separator.len());
    starts_with(secret, start)
        || behind.any(|at| at <= MAX_PREFIX_CHARS && starts_with(&secret[at..], start))
}

/// Returns a redacted value without what stands before its mask: to compare a secret whose
/// start may have been changed.
#[must_use]
pub fn without_head(redacted_value: &str) -> &str {
    let value = trim_quotes(redacted_value);
    let start = match value.rfind(is_mask) {
        Some(at) => value[..at].trim_end_matches(is_mask).len(),
        None => end_behind_run(value).map_or(0, |end| value.len() - end.len() - MIN_RUN),
    };
    &value[start..]
}

/// Returns the shortest end that identifies `secret`, in lower case, as
/// [`compare_end`] compares it; none if no value can show it.
#[must_use]
pub fn identifying_end(secret: &str) -> Option<String> {
    let start = secret.len().checked_sub(MIN_END_CHARS)?;
    let end = secret.get(start..).filter(|end| end.is_ascii())?;
    Some(end.to_ascii_lowercase())
}

/// Returns what is recorded and shown of a redacted value: a few characters at each end of
/// its mask, since a provider may show most of the secret. None if the value may be the
/// secret, or if what is left could not be told from another secret's end.
#[must_use]
pub fn shorten_redacted(value: &str) -> Option<String> {
    let value = trim_quotes(value);
    let end = match value.rfind(|character| is_mask(character) && character != '.') {
        Some(at) => Some(value[at..].trim_start_matches(is_mask)),
        None => value
            .rfind("..")
            .map(|at| value[at..].trim_start_matches('.')),
    };
    // A single dot is a mask where values are compared, and may be part of any text.
    let run_end = || end_behind_run(value).filter(|_| !value.contains('.'));
    let Some(end) = end.or_else(run_end) else {
        let is_short = value.chars().count() <= MAX_END_CHARS;
        let mut words = value.split(is_separator);
        let is_remark = words.all(|word| word.is_empty() || is_listed_word(word));
        return (is_short || is_remark).then(|| value.to_owned());
    };
    let head = &value[..value.len() - end.len()];
    let bare = end.trim_start_matches(is_separator);
    let shown_end = match bare.len().checked_sub(MAX_END_CHARS) {
        None | Some(0) => behind_few_separators(end, bare),
        Some(hidden) => shorten_end(bare, hidden, is_upper_cased(head)).unwrap_or_default(),
    };
    let mut start = head.trim_end_matches(is_mask);
    if start == head {
        // Letters serve as the mask.
        let run = head.chars().next_back().unwrap_or_default();
        start = head.trim_end_matches(run);
    }
    let mask = &head[start.len()..];
    let start: String = start.chars().take(MAX_START_CHARS).collect();
    Some(format!("{start}{mask}{shown_end}"))
}

/// Returns `bare` with the last few of the separators that stand before it in `end`.
fn behind_few_separators<'a>(end: &'a str, bare: &str) -> &'a str {
    let start = end.len() - bare.len();
    let kept = end[..start].char_indices().rev().take(MIN_END_CHARS);
    &end[kept.last().map_or(start, |(at, _)| at)..]
}

/// Returns the last characters of an end, without the first `hidden` ones or fewer. None
/// if it may be, or have, a remark: a part of that would look like an end.
fn shorten_end(end: &str, hidden: usize, is_upper_cased: bool) -> Option<&str> {
    if !end.chars().all(is_secret_character) || is_decorated("", end, is_upper_cased) {
        return None;
    }
    // A part of letters alone may look like a word.
    let longest = hidden.saturating_sub(MIN_END_CHARS);
    let hidden = match end.rfind(is_separator) {
        Some(at) if at < hidden => {
            // A number behind the end, such as its length.
            let last = &end[at + 1..];
            if last.chars().all(|character| character.is_ascii_digit()) {
                return None;
            }
            hidden
        }
        // The characters of the secret before a remark show that it is one.
        Some(at) => hidden.min(at.saturating_sub(MIN_END_CHARS)),
        None => hidden,
    };
    let mut shown = (longest..=hidden).rev().map(|from| &end[from..]);
    shown.find(|shown| !is_decorated("", shown, is_upper_cased))
}

/// Compares an end that stands behind a mask.
///
/// Only what can be an end of a secret shows that the secret is another one: separators
/// before it belong to the mask, and words say nothing of the secret.
fn compare_shown(secret: &str, end: &str, is_upper_cased: bool) -> EndMatch {
    let length = end.chars().count();
    if length < MIN_END_CHARS || !end.chars().all(is_secret_character) {
        return EndMatch::Unknown;
    }
    if ends_with(secret, end) {
        return EndMatch::Same;
    }
    let bare = end.trim_start_matches(is_separator);
    let is_long = bare.chars().count() >= MIN_END_CHARS;
    if is_long && ends_with(secret, bare) {
        EndMatch::Same
    } else if bare.len() < MIN_END_CHARS - 1
        || ends_with(secret, bare)
        || (is_length(bare) && bare.len() < end.len())
        || is_decorated(secret, bare, is_upper_cased)
    {
        EndMatch::Unknown
    } else {
        EndMatch::Different
    }
}

/// Compares a value without a mask: a bare end, or one behind letters that serve as a
/// mask, such as `sk-admin-xxxxxxdef`. A start of the secret or a word shows nothing.
fn compare_unmasked(secret: &str, value: &str) -> EndMatch {
    if value.chars().count() >= MIN_END_CHARS && ends_with(secret, value) {
        return EndMatch::Same;
    }
    if starts_with(secret, value) || !value.chars().all(is_secret_character) {
        return EndMatch::Unknown;
    }
    if let Some(end) = end_behind_run(value) {
        let head = judge_head(secret, &value[..value.len() - end.len()]);
        return head.weigh(|| compare_shown(secret, end, is_upper_cased(value)));
    }
    let rest = behind_prefix(secret, value);
    if is_decorated(secret, rest, false)
        || (rest.len() > MAX_BARE_END_CHARS && !starts_with(value, SECRET_PREFIX))
    {
        return EndMatch::Unknown;
    }
    let last = last_characters(value);
    if last.chars().all(|character| last.starts_with(character)) {
        return EndMatch::Unknown;
    }
    match compare_shown(secret, last, false) {
        // Only a part of the value is the end.
        EndMatch::Same => EndMatch::Unknown,
        compared @ (EndMatch::Different | EndMatch::Unknown) => compared,
    }
}

/// Returns whether a value has a word, or the secret's own end in front of something
/// else, such as its length.
fn is_decorated(secret: &str, value: &str, is_upper_cased: bool) -> bool {
    let mut segments = value.split(is_separator);
    let mut letters = value.split(|character: char| !character.is_ascii_alphabetic());
    is_listed_word(value)
        || letters.any(is_listed_word)
        || segments.any(|part| {
            is_word(part, is_upper_cased)
                || (part.len() >= MIN_END_CHARS && ends_with(secret, part))
        })
}

/// Returns what stands behind the prefix that a value and the secret have in common,
/// such as `sk-admin-`.
fn behind_prefix<'a>(secret: &str, value: &'a str) -> &'a str {
    let separators = value.match_indices(is_separator);
    let behind = separators.map(|(at, separator)| at + separator.len());
    let mut common = behind.filter(|end| starts_with(secret, &value[..*end]));
    &value[common.next_back().unwrap_or(0)..]
}

/// Returns what stands behind the last run of equal characters that serve as a mask, if
/// there is one that is long enough.
fn end_behind_run(value: &str) -> Option<&str> {
    let (at, _) = value
        .as_bytes()
        .windows(MIN_RUN)
        .enumerate()
        .rfind(is_run)?;
    value.get(at + MIN_RUN..)
}

/// Returns where the first run of equal characters that serve as a mask begins.
fn start_of_run(value: &str) -> Option<usize> {
    let mut runs = value.as_bytes().windows(MIN_RUN).enumerate();
    runs.find(is_run).map(|(at, _)| at)
}

fn is_run((_, window): &(usize, &[u8])) -> bool {
    is_filler(char::from(window[0])) && window.iter().all(|byte| *byte == window[0])
}

/// Returns whether a character fills a mask when it is repeated.
const fn is_filler(character: char) -> bool {
    matches!(character, 'x' | 'X' | '-' | '_')
}

fn trim_quotes(value: &str) -> &str {
    value.trim_matches(|character: char| {
        character.is_whitespace() || matches!(character, '"' | '\'' | '`')
    })
}

/// Returns whether a character serves as a mask. Letters do as well, but secrets also have
/// letters.
const fn is_mask(character: char) -> bool {
    matches!(
        character,
        '.' | '…'
            | '‥'
            | '․'
            | '*'
            | '＊'
            | '∗'
            | '•'
            | '●'
            | '∙'
            | '·'
            | '‧'
            | '⋯'
            | '■'
            | '▪'
            | '█'
            | '#'
            | '?'
    )
}

/// Returns whether a character can stand in a secret. Brackets, blanks and colons show
/// that the value is a remark, such as `[redacted]` or `sha256:…`.
const fn is_secret_character(character: char) -> bool {
    character.is_ascii_alphanumeric()
        || matches!(
            character,
            '-' | '_' | '+' | '/' | '=' | '~' | '%' | '@' | '!' | '$'
        )
}

/// Returns whether a character can stand between a mask and the end behind it.
const fn is_separator(character: char) -> bool {
    !character.is_ascii_alphanumeric()
}

/// Returns whether the provider wrote a value in capital letters: then each end of letters
/// alone is of one case, which does not make it a word.
fn is_upper_cased(value: &str) -> bool {
    value.contains(|character: char| character.is_ascii_uppercase())
        && !value.contains(|character: char| character.is_ascii_lowercase())
}

/// Returns whether a value may be a word that is not in the list.
fn is_word(value: &str, is_upper_cased: bool) -> bool {
    let is_all = |of: fn(&char) -> bool| value.chars().all(|character| of(&character));
    let rest = value.get(1..).unwrap_or_default();
    let is_one_case = (is_all(char::is_ascii_uppercase) && !is_upper_cased)
        || (is_all(char::is_ascii_alphabetic)
            && rest.chars().all(|character| character.is_ascii_lowercase()));
    is_one_case && value.len() >= MIN_WORD_CHARS
}

fn is_listed_word(value: &str) -> bool {
    let is_same = |word: &str| value.eq_ignore_ascii_case(word);
    is_same("n/a") || is_same("n-a") || WORDS.iter().any(|word| is_same(word))
}

/// Returns whether a value may be a length.
fn is_length(value: &str) -> bool {
    value.len() <= MAX_LENGTH_DIGITS && value.chars().all(|character| character.is_ascii_digit())
}

fn last_characters(value: &str) -> &str {
    let mut starts = value.char_indices().rev();
    let start = starts.nth(MIN_END_CHARS - 1);
    start.map_or(value, |(at, _)| &value[at..])
}

fn ends_with(secret: &str, end: &str) -> bool {
    let start = secret.len().checked_sub(end.len());
    let tail = start.and_then(|start| secret.get(start..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

fn starts_with(secret: &str, start: &str) -> bool {
    let head = secret.get(..start.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "sk-admin-AbCdEf123wxYz";

    #[test]
    fn ends_are_read_behind_masks_of_every_form() {
        for mask in [
            "...",
            "…",
            "..",
            "****",
            "*",
            "•••",
            "········",
            "●●",
            "sk-admin-***",
            "sk-...",
            "sk-admin-AbC…",
            "?",
            "####",
            "⋯",
            " \"sk-admin...",
        ] {
            for (end, expected) in [
                ("wxYz", EndMatch::Same),
                ("WXYZ", EndMatch::Same),
                ("123wxYz", EndMatch::Same),
                ("abcd", EndMatch::Different),
                ("def", EndMatch::Different),
                ("awxYz", EndMatch::Different),
                ("Yz", EndMatch::Unknown),
                ("ab", EndMatch::Unknown),
                ("", EndMatch::Unknown),
                ("abcd (active)", EndMatch::Unknown),
                ("[hidden]", EndMatch::Unknown),
            ] {
                let value = format!("{mask}{end}");
                assert_eq!(compare_end(SECRET, Some(&value)), expected, "{value}");
            }
        }
    }

    #[test]
    fn values_without_a_mask_count_by_their_last_characters() {
        for (value, expected) in [
            ("wxYz", EndMatch::Same),
            (SECRET, EndMatch::Same),
            ("a1c4", EndMatch::Different),
            ("sk-admin-xxxxxxxxa1c4", EndMatch::Different),
            ("sk-admin-xxxxxxxxwxYz", EndMatch::Same),
            ("sk-admin-XXXXXXXXxYz", EndMatch::Same),
            ("sk-admin-xxxxxxxxYz", EndMatch::Unknown),
            ("a1wxYz", EndMatch::Unknown),
            ("xxxxxxxx", EndMatch::Unknown),
            ("sk-admin-AbCxxxx", EndMatch::Unknown),
            ("sk-admin-AbC0000", EndMatch::Unknown),
            ("sk-admin-0000a1c4", EndMatch::Different),
            ("sk-admin-----", EndMatch::Unknown),
            ("sk-admin-", EndMatch::Unknown),
            ("sk-admin-AbCd", EndMatch::Unknown),
            ("Yz", EndMatch::Unknown),
            ("", EndMatch::Unknown),
            ("hidden", EndMatch::Unknown),
            ("REDACTED", EndMatch::Unknown),
            ("Masked", EndMatch::Unknown),
            ("[redacted]", EndMatch::Unknown),
            ("<secret>", EndMatch::Unknown),
            ("null", EndMatch::Unknown),
            ("None", EndMatch::Unknown),
            ("key ending in a1c4", EndMatch::Unknown),
            ("sha256:9f86d081", EndMatch::Unknown),
        ] {
            assert_eq!(compare_end(SECRET, Some(value)), expected, "{value}");
        }
        assert_eq!(compare_end(SECRET, None), EndMatch::Unknown);
    }

    /// What is not certainly another secret's end may be this secret's.
    #[test]
    fn separators_and_words_are_no_end_of_another_secret() {
        for (value, expected) in [
            ("****-wxYz", EndMatch::Same),
            ("xxxx-xxxx-wxYz", EndMatch::Same),
            ("sk-admin-…-wxYz", EndMatch::Same),
            ("sk-admin-***_wxYz", EndMatch::Same),
            ("...=wxYz", EndMatch::Same),
            ("AbC…wxYz-22", EndMatch::Unknown),
            ("AbC…+24", EndMatch::Unknown),
            ("AbC…+164", EndMatch::Unknown),
            ("****-000164", EndMatch::Different),
            ("…-Yz", EndMatch::Unknown),
            ("sk-admin-...20more", EndMatch::Unknown),
            ("sk-admin-REDACTED", EndMatch::Unknown),
            ("sk-admin-hidden", EndMatch::Unknown),
            ("masked_value", EndMatch::Unknown),
            ("****hidden", EndMatch::Unknown),
            ("***REDACTED", EndMatch::Unknown),
            ("…redacted", EndMatch::Unknown),
            ("…-Withheld", EndMatch::Unknown),
            ("not-shown", EndMatch::Unknown),
            ("hidden-key", EndMatch::Unknown),
            ("secret-key", EndMatch::Unknown),
            ("Hidden1", EndMatch::Unknown),
            ("redacted-1", EndMatch::Unknown),
            ("hash-1a2b3c", EndMatch::Unknown),
            ("****-a1c4", EndMatch::Different),
            ("xxxx-xxxx-a1c4", EndMatch::Different),
            ("sk-admin...-a1", EndMatch::Different),
            ("sk-admin-a1c4", EndMatch::Different),
            ("SK-ADMIN…A1C4", EndMatch::Different),
            ("SK-ADMIN…QRSTUV", EndMatch::Different),
            ("SK-ADMIN…REDACTED", EndMatch::Unknown),
        ] {
            assert_eq!(compare_end(SECRET, Some(value)), expected, "{value}");
        }
    }

    /// What stands before a mask decides what the end behind it is.
    #[test]
    fn ends_count_by_what_stands_before_the_mask() {
        let project = "sk-proj-AbCdEf123wxYz";
        let plain = "sk-AbCdEf123wxYz";
        let foreign = "acme_AbCdEf123wxYz";
        for (secret, value, expected) in [
            // The start of another kind of secret, or of another secret of this kind.
            (project, "sk-admin...xYz", EndMatch::Different),
            (SECRET, "sk-proj...xYz", EndMatch::Different),
            (SECRET, "sk-svcacct-***xYz", EndMatch::Different),
            (SECRET, "SK-PROJ…XYZ", EndMatch::Different),
            (SECRET, "sk-proj-xxxxxxxYz", EndMatch::Different),
            (plain, "sk-admin-…wxYz", EndMatch::Different),
            (SECRET, "sk-admin-Q1c…wxYz", EndMatch::Different),
            (SECRET, "sk-admin-Q1c...", EndMatch::Different),
            // Its own.
            (project, "sk-proj-...xYz", EndMatch::Same),
            (plain, "sk-...wxYz", EndMatch::Same),
            (SECRET, "sk-admin...xYz", EndMatch::Same),
            (SECRET, "sk-admin-...XYZ", EndMatch::Same),
            (SECRET, "sk-...-...xYz", EndMatch::Same),
            (SECRET, "AbC…wxYz", EndMatch::Same),
            (SECRET, "AbC…a1c4", EndMatch::Different),
            (SECRET, "s…a1c4", EndMatch::Different),
            (foreign, "acme_…wxYz", EndMatch::Same),
            (SECRET, "***", EndMatch::Unknown),
            // No start of a secret.
            (SECRET, "sha256:9f86d0…0f00a0", EndMatch::Unknown),
            (SECRET, "sha256:9f86d0…f0wxYz", EndMatch::Unknown),
            (SECRET, "fp:9f…a1c4", EndMatch::Unknown),
            (SECRET, "fp-9f86...0f00a0", EndMatch::Unknown),
            (SECRET, "9f86d0…0f00a0", EndMatch::Unknown),
            (SECRET, "v1.a1c4", EndMatch::Unknown),
            (SECRET, "key ending in …wxYz", EndMatch::Same),
            (SECRET, "key ending in …a1c4", EndMatch::Unknown),
            (SECRET, "fp-9f86d081884c", EndMatch::Unknown),
            (SECRET, "9f86d081884c", EndMatch::Unknown),
            (SECRET, "sk-hidden...a1c4", EndMatch::Unknown),
            (SECRET, "sk-hash9f86...a1c4", EndMatch::Unknown),
            (SECRET, "sk-org...wxYz", EndMatch::Unknown),
            (SECRET, "sk-org-...wxYz", EndMatch::Unknown),
            (SECRET, "sk-Q1c...wxYz", EndMatch::Unknown),
            (SECRET, "sk-…9f86…a1c4", EndMatch::Unknown),
            (foreign, "sk-…wxYz", EndMatch::Same),
            (foreign, "sk-admin…wxYz", EndMatch::Unknown),
        ] {
            assert_eq!(
                compare_end(secret, Some(value)),
                expected,
                "{secret} {value}"
            );
        }
        for value in [
            "sk-admin...xYz",
            "sk-admin-xxxxxwxYz",
            "sk-admin…xYz",
            "xYz",
        ] {
            let end = without_head(value);
            assert_eq!(compare_end(project, Some(end)), EndMatch::Same, "{value}");
        }
        for word in [
            "end", "EOF", "etc", "api", "set", "abc", "n-a", "rot13", "id7",
        ] {
            let value = format!("sk-admin...{word}");
            assert_eq!(
                compare_end(SECRET, Some(&value)),
                EndMatch::Unknown,
                "{value}"
            );
        }
    }

    /// Neither a number nor an end without the start of a secret before its mask proves
    /// anything by itself.
    #[test]
    fn ends_that_may_be_something_else_are_doubtful() {
        for (value, is_doubtful) in [
            ("****Wnh6", true),
            ("sk-admin-AbCd...049", true),
            ("sk-admin...049", true),
            ("sk-admin-xxxxxxxx049", true),
            ("XXXX-XXXX-ABCD", true),
            ("...sk-admin-AbC", true),
            ("…a1c4", true),
            ("a1c4", true),
            ("****-000164", true),
            ("sk-admin...a1c", false),
            ("sk-admin-AbCd...a1c", false),
            ("SK-ADMIN…A1C4", false),
            ("s…a1c4", false),
            ("sk-****a1c4", false),
            ("sk-admin-xxxxxxxxa1c4", false),
            ("sk-admin-a1c4", false),
            ("sk-proj-…049", false),
            ("sk-admin-Q1c…049", false),
        ] {
            let form = RedactionForm::of(value);
            assert_eq!(form.is_doubtful(SECRET, value), is_doubtful, "{value}");
        }
        assert_eq!(RedactionForm::of("****a1"), RedactionForm::of("*-b2"));
        assert_ne!(RedactionForm::of("****a1"), RedactionForm::of("...a1"));
        assert_ne!(RedactionForm::of("****a1"), RedactionForm::of("sk-****a1"));
        for (value, end) in [
            ("sk-admin...wxYz", "wxyz"),
            ("****-wxYz", "wxyz"),
            ("sk-admin-xxxxa1", "a1"),
            ("wxYz", "wxyz"),
        ] {
            assert_eq!(shown_end(value), end, "{value}");
        }
    }

    #[test]
    fn few_characters_of_a_secret_are_recorded() {
        for (value, expected) in [
            ("sk-admin...def", Some("sk-admin...def")),
            ("sk-admin…def123", Some("sk-admin…def123")),
            ("wxYz", Some("wxYz")),
            ("****", Some("****")),
            ("sk-admin-xxxxdef", Some("sk-admin-xxxxdef")),
            ("sk-project-AbCxxxxxxx0def", Some("sk-project-Axxxxxxx0def")),
            ("****-123wxYz", Some("****23wxYz")),
            ("sk-admin...aca-B_c4", Some("sk-admin...a-B_c4")),
            ("sk-admin...Zaca-B_c4", Some("sk-admin...a-B_c4")),
            ("sk-admin...9aB-c4x1y", Some("sk-admin...9aB-c4x1y")),
            ("sk-admin...Q_9aB-c4x1y", Some("sk-admin...9aB-c4x1y")),
            ("sk-admin...9aB-c4x1yz", Some("sk-admin...c4x1yz")),
            ("sk-admin...Yz0-c4x1yzWq", Some("sk-admin...x1yzWq")),
            ("sk-admin...4wxY-164", Some("sk-admin...wxY-164")),
            ("sk-admin...9abcdefg", Some("sk-admin...9abcdefg")),
            (".-0---A-aaAa-", None),
            ("...--_---AA_0", Some("...---AA_0")),
            ("sk-admin...-wxYz", Some("sk-admin...-wxYz")),
            // A remark, or a number behind the end.
            ("sk-admin...wxYz-000164", Some("sk-admin...")),
            ("sk-admin...wxYz-not-shown", Some("sk-admin...")),
            ("sk-admin...wxYz (22)", Some("sk-admin...")),
            ("…wxYz-hash1a", Some("…")),
            ("\"sk-admin...wxYz\"", Some("sk-admin...wxYz")),
            ("hidden", Some("hidden")),
            ("hidden-key", Some("hidden-key")),
            ("...pQrStUvWxYz0123456789", Some("...456789")),
            (
                "sk-admin...pQrStUvWxYz0123456789",
                Some("sk-admin...456789"),
            ),
            ("sk-admin-AbCdEf123…wxYz", Some("sk-admin-AbC…wxYz")),
            ("…hash-1a2b3c", Some("…")),
            ("…redacted", Some("…")),
            ("Yz0123456789", None),
            ("sk-admin-AbC", None),
            ("plain-and-long-1", None),
            ("plain.and.long.1", None),
            (SECRET, None),
        ] {
            let kept = shorten_redacted(value);
            assert_eq!(kept.as_deref(), expected, "{value}");
        }
    }

    proptest! {
        /// However many characters of its end a provider shows, what is recorded of it
        /// tells the secret from others.
        #[test]
        fn shortened_end_still_tells_secrets_apart(
            bodies in prop::array::uniform2("[A-Za-z0-9_-]{16,40}"),
            mask in prop::sample::select(&["...", "…", "****", "sk-admin-..."][..]),
            shown in 3_usize..=12,
        ) {
            let [secret, other] = bodies.map(|body| format!("sk-admin-{body}"));
            let end = &secret[secret.len() - shown..];
            let recorded = shorten_redacted(&format!("{mask}{end}")).unwrap();
            let kept = recorded.trim_start_matches(mask);
            prop_assert!(kept.len() <= MAX_END_CHARS + MIN_END_CHARS, "{}", recorded);
            let own = compare_end(&secret, Some(&recorded));
            prop_assert_ne!(own, EndMatch::Different, "{} {}", secret, recorded);
            let digits = |text: &str| text.chars().all(|character| character.is_ascii_digit());
            let last = end.rsplit(is_separator).next().unwrap_or_default();
            // Each part of the end that may be kept looks like a word.
            let has_no_part = kept.is_empty()
                && (MAX_END_CHARS..=MAX_END_CHARS + MIN_END_CHARS).all(|length| {
                    is_decorated("", &end[end.len().saturating_sub(length)..], false)
                });
            let may_be_remark = has_no_part
                || is_decorated("", end, false)
                || is_decorated("", kept, false)
                || (last.len() >= MAX_END_CHARS - 1 && digits(last));
            if !may_be_remark {
                prop_assert_eq!(own, EndMatch::Same, "{} {}", secret, recorded);
            }
            let is_same_end = identifying_end(&secret) == identifying_end(&other);
            let compared = compare_end(&other, Some(&recorded));
            let bare = kept.trim_start_matches(is_separator);
            let is_too_short = bare.len() < MIN_END_CHARS;
            let is_short_number = is_length(bare) && bare.len() < kept.len();
            let has_end_of_other = is_decorated(&other, bare, false);
            if is_same_end || may_be_remark || is_too_short || is_short_number || has_end_of_other {
                return Ok(());
            }
            prop_assert_eq!(compared, EndMatch::Different, "{} {}", other, recorded);
        }

        /// However a provider hides the start of the secret, or all of it, the value is
        /// never taken for another secret's.
        #[test]
        fn own_redaction_is_never_taken_for_another_secret(
            body in "[A-Za-z0-9_-]{12,40}",
            mask in prop_oneof![
                "[.*…•]{1,8}", "x{3,12}", "X{3,12}", "-{3,8}",
            ],
            shown in 0_usize..12,
            start in 0_usize..9,
            separator in "[-_=+/~]{1,2}",
            word in prop::sample::select(&WORDS[..]),
        ) {
            let secret = format!("sk-admin-{body}");
            let end = &secret[secret.len() - shown..];
            let start = &secret[..start];
            let masked = [format!("{start}{mask}{end}"), format!("{mask}{end}")];
            for value in [
                format!("{start}{mask}{separator}{end}"),
                format!("{start}{mask}{separator}{word}"),
                format!("{start}{mask}{word}{separator}{shown}"),
                format!("{word}{separator}{end}"),
            ] {
                let compared = compare_end(&secret, Some(&value));
                prop_assert_ne!(compared, EndMatch::Different, "{} {}", secret, value);
                let recorded = shorten_redacted(&value);
                let compared = compare_end(&secret, recorded.as_deref());
                prop_assert_ne!(compared, EndMatch::Different, "{} {:?}", secret, recorded);
            }
            for value in masked.iter().map(String::as_str).chain([end, start]) {
                let recorded = shorten_redacted(value);
                let compared = compare_end(&secret, recorded.as_deref());
                prop_assert_ne!(compared, EndMatch::Different, "{} {:?}", secret, recorded);
                let is_short = value.len() < MIN_END_CHARS;
                let compared = compare_end(&secret, Some(value));
                prop_assert_ne!(compared, EndMatch::Different, "{} {}", secret, value);
                prop_assert!(!is_short || compared == EndMatch::Unknown, "{} {}", secret, value);
            }
        }
    }
}
