//! Base85 in its three alphabets: five characters for four bytes. Words in it are decoded
//! as far as they are readable.

use std::ops::{Range, RangeInclusive};

use super::View;

/// The minimum length of a word that is decoded: eight bytes.
const MIN_CHARS: usize = 10;

/// The fewest readable bytes in a row that are kept: fewer are there by chance.
const MIN_READABLE_BYTES: usize = 8;

/// The digits of RFC 1924, as in Git and Python, and of ZeroMQ.
const RFC_1924: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
const ZERO_MQ: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// The values of the characters of one alphabet.
type Values = [Option<u8>; 256];

static ALPHABETS: [Values; 3] = [ascii85(), values(RFC_1924), values(ZERO_MQ)];

/// Returns the values of Ascii85, whose digits are in the order of ASCII.
const fn ascii85() -> Values {
    let mut values = [None; 256];
    let mut digit = 0;
    while digit < 85 {
        values[digit as usize + 33] = Some(digit);
        digit += 1;
    }
    values
}

const fn values(digits: &[u8; 85]) -> Values {
    let mut values = [None; 256];
    let mut digit = 0;
    while digit < 85 {
        values[digits[digit as usize] as usize] = Some(digit);
        digit += 1;
    }
    values
}

/// The values of the first digit of a group whose first byte is readable.
const READABLE_FIRST: RangeInclusive<u8> = 10..=40;

impl View {
    /// Decodes long words, in each alphabet and from each of their characters on. Nearly
    /// every text is such a word, so only what is readable afterwards is kept. None if
    /// nothing is.
    pub(in crate::core::redact) fn base85(&self) -> Option<Self> {
        let mut decoded = Self::default();
        for values in &ALPHABETS {
            for word in self.words(MIN_CHARS, |byte| values[usize::from(byte)].is_some()) {
                for offset in 0..5.min(word.len()) {
                    self.decode_readable(
                        word.start + offset..word.end,
                        5,
                        &mut decoded,
                        |digits| decode_group(digits, values),
                    );
                }
            }
        }
        (decoded.len() > 0).then_some(decoded)
    }

    /// Decodes a word in groups of digits, and appends each long run of readable bytes.
    pub(super) fn decode_readable<const N: usize>(
        &self,
        word: Range<usize>,
        group: usize,
        decoded: &mut Self,
        decode: impl Fn(&[u8]) -> Option<[u8; N]>,
    ) {
        let (mut run, mut start) = (Vec::new(), word.start);
        let mut at = word.start;
        while at < word.end {
            let end = word.end.min(at + group);
            let digits = &self.bytes[at..end];
            let bytes = decode(digits).filter(|bytes| bytes.iter().all(u8::is_ascii_graphic));
            if let Some(bytes) = bytes {
                run.extend_from_slice(&bytes[..(digits.len() - 1).min(N)]);
            } else {
                self.append_run(&run, start, group, decoded);
                run.clear();
                start = end;
            }
            at = end;
        }
        self.append_run(&run, start, group, decoded);
    }

    /// Appends bytes that were decoded from groups of digits from `start` on, unless they
    /// are too few to be a part of a secret.
    fn append_run(&self, run: &[u8], start: usize, group: usize, decoded: &mut Self) {
        if run.len() < MIN_READABLE_BYTES {
            return;
        }
        // No fragment reaches from one run into the next.
        decoded.push(0xff, self.source(start..start + 1));
        for (index, byte) in run.iter().enumerate() {
            let at = start + index / (group - 1) * group;
            let end = self.bytes.len().min(at + group);
            decoded.push(*byte, self.source(at..end));
        }
    }
}

/// Returns the bytes of a group, which may be shorter at the end of a word. The bytes that
/// a short one lacks repeat its first.
fn decode_group(digits: &[u8], values: &Values) -> Option<[u8; 4]> {
    let first = values[usize::from(digits[0])]?;
    if digits.len() < 2 || !READABLE_FIRST.contains(&first) {
        return None;
    }
    let mut number = 0_u64;
    for index in 0..5 {
        let digit = digits
            .get(index)
            .map_or(Some(84), |digit| values[usize::from(*digit)]);
        number = number * 85 + u64::from(digit?);
    }
    let mut bytes = u32::try_from(number).ok()?.to_be_bytes();
    let first = bytes[0];
    bytes[digits.len() - 1..].fill(first);
    Some(bytes)
}
