//! What an archive of a whole database holds besides rows, and how both are found in it.
//!
//! Five attachments, all JSON: the source as its catalog describes it, its DDL as `pg_dump` wrote it, where its
//! sequences stand, how its rows were read and hashed, and digests of what a target computes again. Nothing in
//! them was rewritten for a target: that is decided when the archive is restored.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::ArchiveError;
use super::format::{Column, Header, Member, SourceRecord, WireFormat};
use super::reader::Archive;
use super::writer::{Layout, PlannedContent, PlannedTable, Writer};
use crate::catalog::{Catalog, SequenceValue};
use crate::pg::QualifiedName;
use crate::plan::columns::Treatment;
use crate::plan::{LargeObjectBatch, Plan, TablePlan};
use crate::preflight::Rights;
use crate::schema::Entry;
use crate::transfer::digest::Digest;
use crate::transfer::large_object;
use crate::transfer::relay::Rows;
use crate::verify::{Aspect, Read};

const SOURCE: &str = "source.json";
const SCHEMA: &str = "schema.json";
const SEQUENCES: &str = "sequences.json";
const PLAN: &str = "plan.json";
const RECOMPUTED: &str = "recomputed.json";

/// `source.json`: the source as it was read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Source {
    /// The default `search_path`.
    pub search_path: String,
    /// What was in the database, without the sessions that were connected to it.
    pub catalog: Catalog,
    /// What the role that read it could not read.
    pub rights: Rights,
}

impl Source {
    /// The description of a source that was just read.
    pub fn new(search_path: &str, catalog: &Catalog, rights: &Rights) -> Self {
        // Who was connected, and from where, is no part of a dump.
        let catalog = Catalog { clients: vec![], ..catalog.clone() };
        Source { search_path: search_path.to_owned(), catalog, rights: rights.clone() }
    }
}

/// `plan.json`: how rows were read and hashed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowPlan {
    /// The tables; their places in this list are their numbers.
    pub tables: Vec<TablePlan>,
    /// The large objects; a batch's place is its chunk's number.
    pub large_objects: Vec<LargeObjectBatch>,
}

impl RowPlan {
    /// The part of a plan that an archive depends on.
    pub fn of(plan: &Plan) -> Self {
        RowPlan { tables: plan.tables.clone(), large_objects: plan.large_objects.clone() }
    }

    /// What the rows of a chunk look like; `None` for what is no chunk of this plan.
    pub fn rows_of(&self, member: &Member) -> Option<Rows> {
        match member {
            Member::Chunk { table, .. } => {
                Some(self.tables.get(usize::try_from(*table).ok()?)?.rows().archived())
            }
            Member::LargeObjects { .. } => Some(large_object::rows()),
            Member::Attachment { .. } => None,
        }
    }

    /// What the archive has to hold.
    pub fn layout(&self, catalog: &Catalog) -> Layout {
        let number = |length: usize| u32::try_from(length).expect("a plan has fewer than 2^32 of anything");
        let tables = self.tables.iter().enumerate().map(|(position, table)| PlannedTable {
            number: number(position),
            name: table.name.clone(),
            content: PlannedContent {
                columns: columns(table, catalog),
                wire_format: wire_format(table),
                chunks: number(table.chunks.len()),
            },
        });
        let batches = number(self.large_objects.len());
        Layout {
            tables: tables.collect(),
            large_objects: (batches > 0).then(|| large_object::content(batches)),
        }
    }
}

fn wire_format(table: &TablePlan) -> WireFormat {
    if matches!(table.rows(), Rows::Text) { WireFormat::Text } else { WireFormat::Binary }
}

fn columns(table: &TablePlan, catalog: &Catalog) -> Vec<Column> {
    let found = catalog.tables.iter().find(|found| found.name == table.name);
    let type_of = |name: &str| {
        let column = found.and_then(|found| found.columns.iter().find(|column| column.name == name));
        column.map_or_else(|| "unknown".to_owned(), |column| column.formatted_type.clone())
    };
    let column = |column: &crate::plan::columns::ColumnPlan| Column {
        name: column.name.clone(),
        type_name: match column.treatment {
            Treatment::Embedding => "vector".to_owned(),
            _ => type_of(&column.name),
        },
    };
    table.columns.iter().map(column).collect()
}

/// Part of `recomputed.json`: stored generated columns with their table's key, or a materialised view, as the
/// source held them. A target computes them again, so the archive has only their digest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recomputed {
    /// Which of both it is.
    pub aspect: Aspect,
    /// The table or view, and how the columns were hashed.
    pub table: TablePlan,
    /// What was found.
    #[serde(flatten)]
    pub found: Hashed,
}

/// What hashing came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hashed {
    /// The digest of all rows.
    Digest(Digest),
    /// What the source said against reading them.
    Refusal(String),
}

impl From<Read> for Hashed {
    fn from(read: Read) -> Self {
        read.map_or_else(Hashed::Refusal, Hashed::Digest)
    }
}

impl From<Hashed> for Read {
    fn from(hashed: Hashed) -> Self {
        match hashed {
            Hashed::Digest(digest) => Ok(digest),
            Hashed::Refusal(reason) => Err(reason),
        }
    }
}

/// The header of an archive of a source, as of its catalog's snapshot.
pub fn header(catalog: &Catalog) -> Header {
    Header {
        pgmove_version: env!("CARGO_PKG_VERSION").to_owned(),
        created: jiff::Timestamp::now(),
        source: SourceRecord {
            server_version: catalog.server.version.clone(),
            encoding: catalog.database.encoding.clone(),
            database: catalog.database.name.clone(),
            snapshot: catalog.snapshot.clone(),
        },
    }
}

/// Everything of an archive but its rows.
#[derive(Debug)]
pub struct Contents {
    /// Where the rows are.
    pub archive: Arc<Archive>,
    /// The source.
    pub source: Source,
    /// Its DDL.
    pub entries: Vec<Entry>,
    /// Where its sequences stand.
    pub sequences: Vec<SequenceValue>,
    /// How its rows were read.
    pub rows: RowPlan,
    /// What the target will compute again.
    pub recomputed: Vec<Recomputed>,
}

impl Contents {
    /// Reads an archive that [`write`] has made.
    pub async fn open(directory: &Path) -> Result<Contents, ArchiveError> {
        let archive = Arc::new(Archive::open(directory)?);
        let contents = Contents {
            source: archive.document(SOURCE).await?,
            entries: archive.document(SCHEMA).await?,
            sequences: archive.document(SEQUENCES).await?,
            rows: row_plan(&archive).await?,
            recomputed: archive.document(RECOMPUTED).await?,
            archive,
        };
        if contents.has_all_recomputed() {
            return Ok(contents);
        }
        let reason = format!("it does not name what {PLAN} and {SOURCE} say is computed again");
        Err(ArchiveError::DamagedList { file: RECOMPUTED, reason })
    }

    /// Whether there is one digest of each: what is missing here would never be compared.
    fn has_all_recomputed(&self) -> bool {
        let columns = self.rows.tables.iter().filter(|table| !table.generated.is_empty());
        let views = self.source.catalog.materialized_views.iter().filter(|view| view.is_populated);
        let columns = columns.map(|table| (Aspect::GeneratedColumns, &table.name));
        let expected = columns.chain(views.map(|view| (Aspect::MaterializedView, &view.name)));
        expected.eq(self.recomputed.iter().map(|found| (found.aspect, &found.table.name)))
    }
}

/// How the rows of an archive were read; it fits the manifest.
pub async fn row_plan(archive: &Archive) -> Result<RowPlan, ArchiveError> {
    let plan: RowPlan = archive.document(PLAN).await?;
    let manifest = archive.manifest();
    let fits = |(position, (planned, stored)): (usize, (&TablePlan, &super::Table))| {
        let names = planned.columns.iter().map(|column| &column.name);
        u32::try_from(position) == Ok(stored.number)
            && planned.name == QualifiedName::new(&stored.schema, &stored.name)
            && planned.chunks.len() == stored.content.chunks.len()
            && wire_format(planned) == stored.content.wire_format
            && names.eq(stored.content.columns.iter().map(|column| &column.name))
    };
    let batches = manifest.large_objects.as_ref().map_or(0, |content| content.chunks.len());
    let is_fitting = plan.tables.len() == manifest.tables.len()
        && plan.large_objects.len() == batches
        && plan.tables.iter().zip(&manifest.tables).enumerate().all(fits);
    if is_fitting {
        return Ok(plan);
    }
    Err(ArchiveError::DamagedList { file: PLAN, reason: "it does not fit manifest.json".to_owned() })
}

/// Puts the attachments into an archive whose rows are complete, and finishes it.
pub async fn write(
    writer: &Writer,
    source: &Source,
    entries: &[Entry],
    sequences: &[SequenceValue],
    rows: &RowPlan,
    recomputed: &[Recomputed],
) -> Result<(), ArchiveError> {
    writer.attach_document(SOURCE, source).await?;
    writer.attach_document(SCHEMA, &entries).await?;
    writer.attach_document(SEQUENCES, &sequences).await?;
    writer.attach_document(PLAN, rows).await?;
    writer.attach_document(RECOMPUTED, &recomputed).await?;
    writer.finish(rows.layout(&source.catalog)).map(drop)
}
