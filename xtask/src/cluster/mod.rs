//! A real Kubernetes control plane on loopback: `cargo xtask cluster up | down`.
//!
//! API server with RBAC, etcd, controllers and scheduler; kwok, which says of every pod that it runs; the streams of a
//! node, which lead port-forward and exec to servers and programs of this machine; Flux's kustomize-controller; and the
//! definitions of `CloudNativePG`'s and Flux's custom resources. docs/cluster.md tells how it is used.
//!
//! All of it stands in `target/cluster`, and nothing of it outlives `down`. `up` starts what does not run, so it also
//! brings back a part that has ended. Fails with the last lines of what did not get ready.

mod credentials;
mod go;
mod parts;
mod programs;
mod state;

use std::{
    env,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use self::{
    programs::Programs,
    state::{Process, State},
};
use crate::{process, servers};

/// How long each part may take until it does its work, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(180);

/// Whose `psql` and `pg_dump` an exec finds.
const NEWEST_CLIENT: u32 = 18;

/// What to do with it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Builds the programs where they are not there yet, starts what does not run, and returns when all is ready.
    Up,
    /// Ends what `up` has started, and removes its data.
    Down,
}

/// Carries out the command.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match arguments.action {
        Action::Up => up(),
        Action::Down => down(),
    }
}

fn directory() -> PathBuf {
    process::target().join("cluster")
}

/// What runs, for the tests.
pub(crate) fn list() -> PathBuf {
    directory().join("cluster.json")
}

/// Ends the control plane when this process ends, however it does, or when it is dropped.
pub(crate) struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Closes its stdin first. It has said what went wrong.
        let _ = self.0.wait();
    }
}

/// Makes sure that all runs for a while; what ran before goes on afterwards.
pub(crate) fn up_meanwhile() -> Result<Option<Guard>> {
    if State::read(&list())?.is_some_and(|state| state.processes.iter().all(Process::runs)) {
        return up().map(|()| None);
    }
    let guard = Command::new("sh")
        .args(["-c", "cat; exec \"$0\" cluster down"])
        .arg(env::current_exe()?)
        .stdin(Stdio::piped())
        // An interrupt from the terminal is not for it.
        .process_group(0)
        .spawn()
        .context("sh")?;
    let guard = Guard(guard);
    up()?;
    Ok(Some(guard))
}

/// How to reach what runs.
pub(crate) struct Running {
    pub(crate) kubectl: Kubectl,
    /// The processes that carry a port-forward's bytes: API server and node.
    pub(crate) carriers: Vec<u32>,
}

/// What runs, after [`up_meanwhile`].
pub(crate) fn running() -> Result<Running> {
    let state = State::read(&list())?.context("no control plane runs")?;
    let program = Programs::provide()?.program("kubectl");
    let carriers = state
        .processes
        .iter()
        .filter(|process| ["kube-apiserver", "kubelet-streams"].contains(&&*process.name));
    Ok(Running {
        carriers: carriers.filter_map(Process::id).collect(),
        kubectl: Kubectl { program, kubeconfig: state.kubeconfig },
    })
}

/// Makes sure that all runs and is ready.
fn up() -> Result<()> {
    let programs = Programs::provide()?;
    let _lock = lock()?;
    let mut state = match State::read(&list())? {
        Some(state) if state.is_of(&programs) => state,
        former => {
            if let Some(former) = former {
                end(&former)?;
            }
            lay_out(&programs)?
        }
    };
    if state.processes.iter().all(Process::runs) {
        eprintln!("the control plane runs: {}", state.kubeconfig.display());
        return Ok(());
    }
    let kubectl = Kubectl { program: programs.program("kubectl"), kubeconfig: state.kubeconfig.clone() };
    // The others end when they find no API server, or none that knows their objects.
    start(&mut state, |name| ["etcd", "kube-apiserver"].contains(&name))?;
    wait(&state, "kube-apiserver", || kubectl.answers(&["get", "--raw=/readyz"]))?;
    kubectl.apply(&programs.definitions())?;
    wait(&state, "kube-apiserver", || {
        kubectl.answers(&["wait", "--for=condition=Established", "crd", "--all"])
    })?;
    start(&mut state, |_| true)?;
    kubectl.apply(&process::workspace().join("tests/cluster/node.yaml"))?;
    wait(&state, "kwok", || {
        kubectl.answers(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=1s"])
    })?;
    wait(&state, "kube-controller-manager", || kubectl.answers(&["get", "serviceaccount", "default"]))?;
    eprintln!("the control plane is ready: {}", state.kubeconfig.display());
    Ok(())
}

/// Ends what runs, and removes all but the logs.
fn down() -> Result<()> {
    let _lock = lock()?;
    match State::read(&list())? {
        Some(state) => end(&state),
        None => Ok(()),
    }
}

/// Held while processes are started or ended.
fn lock() -> Result<File> {
    fs::create_dir_all(directory())?;
    let lock = File::create(directory().join("lock"))?;
    lock.lock()?;
    Ok(lock)
}

/// A new one, of which nothing runs yet.
fn lay_out(programs: &Programs) -> Result<State> {
    for entry in directory().read_dir()? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(path)?;
        }
    }
    let newest = servers::provide_some(&[NEWEST_CLIENT])?.pop().context("a server was asked for")?;
    parts::lay_out(programs, &directory(), &newest.client_bin_dir)
}

/// Starts those of these names that do not run, and waits until they listen.
fn start(state: &mut State, is_meant: impl Fn(&str) -> bool) -> Result<()> {
    for index in 0..state.processes.len() {
        let process = &mut state.processes[index];
        if is_meant(&process.name) && !process.runs() {
            process.start()?;
            state.write(&list())?;
        }
    }
    for process in state.processes.iter().filter(|process| is_meant(&process.name)) {
        wait(state, &process.name, || process.listens())?;
    }
    Ok(())
}

/// Waits until a part does its work; an error when it ends before, or takes too long.
fn wait(state: &State, name: &str, is_ready: impl Fn() -> bool) -> Result<()> {
    let process =
        state.processes.iter().find(|process| process.name == name).context("a part has a process")?;
    let start = Instant::now();
    while !is_ready() {
        ensure!(process.runs(), "{name} has ended; its log says:\n{}", process.last_words());
        ensure!(
            start.elapsed() < START_LIMIT,
            "{name} is not ready after {} s; its log says:\n{}",
            START_LIMIT.as_secs(),
            process.last_words()
        );
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Ends the last that was started first, for those before would be missed.
fn end(state: &State) -> Result<()> {
    for process in state.processes.iter().rev() {
        process.end()?;
    }
    for process in &state.processes {
        while process.runs() {
            thread::sleep(Duration::from_millis(20));
        }
    }
    fs::remove_file(list())?;
    for data in ["etcd", "credentials", "kubectl"] {
        let path = directory().join(data);
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// kubectl, as the administrator.
pub(crate) struct Kubectl {
    program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Kubectl {
    /// kubectl, to be given its arguments.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.arg("--cache-dir").arg(directory().join("kubectl"));
        command
    }

    fn answers(&self, arguments: &[&str]) -> bool {
        let mut command = self.command();
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Makes or changes the objects of a file, or of the files of a directory.
    fn apply(&self, path: &Path) -> Result<()> {
        let mut command = self.command();
        command.args(["apply", "--server-side", "--field-manager=xtask", "--filename"]).arg(path);
        // What it says of each object is of no interest.
        process::output(&mut command).map(drop)
    }
}
