//! Every definition tried on the target, in a scratch database that is dropped again.
//!
//! The steps are those of a run into that database, each by itself: what is refused is written down, and the next one
//! tried. There are no rows, so what only fails with them is not found.

use std::time::Duration;

use super::furnish::furnish;
use super::scratch_database::{self, ScratchDatabase, ScratchError};
use super::{Context, Interrupted, Source, new_run_id};
use crate::catalog::Catalog;
use crate::error::{Error, Exit, Side};
use crate::pg::{Access, Session, SessionError, describe, quote_literal, session};
use crate::plan::{Plan, Route, Step};
use crate::settings::RunSettings;
use crate::survey::Refused;

/// How long the server is asked to end a statement.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// So much of a statement is shown.
const SHOWN: usize = 300;

impl Context<'_> {
    /// Tries the definitions of a run. What an earlier, killed check has left is dropped first.
    pub(super) async fn try_definitions(&self, target: &Catalog) -> Result<Vec<Refused>, Error> {
        let failed = |error: ScratchError| Error::new(Exit::Refused, error);
        if let Some(admin) = &self.admin {
            let session = Session::open(admin, Access::Write, "pg_catalog").await;
            let session = session.map_err(|error| failed(error.into()))?;
            for left in scratch_database::remove_left_over(&session).await.map_err(failed)? {
                self.events.note(left.to_string());
            }
            session.close().await;
        }
        // Not by the id of a freeze that this check knows: its next one would take what this one leaves for its own.
        let run = new_run_id();
        let name = Context::application_name(&run);
        let connections = &self.settings.connections;
        let (endpoint, admin) = (connections.endpoint(Side::Target, &name), connections.admin(&name));
        let owner = &target.session.role;
        let scratch = ScratchDatabase::create(&endpoint, admin.as_ref(), owner, &run).await;
        let scratch = scratch.map_err(failed)?;
        scratch_database::within(scratch, &self.events, async |scratch| {
            furnish(scratch, target, &self.events).await.map_err(|error| failed(error.into()))?;
            let settings = RunSettings {
                connections: scratch.connections(&self.settings.connections),
                ..self.settings.clone()
            };
            let inside = Context {
                settings: &settings,
                events: self.events.clone(),
                stop: self.stop,
                run: run.clone(),
                choices: self.choices.clone(),
                source: Source::Server(self.source.server().clone()),
                target: scratch.target.clone(),
                admin: Some(scratch.admin.clone()),
            };
            let mut checked = Box::pin(inside.check()).await?;
            inside.safe_point()?;
            let plan = Box::pin(inside.planned(&mut checked)).await?;
            Box::pin(inside.try_steps(&plan)).await
        })
        .await
    }

    async fn try_steps(&self, plan: &Plan) -> Result<Vec<Refused>, Error> {
        let failed = |error: SessionError| Error::new(Exit::Refused, error);
        let admin = self.admin.as_ref().expect("a scratch database has an administrator");
        let owner = Session::open(&self.target, Access::Write, "").await.map_err(failed)?;
        let admin = Session::open(admin, Access::Write, "").await.map_err(failed)?;
        let mut refused: Vec<Refused> = Vec::new();
        for step in &plan.steps {
            let taker = if step.route == Route::Admin { &admin } else { &owner };
            let Err(error) = self.try_step(step, plan, taker).await? else { continue };
            let SessionError::Statement { error: answer, .. } = &error else { return Err(failed(error)) };
            if answer.as_db_error().is_none() || session::is_retryable(answer) {
                return Err(failed(error));
            }
            // What names something that is not there, after something was not made.
            if let Some(first) = refused.last_mut().filter(|_| session::is_about_names(answer)) {
                first.followers += 1;
                continue;
            }
            let mut statement: String =
                step.shown().join("; ").split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some((cut, _)) = statement.char_indices().nth(SHOWN) {
                statement.truncate(cut);
                statement.push_str(" ...");
            }
            let words = describe(answer);
            refused.push(Refused { object: step.object.clone(), statement, words, followers: 0 });
        }
        owner.close().await;
        admin.close().await;
        Ok(refused)
    }

    /// One step, as a run takes it: with the source's `search_path` where it names objects without their schema.
    async fn try_step(
        &self,
        step: &Step,
        plan: &Plan,
        taker: &Session,
    ) -> Result<Result<(), SessionError>, Error> {
        let body = step.statements.join(";\n");
        let first = self.unless_stopped(taker, &body, &step.object).await?;
        let is_about_names = |error: &SessionError| matches!(error, SessionError::Statement { error, .. } if session::is_about_names(error));
        match first {
            Err(error) if is_about_names(&error) && !plan.search_path.is_empty() => {
                let path = quote_literal(&plan.search_path);
                let with_path = format!("SELECT pg_catalog.set_config('search_path', {path}, true);\n{body}");
                self.unless_stopped(taker, &with_path, &step.object).await
            }
            done => Ok(done),
        }
    }

    async fn unless_stopped(
        &self,
        session: &Session,
        statements: &str,
        object: &str,
    ) -> Result<Result<(), SessionError>, Error> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            done = session.run(statements, format!("create {object}")) => return Ok(done),
        }
        let _ = tokio::time::timeout(CANCEL_LIMIT, session.cancel()).await;
        Err(Error::new(Exit::Interrupted, Interrupted))
    }
}
