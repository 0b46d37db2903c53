//! From the snapshot to the plan, and the plan onto the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::archive::row_counts;
use super::{Checked, Context, Outcome, Source};
use crate::catalog::Catalog;
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::event::{Event, Events, Stage};
use crate::journal::{DUMP, PLAN, Record, RunDirectory, SCHEMA};
use crate::pg::{Access, Endpoint, QualifiedName, Session, display_identifier};
use crate::plan::make::{self, Obstacles, Request};
use crate::plan::{Plan, Route, TablePlan, ddl, vector};
use crate::preflight::{Finding, Severity, few};
use crate::schema::{self, ChildLimits, ClientTools, DumpRequest, Entry};
use crate::survey;
use crate::transfer::digest::Digest;
use crate::transfer::relay;
use crate::transfer::snapshot::Snapshot;

/// A plan, and what forbids it.
pub(super) struct Prepared {
    pub(super) plan: Plan,
    pub(super) entries: Vec<Entry>,
    pub(super) findings: Vec<Finding>,
}

impl Context<'_> {
    /// Plans from the snapshot. `scratch` takes pg_dump's archive.
    pub(super) async fn plan(
        &self,
        checked: &Checked,
        snapshot: &Snapshot,
        scratch: &Path,
    ) -> Result<Prepared, Error> {
        let (source, target) = (&snapshot.catalog, &checked.target);
        let jobs = self.jobs(source, target);
        let (entries, tables, vector_rows) = match &self.source {
            Source::Server(_) => {
                // pg_dump heeds an interrupt itself.
                let counted = self.interruptible(count_vectors(snapshot));
                let (entries, vector_rows) =
                    tokio::try_join!(self.entries(checked, snapshot, scratch), counted)?;
                let tables = make::tables(source, target, jobs, self.settings.chunk_bytes);
                (entries, tables, vector_rows)
            }
            Source::Archive(stored) => {
                (stored.entries.clone(), stored.rows.tables.clone(), row_counts(stored))
            }
        };
        let setting_contexts = self.setting_contexts(source).await?;
        let existing_schemas = ddl::existing_schemas(target);
        let input = ddl::Input {
            existing_schemas: &existing_schemas,
            source,
            target,
            tables: &tables,
            vector_rows: &vector_rows,
            owner: self.choices.owner.as_deref(),
            vector_index: self.choices.vector_index,
            has_admin: checked.admin.as_ref().is_some_and(|rights| rights.is_superuser),
            has_operator: self.settings.connections.operator.is_some(),
            index_memory: self.settings.index_memory.unwrap_or_else(|| default_index_memory(checked, jobs)),
            jobs,
            setting_contexts: &setting_contexts,
        };
        let request = Request {
            run: &self.run,
            search_path: &checked.search_path,
            jobs,
            chunk_bytes: self.settings.chunk_bytes,
            large_objects: &snapshot.large_objects,
        };
        let (mut plan, obstacles) = make::make(&request, &entries, &input);
        plan.replaced = checked.replaces.then(|| target.user_objects.clone());
        plan.admin = self.admin_of(&plan);
        let mut findings = findings(obstacles);
        self.say_why_nobody(&mut findings);
        if let Source::Archive(stored) = &self.source {
            plan.large_objects.clone_from(&stored.rows.large_objects);
            findings.extend(Self::unloadable(stored, checked));
        }
        let shared_buffers = target.server.settings.shared_buffers;
        findings.extend(
            checked.memory_limit.and_then(|limit| survey::index_memory(&plan, limit, shared_buffers)),
        );
        let mut prepared = Prepared { plan, entries, findings };
        self.keep_to_given(&mut prepared, checked, snapshot).await;
        Ok(prepared)
    }

    /// Who takes the steps that need a superuser, if there are any.
    fn admin_of(&self, plan: &Plan) -> Option<String> {
        plan.steps.iter().find(|step| step.route == Route::Admin)?;
        let login = self.admin.as_ref().map(|admin| admin.conninfo.to_string());
        login.or_else(|| self.psql().map(|psql| psql.to_string()))
    }

    /// Who may set what the source's database has set.
    async fn setting_contexts(&self, source: &Catalog) -> Result<BTreeMap<String, String>, Error> {
        let names: Vec<&str> = source.database.settings.iter().map(|setting| setting.name.as_str()).collect();
        if names.is_empty() {
            return Ok(BTreeMap::new());
        }
        let failed = |error| Error::new(Exit::Refused, error);
        let session = Session::open(&self.target, Access::Read, "pg_catalog").await.map_err(failed)?;
        let rows =
            session.client.query(include_str!("../../sql/session/setting_contexts.sql"), &[&names]).await;
        let rows = rows.map_err(|error| failed(session.failed("read the settings", error)))?;
        session.close().await;
        Ok(rows.iter().map(|row| (row.get("name"), row.get("context"))).collect())
    }

    pub(super) async fn entries(
        &self,
        checked: &Checked,
        snapshot: &Snapshot,
        scratch: &Path,
    ) -> Result<Vec<Entry>, Error> {
        read_schema(checked.tools(), self.source.server(), snapshot, scratch, &self.limits(), &self.events)
            .await
    }

    pub(super) fn write_down(
        directory: &mut RunDirectory,
        prepared: &Prepared,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        let failed = |error| Error::new(Exit::Refused, error);
        directory.write_document(PLAN, &prepared.plan).map_err(failed)?;
        directory.write_document(SCHEMA, &prepared.entries).map_err(failed)?;
        directory.append(Record::Planned { state: snapshot.state.clone() }).map_err(failed)
    }

    /// Everything that only reads.
    pub(super) async fn dry_run(
        &self,
        checked: Checked,
        findings: Vec<Finding>,
        begun: std::time::Instant,
    ) -> Result<Outcome, Error> {
        let scratch = scratch()?;
        let snapshot = self.snapshot(&checked).await?;
        let prepared = self.plan(&checked, &snapshot, scratch.path()).await?;
        self.events
            .emit(Event::StageFinished { stage: Stage::Check, seconds: begun.elapsed().as_secs_f64() });
        if !prepared.findings.is_empty() {
            return Ok(Outcome::Refused(prepared.findings));
        }
        let digests = if self.settings.digests {
            Some(self.stage(Stage::Verify, self.digests(&prepared.plan, &snapshot)).await?)
        } else {
            None
        };
        let document = Box::new(self.document(&checked, &snapshot, &prepared.plan).await);
        snapshot.release().await;
        let freeze = self.freeze_plan().await?.map(Box::new);
        Ok(Outcome::Planned { document, findings, digests, freeze })
    }

    async fn digests(&self, plan: &Plan, snapshot: &Snapshot) -> Result<Vec<(String, Digest)>, Error> {
        let mut digests = Vec::new();
        for table in &plan.tables {
            digests.push((table.name.to_string(), self.digest(table, snapshot).await?));
            self.safe_point()?;
        }
        Ok(digests)
    }

    /// The digest of a whole table of the source, in the snapshot.
    pub(super) async fn digest(&self, table: &TablePlan, snapshot: &Snapshot) -> Result<Digest, Error> {
        let session = snapshot.session();
        let what = format!("hash {}", table.name);
        let failed = |error| Error::new(Exit::Resumable, session.failed(what.clone(), error));
        let rows = session.copy_out(&table.copy_hashed(crate::plan::Chunk::WHOLE)).await.map_err(failed)?;
        let progress = |rows, bytes| {
            self.events.emit(Event::Progress { stage: Stage::Verify, lane: 0, rows, bytes });
        };
        let stall = self.settings.connections.stall;
        let digest = relay::read(rows, table.columns.len(), &table.masked(), stall.into(), progress)
            .await
            .map_err(|source| Error::new(Exit::Resumable, Unreadable { what: what.clone(), source }))?;
        session.copy_ended().await.map_err(failed)?;
        Ok(digest)
    }
}

/// The source's DDL, by pg_dump in the snapshot, as it may be kept.
pub(super) async fn read_schema(
    tools: &ClientTools,
    source: &Endpoint,
    snapshot: &Snapshot,
    scratch: &Path,
    limits: &ChildLimits,
    events: &Events,
) -> Result<Vec<Entry>, Error> {
    let archive = scratch.join(DUMP);
    let request = DumpRequest {
        tools,
        side: Side::Source,
        endpoint: &Context::child(source)?,
        snapshot: Some(&snapshot.id),
        archive: &archive,
        limits,
    };
    let dump = schema::read_schema(&request).await.map_err(|error| Error::new(Exit::Refused, error))?;
    for warning in dump.warnings {
        events.note(format!("pg_dump: {warning}"));
    }
    Ok(dump.entries.into_iter().map(Entry::masked).collect())
}

/// A table could not be read through.
#[derive(Debug, thiserror::Error)]
#[error("could not {what}")]
struct Unreadable {
    what: String,
    source: relay::RelayError,
}

impl Fault for Unreadable {
    fn class(&self) -> Class {
        Class::Source
    }
}

/// There is no place for a private directory.
#[derive(Debug, thiserror::Error)]
#[error("could not create {}", .path.display())]
struct NoScratch {
    path: PathBuf,
    source: std::io::Error,
}

impl Fault for NoScratch {
    fn class(&self) -> Class {
        Class::Environment
    }

    fn hint(&self) -> Option<String> {
        Some("let TMPDIR name a directory that can be written".into())
    }
}

/// A private directory in the one for temporary files.
pub(crate) fn scratch() -> Result<Scratch, Error> {
    let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), 1);
    let path = std::env::temp_dir().join(format!("pgmove-{random:016x}"));
    let made = std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&path);
    match made {
        Ok(()) => Ok(Scratch(path)),
        Err(source) => Err(Error::new(Exit::Refused, NoScratch { path, source })),
    }
}

/// A private directory that goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Another run works on the target.
#[derive(Debug, thiserror::Error)]
#[error("another pgmove works on database {0} of the target")]
struct Busy(String);

impl Fault for Busy {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("wait for it, or stop it".into())
    }
}

/// Takes the lock that keeps two runs out of one database; it is held as long as the session.
pub(super) async fn lock(session: &Session, database: &str) -> Result<(), Error> {
    let row = session.client.query_one(include_str!("../../sql/session/lock.sql"), &[]).await;
    let row = row.map_err(|error| Error::new(Exit::Resumable, session.failed("lock the target", error)))?;
    if row.get("is_locked") { Ok(()) } else { Err(Error::new(Exit::Refused, Busy(database.to_owned()))) }
}

/// Exact numbers of rows of the tables with vector indexes: the number of lists depends on them.
async fn count_vectors(snapshot: &Snapshot) -> Result<HashMap<QualifiedName, u64>, Error> {
    let is_vector = |index: &&crate::catalog::Index| vector::is_vector_method(&index.access_method);
    let tables: BTreeSet<&QualifiedName> =
        snapshot.catalog.indexes.iter().filter(is_vector).map(|index| &index.table).collect();
    let session = snapshot.session();
    let mut counts = HashMap::new();
    for table in tables {
        let statement = format!("SELECT pg_catalog.count(*) FROM ONLY {}", table.sql());
        let row = session.client.query_one(&statement, &[]).await;
        let row =
            row.map_err(|error| Error::new(Exit::Refused, session.failed(format!("count {table}"), error)))?;
        counts.insert(table.clone(), u64::try_from(row.get::<_, i64>(0)).unwrap_or_default());
    }
    Ok(counts)
}

/// The server's own setting for as many builds as run at once, at least 256 MiB, at most a quarter of the
/// memory that its buffer pool lets expect.
fn default_index_memory(checked: &Checked, jobs: u16) -> u64 {
    let settings = &checked.target.server.settings;
    let by_setting = settings.maintenance_work_mem.saturating_mul(u64::from(jobs));
    by_setting.max(256 << 20).min(settings.shared_buffers.max(256 << 20))
}

fn findings(obstacles: Obstacles) -> Vec<Finding> {
    let unconvertible = obstacles.unconvertible.into_iter().map(|object| Finding {
        id: "legacy-vector-object",
        severity: Severity::Blocking,
        title: format!("{object} uses pgvecto.rs, which the target does not have"),
        evidence: "its definition names the schema of extension vectors".into(),
        objects: vec![],
        remedy: "drop the object on the source or rewrite it for pgvector, then run again".into(),
    });
    let forbidden = obstacles.forbidden.into_iter().map(|(object, reason)| Finding {
        id: "needs-superuser",
        severity: Severity::Blocking,
        title: format!("{object} can be created by a superuser only"),
        evidence: reason,
        objects: vec![],
        remedy: "give --target-admin with a superuser of the target".into(),
    });
    let ungranted = obstacles.ungranted.into_iter().map(|missing| {
        let objects = few(missing.objects);
        Finding {
            id: "create-not-granted",
            severity: Severity::Blocking,
            title: format!(
                "role {} may not create in {} of the target",
                display_identifier(&missing.role),
                missing.place
            ),
            evidence: format!("it must, to make or to be given {objects}"),
            objects: objects.all(),
            remedy: missing.remedy,
        }
    });
    unconvertible.chain(forbidden).chain(ungranted).collect()
}
