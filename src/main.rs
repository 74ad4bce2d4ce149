//! Podwire, the program.
fn main() {}
