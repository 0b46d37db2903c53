//! The project's own commands: `cargo xtask demo | test | bench`.

fn main() {}
