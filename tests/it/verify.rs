//! `verify` on real servers: equal databases are equal, and every change of one is found and named.

use std::{sync::Arc, time::Duration};

use pgmove::{
    error::{Exit, Side},
    event::Events,
    pg::{ConnInfo, Defaults, Endpoint},
    verify::{Comparison, Method, Options, Outcome, Verdict, verify},
};

use crate::support::{Database, Server};

fn endpoint(side: Side, uri: &str) -> Endpoint {
    Endpoint {
        side,
        conninfo: Arc::new(ConnInfo::parse(uri, &Defaults::default()).expect("a URI")),
        application_name: "pgmove".into(),
        copy_encoding: None,
    }
}

fn options(method: Method) -> Options {
    Options {
        method,
        jobs: 2,
        named_rows: 5,
        stall: Duration::from_secs(30),
        events: Events::none(),
        stop: tokio_util::sync::CancellationToken::new(),
    }
}

async fn compared(source: &Database, target: &Database, method: Method) -> Comparison {
    let [source, target] = [(Side::Source, source), (Side::Target, target)]
        .map(|(side, database)| endpoint(side, &database.uri()));
    verify(&source, &target, &options(method)).await.expect("both can be read")
}

/// Two equal databases on one server.
fn twins(server: &Arc<Server>) -> [Database; 2] {
    [server.database(), server.database()].map(|database| {
        database.psql(include_str!("../fixtures/verify/small.sql"));
        database
    })
}

/// What is not equal, a line a check. Left out: each test database has an owner of its own.
fn findings(comparison: &Comparison) -> Vec<String> {
    let checks = comparison.checks.iter();
    checks
        .filter_map(|check| {
            let what = match &check.outcome {
                Outcome::Equal => return None,
                Outcome::AsPlanned { .. } if check.object == "rights on the database" => return None,
                Outcome::AsPlanned { detail } => format!("as planned: {detail}"),
                Outcome::Different { detail, rows } if rows.is_empty() => detail.clone(),
                Outcome::Different { detail, rows } => format!("{detail}: {}", rows.join(", ")),
                Outcome::NotCompared { reason } => format!("not compared: {reason}"),
            };
            Some(format!("{}: {what}", check.object))
        })
        .collect()
}

#[tokio::test]
async fn equal_databases_are_equal() {
    let [source, target] = twins(&Server::shared(15));
    for method in [Method::Digests, Method::Reread] {
        let comparison = compared(&source, &target, method).await;
        assert_eq!(findings(&comparison), Vec::<String>::new());
        assert_eq!(comparison.verdict(), Verdict::Equal);
        assert_eq!(
            comparison.tables.iter().find(|table| table.table == "public.nothing").expect("there").rows,
            [3, 3]
        );
    }
    let counted = compared(&source, &target, Method::Counts).await;
    assert_eq!(counted.verdict().exit(), Exit::NotAllCompared);
}
