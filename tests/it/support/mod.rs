//! Real servers for tests: one of each major version for the whole run, a fresh database for each test.
//!
//! A test takes [`Server::shared`] or one of [`pairs`], makes a [`Database`] of it, fills that with its SQL and runs
//! [`pgmove`]. Nothing has to be put away: a database is dropped with its value, and a server ends with the test process,
//! however that ends (see `guard.sh`).

mod command;
mod database;
mod install;
mod server;

use std::sync::Arc;

pub(crate) use command::{pgmove, psql};
pub(crate) use database::Database;
pub(crate) use install::Install;
pub(crate) use server::{Server, Variant};

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
pub(crate) fn pairs() -> impl Iterator<Item = Pair> {
    PAIRS.into_iter().map(Pair::shared)
}

/// From the oldest source to the newest target.
pub(crate) fn smoke_pair() -> Pair {
    Pair::shared(SMOKE)
}

impl Pair {
    fn shared((source, target): (u32, u32)) -> Self {
        Self { source: Server::shared(source), target: Server::shared(target) }
    }
}
