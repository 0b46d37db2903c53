//! The command line: parse, make settings, run a command, print its result, end with its exit code.

mod arguments;
mod check;
mod cluster;
mod commands;
mod connections;
mod defect;
mod endpoints;
mod fence;
mod freeze;
mod help;
mod init;
mod layers;
mod manual;
mod plan;
mod privileges;
mod prompt;
mod rbac;
mod rehearse;
mod rights;
mod rollback;
mod runs;
mod screen;
mod unreached;

use std::env;
use std::ffi::OsString;
use std::panic::{UnwindSafe, catch_unwind};
use std::process::ExitCode;

use futures_util::future::OptionFuture;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Exit};
use crate::event::Events;
use crate::report::{self, CommandResult, Listener};

use arguments::{Display, Output};
use commands::{Ended, Failed};
use layers::{Settled, Unsettled};
use screen::Screen;

/// Runs the program.
pub fn main() -> ExitCode {
    ExitCode::from(guarded(run).code())
}

/// A panic outside of a command, told to a person: what stdout is to carry may not be known.
fn guarded(work: impl FnOnce() -> Exit + UnwindSafe) -> Exit {
    catch_unwind(work).unwrap_or_else(|panic| {
        let screen = Screen::new(&Display { output: Output::Text, quiet: false, verbose: 0 });
        fail(&defect::error(&*panic).into(), screen)
    })
}

fn run() -> Exit {
    let typed: Vec<OsString> = env::args_os().collect();
    let Settled { arguments, layers, notes } = match layers::settle(&typed, env::vars_os().collect()) {
        Ok(settled) => settled,
        Err(Unsettled::CommandLine(error)) => error.exit(),
        Err(Unsettled::Setting(error, output)) => {
            let screen = Screen::new(&Display { output, quiet: false, verbose: 0 });
            return fail(&Error::new(Exit::Usage, error).into(), screen);
        }
    };
    let screen = Screen::new(&arguments.display);
    let (events, receiver) = Events::channel();
    let listener = Listener::start(screen.mode, receiver);
    log(arguments.display.verbose, &listener);
    if !arguments.command.prints_content() {
        for note in notes {
            events.note(note);
        }
        if let Some(warning) = layers.warning() {
            events.warn(warning);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime needs only what a running process has");
    let command = async {
        let stop = CancellationToken::new();
        tokio::spawn(Signals::listen().obey(stop.clone(), events.clone()));
        commands::dispatch(&arguments.command, &layers, &events, &stop).await
    };
    let (ended, timings) = carry_out(command, runtime, listener);
    match ended {
        Ok(ended) => {
            show(&ended, &timings, screen);
            ended.exit
        }
        Err(failed) => fail(&failed, screen),
    }
}

/// Runs a command to its end, whatever that is, and what shows its progress.
fn carry_out(
    command: impl Future<Output = Result<Ended, Failed>>,
    runtime: Runtime,
    listener: Listener,
) -> (Result<Ended, Failed>, report::Timings) {
    let ended = runtime.block_on(defect::caught(command));
    if matches!(&ended, Err(failed) if failed.error.exit == Exit::Internal) {
        // Nobody tells the threads to stop that worked beside what has panicked.
        runtime.shutdown_background();
    }
    (ended, listener.finish())
}

fn fail(Failed { error, again }: &Failed, screen: Screen) -> Exit {
    if screen.output == Output::Json {
        report::print(&failure(error));
    } else {
        report::complain(&report::error(error, *again, screen.stderr));
    }
    error.exit
}

/// The last line of what has failed.
fn failure(error: &Error) -> String {
    CommandResult { error: Some(error.into()), ..CommandResult::new(error.exit) }.line()
}

fn show(ended: &Ended, timings: &report::Timings, screen: Screen) {
    if let Some(content) = &ended.content {
        report::print(content);
        return;
    }
    if let Some(found) = &ended.report {
        report::print(&runs::rendered(found, screen));
        return;
    }
    if screen.output == Output::Json {
        let comparison = ended.comparison.as_ref();
        let result = CommandResult {
            verdict: comparison.map(crate::verify::Comparison::verdict),
            sentence: comparison.map(|comparison| report::sentence(comparison, ended.scope)),
            comparison,
            findings: (ended.survey.is_some() || !ended.findings.is_empty())
                .then_some(ended.findings.as_slice()),
            summary: ended.survey.as_ref(),
            plan: ended.plan.as_ref(),
            settings: ended.settings.as_ref(),
            lines: (!ended.lines.is_empty()).then_some(ended.lines.as_slice()),
            freeze: ended.freeze.as_ref(),
            restoration: ended.restoration.as_ref(),
            status: ended.status.as_ref().map(|(status, _)| status),
            rehearsal: ended.rehearsal.as_ref(),
            // Two results of an unchanged world are the same where nothing but a plan comes of it.
            timings: (ended.status.is_none() && ended.plan.is_none()).then_some(timings),
            ..CommandResult::new(ended.exit)
        };
        report::print(&result.line());
        return;
    }
    let page = screen.stdout;
    if let Some((status, directory)) = &ended.status {
        report::print(&status.text(directory, page));
    }
    if let Some(summary) = ended.survey.as_ref().filter(|_| !screen.is_quiet) {
        report::print(&report::survey(summary, page));
    }
    if ended.survey.is_some() || !ended.findings.is_empty() {
        report::print(&report::findings(&ended.findings, ended.exit, page));
    }
    if let Some(plan) = &ended.plan {
        report::print(&report::plan(plan, screen.is_verbose, page));
    }
    if let Some(settings) = &ended.settings {
        report::print(&report::settings(settings, page));
    }
    if let Some(plan) = &ended.freeze {
        report::print(&report::freeze(plan, page));
    }
    if let Some(found) = &ended.restoration {
        report::print(&report::restoration(found, page));
    }
    if let Some(comparison) = &ended.comparison {
        report::print(&if screen.is_quiet {
            format!("{}\n", report::sentence(comparison, ended.scope))
        } else {
            report::closing(comparison, timings, ended.scope, screen.is_verbose, page)
        });
    }
    if let Some(rehearsal) = &ended.rehearsal {
        report::print(&format!("\n{}", rehearsal.text(page)));
    }
    for line in &ended.lines {
        report::print(&format!("{}\n", report::escape(line)));
    }
}

/// What asks the process to end: Ctrl-C, `kill` and `docker stop`, a terminal that is gone.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    fn listen() -> Self {
        let listen = |kind| signal(kind).expect("a handler can be set for these signals");
        Signals {
            interrupt: listen(SignalKind::interrupt()),
            terminate: listen(SignalKind::terminate()),
            // `nohup` wants the process to outlive its terminal.
            hangup: (!ignores_hangup()).then(|| listen(SignalKind::hangup())),
        }
    }

    /// The first one stops at the next safe point, the second one stops now.
    async fn obey(mut self, stop: CancellationToken, events: Events) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
                Some(_) = OptionFuture::from(self.hangup.as_mut().map(Signal::recv)) => {}
            }
            if stop.is_cancelled() {
                std::process::exit(Exit::Interrupted.code().into());
            }
            events.warn("stopping at the next safe point; interrupt again to stop now");
            stop.cancel();
        }
    }
}

/// Whether the process was started with SIGHUP ignored; where the system does not tell, it was not.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The lowest bit is signal 1, which is SIGHUP.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// These libraries log what they carry: answers that hold Secrets, outputs of credential plugins, PostgreSQL's messages.
const SILENCED: &str = "kube_client=off,tungstenite=off";

/// The libraries' log, for `-vv` and `-vvv`, between the bars.
fn log(verbose: u8, listener: &Listener) {
    let level = match verbose {
        0 | 1 => "warn",
        2 => "debug",
        _ => "trace",
    };
    let writer = listener.log();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{level},{SILENCED}")))
        .with_writer(move || writer.clone())
        .without_time()
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_by_its_exit_code() {
        assert_eq!(guarded(|| panic!("a defect")), Exit::Internal);
        assert_eq!(guarded(|| Exit::Refused), Exit::Refused);
    }

    #[test]
    fn a_panic_in_a_command_ends_it_as_an_error_does() {
        let (events, receiver) = Events::channel();
        let listener = Listener::start(report::Mode::Quiet, receiver);
        let command = async {
            events.note("it began");
            // A lane, which goes on.
            tokio::task::spawn_blocking(|| {
                loop {
                    std::thread::park();
                }
            });
            panic!("chunk {} is not there", 3)
        };
        let runtime = Runtime::new().expect("a runtime");
        let (ended, _) = carry_out(command, runtime, listener);
        let Failed { error, again } = ended.expect_err("it has panicked");
        let result: serde_json::Value = serde_json::from_str(&failure(&error)).expect("it is JSON");
        insta::assert_snapshot!(serde_json::to_string_pretty(&result).expect("it was JSON"));
        let page = report::Page { width: 110, is_coloured: false };
        insta::assert_snapshot!(report::error(&error, again, page));
    }
}
