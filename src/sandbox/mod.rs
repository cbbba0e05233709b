//! The local Admin API with faults.
