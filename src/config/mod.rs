//! The configuration file: read, checked, every problem at once.
