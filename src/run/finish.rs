//! After rows and indexes: sequences, large objects' rights, materialised views, the rest of the DDL; then the
//! comparison.

use std::collections::HashMap;

use super::{Checked, Context, append};
use crate::catalog::{self, SequenceValue};
use crate::error::{Error, Exit, Fault, Side};
use crate::event::Stage;
use crate::journal::{Record, RunDirectory, SourceState};
use crate::pg::{Access, QualifiedName, Session, SessionError, quote_literal};
use crate::plan::Plan;
use crate::schema::apply::{Applier, ApplyError};
use crate::transfer::digest::Digest;
use crate::transfer::lane::Found;
use crate::transfer::snapshot::Snapshot;
use crate::verify::{Aspect, Comparison, Outcome, TableResult};

/// Why the last part of a move failed.
#[derive(Debug, thiserror::Error)]
enum FinishError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Catalog(#[from] catalog::CatalogError),
}

impl Fault for FinishError {
    fn class(&self) -> crate::error::Class {
        match self {
            FinishError::Session(error) => error.class(),
            FinishError::Apply(error) => error.class(),
            FinishError::Catalog(error) => error.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            FinishError::Session(error) => error.hint(),
            FinishError::Apply(error) => error.hint(),
            FinishError::Catalog(error) => error.hint(),
        }
    }
}

impl Context<'_> {
    pub(super) async fn finish(
        &self,
        directory: &mut RunDirectory,
        plan: &Plan,
        done: &HashMap<String, Option<Digest>>,
        snapshot: &Snapshot,
    ) -> Result<(), Error> {
        let work = async {
            let mut applier =
                Applier::new(plan, done, self.events, &self.target, self.admin.as_ref()).await?;
            let values = self.sequence_values(Side::Source, snapshot).await?;
            set_sequences(applier.session(), &values).await?;
            refresh(applier.session(), plan).await?;
            applier.after_rows().await?;
            analyze_partitioned(applier.session(), plan).await?;
            applier.close().await;
            Ok::<_, FinishError>(())
        };
        self.stage(Stage::Finish, work).await.map_err(|error| Error::new(Exit::Resumable, error))?;
        append(directory, Record::StageFinished { stage: Stage::Finish })
    }

    async fn sequence_values(
        &self,
        side: Side,
        snapshot: &Snapshot,
    ) -> Result<Vec<SequenceValue>, FinishError> {
        let endpoint = if side == Side::Source { &self.source } else { &self.target };
        let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
        let values = catalog::sequence_values(&session.client, side, &snapshot.catalog.sequences).await?;
        session.close().await;
        Ok(values)
    }

    /// Compares both sides, releases the snapshot, and looks whether the source stayed as it was.
    pub(super) async fn verify(
        &self,
        _checked: &Checked,
        plan: &Plan,
        found: Found,
        snapshot: Snapshot,
    ) -> Result<Comparison, Error> {
        let work = async {
            let mut comparison = Comparison::default();
            compare_tables(&mut comparison, plan, &found);
            let source = self.sequence_values(Side::Source, &snapshot).await?;
            let target = self.sequence_values(Side::Target, &snapshot).await?;
            compare_sequences(&mut comparison, &source, &target);
            let later = self.source_state().await?;
            compare_states(&mut comparison, &snapshot.state, &later, self.settings.accept_writes);
            snapshot.release().await;
            Ok::<_, FinishError>(comparison)
        };
        self.stage(Stage::Verify, work).await.map_err(|error| Error::new(Exit::Resumable, error))
    }

    async fn source_state(&self) -> Result<SourceState, FinishError> {
        let session = Session::open(&self.source, Access::Read, "pg_catalog").await?;
        let catalog = catalog::Catalog::read(&session.client, Side::Source).await?;
        session.close().await;
        Ok(SourceState { system_identifier: catalog.server.system_identifier, snapshot: catalog.snapshot })
    }
}

async fn set_sequences(target: &Session, values: &[SequenceValue]) -> Result<(), SessionError> {
    for batch in values.chunks(500) {
        let set: Vec<String> = batch
            .iter()
            .map(|value| {
                let name = quote_literal(&value.name.sql());
                format!("SELECT pg_catalog.setval({name}, {}, {})", value.last_value, value.is_called)
            })
            .collect();
        target.run(&set.join(";\n"), "set the sequences").await?;
    }
    Ok(())
}

async fn refresh(target: &Session, plan: &Plan) -> Result<(), SessionError> {
    for view in &plan.materialized_views {
        let statement = format!("REFRESH MATERIALIZED VIEW {}", view.name.sql());
        target.run(&statement, format!("refresh {}", view.name)).await?;
    }
    Ok(())
}

async fn analyze_partitioned(target: &Session, plan: &Plan) -> Result<(), SessionError> {
    let views = plan.materialized_views.iter().map(|view| &view.name);
    for name in plan.partitioned.iter().chain(views) {
        target.run(&format!("ANALYZE {}", name.sql()), format!("analyze {name}")).await?;
    }
    Ok(())
}

/// Three numbers must be one: what was copied, what the source counts, what the target holds.
fn compare_tables(comparison: &mut Comparison, plan: &Plan, found: &Found) {
    for (index, table) in plan.tables.iter().enumerate() {
        let (copied, read_back) = (found.copied[index], found.read_back[index]);
        comparison.tables.push(TableResult {
            table: table.name.to_string(),
            rows: [copied.rows, read_back.rows],
            checksums: Some([copied.checksum(), read_back.checksum()]),
        });
        let outcome = match found.counted[index] {
            None => Outcome::NotCompared { reason: "the source's rows were not counted".into() },
            Some(counted) if counted != copied.rows => Outcome::Different {
                detail: format!("{} rows were copied, the source counts {counted}", copied.rows),
                rows: vec![],
            },
            Some(_) if copied.rows != read_back.rows => Outcome::Different {
                detail: format!("{} rows on the source, {} on the target", copied.rows, read_back.rows),
                rows: vec![],
            },
            Some(_) if copied != read_back => Outcome::Different {
                detail: "equal numbers of rows with different contents".into(),
                rows: vec![],
            },
            Some(_) => Outcome::Equal,
        };
        comparison.push(table.name.to_string(), Aspect::Rows, outcome);
    }
}

fn compare_sequences(comparison: &mut Comparison, source: &[SequenceValue], target: &[SequenceValue]) {
    let of: HashMap<&QualifiedName, &SequenceValue> =
        target.iter().map(|value| (&value.name, value)).collect();
    for value in source {
        let outcome = match of.get(&value.name) {
            Some(found) if *found == value => Outcome::Equal,
            Some(found) => Outcome::Different {
                detail: format!(
                    "({}, {}) on the source, ({}, {}) on the target",
                    value.last_value, value.is_called, found.last_value, found.is_called
                ),
                rows: vec![],
            },
            None => Outcome::Different { detail: "missing on the target".into(), rows: vec![] },
        };
        comparison.push(format!("sequence {}", value.name), Aspect::Sequence, outcome);
    }
}

fn compare_states(comparison: &mut Comparison, then: &SourceState, now: &SourceState, accept_writes: bool) {
    let detail = format!(
        "transaction ids were given out on the source's server since the snapshot ({} then, {} now): it was \
         written, or its state cannot be told",
        then.snapshot, now.snapshot
    );
    let outcome = match (then.is_proven_equal(now), accept_writes) {
        (true, _) => Outcome::Equal,
        (false, true) => Outcome::AsPlanned { detail },
        (false, false) => {
            Outcome::NotCompared { reason: format!("{detail}; --accept-writes takes this as done") }
        }
    };
    comparison.push("source", Aspect::SourceUnchanged, outcome);
}
