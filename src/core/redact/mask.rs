//! Replaces secrets in a text.

use std::ops::Range;

/// The replacement of a secret.
pub(super) const MASK: &str = "[secret]";

/// Replaces each group of overlapping or adjacent ranges by one mask.
pub(super) fn mask_ranges(text: &str, mut ranges: Vec<Range<usize>>) -> String {
    ranges.sort_by_key(|range| range.start);
    let mut masked = String::with_capacity(text.len());
    let mut done = 0;
    let mut has_mask = false;
    for range in ranges {
        if range.start > done || !has_mask {
            masked.push_str(&text[done..range.start]);
            masked.push_str(MASK);
            has_mask = true;
        }
        done = done.max(range.end);
    }
    masked.push_str(&text[done..]);
    masked
}
