//! The texts that a text decodes to, each byte with its place in the source.

mod base85;
mod letters;
mod spread;

use std::ops::Range;
use std::str::Utf8Chunk;

use self::letters::plain_letters;
use super::printable::is_unprintable;

/// The minimum length of an encoded word that is decoded: eight bytes in base64, or in
/// hexadecimal digits.
const MIN_BASE64_CHARS: usize = 11;
const MIN_HEX_CHARS: usize = 16;

/// Named entities of HTML for characters that occur in secrets.
const ENTITIES: [(&str, u8); 14] = [
    ("amp", b'&'),
    ("lt", b'<'),
    ("gt", b'>'),
    ("quot", b'"'),
    ("apos", b'\''),
    ("plus", b'+'),
    ("sol", b'/'),
    ("equals", b'='),
    ("lowbar", b'_'),
    ("UnderBar", b'_'),
    ("hyphen", b'-'),
    ("dash", b'-'),
    ("period", b'.'),
    ("percnt", b'%'),
];

/// The most digits of an escape that has any number of them, zeros before it included.
const MAX_ESCAPE_DIGITS: usize = 16;

/// The longest entity, without `&` and with `;`.
const MAX_ENTITY_LEN: usize = 9;

/// A text, or what a part of it decodes to.
#[derive(Default)]
pub(super) struct View {
    bytes: Vec<u8>,
    /// For each byte, the range of the source that it comes from.
    sources: Vec<Range<usize>>,
}

impl View {
    /// Returns the view of a text as it is.
    pub(super) fn new(text: &str) -> Self {
        let mut view = Self::with_capacity(text.len());
        for (at, character) in text.char_indices() {
            let source = at..at + character.len_utf8();
            view.push_text(&text[source.clone()], &source);
        }
        view
    }

    /// Returns the bytes as text.
    pub(super) fn to_text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn with_capacity(length: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(length),
            sources: Vec::with_capacity(length),
        }
    }

    /// Returns the number of bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns whether enough ASCII characters are in a row that they may encode something.
    pub(super) fn has_text(&self) -> bool {
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        let mut runs = self.bytes.split(|byte| !is_text(byte));
        runs.any(|run| run.len() >= MIN_BASE64_CHARS)
    }

    /// Returns the bytes, with letters in lower case.
    pub(super) fn folded(&self) -> Vec<u8> {
        self.bytes.to_ascii_lowercase()
    }

    /// Returns the range of the source that a range of the bytes comes from.
    pub(super) fn source(&self, range: Range<usize>) -> Range<usize> {
        self.sources[range.start].start..self.sources[range.end - 1].end
    }

    /// Returns the view without the characters that split a long word: white space, and
    /// what is not printable.
    pub(super) fn condense(&self) -> Self {
        let mut condensed = Self::with_capacity(self.bytes.len());
        let mut at = 0;
        for chunk in self.bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let end = at + character.len_utf8();
                if !character.is_whitespace() && !is_unprintable(character) {
                    condensed.copy(self, at..end);
                }
                at = end;
            }
            let end = at + chunk.invalid().len();
            condensed.copy(self, at..end);
            at = end;
        }
        condensed
    }

    /// Returns the view with plain letters for those in another shape. None if there are
    /// none.
    pub(super) fn with_plain_letters(&self) -> Option<Self> {
        let has_shape = |chunk: Utf8Chunk<'_>| {
            let mut characters = chunk.valid().chars();
            characters.any(|character| plain_letters(character).is_some())
        };
        if self.bytes.is_ascii() || !self.bytes.utf8_chunks().any(has_shape) {
            return None;
        }
        let mut changed = Self::with_capacity(self.bytes.len());
        let mut at = 0;
        for chunk in self.bytes.utf8_chunks() {
            for character in chunk.valid().chars() {
                let end = at + character.len_utf8();
                match plain_letters(character) {
                    Some(letters) => {
                        changed.push_text(&letters, &self.source(at..end));
                    }
                    None => changed.copy(self, at..end),
                }
                at = end;
            }
            let end = at + chunk.invalid().len();
            changed.copy(self, at..end);
            at = end;
        }
        Some(changed)
    }

    /// Decodes the escapes of URLs, JSON and HTML. None if there are none.
    pub(super) fn unescape(&self) -> Option<Self> {
        let mut bytes = self.bytes.iter();
        if !bytes.any(|byte| matches!(byte, b'%' | b'\\' | b'&')) {
            return None;
        }
        let mut decoded = Self::default();
        let mut at = 0;
        let mut has_escapes = false;
        while at < self.bytes.len() {
            let Some((character, length)) = escape(&self.bytes[at..]) else {
                decoded.copy(self, at..at + 1);
                at += 1;
                continue;
            };
            has_escapes = true;
            let source = self.source(at..at + length);
            decoded.push_escaped(character, &source);
            at += length;
        }
        has_escapes.then_some(decoded)
    }

    /// Decodes long words in base64: one view for each offset in the groups of four.
    /// Both alphabets count, and a word may be a part of a longer text.
    pub(super) fn base64(&self) -> Vec<Self> {
        let words = self.words(MIN_BASE64_CHARS, |byte| base64_value(byte).is_some());
        self.decode_words(&words, 4, |view, digits, source| {
            if let ([_], Some(last)) = (digits, view.sources.last_mut()) {
                // Less than a byte, and still a part of what is encoded.
                last.end = source(0..1).end;
            }
            let bits = digits.iter().fold(0_u32, |bits, digit| {
                bits << 6 | u32::from(base64_value(*digit).unwrap_or_default())
            });
            // A group at the end may be shorter: two digits are a byte, three are two.
            let bits = bits << (6 * (4 - digits.len()));
            for (index, byte) in bits.to_be_bytes()[1..].iter().enumerate() {
                if index + 1 < digits.len() {
                    view.push(*byte, source(index..index + 2));
                }
            }
        })
    }

    /// Decodes long words of hexadecimal digits: one view for each of the two offsets.
    pub(super) fn hex(&self) -> Vec<Self> {
        let words = self.words(MIN_HEX_CHARS, |byte| byte.is_ascii_hexdigit());
        self.decode_words(&words, 2, |view, digits, source| {
            if let [high, low] = digits {
                view.push(hex_value(*high) << 4 | hex_value(*low), source(0..2));
            }
        })
    }

    /// Returns the ranges of at least `min` bytes that all are digits of an encoding.
    fn words(&self, min: usize, is_digit: impl Fn(u8) -> bool) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        let mut start = 0;
        for (at, byte) in self.bytes.iter().chain([&b' ']).enumerate() {
            if at == self.bytes.len() || !is_digit(*byte) {
                if at - start >= min {
                    words.push(start..at);
                }
                start = at + 1;
            }
        }
        words
    }

    /// Decodes words in groups of digits, once for each offset of the first group.
    fn decode_words(
        &self,
        words: &[Range<usize>],
        group: usize,
        decode: impl Fn(&mut Self, &[u8], &dyn Fn(Range<usize>) -> Range<usize>),
    ) -> Vec<Self> {
        if words.is_empty() {
            return Vec::new();
        }
        let decode_at = |offset: usize| {
            let mut view = Self::with_capacity(self.bytes.len());
            for word in words {
                // No fragment reaches from one word into the next.
                view.push(0xff, self.source(word.start..word.start + 1));
                let mut start = word.start + offset;
                while start < word.end {
                    let end = word.end.min(start + group);
                    let source =
                        |part: Range<usize>| self.source(start + part.start..start + part.end);
                    decode(&mut view, &self.bytes[start..end], &source);
                    start = end;
                }
            }
            view
        };
        (0..group).map(decode_at).collect()
    }

    fn push(&mut self, byte: u8, source: Range<usize>) {
        self.bytes.push(byte);
        self.sources.push(source);
    }

    fn push_escaped(&mut self, escaped: Escaped, source: &Range<usize>) {
        match escaped {
            Escaped::Byte(byte) => self.push(byte, source.clone()),
            Escaped::Char(character) => {
                self.push_text(character.encode_utf8(&mut [0; 4]), source);
            }
        }
    }

    fn push_text(&mut self, text: &str, source: &Range<usize>) {
        for byte in text.bytes() {
            self.push(byte, source.clone());
        }
    }

    fn copy(&mut self, other: &Self, range: Range<usize>) {
        self.bytes.extend_from_slice(&other.bytes[range.clone()]);
        self.sources.extend_from_slice(&other.sources[range]);
    }
}

/// What an escape stands for.
enum Escaped {
    Byte(u8),
    Char(char),
}

/// Returns what the escape at the start of `text` stands for, and its length.
fn escape(text: &[u8]) -> Option<(Escaped, usize)> {
    match text {
        [b'%', b'u' | b'U', rest @ ..] if number(rest.get(..4)?, 16).is_some() => {
            let character = char::from_u32(number(rest.get(..4)?, 16)?);
            let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
            Some((Escaped::Char(character), 6))
        }
        [b'%', high, low, ..] => {
            let byte = u8::try_from(number(&[*high, *low], 16)?).ok()?;
            Some((Escaped::Byte(byte), 3))
        }
        [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let byte = u8::try_from(number(&[*high, *low], 16)?).ok()?;
            Some((Escaped::Byte(byte), 4))
        }
        // A character behind the first 65,536 has two escapes.
        [b'\\', b'u', rest @ ..] if surrogates(rest).is_some() => {
            Some((Escaped::Char(surrogates(rest)?), 12))
        }
        [b'\\', b'u', rest @ ..] if number(rest.get(..4)?, 16).is_some() => {
            let character = char::from_u32(number(rest.get(..4)?, 16)?);
            let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
            Some((Escaped::Char(character), 6))
        }
        [b'\\', b'u', b'{', rest @ ..] => {
            let (digits, length) = leading_digits(rest, 16)?;
            let is_closed = rest.get(length) == Some(&b'}');
            let character = char::from_u32(number(digits, 16)?).filter(|_| is_closed)?;
            Some((Escaped::Char(character), length + 4))
        }
        [b'\\', b'U', rest @ ..] if number(rest.get(..8)?, 16).is_some() => {
            let character = char::from_u32(number(rest.get(..8)?, 16)?);
            let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
            Some((Escaped::Char(character), 10))
        }
        [b'\\', digits @ ..] if octal_byte(digits).is_some() => {
            Some((Escaped::Byte(octal_byte(digits)?), 4))
        }
        [b'\\', b'n' | b'r' | b't', ..] => Some((Escaped::Byte(b'\n'), 2)),
        [b'\\', other, ..] => Some((Escaped::Byte(*other), 2)),
        // Numbers need no `;`, and may begin with zeros.
        [b'&', b'#', rest @ ..] => {
            let (radix, prefix) = match rest {
                [b'x' | b'X', ..] => (16, 1),
                _ => (10, 0),
            };
            let (digits, length) = leading_digits(&rest[prefix..], radix)?;
            let character = char::from_u32(number(digits, radix)?)?;
            let is_closed = rest.get(prefix + length) == Some(&b';');
            let length = 2 + prefix + length + usize::from(is_closed);
            Some((Escaped::Char(character), length))
        }
        [b'&', rest @ ..] => {
            let end = rest
                .iter()
                .take(MAX_ENTITY_LEN)
                .position(|byte| *byte == b';')?;
            Some((entity(&rest[..end])?, end + 2))
        }
        _ => None,
    }
}

/// Returns the character of two escapes in UTF-16, from behind the `\u` of the first.
fn surrogates(text: &[u8]) -> Option<char> {
    let (high, rest) = text.split_at_checked(4)?;
    let low = rest.strip_prefix(b"\\u")?.get(..4)?;
    let units = [high, low].map(|digits| u16::try_from(number(digits, 16)?).ok());
    let mut decoded = char::decode_utf16([units[0]?, units[1]?]);
    decoded
        .next()?
        .ok()
        .filter(|character| character.len_utf8() == 4)
}

/// Returns what an entity of HTML stands for, from its name.
fn entity(name: &[u8]) -> Option<Escaped> {
    let mut entities = ENTITIES.iter();
    let found = entities.find(|(known, _)| known.as_bytes() == name)?;
    Some(Escaped::Byte(found.1))
}

/// Returns the digits at the start of a text without the zeros before them, and how many
/// there are with these; none if there is no digit, or too many.
fn leading_digits(text: &[u8], radix: u32) -> Option<(&[u8], usize)> {
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let length = text.iter().take_while(is_digit).count();
    if !(1..=MAX_ESCAPE_DIGITS).contains(&length) {
        return None;
    }
    let zeros = text[..length - 1].iter().take_while(|byte| **byte == b'0');
    Some((&text[zeros.count()..length], length))
}

/// Returns the byte that three octal digits at the start of a text are.
fn octal_byte(text: &[u8]) -> Option<u8> {
    u8::try_from(number(text.get(..3)?, 8)?).ok()
}

/// Returns the number that the digits are, without a sign.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    if !digits.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    u32::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()
}

fn base64_value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

fn hex_value(byte: u8) -> u8 {
    char::from(byte)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
        .unwrap_or_default()
}
