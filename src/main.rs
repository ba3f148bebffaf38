//! The `gatecast` program.

fn main() {}
