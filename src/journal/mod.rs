//! What a run has decided and done, on this machine: the run directory and its journal.
//!
//! The run directory (0700) holds the plan and the journal; it is what `--resume` and `unfence` read. The
//! journal is JSON lines, only ever appended to; a record is on disk (fsync) before what it tells is done. A
//! crash in the middle of an append leaves a last line without its newline, which is ignored when read.
//! What is committed in the target is not in the journal but in the ledger ([`crate::transfer::ledger`]),
//! because only there can it commit together with the rows.

mod error;

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::catalog::{DatabaseIdentity, SourceState};
use crate::cutover::freeze;
use crate::cutover::object::ObjectKey;
use crate::cutover::record::Change;
use crate::error::Side;
use crate::kubernetes::Pinned;
use crate::report::files::is_only_report;
use crate::schema::remove_leftovers;
use crate::settings::Choices;

pub use error::JournalError;

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
    /// The run is a rehearsal: nobody goes on with it.
    Rehearsal {
        /// The scratch database that it is made in.
        database: String,
    },
    /// The check is passed: what every process of the run goes by from here on.
    Settled(Settled),
    /// A server that the run works with from here on, as its cluster tells.
    Pinned {
        /// Which of the two.
        side: Side,
        /// Its pod, its system identifier and its timeline.
        server: Pinned,
    },
    /// The process goes on from the journal.
    Retried {
        /// What had ended its work.
        reason: String,
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
        /// The database; a journal may hold fences of several.
        database: DatabaseIdentity,
        /// Its own setting of `default_transaction_read_only` before, `None` if it had none.
        former: Option<String>,
    },
    /// The fence has been lifted.
    Unfenced {
        /// The database.
        database: DatabaseIdentity,
    },
    /// An object in the cluster is about to be frozen.
    Freezing {
        /// The run.
        run: String,
        /// Which object, and its fields with their former values.
        change: Change,
    },
    /// An object in the cluster has been put back, or is gone.
    Thawed {
        /// Which.
        object: ObjectKey,
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
    /// The last verdict does not stand any more: a crash of the target's server has emptied what is unlogged.
    Withdrawn,
    /// Nothing of pgmove is left in the target.
    Finished,
}

/// What a run goes by, whichever process works on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The database that is moved.
    pub source: DatabaseIdentity,
    /// The database it is moved into.
    pub target: DatabaseIdentity,
    /// The rewrites.
    pub choices: Choices,
    /// Whether the ledger stays in the target.
    pub keep_ledger: bool,
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

/// Whether a record tells of a freeze or a fence, which can stand without a run.
fn is_of_fence(record: &Record) -> bool {
    matches!(
        record,
        Record::Fence { .. } | Record::Unfenced { .. } | Record::Freezing { .. } | Record::Thawed { .. }
    )
}

/// The directory of one run, locked for this process.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    /// Whether this process has made it.
    is_made: bool,
    journal: File,
    records: Vec<Record>,
    /// How many bytes of the journal tell of a fence from before the run.
    before_run: usize,
}

const JOURNAL: &str = "journal.jsonl";

/// The plan.
pub(crate) const PLAN: &str = "plan.json";

/// The schema of the source as it was planned from.
pub(crate) const SCHEMA: &str = "schema.json";

/// Where `pg_dump` writes the schema of the source.
pub(crate) const DUMP: &str = "schema.dump";

impl RunDirectory {
    /// Makes the directory of a new run, or takes one that is empty, or in which only a fence is recorded, or that holds
    /// only the report of a run that was refused.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        if let Some(parent) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|source| failed("create", parent, source))?;
        }
        let is_made = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(source) => return Err(failed("create", path, source)),
        };
        // A run that is refused removes what it made here, and must not take files of somebody else's for its own.
        let mut entries = std::fs::read_dir(path).map_err(|source| failed("read", path, source))?;
        if entries.next().is_some() && !is_only_report(path) {
            if !path.join(JOURNAL).exists() {
                return Err(JournalError::NotEmpty(path.to_owned()));
            }
            let directory = Self::open_journal(path, false)?;
            let is_run = !directory.records.iter().all(is_of_fence);
            return if is_run { Err(JournalError::Exists(path.to_owned())) } else { Ok(directory) };
        }
        Ok(RunDirectory { is_made, ..Self::open_journal(path, true)? })
    }

    /// Opens the directory of an earlier run.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        if !path.join(JOURNAL).exists() {
            return Err(JournalError::Missing(path.to_owned()));
        }
        let directory = Self::open_journal(path, false)?;
        remove_leftovers(path);
        Ok(directory)
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
        match lock(&journal) {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                let run = read(path).ok().and_then(|records| records.iter().find_map(Record::begun_run));
                return Err(JournalError::Locked { path: path.to_owned(), run });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(failed("lock", &file, source)),
        }
        let mut bytes = Vec::new();
        journal.read_to_end(&mut bytes).map_err(|source| failed("read", &file, source))?;
        let records = parse(complete(&bytes), &file)?;
        // A torn last line must not become the beginning of the next record.
        journal.set_len(complete(&bytes).len() as u64).map_err(|source| failed("write", &file, source))?;
        // A fence is set because its record is on disk, so the file's name must be there too.
        if create {
            let synced = File::open(path).and_then(|directory| directory.sync_all());
            synced.map_err(|source| failed("write", path, source))?;
        }
        let fences = records.iter().take_while(|record| is_of_fence(record)).count();
        let before_run = bytes.split_inclusive(|byte| *byte == b'\n').take(fences).map(<[u8]>::len).sum();
        Ok(RunDirectory { path: path.to_owned(), is_made: false, journal, records, before_run })
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

    /// Removes the files of a run that has nothing to go on from, and the directory if this process has made it
    /// and nothing else is in it; a fence or freeze from before the run stays recorded, and what of it the run has put
    /// back. What cannot be removed is left.
    pub fn remove(mut self) {
        for name in [DUMP, SCHEMA, PLAN] {
            let _ = std::fs::remove_file(self.path.join(name));
            let _ = std::fs::remove_file(self.part(name));
        }
        let fences = self.records.iter().take_while(|record| is_of_fence(record)).count();
        let (before, of_run) = self.records.split_at(fences);
        let before = freeze::recorded(before);
        let is_of_before =
            |record: &&Record| matches!(record, Record::Thawed { object } if before.contains(object));
        let thawed: Vec<Record> = of_run.iter().filter(is_of_before).cloned().collect();
        let cut = match self.before_run {
            0 => std::fs::remove_file(self.path.join(JOURNAL)),
            length => self.journal.set_len(length as u64),
        };
        if cut.is_ok() && self.before_run > 0 {
            let _ = thawed.into_iter().try_for_each(|record| self.append(record));
        }
        if self.is_made {
            let _ = std::fs::remove_dir(&self.path);
        }
    }

    /// The file that a document is written to before it gets its name.
    fn part(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.part"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a JSON document of the run, whole or not at all.
    pub fn write_document<T: Serialize>(&self, name: &str, document: &T) -> Result<(), JournalError> {
        let (file, part) = (self.path.join(name), self.part(name));
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

/// How often, and after which time, a locked journal is tried again: somebody may only have asked whether it is.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

fn lock(journal: &File) -> Result<(), std::fs::TryLockError> {
    for _ in 1..ATTEMPTS {
        match journal.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
    journal.try_lock()
}

/// Whether a process works on the run, or on its fence. Nobody is kept from it: the lock is shared, and held for no
/// longer than the question takes.
pub fn is_worked_on(path: &Path) -> Result<bool, JournalError> {
    let file = path.join(JOURNAL);
    let journal = match File::open(&file) {
        Ok(journal) => journal,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(failed("open", &file, source)),
    };
    match journal.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(std::fs::TryLockError::WouldBlock) => Ok(true),
        Err(std::fs::TryLockError::Error(source)) => Err(failed("lock", &file, source)),
    }
}

/// Reads a journal that another process may have locked.
pub fn read(path: &Path) -> Result<Vec<Record>, JournalError> {
    let file = path.join(JOURNAL);
    match std::fs::read(&file) {
        Ok(bytes) => parse(complete(&bytes), &file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(JournalError::Missing(path.to_owned())),
        Err(source) => Err(failed("read", &file, source)),
    }
}

/// Without a last line that was torn, be it within a character.
fn complete(journal: &[u8]) -> &[u8] {
    let end = journal.iter().rposition(|byte| *byte == b'\n');
    &journal[..end.map_or(0, |end| end + 1)]
}

fn parse(journal: &[u8], file: &Path) -> Result<Vec<Record>, JournalError> {
    journal
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .map(|(index, line)| {
            serde_json::from_slice(line).map_err(|source| JournalError::Damaged {
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
mod tests;
