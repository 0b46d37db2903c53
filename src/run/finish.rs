//! After rows and indexes: sequences, the rest of the DDL, materialised views.

use std::collections::HashMap;

use super::{Context, Source, append};
use crate::catalog::{self, SequenceValue};
use crate::error::{Error, Exit, Fault, Side};
use crate::event::Stage;
use crate::journal::{Record, RunDirectory};
use crate::pg::{Access, Session, SessionError, quote_literal};
use crate::plan::Plan;
use crate::schema::apply::{Applier, ApplyError};
use crate::transfer::digest::Digest;
use crate::transfer::snapshot::Snapshot;

/// Why the last part of a move failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FinishError {
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
                Applier::new(plan, done, (self.events, self.stop), &self.target, self.admin.as_ref()).await?;
            let values = self.sequence_values(Side::Source, snapshot).await?;
            set_sequences(&applier, &values).await?;
            applier.after_rows().await?;
            // A refresh runs as the view's owner, who may need rights: pg_restore's RESTORE_PASS_POST_ACL.
            refresh(&applier, plan).await?;
            analyze_partitioned(&applier, plan).await?;
            applier.close().await;
            Ok::<_, FinishError>(())
        };
        self.stage(Stage::Finish, work).await.map_err(|error| Error::new(Exit::Resumable, error))?;
        append(directory, Record::StageFinished { stage: Stage::Finish })
    }

    pub(super) async fn sequence_values(
        &self,
        side: Side,
        snapshot: &Snapshot,
    ) -> Result<Vec<SequenceValue>, FinishError> {
        let endpoint = match (side, &self.source) {
            (Side::Source, Source::Archive(stored)) => return Ok(stored.sequences.clone()),
            (Side::Source, Source::Server(endpoint)) => endpoint,
            (Side::Target, _) => &self.target,
        };
        let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
        let values = catalog::sequence_values(&session.client, side, &snapshot.catalog.sequences).await?;
        session.close().await;
        Ok(values)
    }
}

async fn set_sequences(applier: &Applier<'_>, values: &[SequenceValue]) -> Result<(), ApplyError> {
    for batch in values.chunks(500) {
        let set: Vec<String> = batch
            .iter()
            .map(|value| {
                let name = quote_literal(&value.name.sql());
                format!("SELECT pg_catalog.setval({name}, {}, {})", value.last_value, value.is_called)
            })
            .collect();
        applier.run(&set.join(";\n"), "set the sequences").await?;
    }
    Ok(())
}

async fn refresh(applier: &Applier<'_>, plan: &Plan) -> Result<(), ApplyError> {
    for view in &plan.materialized_views {
        let statement = format!("REFRESH MATERIALIZED VIEW {}", view.name.sql());
        applier.run(&statement, format!("refresh {}", view.name)).await?;
    }
    Ok(())
}

async fn analyze_partitioned(applier: &Applier<'_>, plan: &Plan) -> Result<(), ApplyError> {
    let views = plan.materialized_views.iter().map(|view| &view.name);
    for name in plan.partitioned.iter().chain(views) {
        applier.run(&format!("ANALYZE {}", name.sql()), format!("analyze {name}")).await?;
    }
    Ok(())
}
