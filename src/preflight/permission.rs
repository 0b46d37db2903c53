//! Rights of both roles: what the source's cannot read, what the target's cannot make or own.

use std::collections::{BTreeMap, BTreeSet};

use super::{DefaultPrivileges, Finding, Input, UnreadableRelation, blocking, counted, few, warning};
use crate::catalog::{RowSecurity, Schema};
use crate::pg::{display_identifier, quote_identifier, quote_literal};
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [
        unreadable(input),
        row_security(input),
        large_objects(input),
        target_database(input),
        target_public(input),
        target_schemas(input),
        requested_owner(input),
        kept_owners(input),
        default_privileges(input),
        forced_row_security(input),
    ]
    .concat()
}

fn of_reason<'a>(input: &Input<'a>, is_wanted: fn(&str) -> bool) -> Vec<&'a UnreadableRelation> {
    input.source_rights.unreadable.iter().filter(|relation| is_wanted(&relation.reason)).collect()
}

fn unreadable(input: &Input<'_>) -> Vec<Finding> {
    let relations = of_reason(input, |reason| reason != "row security");
    if relations.is_empty() {
        return vec![];
    }
    let role = &input.source.session.role;
    let owners: BTreeSet<&str> = relations.iter().map(|relation| relation.owner.as_str()).collect();
    let grant = if input.source.server.major() >= 14 {
        format!("as a superuser on the source: GRANT pg_read_all_data TO {};", quote_identifier(role))
    } else {
        let grant = |relation: &&UnreadableRelation| {
            let kind = if relation.kind == "sequence" { "SEQUENCE " } else { "" };
            format!("GRANT SELECT ON {kind}{} TO {};", relation.name, quote_identifier(role))
        };
        format!("on the source (and USAGE on the schema): {}", few(relations.iter().map(grant)))
    };
    let described = relations.iter().map(|relation| {
        let lacks = if relation.reason == "schema" { "no USAGE on its schema" } else { "no SELECT" };
        format!("{} {} ({lacks})", relation.kind, relation.name)
    });
    vec![blocking(
        "source-unreadable",
        format!("the source's role {} cannot read everything", display_identifier(role)),
        few(described),
        format!("{grant} Or connect with --source as the owner ({})", few(owners)),
    )]
}

fn row_security(input: &Input<'_>) -> Vec<Finding> {
    let relations = of_reason(input, |reason| reason == "row security");
    if relations.is_empty() {
        return vec![];
    }
    let role = &input.source.session.role;
    vec![blocking(
        "source-row-security",
        format!("row security hides rows of the source from role {}", display_identifier(role)),
        few(relations.iter().map(|relation| format!("{} (of {})", relation.name, relation.owner))),
        format!("as a superuser on the source: ALTER ROLE {} BYPASSRLS;", quote_identifier(role)),
    )]
}

fn large_objects(input: &Input<'_>) -> Vec<Finding> {
    let unreadable: Vec<String> = input
        .source_rights
        .large_object_owners
        .iter()
        .filter(|owner| owner.unreadable > 0)
        .map(|owner| {
            format!("{} of {} of {}", owner.unreadable, owner.count, display_identifier(&owner.owner))
        })
        .collect();
    if unreadable.is_empty() {
        return vec![];
    }
    vec![blocking(
        "source-large-objects",
        format!(
            "the source's role {} cannot read all large objects",
            display_identifier(&input.source.session.role)
        ),
        few(unreadable),
        format!(
            "connect with --source as their owner, or as a superuser; or, as the owner, for each: GRANT SELECT ON LARGE \
             OBJECT oid TO {};",
            quote_identifier(&input.source.session.role)
        ),
    )]
}

fn target_database(input: &Input<'_>) -> Vec<Finding> {
    let (session, database) = (&input.target.session, &input.target.database);
    if session.is_superuser || session.owns_database {
        return vec![];
    }
    let right =
        if session.can_create_in_database { "may create schemas in it" } else { "may not create in it" };
    vec![blocking(
        "target-not-owned",
        format!("the target's role {} does not own the database", display_identifier(&session.role)),
        format!(
            "database {} belongs to {}; {} {right}, but only an owner may mark it read-only until the verdict",
            display_identifier(&database.name),
            display_identifier(&database.owner),
            display_identifier(&session.role)
        ),
        format!(
            "as a superuser on the target: ALTER DATABASE {} OWNER TO {}; or connect with --target as {}",
            quote_identifier(&database.name),
            quote_identifier(&session.role),
            display_identifier(&database.owner)
        ),
    )]
}

fn target_public(input: &Input<'_>) -> Vec<Finding> {
    let session = &input.target.session;
    let is_used = input.source.tables.iter().any(|table| table.name.schema == "public")
        || input.source.user_objects.count > 0
            && input.source.schemas.iter().any(|schema| schema.name == "public");
    if !is_used || session.is_superuser {
        return vec![];
    }
    match session.can_create_in_public {
        Some(true) => vec![],
        Some(false) => vec![blocking(
            "target-public",
            format!(
                "the target's role {} may not create in schema public",
                display_identifier(&session.role)
            ),
            "has_schema_privilege('public', 'CREATE') is false",
            format!(
                "connected to the target's database, as a superuser: ALTER SCHEMA public OWNER TO {};",
                quote_identifier(&session.role)
            ),
        )],
        None => vec![blocking(
            "target-without-public",
            "the target has no schema public, and pg_dump does not create it",
            "no public in pg_namespace",
            "on the target: CREATE SCHEMA public;",
        )],
    }
}

/// What stands in a schema cannot be named without USAGE on it.
fn target_schemas(input: &Input<'_>) -> Vec<Finding> {
    let source = input.source;
    let holds_needed = |schema: &Schema| {
        let has = |name: &str| schema.holds_extensions.iter().any(|held| held == name);
        source.extensions.iter().any(|extension| {
            has(&extension.name) || extension.name == LEGACY_VECTOR_EXTENSION && has("vector")
        })
    };
    let is_named = |schema: &Schema| source.schemas.iter().any(|other| other.name == schema.name);
    let is_wanted =
        |schema: &&Schema| schema.is_given() && !schema.can_use && (is_named(schema) || holds_needed(schema));
    let role = &input.target.session.role;
    let finding = |schema: &Schema| {
        let name = display_identifier(&schema.name);
        blocking(
            "target-schema-usage",
            format!("the target's role {} may not use schema {name}", display_identifier(role)),
            few(&schema.holds_extensions).within(|extensions| {
                format!(
                    "it holds {extensions}; has_schema_privilege({}, 'USAGE') is false",
                    quote_literal(&name)
                )
            }),
            format!(
                "on the target, as {} or a superuser: GRANT USAGE ON SCHEMA {} TO {};",
                display_identifier(&schema.owner),
                quote_identifier(&schema.name),
                quote_identifier(role)
            ),
        )
    };
    input.target.schemas.iter().filter(is_wanted).map(finding).collect()
}

fn requested_owner(input: &Input<'_>) -> Vec<Finding> {
    let Some(owner) = input.owner else { return vec![] };
    let session = &input.target.session;
    let name = display_identifier(owner);
    match input.target.roles.iter().find(|role| role.name == owner) {
        None => vec![blocking(
            "owner-missing",
            format!("role {name} does not exist on the target"),
            "no such role in pg_roles",
            format!(
                "as a superuser on the target: CREATE ROLE {0}; GRANT {0} TO {1};",
                quote_identifier(owner),
                quote_identifier(&session.role)
            ),
        )],
        Some(role) if !is_assignable(input, owner) => vec![blocking(
            "owner-not-member",
            format!("the target's role {} may not give objects to {name}", display_identifier(&session.role)),
            format!("it is no member of {name} that inherits its rights"),
            if role.is_superuser {
                // Membership in a superuser's role is as good as being one.
                format!("name an ordinary role, for example --owner {}", session.role)
            } else {
                format!("as a superuser on the target: {}", membership(input, &[owner]))
            },
        )],
        Some(_) => vec![],
    }
}

/// Owners of the source's objects, with the number of these.
fn owners<'a>(input: &Input<'a>) -> BTreeMap<&'a str, u64> {
    let source = input.source;
    let mut owned: BTreeMap<&str, u64> = BTreeMap::new();
    let objects = source
        .tables
        .iter()
        .filter(|table| table.configuration.is_none())
        .map(|table| &table.owner)
        .chain(source.materialized_views.iter().map(|view| &view.owner))
        .chain(
            source
                .sequences
                .iter()
                .filter(|sequence| sequence.configuration.is_none())
                .map(|sequence| &sequence.owner),
        )
        .chain(
            source
                .schemas
                .iter()
                .filter(|schema| schema.name != "public" && schema.extension.is_none())
                .map(|schema| &schema.owner),
        );
    for owner in objects {
        *owned.entry(owner).or_default() += 1;
    }
    for large in &input.source_rights.large_object_owners {
        *owned.entry(&large.owner).or_default() += large.count.unsigned_abs();
    }
    owned
}

/// Whether the target's role can give objects to a role of this name.
fn is_assignable(input: &Input<'_>, name: &str) -> bool {
    let session = &input.target.session;
    let is_member = |role: &crate::catalog::Role| role.is_member || session.is_superuser;
    name == session.role || input.target.roles.iter().any(|role| role.name == name && is_member(role))
}

/// The statement that lets the target's role give objects to these roles, and go on working with them.
fn membership(input: &Input<'_>, roles: &[&str]) -> String {
    let roles: Vec<String> = roles.iter().map(|role| quote_identifier(role)).collect();
    // From 16 each membership has both options of its own, and a further GRANT leaves them unless it names them.
    let options = if input.target.server.major() >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    format!("GRANT {} TO {}{options};", roles.join(", "), quote_identifier(&input.target.session.role))
}

fn kept_owners(input: &Input<'_>) -> Vec<Finding> {
    let target_role = &input.target.session.role;
    if input.owner.is_some() {
        return vec![];
    }
    let (mut described, mut remedies) = (Vec::new(), Vec::new());
    for (owner, count) in owners(input).into_iter().filter(|(owner, _)| !is_assignable(input, owner)) {
        let (why, remedy) = match input.target.roles.iter().find(|role| role.name == owner) {
            None => (
                "no such role on the target",
                format!("CREATE ROLE {}; {}", quote_identifier(owner), membership(input, &[owner])),
            ),
            Some(role) if role.is_superuser => ("a superuser on the target", String::new()),
            Some(_) => ("not a member of it that inherits its rights", membership(input, &[owner])),
        };
        let objects = counted(count, "object");
        described.push(format!("{} ({objects}; {why})", display_identifier(owner)));
        remedies.push(remedy);
    }
    remedies.retain(|remedy| !remedy.is_empty());
    if described.is_empty() {
        return vec![];
    }
    let otherwise = match remedies.as_slice() {
        [] => String::new(),
        remedies => format!("; else, as a superuser on the target: {}", remedies.join(" ")),
    };
    vec![warning(
        "owners-not-kept",
        format!("objects of other owners will belong to {} on the target", display_identifier(target_role)),
        few(described),
        format!("none, if that is as wanted (--owner {target_role} says so){otherwise}"),
    )]
}

/// `ALTER DEFAULT PRIVILEGES FOR ROLE` asks for a superuser or a member of the role.
fn default_privileges(input: &Input<'_>) -> Vec<Finding> {
    if input.owner.is_some() {
        return vec![];
    }
    let role_of =
        |privileges: &DefaultPrivileges| input.target.roles.iter().find(|role| role.name == privileges.role);
    let (missing, other): (Vec<_>, Vec<_>) = input
        .source_rights
        .default_privileges
        .iter()
        .filter(|privileges| !is_assignable(input, &privileges.role))
        .partition(|privileges| role_of(privileges).is_none());
    let mut found = Vec::new();
    if !other.is_empty() && !input.has_superuser() {
        let ordinary: BTreeSet<&str> = other
            .iter()
            .filter_map(|privileges| role_of(privileges))
            .filter(|role| !role.is_superuser)
            .map(|role| role.name.as_str())
            .collect();
        let ordinary: Vec<&str> = ordinary.into_iter().collect();
        let membership = match ordinary.as_slice() {
            [] => String::new(),
            roles => format!("; or, as a superuser on the target: {}", membership(input, roles)),
        };
        found.push(blocking(
            "default-privileges",
            "default privileges of other roles can only be set by a superuser or a member of the role",
            few(other.into_iter().map(described)),
            format!("give --target-admin, or everything to one role with --owner{membership}"),
        ));
    }
    if !missing.is_empty() {
        found.push(warning(
            "default-privileges-dropped",
            "default privileges of roles that the target does not have are not carried",
            few(missing.into_iter().map(described)),
            "CREATE ROLE on the target first, if they are needed",
        ));
    }
    found
}

fn described(privileges: &DefaultPrivileges) -> String {
    let schema = privileges.schema.as_ref().map(|name| format!(" in schema {}", display_identifier(name)));
    format!(
        "{} of {}{}",
        privileges.objects,
        display_identifier(&privileges.role),
        schema.unwrap_or_default()
    )
}

/// Once its policies are in place, a forced table hides rows from its owner too, and so from the verdict.
fn forced_row_security(input: &Input<'_>) -> Vec<Finding> {
    let session = &input.target.session;
    let forced: Vec<String> = input
        .source
        .tables
        .iter()
        .filter(|table| table.row_security == RowSecurity::Forced)
        .map(|table| table.name.to_string())
        .collect();
    if forced.is_empty() || session.bypasses_row_security {
        return vec![];
    }
    vec![blocking(
        "target-row-security",
        "tables force row security on their owner: the target's role could not read them back to compare",
        few(forced),
        format!(
            "as a superuser on the target: ALTER ROLE {} BYPASSRLS; (NOBYPASSRLS after the verdict)",
            quote_identifier(&session.role)
        ),
    )]
}
