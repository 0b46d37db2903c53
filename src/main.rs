//! The `pgmove` program: parse, run, exit code. Everything else is in the library.

fn main() {}
