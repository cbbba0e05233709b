//! Numbers of things in a message.

use std::fmt::Display;

/// Returns the number with its noun, which takes an `s` unless it is one: `1 key`, `2 keys`.
#[must_use]
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, noun: &str) -> String {
    let ending = if count == N::from(1) { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_is_singular() {
        assert_eq!(counted(0_usize, "key"), "0 keys");
        assert_eq!(counted(1_u32, "admin key"), "1 admin key");
        assert_eq!(counted(2_u64, "admin key"), "2 admin keys");
    }
}
