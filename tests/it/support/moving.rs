//! Running `pgmove run` between two databases, and looking at it from outside while it runs.

use std::{
    fs::File,
    io::{Read, Seek},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Database, command::pgmove_process, psql};

/// Longer than any step of a sample move takes.
const LIMIT: Duration = Duration::from_secs(240);

/// A move of one database, with a run directory of its own.
pub(crate) struct Move {
    /// Where the source is; a test may put a proxy in between.
    pub(crate) source: String,
    /// Where the target is.
    pub(crate) target: String,
    /// The target's superuser; none for a run without `--target-admin`.
    pub(crate) admin: Option<String>,
    /// Options of every run.
    pub(crate) options: Vec<String>,
    directory: tempfile::TempDir,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// The exit code; none when a signal ended it.
    pub(crate) code: Option<i32>,
    /// stdout, then stderr.
    pub(crate) output: String,
}

impl Ended {
    /// Fails, with all output, unless the exit code is this and the output holds these phrases, wrapped or not.
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, phrases: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.output);
        let unwrapped = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for phrase in phrases {
            assert!(
                unwrapped(&self.output).contains(&unwrapped(phrase)),
                "no {phrase:?} in:\n{}",
                self.output
            );
        }
    }
}

impl Move {
    /// From one database into another, with two lanes.
    pub(crate) fn new(source: &Database, target: &Database) -> Self {
        Self {
            source: source.uri(),
            target: target.uri(),
            admin: Some(target.admin_uri()),
            options: vec!["--jobs=2".into()],
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// With one more option for every run.
    pub(crate) fn with(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    /// The run directory; made by the first run.
    pub(crate) fn run_dir(&self) -> std::path::PathBuf {
        self.directory.path().join("run")
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = pgmove_process();
        command.arg("run").args(["--source", &self.source, "--target", &self.target]);
        command.arg("--run-dir").arg(self.run_dir());
        if let Some(admin) = &self.admin {
            command.args(["--target-admin", admin]);
        }
        command.args(&self.options).args(more).stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, more: &[&str]) -> Ended {
        self.start(more).wait()
    }

    /// Starts a run.
    pub(crate) fn start(&self, more: &[&str]) -> Running {
        Running::start(&mut self.command(more))
    }

    /// Fails unless the run directory holds nothing to resume: a refused run leaves its report, and no more.
    #[track_caller]
    pub(crate) fn assert_left_only_a_report(&self) {
        let entries = std::fs::read_dir(self.run_dir()).expect("a refused run leaves a report");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("a readable entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["report.html", "report.json"], "a refused run leaves nothing to resume");
    }

    /// The run's report.
    pub(crate) fn report(&self) -> Value {
        let text = std::fs::read(self.run_dir().join("report.json")).expect("a run has a report");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    /// The records of the run's journal.
    pub(crate) fn journal(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.run_dir().join("journal.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

/// A run under way; killed when dropped.
pub(crate) struct Running {
    child: Child,
    output: File,
}

impl Running {
    /// Starts pgmove with these arguments.
    pub(crate) fn start(command: &mut Command) -> Self {
        let output = tempfile::tempfile().expect("a temporary file");
        let both = || Stdio::from(output.try_clone().expect("a file handle"));
        let child = command.stdout(both()).stderr(both()).spawn().expect("pgmove starts");
        Self { child, output }
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Ended {
        self.wait_and(|_| ())
    }

    /// Waits for its end; also the most memory that it ever had, in KiB.
    pub(crate) fn measure(self) -> (Ended, u64) {
        let mut peak = 0;
        let ended = self.wait_and(|process| {
            // Gone between its end and the look at it.
            let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
            peak = peak.max(kib.unwrap_or(0));
        });
        (ended, peak)
    }

    /// Looks at the process again and again until its end.
    fn wait_and(mut self, mut look: impl FnMut(u32)) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if start.elapsed() > LIMIT {
                let _ = self.child.kill();
                panic!("pgmove goes on and on:\n{}", self.output());
            }
            look(self.child.id());
            thread::sleep(Duration::from_millis(5));
        };
        Ended { code: status.code(), output: self.output() }
    }

    /// What it has printed so far.
    pub(crate) fn output(&mut self) -> String {
        let mut text = String::new();
        self.output.rewind().and_then(|()| self.output.read_to_string(&mut text)).expect("a readable file");
        text
    }

    /// Waits until it has begun a stage, or is over. Whether it has.
    pub(crate) fn reaches(&mut self, stage: &str) -> bool {
        let begins = |line: &str| line.starts_with(stage) && line.contains("started");
        while self.is_running() {
            if self.output().lines().any(begins) {
                return true;
            }
            thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Ends it at once, as a crash of its machine would.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("its parent may kill it");
        self.child.wait().expect("a child can be waited for");
    }

    /// What Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.signal("INT");
    }

    /// Sends a signal, named without its SIG.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the statement, run as superuser in the database, answers `t`, or the run is over. Whether it did.
pub(crate) fn wait_until(running: &mut Running, database: &Database, statement: &str) -> bool {
    let uri = database.admin_uri();
    while running.is_running() {
        // The tables that are asked about may not be there yet.
        if psql(&uri, statement).as_deref() == Ok("t") {
            return true;
        }
        // What is waited for needs the processor, too.
        thread::sleep(Duration::from_millis(5));
    }
    false
}
