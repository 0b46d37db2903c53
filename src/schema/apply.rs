//! Sending the plan's steps to the target, strictly: the first statement that fails stops the run.
//!
//! Steps before the rows are committed in batches, each with its ledger rows; steps after them one by one. A
//! step that needs a superuser goes over the admin's session or by psql in the target's pod, its ledger row with it.
//!
//! pg_dump writes its statements for an empty `search_path`. Functions written without schemas fail then, for
//! instance in a generated column; such a step is tried once more with the source's `search_path`, and the
//! operator is told.
//!
//! An interrupt has the server end the statement that runs; nothing of its step is committed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::error::{Class, Fault};
use crate::event::{Event, Events, Stage};
use crate::kubernetes::{Psql, PsqlError};
use crate::pg::{Access, Endpoint, Session, SessionError, quote_literal, session};
use crate::plan::{Phase, Plan, Route, Step};
use crate::transfer::digest::Digest;
use crate::transfer::ledger::{self, Durability};

/// How many steps are committed at once: few enough for the server's lock table.
const BATCH: usize = 50;

/// How long the server is asked to end a statement. One that cannot be reached notices the closed connection.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// Why the schema could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No session, or a statement of the bookkeeping failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The target refused a step.
    #[error("{object} was refused; its statements are: {statement}")]
    Step {
        /// What was to be made.
        object: String,
        /// The statement, shortened if it is long.
        statement: String,
        /// What the target said.
        source: SessionError,
    },
    /// psql in the target's pod did not take a step.
    #[error("{object} was refused; its statements are: {statement}")]
    Psql {
        /// What was to be made.
        object: String,
        /// The statement, shortened if it is long.
        statement: String,
        /// What it said.
        source: PsqlError,
    },
    /// A step needs a superuser, and there is no admin connection.
    #[error("{0} needs a superuser")]
    NoAdmin(String),
    /// The operator asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Fault for ApplyError {
    fn class(&self) -> Class {
        match self {
            ApplyError::Session(source) | ApplyError::Step { source, .. } => source.class(),
            ApplyError::Psql { source, .. } => source.class(),
            ApplyError::NoAdmin(_) | ApplyError::Interrupted => Class::User,
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            ApplyError::Session(source) | ApplyError::Step { source, .. } => source.is_retryable(),
            ApplyError::Psql { source, .. } => source.is_retryable(),
            ApplyError::NoAdmin(_) | ApplyError::Interrupted => false,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ApplyError::Session(source) | ApplyError::Step { source, .. } => source.hint(),
            ApplyError::Psql { source, .. } => source.hint(),
            ApplyError::NoAdmin(_) => Some("give --target-admin".into()),
            ApplyError::Interrupted => None,
        }
    }
}

/// Applies steps to one target.
#[derive(Debug)]
pub struct Applier<'a> {
    plan: &'a Plan,
    done: &'a HashMap<String, Option<Digest>>,
    events: &'a Events,
    stop: &'a CancellationToken,
    target: Session,
    admin: Option<Session>,
    admin_endpoint: Option<&'a Endpoint>,
    psql: Option<Psql>,
}

impl<'a> Applier<'a> {
    /// An applier with a session of its own. `done` are the units that the ledger has already;
    /// `stop` is cancelled by an interrupt.
    pub async fn new(
        plan: &'a Plan,
        done: &'a HashMap<String, Option<Digest>>,
        (events, stop): (&'a Events, &'a CancellationToken),
        target: &Endpoint,
        admin_endpoint: Option<&'a Endpoint>,
    ) -> Result<Self, ApplyError> {
        let target = Session::open(target, Access::Write, "").await?;
        Ok(Applier { plan, done, events, stop, target, admin: None, admin_endpoint, psql: None })
    }

    /// The same, with what takes the place of an admin's session.
    #[must_use]
    pub fn with_psql(self, psql: Option<Psql>) -> Self {
        Applier { psql, ..self }
    }

    /// Runs statements that are no steps.
    pub async fn run(&self, statements: &str, what: impl Into<String>) -> Result<(), ApplyError> {
        self.run_in(&self.target, statements, what).await
    }

    async fn run_in(
        &self,
        session: &Session,
        statements: &str,
        what: impl Into<String>,
    ) -> Result<(), ApplyError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            outcome = session.run(statements, what) => return Ok(outcome?),
        }
        let _ = tokio::time::timeout(CANCEL_LIMIT, session.cancel()).await;
        Err(ApplyError::Interrupted)
    }

    /// Takes every step of [`Phase::PreData`] that is not done.
    pub async fn before_rows(&mut self) -> Result<(), ApplyError> {
        let steps = self.open(&Phase::PreData);
        let mut steps = steps.as_slice();
        while let [first, ..] = steps {
            if first.route == Route::Admin {
                self.as_admin(first).await?;
                steps = &steps[1..];
                continue;
            }
            let end = steps.iter().take(BATCH).take_while(|step| step.route != Route::Admin).count();
            self.run("BEGIN", "begin").await?;
            for step in &steps[..end] {
                self.in_transaction(step).await?;
            }
            let records: Vec<String> = steps[..end]
                .iter()
                .map(|step| ledger::record(&item(step), None, Durability::Logged))
                .collect();
            let commit = format!("{}; COMMIT", records.join("; "));
            self.run(&commit, "commit the schema with its ledger rows").await?;
            steps = &steps[end..];
        }
        Ok(())
    }

    /// Takes every step of [`Phase::Finish`] that is not done.
    pub async fn after_rows(&mut self) -> Result<(), ApplyError> {
        for step in self.open(&Phase::Finish) {
            if step.route == Route::Admin {
                self.as_admin(step).await?;
                continue;
            }
            self.run("BEGIN", "begin").await?;
            self.in_transaction(step).await?;
            let commit = format!("{}; COMMIT", ledger::record(&item(step), None, Durability::Logged));
            self.run(&commit, "commit the step with its ledger row").await?;
        }
        Ok(())
    }

    fn open(&self, phase: &Phase) -> Vec<&'a Step> {
        let is_open = |step: &&Step| step.phase == *phase && !self.done.contains_key(&item(step));
        self.plan.steps.iter().filter(is_open).collect()
    }

    async fn in_transaction(&self, step: &Step) -> Result<(), ApplyError> {
        self.announce(step, true, None);
        let begun = Instant::now();
        let body = step.statements.join(";\n");
        let guarded = |before: &str, after: &str| {
            format!("SAVEPOINT pgmove_step;\n{before}{body};\n{after}RELEASE SAVEPOINT pgmove_step")
        };
        if let Err(error) = self.run(&guarded("", ""), format!("create {}", step.object)).await {
            if !is_about_names(&error) || self.plan.search_path.is_empty() {
                return Err(refused(step, error));
            }
            self.run("ROLLBACK TO SAVEPOINT pgmove_step", "go back to before the step").await?;
            let path = quote_literal(&self.plan.search_path);
            let set = format!("SELECT pg_catalog.set_config('search_path', {path}, true);\n");
            let unset = "SELECT pg_catalog.set_config('search_path', '', true);\n";
            self.run(&guarded(&set, unset), format!("create {}", step.object))
                .await
                .map_err(|error| refused(step, error))?;
            self.events.warn(format!(
                "{} names objects without their schema; it was created with search_path {}",
                step.object, self.plan.search_path
            ));
        }
        self.announce(step, false, Some(begun));
        Ok(())
    }

    async fn as_admin(&mut self, step: &Step) -> Result<(), ApplyError> {
        self.announce(step, true, None);
        let begun = Instant::now();
        // One message, so one transaction: most of these statements fail the second time.
        let record = ledger::record(&item(step), None, Durability::Logged);
        let message = format!("{};\n{record}", step.statements.join(";\n"));
        if let (None, Some(psql)) = (self.admin_endpoint, &self.psql) {
            self.by_psql(psql, step, &message).await?;
            self.announce(step, false, Some(begun));
            return Ok(());
        }
        if self.admin.is_none() {
            let endpoint = self.admin_endpoint.ok_or_else(|| ApplyError::NoAdmin(step.object.clone()))?;
            self.admin = Some(Session::open(endpoint, Access::Write, "").await?);
        }
        let admin = self.admin.as_ref().expect("it was just opened");
        self.run_in(admin, &message, format!("create {}", step.object))
            .await
            .map_err(|error| refused(step, error))?;
        self.announce(step, false, Some(begun));
        Ok(())
    }

    /// An interrupt leaves psql to itself: it ends in the pod, done or not, and a resumed run looks into the ledger.
    async fn by_psql(&self, psql: &Psql, step: &Step, message: &str) -> Result<(), ApplyError> {
        let outcome = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(ApplyError::Interrupted),
            outcome = psql.run(message) => outcome,
        };
        let (object, statement) = (step.object.clone(), shortened(step));
        outcome.map_err(|source| ApplyError::Psql { object, statement, source })
    }

    fn announce(&self, step: &Step, is_begin: bool, begun: Option<Instant>) {
        let stage = if step.phase == Phase::PreData { Stage::Schema } else { Stage::Finish };
        let item = step.object.clone();
        self.events.emit(if is_begin {
            Event::ItemStarted { stage, lane: 0, item, table: None, bytes: None }
        } else {
            let seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
            Event::ItemFinished { stage, lane: 0, item, seconds }
        });
    }

    /// Ends the sessions.
    pub async fn close(self) {
        self.target.close().await;
        if let Some(admin) = self.admin {
            admin.close().await;
        }
    }
}

fn item(step: &Step) -> String {
    format!("ddl:{}", step.id)
}

fn refused(step: &Step, error: ApplyError) -> ApplyError {
    let ApplyError::Session(source) = error else { return error };
    ApplyError::Step { object: step.object.clone(), statement: shortened(step), source }
}

fn shortened(step: &Step) -> String {
    const SHOWN: usize = 600;
    let mut statement = step.shown().join("; ");
    if let Some((cut, _)) = statement.char_indices().nth(SHOWN) {
        statement.truncate(cut);
        statement.push_str(" ...");
    }
    statement
}

/// Whether a name was not found: the mark of a function that relies on `search_path`.
pub(crate) fn is_about_names(error: &ApplyError) -> bool {
    matches!(error, ApplyError::Session(SessionError::Statement { error, .. }) if session::is_about_names(error))
}
