//! What a run has decided and done, on this machine: the run directory and its journal.
//!
//! The run directory (0700) holds the plan and the journal; it is what `--resume` and `unfence` read. The
//! journal is JSON lines, only ever appended to; a record is on disk (fsync) before what it tells is done. A
//! crash in the middle of an append leaves a last line without its newline, which is ignored when read.
//! What is committed in the target is not in the journal but in the ledger ([`crate::transfer::ledger`]),
//! because only there can it commit together with the rows.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::catalog::SourceState;
use crate::error::{Class, Fault};

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// A process starts to work on the run.
    Started {
        /// The run's id; it is also in the target's ledger.
        run: String,
        /// pgmove's version.
        version: String,
        /// The source, without secrets.
        source: String,
        /// The target, without secrets.
        target: String,
        /// Whether the run goes on from an earlier process.
        resumed: bool,
    },
    /// The plan is complete and stands in `plan.json`.
    Planned {
        /// The state of the source that the plan and every row are from.
        state: SourceState,
    },
    /// The run writes an archive beside the load.
    Archive {
        /// Its directory.
        directory: PathBuf,
    },
    /// The source is about to be fenced.
    Fence {
        /// The database.
        database: String,
        /// Its own setting of `default_transaction_read_only` before, `None` if it had none.
        former: Option<String>,
    },
    /// The fence has been lifted.
    Unfenced {
        /// The database.
        database: String,
    },
    /// The target is about to be marked as being loaded.
    Mark {
        /// The database.
        database: String,
        /// Its own setting of `default_transaction_read_only` before, `None` if it had none.
        former: Option<String>,
    },
    /// Everything of the user's in the target is about to be dropped.
    Replaced {
        /// The database.
        database: String,
        /// The run whose ledger was there.
        other_run: Option<String>,
    },
    /// A stage is over.
    StageFinished {
        /// The stage.
        stage: crate::event::Stage,
    },
    /// The comparison is over; written before the ledger and the mark are removed.
    Verdict {
        /// The sentence.
        verdict: String,
        /// The exit code that goes with it.
        exit: u8,
    },
    /// Nothing of pgmove is left in the target.
    Finished,
}

impl Record {
    /// The run that a process starts to work on.
    fn begun_run(&self) -> Option<String> {
        match self {
            Record::Started { run, .. } => Some(run.clone()),
            _ => None,
        }
    }
}

/// Whether a record tells of a fence, which can stand without a run.
fn is_of_fence(record: &Record) -> bool {
    matches!(record, Record::Fence { .. } | Record::Unfenced { .. })
}

/// Why the run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system says no.
    #[error("could not {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line that is not a record of this version.
    #[error("{path}, line {line}, is not a journal record of this version of pgmove")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Why not.
        source: serde_json::Error,
    },
    /// Another process works on the same run.
    #[error("another pgmove works in {path}{}", .run.as_ref().map(|run| format!(", on run {run}")).unwrap_or_default())]
    Locked {
        /// The run directory.
        path: PathBuf,
        /// The run, if one has begun there.
        run: Option<String>,
    },
    /// A new run was asked for where one is.
    #[error("{0} already holds a run")]
    Exists(PathBuf),
    /// A run to resume was asked for where none is.
    #[error("{0} holds no run")]
    Missing(PathBuf),
}

impl Fault for JournalError {
    fn class(&self) -> Class {
        match self {
            JournalError::Io { .. } => Class::Environment,
            JournalError::Damaged { .. } => Class::Integrity,
            JournalError::Locked { .. } | JournalError::Exists(_) | JournalError::Missing(_) => Class::User,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            JournalError::Io { .. } => "name a directory that can be written with --run-dir".into(),
            JournalError::Damaged { .. } => {
                "resume with the version of pgmove that began the run, or start over with another --run-dir"
                    .into()
            }
            JournalError::Locked { .. } => "wait for it, or stop it".into(),
            JournalError::Exists(_) => "go on with it (--resume), or name another --run-dir".into(),
            JournalError::Missing(_) => "name the directory of the run to resume with --run-dir".into(),
        })
    }
}

/// The directory of one run, locked for this process.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    journal: File,
    records: Vec<Record>,
    /// How many bytes of the journal tell of a fence from before the run.
    before_run: usize,
}

const JOURNAL: &str = "journal.jsonl";

impl RunDirectory {
    /// Makes the directory of a new run; one in which only a fence is recorded is taken up.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| failed("create", path, source))?;
        let directory = Self::open_journal(path, true)?;
        if directory.records.iter().all(is_of_fence) {
            Ok(directory)
        } else {
            Err(JournalError::Exists(path.to_owned()))
        }
    }

    /// Opens the directory of an earlier run.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        if !path.join(JOURNAL).exists() {
            return Err(JournalError::Missing(path.to_owned()));
        }
        Self::open_journal(path, false)
    }

    fn open_journal(path: &Path, create: bool) -> Result<Self, JournalError> {
        let file = path.join(JOURNAL);
        let mut journal = OpenOptions::new()
            .read(true)
            .append(true)
            .create(create)
            .mode(0o600)
            .open(&file)
            .map_err(|source| failed("open", &file, source))?;
        match journal.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let run = read(path).ok().and_then(|records| records.iter().find_map(Record::begun_run));
                return Err(JournalError::Locked { path: path.to_owned(), run });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed("lock", &file, source)),
        }
        let mut text = String::new();
        journal.read_to_string(&mut text).map_err(|source| failed("read", &file, source))?;
        let records = parse(&text, &file)?;
        // A torn last line must not become the beginning of the next record.
        let complete = text.rfind('\n').map_or(0, |end| end + 1);
        journal.set_len(complete as u64).map_err(|source| failed("write", &file, source))?;
        let fences = records.iter().take_while(|record| is_of_fence(record)).count();
        let before_run = text.split_inclusive('\n').take(fences).map(str::len).sum();
        Ok(RunDirectory { path: path.to_owned(), journal, records, before_run })
    }

    /// Appends a record and waits until it is on disk.
    pub fn append(&mut self, record: Record) -> Result<(), JournalError> {
        let file = self.path.join(JOURNAL);
        let mut line = serde_json::to_string(&Line { at: jiff::Timestamp::now(), record: &record })
            .expect("a record is plain data");
        line.push('\n');
        self.journal
            .write_all(line.as_bytes())
            .and_then(|()| self.journal.sync_all())
            .map_err(|source| failed("write", &file, source))?;
        self.records.push(record);
        Ok(())
    }

    /// Everything recorded so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Removes a run that has nothing to go on from; a fence from before it stays recorded. What cannot be removed
    /// is left.
    pub fn remove(self) {
        let _ = match self.before_run {
            0 => std::fs::remove_dir_all(&self.path),
            length => self.journal.set_len(length as u64),
        };
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a JSON document of the run, whole or not at all.
    pub fn write_document<T: Serialize>(&self, name: &str, document: &T) -> Result<(), JournalError> {
        let (file, part) = (self.path.join(name), self.path.join(format!("{name}.part")));
        let bytes = serde_json::to_vec(document).expect("a document is plain data");
        let write = || {
            let mut out =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            out.write_all(&bytes)?;
            out.sync_all()?;
            std::fs::rename(&part, &file)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| failed("write", &file, source))
    }

    /// Reads a JSON document of the run.
    pub fn read_document<T: DeserializeOwned>(&self, name: &str) -> Result<T, JournalError> {
        let file = self.path.join(name);
        let bytes = std::fs::read(&file).map_err(|source| failed("read", &file, source))?;
        serde_json::from_slice(&bytes).map_err(|source| JournalError::Damaged { path: file, line: 1, source })
    }
}

/// Reads a journal that another process has locked.
fn read(path: &Path) -> Result<Vec<Record>, JournalError> {
    let file = path.join(JOURNAL);
    match std::fs::read_to_string(&file) {
        Ok(text) => parse(&text, &file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(JournalError::Missing(path.to_owned())),
        Err(source) => Err(failed("read", &file, source)),
    }
}

fn parse(text: &str, file: &Path) -> Result<Vec<Record>, JournalError> {
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|source| JournalError::Damaged {
                path: file.to_owned(),
                line: index + 1,
                source,
            })
        })
        .collect()
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { action, path: path.to_owned(), source }
}

/// A record with its time; the time is for people, and not read back.
#[derive(Serialize)]
struct Line<'a> {
    at: jiff::Timestamp,
    #[serde(flatten)]
    record: &'a Record,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(snapshot: &str) -> SourceState {
        SourceState { system_identifier: Some("7".into()), snapshot: snapshot.into() }
    }

    #[test]
    fn records_survive_a_torn_last_line() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("run");
        let planned = Record::Planned { state: state("5:5:") };
        {
            let mut run = RunDirectory::create(&path).expect("new");
            run.append(planned.clone()).expect("written");
            assert!(matches!(RunDirectory::open(&path), Err(JournalError::Locked { run: None, .. })));
        }
        let mut journal = OpenOptions::new().append(true).open(path.join(JOURNAL)).expect("there");
        journal.write_all(b"{\"record\":\"ver").expect("written");
        let mut run = RunDirectory::open(&path).expect("readable");
        assert_eq!(run.records(), std::slice::from_ref(&planned));
        run.append(Record::Finished).expect("written");
        drop(run);
        assert_eq!(read(&path).expect("readable"), [planned, Record::Finished]);
        assert!(matches!(RunDirectory::create(&path), Err(JournalError::Exists(_))));
    }

    #[test]
    fn a_run_begins_where_only_a_fence_is_recorded_and_leaves_that_record() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("run");
        let fence = Record::Fence { database: "app".into(), former: Some("off".into()) };
        RunDirectory::create(&path).expect("new").append(fence.clone()).expect("written");
        let started = Record::Started {
            run: "20261123-1".into(),
            version: "1".into(),
            source: "one".into(),
            target: "other".into(),
            resumed: false,
        };
        let mut run = RunDirectory::create(&path).expect("no run is there");
        run.append(started.clone()).expect("written");
        let locked = RunDirectory::open(&path).expect_err("locked");
        assert_eq!(
            locked.to_string(),
            format!("another pgmove works in {}, on run 20261123-1", path.display())
        );
        drop(run);
        assert!(matches!(RunDirectory::create(&path), Err(JournalError::Exists(_))));
        RunDirectory::open(&path).expect("readable").remove();
        assert_eq!(read(&path).expect("readable"), std::slice::from_ref(&fence));
        let mut run = RunDirectory::create(&path).expect("no run is there any more");
        run.append(started).expect("written");
        run.remove();
        assert_eq!(read(&path).expect("readable"), [fence]);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        std::fs::write(
            directory.path().join(JOURNAL),
            "{\"record\":\"finished\"}\n{\"record\":\"unheard-of\"}\n",
        )
        .expect("written");
        let error = RunDirectory::open(directory.path()).expect_err("damaged");
        assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
    }

    #[test]
    fn a_source_is_proven_unchanged_only_when_nothing_was_in_progress() {
        assert!(state("812:812:").is_proven_equal(&state("812:812:")));
        assert!(!state("812:812:").is_proven_equal(&state("813:813:")));
        assert!(!state("810:812:810").is_proven_equal(&state("810:812:810")));
        let unknown = SourceState { system_identifier: None, ..state("812:812:") };
        assert!(!unknown.is_proven_equal(&unknown.clone()));
    }
}
