//! `pgmove rehearse`: the whole move into a scratch database of the target, timed, measured, verified, and dropped.
//!
//! ```text
//! left-overs dropped -> scratch database -> the stages of a run, into it -> scratch database dropped
//!                                             (its size is watched)
//! ```
//!
//! The source sees what a run without a fence shows it: a snapshot, and reading. Nothing can be gone on with: the scratch
//! database is dropped however the rehearsal ends, and the run directory keeps the report alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Row;
use tokio_util::sync::CancellationToken;

use super::furnish::furnish;
use super::scratch_database::{ScratchDatabase, ScratchError, remove_left_over, within};
use super::{Context, Outcome, check, new_run_id, run_as};
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::event::Events;
use crate::journal::{JournalError, Record, RunDirectory};
use crate::pg::{Access, Endpoint, Session, SessionError};
use crate::report::files::{self, PAGE, REPORT};
use crate::report::{self, Again, Peak, REHEARSE_AGAIN, Rehearsal, Report, Space, Window};
use crate::settings::RunSettings;

/// How often the space is measured.
const LOOK: Duration = Duration::from_secs(1);

/// A rehearsal did not come to its end; nothing is left of it.
#[derive(Debug)]
struct BrokenOff(Box<dyn Fault>);

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rehearsal was broken off")
    }
}

impl std::error::Error for BrokenOff {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.as_ref())
    }
}

impl Fault for BrokenOff {
    fn class(&self) -> Class {
        self.0.class()
    }

    fn hint(&self) -> Option<String> {
        // There is nothing to go on with.
        self.0.hint().filter(|hint| !hint.contains("resume"))
    }
}

/// Rehearses a move; `settings` are those of a run. `stop` is cancelled by an interrupt.
pub async fn rehearse(
    settings: &RunSettings,
    events: &Events,
    stop: &CancellationToken,
) -> Result<(Outcome, Option<Rehearsal>), Error> {
    let refused = |error: ScratchError| Error::new(Exit::Refused, error);
    let run = new_run_id();
    let name = Context::application_name(&run);
    let target = settings.connections.endpoint(Side::Target, &name);
    let admin = settings.connections.admin(&name).ok_or_else(|| refused(ScratchError::NoAdmin))?;
    tidy(&settings.run_dir)?;
    let preparing = async {
        let read = check::read(&target).await.map_err(|fault| Error { exit: Exit::Refused, fault })?;
        let session = Session::open(&admin, Access::Write, "pg_catalog").await;
        let session = session.map_err(|error| refused(error.into()))?;
        for left in remove_left_over(&session).await.map_err(refused)? {
            events.warn(left.to_string());
        }
        Ok::<_, Error>((read.catalog, session))
    };
    let (catalog, session) = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(Error::new(Exit::Interrupted, super::Interrupted)),
        prepared = Box::pin(preparing) => prepared?,
    };
    let scratch = ScratchDatabase::create(&target, Some(&admin), &catalog.session.role, &run).await;
    let scratch = scratch.map_err(refused)?;
    let mut rehearsed = None;
    let dropped = within(scratch, events, async |scratch| {
        let refused = |error: SessionError| Error::new(Exit::Refused, error);
        furnish(scratch, &catalog, events).await.map_err(refused)?;
        let settings = settings_within(settings, scratch);
        let mut measured = Measured::begin(&session, scratch.name()).await.map_err(refused)?;
        let outcome = {
            let work = Box::pin(run_as(&settings, run.clone(), events, stop));
            beside(work, measured.follow()).await
        };
        // A moment before it is dropped, all of it is there.
        let has_ended = measured.look().await.is_ok() && !measured.is_broken;
        let space = has_ended.then_some(measured.most);
        if space.is_none() {
            events.warn(
                "the space that the rehearsal needed is not known: the session that measured it is lost",
            );
        }
        // Not the run's outcome but that of the work within the database: it is dropped all the same.
        rehearsed = Some((outcome, space));
        Ok(())
    })
    .await;
    session.close().await;
    let Some((outcome, space)) = rehearsed else {
        return Err(dropped.expect_err("else there is an outcome"));
    };
    let rehearsal = conclude(settings, &target, &run, space, events);
    if let Err(left) = dropped {
        if let Err(error) = outcome {
            events.warn(format!("the rehearsal had broken off before: {}", error.chain().join(": ")));
        }
        return Err(left);
    }
    match outcome {
        Ok(outcome) => Ok((outcome, rehearsal)),
        Err(error) => Err(Error { fault: Box::new(BrokenOff(error.fault)), exit: error.exit }),
    }
}

/// Works, with something beside it that only looks.
async fn beside<T>(work: impl Future<Output = T>, looking: impl Future<Output = ()>) -> T {
    let (mut work, mut looking) = (std::pin::pin!(work), std::pin::pin!(looking));
    tokio::select! {
        done = &mut work => return done,
        () = &mut looking => {}
    }
    work.await
}

/// Takes away what a rehearsal that was killed has left in the run directory.
fn tidy(path: &Path) -> Result<(), Error> {
    let usage = |error| Error::new(Exit::Usage, error);
    match RunDirectory::open(path) {
        Ok(directory) => {
            let is_rehearsal = |record: &Record| matches!(record, Record::Rehearsal { .. });
            let records = directory.records();
            if !(records.is_empty() || records.iter().any(is_rehearsal)) {
                return Err(usage(JournalError::Exists(path.to_owned())));
            }
            directory.remove();
            files::remove_progress(path);
            Ok(())
        }
        Err(JournalError::Missing(_)) => Ok(()),
        Err(error) => Err(usage(error)),
    }
}

/// The run's settings, with the scratch database as its target.
fn settings_within(settings: &RunSettings, scratch: &ScratchDatabase) -> RunSettings {
    RunSettings {
        connections: scratch.connections(&settings.connections),
        rehearsal: Some(scratch.name().to_owned()),
        // An application goes on writing; what is compared is the snapshot.
        accept_writes: true,
        // The session that measures would be ended as a leftover.
        retries: 0,
        ..settings.clone()
    }
}

/// Measures what a database takes of its server.
struct Measured<'a> {
    session: &'a Session,
    database: &'a str,
    /// WAL that the server had written before, and what of it was on its disk.
    wal_before: (u64, u64),
    /// The most that was seen.
    most: Space,
    /// Whether there was a time when it could not be asked.
    is_broken: bool,
}

impl<'a> Measured<'a> {
    async fn begin(session: &'a Session, database: &'a str) -> Result<Self, SessionError> {
        let mut measured =
            Self { session, database, wal_before: (0, 0), most: Space::default(), is_broken: false };
        let written = measured.used().await?.wal_bytes;
        measured.wal_before = (written, measured.disk().await?.wal_bytes);
        Ok(measured)
    }

    /// Adds what is used now.
    async fn look(&mut self) -> Result<(), SessionError> {
        let used = self.used().await?;
        self.most.database_bytes = self.most.database_bytes.max(used.database_bytes);
        self.most.temporary_bytes = used.temporary_bytes;
        self.most.wal_bytes = used.wal_bytes.saturating_sub(self.wal_before.0);
        let disk = self.disk().await?;
        let wal_bytes = disk.wal_bytes.saturating_sub(self.wal_before.1);
        let now = Peak { database_bytes: used.database_bytes, wal_bytes, ..disk };
        if now.bytes() > self.most.peak.bytes() {
            self.most.peak = now;
        }
        Ok(())
    }

    /// What the database has used until now; WAL since the server's beginning.
    async fn used(&self) -> Result<Space, SessionError> {
        let statement = include_str!("../../sql/scratch/space.sql");
        let row = self.session.client.query_one(statement, &[&self.database]).await;
        let row = row.map_err(|error| self.session.failed("measure the scratch database", error))?;
        Ok(Space {
            database_bytes: bytes(&row, "database_bytes"),
            wal_bytes: bytes(&row, "wal_position"),
            temporary_bytes: bytes(&row, "temporary_bytes"),
            peak: Peak::default(),
        })
    }

    /// What is on the server's disk beside databases.
    async fn disk(&self) -> Result<Peak, SessionError> {
        let row = self.session.client.query_one(include_str!("../../sql/scratch/disk.sql"), &[]).await;
        let row = row.map_err(|error| self.session.failed("measure WAL and temporary files", error))?;
        Ok(Peak {
            database_bytes: 0,
            wal_bytes: bytes(&row, "wal_bytes"),
            temporary_bytes: bytes(&row, "temporary_bytes"),
        })
    }

    /// Looks again and again, until it cannot be asked any more.
    async fn follow(&mut self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if self.look().await.is_err() {
                self.is_broken = true;
                return;
            }
        }
    }
}

fn bytes(row: &Row, column: &str) -> u64 {
    u64::try_from(row.get::<_, i64>(column)).unwrap_or_default()
}

/// Leaves the report alone in the run directory, with what the rehearsal has shown.
fn conclude(
    settings: &RunSettings,
    target: &Endpoint,
    run: &str,
    space: Option<Space>,
    events: &Events,
) -> Option<Rehearsal> {
    let path = &settings.run_dir;
    if let Ok(directory) = RunDirectory::open(path) {
        directory.remove();
    }
    let report: Option<Report> = files::read(path, REPORT).ok().flatten();
    // One that could not be written leaves an earlier rehearsal's.
    let report = report.filter(|report| report.run == run)?;
    let process = report.history.processes.last();
    let window = process.filter(|_| report.conclusion.state.is_verdict());
    let rehearsal = Rehearsal {
        target: target.conninfo.to_string(),
        max_rate: settings.max_rate,
        window: window.map(|process| Window::of(process, settings.max_rate)),
        space,
    };
    let report = report.of_rehearsal(rehearsal.clone(), Again::Anew(REHEARSE_AGAIN));
    let written = files::write(path, REPORT, report::document(&report).as_bytes(), true)
        .and_then(|()| files::write(path, PAGE, report::page(&report).as_bytes(), true));
    if let Err(error) = written {
        events.warn(format!("the report could not be written into {}: {error}", path.display()));
    }
    Some(rehearsal)
}

/// What the name of a rehearsal's directory ends with.
const BESIDE: &str = "-rehearsal";

/// Where the rehearsals of runs in this directory are kept.
pub(crate) fn directory_beside(run_dir: &Path) -> PathBuf {
    let mut name = run_dir.file_name().unwrap_or_default().to_owned();
    name.push(BESIDE);
    run_dir.with_file_name(name)
}

/// Whether a directory is named as one of rehearsals.
pub(crate) fn is_beside(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| name.to_string_lossy().ends_with(BESIDE))
}
