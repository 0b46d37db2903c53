//! `pgmove report` and `pgmove status`: a run, told from its directory alone.

use std::path::PathBuf;

use super::arguments::{Output, RunDirectoryOption, Wanted};
use super::commands::Ended;
use super::screen::Screen;
use crate::error::{Class, Error, Exit, Fault};
use crate::{report, run};

/// Where runs are kept unless the user says otherwise.
pub(super) const RUNS: &str = "pgmove-runs";

/// No directory is named, and it is not clear which one is meant.
#[derive(Debug, thiserror::Error)]
enum Unnamed {
    #[error("there is no directory {RUNS} with a run here")]
    None,
    #[error("{RUNS} holds several runs: {0}")]
    Several(String),
}

impl Fault for Unnamed {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some("name the directory of the run with --run-dir".into())
    }
}

/// The directory that is named, or else the only one of a run, or of a rehearsal, that there is.
fn directory(options: &RunDirectoryOption) -> Result<PathBuf, Error> {
    if let Some(named) = &options.run_dir {
        return Ok(named.clone());
    }
    let entries = std::fs::read_dir(RUNS).map(|entries| entries.flatten().map(|entry| entry.path()));
    let mut found: Vec<PathBuf> = entries.into_iter().flatten().filter(|path| path.is_dir()).collect();
    found.sort();
    // A rehearsal is asked for by name where there is a run.
    if !found.iter().all(|path| run::rehearse::is_beside(path)) {
        found.retain(|path| !run::rehearse::is_beside(path));
    }
    match found.len() {
        0 => Err(Error::new(Exit::Usage, Unnamed::None)),
        1 => Ok(found.remove(0)),
        _ => {
            let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
            Err(Error::new(Exit::Usage, Unnamed::Several(names.join(", "))))
        }
    }
}

pub(super) fn status(options: &RunDirectoryOption) -> Result<Ended, Error> {
    let directory = directory(options)?;
    let status = report::status(&directory).map_err(|error| Error::new(Exit::Usage, error))?;
    Ok(Ended { status: Some((status, directory)), ..Ended::default() })
}

pub(super) fn report(options: &Wanted) -> Result<Ended, Error> {
    let directory = directory(&options.run_dir)?;
    let found = report::report_of(&directory).map_err(|error| Error::new(Exit::Usage, error))?;
    if options.html {
        return Ok(Ended { content: Some(report::page(&found)), ..Ended::default() });
    }
    Ok(Ended { report: Some(found), ..Ended::default() })
}

/// The report in the form that is asked for.
pub(super) fn rendered(found: &report::Report, screen: Screen) -> String {
    match screen.output {
        Output::Text => report::summary(found, screen.is_verbose, screen.stdout),
        Output::Json => report::document(found),
    }
}
