//! Building an index or adding a constraint: the statement and its ledger row in one message.

use std::sync::{Arc, PoisonError};

use crate::transfer::lane::{Lane, LaneError};
use crate::transfer::ledger::{self, Durability};
use crate::transfer::work::Work;

impl Lane {
    /// Takes a step. Statements and ledger row go as one simple-query message, which is one transaction
    /// (protocol documentation, "Multiple Statements in a Simple Query"): the server carries it through, or
    /// rolls all of it back, also when the connection is cut meanwhile.
    pub(super) async fn build(&mut self, step: usize) -> Result<(), LaneError> {
        let shared = Arc::clone(&self.shared);
        let planned = &shared.plan.steps[step];
        let what = format!("could not build {}", planned.object);
        let item = Work::Build { step }.item(&shared.plan).expect("a step is in the ledger");
        let mut message = planned.statements.join(";\n");
        message.push_str(";\n");
        message.push_str(&ledger::record(&item, None, Durability::Logged));
        let number = self.number;
        let target = self.target(&what).await?;
        let memory = match planned.maintenance_work_mem {
            0 => "RESET maintenance_work_mem".to_owned(),
            bytes => format!("SET maintenance_work_mem TO '{}kB'", bytes / 1024),
        };
        let session = |source| LaneError::Session { what: what.clone(), source };
        target.run(&memory, "set maintenance_work_mem").await.map_err(session)?;
        let process = target.process();
        let builders = || shared.builders.lock().unwrap_or_else(PoisonError::into_inner);
        builders().insert(number, (process, planned.object.clone()));
        let outcome = target.run(&message, format!("create {}", planned.object)).await;
        builders().remove(&number);
        outcome.map_err(session)
    }
}
