//! The run's own fence of the source.

use super::{Context, resume};
use crate::catalog::DatabaseIdentity;
use crate::cutover::fence::{self, FenceError, Lifted};
use crate::error::{Error, Exit, Side};
use crate::event::Stage;
use crate::journal::RunDirectory;
use crate::pg::{Access, Session};

impl Context<'_> {
    pub(super) async fn fence(&self, directory: &mut RunDirectory) -> Result<(), Error> {
        let fencing = async {
            let source = self.source.server();
            fence::fence(Session::open(source, Access::Write, "pg_catalog").await?, source, directory).await
        };
        let fenced = self.stage(Stage::Fence, fencing).await;
        let survivors = fenced.map_err(|error| Error::new(Exit::Resumable, error))?;
        for survivor in survivors {
            self.events.warn(format!(
                "session {} of role {} ({}) could not be ended and may still write to the source",
                survivor.pid, survivor.role, survivor.application_name
            ));
        }
        Ok(())
    }

    /// Lifts the run's own fence; an earlier one stays.
    pub(super) async fn lift_fence(&self, directory: &mut RunDirectory) -> Result<(), Error> {
        if resume::is_fenced(directory.records()) {
            let failed = |error: FenceError| Error::new(Exit::Resumable, error);
            let source = self.source.server();
            let session = Session::open(source, Access::Write, "pg_catalog").await;
            let session = session.map_err(|error| failed(error.into()))?;
            // Another database's setting is none of the run's.
            let found = DatabaseIdentity::read(&session.client, Side::Source).await;
            let found = found.map_err(|error| Error::new(Exit::Resumable, error))?;
            resume::is_same_database(directory.records(), Side::Source, &found)?;
            let lifted = fence::unfence(session, source, Some(directory)).await.map_err(failed)?;
            self.events.warn(match lifted {
                Lifted::Restored => "the fence was lifted again: the source accepts writes as before",
                _ => "the fence was lifted again: the source refuses writes by default, as before",
            });
        }
        Ok(())
    }
}
