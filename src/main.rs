//! The `rekeyd` program.

fn main() {}
