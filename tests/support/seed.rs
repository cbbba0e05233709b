//! The seed of what a test leaves to chance: another one each time, printed, and repeatable.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;

/// Returns the seed that the environment variable gives, or else a fresh one, and prints it in
/// the form in which the variable repeats it.
pub fn seed_by(variable: &str) -> u64 {
    let given = std::env::var(variable).ok();
    let fresh = || RandomState::new().hash_one(0) >> 32;
    let seed = given.map_or_else(fresh, |seed| {
        seed.parse()
            .unwrap_or_else(|_| panic!("{variable} is a number"))
    });
    // Past the harness, which shows what a test prints only if it fails.
    let line = format!("{variable}={seed}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    seed
}
