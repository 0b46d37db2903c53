//! The end of a run: nothing of pgmove stays in the target.

use std::collections::HashMap;

use super::{Context, Outcome, append, resume};
use crate::catalog::DatabaseIdentity;
use crate::cutover::fence;
use crate::error::{Error, Exit, Side};
use crate::journal::{Record, RunDirectory};
use crate::pg::Session;
use crate::transfer::digest::Digest;
use crate::transfer::ledger;

impl Context<'_> {
    /// A run of which at most the clearing up is missing; `None` if its verdict does not stand any more.
    pub(super) async fn leave(
        &self,
        directory: &mut RunDirectory,
        (verdict, exit): (String, u8),
    ) -> Result<Option<Outcome>, Error> {
        let failed = |error| Error::new(Exit::Resumable, error);
        let session = self.reopen_target().await?;
        let target = DatabaseIdentity::read(&session.client, Side::Target).await;
        let target = target.map_err(|error| Error::new(Exit::Resumable, error))?;
        resume::is_same_database(directory.records(), Side::Target, &target)?;
        let owner = ledger::owner(&session.client).await;
        let owner = owner.map_err(|error| failed(session.failed("look for the ledger", error)))?;
        // A ledger that was to stay says nothing of a target that is live since.
        let is_over = directory.records().contains(&Record::Finished) && self.keeps_ledger(directory);
        if owner.as_ref() == Some(&self.run) && !is_over {
            let is_sealed = ledger::is_sealed(&session.client).await;
            let is_sealed = is_sealed.map_err(|error| failed(session.failed("look at the ledger", error)))?;
            if !is_sealed || resume::has_lost_rows(directory, &self.read_ledger(&session).await?)? {
                self.events.warn(
                    "the target's server has lost something after the verdict (it crashed and has emptied what is unlogged, or a \
                     replica that lagged took over): it is loaded and compared again",
                );
                session.close().await;
                append(directory, Record::Withdrawn)?;
                return Ok(None);
            }
            self.clear(directory, session).await?;
        }
        Ok(Some(Outcome::Cleared { verdict, exit: resume::exit_of(exit) }))
    }

    pub(super) async fn read_ledger(
        &self,
        session: &Session,
    ) -> Result<HashMap<String, Option<Digest>>, Error> {
        ledger::read(&session.client)
            .await
            .map_err(|error| Error::new(Exit::Resumable, session.failed("read the ledger", error)))
    }

    pub(super) fn keeps_ledger(&self, directory: &RunDirectory) -> bool {
        let settled = resume::settled(directory.records());
        self.settings.keep_ledger || settled.is_some_and(|settled| settled.keep_ledger)
    }

    /// Takes everything of pgmove out of the target.
    pub(super) async fn clear(&self, directory: &mut RunDirectory, session: Session) -> Result<(), Error> {
        let failed = |error| Error::new(Exit::Resumable, error);
        session.run("BEGIN", "begin").await.map_err(failed)?;
        if !self.keeps_ledger(directory) {
            ledger::drop(&session.client)
                .await
                .map_err(|error| failed(session.failed("remove the ledger", error)))?;
        }
        fence::unmark(&session, self.target.conninfo.database(), directory)
            .await
            .map_err(|error| Error::new(Exit::Resumable, error))?;
        session.run("COMMIT", "take the mark away").await.map_err(failed)?;
        append(directory, Record::Finished)?;
        session.close().await;
        Ok(())
    }
}
