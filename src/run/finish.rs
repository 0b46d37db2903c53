//! After rows and indexes: sequences, the rest of the DDL, materialised views.

use std::collections::HashMap;

use super::{Context, Source, append};
use crate::catalog::{self, SequenceValue};
use crate::error::{Error, Exit, Fault, Side};
use crate::event::Stage;
use crate::journal::{Record, RunDirectory};
use crate::pg::{Access, Session, SessionError, quote_literal};
use crate::plan::Plan;
use crate::schema::apply::{Applier, ApplyError, is_about_names};
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

    fn is_retryable(&self) -> bool {
        match self {
            FinishError::Session(error) => error.is_retryable(),
            FinishError::Apply(error) => error.is_retryable(),
            FinishError::Catalog(error) => error.is_retryable(),
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
    /// Gives where the source's sequences stood when the target's were set.
    pub(super) async fn finish(
        &self,
        directory: &mut RunDirectory,
        plan: &Plan,
        done: &HashMap<String, Option<Digest>>,
        holders: (&Snapshot, &Session),
    ) -> Result<Vec<SequenceValue>, Error> {
        let work = async {
            let mut applier =
                Applier::new(plan, done, (&self.events, self.stop), &self.target, self.admin.as_ref())
                    .await?
                    .with_psql(self.psql());
            let values = self.sequence_values(holders.0).await?;
            set_sequences(&applier, &values).await?;
            applier.after_rows().await?;
            // A refresh runs as the view's owner, who may need rights: pg_restore's RESTORE_PASS_POST_ACL.
            self.refresh(&applier, plan).await?;
            analyze_partitioned(&applier, plan).await?;
            applier.close().await;
            Ok::<_, FinishError>(values)
        };
        // Stages are large futures.
        let work = Box::pin(async { work.await.map_err(|error| Error::new(Exit::Resumable, error)) });
        let values = self.stage(Stage::Finish, self.holding(holders, work)).await?;
        append(directory, Record::StageFinished { stage: Stage::Finish })?;
        Ok(values)
    }

    /// A view whose functions name objects without their schema is refreshed with the source's `search_path`, as
    /// steps of DDL are taken.
    async fn refresh(&self, applier: &Applier<'_>, plan: &Plan) -> Result<(), ApplyError> {
        for view in &plan.materialized_views {
            let (statement, what) =
                (format!("REFRESH MATERIALIZED VIEW {}", view.name.sql()), format!("refresh {}", view.name));
            let Err(error) = applier.run(&statement, &what).await else { continue };
            if !is_about_names(&error) || plan.search_path.is_empty() {
                return Err(error);
            }
            let path = quote_literal(&plan.search_path);
            // One message is one transaction, and so is the setting's life.
            let message = format!("SELECT pg_catalog.set_config('search_path', {path}, true);\n{statement}");
            applier.run(&message, &what).await?;
            self.events.warn(format!(
                "{} names objects without their schema; it was refreshed with search_path {}",
                view.name, plan.search_path
            ));
        }
        Ok(())
    }

    async fn sequence_values(&self, snapshot: &Snapshot) -> Result<Vec<SequenceValue>, FinishError> {
        let endpoint = match &self.source {
            Source::Archive(stored) => return Ok(stored.sequences.clone()),
            Source::Server(endpoint) => endpoint,
        };
        let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
        let values =
            catalog::sequence_values(&session.client, Side::Source, &snapshot.catalog.sequences).await?;
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

async fn analyze_partitioned(applier: &Applier<'_>, plan: &Plan) -> Result<(), ApplyError> {
    let views = plan.materialized_views.iter().map(|view| &view.name);
    for name in plan.partitioned.iter().chain(views) {
        applier.run(&format!("ANALYZE {}", name.sql()), format!("analyze {name}")).await?;
    }
    Ok(())
}
