//! What belongs to whom: schemas that are there for extensions, owners that are kept, default privileges of others.

use std::sync::Arc;

use crate::support::{Database, Ended, Move, Server, leftovers, pgmove, psql};

/// Extensions have a schema of their own, which the administrator has made: the target counts as empty.
const EXTENSIONS: &str = "
CREATE SCHEMA extensions;
CREATE EXTENSION pg_trgm SCHEMA extensions;
GRANT USAGE ON SCHEMA extensions TO PUBLIC;
COMMENT ON SCHEMA extensions IS 'for extensions';
";

/// What is asked of such a schema.
const SCHEMA: &str = "
SELECT nspowner::regrole, nspacl, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'extensions'
";

const PHOTOS: &str = "
CREATE TABLE photo (id integer PRIMARY KEY, name text NOT NULL);
INSERT INTO photo SELECT n, 'photo ' || n FROM generate_series(1, 1000) AS n;
";

/// A move between shared servers, on which other tests write.
fn moving(source: &Database, target: &Database) -> Move {
    Move::new(source, target).with("--accept-writes")
}

/// Without `--target-admin`.
fn unaided(source: &Database, target: &Database) -> Move {
    let mut run = moving(source, target);
    run.admin = None;
    run
}

/// Runs to the end; what is told is not broken into lines, so that long names matter not.
fn told(run: &Move, more: &[&str]) -> Ended {
    let ended = run.run(more);
    Ended { output: ended.output.split_whitespace().collect::<Vec<_>>().join(" "), ..ended }
}

/// Makes a role on each of the servers; its name.
fn role(servers: [&Arc<Server>; 2], of: &Database, suffix: &str) -> String {
    let name = format!("{}_{suffix}", of.name);
    for server in servers {
        psql(&server.uri("postgres"), &format!("CREATE ROLE {name}")).expect("a role");
    }
    name
}

#[test]
fn a_schema_that_holds_extensions_may_be_on_the_target_only() {
    for major in [14, 16, 18] {
        let (source, target) = (Server::shared(14).database(), Server::shared(major).database());
        source.psql(PHOTOS);
        target.admin_psql(EXTENSIONS);
        if major < 15 {
            target.admin_psql("GRANT ALL ON SCHEMA public TO PUBLIC");
        }
        let before = target.admin_psql(SCHEMA);
        let kept = "schema extensions is on the target and keeps its owner postgres";
        let rights = "schema extensions on the target belongs to postgres, who gives rights on it";
        told(&unaided(&source, &target), &[]).assert(0, &[kept, rights]);
        assert_eq!(target.admin_psql(SCHEMA), before);
        assert_eq!(target.psql("SELECT count(*) FROM photo"), "1000");
    }
}

#[test]
fn a_schema_that_holds_extensions_may_be_on_both_sides() {
    let names = "CREATE INDEX ON photo USING gin (name extensions.gin_trgm_ops);";
    let (source, target) = (Server::shared(15).database(), Server::shared(17).database());
    source.psql("CREATE SCHEMA extensions; CREATE EXTENSION pg_trgm SCHEMA extensions");
    source.psql("GRANT ALL ON SCHEMA extensions TO pg_monitor; COMMENT ON SCHEMA extensions IS 'mine'");
    source.psql(&format!("{PHOTOS}{names}"));
    target.admin_psql(EXTENSIONS);
    let before = target.admin_psql(SCHEMA);
    let run = unaided(&source, &target);
    let planned = ["existing schema: 4", "CREATE SCHEMA extensions", "(left out)"];
    told(&run, &["--dry-run"]).assert(0, &planned);
    let reasons = ["keeps its owner postgres", "belongs to postgres, who gives rights on it"];
    told(&run, &[]).assert(0, &reasons);
    assert_eq!(target.admin_psql(SCHEMA), before);
    assert_eq!(leftovers(&target), "");
}

/// Where the session owns it, comment and rights are carried, beside the rights that were there.
#[test]
fn rights_on_a_schema_of_extensions_are_carried_where_its_owner_moves() {
    let (source, target) = (Server::shared(15).database(), Server::shared(17).database());
    for database in [&source, &target] {
        database.psql("CREATE SCHEMA extensions");
        database.admin_psql("CREATE EXTENSION pg_trgm SCHEMA extensions");
    }
    source.psql("GRANT ALL ON SCHEMA extensions TO pg_monitor; COMMENT ON SCHEMA extensions IS 'mine'");
    target.psql("GRANT USAGE ON SCHEMA extensions TO pg_read_all_stats");
    source.psql(PHOTOS);
    let run = unaided(&source, &target);
    told(&run, &[]).assert(0, &["schema extensions is on the target and keeps what it had there"]);
    let owner = &target.name;
    let acl = format!("{{{owner}=UC/{owner},pg_read_all_stats=U/{owner},pg_monitor=UC/{owner}}}");
    assert_eq!(target.admin_psql(SCHEMA), format!("{owner}|{acl}|mine"));
    // A right that is not carried is a difference.
    target.psql("REVOKE ALL ON SCHEMA extensions FROM pg_monitor");
    let ended = pgmove().args(["verify", "--source", &source.uri(), "--target", &target.uri()]).output();
    let ended = ended.expect("pgmove runs");
    let output = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(4), "{output}");
    assert!(output.contains("ACL SCHEMA extensions"), "{output}");
}

/// The source's own objects stand among the extensions: the owner needs CREATE there, which the administrator has.
#[test]
fn objects_in_a_schema_of_the_administrator_need_the_administrator() {
    let (source, target) = (Server::shared(15).database(), Server::shared(17).database());
    source.psql("CREATE SCHEMA extensions; CREATE EXTENSION pg_trgm SCHEMA extensions");
    source.psql(PHOTOS);
    source.psql(
        "CREATE FUNCTION extensions.alike(text) RETURNS real LANGUAGE sql AS 'SELECT extensions.similarity($1, $1)'",
    );
    target.admin_psql(EXTENSIONS);
    let before = target.admin_psql(SCHEMA);
    let refused = [
        format!("role {} may not create in schema extensions of the target", target.name),
        "FUNCTION extensions.alike(text)".into(),
        format!(
            "give --target-admin; or, as a superuser on the target: GRANT CREATE ON SCHEMA \"extensions\" TO \"{}\"",
            target.name
        ),
    ];
    let run = unaided(&source, &target);
    told(&run, &[]).assert(3, &refused.each_ref().map(String::as_str));
    assert_eq!(target.psql("SELECT to_regclass('photo'), to_regnamespace('pgmove')"), "|");
    let run = moving(&source, &target);
    let planned = [
        format!("as admin: right of {} to create in schema extensions", target.name),
        format!("GRANT CREATE ON SCHEMA \"extensions\" TO \"{}\"", target.name),
        format!("REVOKE CREATE ON SCHEMA \"extensions\" FROM \"{}\"", target.name),
    ];
    told(&run, &["--dry-run"]).assert(0, &planned.each_ref().map(String::as_str));
    told(&run, &[]).assert(0, &[]);
    assert_eq!(target.psql("SELECT extensions.alike('a')"), "1");
    assert_eq!(target.admin_psql(SCHEMA), before);
}

/// Rows of `what`, and who owns them.
fn owners(database: &Database) -> String {
    database.admin_psql(
        "SELECT c.oid::regclass::text, relowner::regrole FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE nspname IN ('app', 'public') AND relkind IN ('r', 'v', 'm', 'S') AND c.oid > 16383
         UNION ALL
         SELECT o.oid::regprocedure::text, proowner::regrole FROM pg_proc o JOIN pg_namespace n ON n.oid = pronamespace
         WHERE nspname = 'app'
         UNION ALL
         SELECT o.oid::regtype::text, typowner::regrole FROM pg_type o JOIN pg_namespace n ON n.oid = typnamespace
         WHERE nspname = 'app' AND typtype IN ('e', 'd')
         UNION ALL
         SELECT pubname::text, pubowner::regrole FROM pg_publication
         ORDER BY 1",
    )
}

/// One of each kind that is given to `writer`, in a schema of `keeper`, who has revoked some of its own rights.
fn application(keeper: &str, writer: &str) -> String {
    format!(
        "CREATE SCHEMA app AUTHORIZATION {keeper};
         GRANT USAGE, CREATE ON SCHEMA app TO {writer};
         SET ROLE {writer};
         CREATE TYPE app.mood AS ENUM ('calm', 'wild');
         CREATE DOMAIN app.size AS integer CHECK (VALUE > 0);
         CREATE TABLE app.photo (id serial PRIMARY KEY, mood app.mood, size app.size);
         CREATE STATISTICS app.photo_facts ON mood, size FROM app.photo;
         CREATE VIEW app.wild AS SELECT id FROM app.photo WHERE mood = 'wild';
         CREATE MATERIALIZED VIEW app.calm AS SELECT id FROM app.photo WHERE mood = 'calm';
         CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER touched BEFORE UPDATE ON app.photo FOR EACH ROW EXECUTE FUNCTION app.touch();
         INSERT INTO app.photo (mood, size) SELECT 'wild', n FROM generate_series(1, 1000) AS n;
         RESET ROLE;
         CREATE PUBLICATION changes FOR TABLE app.photo;
         ALTER PUBLICATION changes OWNER TO {writer};
         REVOKE CREATE ON SCHEMA app FROM {keeper};"
    )
}

const RIGHTS: &str = "SELECT nspname, nspowner::regrole, (SELECT string_agg(a::text, ',' ORDER BY a::text)
    FROM unnest(nspacl) AS a) FROM pg_namespace WHERE nspname = 'app'";

#[test]
fn owners_are_kept_where_only_a_grant_lets_them_create() {
    for (old, new) in [(14, 16), (15, 17), (16, 18)] {
        let servers = [&Server::shared(old), &Server::shared(new)];
        let (source, target) = (servers[0].database(), servers[1].database());
        let keeper = role(servers, &source, "keeper");
        let writer = role(servers, &source, "writer");
        target.admin_psql(&format!("GRANT {keeper}, {writer} TO {}", target.name));
        source.admin_psql(&application(&keeper, &writer));
        source.admin_psql(&format!("GRANT pg_read_all_data TO {}", source.name));
        // What only a grant of the past allowed.
        source.admin_psql(&format!(
            "CREATE TABLE public.past (id integer); ALTER TABLE public.past OWNER TO {writer};
             CREATE TABLE app.past (id integer); ALTER TABLE app.past OWNER TO {}",
            source.name
        ));
        let run = unaided(&source, &target);
        let lent = [
            format!("{writer} must be allowed to create in schema app when objects are given to it"),
            format!("GRANT CREATE ON SCHEMA \"app\" TO \"{writer}\""),
            format!("REVOKE CREATE ON SCHEMA \"app\" FROM \"{writer}\""),
            format!("GRANT CREATE ON DATABASE \"{}\" TO \"{writer}\"", target.name),
        ];
        told(&run, &["--dry-run"]).assert(0, &lent.each_ref().map(String::as_str));
        told(&run, &[]).assert(0, &[]);
        assert_eq!(
            owners(&target),
            owners(&source).replace(&format!("|{}\n", source.name), &format!("|{}\n", target.name))
        );
        assert_eq!(target.admin_psql(RIGHTS), source.admin_psql(RIGHTS));
        let may = "SELECT has_database_privilege(rolname, current_database(), 'CREATE'),
                          has_schema_privilege(rolname, 'public', 'CREATE') FROM pg_roles WHERE rolname = ";
        assert_eq!(
            target.admin_psql(&format!("{may}'{writer}'")),
            source.admin_psql(&format!("{may}'{writer}'"))
        );
    }
}

/// Schema `public` of the target is the administrator's there, and the source's lets everyone create in it.
#[test]
fn owners_who_may_not_create_in_the_targets_schema_are_refused_before_the_first_write() {
    let servers = [&Server::shared(15), &Server::shared(17)];
    let (source, target) = (servers[0].database(), servers[1].database());
    let writer = role(servers, &source, "writer");
    target.admin_psql(&format!(
        "ALTER SCHEMA public OWNER TO postgres; GRANT ALL ON SCHEMA public TO {name}; GRANT {writer} TO {name}",
        name = target.name
    ));
    source.psql(PHOTOS);
    source.admin_psql(&format!(
        "ALTER TABLE photo OWNER TO {writer}; GRANT pg_read_all_data TO {}",
        source.name
    ));
    let refused = [
        format!("role {writer} may not create in schema public of the target"),
        "TABLE public.photo".into(),
        format!("GRANT CREATE ON SCHEMA \"public\" TO \"{writer}\""),
    ];
    let ended = told(&unaided(&source, &target), &[]);
    ended.assert(3, &refused.each_ref().map(String::as_str));
    assert_eq!(target.psql("SELECT to_regclass('photo'), to_regnamespace('pgmove')"), "|");

    let acl = "SELECT nspacl FROM pg_namespace WHERE nspname = 'public'";
    let before = target.admin_psql(acl);
    told(&moving(&source, &target), &[]).assert(0, &[]);
    assert_eq!(owners(&target), format!("photo|{writer}"));
    assert_eq!(target.admin_psql(acl), before);
}

/// The one owner of everything may create in the schemas that it gets, and in no other.
#[test]
fn one_owner_gets_objects_in_a_schema_of_another_owner() {
    let servers = [&Server::shared(15), &Server::shared(17)];
    let (source, target) = (servers[0].database(), servers[1].database());
    let writer = role(servers, &source, "writer");
    target.admin_psql(&format!("GRANT {writer} TO {}", target.name));
    source.psql(PHOTOS);
    let run = unaided(&source, &target).with(&format!("--owner={writer}"));
    told(&run, &[]).assert(0, &[]);
    assert_eq!(owners(&target), format!("photo|{writer}"));
    let may_create = format!("SELECT has_schema_privilege('{writer}', 'public', 'CREATE')");
    assert_eq!(target.admin_psql(&may_create), "f");
}

/// A materialised view is refreshed as its owner, who reads what another lets it read.
#[test]
fn a_view_over_the_table_of_another_role_is_filled() {
    let servers = [&Server::shared(15), &Server::shared(17)];
    let (source, target) = (servers[0].database(), servers[1].database());
    let [keeper, writer] = ["keeper", "writer"].map(|suffix| role(servers, &source, suffix));
    target.admin_psql(&format!("GRANT {keeper}, {writer} TO {}", target.name));
    source.admin_psql(&format!(
        "GRANT pg_read_all_data TO {name};
         CREATE SCHEMA app AUTHORIZATION {keeper};
         GRANT ALL ON SCHEMA app TO {writer};
         SET ROLE {keeper};
         CREATE TABLE app.photo AS SELECT generate_series(1, 1000) AS id;
         GRANT SELECT ON app.photo TO {writer};
         SET ROLE {writer};
         CREATE MATERIALIZED VIEW app.counted AS SELECT count(*) FROM app.photo;
         CREATE UNIQUE INDEX counted_key ON app.counted (count);",
        name = source.name
    ));
    told(&unaided(&source, &target), &[]).assert(0, &[]);
    assert_eq!(target.psql("SELECT * FROM app.counted"), "1000");
    assert_eq!(owners(&target), owners(&source));
}

/// From 16 a role may be allowed to give objects away without a right to what is given.
#[test]
fn an_owner_whose_rights_are_not_inherited_is_not_kept() {
    let servers = [&Server::shared(15), &Server::shared(17)];
    let (source, target) = (servers[0].database(), servers[1].database());
    let writer = role(servers, &source, "writer");
    let name = &target.name;
    target.admin_psql(&format!("GRANT {writer} TO {name} WITH INHERIT FALSE, SET TRUE"));
    source.psql(PHOTOS);
    source.admin_psql(&format!(
        "ALTER TABLE photo OWNER TO {writer}; GRANT pg_read_all_data TO {}",
        source.name
    ));
    let remedy = format!("GRANT \"{writer}\" TO \"{name}\" WITH INHERIT TRUE, SET TRUE;");
    told(&unaided(&source, &target), &[]).assert(0, &["objects of other owners will belong to", &remedy]);
    assert_eq!(owners(&target), format!("photo|{name}"));
}

/// Who set default privileges, for what, and for whom.
const DEFAULTS: &str =
    "SELECT defaclrole::regrole, defaclobjtype, defaclacl FROM pg_default_acl ORDER BY 1, 2";

#[test]
fn default_privileges_of_other_roles_go_over_the_admin_connection() {
    let servers = [&Server::shared(15), &Server::shared(17)];
    let (source, target) = (servers[0].database(), servers[1].database());
    let [foreign, member, reader] =
        ["foreign", "member", "reader"].map(|suffix| role(servers, &source, suffix));
    target.admin_psql(&format!("GRANT {member} TO {}", target.name));
    source.psql(PHOTOS);
    for creator in [&foreign, &member, "postgres"] {
        source.admin_psql(&format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {creator} IN SCHEMA public GRANT SELECT ON TABLES TO {reader}"
        ));
    }
    let run = unaided(&source, &target);
    let of_others = [format!("TABLES of {foreign} in schema public"), "give --target-admin".into()];
    let ended = told(&run, &[]);
    ended.assert(3, &of_others.each_ref().map(String::as_str));
    assert!(!ended.output.contains(&format!("TABLES of {member}")), "{}", ended.output);
    assert_eq!(target.psql("SELECT to_regclass('photo'), to_regnamespace('pgmove')"), "|");

    let run = moving(&source, &target);
    let planned = [&foreign, "postgres"].map(|creator| {
        format!(
            "as admin: DEFAULT ACL public.DEFAULT PRIVILEGES FOR TABLES \
             ALTER DEFAULT PRIVILEGES FOR ROLE {creator} IN SCHEMA public GRANT SELECT ON TABLES TO {reader}"
        )
    });
    let ended = told(&run, &["--dry-run"]);
    ended.assert(0, &planned.each_ref().map(String::as_str));
    assert_eq!(ended.output.matches("as admin: DEFAULT ACL").count(), 2, "{}", ended.output);
    told(&run, &[]).assert(0, &[]);
    assert_eq!(target.admin_psql(DEFAULTS), source.admin_psql(DEFAULTS));
}
