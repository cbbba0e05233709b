//! Names a few of many things in a message.

use std::fmt::Display;

/// The number of things that a message names.
pub const NAMED_ITEMS: usize = 10;

/// Returns the first ten of these, and the number of the others: everybody who can create
/// credentials decides how many there are, and a message is one line.
pub fn join_few<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut items = items.into_iter();
    let named = items.by_ref().take(NAMED_ITEMS);
    let named: Vec<_> = named.map(|item| item.to_string()).collect();
    let named = named.join(", ");
    match items.count() {
        0 => named,
        others => format!("{named} and {others} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_are_named_and_the_others_counted() {
        for (count, expected) in [
            (0, ""),
            (1, "0"),
            (2, "0, 1"),
            (10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
            (11, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 1 more"),
            (3_000, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2990 more"),
        ] {
            assert_eq!(join_few(0..count), expected);
        }
    }
}
