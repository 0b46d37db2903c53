//! The command line: parse, make settings, run a command, print its result, end with its exit code.

mod arguments;
mod connections;

use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Exit};
use crate::event::Events;
use crate::run;
use crate::settings::RunSettings;

use arguments::{Arguments, Command, Run};

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime needs only what a running process has");
    let exit = runtime.block_on(command(&arguments));
    ExitCode::from(exit.code())
}

async fn command(arguments: &Arguments) -> Exit {
    let (events, receiver) = Events::channel();
    let printer = std::thread::spawn(move || {
        for event in receiver {
            eprintln!("{event:?}");
        }
    });
    let stop = CancellationToken::new();
    tokio::spawn(interrupts(stop.clone()));
    let exit = match dispatch(arguments, &events, &stop).await {
        Ok(exit) => exit,
        Err(error) => {
            for (depth, message) in error.chain().iter().enumerate() {
                eprintln!("{}{message}", if depth == 0 { "error: " } else { "  because: " });
            }
            if let Some(hint) = error.fault.hint() {
                eprintln!("  next: {hint}");
            }
            error.exit
        }
    };
    drop(events);
    let _ = printer.join();
    exit
}

async fn dispatch(arguments: &Arguments, events: &Events, stop: &CancellationToken) -> Result<Exit, Error> {
    match &arguments.command {
        Command::Run(options) => {
            let settings = run_settings(options)?;
            match run::run(&settings, events, stop).await? {
                run::Outcome::Refused(findings) => {
                    println!("{findings:#?}");
                    Ok(Exit::Refused)
                }
                run::Outcome::Planned { plan, .. } => {
                    println!("{plan:#?}");
                    Ok(Exit::Done)
                }
                run::Outcome::Moved { comparison, verdict } => {
                    println!("{comparison:#?}");
                    Ok(verdict.exit())
                }
            }
        }
        Command::Verify(_) | Command::Fence(_) | Command::Unfence(_) => Ok(Exit::Internal),
    }
}

/// The first interrupt stops at the next safe point, the second one stops now.
async fn interrupts(stop: CancellationToken) {
    for _ in 0..2 {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        if stop.is_cancelled() {
            std::process::exit(Exit::Interrupted.code().into());
        }
        stop.cancel();
    }
}

fn run_settings(options: &Run) -> Result<RunSettings, Error> {
    const MIB: u64 = 1024 * 1024;
    let connections = connections::of(&options.endpoints)?;
    let run_dir = options
        .run_dir
        .clone()
        .unwrap_or_else(|| std::path::Path::new("pgmove-runs").join(connections.source.database()));
    Ok(RunSettings {
        choices: connections::choices(&options.choices),
        connections,
        dry_run: options.dry_run,
        digests: options.digests,
        resume: options.resume,
        fence: options.fence,
        run_dir,
        jobs: options.jobs,
        chunk_bytes: options.chunk_size.map(|size| size * MIB),
        index_memory: options.index_memory.map(|size| size * MIB),
        accept_writes: options.accept_writes,
        keep_ledger: options.keep_ledger,
    })
}
