//! Extensions that the operator of the target's Cluster creates.

use super::{Checked, Context};
use crate::error::{Error, Exit};
use crate::kubernetes::{OperatorError, WantedExtension};
use crate::plan::{Plan, Route};

impl Context<'_> {
    /// Has the operator create what the plan leaves to it. Extensions are no user's objects: if the run ends here, the target
    /// is as empty as before.
    pub(super) async fn leave_to_operator(&self, plan: &Plan, checked: &Checked) -> Result<(), Error> {
        let Some(operator) = &self.settings.connections.operator else { return Ok(()) };
        let steps = plan.steps.iter().filter(|step| step.route == Route::Operator);
        let wanted: Vec<WantedExtension> = steps.filter_map(|step| step.extension.clone()).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = wanted.iter().map(|extension| extension.name.as_str()).collect();
        self.events.note(format!(
            "Database {} in namespace {} has the operator create {}; it is removed then",
            operator.name(&self.run),
            operator.route.namespace,
            names.join(", ")
        ));
        let owner = &checked.target.database.owner;
        Box::pin(operator.create(&self.run, owner, &wanted, self.stop)).await.map_err(|error| {
            let exit =
                if matches!(error, OperatorError::Interrupted) { Exit::Interrupted } else { Exit::Refused };
            Error::new(exit, error)
        })
    }
}
