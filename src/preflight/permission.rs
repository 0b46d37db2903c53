//! Rights of both roles: what the source's cannot read, what the target's cannot make or own.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Input, UnreadableRelation, blocking, few, warning};
use crate::catalog::RowSecurity;
use crate::pg::{display_identifier, quote_identifier};

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [
        unreadable(input),
        row_security(input),
        large_objects(input),
        target_database(input),
        target_public(input),
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
        "connect with --source as their owner, or as a superuser; or, as the owner: GRANT SELECT ON LARGE OBJECT",
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
        Some(role) if !role.is_member && !session.is_superuser && owner != session.role => vec![blocking(
            "owner-not-member",
            format!("the target's role {} may not give objects to {name}", display_identifier(&session.role)),
            format!("it is no member of {name}"),
            format!(
                "as a superuser on the target: GRANT {} TO {};",
                quote_identifier(owner),
                quote_identifier(&session.role)
            ),
        )],
        Some(_) => vec![],
    }
}

/// Owners of the source's objects, with the number of these.
fn owners<'a>(input: &Input<'a>) -> BTreeMap<&'a str, i64> {
    let source = input.source;
    let mut counted: BTreeMap<&str, i64> = BTreeMap::new();
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
        *counted.entry(owner).or_default() += 1;
    }
    for large in &input.source_rights.large_object_owners {
        *counted.entry(&large.owner).or_default() += large.count;
    }
    counted
}

/// Whether the target's role can give objects to a role of this name.
fn is_assignable(input: &Input<'_>, name: &str) -> bool {
    let session = &input.target.session;
    let is_member = |role: &crate::catalog::Role| role.is_member || session.is_superuser;
    name == session.role || input.target.roles.iter().any(|role| role.name == name && is_member(role))
}

fn kept_owners(input: &Input<'_>) -> Vec<Finding> {
    let target_role = &input.target.session.role;
    if input.owner.is_some() {
        return vec![];
    }
    let lost: Vec<(&str, i64)> =
        owners(input).into_iter().filter(|(owner, _)| !is_assignable(input, owner)).collect();
    if lost.is_empty() {
        return vec![];
    }
    let described = lost.iter().map(|(owner, count)| {
        let exists = input.target.roles.iter().any(|role| role.name == *owner);
        let why = if exists { "not a member of it" } else { "no such role on the target" };
        format!("{} ({count} objects; {why})", display_identifier(owner))
    });
    let grants = lost
        .iter()
        .map(|(owner, _)| format!("GRANT {} TO {}", quote_identifier(owner), quote_identifier(target_role)));
    vec![warning(
        "owners-not-kept",
        format!("objects of other owners will belong to {} on the target", display_identifier(target_role)),
        few(described),
        format!(
            "none, if that is as wanted (--owner {target_role} says so); else, as a superuser on the target, CREATE ROLE \
             where it is missing, and {};",
            few(grants)
        ),
    )]
}

fn default_privileges(input: &Input<'_>) -> Vec<Finding> {
    if input.owner.is_some() {
        return vec![];
    }
    let (mut missing, mut refused, mut roles) = (Vec::new(), Vec::new(), BTreeSet::new());
    for privileges in &input.source_rights.default_privileges {
        let schema =
            privileges.schema.as_ref().map(|name| format!(" in schema {}", display_identifier(name)));
        let described = format!(
            "{} of {}{}",
            privileges.objects,
            display_identifier(&privileges.role),
            schema.unwrap_or_default()
        );
        if is_assignable(input, &privileges.role) {
            continue;
        }
        if !input.target.roles.iter().any(|role| role.name == privileges.role) {
            missing.push(described);
        } else if !input.has_superuser() {
            roles.insert(format!(
                "GRANT {} TO {};",
                quote_identifier(&privileges.role),
                quote_identifier(&input.target.session.role)
            ));
            refused.push(described);
        }
    }
    let mut found = Vec::new();
    if !refused.is_empty() {
        found.push(blocking(
            "default-privileges",
            "default privileges of other roles can only be set by a superuser or a member of the role",
            few(refused),
            format!(
                "give --target-admin; or, as a superuser on the target: {}; or give everything to one role with --owner",
                few(roles).trim_end_matches(';')
            ),
        ));
    }
    if !missing.is_empty() {
        found.push(warning(
            "default-privileges-dropped",
            "default privileges of roles that the target does not have are not carried",
            few(missing),
            "CREATE ROLE on the target first, if they are needed",
        ));
    }
    found
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
