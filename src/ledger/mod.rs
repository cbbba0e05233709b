//! SQLite: what was done and what is known.
