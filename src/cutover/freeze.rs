//! The freeze: nothing in the cluster writes to the source, and nothing starts again what would.
//!
//! [`Freeze::plan`] looks and decides, and changes nothing; [`Freeze::rehearse`] has the API server judge every change.
//! [`Freeze::apply`] does that too before the first is made; then each is recorded in the journal, and made with its former
//! value in an annotation on the object, in one request ([`super::record`]). It can be repeated: what is frozen is
//! left, what somebody has thawed is frozen again. [`Freeze::wait`] waits until the stopped pods and their sessions are
//! gone, while [`super::alarm`] watches. [`Freeze::hold`] does all of that under a Lease ([`super::lease`]), which keeps
//! other runs away. [`super::rollback`] undoes it, from the annotations alone.
//!
//! Applications may be in other namespaces than the source: those of the workloads that are named, and of the pods that are
//! connected, are looked at too.
//!
//! HorizontalPodAutoscalers are left as they are: while its target has no replicas, one is disabled by Kubernetes itself
//! (condition `ScalingActive` false, reason `ScalingDisabled`), and it goes on when the replicas are back. Only one with
//! `minReplicas: 0` (feature gate `HPAScaleToZero`) could start its target, and gets `minReplicas: 1` meanwhile.

use std::time::Instant;

use crate::catalog::{CatalogError, ClientSession, client_sessions};
use crate::error::{Class, Exit, Fault, Side};
use crate::event::{Event, Events, Stage};
use crate::journal::{JournalError, Record, RunDirectory};
use crate::kubernetes::{ApiError, ApiServer, ObjectRef};
use crate::pg::{Access, Endpoint, Session, SessionError};

use super::alarm::Disturbance;
use super::lease::LeaseError;
use super::object::{ObjectKey, spelled};
use super::record::{self, Change, MarkError, Refusal, Step, shown};
use super::requests::{self, Mode};

mod find;
mod hold;
mod plan;
mod wait;
mod workload;
mod writers;

pub(super) use find::{CLUSTER, changeable, flux_of};
pub use hold::Frozen;
pub(super) use plan::FLUX;
pub use plan::{FreezePlan, RECONCILE};
pub use wait::Staying;
pub use workload::{WorkloadKind, WorkloadName, WorkloadNameError};

/// How often a change is tried again whose object others write to at the same time.
const ATTEMPTS: usize = 10;

/// What is frozen.
#[derive(Debug, Clone)]
pub struct Freeze {
    /// The cluster.
    pub server: ApiServer,
    /// Where the source is, and its Lease.
    pub namespace: String,
    /// The source, which keeps running.
    pub source: ObjectRef,
    /// How to ask the source for its sessions; without it, only what is named is stopped.
    pub endpoint: Option<Endpoint>,
    /// The workloads that the user named.
    pub named: Vec<WorkloadName>,
    /// The run.
    pub run: String,
}

impl Freeze {
    /// Looks at the cluster and the source's sessions, and decides what to change.
    pub async fn plan(&self, journal: &[Record]) -> Result<FreezePlan, FreezeError> {
        let known = recorded(journal);
        let before: Vec<&Change> =
            known.iter().flat_map(|object| recorded_changes(journal, object)).collect();
        let stopped = before.iter().flat_map(|change| change.addresses.iter().copied()).collect();
        let seen = self.look_around(&known, stopped).await?;
        let mut plan = plan::plan(&seen, &self.source, &self.named, &self.run)?;
        for change in &mut plan.changes {
            // Pods that an earlier process has stopped are gone, and perhaps not their sessions.
            for before in before.iter().filter(|before| before.object == change.object) {
                change.addresses.extend(&before.addresses);
            }
        }
        Ok(plan)
    }

    /// The sessions of applications on the source's database, if it can be asked for them.
    async fn sessions(&self) -> Result<Vec<ClientSession>, FreezeError> {
        let Some(endpoint) = &self.endpoint else { return Ok(vec![]) };
        let session = Session::open(endpoint, Access::Read, "pg_catalog").await?;
        let sessions = client_sessions(&session.client, Side::Source).await?;
        session.close().await;
        Ok(sessions.into_iter().filter(|session| !session.application_name.starts_with("pgmove")).collect())
    }

    /// Has the API server judge every change (rights, admission, content); it makes none.
    pub async fn rehearse(&self, plan: &FreezePlan) -> Result<(), FreezeError> {
        for (order, change) in plan.changes.iter().enumerate() {
            self.make(order, change, None).await?;
        }
        Ok(())
    }

    /// Changes what the plan says. When it fails, the error says what was changed and stays so.
    pub async fn apply(
        &self,
        plan: &FreezePlan,
        journal: &mut RunDirectory,
        events: &Events,
    ) -> Result<(), FreezeError> {
        if !plan.obstacles.is_empty() {
            return Err(FreezeError::Obstacles(plan.obstacles.clone()));
        }
        self.rehearse(plan).await?;
        let mut made = vec![];
        for (order, change) in plan.changes.iter().enumerate() {
            let item = began(events, change.object.to_string());
            match self.make(order, change, Some(journal)).await {
                Ok(()) => made.push(change.object.clone()),
                Err(error) if made.is_empty() => return Err(error),
                Err(cause) => return Err(FreezeError::Partly { made, cause: Box::new(cause) }),
            }
            ended(events, item);
        }
        Ok(())
    }

    /// Makes one change; without a journal it is only rehearsed.
    async fn make(
        &self,
        order: usize,
        change: &Change,
        mut journal: Option<&mut RunDirectory>,
    ) -> Result<(), FreezeError> {
        let refused = |refusal| FreezeError::Refused {
            object: Box::new(change.object.clone()),
            refusal: Box::new(refusal),
        };
        for _ in 0..ATTEMPTS {
            let Some(now) = requests::read(&self.server, &change.object).await? else {
                return Err(refused(Refusal::Recreated));
            };
            let step = record::freeze(change, &self.run, &self.namespace, order, &now)?;
            let patch = match step.map_err(refused)? {
                Step::Standing => return Ok(()),
                Step::Patch(patch) => patch,
            };
            let mode = match &mut journal {
                None => Mode::Rehearsal,
                Some(journal) => {
                    let record = Record::Freezing { run: self.run.clone(), change: change.clone() };
                    if journal.records().last() != Some(&record) {
                        journal.append(record)?;
                    }
                    Mode::Real
                }
            };
            if requests::patch(&self.server, &change.object, &patch, mode).await?.is_some() {
                return Ok(());
            }
        }
        Err(FreezeError::Contended(Box::new(change.object.clone())))
    }
}

/// Shows that something begins; gives what [`ended`] takes.
fn began(events: &Events, item: String) -> (String, Instant) {
    let shown = item.clone();
    events.emit(Event::ItemStarted { stage: Stage::Freeze, lane: 0, item: shown, table: None, bytes: None });
    (item, Instant::now())
}

fn ended(events: &Events, (item, begun): (String, Instant)) {
    let seconds = begun.elapsed().as_secs_f64();
    events.emit(Event::ItemFinished { stage: Stage::Freeze, lane: 0, item, seconds });
}

/// The objects that a journal says may have been changed, and were not put back since.
pub fn recorded(records: &[Record]) -> Vec<ObjectKey> {
    let mut objects: Vec<ObjectKey> = vec![];
    for record in records {
        match record {
            Record::Freezing { change, .. } if !objects.contains(&change.object) => {
                objects.push(change.object.clone());
            }
            Record::Thawed { object } => objects.retain(|known| known != object),
            _ => {}
        }
    }
    objects
}

/// What a journal says of the freeze of an object, since it was last put back; the first has its former values.
pub(super) fn recorded_changes<'a>(
    records: &'a [Record],
    object: &'a ObjectKey,
) -> impl Iterator<Item = &'a Change> {
    let is_thawed = |record: &Record| matches!(record, Record::Thawed { object: thawed } if thawed == object);
    let since = records.iter().rposition(is_thawed).map_or(0, |at| at + 1);
    records[since..].iter().filter_map(move |record| match record {
        Record::Freezing { change, .. } if change.object == *object => Some(change),
        _ => None,
    })
}

/// The run of a freeze that a journal tells of.
pub fn recorded_run(records: &[Record]) -> Option<&str> {
    records.iter().rev().find_map(|record| match record {
        Record::Freezing { run, .. } => Some(run.as_str()),
        _ => None,
    })
}

/// Why a freeze did not come about.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The API server refused, or cannot be reached.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Where an application is, the account may not look, or the API server does not answer.
    #[error("could not look at namespace {namespace}, where {reason}")]
    OtherNamespace {
        /// Which.
        namespace: String,
        /// What makes it one of the freeze's.
        reason: String,
        /// What happened.
        source: Box<ApiError>,
    },
    /// A record on an object is damaged.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// The source's sessions could not be asked for.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The source's sessions could not be understood.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Another run works on the source.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Somebody has thawed something.
    #[error(transparent)]
    Disturbed(Box<Disturbance>),
    /// A former value could not be written down, so the object was not changed.
    #[error("could not record the freeze")]
    Journal(#[from] JournalError),
    /// The plan cannot be carried out; nothing was changed.
    #[error("cannot freeze: {}", .0.join("; "))]
    Obstacles(Vec<String>),
    /// An object is not as it was planned from.
    #[error("{object} {}", explained(.refusal))]
    Refused {
        /// Which.
        object: Box<ObjectKey>,
        /// Why it was left.
        refusal: Box<Refusal>,
    },
    /// Others write to an object all the time.
    #[error("{0} is written to by others all the time")]
    Contended(Box<ObjectKey>),
    /// Some changes were made before one failed.
    #[error("the freeze is not complete: {} stay frozen", listed(.made))]
    Partly {
        /// What stays frozen.
        made: Vec<ObjectKey>,
        /// What happened to the next.
        #[source]
        cause: Box<FreezeError>,
    },
    /// Pods or sessions do not go.
    #[error("still there after {seconds} s without progress: {staying}")]
    Staying {
        /// How long nothing has changed.
        seconds: u64,
        /// Who stays.
        staying: Staying,
    },
    /// The operator has interrupted.
    #[error("interrupted while pods end: {0} still there")]
    Interrupted(Staying),
}

impl FreezeError {
    /// How a command ends that it ends.
    pub fn exit(&self) -> Exit {
        match self {
            FreezeError::Partly { .. }
            | FreezeError::Staying { .. }
            | FreezeError::Disturbed(_)
            | FreezeError::Lease(LeaseError::Lost { .. }) => Exit::Resumable,
            FreezeError::Interrupted(_) => Exit::Interrupted,
            _ => Exit::Refused,
        }
    }
}

fn listed(objects: &[ObjectKey]) -> String {
    objects.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn explained(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Recreated => "is gone, or another of its name has taken its place".to_owned(),
        Refusal::FrozenBy(run) => format!("is frozen by run {run}"),
        Refusal::Changed { field, planned, now, by } => {
            let by = by.as_ref().map(|by| format!(", set {by}")).unwrap_or_default();
            format!(
                "has changed since the plan: {} was {}, is {}{by}",
                spelled(field),
                shown(planned),
                shown(now)
            )
        }
    }
}

impl Fault for FreezeError {
    fn class(&self) -> Class {
        match self {
            FreezeError::Api(error) => error.class(),
            FreezeError::OtherNamespace { source, .. } => source.class(),
            FreezeError::Mark(error) => error.class(),
            FreezeError::Session(error) => error.class(),
            FreezeError::Catalog(error) => error.class(),
            FreezeError::Journal(error) => error.class(),
            FreezeError::Lease(error) => error.class(),
            FreezeError::Disturbed(error) => error.class(),
            FreezeError::Obstacles(_) | FreezeError::Interrupted(_) => Class::User,
            FreezeError::Refused { .. } | FreezeError::Contended(_) | FreezeError::Staying { .. } => {
                Class::Cluster
            }
            FreezeError::Partly { cause, .. } => cause.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            FreezeError::Api(error) => error.is_retryable(),
            FreezeError::OtherNamespace { source, .. } => source.is_retryable(),
            FreezeError::Session(error) => error.is_retryable(),
            FreezeError::Catalog(error) => error.is_retryable(),
            FreezeError::Lease(error) => error.is_retryable(),
            // What stays frozen is found so, and the rest follows.
            FreezeError::Partly { cause, .. } => cause.is_retryable(),
            _ => false,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            FreezeError::Api(error) => return error.hint(),
            FreezeError::OtherNamespace { namespace, source, .. } if source.is_forbidden() => format!(
                "{}\n`pgmove rbac --for freeze --workload {namespace}/KIND/NAME` prints all that is needed there; or stop yourself \
                 what writes to the source from there",
                source.hint().unwrap_or_default()
            ),
            FreezeError::OtherNamespace { source, .. } => return source.hint(),
            FreezeError::Mark(error) => return error.hint(),
            FreezeError::Session(error) => return error.hint(),
            FreezeError::Catalog(error) => return error.hint(),
            FreezeError::Journal(error) => return error.hint(),
            FreezeError::Lease(error) => return error.hint(),
            FreezeError::Disturbed(error) => return error.hint(),
            FreezeError::Obstacles(_) => "nothing was changed; remove what is in the way, and freeze again; what another freeze holds stays so in a run \
                 without --freeze".into(),
            FreezeError::Refused { refusal, .. } if matches!(**refusal, Refusal::FrozenBy(_)) => {
                "go on with that run, or undo it: pgmove rollback".into()
            }
            FreezeError::Refused { .. } | FreezeError::Contended(_) => {
                "see who works on it; then freeze again, which looks and plans anew".into()
            }
            FreezeError::Partly { cause, .. } => {
                let way_on = "freeze again to go on, or undo what was changed: pgmove rollback";
                cause.hint().map_or_else(|| way_on.to_owned(), |hint| format!("{hint}\n{way_on}"))
            }
            FreezeError::Staying { .. } => {
                "end them (kubectl delete pod, pg_terminate_backend) and freeze again, which goes on waiting; or undo the \
                 freeze: pgmove rollback"
                    .into()
            }
            FreezeError::Interrupted(_) => "freeze again to go on, or undo the freeze: pgmove rollback".into(),
        })
    }
}
