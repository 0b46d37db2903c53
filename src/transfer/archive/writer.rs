//! Writes an archive: takes what the lanes read, gives the manifest.
//!
//! Files of several lanes are written at once; each becomes durable under its name, then a line in
//! `journal.jsonl` tells so. A writer that was killed is resumed from that journal. The manifest comes last:
//! until it stands under its name there is no archive.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::check::walk;
use super::directory::{create_parents, ensure_vacant, sync_directory, write_durably};
use super::error::{ArchiveError, Defect};
use super::file::{FileWriter, Level, PART, hexadecimal};
use super::format::{
    Attachment, ChunkRecord, Column, Content, FORMAT, Header, JOURNAL, MANIFEST, MANIFEST_LIMIT,
    MANIFEST_SUM, Manifest, Member, Table, VERSION, WireFormat, is_attachment_name, manifest_sum,
};
use super::reader::open_inside;
use crate::pg::QualifiedName;
use crate::transfer::digest::Digest;

/// What the finished archive has to hold besides attachments.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// The tables.
    pub tables: Vec<PlannedTable>,
    /// The large objects, where there are any.
    pub large_objects: Option<PlannedContent>,
}

/// A table of the plan.
#[derive(Debug, Clone)]
pub struct PlannedTable {
    /// The number that its chunks were written under.
    pub number: u32,
    /// Its name.
    pub name: QualifiedName,
    /// Its rows.
    pub content: PlannedContent,
}

/// Rows of the plan.
#[derive(Debug, Clone)]
pub struct PlannedContent {
    /// The columns, in the order of the stream.
    pub columns: Vec<Column>,
    /// The format of the stream.
    pub wire_format: WireFormat,
    /// How many chunks there are; numbered from 0.
    pub chunks: u32,
}

/// The first line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    format: String,
    version: u64,
    header: Header,
}

/// Every further line: a file is complete, or (without a record) about to be written again.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    member: Member,
    record: Option<ChunkRecord>,
}

/// An archive that is being written. Clones write the same archive.
#[derive(Debug, Clone)]
pub struct Writer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// Whether this writer has made the directory.
    is_made: bool,
    header: Header,
    level: Level,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    journal: File,
    done: BTreeMap<Member, ChunkRecord>,
}

impl Writer {
    /// Begins an archive in `directory`, which does not exist or is empty. Blocks for a few file operations.
    pub fn create(directory: &Path, header: Header, level: Level) -> Result<Writer, ArchiveError> {
        let is_made = match DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                ensure_vacant(directory)?;
                false
            }
            Err(error) => return Err(ArchiveError::io("create", directory)(error)),
        };
        let path = directory.join(JOURNAL);
        let journal = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(ArchiveError::io("create", &path))?;
        let mut state = State { journal, done: BTreeMap::new() };
        let opening = Opening { format: FORMAT.to_owned(), version: VERSION, header };
        state.append(&opening).map_err(ArchiveError::io("write", &path))?;
        sync_directory(directory)?;
        let (directory, header, state) = (directory.to_owned(), opening.header, Mutex::new(state));
        Ok(Writer(Arc::new(Inner { directory, is_made, header, level, state })))
    }

    /// Goes on with an archive that was begun and not finished. The caller compares [`Writer::header`] with
    /// the source that it is about to read from. Blocks for a few file operations.
    pub fn resume(directory: &Path, level: Level) -> Result<Writer, ArchiveError> {
        if directory.join(MANIFEST).symlink_metadata().is_ok() {
            return Err(ArchiveError::Finished(directory.to_owned()));
        }
        let path = directory.join(JOURNAL);
        let mut journal =
            match open_inside(directory, JOURNAL, JOURNAL, OpenOptions::new().read(true).write(true)) {
                Err(ArchiveError::Damaged { defect: Defect::Missing, .. }) => {
                    return Err(ArchiveError::NothingToResume(directory.to_owned()));
                }
                other => other?,
            };
        let mut text = Vec::new();
        // Its lines are those of the manifest and a little more.
        let limit = 2 * MANIFEST_LIMIT;
        (&journal).take(limit).read_to_end(&mut text).map_err(ArchiveError::io("read", &path))?;
        // A last line without its end is what a kill leaves: it was never acted on.
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |place| place + 1);
        text.truncate(end);
        journal
            .set_len(end as u64)
            .and_then(|()| journal.seek(SeekFrom::Start(end as u64)))
            .map_err(ArchiveError::io("write", &path))?;

        let (header, mut done) =
            parse_journal(&text).map_err(|reason| ArchiveError::DamagedList { file: JOURNAL, reason })?;
        done.retain(|member, record| {
            let file = open_inside(directory, &member.path(), "", OpenOptions::new().read(true));
            let length = file.ok().and_then(|file| file.metadata().ok()).map(|metadata| metadata.len());
            length == Some(record.file.file_bytes)
        });
        walk(directory, &mut |relative, kind| {
            if kind.is_file() && relative.ends_with(PART) {
                let part = directory.join(relative);
                fs::remove_file(&part).map_err(ArchiveError::io("remove", &part))?;
            }
            Ok(())
        })?;
        let state = Mutex::new(State { journal, done });
        let directory = directory.to_owned();
        Ok(Writer(Arc::new(Inner { directory, is_made: false, header, level, state })))
    }

    /// Begins an archive again that was begun and not finished, because its rows must come from another snapshot.
    /// Every file of it is written anew. Blocks for a few file operations.
    pub fn restart(directory: &Path, header: Header, level: Level) -> Result<Writer, ArchiveError> {
        // Whatever else is there, it must be the beginning of an archive.
        drop(Writer::resume(directory, level)?);
        let opening = Opening { format: FORMAT.to_owned(), version: VERSION, header };
        let mut line =
            serde_json::to_vec(&opening).map_err(|error| ArchiveError::Incomplete(error.to_string()))?;
        line.push(b'\n');
        write_durably(directory, JOURNAL, &line)?;
        Writer::resume(directory, level)
    }

    /// Takes back the beginning of an archive that has no file yet. What cannot be removed is left, and so is a
    /// directory that was there before.
    pub fn discard(&self) {
        let _ = fs::remove_file(self.0.directory.join(JOURNAL));
        if self.0.is_made {
            let _ = fs::remove_dir(&self.0.directory);
        }
    }

    /// Where the archive is.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// What the archive was begun with.
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    /// The record of a file that is complete.
    pub fn done(&self, member: &Member) -> Option<ChunkRecord> {
        self.0.state().done.get(member).cloned()
    }

    /// Begins a chunk. One that is complete already is written anew; one that is being written is an error.
    pub async fn chunk(&self, member: Member) -> Result<MemberWriter, ArchiveError> {
        if let Member::Attachment { name } = &member
            && !is_attachment_name(name)
        {
            return Err(ArchiveError::BadName(name.clone()));
        }
        let path = self.0.directory.join(member.path());
        let inner = Arc::clone(&self.0);
        let (again, parent) = (member.clone(), path.clone());
        blocking(&path, move || {
            inner.forget(&again)?;
            create_parents(&inner.directory, &parent)
        })
        .await?;
        let file = FileWriter::create(&path, self.0.level).await?;
        Ok(MemberWriter { archive: Arc::clone(&self.0), member, path, file })
    }

    /// Writes an attachment: the DDL, the plan. A later one of the same name takes its place.
    pub async fn attach(&self, name: &str, content: &[u8]) -> Result<(), ArchiveError> {
        let mut file = self.chunk(Member::Attachment { name: name.to_owned() }).await?;
        file.write(content).await?;
        file.finish(Digest::default()).await.map(drop)
    }

    /// Writes an attachment in JSON.
    pub async fn attach_document(&self, name: &str, document: &impl Serialize) -> Result<(), ArchiveError> {
        let json = serde_json::to_vec(document).expect("a document is plain data");
        self.attach(name, &json).await
    }

    /// Finishes the archive, if exactly the chunks of `layout` are complete. Blocks for a few file operations.
    pub fn finish(&self, layout: Layout) -> Result<Manifest, ArchiveError> {
        let directory = &self.0.directory;
        let manifest = self.manifest(layout)?;
        let json =
            serde_json::to_vec(&manifest).map_err(|error| ArchiveError::Incomplete(error.to_string()))?;
        if json.len() as u64 > MANIFEST_LIMIT {
            return Err(ArchiveError::ManifestTooLarge(json.len() as u64));
        }
        // What was written must be readable: every rule of the reader holds for the writer.
        Manifest::parse(&json).map_err(|error| ArchiveError::Incomplete(error.to_string()))?;
        let sum = manifest_sum(&hexadecimal(&Sha256::digest(&json)));
        write_durably(directory, MANIFEST_SUM, sum.as_bytes())?;
        write_durably(directory, MANIFEST, &json)?;
        let journal = directory.join(JOURNAL);
        fs::remove_file(&journal).map_err(ArchiveError::io("remove", &journal))?;
        sync_directory(directory)?;
        Ok(manifest)
    }

    fn manifest(&self, layout: Layout) -> Result<Manifest, ArchiveError> {
        let mut done = self.0.state().done.clone();
        let mut take = |planned: PlannedContent, member: &dyn Fn(u32) -> Member| {
            let chunks = (0..planned.chunks).map(|chunk| {
                let member = member(chunk);
                done.remove(&member)
                    .ok_or_else(|| ArchiveError::Incomplete(format!("{} was not written", member.path())))
            });
            let chunks = chunks.collect::<Result<_, _>>()?;
            Ok::<_, ArchiveError>(Content {
                columns: planned.columns,
                wire_format: planned.wire_format,
                chunks,
            })
        };
        let mut tables = Vec::new();
        for PlannedTable { number, name, content } in layout.tables {
            let content = take(content, &|chunk| Member::Chunk { table: number, chunk })?;
            tables.push(Table { number, schema: name.schema, name: name.name, content });
        }
        tables.sort_by_key(|table| table.number);
        let large_objects = layout
            .large_objects
            .map(|content| take(content, &|chunk| Member::LargeObjects { chunk }))
            .transpose()?;
        let mut attachments = Vec::new();
        for (member, record) in done {
            match member {
                Member::Attachment { name } => attachments.push(Attachment { name, file: record.file }),
                other => return Err(ArchiveError::Incomplete(format!("{} is in no plan", other.path()))),
            }
        }
        let header = self.0.header.clone();
        Ok(Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            header,
            tables,
            large_objects,
            attachments,
        })
    }
}

/// A chunk or an attachment that is being written. Dropped before [`MemberWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct MemberWriter {
    archive: Arc<Inner>,
    member: Member,
    path: PathBuf,
    file: FileWriter,
}

impl MemberWriter {
    /// Appends content, of any length: bytes as COPY gave them, row boundaries or not.
    pub async fn write(&mut self, content: &[u8]) -> Result<(), ArchiveError> {
        self.file.write(content).await
    }

    /// Makes the file durable under its name, and the journal tell so. `digest` is that of the rows written.
    pub async fn finish(self, digest: Digest) -> Result<ChunkRecord, ArchiveError> {
        let MemberWriter { archive, member, path, mut file } = self;
        let record = ChunkRecord { file: file.finish().await?, digest };
        let name = path.clone();
        blocking(&path, move || {
            file.publish(&name)?;
            sync_directory(name.parent().unwrap_or(&archive.directory))?;
            archive.record(member, record)
        })
        .await
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, member: Member, record: ChunkRecord) -> Result<ChunkRecord, ArchiveError> {
        let entry = Entry { member, record: Some(record.clone()) };
        let mut state = self.state();
        state.append(&entry).map_err(ArchiveError::io("write", &self.directory.join(JOURNAL)))?;
        state.done.insert(entry.member, record.clone());
        Ok(record)
    }

    /// Before a complete file is written again: a kill must not leave the old record to the new file.
    fn forget(&self, member: &Member) -> Result<(), ArchiveError> {
        let mut state = self.state();
        if state.done.remove(member).is_some() {
            let entry = Entry { member: member.clone(), record: None };
            state.append(&entry).map_err(ArchiveError::io("write", &self.directory.join(JOURNAL)))?;
        }
        Ok(())
    }
}

impl State {
    fn append(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.journal.write_all(&text)?;
        self.journal.sync_data()
    }
}

fn parse_journal(text: &[u8]) -> Result<(Header, BTreeMap<Member, ChunkRecord>), String> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let opening = lines.next().ok_or("it is empty")?;
    let opening: Opening = serde_json::from_slice(opening).map_err(|error| error.to_string())?;
    if (opening.format.as_str(), opening.version) != (FORMAT, VERSION) {
        return Err(format!("it is of another format, version {}", opening.version));
    }
    let mut done = BTreeMap::new();
    for line in lines {
        let entry: Entry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if let Member::Attachment { name } = &entry.member
            && !is_attachment_name(name)
        {
            return Err(format!("{name:?} cannot be the name of an attachment"));
        }
        match entry.record {
            Some(record) => done.insert(entry.member, record),
            None => done.remove(&entry.member),
        };
    }
    Ok((opening.header, done))
}

/// Runs file operations that may wait for the disk beside the lane's runtime.
async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ArchiveError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ArchiveError::io("write", path)(io::Error::other(error))),
    }
}
