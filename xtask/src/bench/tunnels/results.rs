//! What was measured, and what follows from it, as Markdown.

use std::fmt;

use serde::Serialize;

use super::{
    super::{
        report::gigabytes,
        results::{Host, extremes, median},
    },
    contestant::{Contestant, Direction},
};

/// Everything of one run.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    #[serde(flatten)]
    pub(super) host: Host,
    /// Few bytes: the figures mean nothing.
    pub(super) quick: bool,
    /// Of all connections of a measurement together.
    pub(super) bytes: u64,
    pub(super) versions: Vec<String>,
    pub(super) series: Vec<Series>,
}

/// One direction, with one number of connections.
#[derive(Debug, Serialize)]
pub(super) struct Series {
    pub(super) direction: Direction,
    pub(super) tunnels: u32,
    /// By contestant, in the order of the rounds.
    pub(super) samples: [Vec<Sample>; 3],
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Sample {
    /// Wall clock.
    pub(super) seconds: f64,
    /// Processor time of the contestant's own processes.
    pub(super) own_seconds: f64,
    /// That of API server and node.
    pub(super) carrier_seconds: f64,
}

impl Series {
    pub(super) fn new(direction: Direction, tunnels: u32) -> Self {
        Self { direction, tunnels, samples: Default::default() }
    }

    fn write(&self, f: &mut impl fmt::Write, bytes: u64) -> fmt::Result {
        let Self { direction, tunnels, .. } = self;
        let connections =
            if *tunnels == 1 { "one connection".to_owned() } else { format!("{tunnels} connections") };
        writeln!(
            f,
            "\n### {direction}, {connections}\n\n\
             | | median | slowest to fastest | its processor time for a GB | that of API server and node | pgmove / this | in single rounds | bound |\n\
             |---|---|---|---|---|---|---|---|"
        )?;
        let pgmove = &self.samples[0];
        for (contestant, samples) in Contestant::ALL.into_iter().zip(&self.samples) {
            let throughput = |sample: &Sample| gigabytes(bytes) * 1e3 / sample.seconds;
            let (slowest, fastest) = extremes(samples.iter().map(throughput));
            let per_gigabyte =
                |part: fn(&Sample) -> f64| median(samples.iter().map(part).collect()) / gigabytes(bytes);
            write!(
                f,
                "| {} | {:.0} MB/s | {slowest:.0} to {fastest:.0} MB/s | {:.2} s | {:.2} s |",
                contestant.name(),
                median(samples.iter().map(throughput).collect()),
                per_gigabyte(|sample| sample.own_seconds),
                per_gigabyte(|sample| sample.carrier_seconds),
            )?;
            if contestant == Contestant::Pgmove {
                writeln!(f, "  |  |  |")?;
                continue;
            }
            let ratio = times(samples) / times(pgmove);
            let (low, high) =
                extremes(samples.iter().zip(pgmove).map(|(other, own)| other.seconds / own.seconds));
            let bound = contestant.bound(*direction).map_or_else(String::new, |bound| {
                format!("≥ {bound}: {}", if ratio >= bound { "holds" } else { "**missed**" })
            });
            writeln!(f, " {ratio:.2} | {low:.2} to {high:.2} | {bound} |")?;
        }
        Ok(())
    }
}

/// The median of the seconds.
fn times(samples: &[Sample]) -> f64 {
    median(samples.iter().map(|sample| sample.seconds).collect())
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.host)?;
        if self.quick {
            writeln!(f, "Few bytes (--quick): the figures mean nothing.\n")?;
        }
        writeln!(
            f,
            "Versions: {}. Each measurement carries {:.2} GB.",
            self.versions.join("; "),
            gigabytes(self.bytes)
        )?;
        for series in &self.series {
            series.write(f, self.bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_for_throughput() {
        let sample = |seconds| Sample { seconds, own_seconds: 0.5, carrier_seconds: 2.0 };
        let samples = [[2.0, 2.0, 8.0], [4.0, 3.0, 3.0], [1.0, 1.0, 1.0]].map(|all| all.map(sample).to_vec());
        let series = Series { direction: Direction::Up, tunnels: 4, samples };
        let mut text = String::new();
        series.write(&mut text, 1_000_000_000).expect("a String takes every write");
        for line in [
            "### to the server, 4 connections",
            "| pgmove's tunnels | 500 MB/s | 125 to 500 MB/s | 0.50 s | 2.00 s |  |  |  |",
            "| kube's Portforwarder | 333 MB/s | 250 to 333 MB/s | 0.50 s | 2.00 s | 1.50 | 0.38 to 2.00 | ≥ 1.5: holds |",
            "| kubectl port-forward and psql | 1000 MB/s | 1000 to 1000 MB/s | 0.50 s | 2.00 s | 0.50 | 0.12 to 0.50 | ≥ 1: **missed** |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nis not in{text}");
        }
    }
}
