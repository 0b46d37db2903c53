//! The project's own commands: `cargo xtask servers | images | demo | compose | cluster | test | bench`.
//!
//! They need Debian 12 on x86-64, Rust, Python and the network to package registries. What else they use (PostgreSQL,
//! pip, npm, a container engine) is installed by apt-get where it is missing and root runs them, else named.

mod bench;
mod cluster;
mod compose;
mod debian;
mod demo;
mod engine;
mod extensions;
mod images;
mod install;
mod npm;
mod pgvector;
mod postgres;
mod process;
mod servers;
mod test;
mod wheel;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Gets the PostgreSQL servers that the tests run on, and lists them in target/servers/servers.json.
    Servers,
    /// Builds the container images of tests/images, with an engine started where none runs.
    Images,
    /// Moves a sample photo library from a legacy server to a new one, both started for it.
    Demo(demo::Arguments),
    /// Shows the move of docker-compose.yml, with images built here and an engine started where none runs.
    Compose(compose::Arguments),
    /// Starts or ends a Kubernetes control plane on loopback, built where it is not there yet.
    Cluster(cluster::Arguments),
    /// Gets the servers, checks format and lints, and runs every test.
    Test(test::Arguments),
    /// Compares pgmove's speed with other ways to move a database, in one container.
    Bench(bench::Arguments),
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Servers => {
            for install in servers::provide()? {
                println!("{install}");
            }
        }
        Command::Images => images::build()?,
        Command::Demo(arguments) => return demo::run(&arguments),
        Command::Compose(arguments) => return compose::run(&arguments),
        Command::Cluster(arguments) => cluster::run(&arguments)?,
        Command::Test(arguments) => test::run(&arguments)?,
        Command::Bench(arguments) => bench::run(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}
