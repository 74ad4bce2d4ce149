//! The pretend cluster as a program.
fn main() {}
