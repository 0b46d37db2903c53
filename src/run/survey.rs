//! `pgmove check`: the check of a run, its plan, and what only an operator asks for. Both sides are only read.

use tokio_util::sync::CancellationToken;

use super::prepare::scratch;
use super::{Checked, Context, Source, new_run_id};
use crate::error::{Error, Exit, Side};
use crate::event::{Events, Stage};
use crate::pg::Endpoint;
use crate::plan::Plan;
use crate::preflight::{self, Finding};
use crate::settings::RunSettings;
use crate::survey::{self, Found, Input, ReadError, Skipped, Summary};

/// What a survey came to.
#[derive(Debug)]
pub struct Surveyed {
    /// All findings, blocking ones first, notes last.
    pub findings: Vec<Finding>,
    /// Sizes and needs, and what was looked at.
    pub summary: Summary,
}

/// Looks at both sides as a run would, and further; a move would go by `settings`. `memory_limit` is what the target's
/// server has of memory, in bytes.
pub async fn survey(
    settings: &RunSettings,
    memory_limit: Option<u64>,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Surveyed, Error> {
    let run = new_run_id();
    let name = Context::application_name(&run);
    let context = Context {
        settings,
        events: events.clone(),
        stop,
        choices: settings.choices.or_default(),
        source: Source::Server(settings.connections.endpoint(Side::Source, &name)),
        target: settings.connections.endpoint(Side::Target, &name),
        admin: settings.connections.admin(&name),
        run,
    };
    let surveying = context.naming_lock_holders(context.survey(memory_limit));
    // Nothing was written; a child that was told to stop has failed.
    let refused = |error: Error| {
        let exit = if stop.is_cancelled() { Exit::Interrupted } else { Exit::Refused };
        Error { exit, ..error }
    };
    context.stage(Stage::Check, surveying).await.map_err(refused)
}

impl Context<'_> {
    async fn survey(&self, memory_limit: Option<u64>) -> Result<Surveyed, Error> {
        let mut checked = Box::pin(self.interruptible(self.check())).await?;
        let mut found = Box::pin(self.look(&checked)).await?;
        self.safe_point()?;
        let unplanned = |why: String| Skipped {
            what: "every definition, settings, memory of index builds, how each column travels".into(),
            why,
        };
        let plan = if checked.tools.is_err() {
            found.skipped.push(unplanned("pg_dump and pg_restore cannot be used".into()));
            None
        } else {
            match Box::pin(self.interruptible(self.planned(&mut checked))).await {
                Ok(plan) => Some(plan),
                // What stands in its way is a finding already.
                Err(error) if error.exit != Exit::Interrupted && preflight::is_refused(&checked.findings) => {
                    found.skipped.push(unplanned(error.chain().join(": ")));
                    None
                }
                Err(error) => return Err(error),
            }
        };
        let input = Input {
            source: &checked.source,
            target: &checked.target,
            source_rights: &checked.source_rights,
            has_superuser: checked.target.session.is_superuser
                || checked.admin.as_ref().is_some_and(|rights| rights.is_superuser),
            found: &found,
            plan: plan.as_ref(),
            memory_limit,
        };
        let (findings, summary) = (survey::findings(&input), survey::summary(&input));
        checked.findings.extend(findings);
        survey::sort(&mut checked.findings);
        self.announce_check(&checked);
        Ok(Surveyed { findings: checked.findings, summary })
    }

    /// The reads that a run does not make.
    async fn look(&self, checked: &Checked) -> Result<Found, Error> {
        let failed = |error: ReadError| {
            let exit =
                if matches!(error, ReadError::Interrupted) { Exit::Interrupted } else { Exit::Refused };
            Error::new(exit, error)
        };
        let source: &Endpoint = self.source.server();
        let (found, target_ages, elsewhere) = tokio::join!(
            survey::source(source, &checked.source, self.stop),
            survey::ages(&self.target, self.stop),
            survey::elsewhere(&self.target),
        );
        let mut found = Found { target_ages: target_ages.map_err(failed)?, ..found.map_err(failed)? };
        match elsewhere {
            Ok(extensions) => found.elsewhere = extensions,
            Err(skipped) => found.skipped.push(skipped),
        }
        Ok(found)
    }

    /// The plan of a run that would begin now; what forbids it joins the findings.
    async fn planned(&self, checked: &mut Checked) -> Result<Plan, Error> {
        let scratch = scratch()?;
        let snapshot = self.snapshot(checked).await?;
        let prepared = self.plan(checked, &snapshot, scratch.path()).await?;
        snapshot.release().await;
        // The check has named these objects together.
        let is_known = |finding: &Finding| {
            let is_superusers =
                ["EVENT TRIGGER ", "PUBLICATION "].iter().any(|class| finding.title.starts_with(class));
            is_superusers && checked.findings.iter().any(|known| known.id == finding.id)
        };
        let new: Vec<Finding> = prepared.findings.into_iter().filter(|finding| !is_known(finding)).collect();
        checked.findings.extend(new);
        Ok(prepared.plan)
    }
}
