//! What needs no server: prompts, signals, paths, and what a command leaves behind that could not begin.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::pgmove;

/// An interrupt is obeyed within this time; a silent server is waited for longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A command on a terminal of its own (util-linux's `script`), followed by the terminal's settings.
struct Terminal {
    script: Child,
    shown: tempfile::NamedTempFile,
}

impl Terminal {
    fn start(home: &Path, arguments: &str) -> Self {
        let shown = tempfile::NamedTempFile::new().expect("a temporary file");
        let pgmove = env!("CARGO_BIN_EXE_pgmove");
        // The shell outlives an interrupt, to tell how its terminal was left.
        let words = format!(
            "trap : INT; tty; sh -c 'echo process $$; exec {pgmove} {arguments}'; code=$?; stty -a; exit $code"
        );
        let script = Command::new("script")
            .args(["--quiet", "--return", "--command", &words, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("HOME", home)
            .env_remove("PGMOVE_SOURCE_PASSWORD")
            .env_remove("PGMOVE_TARGET_PASSWORD")
            .stdin(Stdio::piped())
            .stdout(shown.reopen().expect("a file handle"))
            .spawn()
            .expect("util-linux is there");
        Self { script, shown }
    }

    fn shown(&self) -> String {
        let mut bytes = Vec::new();
        self.shown.reopen().and_then(|mut file| file.read_to_end(&mut bytes)).expect("a readable file");
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits until the prompt stands and nothing is echoed any more.
    #[track_caller]
    fn wait_for_prompt(&self) {
        let begun = Instant::now();
        loop {
            let shown = self.shown();
            let settings =
                Command::new("stty").args(["-a", "-F", shown.lines().next().unwrap_or("-")]).output();
            let settings = settings.expect("coreutils are there");
            if shown.contains("Password for") && String::from_utf8_lossy(&settings.stdout).contains("-isig") {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "no prompt in:\n{shown}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn type_keys(&mut self, keys: &str) {
        let input = self.script.stdin.as_mut().expect("stdin is piped");
        input.write_all(keys.as_bytes()).and_then(|()| input.flush()).expect("script reads");
    }

    fn process(&self) -> String {
        let shown = self.shown();
        let line = shown.lines().find_map(|line| line.strip_prefix("process ")).expect("the shell tells it");
        line.trim().to_owned()
    }

    /// The exit code, and everything that was shown.
    #[track_caller]
    fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        while self.script.try_wait().expect("a child can be waited for").is_none() {
            assert!(begun.elapsed() < PATIENCE, "it goes on and on:\n{}", self.shown());
            thread::sleep(Duration::from_millis(10));
        }
        (self.script.wait().expect("it has ended").code(), self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

const NOWHERE: &str = "postgres://u@127.0.0.1:1/d";

#[test]
fn an_interrupt_at_a_prompt_ends_the_command_and_leaves_the_terminal_as_it_was() {
    let home = tempfile::tempdir().expect("a temporary directory");
    for by_key in [true, false] {
        let mut terminal =
            Terminal::start(home.path(), &format!("verify --source {NOWHERE} --target {NOWHERE}"));
        terminal.wait_for_prompt();
        if by_key {
            terminal.type_keys("\x03");
        } else {
            signal(&terminal.process(), "TERM");
        }
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(130), "{shown}");
        assert!(shown.contains("run it again") || shown.contains("compare again"), "{shown}");
        assert!(!shown.contains("--resume") && shown.matches("Password for").count() == 1, "{shown}");
        for setting in ["isig", "icanon", "echo"] {
            assert!(shown.split([' ', '\n']).any(|word| word == setting), "no {setting} in:\n{shown}");
        }
    }
}

#[test]
fn connection_strings_are_read_before_a_password_is_asked_for() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let wrong = "postgres://u@h/d?sslmod=require";
    for options in [
        format!("--source {NOWHERE} --target {wrong}"),
        format!("--source {NOWHERE} --target {NOWHERE} --target-admin {wrong}"),
    ] {
        let (code, shown) = Terminal::start(home.path(), &format!("run --dry-run {options}")).end();
        assert_eq!(code, Some(2), "{shown}");
        assert!(shown.contains("sslmod") && !shown.contains("Password for"), "{shown}");
    }
}

fn signal(process: &str, name: &str) {
    let status = Command::new("kill").args(["-s", name, process]).status();
    assert!(status.expect("kill runs").success());
}

/// Ends what does not end by itself.
fn end(mut child: Child) -> Output {
    let begun = Instant::now();
    while child.try_wait().expect("a child can be waited for").is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().expect("its parent may kill it");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("it has ended")
}

/// Starts pgmove with signal HUP as by default, or ignored as by nohup, and waits until it has connected to a server that says nothing.
fn wait_at_a_silent_server(directory: &Path, hangup: &str, command: &str) -> (Child, std::net::TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = server.local_addr().expect("it is bound").port();
    // Not as this process inherited it: the tests may be run by nohup.
    let child = Command::new("env")
        .arg(format!("--{hangup}-signal=HUP"))
        .args([env!("CARGO_BIN_EXE_pgmove"), command])
        .arg(format!("--source=postgres://u:p@127.0.0.1:{port}/d?sslmode=disable"))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("env runs");
    (child, server.accept().expect("pgmove connects").0)
}

#[test]
fn whatever_asks_a_command_to_end_ends_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for command in ["fence", "unfence"] {
        for name in ["INT", "TERM", "HUP"] {
            let (child, _connection) = wait_at_a_silent_server(directory.path(), "default", command);
            signal(&child.id().to_string(), name);
            let output = end(child);
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(130), "{command}, {name}: {text}");
            assert!(text.contains(&format!("{command} again")) && !text.contains("--resume"), "{text}");
        }
    }
    let left = std::fs::read_dir(directory.path()).expect("a readable directory").count();
    assert_eq!(left, 0, "nothing was begun");
}

#[test]
fn nohup_outlives_its_terminal() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (child, connection) = wait_at_a_silent_server(directory.path(), "ignore", "fence");
    signal(&child.id().to_string(), "HUP");
    // Signals come in the order of their numbers: had the first one counted, this would end the process by that.
    drop(connection);
    assert_eq!(end(child).status.code(), Some(3), "it went on to what the server said");
}

#[test]
fn a_fence_that_could_not_begin_leaves_nothing_and_has_nothing_to_resume() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for command in ["fence", "unfence"] {
        let output = pgmove()
            .args([command, "--source", "postgres://u:p@127.0.0.1:1/d"])
            .current_dir(directory.path())
            .output()
            .expect("pgmove runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command}: {text}");
        assert!(text.contains("127.0.0.1:1") && !text.contains("--resume"), "{text}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("a readable directory").count(), 0);
}

#[test]
fn a_path_that_is_no_directory_is_no_archive_whatever_is_done_with_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::create_dir(directory.path().join("run")).expect("made");
    std::fs::write(directory.path().join("run/journal.jsonl"), "").expect("written");
    std::fs::write(directory.path().join("file"), "").expect("written");
    let target = "--target=postgres://u:p@127.0.0.1:1/d";
    let refused = |arguments: &[&str], phrase: &str| {
        let output = pgmove().args(arguments).current_dir(directory.path()).output().expect("pgmove runs");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(phrase), "{arguments:?}: {text}");
    };
    for archive in ["nowhere", "file"] {
        let hint = "name the archive's directory";
        refused(&["archive", "check", archive], hint);
        for options in [&["--run-dir=new"][..], &["--dry-run"], &["--resume", "--run-dir=run"]] {
            refused(&[&["restore", target, "--archive", archive], options].concat(), hint);
        }
        // Which run is meant comes first.
        refused(&["restore", target, "--archive", archive, "--resume", "--run-dir=other"], "other");
    }
    assert!(!directory.path().join("new").exists());
}

#[test]
fn what_a_comparison_does_not_use_is_no_option_of_it() {
    let output = pgmove()
        .args(["verify", "--source", NOWHERE, "--target", NOWHERE, "--target-admin", NOWHERE])
        .output()
        .expect("pgmove runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--target-admin"));
}
