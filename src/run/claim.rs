//! The first write to the target: ledger and mark.
//!
//! Before it comes a last look: between the check and the lock that keeps other runs out, another run may have come
//! and gone, or an application have made objects.

use super::{Checked, Context, prepare};
use crate::catalog;
use crate::cutover::fence;
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::journal::RunDirectory;
use crate::pg::{Access, Session};
use crate::preflight;
use crate::transfer::ledger;

/// The target is not what the check saw.
#[derive(Debug, thiserror::Error)]
#[error("the target has changed since the check: {now}")]
struct Changed {
    now: String,
}

impl Fault for Changed {
    fn class(&self) -> Class {
        Class::Target
    }

    fn hint(&self) -> Option<String> {
        Some(
            "make sure that no other move and no application works on the target, then run again; it was left as it is"
                .into(),
        )
    }
}

impl Context<'_> {
    /// Makes ledger and mark. `holder` has the target's lock; without one it is taken. Returns it.
    pub(super) async fn claim(
        &self,
        directory: &mut RunDirectory,
        checked: &Checked,
        holder: Option<Session>,
    ) -> Result<Session, Error> {
        let failed = |error| Error::new(Exit::Resumable, error);
        let session = if let Some(holder) = holder {
            holder
        } else {
            let session = Session::open(&self.target, Access::Write, "pg_catalog").await.map_err(failed)?;
            prepare::lock(&session, self.target.conninfo.database()).await?;
            session
        };
        let owner = ledger::owner(&session.client).await;
        let owner = owner.map_err(|error| failed(session.failed("look for the ledger", error)))?;
        self.is_as_checked(&session, owner.as_ref(), checked).await?;
        // Mark and ledger come together, and go together: neither is ever found alone.
        session.run("BEGIN", "begin").await.map_err(failed)?;
        if self.settings.replace && owner.as_ref() != Some(&self.run) {
            self.displace(&session, directory, owner).await?;
        }
        fence::mark(&session, self.target.conninfo.database(), directory)
            .await
            .map_err(|error| Error::new(Exit::Resumable, error))?;
        ledger::create(&session.client, &self.run)
            .await
            .map_err(|error| failed(session.failed("create the ledger", error)))?;
        session.run("COMMIT", "commit the ledger").await.map_err(failed)?;
        Ok(session)
    }

    /// Refuses a target that is no longer as it was checked. `owner` is the run whose ledger it holds; `session` holds
    /// the run's lock.
    async fn is_as_checked(
        &self,
        session: &Session,
        owner: Option<&String>,
        checked: &Checked,
    ) -> Result<(), Error> {
        // What a run finds beside its own ledger is its own work.
        if owner == Some(&self.run) {
            return Ok(());
        }
        let refused = |now| Err(Error::new(Exit::Refused, Changed { now }));
        if owner != checked.ledger.as_ref() {
            return refused(match owner {
                Some(run) => format!("it holds the ledger of run {run}"),
                None => "the ledger that it held is gone".into(),
            });
        }
        let before = &checked.target.user_objects;
        let now = catalog::user_objects(&session.client, Side::Target).await;
        let now = now.map_err(|error| Error::new(Exit::Refused, error))?;
        if now == *before {
            return Ok(());
        }
        let first = preflight::few(now.first.iter().map(|object| format!("{} {}", object.kind, object.name)));
        let objects = |count| preflight::counted(count, "object");
        refused(match now.count {
            0 => "the objects that it held are gone".into(),
            count => format!("it holds {} now, {} before: {first}", objects(count), objects(before.count)),
        })
    }
}
