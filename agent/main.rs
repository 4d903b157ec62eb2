//! wickie.

fn main() {}
