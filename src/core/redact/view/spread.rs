//! Encodings that spread a secret over a text: bytes written as numbers, lines of quoted
//! printables and of uuencode, base32, and words that separators split.

use std::ops::{Range, RangeInclusive};

use super::View;

/// The fewest numbers that are decoded: fewer hold no fragment of a secret.
const MIN_NUMBERS: usize = 8;

/// The minimum length of a part of a line of uuencode that is decoded: eight bytes.
const MIN_UUENCODED_CHARS: usize = 11;

/// The minimum length of a word in base32 that is decoded: eight bytes.
const MIN_BASE32_CHARS: usize = 13;

/// The longest text before a number that announces its notation, such as `0x`.
const MAX_NOTATION_PREFIX: usize = 2;

/// How bytes are written as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    Decimal,
    Hexadecimal,
    Octal,
    Binary,
}

impl Notation {
    const ALL: [Self; 4] = [Self::Decimal, Self::Hexadecimal, Self::Octal, Self::Binary];

    const fn radix(self) -> u32 {
        match self {
            Self::Decimal => 10,
            Self::Hexadecimal => 16,
            Self::Octal => 8,
            Self::Binary => 2,
        }
    }

    /// Returns the digits of a number without what announces the notation.
    fn digits(self, word: &[u8]) -> &[u8] {
        let prefixes: &[&[u8]] = match self {
            Self::Decimal => &[],
            Self::Hexadecimal => &[b"0x", b"0X", b"x", b"X", b"u", b"U"],
            Self::Octal => &[b"0o", b"0O", b"o"],
            Self::Binary => &[b"0b", b"0B", b"b"],
        };
        let mut prefixes = prefixes.iter();
        let stripped = prefixes.find_map(|prefix| word.strip_prefix(*prefix));
        stripped.unwrap_or(word)
    }

    /// Returns the bytes that a word is: one, or two of four hexadecimal digits, as in a
    /// dump.
    fn bytes(self, word: &[u8]) -> Option<Vec<u8>> {
        let digits = self.digits(word);
        let has_length = match self {
            Self::Decimal | Self::Octal => (1..=3).contains(&digits.len()),
            Self::Hexadecimal => matches!(digits.len(), 1 | 2 | 4),
            Self::Binary => (7..=8).contains(&digits.len()),
        };
        if !has_length || !digits.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let number = u16::from_str_radix(str::from_utf8(digits).ok()?, self.radix()).ok()?;
        match number.to_be_bytes() {
            [high, low] if digits.len() == 4 && self == Self::Hexadecimal => Some(vec![high, low]),
            [0, low] => Some(vec![low]),
            [_, _] => None,
        }
    }

    /// Returns the bytes of a number of `width` bytes, such as od(1) and hexdump(1) print,
    /// the first one highest.
    fn long_word(self, word: &[u8], width: usize) -> Option<[u8; 8]> {
        let digits = self.digits(word);
        if !long_word_digits(self, width).contains(&digits.len())
            || !digits.iter().all(u8::is_ascii_alphanumeric)
        {
            return None;
        }
        let number = u64::from_str_radix(str::from_utf8(digits).ok()?, self.radix()).ok()?;
        let unused = 8 * (8 - u32::try_from(width).ok()?);
        (number.leading_zeros() >= unused).then(|| (number << unused).to_be_bytes())
    }
}

/// How many digits a number of `width` printable bytes has.
const fn long_word_digits(notation: Notation, width: usize) -> RangeInclusive<usize> {
    match (notation, width) {
        (Notation::Hexadecimal, _) => 2 * width..=2 * width,
        (Notation::Decimal, 2) => 4..=5,
        (Notation::Decimal, 4) => 9..=10,
        (Notation::Decimal, _) => 19..=20,
        (Notation::Octal, 2) => 5..=6,
        (Notation::Octal, 4) => 10..=11,
        (Notation::Octal, _) => 21..=22,
        (Notation::Binary, _) => 8 * width - 1..=8 * width,
    }
}

impl View {
    /// Decodes what spreads a secret over the text: one view for each encoding that the
    /// text has.
    pub(in crate::core::redact) fn gather(&self) -> Vec<Self> {
        let words = self.words(1, |byte| byte.is_ascii_alphanumeric());
        let mut gathered = Vec::new();
        for notation in Notation::ALL {
            gathered.extend(self.numbers(&words, notation));
            for width in [2, 4, 8] {
                gathered.extend(self.long_words(&words, notation, width));
            }
        }
        gathered.extend(self.quoted_printable());
        gathered.extend(self.uuencoded());
        gathered.extend(self.base32());
        gathered
    }

    /// Returns the text without what may split a secret or its base64: one view for each
    /// alphabet of base64.
    pub(in crate::core::redact) fn rejoin(&self) -> [Self; 2] {
        [b"+/", b"-_"].map(|alphabet| {
            self.joined(|byte| byte.is_ascii_alphanumeric() || alphabet.contains(&byte))
        })
    }

    /// Decodes bytes that are written as numbers, whatever separates them. Words between
    /// them are skipped, such as the offsets in a dump.
    fn numbers(&self, words: &[Range<usize>], notation: Notation) -> Option<Self> {
        let mut decoded = Self::default();
        let mut count = 0;
        for word in words {
            let Some(bytes) = notation.bytes(&self.bytes[word.clone()]) else {
                continue;
            };
            count += 1;
            for byte in bytes {
                decoded.push(byte, self.source(word.clone()));
            }
        }
        (count >= MIN_NUMBERS).then_some(decoded)
    }

    /// Decodes numbers of `width` bytes, in either order of the bytes.
    fn long_words(&self, words: &[Range<usize>], notation: Notation, width: usize) -> Vec<Self> {
        let lengths = long_word_digits(notation, width);
        let lengths = *lengths.start()..=lengths.end() + MAX_NOTATION_PREFIX;
        let (mut in_order, mut reversed) = (Self::default(), Self::default());
        for word in words.iter().filter(|word| lengths.contains(&word.len())) {
            let Some(bytes) = notation.long_word(&self.bytes[word.clone()], width) else {
                continue;
            };
            let source = self.source(word.clone());
            for byte in &bytes[..width] {
                in_order.push(*byte, source.clone());
            }
            for byte in bytes[..width].iter().rev() {
                reversed.push(*byte, source.clone());
            }
        }
        let is_long = |view: &Self| view.len() >= MIN_NUMBERS;
        [in_order, reversed].into_iter().filter(is_long).collect()
    }

    /// Decodes lines of uuencode, from each of their first characters on, as far as they are
    /// readable. Each line begins with its length, and a blank is a digit.
    fn uuencoded(&self) -> Option<Self> {
        let mut decoded = Self::default();
        for line in self.words(MIN_UUENCODED_CHARS, |byte| matches!(byte, b' '..=b'`')) {
            for offset in 0..4 {
                self.decode_readable(line.start + offset..line.end, 4, &mut decoded, |digits| {
                    (digits.len() > 1).then(|| uuencoded_group(digits))
                });
            }
        }
        (decoded.len() > 0).then_some(decoded)
    }

    /// Decodes `=XX`, and joins the lines that a `=` at their ends breaks.
    fn quoted_printable(&self) -> Option<Self> {
        let mut decoded = Self::with_capacity(self.bytes.len());
        let mut has_escapes = false;
        let mut at = 0;
        while at < self.bytes.len() {
            let length = match &self.bytes[at..] {
                [b'=', b'\r', b'\n', ..] => 3,
                [b'=', b'\n', ..] => 2,
                [b'=', digits @ ..] => {
                    let byte = digits
                        .get(..2)
                        .and_then(|digits| Notation::Hexadecimal.bytes(digits));
                    match byte.as_deref() {
                        Some([byte]) => {
                            let source = self.source(at..at + 3);
                            decoded.push(*byte, source);
                            3
                        }
                        _ => 0,
                    }
                }
                _ => 0,
            };
            if length == 0 {
                decoded.copy(self, at..at + 1);
                at += 1;
            } else {
                has_escapes = true;
                at += length;
            }
        }
        has_escapes.then_some(decoded)
    }

    /// Decodes long words in base32: one view for each offset in the groups of eight.
    fn base32(&self) -> Vec<Self> {
        let words = self.words(MIN_BASE32_CHARS, |byte| base32_value(byte).is_some());
        self.decode_words(&words, 8, |view, digits, source| {
            let bits = digits.iter().fold(0_u64, |bits, digit| {
                bits << 5 | u64::from(base32_value(*digit).unwrap_or_default())
            });
            let bits = bits << (5 * (8 - digits.len()));
            for (index, byte) in bits.to_be_bytes()[3..].iter().enumerate() {
                let (first, last) = (index * 8 / 5, (index * 8 + 7) / 5);
                if last < digits.len() {
                    view.push(*byte, source(first..last + 1));
                }
            }
        })
    }

    /// Returns the view of the kept characters alone, as one word.
    fn joined(&self, is_kept: impl Fn(u8) -> bool) -> Self {
        let mut joined = Self::with_capacity(self.bytes.len());
        for (at, byte) in self.bytes.iter().enumerate() {
            if is_kept(*byte) {
                joined.copy(self, at..at + 1);
            }
        }
        joined
    }
}

/// Returns the bytes of a group of uuencode. Those that a short one lacks repeat its first.
fn uuencoded_group(digits: &[u8]) -> [u8; 3] {
    let bits = digits.iter().fold(0_u32, |bits, digit| {
        bits << 6 | u32::from(digit.wrapping_sub(b' ') & 0x3f)
    });
    let [_, mut bytes @ ..] = (bits << (6 * (4 - digits.len()))).to_be_bytes();
    let first = bytes[0];
    bytes[digits.len() - 1..].fill(first);
    bytes
}

fn base32_value(byte: u8) -> Option<u8> {
    match byte.to_ascii_uppercase() {
        letter @ b'A'..=b'Z' => Some(letter - b'A'),
        digit @ b'2'..=b'7' => Some(digit - b'2' + 26),
        _ => None,
    }
}
