//! Reading requests to the API server: each has a deadline, and an error that says what was asked for, why it failed,
//! and what the operator can do.

mod error;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::{Api, ListParams, PostParams};
use kube::core::NamespaceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::client::ApiServer;
use super::role::Subject;
pub use error::{ApiError, Cause};

/// How long the API server may take to answer; it gives up itself after a minute.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// What is asked of the API server, in the words of RBAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `patch`…
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource in the plural, with its subresource: `pods`, `pods/portforward`.
    pub resource: String,
    /// The kind of object.
    pub kind: String,
    /// Where; nothing for what is in no namespace, or in all of them.
    pub namespace: Option<String>,
    /// Which; nothing for all.
    pub name: Option<String>,
}

impl Request {
    /// A request for objects of `K`.
    pub fn of<K: Resource>(
        kind: &K::DynamicType,
        verb: &'static str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Request {
        Request {
            verb,
            group: K::group(kind).into_owned(),
            resource: K::plural(kind).into_owned(),
            kind: K::kind(kind).into_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
        }
    }

    /// The rule of a Role that allows it.
    pub fn rule(&self) -> String {
        let role = if self.namespace.is_some() { "Role" } else { "ClusterRole" };
        format!(
            "a {role}{} with this rule, bound to the account, grants it:\n\
             - apiGroups: [\"{}\"]\n  resources: [\"{}\"]\n  verbs: [\"{}\"]",
            self.namespace.as_ref().map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default(),
            self.group,
            self.resource,
            self.verb,
        )
    }
}

/// `get StatefulSet immich-postgres in namespace media`.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.kind)?;
        match &self.name {
            Some(name) => write!(f, " {name}")?,
            None => f.write_str("s")?,
        }
        if let Some((_, subresource)) = self.resource.split_once('/') {
            write!(f, " ({subresource})")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace}"),
            None => Ok(()),
        }
    }
}

impl ApiServer {
    /// Gets one object in a namespace. If it is not there, the error lists what is.
    pub async fn get<K>(&self, kind: &K::DynamicType, namespace: &str, name: &str) -> Result<K, ApiError>
    where
        K: Resource<Scope: NamespaceScope> + Clone + DeserializeOwned + fmt::Debug,
        K::DynamicType: Clone,
    {
        let everywhere = Api::<K>::all_with(self.client().clone(), kind);
        let api = everywhere.clone().constrain(namespace);
        let request = Request::of::<K>(kind, "get", Some(namespace), Some(name));
        let mut result = self.ask(request, api.get(name)).await;
        if let Err(ApiError { cause: Cause::NotFound { there, elsewhere }, .. }) = &mut result {
            // What is there instead only helps; that it could not be listed is no second error.
            *there =
                self.metadata(&api, "").await.map(|found| found.into_iter().map(|(_, name)| name).collect());
            let same = self.metadata(&everywhere, &format!("metadata.name={name}")).await.unwrap_or_default();
            *elsewhere = same.into_iter().map(|(namespace, _)| namespace).collect();
        }
        result
    }

    /// Gets one object that is in no namespace.
    pub async fn get_of_cluster<K>(&self, name: &str) -> Result<K, ApiError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + fmt::Debug,
    {
        let api = Api::<K>::all(self.client().clone());
        self.ask(Request::of::<K>(&(), "get", None, Some(name)), api.get(name)).await
    }

    /// Lists the objects in a namespace that a label selector picks; all of them if it is empty.
    pub async fn list<K>(
        &self,
        kind: &K::DynamicType,
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<K>, ApiError>
    where
        K: Resource<Scope: NamespaceScope> + Clone + DeserializeOwned + fmt::Debug,
        K::DynamicType: Clone,
    {
        let api = Api::<K>::all_with(self.client().clone(), kind).constrain(namespace);
        let request = Request::of::<K>(kind, "list", Some(namespace), None);
        let parameters = ListParams::default().labels(labels);
        self.ask(request, api.list(&parameters)).await.map(|list| list.items)
    }

    /// Lists the objects in all namespaces that a field selector picks.
    pub async fn list_everywhere<K>(&self, kind: &K::DynamicType, fields: &str) -> Result<Vec<K>, ApiError>
    where
        K: Resource<Scope: NamespaceScope> + Clone + DeserializeOwned + fmt::Debug,
        K::DynamicType: Clone,
    {
        let api = Api::<K>::all_with(self.client().clone(), kind);
        let parameters = ListParams::default().fields(fields);
        self.ask(Request::of::<K>(kind, "list", None, None), api.list(&parameters))
            .await
            .map(|list| list.items)
    }

    /// Whether the account may do this, by the API server's own word (`SelfSubjectAccessReview`, which every account may
    /// ask for).
    pub async fn may(&self, wanted: &Request) -> Result<bool, ApiError> {
        let (resource, subresource) = match wanted.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (&*wanted.resource, None),
        };
        let attributes = ResourceAttributes {
            verb: Some(wanted.verb.to_owned()),
            group: Some(wanted.group.clone()),
            resource: Some(resource.to_owned()),
            subresource,
            namespace: wanted.namespace.clone(),
            name: wanted.name.clone(),
            ..ResourceAttributes::default()
        };
        let spec =
            SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let api = Api::<SelfSubjectAccessReview>::all(self.client().clone());
        let request = Request::of::<SelfSubjectAccessReview>(&(), "create", None, None);
        let answer = self.ask(request, api.create(&PostParams::default(), &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// Who the account is, as a RoleBinding names it (`SelfSubjectReview`, which every account may ask for).
    pub async fn account(&self) -> Result<Subject, ApiError> {
        let api = Api::<SelfSubjectReview>::all(self.client().clone());
        let request = Request::of::<SelfSubjectReview>(&(), "create", None, None);
        let answer =
            self.ask(request, api.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
        let user = answer.status.and_then(|status| status.user_info).unwrap_or_default();
        Ok(Subject::of_user(user.username.unwrap_or_default()))
    }

    /// Waits for the answer to a request, up to the deadline, and explains its error.
    pub async fn ask<T>(
        &self,
        request: Request,
        answer: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ApiError> {
        let cause = match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Cause::of(&error, &request, self.url()),
            Err(_) => Cause::Timeout { url: self.url().to_owned(), limit: LIMIT },
        };
        Err(ApiError { request: Box::new(request), cause })
    }

    /// Namespaces and names of objects, if they can be listed.
    async fn metadata<K>(&self, api: &Api<K>, fields: &str) -> Option<Vec<(String, String)>>
    where
        K: Resource + Clone + DeserializeOwned + fmt::Debug,
    {
        let parameters = ListParams::default().fields(fields);
        let list = tokio::time::timeout(LIMIT, api.list_metadata(&parameters)).await.ok()?.ok()?;
        let names = list.items.iter().map(|found| (found.namespace().unwrap_or_default(), found.name_any()));
        Some(names.collect())
    }
}
