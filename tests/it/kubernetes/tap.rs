//! A client that can end before or after any request that changes something.

use std::{
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use kube::{
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

/// Where a process ends, counted in requests that change something.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Before this request, from 0, reaches the API server.
    Before(usize),
    /// After it was carried out, and before its answer arrives.
    After(usize),
}

/// What goes through the client.
#[derive(Clone, Default)]
pub(crate) struct Tap {
    cut: Option<Cut>,
    /// Is cancelled when the cut is reached; from there on nothing is answered.
    pub(crate) is_cut: CancellationToken,
    hook: Option<(usize, Arc<dyn Fn() + Send + Sync>)>,
    /// How many requests so far change something.
    changes: Arc<AtomicUsize>,
}

impl Tap {
    pub(crate) fn with_cut(cut: Cut) -> Self {
        Self { cut: Some(cut), ..Self::default() }
    }

    /// Does something before a request that changes something, counted from 0, reaches the API server.
    pub(crate) fn with_hook(at: usize, hook: impl Fn() + Send + Sync + 'static) -> Self {
        Self { hook: Some((at, Arc::new(hook))), ..Self::default() }
    }

    /// A client for the user of a kubeconfig.
    pub(crate) async fn client(&self, kubeconfig: &Path) -> kube::Client {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a context");
        let builder = ClientBuilder::try_from(config).expect("credentials");
        builder.with_layer(self).build()
    }
}

impl<S> Layer<S> for Tap {
    type Service = Tapped<S>;

    fn layer(&self, inner: S) -> Tapped<S> {
        Tapped { tap: self.clone(), inner }
    }
}

#[derive(Clone)]
pub(crate) struct Tapped<S> {
    tap: Tap,
    inner: S,
}

impl<S, B> Service<Request<Body>> for Tapped<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let tap = self.tap.clone();
        let is_change =
            request.method() != Method::GET && !request.uri().query().unwrap_or_default().contains("dryRun");
        let number = is_change.then(|| tap.changes.fetch_add(1, Ordering::Relaxed));
        if let Some((_, hook)) = tap.hook.as_ref().filter(|(at, _)| number == Some(*at)) {
            hook();
        }
        let is_before = matches!(tap.cut, Some(Cut::Before(at)) if number == Some(at));
        let is_after = matches!(tap.cut, Some(Cut::After(at)) if number == Some(at));
        if is_before || tap.is_cut.is_cancelled() {
            tap.is_cut.cancel();
            return Box::pin(std::future::pending());
        }
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            if is_after {
                tap.is_cut.cancel();
            }
            if tap.is_cut.is_cancelled() {
                std::future::pending::<()>().await;
            }
            answer
        })
    }
}
