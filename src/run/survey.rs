//! `pgmove check`: the check of a run, its plan, and what only an operator asks for. Both sides are only read.

use tokio_util::sync::CancellationToken;

use super::freezing::frozen_before;
use super::prepare::scratch;
use super::{Checked, Context, Source, new_run_id};
use crate::error::{Error, Exit, Side};
use crate::event::{Events, Stage};
use crate::kubernetes::ClusterLook;
use crate::pg::{Endpoint, display_identifier};
use crate::plan::{Plan, make};
use crate::preflight::{self, Finding};
use crate::settings::RunSettings;
use crate::survey::{self, Found, Input, ReadError, Skipped, Summary, Volumes};

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
    let surveying = Box::pin(context.survey(options));
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

/// Findings, and what was not looked at.
#[derive(Default)]
struct Told(Vec<Finding>, Vec<Skipped>);

fn volumes(look: &ClusterLook) -> Volumes {
    Volumes { data: look.storage_size, has_wal: look.spec.wal_storage.is_some(), wal: look.wal_size() }
}

/// The servers whose libraries nobody may see: of an extension that is loaded at the source's start nothing can be told.
fn hidden_libraries(checked: &Checked) -> impl Iterator<Item = Skipped> {
    let sides = [(Side::Source, &checked.source), (Side::Target, &checked.target)];
    let hidden = sides.into_iter().filter(|(_, catalog)| catalog.server.shared_preload_libraries.is_none());
    hidden.map(|(side, catalog)| Skipped {
        what: format!("the libraries that the {side}'s server loads at its start"),
        why: format!(
            "shared_preload_libraries is hidden from role {}, which is no member of pg_read_all_settings",
            display_identifier(&catalog.session.role)
        ),
    })
}

fn has_admin(checked: &Checked) -> bool {
    checked.admin.as_ref().is_some_and(|rights| rights.is_superuser)
}

impl Context<'_> {
    async fn survey(&self, options: survey::Options) -> Result<Surveyed, Error> {
        let checking = self.naming_lock_holders(self.check());
        let mut checked = Box::pin(self.interruptible(checking)).await?;
        let mut told = Told::default();
        let mut found = Box::pin(self.look(&checked, &mut told)).await?;
        let objects = Box::pin(self.interruptible(async { Ok(self.objects().await) })).await?;
        found.skipped.extend(objects.skipped.iter().cloned());
        found.skipped.extend(hidden_libraries(&checked));
        self.safe_point()?;
        let plan = Box::pin(self.plan_if_possible(&mut checked, &mut told)).await?;
        if options.is_deep {
            Box::pin(self.look_deep(&checked, &mut found, &mut told)).await?;
            Box::pin(self.try_if_possible(&checked, plan.is_some(), &mut found)).await?;
        } else {
            found.skipped.push(Skipped {
                what: "damaged rows, duplicates that unique keys hide, whether the target takes every definition".into(),
                why: "only --deep looks for them".into(),
            });
        }
        let Told(findings, skipped) = told;
        found.skipped.extend(skipped);
        checked.findings.extend(findings);
        let target = objects.target.as_ref();
        let input = Input {
            source: &checked.source,
            target: &checked.target,
            source_rights: &checked.source_rights,
            has_superuser: checked.has_superuser(),
            found: &found,
            plan: plan.as_ref(),
            volumes: target.map(volumes).unwrap_or_default(),
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
            target,
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

    /// The error, if it ends the check: an interrupt, or a scratch database that is left.
    fn unless_ended(&self, error: Error) -> Result<Error, Error> {
        let is_over = matches!(error.exit, Exit::Interrupted | Exit::StartOver) || self.stop.is_cancelled();
        if is_over { Err(error) } else { Ok(error) }
    }

    /// The plan of a run; what keeps it from being made is told.
    async fn plan_if_possible(&self, checked: &mut Checked, found: &mut Told) -> Result<Option<Plan>, Error> {
        let unplanned = |why: String| Skipped {
            what: "every definition, settings, memory of index builds, how each column travels".into(),
            why,
        };
        if checked.tools.is_err() {
            found.1.push(unplanned("pg_dump and pg_restore cannot be used".into()));
            return Ok(None);
        }
        let planned = self.naming_lock_holders(self.planned(checked));
        let error = match Box::pin(self.interruptible(planned)).await {
            Ok(plan) => return Ok(Some(plan)),
            Err(error) => self.unless_ended(error)?,
        };
        // Else what stands in its way is a finding already.
        if !preflight::is_refused(&checked.findings) {
            found.0.push(survey::plan_impossible(&error));
        }
        found.1.push(unplanned(error.chain().join(": ")));
        Ok(None)
    }

    /// The reads that a run does not make.
    async fn look(&self, checked: &Checked, told: &mut Told) -> Result<Found, Error> {
        let source: &Endpoint = self.source.server();
        let (found, room, elsewhere) = tokio::join!(
            survey::source(source, &checked.source, self.stop),
            survey::target(&self.target, self.stop),
            survey::elsewhere(&self.target),
        );
        let mut found = match found {
            Ok(found) => found,
            Err(error) => {
                self.not_looked(
                    error,
                    "open transactions, embeddings and the application of the source",
                    told,
                )?;
                Found::default()
            }
        };
        match room {
            Ok((ages, bytes)) => (found.target_ages, found.target_bytes) = (ages, bytes),
            Err(error) => self.not_looked(error, "age of transaction ids, and sizes, of the target", told)?,
        }
        match elsewhere {
            Ok(extensions) => found.elsewhere = extensions,
            Err(skipped) => found.skipped.push(skipped),
        }
        Ok(found)
    }

    fn not_looked(&self, error: ReadError, what: &str, found: &mut Told) -> Result<(), Error> {
        let error = self.unless_ended(unreadable(error))?;
        found.0.push(survey::look_failed(what, &error));
        found.1.push(Skipped { what: what.to_owned(), why: error.chain().join(": ") });
        Ok(())
    }

    /// Reads every table through.
    async fn look_deep(&self, checked: &Checked, found: &mut Found, told: &mut Told) -> Result<(), Error> {
        let mut tables = make::tables(&checked.source, &checked.target, 1, None);
        tables.extend(make::views(&checked.source, &checked.target));
        let path = &checked.search_path;
        let events = (&self.events, self.stop);
        match survey::deep(self.source.server(), &checked.source, &tables, path, events).await {
            Ok(deep) => {
                found.is_read_through = true;
                found.damage = deep.damage;
                found.damaged_objects = deep.damaged_objects;
                found.duplicates = deep.duplicates;
                found.skipped.extend(deep.skipped);
                Ok(())
            }
            Err(error) => {
                self.not_looked(error, "every row of the source, and duplicates that unique keys hide", told)
            }
        }
    }

    /// Tries every definition in a scratch database, where there is a plan and an administrator.
    async fn try_if_possible(
        &self,
        checked: &Checked,
        is_planned: bool,
        found: &mut Found,
    ) -> Result<(), Error> {
        let untried = |why: &str| Skipped {
            what: "whether the target takes every definition, in a scratch database".into(),
            why: why.into(),
        };
        if !is_planned {
            found.skipped.push(untried("the move cannot be planned"));
        } else if !has_admin(checked) || self.admin.is_none() {
            found.skipped.push(untried("it needs --target-admin with a superuser"));
        } else {
            self.safe_point()?;
            match Box::pin(self.try_definitions(&checked.target)).await {
                Ok(refused) => {
                    found.refused = Some(refused);
                    found.skipped.push(Skipped {
                        what: "what definitions do with rows: bodies of functions, and expressions of generated \
                               columns, checks and indexes that call them"
                            .into(),
                        why: "the scratch database has no rows; pgmove rehearse tries them".into(),
                    });
                }
                Err(error) => {
                    let error = self.unless_ended(error)?;
                    found.skipped.push(untried(&error.chain().join(": ")));
                }
            }
        }
        Ok(())
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
