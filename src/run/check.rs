//! The check stage: both catalogs, the client tools, and the findings.

use super::Context;
use crate::catalog::{Catalog, SessionRights};
use crate::error::{Error, Exit, Fault};
use crate::pg::{Access, Endpoint, Session, SessionError};
use crate::preflight::{self, Finding, Input, Ledger, Rights};
use crate::schema::{ChildEndpoint, ChildLimits, ClientError, ClientTools};
use crate::transfer::ledger;

/// What the check found out.
#[derive(Debug)]
pub struct Checked {
    /// The source, outside any snapshot.
    pub source: Catalog,
    /// The source's `search_path` by default.
    pub search_path: String,
    /// The target.
    pub target: Catalog,
    /// What the admin connection may do, if there is one.
    pub admin: Option<SessionRights>,
    /// The client tools.
    pub tools: Result<ClientTools, ClientError>,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// What one session reads.
struct Read {
    catalog: Catalog,
    rights: Rights,
    search_path: String,
    ledger: Option<String>,
}

impl Context<'_> {
    pub(super) async fn check(&self) -> Result<Checked, Error> {
        let refused = |fault: Box<dyn Fault>| Error { exit: Exit::Refused, fault };
        let source = self.read(&self.source).await.map_err(refused)?;
        let mut target = self.read(&self.target).await.map_err(refused)?;
        let admin = match &self.admin {
            Some(endpoint) => Some(self.read(endpoint).await.map_err(refused)?.catalog),
            None => None,
        };
        if let (None, Some(admin)) = (&target.catalog.server.shared_preload_libraries, &admin) {
            target.catalog.server.shared_preload_libraries.clone_from(&admin.server.shared_preload_libraries);
        }
        let needed = source.catalog.server.major().max(target.catalog.server.major()).unsigned_abs();
        let tools = ClientTools::find(&self.settings.connections.client, needed).await;
        let admin = admin.map(|catalog| catalog.session);
        let findings = preflight::findings(&Input {
            source: &source.catalog,
            target: &target.catalog,
            source_rights: &source.rights,
            target_rights: &target.rights,
            admin: admin.as_ref(),
            client_tools: tools.as_ref(),
            has_same_address: self.has_same_address(),
            ledger: match &target.ledger {
                None => Ledger::None,
                Some(run) if *run == self.run => Ledger::Own,
                Some(run) => Ledger::Other(run),
            },
            replaces_target: false,
            is_fenced: self.settings.fence,
            owner: self.settings.choices.owner.as_deref(),
            vector_index: self.settings.choices.vector_index,
            jobs: self.jobs(&source.catalog, &target.catalog),
        });
        let (source, search_path, target) = (source.catalog, source.search_path, target.catalog);
        Ok(Checked { source, search_path, target, admin, tools, findings })
    }

    fn has_same_address(&self) -> bool {
        let address = |endpoint: &Endpoint| {
            let conninfo = &endpoint.conninfo;
            (conninfo.host().clone(), conninfo.address(), conninfo.port())
        };
        address(&self.source) == address(&self.target)
    }

    async fn read(&self, endpoint: &Endpoint) -> Result<Read, Box<dyn Fault>> {
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

    /// As many lanes as this machine has cores, twice over since each waits for two servers, but no more than
    /// both servers have connections for.
    pub(super) fn jobs(&self, source: &Catalog, target: &Catalog) -> u16 {
        let free = |catalog: &Catalog| {
            let settings = &catalog.server.settings;
            let taken = i32::try_from(catalog.clients.len()).unwrap_or(i32::MAX);
            settings.max_connections.saturating_sub(settings.reserved_connections).saturating_sub(taken) / 2
        };
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let by_servers = u16::try_from(free(source).min(free(target)).max(1)).unwrap_or(1);
        let by_machine = u16::try_from((2 * cores).clamp(2, 8)).unwrap_or(8);
        self.settings.jobs.unwrap_or(by_machine.min(by_servers))
    }

    /// How pg_dump reaches an endpoint.
    pub(super) fn child(endpoint: &Endpoint) -> Result<ChildEndpoint, Error> {
        let passfile_line =
            endpoint.conninfo.passfile_line().map_err(|error| Error::new(Exit::Usage, error))?;
        Ok(ChildEndpoint { dbname_keywords: endpoint.conninfo.keyword_string(None), passfile_line })
    }

    pub(super) fn limits(&self) -> ChildLimits {
        ChildLimits { stall: self.settings.connections.stall, cancel: self.stop.clone() }
    }
}
