//! The `flash` binary.

fn main() {}
