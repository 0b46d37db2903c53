//! The `pgmove` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    pgmove::cli::main()
}
