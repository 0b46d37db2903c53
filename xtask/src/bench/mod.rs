//! How fast pgmove is beside other ways to move a database: `cargo xtask bench`.
//!
//! Both servers and every contestant run in one container, made of tests/images/bench, whose scripts are the whole of
//! what is measured; this program only calls them in turn. The contestants take turns (A B C A B C ...), each into a new
//! database after a checkpoint, so that what else the machine does meets all of them alike. Nothing here is a test:
//! figures depend on the machine, and a bound that is missed is printed, not an error.
//!
//! Results are a table on stdout and `target/bench/results.json`; `--write` puts the table into docs/performance.md.

mod case;
mod container;
mod contestant;
mod report;
mod results;
mod tunnels;

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::{images, process};
use case::Case;
use container::Container;
use contestant::{Contestant, PEAK_LANES};
use results::{CaseResults, Machine, Results, Run};

/// What to measure.
#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent option")]
pub(crate) struct Arguments {
    /// Small databases: shows that everything works; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Measure tunnels through a Kubernetes control plane instead, beside kube's forwarder and kubectl.
    #[arg(long, conflicts_with_all = ["cases", "pgmove", "keep"])]
    cluster: bool,
    /// Only these [default: library, relational, wide].
    #[arg(long = "case", value_name = "CASE", value_enum)]
    cases: Vec<Case>,
    /// How often each contestant runs.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Measure this program; else pgmove is built here, in the release profile.
    #[arg(long, value_name = "FILE")]
    pgmove: Option<PathBuf>,
    /// Put the tables into docs/performance.md.
    #[arg(long, conflicts_with_all = ["quick", "cases"])]
    write: bool,
    /// Leave the container running, with the last case's databases.
    #[arg(long)]
    keep: bool,
}

/// Builds what is measured, measures, and reports.
///
/// # Errors
/// When an image, the container or pgmove cannot be made, or when a contestant fails or leaves something out.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.cluster {
        return tunnels::run(arguments);
    }
    let pgmove = match &arguments.pgmove {
        Some(file) => file.clone(),
        None => build()?,
    };
    images::build()?;
    let container = Container::start(&pgmove, arguments.keep)?;
    let has_archive = container.output(&["pgmove", "run", "--help"])?.contains("--archive");
    let cases = if arguments.cases.is_empty() { &Case::USUAL } else { arguments.cases.as_slice() };
    let mut results =
        Results { machine: Machine::read(&container)?, quick: arguments.quick, cases: Vec::new() };
    for &case in cases {
        let mut contestants = Contestant::all(case, has_archive);
        if arguments.quick {
            for contestant in &mut contestants {
                contestant.bound = None;
            }
        }
        results.cases.push(measure(&container, case, &contestants, arguments)?);
        // After each case: a run that is ended early has not been for nothing.
        write_json("results.json", &results)?;
    }
    print!("{}", report::text(&results));
    if arguments.write {
        report::write(report::BEGIN, &report::text(&results))?;
    }
    Ok(())
}

/// Fills the source once, and lets the contestants take turns.
fn measure(
    container: &Container,
    case: Case,
    contestants: &[Contestant],
    arguments: &Arguments,
) -> Result<CaseResults> {
    eprintln!("{}: filling the source", case.name());
    let size = if arguments.quick { case.quick_size() } else { case.size() };
    container.script("fresh.sh", &["5431", case.extension()])?;
    let words = case.arguments(size);
    container.script(case.script(), &words.iter().map(String::as_str).collect::<Vec<_>>())?;
    let bytes = container.script("size.sh", &[])?.trim().parse().context("the size of the source")?;
    let mut results = CaseResults::new(case, size, bytes, contestants);
    for round in 1..=arguments.runs {
        let mut first: Option<Run> = None;
        for (contestant, runs) in contestants.iter().zip(&mut results.contestants) {
            let mut run = once(container, case, contestant)?;
            if let (true, Some(first)) = (contestant.continues, first) {
                run = run.after(&first);
            }
            first = Some(run.clone());
            eprintln!("{} {round}/{}: {:<28} {run}", case.name(), arguments.runs, contestant.name);
            runs.runs.push(run);
        }
    }
    let lanes = PEAK_LANES.to_string();
    container.script("fresh.sh", &["5432", case.extension()])?;
    let peak = Run::parse(&container.script("measure.sh", &["pgmove.sh", "--jobs", &lanes])?)?;
    eprintln!("{}: pgmove with {lanes} lanes: {peak}", case.name());
    results.peak_bytes = peak.peak_bytes;
    Ok(results)
}

/// One run of one contestant into a new database.
fn once(container: &Container, case: Case, contestant: &Contestant) -> Result<Run> {
    if !contestant.continues {
        container.script("fresh.sh", &["5432", case.extension()])?;
    }
    let mut words = vec![contestant.script];
    words.extend(contestant.arguments);
    let mut run = Run::parse(&container.script("measure.sh", &words)?).context(contestant.name)?;
    container.script("check.sh", &[]).with_context(|| format!("{} left something out", contestant.name))?;
    if contestant.archives {
        run.archive_bytes = Some(container.script("size.sh", &["archive"])?.trim().parse()?);
    }
    Ok(run)
}

/// Builds pgmove in the release profile.
fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--package=pgmove", "--bin=pgmove"])
        .current_dir(process::workspace());
    process::run(&mut command)?;
    Ok(process::target().join("release/pgmove"))
}

fn write_json(name: &str, results: &impl Serialize) -> Result<()> {
    let directory = process::target().join("bench");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name), serde_json::to_string_pretty(results)?)?;
    Ok(())
}
