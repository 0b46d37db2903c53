//! The check stage: both catalogs, the client tools, and the findings.

use super::Context;
use crate::catalog::{Catalog, CatalogError, SessionRights};
use crate::error::{Error, Exit, Fault};
use crate::pg::{Access, Endpoint, Session};
use crate::preflight::Finding;
use crate::schema::{ChildEndpoint, ChildLimits, ClientError, ClientTools};

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

impl Context<'_> {
    pub(super) async fn check(&self) -> Result<Checked, Error> {
        let refused = |error: Box<dyn Fault>| Error { exit: Exit::Refused, fault: error };
        let (source, search_path) = self.read(&self.source).await.map_err(refused)?;
        let (target, _) = self.read(&self.target).await.map_err(refused)?;
        let admin = match &self.admin {
            Some(endpoint) => Some(self.read(endpoint).await.map_err(refused)?.0.session),
            None => None,
        };
        let needed = source.server.major().max(target.server.major()).unsigned_abs();
        let tools = ClientTools::find(&self.settings.connections.client, needed).await;
        let findings = Vec::new();
        Ok(Checked { source, search_path, target, admin, tools, findings })
    }

    async fn read(&self, endpoint: &Endpoint) -> Result<(Catalog, String), Box<dyn Fault>> {
        let session =
            Session::open(endpoint, Access::Read, "pg_catalog").await.map_err(|error| Box::new(error) as Box<dyn Fault>)?;
        let catalog =
            Catalog::read(&session.client, endpoint.side).await.map_err(|error: CatalogError| Box::new(error) as Box<dyn Fault>)?;
        let row = session.client.query_one(include_str!("../../sql/session/default_search_path.sql"), &[]).await;
        let row = row.map_err(|error| Box::new(session.failed("read the default search_path", error)) as Box<dyn Fault>)?;
        session.close().await;
        Ok((catalog, row.get("search_path")))
    }

    /// How pg_dump reaches an endpoint.
    pub(super) fn child(endpoint: &Endpoint) -> Result<ChildEndpoint, Error> {
        let passfile_line = endpoint.conninfo.passfile_line().map_err(|error| Error::new(Exit::Usage, error))?;
        Ok(ChildEndpoint { dbname_keywords: endpoint.conninfo.keyword_string(None), passfile_line })
    }

    pub(super) fn limits(&self) -> ChildLimits {
        ChildLimits { stall: self.settings.connections.stall, cancel: self.stop.clone() }
    }
}
