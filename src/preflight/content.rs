//! What of the source is not carried, not as it is, or only by a superuser.

use super::{Finding, Input, ObjectKind, blocking, few, warning};
use crate::catalog::{Catalog, Extension, Persistence, TableKind};
use crate::pg::{display_identifier, quote_identifier};
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [
        superuser_objects(input),
        configuration_tables(input),
        foreign_servers(input),
        foreign_tables(input),
        user_mappings(input),
        subscriptions(input),
        tablespaces(input),
        unlogged_tables(input),
        invalid_indexes(input),
        unvalidated_constraints(input),
    ]
    .concat()
}

/// Unlogged tables, by name.
pub(super) fn unlogged(catalog: &Catalog) -> Vec<String> {
    let unlogged = catalog.tables.iter().filter(|table| table.persistence == Persistence::Unlogged);
    unlogged.map(|table| table.name.to_string()).collect()
}

fn superuser_objects(input: &Input<'_>) -> Vec<Finding> {
    if input.has_superuser() {
        return vec![];
    }
    let of = |kind| input.source_rights.of(kind);
    let triggers = of(ObjectKind::EventTrigger)
        .map(|trigger| format!("event trigger {}", display_identifier(&trigger.name)));
    let publications =
        of(ObjectKind::Publication).filter(|publication| !publication.detail.is_empty()).map(|publication| {
            format!("publication {} ({})", display_identifier(&publication.name), publication.detail)
        });
    let objects: Vec<String> = triggers.chain(publications).collect();
    if objects.is_empty() {
        return vec![];
    }
    vec![blocking(
        "needs-superuser",
        "the source has objects that only a superuser can create on the target",
        few(objects),
        "give --target-admin with a superuser; or drop them on the source, if they are not needed",
    )]
}

/// What a superuser's extension makes belongs to the superuser, also where it is trusted: an ordinary role could not
/// load the rows of its configuration tables.
fn configuration_tables(input: &Input<'_>) -> Vec<Finding> {
    let (target, session) = (input.target, &input.target.session);
    let is_own = |name: &str| {
        let offered = target.available_extensions.iter().find(|offered| offered.name == name);
        let installed = target.extensions.iter().find(|found| found.name == name);
        offered.is_some_and(|offered| !offered.needs_superuser)
            && installed.is_none_or(|found| found.owner == session.role)
    };
    let role = display_identifier(&session.role);
    let finding = |extension: &Extension| {
        blocking(
            "extension-configuration",
            format!(
                "the target's role {role} may not load the configuration tables of extension {}",
                display_identifier(&extension.name)
            ),
            few(extension.configuration.iter().map(|relation| &relation.name)).within(|tables| {
                format!("{tables}: marked by pg_extension_config_dump, and on the target a superuser's")
            }),
            format!(
                "connect with --target as a superuser of the target, and give --owner {role}; or, if nothing uses the \
                 extension, on the source: DROP EXTENSION {};",
                quote_identifier(&extension.name)
            ),
        )
    };
    let refused = input.source.extensions.iter().filter(|extension| {
        !session.is_superuser
            && !extension.configuration.is_empty()
            && extension.name != LEGACY_VECTOR_EXTENSION
            && !is_own(&extension.name)
    });
    refused.map(finding).collect()
}

/// A wrapper's server may be made by who has USAGE on the wrapper, and the extension's creator is a superuser.
fn foreign_servers(input: &Input<'_>) -> Vec<Finding> {
    if input.target.session.is_superuser {
        return vec![];
    }
    let is_usable = |wrapper: &str| {
        input
            .target_rights
            .of(ObjectKind::ForeignDataWrapper)
            .any(|found| found.name == wrapper && found.detail == "usable")
    };
    let role = quote_identifier(&input.target.session.role);
    let refused: Vec<_> = input
        .source_rights
        .of(ObjectKind::ForeignServer)
        .filter(|server| !is_usable(&server.detail))
        .collect();
    let Some(first) = refused.first() else { return vec![] };
    vec![blocking(
        "foreign-server",
        "the target's role may not create the source's foreign servers",
        few(refused.iter().map(|server| {
            format!("{} (wrapper {})", display_identifier(&server.name), display_identifier(&server.detail))
        })),
        format!(
            "as a superuser in the target's database, once the wrapper's extension is there: GRANT USAGE ON FOREIGN \
             DATA WRAPPER {} TO {role};",
            quote_identifier(&first.detail)
        ),
    )]
}

fn foreign_tables(input: &Input<'_>) -> Vec<Finding> {
    let tables: Vec<String> = input
        .source
        .tables
        .iter()
        .filter(|table| table.kind == TableKind::Foreign)
        .map(|table| table.name.to_string())
        .collect();
    if tables.is_empty() {
        return vec![];
    }
    vec![warning(
        "foreign-tables",
        "foreign tables are carried without rows: these are on other servers",
        few(tables),
        "make sure that the target's server can reach these servers",
    )]
}

fn user_mappings(input: &Input<'_>) -> Vec<Finding> {
    let mappings: Vec<_> = input.source_rights.of(ObjectKind::UserMapping).collect();
    let Some(first) = mappings.first() else { return vec![] };
    let user = |name: &str| if name == "public" { "PUBLIC".to_owned() } else { quote_identifier(name) };
    vec![warning(
        "user-mappings",
        "user mappings are not carried: they hold passwords",
        few(mappings.iter().map(|mapping| format!("{} on {}", mapping.name, mapping.detail))),
        format!(
            "after the move, on the target: CREATE USER MAPPING FOR {} SERVER {} OPTIONS (user '...', password '...');",
            user(&first.name),
            quote_identifier(&first.detail)
        ),
    )]
}

fn subscriptions(input: &Input<'_>) -> Vec<Finding> {
    let names: Vec<_> = input.source_rights.of(ObjectKind::Subscription).collect();
    let Some(first) = names.first() else { return vec![] };
    vec![warning(
        "subscriptions",
        "subscriptions are not carried: they hold passwords, and two subscribers must not share a slot",
        few(names.iter().map(|subscription| display_identifier(&subscription.name))),
        format!(
            "stop them on the source before the run: ALTER SUBSCRIPTION {} DISABLE; and create them on the target after it",
            quote_identifier(&first.name)
        ),
    )]
}

fn tablespaces(input: &Input<'_>) -> Vec<Finding> {
    let names = &input.source.special.tablespaces;
    if names.is_empty() {
        return vec![];
    }
    vec![warning(
        "tablespaces",
        "tablespaces are not carried: everything goes to the target database's own",
        few(names.iter().map(|name| display_identifier(name))),
        "see that its volume is large enough; to change the place later: ALTER TABLE ... SET TABLESPACE",
    )]
}

fn unlogged_tables(input: &Input<'_>) -> Vec<Finding> {
    let tables = unlogged(input.source);
    if tables.is_empty() || input.source.server.is_in_recovery {
        return vec![];
    }
    vec![warning(
        "unlogged-tables",
        "unlogged tables stay unlogged: a crash empties them, and standbys do not have their rows",
        few(&tables),
        format!(
            "to keep their rows through a failover, after the move: ALTER TABLE {} SET LOGGED;",
            tables[0]
        ),
    )]
}

fn invalid_indexes(input: &Input<'_>) -> Vec<Finding> {
    let invalid: Vec<_> =
        input.source.indexes.iter().filter(|index| !index.is_valid && !index.is_partitioned).collect();
    let Some(first) = invalid.first() else { return vec![] };
    vec![warning(
        "invalid-indexes",
        "the source has invalid indexes; pg_dump leaves them out",
        few(invalid.iter().map(|index| format!("{} on {}", index.name, index.table))),
        format!("on the source: DROP INDEX {0}; or REINDEX INDEX CONCURRENTLY {0};", first.name.sql()),
    )]
}

fn unvalidated_constraints(input: &Input<'_>) -> Vec<Finding> {
    let open: Vec<_> =
        input.source.constraints.iter().filter(|constraint| !constraint.is_validated).collect();
    let Some(first) = open.first() else { return vec![] };
    vec![warning(
        "constraints-not-valid",
        "constraints that were never checked stay so (NOT VALID)",
        few(open
            .iter()
            .map(|constraint| format!("{} of {}", display_identifier(&constraint.name), constraint.table))),
        format!(
            "to check one: ALTER TABLE {} VALIDATE CONSTRAINT {};",
            first.table.sql(),
            quote_identifier(&first.name)
        ),
    )]
}
