//! Letters in another shape: full-width, mathematical, circled and others.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// The first of 26 capital letters in a shape that Unicode does not decompose: in negative
/// circles, in negative squares, and of regions.
const UNDECOMPOSED: [u32; 3] = [0x1_f150, 0x1_f170, 0x1_f1e6];

/// Returns the ASCII characters that a character shows in another shape.
pub(super) fn plain_letters(character: char) -> Option<String> {
    if character.is_ascii() {
        return None;
    }
    let code = u32::from(character);
    let index = UNDECOMPOSED
        .iter()
        .find_map(|first| code.checked_sub(*first).filter(|at| *at < 26));
    if let Some(index) = index.and_then(|index| u8::try_from(index).ok()) {
        return Some(char::from(b'A' + index).to_string());
    }
    let mut buffer = [0; 4];
    let normalizer = ComposingNormalizerBorrowed::new_nfkc();
    match normalizer.normalize(character.encode_utf8(&mut buffer)) {
        Cow::Owned(shown) => Some(shown).filter(|shown| shown.is_ascii()),
        Cow::Borrowed(_) => None,
    }
}
