//! `pgmove check`: the check of a run, its plan, and what only an operator asks for. Both sides are only read.

use tokio_util::sync::CancellationToken;

use super::freezing::frozen_before;
use super::prepare::scratch;
use super::{Checked, Context, Source, new_run_id};
use crate::error::{Error, Exit, Side};
use crate::event::{Events, Stage};
use crate::pg::Endpoint;
use crate::plan::{Plan, make};
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

/// Looks at both sides as a run would, and further; a move would go by `settings`.
pub async fn survey(
    settings: &RunSettings,
    options: survey::Options,
    events: &Events,
    stop: &CancellationToken,
) -> Result<Surveyed, Error> {
    let run = frozen_before(&settings.run_dir).unwrap_or_else(new_run_id);
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
    let surveying = context.naming_lock_holders(context.survey(options));
    // Nothing was written; a child that was told to stop has failed.
    let refused = |error: Error| {
        let exit = match error.exit {
            // A scratch database is left.
            Exit::StartOver => Exit::StartOver,
            _ if stop.is_cancelled() => Exit::Interrupted,
            _ => Exit::Refused,
        };
        Error { exit, ..error }
    };
    context.stage(Stage::Check, surveying).await.map_err(refused)
}

fn unreadable(error: ReadError) -> Error {
    let exit = if matches!(error, ReadError::Interrupted) { Exit::Interrupted } else { Exit::Refused };
    Error::new(exit, error)
}

impl Context<'_> {
    async fn survey(&self, options: survey::Options) -> Result<Surveyed, Error> {
        let mut checked = Box::pin(self.interruptible(self.check())).await?;
        let mut found = Box::pin(self.look(&checked)).await?;
        let objects = Box::pin(self.interruptible(async { Ok(self.objects().await) })).await?;
        found.skipped.extend(objects.skipped.iter().cloned());
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
        let has_admin = checked.admin.as_ref().is_some_and(|rights| rights.is_superuser);
        if options.is_deep {
            let deep = Box::pin(self.look_deep(&checked)).await?;
            found = Found { damage: deep.damage, duplicates: deep.duplicates, ..found };
            found.skipped.extend(deep.skipped);
            let untried = |why: &str| Skipped {
                what: "whether the target takes every definition, in a scratch database".into(),
                why: why.into(),
            };
            match &plan {
                Some(_) if has_admin && self.admin.is_some() => {
                    self.safe_point()?;
                    match Box::pin(self.try_definitions(&checked.target.session.role)).await {
                        Ok(refused) => found.refused = refused,
                        // What was found before is not lost for it.
                        Err(error) if error.exit == Exit::Refused && !self.stop.is_cancelled() => {
                            found.skipped.push(untried(&error.chain().join(": ")));
                        }
                        Err(error) => return Err(error),
                    }
                }
                Some(_) => found.skipped.push(untried("it needs --target-admin with a superuser")),
                None => found.skipped.push(untried("the move cannot be planned")),
            }
        } else {
            found.skipped.push(Skipped {
                what: "damaged rows, duplicates that unique keys hide, whether the target takes every definition".into(),
                why: "only --deep looks for them".into(),
            });
        }
        let input = Input {
            source: &checked.source,
            target: &checked.target,
            source_rights: &checked.source_rights,
            has_superuser: checked.has_superuser(),
            found: &found,
            plan: plan.as_ref(),
            options: survey::Options {
                memory_limit: options.memory_limit.or_else(|| objects.memory_limit()),
                ..options
            },
        };
        let (findings, summary) = (survey::findings(&input), survey::summary(&input));
        let creates_extensions = self.creates_extensions(&checked);
        checked.findings.extend(findings);
        checked.findings.extend(objects.findings);
        checked.findings.extend(preflight::kubernetes::findings(&preflight::kubernetes::Objects {
            source: objects.source.as_ref(),
            target: objects.target.as_ref(),
            freeze: objects.freeze.as_ref(),
            needs: Some(&summary.needs),
            index_memory: plan.as_ref().map(|plan| plan.index_memory),
            client_tools: checked.tools.as_ref().ok(),
            creates_extensions: Some(creates_extensions),
        }));
        preflight::sort(&mut checked.findings);
        self.announce_check(&checked);
        Ok(Surveyed { findings: checked.findings, summary })
    }

    /// The reads that a run does not make.
    async fn look(&self, checked: &Checked) -> Result<Found, Error> {
        let source: &Endpoint = self.source.server();
        let (found, target_ages, elsewhere) = tokio::join!(
            survey::source(source, &checked.source, self.stop),
            survey::ages(&self.target, self.stop),
            survey::elsewhere(&self.target),
        );
        let mut found = Found { target_ages: target_ages.map_err(unreadable)?, ..found.map_err(unreadable)? };
        match elsewhere {
            Ok(extensions) => found.elsewhere = extensions,
            Err(skipped) => found.skipped.push(skipped),
        }
        Ok(found)
    }

    /// Reads every table through.
    async fn look_deep(&self, checked: &Checked) -> Result<Found, Error> {
        let tables = make::tables(&checked.source, &checked.target, 1, None);
        let path = &checked.search_path;
        let events = (&self.events, self.stop);
        let found = survey::deep(self.source.server(), &checked.source, &tables, path, events).await;
        found.map_err(unreadable)
    }

    /// The plan of a run that would begin now; what forbids it joins the findings.
    pub(super) async fn planned(&self, checked: &mut Checked) -> Result<Plan, Error> {
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
