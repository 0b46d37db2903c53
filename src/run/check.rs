//! The check stage: both catalogs, the client tools, and the findings.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Context, Source};
use crate::catalog::{Catalog, DatabaseIdentity, SessionRights};
use crate::error::{Error, Exit, Fault};
use crate::kubernetes::Psql;
use crate::pg::{Access, Endpoint, Oid, Session, SessionError};
use crate::preflight::{self, Finding, Input, Ledger, Rights};
use crate::schema::{ChildEndpoint, ChildLimits, ClientError, ClientTools};
use crate::settings::Substitute;
use crate::transfer::ledger;

/// What the check found out.
#[derive(Debug)]
pub struct Checked {
    /// The source, outside any snapshot.
    pub source: Catalog,
    /// What the source's role cannot read.
    pub source_rights: Rights,
    /// The source's `search_path` by default.
    pub search_path: String,
    /// The target.
    pub target: Catalog,
    /// The run whose ledger the target holds.
    pub ledger: Option<String>,
    /// What the admin connection may do, if there is one.
    pub admin: Option<SessionRights>,
    /// The client tools.
    pub tools: Result<ClientTools, ClientError>,
    /// Whether what the target holds is dropped.
    pub replaces: bool,
    /// What the target's server has of memory, in bytes, if that stands in Kubernetes.
    pub memory_limit: Option<u64>,
    /// The extensions that the target must have.
    pub needed_extensions: Vec<String>,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Whether statements that need a superuser can be sent to the target.
    pub(super) fn has_superuser(&self) -> bool {
        self.target.session.is_superuser || self.admin.as_ref().is_some_and(|rights| rights.is_superuser)
    }

    /// The client tools.
    pub(super) fn tools(&self) -> &ClientTools {
        self.tools.as_ref().expect("the check refuses a run without client tools")
    }
}

/// What one session reads.
pub(super) struct Read {
    pub(super) catalog: Catalog,
    pub(super) rights: Rights,
    pub(super) search_path: String,
    ledger: Option<String>,
}

/// What is known of whoever does what the target's owner may not.
struct Admin {
    rights: SessionRights,
    database: DatabaseIdentity,
    shared_preload_libraries: Option<String>,
}

impl Admin {
    fn of(catalog: Catalog) -> Admin {
        let database = catalog.identity();
        let shared_preload_libraries = catalog.server.shared_preload_libraries;
        Admin { rights: catalog.session, database, shared_preload_libraries }
    }

    async fn ask(psql: &Psql) -> Result<Admin, Box<dyn Fault>> {
        #[derive(Deserialize)]
        struct Named {
            oid: String,
            name: String,
        }
        #[derive(Deserialize)]
        struct System {
            system_identifier: String,
        }
        #[derive(Deserialize)]
        struct Server {
            shared_preload_libraries: Option<String>,
        }
        async fn one<T: DeserializeOwned>(psql: &Psql, query: &str) -> Result<T, Box<dyn Fault>> {
            let rows = psql.ask(query, &[]).await.map_err(|error| Box::new(error) as Box<dyn Fault>)?;
            Ok(rows.into_iter().next().expect("each of these queries has one row"))
        }
        let Named { oid, name } = one(psql, include_str!("../../sql/catalog/identity.sql")).await?;
        let System { system_identifier } =
            one(psql, include_str!("../../sql/catalog/system_identifier.sql")).await?;
        let Server { shared_preload_libraries } =
            one(psql, include_str!("../../sql/catalog/server.sql")).await?;
        let oid = Oid(oid.parse().expect("an OID is a number"));
        let database = DatabaseIdentity { system_identifier: Some(system_identifier), oid, name };
        let rights = one(psql, include_str!("../../sql/catalog/session.sql")).await?;
        Ok(Admin { rights, database, shared_preload_libraries })
    }
}

impl Context<'_> {
    pub(super) async fn check(&self) -> Result<Checked, Error> {
        let refused = |fault: Box<dyn Fault>| Error { exit: Exit::Refused, fault };
        let source = async {
            match &self.source {
                Source::Server(endpoint) => read(endpoint).await,
                Source::Archive(stored) => Ok(Read {
                    catalog: stored.source.catalog.clone(),
                    rights: stored.source.rights.clone(),
                    search_path: stored.source.search_path.clone(),
                    ledger: None,
                }),
            }
        };
        let admin = async {
            match (&self.admin, self.psql()) {
                (Some(endpoint), _) => read(endpoint).await.map(|found| Some(Admin::of(found.catalog))),
                (None, Some(psql)) => Admin::ask(&psql).await.map(Some),
                (None, None) => Ok(None),
            }
        };
        // Not the first to fail but the first in order is told: the same message every time.
        let (source, target, admin) = tokio::join!(source, read(&self.target), admin);
        let (source, mut target, admin) =
            (source.map_err(refused)?, target.map_err(refused)?, admin.map_err(refused)?);
        if let (None, Some(admin)) = (&target.catalog.server.shared_preload_libraries, &admin) {
            target.catalog.server.shared_preload_libraries.clone_from(&admin.shared_preload_libraries);
        }
        let needed = source.catalog.server.major().max(target.catalog.server.major()).unsigned_abs();
        let tools = ClientTools::find(&self.settings.connections.client, needed).await;
        let (admin, admin_database) = admin.map(|admin| (admin.rights, admin.database)).unzip();
        let ledger = match &target.ledger {
            None => Ledger::None,
            Some(run) if *run == self.run => Ledger::Own,
            Some(run) => Ledger::Other(run),
        };
        let replaces = self.settings.replace && ledger != Ledger::Own;
        let input = Input {
            source: &source.catalog,
            target: &target.catalog,
            source_rights: &source.rights,
            target_rights: &target.rights,
            admin: admin.as_ref(),
            admin_database: admin_database.as_ref(),
            has_operator: self.settings.connections.operator.is_some(),
            client_tools: tools.as_ref(),
            has_same_address: self.has_same_address(),
            ledger,
            replaces_target: replaces,
            is_fenced: self.settings.fence || matches!(self.source, Source::Archive(_)),
            owner: self.choices.owner.as_deref(),
            vector_index: self.choices.vector_index,
            jobs: self.jobs(&source.catalog, &target.catalog),
        };
        let needed_extensions = preflight::extensions_needed(&input);
        let mut findings = preflight::findings(&input);
        if replaces {
            let undroppable = self.undroppable(&target.catalog).await;
            findings.splice(..0, undroppable.map_err(|error| Error::new(Exit::Refused, error))?);
        }
        self.say_why_nobody(&mut findings);
        let Read { catalog: source, rights: source_rights, search_path, .. } = source;
        Ok(Checked {
            source,
            source_rights,
            search_path,
            target: target.catalog,
            ledger: target.ledger,
            admin,
            tools,
            replaces,
            memory_limit: None,
            needed_extensions,
            findings,
        })
    }

    /// Says of what wants an admin why nobody takes its place.
    pub(super) fn say_why_nobody(&self, findings: &mut [Finding]) {
        if let Substitute::Nobody(reason) = &self.settings.connections.substitute {
            for finding in findings.iter_mut().filter(|finding| finding.remedy.contains("--target-admin")) {
                finding.evidence = format!("{}; {reason}", finding.evidence);
            }
        }
    }

    fn has_same_address(&self) -> bool {
        let address = |endpoint: &Endpoint| {
            let conninfo = &endpoint.conninfo;
            (conninfo.host().clone(), conninfo.address(), conninfo.port())
        };
        matches!(&self.source, Source::Server(source) if address(source) == address(&self.target))
    }

    pub(super) fn jobs(&self, source: &Catalog, target: &Catalog) -> u16 {
        jobs(self.settings.jobs, &[source, target])
    }

    /// How pg_dump reaches an endpoint.
    pub(super) fn child(endpoint: &Endpoint) -> Result<ChildEndpoint, Error> {
        ChildEndpoint::of(&endpoint.conninfo).map_err(|error| Error::new(Exit::Usage, error))
    }

    pub(super) fn limits(&self) -> ChildLimits {
        ChildLimits { stall: self.settings.connections.stall, cancel: self.stop.clone() }
    }
}

/// Reads what the check needs of a server.
pub(super) async fn read(endpoint: &Endpoint) -> Result<Read, Box<dyn Fault>> {
    let boxed = |error: SessionError| -> Box<dyn Fault> { Box::new(error) };
    let session = Session::open(endpoint, Access::Read, "pg_catalog").await.map_err(boxed)?;
    let client = &session.client;
    let catalog =
        Catalog::read(client, endpoint.side).await.map_err(|error| Box::new(error) as Box<dyn Fault>)?;
    let rights =
        Rights::read(client, endpoint.side).await.map_err(|error| Box::new(error) as Box<dyn Fault>)?;
    let row = client.query_one(include_str!("../../sql/session/default_search_path.sql"), &[]).await;
    let row = row.map_err(|error| boxed(session.failed("read the default search_path", error)))?;
    let ledger =
        ledger::owner(client).await.map_err(|error| boxed(session.failed("look for a ledger", error)))?;
    session.close().await;
    Ok(Read { catalog, rights, search_path: row.get("search_path"), ledger })
}

/// As many lanes as were asked for; else as this machine has cores, twice over since each waits for two servers,
/// but no more than all servers have connections for.
pub(super) fn jobs(wanted: Option<u16>, servers: &[&Catalog]) -> u16 {
    let free = |catalog: &&Catalog| {
        let settings = &catalog.server.settings;
        let taken = i32::try_from(catalog.clients.len()).unwrap_or(i32::MAX);
        settings.max_connections.saturating_sub(settings.reserved_connections).saturating_sub(taken) / 2
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let by_servers = servers.iter().map(free).min().unwrap_or(1).max(1);
    let by_machine = u16::try_from((2 * cores).clamp(2, 8)).unwrap_or(8);
    wanted.unwrap_or(by_machine.min(u16::try_from(by_servers).unwrap_or(1)))
}
