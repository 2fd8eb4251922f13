//! The lwnflog command.
fn main() {}
