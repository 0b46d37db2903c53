//! What was measured, and what follows from it: medians, spread, ratios. Written as it is to results.json.

use std::{fmt, fs, process::Command};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::{
    case::Case,
    container::Container,
    contestant::{Contestant, PEAK_BOUND, PGMOVE},
};
use crate::process;

/// Everything of one `cargo xtask bench`.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    pub(super) machine: Machine,
    /// Small databases: the figures mean nothing.
    pub(super) quick: bool,
    pub(super) cases: Vec<CaseResults>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Host {
    /// Day, in UTC.
    pub(super) date: String,
    pub(super) commit: String,
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) memory_bytes: u64,
    pub(super) kernel: String,
}

/// Where and with what it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    #[serde(flatten)]
    pub(super) host: Host,
    /// What each program calls itself.
    pub(super) versions: Vec<String>,
    /// The lines of tests/images/bench/postgresql.conf.
    pub(super) server_settings: Vec<String>,
}

/// One case.
#[derive(Debug, Serialize)]
pub(super) struct CaseResults {
    pub(super) case: Case,
    /// Rows, or pgbench's scale.
    pub(super) size: u32,
    /// The source's database with its indexes.
    pub(super) database_bytes: u64,
    pub(super) contestants: Vec<ContestantResults>,
    /// Of pgmove with four lanes.
    pub(super) peak_bytes: u64,
}

/// All runs of one contestant.
#[derive(Debug, Serialize)]
pub(super) struct ContestantResults {
    pub(super) name: &'static str,
    /// The most that pgmove's time may be of this one's.
    pub(super) bound: Option<f64>,
    /// In the order of the rounds.
    pub(super) runs: Vec<Run>,
}

/// One run of one contestant.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
    /// Wall clock.
    pub(super) seconds: f64,
    /// Processor time of the contestant's own processes, without the servers'.
    pub(super) user_seconds: f64,
    pub(super) system_seconds: f64,
    /// Of its largest process.
    pub(super) peak_bytes: u64,
    /// Processor time of everything in the container, both servers included.
    pub(super) all_seconds: f64,
    /// The machine's load average over one minute, when the run ended.
    pub(super) load: f64,
    pub(super) archive_bytes: Option<u64>,
}

/// pgmove's time beside another's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ratio {
    /// Of the medians.
    pub(super) value: f64,
    /// Smallest and largest of the rounds: what a busy machine does to one round it does to both.
    pub(super) rounds: (f64, f64),
}

impl Host {
    pub(super) fn read() -> Result<Self> {
        let field = |text: &str, name: &str| -> Option<String> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&fs::read_to_string("/proc/meminfo")?, "MemTotal").unwrap_or_default();
        let memory: u64 = memory.trim_end_matches(" kB").parse().context("MemTotal in /proc/meminfo")?;
        let mut git = Command::new("git");
        git.args(["rev-parse", "--short", "HEAD"]).current_dir(process::workspace());
        Ok(Self {
            date: process::output(Command::new("date").args(["--utc", "+%F"]))?.trim().to_owned(),
            commit: process::output(&mut git)?.trim().to_owned(),
            processor: field(&fs::read_to_string("/proc/cpuinfo")?, "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: memory * 1024,
            kernel: process::output(Command::new("uname").arg("-sr"))?.trim().to_owned(),
        })
    }
}

/// As the head of a page of results.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Host { date, commit, processor, cores, kernel, .. } = self;
        let memory = (self.memory_bytes + 500_000_000) / 1_000_000_000;
        write!(
            f,
            "Measured on {date} at commit {commit}: {cores} cores ({processor}), {memory} GB of memory, {kernel}."
        )
    }
}

impl Machine {
    pub(super) fn read(container: &Container) -> Result<Self> {
        Ok(Self {
            host: Host::read()?,
            versions: container.script("versions.sh", &[])?.lines().map(str::to_owned).collect(),
            server_settings: container
                .output(&["cat", "/bench/postgresql.conf"])?
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect(),
        })
    }
}

impl CaseResults {
    pub(super) fn new(case: Case, size: u32, database_bytes: u64, contestants: &[Contestant]) -> Self {
        let empty = |contestant: &Contestant| ContestantResults {
            name: contestant.name,
            bound: contestant.bound,
            runs: Vec::new(),
        };
        let contestants = contestants.iter().map(empty).collect();
        Self { case, size, database_bytes, contestants, peak_bytes: 0 }
    }

    /// pgmove's time beside this contestant's; none beside itself.
    pub(super) fn ratio(&self, other: &ContestantResults) -> Option<Ratio> {
        let own = self.contestants.iter().find(|contestant| contestant.name == PGMOVE)?;
        if own.name == other.name {
            return None;
        }
        let rounds = own.runs.iter().zip(&other.runs).map(|(own, other)| own.seconds / other.seconds);
        Some(Ratio { value: own.median() / other.median(), rounds: extremes(rounds) })
    }

    /// Whether pgmove's memory keeps within its bound.
    pub(super) fn peak_holds(&self) -> bool {
        self.peak_bytes <= PEAK_BOUND
    }
}

impl ContestantResults {
    /// The median of the runs' seconds.
    pub(super) fn median(&self) -> f64 {
        median(self.runs.iter().map(|run| run.seconds).collect())
    }

    /// The fastest and the slowest run's seconds.
    pub(super) fn spread(&self) -> (f64, f64) {
        extremes(self.runs.iter().map(|run| run.seconds))
    }

    /// The median of the contestant's own processor seconds.
    pub(super) fn own_processor(&self) -> f64 {
        median(self.runs.iter().map(|run| run.user_seconds + run.system_seconds).collect())
    }

    /// The median of the processor seconds of contestant and servers.
    pub(super) fn processor(&self) -> f64 {
        median(self.runs.iter().map(|run| run.all_seconds).collect())
    }
}

impl Run {
    /// Reads the line of measure.sh.
    pub(super) fn parse(line: &str) -> Result<Self> {
        let figures: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [seconds, user_seconds, system_seconds, _, all_seconds] = figures[..] else {
            bail!("measure.sh printed {line:?}");
        };
        let peak: u64 = line.split_whitespace().nth(3).unwrap_or_default().parse()?;
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().unwrap_or_default().parse()?;
        Ok(Self {
            seconds,
            user_seconds,
            system_seconds,
            peak_bytes: peak * 1024,
            all_seconds,
            load,
            archive_bytes: None,
        })
    }

    /// This run as the second half of one that `first` began.
    pub(super) fn after(self, first: &Self) -> Self {
        Self {
            seconds: first.seconds + self.seconds,
            user_seconds: first.user_seconds + self.user_seconds,
            system_seconds: first.system_seconds + self.system_seconds,
            peak_bytes: first.peak_bytes.max(self.peak_bytes),
            all_seconds: first.all_seconds + self.all_seconds,
            ..self
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, user_seconds, system_seconds, all_seconds, load, .. } = self;
        let (own, peak) = (user_seconds + system_seconds, self.peak_bytes >> 20);
        write!(f, "{seconds:6.2} s, processor {all_seconds:.2} s (own {own:.2} s), {peak} MiB, load {load}")
    }
}

/// The middle value, or the mean of the two in the middle; NaN of nothing.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values[..] {
        [] => f64::NAN,
        _ if values.len().is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

pub(super) fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, 0.0), |(low, high), value| (value.min(low), value.max(high)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(name: &'static str, seconds: &[f64]) -> ContestantResults {
        let run = |&seconds: &f64| Run { seconds, ..Run::parse("0 0.5 0.25 1024 7.5").expect("a line") };
        ContestantResults { name, bound: None, runs: seconds.iter().map(run).collect() }
    }

    #[test]
    fn the_median_ignores_one_slow_run() {
        assert!((runs("a", &[3.0, 90.0, 1.0]).median() - 3.0).abs() < 1e-9);
        assert!((runs("a", &[4.0, 1.0]).median() - 2.5).abs() < 1e-9);
        assert!(runs("a", &[]).median().is_nan());
    }

    #[test]
    fn ratios_are_of_medians_with_the_rounds_beside() {
        let case = CaseResults {
            case: Case::Wide,
            size: 1,
            database_bytes: 0,
            contestants: vec![runs(PGMOVE, &[1.0, 2.0, 3.0]), runs("other", &[4.0, 4.0, 4.0])],
            peak_bytes: PEAK_BOUND + 1,
        };
        assert_eq!(case.ratio(&case.contestants[0]), None);
        let ratio = Ratio { value: 0.5, rounds: (0.25, 0.75) };
        assert_eq!(case.ratio(&case.contestants[1]), Some(ratio));
        assert!(!case.peak_holds());
    }

    #[test]
    fn a_second_half_adds_up() {
        let first = Run::parse("1.5 0.5 0.25 2048 3.5\n").expect("a line");
        let both = Run::parse("0.5 0.1 0.15 1024 0.5\n").expect("a line").after(&first);
        assert!((both.seconds - 2.0).abs() < 1e-9);
        assert_eq!(both.peak_bytes, 2 << 20);
        assert!((both.all_seconds - 4.0).abs() < 1e-9);
        assert!(Run::parse("Command exited with non-zero status 1").is_err());
        assert!(Run::parse("1.5 0.5 0.25 2048").is_err());
    }
}
