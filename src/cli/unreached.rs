//! A run that was to go on, and did not come to its journal: a server cannot be found, or a Secret not be read. What the run
//! has changed before stands all the same, and is said.

use std::fs;
use std::path::PathBuf;

use super::arguments::{Load, Restore, Run};
use super::commands::{Failed, run_dir};
use super::connections::Endpoint;
use super::runs::RUNS;
use crate::error::{Error, Exit};
use crate::event::Events;
use crate::report::Again;
use crate::run::{begun, way};

/// Of `pgmove run`.
pub(super) fn of_run(options: &Run, error: Error, events: &Events) -> Failed {
    let endpoints = &options.endpoints;
    let access = endpoints.cluster.access(&endpoints.source_object.options());
    let way = way(access.context.as_deref(), access.namespace.as_deref());
    told(&options.load, (0, &endpoints.source), &way, error, events)
}

/// Of `pgmove restore`.
pub(super) fn of_restore(options: &Restore, error: Error, events: &Events) -> Failed {
    told(&options.load, (1, &options.target.database), "", error, events)
}

/// `named` is the endpoint by which runs are kept, with its place among the two of a run.
fn told(load: &Load, named: (usize, &str), way: &str, mut error: Error, events: &Events) -> Failed {
    if !load.resume {
        return error.into();
    }
    let mut has_written = false;
    for directory in directories(load, named) {
        let Some(begun) = begun(&directory, way) else { continue };
        has_written |= begun.has_written;
        for line in begun.standing {
            events.warn(line);
        }
    }
    if !has_written {
        return error.into();
    }
    if error.exit == Exit::Refused {
        error.exit = Exit::Resumable;
    }
    Failed { error, again: Again::Resume }
}

/// Where the run may be. The name of an object's database stands in the cluster, so that all runs of the object are looked
/// at.
fn directories(load: &Load, (side, text): (usize, &str)) -> Vec<PathBuf> {
    if let Some(named) = &load.run_dir {
        return vec![named.clone()];
    }
    let object = match Endpoint::parse(text) {
        Ok(Endpoint::Object(object)) => object,
        Ok(Endpoint::ConnectionString(conninfo)) => return vec![run_dir(None, conninfo.database())],
        Err(_) => return vec![],
    };
    let is_of_object = |directory: &PathBuf| {
        let at = format!("@{object} in ");
        begun(directory, "").is_some_and(|begun| begun.endpoints[side].contains(&at))
    };
    let entries = fs::read_dir(RUNS).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(is_of_object).collect()
}
