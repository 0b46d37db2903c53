//! Real servers for tests: one of each major version for the whole run, a fresh database for each test.
//!
//! A test takes [`Server::shared`] or one of [`pairs`], makes a [`Database`] of it, fills that with its SQL and runs
//! [`pgmove`]. Nothing has to be put away: a database is dropped with its value, and a server ends with the test process,
//! however that ends (see `guard.sh`).

mod command;
mod container;
mod database;
mod install;
mod library;
mod local;
mod moving;
mod proxy;
mod server;
mod state;

use std::{env, sync::Arc};

pub(crate) use command::{client_path, hold, pgmove, pgmove_process, psql};
pub(crate) use database::Database;
pub(crate) use install::Install;
pub(crate) use library::{SMALL, Vectors};
pub(crate) use moving::{Ended, Move, Running, wait_until};
pub(crate) use proxy::{Cut, Direction, Fault, Proxy};
pub(crate) use server::{PASSWORD, Server, Variant};
pub(crate) use state::{State, leftovers, state, untouched};

/// A source and the newer server it is moved to.
pub(crate) struct Pair {
    pub(crate) source: Arc<Server>,
    pub(crate) target: Arc<Server>,
}

/// Major versions of source and target that every end-to-end test runs on.
const PAIRS: [(u32, u32); 3] = [(14, 16), (15, 17), (16, 18)];

/// The oldest source there is, for a smoke test.
const SMOKE: (u32, u32) = (12, 18);

/// The pairs that every end-to-end test runs on; a server starts when its pair is reached.
///
/// With `PGMOVE_TEST_CONTAINERS` set, the last pair is one of containers.
pub(crate) fn pairs() -> impl Iterator<Item = Pair> {
    PAIRS.into_iter().map(Pair::local).chain(images().into_iter().map(Pair::containers))
}

/// Images of a source and a target: those of tests/images, or the ones that the environment names.
///
/// None unless `PGMOVE_TEST_CONTAINERS` is set.
pub(crate) fn images() -> Option<(String, String)> {
    let image = |variable, own: &str| env::var(variable).unwrap_or_else(|_| own.to_owned());
    env::var_os("PGMOVE_TEST_CONTAINERS").map(|_| {
        (
            image("PGMOVE_TEST_SOURCE_IMAGE", "pgmove-test/legacy"),
            image("PGMOVE_TEST_TARGET_IMAGE", "pgmove-test/new"),
        )
    })
}

/// From the oldest source to the newest target.
pub(crate) fn smoke_pair() -> Pair {
    Pair::local(SMOKE)
}

impl Pair {
    fn local((source, target): (u32, u32)) -> Self {
        Self { source: Server::shared(source), target: Server::shared(target) }
    }

    fn containers((source, target): (String, String)) -> Self {
        Self { source: Server::shared_image(&source), target: Server::shared_image(&target) }
    }
}
