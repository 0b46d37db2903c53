//! A plan that was made before the run: made anew, compared with its file, and kept to.

use super::prepare::{Prepared, scratch};
use super::rehearse::directory_beside;
use super::{Checked, Context, Source, reporting, resume};
use crate::catalog::{AvailableExtension, Extension};
use crate::error::Error;
use crate::event::ExtensionVersions;
use crate::journal::RunDirectory;
use crate::plan::Plan;
use crate::plan::compare::{Difference, differences};
use crate::plan::document::{Document, Estimate, Place, VERSION};
use crate::preflight::{Finding, Severity};
use crate::report::Report;
use crate::report::files::{self, REPORT};
use crate::transfer::snapshot::Snapshot;

/// What else makes a window longer or shorter.
const DECISIVE: [&str; 5] = ["jobs", "chunk-size", "index-memory", "vector-index", "owner"];

/// Bytes of tables and indexes in a second of a window: the least of the databases in docs/performance.md, rounded down.
const MEASURED_RATE: u64 = 140 << 20;

impl Context<'_> {
    /// The plan as a document.
    pub(super) async fn document(&self, checked: &Checked, snapshot: &Snapshot, plan: &Plan) -> Document {
        let workers = checked.target.server.settings.max_parallel_maintenance_workers;
        let document = Document {
            version: VERSION,
            pgmove: env!("CARGO_PKG_VERSION").to_owned(),
            source: Place::of(&checked.source),
            target: Place::of(&checked.target),
            extensions: extensions(checked),
            choices: self.choices.clone(),
            chunk_bytes: self.settings.chunk_bytes,
            workers: u32::try_from(workers).unwrap_or_default(),
            estimate: self.estimate(snapshot),
            plan: plan.clone(),
            sha256: String::new(),
        };
        // Each masked statement takes a tenth of a second, in which a session or a Lease may want its thread.
        let sealed = tokio::task::spawn_blocking(|| document.seal()).await;
        sealed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn estimate(&self, snapshot: &Snapshot) -> Estimate {
        let catalog = &snapshot.catalog;
        let table_bytes: u64 = catalog.tables.iter().map(|table| table.total_bytes).sum();
        let index_bytes: u64 = catalog.indexes.iter().map(|index| index.bytes).sum();
        let large_object_bytes = catalog.large_objects.bytes;
        let rehearsed = self.rehearsed();
        let measured = rehearsed.is_some();
        let (seconds, seconds_basis) = rehearsed.unwrap_or_else(|| {
            let basis = format!(
                "{} a second, which docs/performance.md measured on two cores without a network, and no time for vector indexes; \
                 pgmove rehearse measures it here",
                crate::report::bytes(MEASURED_RATE)
            );
            ((table_bytes + index_bytes + large_object_bytes).div_ceil(MEASURED_RATE), basis)
        });
        Estimate {
            table_bytes,
            index_bytes,
            large_object_bytes,
            bytes_basis: "sizes on the source's disk, free space within them among it".into(),
            seconds,
            measured,
            seconds_basis,
        }
    }

    /// How long the last rehearsal of this move took, in seconds, and when it was.
    fn rehearsed(&self) -> Option<(u64, String)> {
        let directory = directory_beside(&self.settings.run_dir);
        let report: Report = files::read(&directory, REPORT).ok().flatten()?;
        let rehearsal = report.rehearsal?;
        let Source::Server(source) = &self.source else { return None };
        let is_same = report.source == source.conninfo.to_string()
            && rehearsal.target == self.target.conninfo.to_string();
        let window = rehearsal.window.filter(|_| is_same)?;
        let when = report.scope.as_of?.strftime("%Y-%m-%d %H:%M UTC");
        let limit = rehearsal.max_rate.map_or_else(String::new, |rate| {
            format!(", which read no more than {} a second", crate::report::bytes(rate))
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a window has few seconds"
        )]
        let seconds = window.seconds.ceil() as u64;
        let now = reporting::settings(self.settings, &self.choices);
        let before = &report.history.processes.last()?.settings;
        let others: Vec<String> = DECISIVE
            .into_iter()
            .filter(|option| before.get(*option) != now.get(*option))
            .map(|option| format!("--{option}"))
            .collect();
        let others =
            if others.is_empty() { String::new() } else { format!(", with another {}", others.join(", ")) };
        Some((seconds, format!("as long as the rehearsal of {when} took{limit}{others}")))
    }

    /// What only a plan shows, and keeps a run from it, asked before a freeze stops the application in vain: that it is not
    /// the plan that the user gave, or that its builds need more memory than there is. It is asked again in the snapshot
    /// that is moved.
    pub(super) async fn refused_before_freeze(
        &self,
        checked: &Checked,
        directory: &RunDirectory,
    ) -> Result<Vec<Finding>, Error> {
        if self.settings.freeze.is_none() || resume::is_planned(directory.records()) {
            return Ok(vec![]);
        }
        let scratch = scratch()?;
        let snapshot = self.naming_lock_holders(self.snapshot(checked)).await?;
        let planning = self.naming_lock_holders(self.plan(checked, &snapshot, scratch.path()));
        let prepared = self.interruptible(planning).await?;
        snapshot.release().await;
        Ok(prepared.findings)
    }

    /// Keeps a new plan to the one that the user gave: its chunks, the memory of its builds; what cannot be kept refuses the run.
    pub(super) async fn keep_to_given(
        &self,
        prepared: &mut Prepared,
        checked: &Checked,
        snapshot: &Snapshot,
    ) {
        let Some(given) = &self.settings.given_plan else { return };
        let now = self.document(checked, snapshot, &prepared.plan).await;
        let changed = differences(given, &now);
        if changed.is_empty() {
            for (table, planned) in prepared.plan.tables.iter_mut().zip(&given.plan.tables) {
                // The last one has no end, so they hold the whole table however it has grown.
                table.chunks.clone_from(&planned.chunks);
            }
            for (step, planned) in prepared.plan.steps.iter_mut().zip(&given.plan.steps) {
                step.maintenance_work_mem = planned.maintenance_work_mem;
            }
        }
        prepared.findings.extend(changed.into_iter().map(finding));
    }
}

/// What the source has, with what the target has or offers for it; and what the target alone has or gets.
pub(super) fn extensions(checked: &Checked) -> Vec<ExtensionVersions> {
    let offered = &checked.target.available_extensions;
    let version = |offered: &AvailableExtension| {
        offered.installed_version.as_ref().unwrap_or(&offered.default_version).clone()
    };
    let of_source = |found: &Extension| ExtensionVersions {
        name: found.name.clone(),
        source: found.version.clone(),
        target: offered.iter().find(|other| other.name == found.name).map(version),
    };
    let is_new = |offered: &&AvailableExtension| {
        (offered.installed_version.is_some() || checked.needed_extensions.contains(&offered.name))
            && !checked.source.extensions.iter().any(|found| found.name == offered.name)
    };
    let of_target = |offered: &AvailableExtension| ExtensionVersions {
        name: offered.name.clone(),
        source: "none".to_owned(),
        target: Some(version(offered)),
    };
    let source = checked.source.extensions.iter().map(of_source);
    source.chain(offered.iter().filter(is_new).map(of_target)).collect()
}

fn finding(Difference { title, evidence, objects }: Difference) -> Finding {
    Finding {
        id: "plan-changed",
        severity: Severity::Blocking,
        title,
        evidence,
        objects,
        remedy: "make the plan again (pgmove plan --save FILE), read it, and run by that".into(),
    }
}
