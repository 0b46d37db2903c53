//! Archives of a run: the one that is written beside the load, and the one that takes the source's place.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::proof::encoded;
use super::resume::is_state_now;
use super::{Checked, Context, Source, append};
use crate::catalog::SequenceValue;
use crate::error::{Class, Error, Exit, Fault};
use crate::journal::{Record, RunDirectory, SCHEMA};
use crate::pg::{Endpoint, QualifiedName};
use crate::plan::columns::Treatment;
use crate::plan::{Plan, TablePlan, make};
use crate::preflight::{Finding, Severity};
use crate::schema::Entry;
use crate::transfer::archive::contents::{self, Contents, Recomputed, RowPlan};
use crate::transfer::archive::{Archive, ArchiveError, Header, Level, Writer, ensure_vacant};
use crate::transfer::digest::Digest;
use crate::transfer::lane::Found;
use crate::transfer::schedule::Task;
use crate::transfer::snapshot::Snapshot;
use crate::transfer::work::{self, Work};
use crate::verify::subjects::{self, Reading};
use crate::verify::{self, VerifyError};

/// Why a run cannot write the archive that was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchivingError {
    /// A resumed run goes on with the archive that it began.
    #[error("the run writes its archive to {}, not to {}", .begun.display(), .named.display())]
    OtherDirectory { begun: PathBuf, named: PathBuf },
    /// Rows of two snapshots make no archive.
    #[error("the archive in {} is finished, and is not of the source as it is now", .0.display())]
    OtherState(PathBuf),
    /// The rows that were archived are not those that were counted.
    #[error("the archive of {table} holds {archived} rows, the source counts {counted}")]
    Count { directory: PathBuf, table: String, archived: u64, counted: u64 },
    /// The archive's rows are not those that were loaded.
    #[error("the archive of {table} does not hold the rows that were copied")]
    Rows { directory: PathBuf, table: String },
}

impl Fault for ArchivingError {
    fn class(&self) -> Class {
        match self {
            ArchivingError::OtherDirectory { .. } | ArchivingError::OtherState(_) => Class::User,
            ArchivingError::Count { .. } | ArchivingError::Rows { .. } => Class::Integrity,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ArchivingError::OtherDirectory { .. } => Some("resume without --archive".into()),
            ArchivingError::OtherState(directory)
            | ArchivingError::Count { directory, .. }
            | ArchivingError::Rows { directory, .. } => Some(format!(
                "move {} away or remove it, then go on with --resume: the archive is written again",
                directory.display()
            )),
        }
    }
}

impl Context<'_> {
    /// Records which archive the run writes, before anything of it is there.
    pub(super) fn announce_archive(&self, directory: &mut RunDirectory) -> Result<(), Error> {
        let Some(named) = self.settings.archive.as_deref().map(absolute) else { return Ok(()) };
        match recorded(directory.records()) {
            Some(begun) if begun == named => Ok(()),
            Some(begun) => Err(Error::new(Exit::Usage, ArchivingError::OtherDirectory { begun, named })),
            None => {
                // What is there already is not of this run.
                ensure_vacant(&named).map_err(|error| Error::new(Exit::Usage, error))?;
                append(directory, Record::Archive { directory: named })
            }
        }
    }

    /// The archive that this run writes, begun or gone on with; `None` if there is none, or it is finished.
    pub(super) fn begin_archive(
        &self,
        directory: &RunDirectory,
        snapshot: &Snapshot,
    ) -> Result<Option<Writer>, Error> {
        let Some(path) = recorded(directory.records()) else { return Ok(None) };
        let (header, level) = (contents::header(&snapshot.catalog), Level::default());
        let exit = if self.settings.resume { Exit::Resumable } else { Exit::Refused };
        // Somebody else's archive may stand there by now.
        let is_of = |archived: &Header| {
            archived.source == header.source
                && is_state_now(directory.records(), &archived.source.snapshot, &snapshot.state)
        };
        let begun = match Writer::resume(&path, level) {
            // Rows of two snapshots make no archive.
            Ok(writer) if !is_of(writer.header()) => Writer::restart(&path, header, level),
            Err(ArchiveError::NothingToResume(_)) => Writer::create(&path, header, level),
            Err(ArchiveError::Finished(_)) => {
                let finished = Archive::open(&path).map_err(|error| Error::new(exit, error))?;
                if is_of(&finished.manifest().header) {
                    return Ok(None);
                }
                return Err(Error::new(exit, ArchivingError::OtherState(path)));
            }
            begun => begun,
        };
        begun.map(Some).map_err(|error| Error::new(exit, error))
    }

    /// Completes the archive: everything that is no row, and the manifest.
    pub(super) async fn finish_archive(
        &self,
        writer: &Writer,
        directory: &RunDirectory,
        plan: &Plan,
        (found, sequences): (&Found, &[SequenceValue]),
        (checked, snapshot): (&Checked, &Snapshot),
    ) -> Result<(), Error> {
        let failed = |error| Error::new(Exit::Resumable, error);
        confirm(writer, plan, found).map_err(|error| Error::new(Exit::Resumable, error))?;
        let entries: Vec<Entry> =
            directory.read_document(SCHEMA).map_err(|error| Error::new(Exit::Resumable, error))?;
        let (server, reading) = (encoded(self.source.server(), plan), self.reading(plan));
        let recomputed = recomputed(&server, snapshot, &reading).await.map_err(|error| match error {
            VerifyError::Interrupted => Error::new(Exit::Interrupted, super::Interrupted),
            error => Error::new(Exit::Resumable, error),
        })?;
        let source = contents::Source::new(&checked.search_path, &snapshot.catalog, &checked.source_rights);
        contents::write(writer, &source, &entries, sequences, &RowPlan::of(plan), &recomputed)
            .await
            .map_err(failed)
    }

    /// What keeps an archive's rows from being loaded into this target: a type that travels in binary only
    /// between equal versions of its extension.
    pub(super) fn unloadable(stored: &Contents, checked: &Checked) -> Vec<Finding> {
        let source = &stored.source.catalog;
        let now = make::tables(source, &checked.target, 1, None);
        let differs = |(stored, now): (&TablePlan, TablePlan)| {
            let mut columns = stored.columns.iter().zip(now.columns);
            columns.find_map(|(stored, now)| match (&stored.treatment, now.treatment) {
                (Treatment::Text(_), _) => None,
                (_, Treatment::Text(reason)) => Some((now.name, reason)),
                _ => None,
            })
        };
        let tables = stored.rows.tables.iter().zip(now);
        tables
            .filter_map(|pair| {
                let name = pair.0.name.clone();
                let (column, reason) = differs(pair)?;
                Some(Finding {
                    id: "archived-binary",
                    severity: Severity::Blocking,
                    title: format!("the archive's rows of {name} do not fit the target"),
                    evidence: format!("column {column} is archived in binary, and {reason}"),
                    objects: vec![],
                    remedy: "install the extension in the source's version, or dump the source anew with \
                        `pgmove dump`, which archives such a table as text"
                        .into(),
                })
            })
            .collect()
    }
}

/// The rows of each table of an archive: the number of lists of a vector index depends on them.
pub(super) fn row_counts(stored: &Contents) -> HashMap<QualifiedName, u64> {
    let manifest = stored.archive.manifest();
    let tables = stored.rows.tables.iter().enumerate();
    tables
        .filter_map(|(position, table)| Some((table.name.clone(), manifest.digest(position)?.rows)))
        .collect()
}

/// The tasks that read for the archive only: what is committed in the target, but not in the archive.
pub(super) fn missing(
    writer: &Writer,
    plan: &Plan,
    done: &HashMap<String, Option<Digest>>,
) -> Vec<Task<Work>> {
    work::storing(plan, |stored| {
        let copied = match stored {
            Work::StoreChunk { table, chunk } => Work::Chunk { table, chunk },
            Work::StoreLargeObjects { batch } => Work::LargeObjects { batch },
            other => other,
        };
        let is_committed = copied.item(plan).is_some_and(|item| done.contains_key(&item));
        !is_committed || stored.member().is_some_and(|member| writer.done(&member).is_some())
    })
}

/// Whether the archive's chunks are the rows that were copied and counted.
pub(super) fn confirm(writer: &Writer, plan: &Plan, found: &Found) -> Result<(), ArchivingError> {
    for (table, planned) in plan.tables.iter().enumerate() {
        let digests = (0..planned.chunks.len()).filter_map(|chunk| {
            let member = Work::StoreChunk { table, chunk }.member()?;
            Some(writer.done(&member)?.digest)
        });
        let archived: Digest = digests.sum();
        let counted = found.counted[table].unwrap_or_default();
        let (directory, name) = (|| writer.directory().to_owned(), planned.name.to_string());
        if archived.rows != counted {
            let archived = archived.rows;
            return Err(ArchivingError::Count { directory: directory(), table: name, archived, counted });
        }
        if archived != found.copied[table] {
            return Err(ArchivingError::Rows { directory: directory(), table: name });
        }
    }
    Ok(())
}

/// Hashes what a target will compute again, in the snapshot of the rows.
pub(super) async fn recomputed(
    source: &Endpoint,
    snapshot: &Snapshot,
    reading: &Reading,
) -> Result<Vec<Recomputed>, VerifyError> {
    let subjects = subjects::archived(&snapshot.catalog, reading.jobs);
    let tables = subjects.iter().map(|subject| subject.table.clone()).collect();
    let read = subjects::read_one_side(source, &snapshot.id, tables, reading).await?;
    // Without the holder's locks a TRUNCATE could have come between.
    snapshot.ping().await?;
    let of = |(subject, read): (subjects::Subject, verify::Read)| Recomputed {
        aspect: subject.aspect,
        table: subject.table,
        found: read.into(),
    };
    Ok(subjects.into_iter().zip(read).map(of).collect())
}

/// The archive that a run has recorded.
fn recorded(records: &[Record]) -> Option<PathBuf> {
    records.iter().find_map(|record| match record {
        Record::Archive { directory } => Some(directory.clone()),
        _ => None,
    })
}

/// The archive that takes the source's place.
pub(super) async fn open(path: &Path, is_resumed: bool) -> Result<Source, Error> {
    let exit = |error: &ArchiveError| match error {
        ArchiveError::Missing(_) => Exit::Usage,
        _ if is_resumed => Exit::Resumable,
        _ => Exit::Refused,
    };
    let stored = Contents::open(path).await.map_err(|error| Error::new(exit(&error), error))?;
    Ok(Source::Archive(Box::new(stored)))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
