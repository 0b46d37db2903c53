//! A move to look at: a legacy server with a photo library, a new one, and the real `pgmove run` between them.
//!
//! Takes nothing but the machine that `cargo xtask servers` needs, and gives pgmove's own exit code. Everything it makes
//! stands in one temporary directory; a guard removes that, and stops the servers, however the demo ends.

use std::{
    fs,
    io::{IsTerminal, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, bail};
use signal_hook::consts::SIGINT;

use crate::{
    postgres::{Cluster, SUPERUSER, SUPERUSER_PASSWORD},
    process, servers,
};

/// How large, and what stays.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Photos of the library; each has about two embeddings of 512 dimensions, and 4 kB in other tables and indexes.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    photos: u32,
    /// Leave both servers running, to look at what was moved.
    #[arg(long)]
    keep: bool,
}

/// The source: its owner, also the name of the database.
const LEGACY: &str = "immich";
const LEGACY_PASSWORD: &str = "legacy-demo";

/// The target: its owner, also the name of the database.
const APP: &str = "app";
const APP_PASSWORD: &str = "app-demo";

/// The legacy server and the new one.
pub(crate) const SERVERS: [u32; 2] = [15, 18];

/// Shows a move and ends with pgmove's exit code.
///
/// # Errors
/// When the servers cannot be got, started or filled, when pgmove cannot be built, or at an interrupt before it runs.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let begun = Instant::now();
    let steps = Steps { interrupted: Arc::default() };
    steps.show("getting the servers")?;
    let installs = servers::provide_some(&SERVERS)?;
    let [old, new] = &installs[..] else { bail!("there are {} servers", installs.len()) };
    steps.show("building pgmove")?;
    let pgmove = process::build("release")?;

    // From here on an interrupt ends the program that runs, and then the demo; pgmove has its own way to stop.
    signal_hook::flag::register(SIGINT, Arc::clone(&steps.interrupted))?;
    let home = Home::make()?;
    steps.show(&format!(
        "starting two servers: PostgreSQL {} as the legacy one, {} as the new one",
        old.version, new.version
    ))?;
    println!(
        "    The extensions `vectors` (legacy) and `vchord` (new) are stand-ins of this\n    \
             repository for pgvecto.rs and VectorChord: their names and SQL, other code\n    \
             (tests/fixtures/extensions). PostgreSQL, pgvector and pgmove are real."
    );
    let legacy = Cluster::start(old, &home.path.join("legacy"), "vectors")?;
    let target = Cluster::start(new, &home.path.join("new"), "vchord")?;
    steps.show(&format!("filling the legacy server with a library of {} photos", arguments.photos))?;
    fill(&legacy, arguments.photos)?;
    steps.show(&format!("making an empty database `{APP}` on the new server, for an ordinary role"))?;
    prepare(&target)?;

    let run_dir = home.path.join("run");
    let mut command = Command::new(&pgmove);
    command
        .args(["run", "--source", &legacy.uri(LEGACY, LEGACY), "--target", &target.uri(APP, APP)])
        .args(["--target-admin", &target.uri(SUPERUSER, APP), "--owner", APP, "--fence"])
        .arg("--client-directory")
        .arg(&new.client_bin_dir)
        .arg("--run-dir")
        .arg(&run_dir);
    let passwords = [
        ("PGMOVE_SOURCE_PASSWORD", LEGACY_PASSWORD),
        ("PGMOVE_TARGET_PASSWORD", APP_PASSWORD),
        ("PGMOVE_TARGET_ADMIN_PASSWORD", SUPERUSER_PASSWORD),
    ];
    steps.show("moving it")?;
    for (name, _) in passwords {
        println!("{name}=*** \\");
    }
    println!("{}\n", process::describe(&command).replace(" --", " \\\n    --"));
    let status = command.envs(passwords).status().with_context(|| pgmove.display().to_string())?;
    let Some(code) = status.code() else { bail!("pgmove ended with {status}") };
    println!();
    print_title(&format!(
        "pgmove ended with exit code {code}; all in all {} seconds",
        begun.elapsed().as_secs()
    ));
    if arguments.keep {
        home.keep(&legacy, &target)?;
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// The steps, as they are shown.
struct Steps {
    interrupted: Arc<AtomicBool>,
}

impl Steps {
    /// Tells what comes next, unless an interrupt came before.
    fn show(&self, title: &str) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        print_title(title);
        Ok(())
    }
}

fn print_title(title: &str) {
    if std::io::stdout().is_terminal() {
        println!("\x1b[1m==> {title}\x1b[0m");
    } else {
        println!("==> {title}");
    }
}

/// The sample library, in the order of its README.
fn fill(legacy: &Cluster, photos: u32) -> Result<()> {
    let sources = process::workspace().join("tests/fixtures/library");
    let files = |names: &[&str]| -> Vec<PathBuf> {
        names.iter().map(|name| sources.join(name).with_extension("sql")).collect()
    };
    let role = format!("CREATE ROLE {LEGACY} LOGIN PASSWORD '{LEGACY_PASSWORD}'");
    let database = format!("CREATE DATABASE {LEGACY} OWNER {LEGACY}");
    legacy.psql(SUPERUSER, "postgres", &[&role, &database], &[])?;
    legacy.psql(SUPERUSER, LEGACY, &[], &files(&["roles", "extensions"]))?;
    for file in ["schema", "vectors-legacy", "oddities"] {
        legacy.psql(LEGACY, LEGACY, &[], &files(&[file]))?;
    }
    legacy.psql(LEGACY, LEGACY, &[&format!("SET library.photos = '{photos}'")], &files(&["fill"]))?;
    for file in ["vectors-legacy-indexes", "contrib", "grants", "settings"] {
        legacy.psql(LEGACY, LEGACY, &[], &files(&[file]))?;
    }
    Ok(())
}

/// What an administrator makes before a move: the roles, and an empty database.
fn prepare(target: &Cluster) -> Result<()> {
    let roles = process::workspace().join("tests/fixtures/library/roles.sql");
    let role =
        format!("CREATE ROLE {APP} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{APP_PASSWORD}'");
    let database = format!("CREATE DATABASE {APP} OWNER {APP}");
    target.psql(SUPERUSER, "postgres", &[&role, &database], &[roles])
}

/// A directory for servers, with the guard that will end them and clear it up.
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    guard: Child,
}

impl Home {
    /// In the directory for temporary files.
    pub(crate) fn make() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("pgmove-demo-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let guard = Command::new("sh")
            .args(["-c", include_str!("demo-guard.sh"), "demo-guard"])
            .arg(&path)
            .stdin(Stdio::piped())
            // An interrupt from the terminal is for the demo; the guard notices when it is gone.
            .process_group(0)
            .spawn()
            .context("sh")?;
        // Another user runs the servers, and passes through.
        process::run(Command::new("chmod").arg("a+rx").arg(&path))?;
        Ok(Self { path, guard })
    }

    /// Leaves everything where it is, and tells how to reach and how to end it.
    fn keep(mut self, legacy: &Cluster, target: &Cluster) -> Result<()> {
        writeln!(self.guard.stdin.as_mut().context("stdin is piped")?, "keep")?;
        println!("Both servers go on:");
        println!("    legacy    {} (password {LEGACY_PASSWORD})", legacy.uri(LEGACY, LEGACY));
        println!("    new       {} (password {APP_PASSWORD})", target.uri(APP, APP));
        println!("To end them and remove everything:");
        let path = self.path.display();
        println!("    kill $(head --quiet --lines=1 {path}/*/data/postmaster.pid); sleep 2; rm -r {path}");
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Closes its stdin first, and returns when everything is gone.
        let _ = self.guard.wait();
    }
}
