//! Finds the secrets in memory, in whatever encoding.

use std::collections::VecDeque;
use std::ops::Range;

use super::view::View;
use crate::core::secret::{self, LiveSecret};

/// How often a text is decoded: a percent-encoded JSON text with a value in base64 is
/// decoded three times, and each log that quotes such a text adds an escape.
const MAX_DEPTH: usize = 5;

/// The limit of all decoded texts: this many times the length of the text, and at least
/// the next number of bytes. Few decodings of a real text hold anything at all.
const MAX_GROWTH: usize = 32;
const MIN_BUDGET: usize = 256 * 1024;

/// How often a text without what splits its words is decoded: it may be base64.
const REJOINED_DEPTH: usize = 1;

/// The length of the longest escape, in bytes. A cut one at the end of a text cannot be
/// decoded.
const MAX_ESCAPE_LEN: usize = 12;

/// Returns the ranges of the text that hold a secret in memory: ten characters in a row
/// of it, in any case and encoding. In a cut text, also the start of a secret at its end,
/// however short.
pub(super) fn find(text: &str, is_cut: bool) -> Vec<Range<usize>> {
    find_any(&secret::live_secrets(), text, is_cut)
}

/// Returns the ranges of the text that hold one of these secrets.
pub(super) fn find_any(live: &[LiveSecret], text: &str, is_cut: bool) -> Vec<Range<usize>> {
    let is_at_end = |range: &Range<usize>| text.len() - range.end < MAX_ESCAPE_LEN;
    let mut found = Vec::new();
    if live.is_empty() {
        return found;
    }
    let mut budget = MIN_BUDGET.max(MAX_GROWTH * text.len());
    // What is decoded less often comes first, as long as the budget lasts.
    let mut views = VecDeque::from([(View::new(text), MAX_DEPTH)]);
    while let Some((view, depth)) = views.pop_front() {
        let Some(rest) = budget.checked_sub(view.len()) else {
            break;
        };
        budget = rest;
        views.extend(view.with_plain_letters().map(|view| (view, depth)));
        let condensed = view.condense();
        let folded = condensed.folded();
        for secret in live {
            let fragments = secret.fragments();
            let ranges = fragments.find(&folded).into_iter();
            found.extend(ranges.map(|range| condensed.source(range)));
            let length = fragments.len_at_end(&folded);
            if is_cut && length > 0 {
                let range = condensed.source(folded.len() - length..folded.len());
                found.extend(is_at_end(&range).then_some(range));
            }
        }
        if depth == MAX_DEPTH {
            views.extend(view.rejoin().into_iter().map(|view| (view, REJOINED_DEPTH)));
        }
        if depth < MAX_DEPTH && !view.has_text() {
            continue;
        }
        if let Some(depth) = depth.checked_sub(1) {
            let decoded = view.unescape().into_iter();
            let decoded = decoded
                .chain(condensed.base64())
                .chain(condensed.hex())
                .chain(condensed.base85())
                .chain(view.gather());
            views.extend(decoded.map(|view| (view, depth)));
        }
    }
    if is_cut {
        let at_end = found.iter_mut().filter(|range| is_at_end(range));
        at_end.for_each(|range| range.end = text.len());
    }
    found
}
