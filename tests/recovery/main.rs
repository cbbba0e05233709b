//! The real binary under interruptions: killed at random moments, and under a clock that
//! is set while it runs. Each part names the variables that make it run longer, or at
//! all.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod clock;
mod damaged_files;
mod kill;
mod restored_backup;
#[path = "../support/seed.rs"]
mod seed;
#[path = "../support/mod.rs"]
mod support;
