//! How fast bytes get to a pod's server and back, and what they cost: `cargo xtask bench --cluster`.
//!
//! The way is the same for all: API server, node, PostgreSQL (docs/cluster.md). The contestants are pgmove's tunnels and
//! kube's own forwarder (benches/tunnel.rs), and `kubectl port-forward` with psql. Each carries the same COPY, to the
//! server and from it, over one connection and over four that share the bytes. The server does next to nothing with them:
//! rows to it are dropped by `WHERE false`, rows from it are one that it repeats.

mod contestant;
mod results;
mod way;

use anyhow::Result;

use super::{
    Arguments,
    report::{self, gigabytes},
    results::Host,
    write_json,
};
use contestant::{Contestant, Direction};
use results::{Results, Series};
use way::Way;

/// What stands in docs/performance.md before the figures.
const BEGIN: &str = "<!-- figures: written by `cargo xtask bench --cluster --write` -->";

/// How many connections share the bytes.
const TUNNELS: [u32; 2] = [1, 4];

/// Rows of 8 kB, of all connections together.
const ROWS: u32 = 100_000;
const QUICK_ROWS: u32 = 2_000;

/// Sets everything up, lets the contestants take turns, and reports.
///
/// # Errors
/// When the control plane, the server or the programs cannot be got, or when a contestant fails.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let program = contestant::build()?;
    let way = Way::make(if arguments.quick { QUICK_ROWS } else { ROWS })?;
    let mut results = Results {
        host: Host::read()?,
        quick: arguments.quick,
        bytes: way.bytes,
        versions: way.versions()?,
        series: Vec::new(),
    };
    for direction in [Direction::Up, Direction::Down] {
        for tunnels in TUNNELS {
            let mut series = Series::new(direction, tunnels);
            for round in 1..=arguments.runs {
                for (contestant, samples) in Contestant::ALL.into_iter().zip(&mut series.samples) {
                    let sample = contestant.measure(&way, &program, direction, tunnels)?;
                    eprintln!(
                        "{direction}, {tunnels} at once, {round}/{}: {:<30} {:6.2} s, {:4.0} MB/s",
                        arguments.runs,
                        contestant.name(),
                        sample.seconds,
                        gigabytes(way.bytes) * 1e3 / sample.seconds,
                    );
                    samples.push(sample);
                }
            }
            results.series.push(series);
            // After each series: a run that is ended early has not been for nothing.
            write_json("tunnels.json", &results)?;
        }
    }
    print!("{results}");
    if arguments.write {
        report::write(BEGIN, &results.to_string())?;
    }
    Ok(())
}
