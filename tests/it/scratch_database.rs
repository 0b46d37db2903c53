//! Databases that are made for one command: like the target's, and gone however the command ends.

use std::sync::Arc;

use pgmove::error::{Error, Exit, Side};
use pgmove::event::{Event, Events};
use pgmove::pg::{Access, ConnInfo, Defaults, Endpoint, Session};
use pgmove::run::Interrupted;
use pgmove::run::scratch_database::{ScratchDatabase, ScratchError, remove_left_over, within};

use crate::support::{Database, Server, Variant};

const RUN: &str = "20261123-143000-0a1b2c";
const NAME: &str = "pgmove_20261123_143000_0a1b2c";

fn endpoint(uri: &str) -> Endpoint {
    Endpoint {
        side: Side::Target,
        conninfo: Arc::new(ConnInfo::parse(uri, &Defaults::default()).expect("a URI")),
        application_name: "another one".into(),
        copy_encoding: None,
    }
}

async fn create(database: &Database, run: &str) -> Result<ScratchDatabase, ScratchError> {
    let (target, admin) = (endpoint(&database.uri()), endpoint(&database.admin_uri()));
    ScratchDatabase::create(&target, Some(&admin), &database.name, run).await
}

/// The scratch databases of the server.
fn scratch_databases(server: &Server) -> String {
    let statement =
        "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'pgmove%'";
    crate::support::psql(&server.uri("postgres"), statement).expect("a running server")
}

/// What a database is made with.
fn kind(database: &Database, name: &str) -> String {
    database.admin_psql(&format!(
        "SELECT concat_ws(' ', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, dattablespace,
                to_jsonb(d) ->> 'datlocprovider', to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale',
                to_jsonb(d) ->> 'daticurules')
         FROM pg_database d WHERE datname = '{name}'"
    ))
}

#[tokio::test]
async fn a_scratch_database_is_like_the_targets_on_every_server() {
    let cases = [
        (14, "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"),
        (15, "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de' LOCALE 'C'"),
        (17, "TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"),
        (18, "TEMPLATE template0 LOCALE 'C'"),
        (18, ""),
    ];
    for (major, options) in cases {
        // Of its own: there the only scratch databases are this test's.
        let server = Server::start(major, &Variant::default());
        let database = server.database_with(options);
        let scratch = create(&database, RUN).await.expect("the administrator may make it");
        assert_eq!(scratch.name(), NAME);
        assert_eq!(kind(&database, NAME), kind(&database, &database.name), "{major} {options}");
        // Sessions that are still there do not keep it.
        let mut sessions = Vec::new();
        for (endpoint, is_superuser) in [(&scratch.target, "off"), (&scratch.admin, "on")] {
            let session = Session::open(endpoint, Access::Write, "public").await.expect("it leads into it");
            let row = session
                .client
                .query_one("SELECT current_database()::text, current_setting('is_superuser'), current_setting('application_name')", &[])
                .await
                .expect("an answer");
            assert_eq!(row.get::<_, String>(0), NAME);
            assert_eq!(row.get::<_, String>(1), is_superuser);
            assert_eq!(row.get::<_, String>(2), format!("pgmove {RUN}"));
            session.run("CREATE SCHEMA IF NOT EXISTS photos", "create").await.expect("it may write");
            sessions.push(session);
        }
        scratch.drop().await.expect("the administrator may drop it");
        assert_eq!(scratch_databases(&server), "");
    }
}

#[tokio::test]
async fn a_scratch_database_goes_however_its_work_ends() {
    let server = Server::start(18, &Variant::default());
    let database = server.database();
    let (events, _receiver) = Events::channel();
    let done = within(create(&database, RUN).await.expect("made"), &events, async |scratch| {
        assert_eq!(scratch_databases(&server), scratch.name());
        Ok(7)
    });
    assert_eq!(done.await.expect("nothing failed"), 7);
    assert_eq!(scratch_databases(&server), "");
    let failed = within::<()>(create(&database, RUN).await.expect("made"), &events, async |_| {
        // The session that was to drop it is gone, too.
        database.admin_psql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'pgmove %'",
        );
        Err(Error::new(Exit::Interrupted, Interrupted))
    });
    assert_eq!(failed.await.expect_err("the work's error is kept").exit, Exit::Interrupted);
    assert_eq!(scratch_databases(&server), "");
}

#[tokio::test]
async fn a_scratch_database_that_cannot_be_dropped_is_named() {
    let server = Server::start(18, &Variant::default());
    let database = server.database();
    let (events, receiver) = Events::channel();
    let keep = || {
        crate::support::psql(&server.uri("postgres"), &format!("ALTER DATABASE {NAME} IS_TEMPLATE true"))
            .expect("a superuser may");
    };
    let done = within(create(&database, RUN).await.expect("made"), &events, async |_| {
        keep();
        Ok(())
    });
    let error = done.await.expect_err("what is left is an error");
    assert_eq!(error.exit, Exit::StartOver);
    let hint = error.fault.hint().expect("a next step");
    assert!(
        error.fault.to_string().contains(NAME)
            && hint.contains(&format!("DROP DATABASE IF EXISTS \"{NAME}\""))
    );
    let again = create(&database, RUN).await.expect_err("one of this name is there");
    assert!(again.to_string().contains(NAME), "{again}");
    database.admin_psql(&format!("ALTER DATABASE {NAME} IS_TEMPLATE false"));
    database.admin_psql(&format!("DROP DATABASE {NAME}"));

    // Beside an error of the work it is a warning.
    let failed = within::<()>(create(&database, RUN).await.expect("made"), &events, async |_| {
        keep();
        Err(Error::new(Exit::Interrupted, Interrupted))
    });
    assert_eq!(failed.await.expect_err("the work's error").exit, Exit::Interrupted);
    drop(events);
    let warned =
        receiver.iter().any(|event| matches!(event, Event::Warning { message } if message.contains(NAME)));
    assert!(warned, "nobody is told");
}

#[tokio::test]
async fn without_an_administrator_there_is_no_scratch_database() {
    let database = Server::shared(18).database();
    let target = endpoint(&database.uri());
    let refused = ScratchDatabase::create(&target, None, &database.name, RUN).await;
    assert!(matches!(refused, Err(ScratchError::NoAdmin)));
    // Nor with one who is none.
    let refused = ScratchDatabase::create(&target, Some(&target), &database.name, RUN).await;
    let refused = refused.expect_err("an owner may make no database");
    assert!(matches!(refused, ScratchError::NotMade { .. }), "{refused}");
}

#[tokio::test]
async fn what_an_earlier_command_has_left_is_found_and_dropped_unless_it_is_in_use_or_somebody_elses() {
    let server = Server::start(18, &Variant::default());
    let database = server.database();
    let admin = endpoint(&database.admin_uri());
    let session = Session::open(&admin, Access::Write, "pg_catalog").await.expect("a session");
    let scratch = create(&database, RUN).await.expect("made");
    // In use: its process lives, though nobody is in it.
    assert_eq!(remove_left_over(&session).await.expect("an answer"), []);
    assert_eq!(scratch_databases(&server), NAME);
    // Killed.
    database.admin_psql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'pgmove %'",
    );
    // In use by somebody who looks around.
    let visitor = Session::open(&scratch.admin, Access::Read, "pg_catalog").await.expect("a session");
    database.admin_psql("SELECT 1");
    assert_eq!(remove_left_over(&session).await.expect("an answer"), []);
    visitor.close().await;
    database.admin_psql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname LIKE 'pgmove\\_%'",
    );
    let others = ["pgmove_20261123_143000_ffffff", "pgmove_test", "pgmove_20261123_143000_0a1b2c_old"];
    for other in others {
        database.admin_psql(&format!("CREATE DATABASE {other}"));
    }
    let found = remove_left_over(&session).await.expect("an answer");
    let names: Vec<(&str, bool)> = found.iter().map(|left| (left.name.as_str(), left.is_dropped)).collect();
    assert_eq!(names, [(NAME, true), (others[0], false)]);
    assert!(found[0].to_string().contains("was dropped"), "{}", found[0]);
    assert!(found[1].to_string().contains("DROP DATABASE"), "{}", found[1]);
    for other in others {
        assert!(scratch_databases(&server).contains(other));
    }
    assert!(!scratch_databases(&server).split(' ').any(|name| name == NAME));
}
