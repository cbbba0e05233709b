//! Drives rotations.
