//! The last look at the target before the first write to it: between the check and the lock that keeps other runs out,
//! another run may have come and gone, or an application have made objects.

use super::{Checked, Context};
use crate::catalog;
use crate::error::{Class, Error, Exit, Fault, Side};
use crate::pg::Session;
use crate::preflight;

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
    /// Refuses a target that is no longer as it was checked. `owner` is the run whose ledger it holds; `session` holds
    /// the run's lock.
    pub(super) async fn is_as_checked(
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
