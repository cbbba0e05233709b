//! Finds fragments of a secret in a text.

use std::ops::Range;

use secrecy::zeroize::Zeroizing;

/// The number of consecutive bytes of a secret that are a fragment. Shorter ones occur in
/// harmless words.
const FRAGMENT_LEN: usize = 10;

/// The number of bits of a byte that [`Pairs`] tells apart: enough for the letters, once
/// their case is folded.
const PAIR_BITS: u32 = 6;

/// The fragments of a secret, whatever the case of its letters.
pub(crate) struct Fragments {
    folded: Zeroizing<Vec<u8>>,
    pairs: Pairs,
}

/// The pairs of neighbouring bytes in a secret: one bit rules a byte out.
struct Pairs(Zeroizing<Vec<u64>>);

impl Fragments {
    pub(super) fn new(value: &str) -> Self {
        let folded = Zeroizing::new(value.as_bytes().to_ascii_lowercase());
        let pairs = Pairs::new(&folded);
        Self { folded, pairs }
    }

    /// Returns the ranges of `text` that hold fragments. `text` is in lower case.
    pub(crate) fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let length = FRAGMENT_LEN.min(self.folded.len());
        let mut found: Vec<Range<usize>> = Vec::new();
        // The number of bytes up to here, each of which may follow the one before it.
        let mut candidates = 1;
        for (at, pair) in text.windows(2).enumerate() {
            candidates = if self.pairs.has(pair[0], pair[1]) {
                candidates + 1
            } else {
                1
            };
            let end = at + 2;
            if candidates < length {
                continue;
            }
            let fragment = end - length..end;
            let mut fragments = self.folded.windows(length);
            if fragments.any(|part| part == &text[fragment.clone()]) {
                match found.last_mut() {
                    Some(last) if fragment.start <= last.end => last.end = end,
                    _ => found.push(fragment),
                }
            }
        }
        found
    }

    /// Returns the length of the start of the secret that `text` ends with; zero if it
    /// does not.
    pub(crate) fn len_at_end(&self, text: &[u8]) -> usize {
        let longest = FRAGMENT_LEN.min(self.folded.len()).min(text.len());
        let lengths = (1..=longest).rev();
        let mut matching = lengths.filter(|length| text.ends_with(&self.folded[..*length]));
        matching.next().unwrap_or(0)
    }
}

impl Pairs {
    fn new(folded: &[u8]) -> Self {
        let mut pairs = Self(Zeroizing::new(vec![0; 1 << (2 * PAIR_BITS - 6)]));
        for pair in folded.windows(2) {
            let (word, bit) = Self::position(pair[0], pair[1]);
            pairs.0[word] |= bit;
        }
        pairs
    }

    fn has(&self, first: u8, second: u8) -> bool {
        let (word, bit) = Self::position(first, second);
        self.0[word] & bit != 0
    }

    fn position(first: u8, second: u8) -> (usize, u64) {
        let mask = (1 << PAIR_BITS) - 1;
        let index = (usize::from(first) & mask) << PAIR_BITS | (usize::from(second) & mask);
        (index / 64, 1 << (index % 64))
    }
}
