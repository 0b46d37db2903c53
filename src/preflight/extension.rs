//! Extensions: offered, permitted, in the right schema, new enough, loaded.

use std::collections::BTreeSet;

use super::{Finding, Input, blocking, few, warning};
use crate::catalog::{AvailableExtension, Catalog, Extension, Server, TypeKind};
use crate::pg::{Oid, display_identifier, quote_identifier};
use crate::plan::columns::{self, LEGACY_VECTOR_EXTENSION, Treatment};
use crate::plan::extensions::may_leave_to_operator;

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    let needed = needed(input);
    let mut found: Vec<Finding> = needed
        .iter()
        .flat_map(|needed| [offered(needed, input), schema(needed, input), version(needed, input)].concat())
        .collect();
    found.extend(permitted(&needed, input));
    found.extend(preload(&needed, input));
    found.extend(earthdistance(&needed, input));
    found
}

/// An extension that the target must have.
struct Needed<'a> {
    name: &'a str,
    /// The schema that it stands in on the source, or shall stand in.
    schema: &'a str,
    /// The source's version; `None` where the source does not have it.
    version: Option<&'a str>,
    /// Why, where the source does not have it.
    reason: &'static str,
}

/// The source's extensions, with pgvector in the place of pgvecto.rs, and VectorChord where an index wants it;
/// those that others require come first.
fn needed<'a>(input: &Input<'a>) -> Vec<Needed<'a>> {
    let source = input.source;
    let mut needed: Vec<Needed<'a>> = Vec::new();
    let mut add = |name, schema, version, reason| {
        if !needed.iter().any(|found| found.name == name) {
            needed.push(Needed { name, schema, version, reason });
        }
    };
    let named: Vec<&Extension> = in_order(&source.extensions);
    for extension in
        named.iter().filter(|found| !["plpgsql", LEGACY_VECTOR_EXTENSION].contains(&found.name.as_str()))
    {
        add(extension.name.as_str(), extension.schema.as_str(), Some(extension.version.as_str()), "");
    }
    if installed(source, LEGACY_VECTOR_EXTENSION).is_some() {
        add("vector", "public", None, "embeddings of pgvecto.rs become its type vector");
    }
    if super::vector::planned(input).iter().any(|index| index.access_method == "vchordrq") {
        add("vector", "public", None, "vchord requires it");
        add("vchord", "public", None, "vector indexes become vchordrq");
    }
    needed
}

/// The extensions that the target must have.
pub fn extensions_needed(input: &Input<'_>) -> Vec<String> {
    needed(input).iter().map(|needed| needed.name.to_owned()).collect()
}

/// Each after those that it requires.
pub(crate) fn in_order(extensions: &[Extension]) -> Vec<&Extension> {
    fn visit<'a>(
        extension: &'a Extension,
        all: &'a [Extension],
        order: &mut Vec<&'a Extension>,
        depth: usize,
    ) {
        if depth > all.len() || order.iter().any(|found| found.name == extension.name) {
            return;
        }
        for required in all.iter().filter(|other| extension.requires.contains(&other.name)) {
            visit(required, all, order, depth + 1);
        }
        order.push(extension);
    }
    let mut order = Vec::new();
    for extension in extensions {
        visit(extension, extensions, &mut order, 0);
    }
    order
}

fn installed<'a>(catalog: &'a Catalog, name: &str) -> Option<&'a Extension> {
    catalog.extensions.iter().find(|found| found.name == name)
}

fn available<'a>(input: &Input<'a>, name: &str) -> Option<&'a AvailableExtension> {
    input.target.available_extensions.iter().find(|found| found.name == name)
}

fn offered(needed: &Needed<'_>, input: &Input<'_>) -> Vec<Finding> {
    if installed(input.target, needed.name).is_some() || available(input, needed.name).is_some() {
        return vec![];
    }
    let name = display_identifier(needed.name);
    let (evidence, otherwise) = match needed.version {
        Some(version) => (
            format!(
                "the source has version {version}; pg_available_extensions on the target does not list it"
            ),
            format!(
                "; or, if nothing uses it, on the source: DROP EXTENSION {};",
                quote_identifier(needed.name)
            ),
        ),
        None => (
            format!("{}; pg_available_extensions on the target does not list it", needed.reason),
            if needed.name == "vchord" { "; or give --vector-index hnsw".to_owned() } else { String::new() },
        ),
    };
    let package = match needed.name {
        "vector" => "install pgvector on the target's server (CloudNative-PG: an image that holds it)".to_owned(),
        "vchord" => "install VectorChord on the target's server (CloudNative-PG: imageName of tensorchord/cloudnative-vectorchord)".to_owned(),
        _ => format!("install {name} on the target's server (for PostgreSQL's own ones, its contrib package)"),
    };
    vec![blocking(
        "extension-not-offered",
        format!("the target does not offer extension {name}"),
        evidence,
        format!("{package}{otherwise}"),
    )]
}

fn schema(needed: &Needed<'_>, input: &Input<'_>) -> Vec<Finding> {
    let Some(there) = installed(input.target, needed.name) else { return vec![] };
    // An extension that the source does not have may stand anywhere but among PostgreSQL's own objects.
    if there.schema == needed.schema || needed.version.is_none() && there.schema != "pg_catalog" {
        return vec![];
    }
    let (name, wanted) = (quote_identifier(needed.name), quote_identifier(needed.schema));
    let is_relocatable = available(input, needed.name).is_some_and(|offered| offered.is_relocatable);
    // PostgreSQL refuses to move an extension out of pg_catalog: the dependency is on a system object.
    let statement = if is_relocatable && there.schema != "pg_catalog" {
        format!("ALTER EXTENSION {name} SET SCHEMA {wanted};")
    } else {
        format!("DROP EXTENSION {name}; CREATE EXTENSION {name} WITH SCHEMA {wanted};")
    };
    vec![blocking(
        "extension-schema",
        format!("extension {} stands in another schema on the target", display_identifier(needed.name)),
        format!(
            "source {}, target {}: what names its objects by schema would not find them",
            display_identifier(needed.schema),
            display_identifier(&there.schema)
        ),
        format!("in the target's database, as {}: {statement}", display_identifier(&there.owner)),
    )]
}

fn version(needed: &Needed<'_>, input: &Input<'_>) -> Vec<Finding> {
    let (Some(before), Some(after)) = (needed.version, future_version(input, needed.name)) else {
        return vec![];
    };
    if !is_older(after, before) {
        return vec![];
    }
    let name = display_identifier(needed.name);
    let offered = available(input, needed.name).filter(|offered| !is_older(&offered.default_version, before));
    let remedy = match offered {
        Some(_) => format!(
            "in the target's database, as its owner: ALTER EXTENSION {} UPDATE;",
            quote_identifier(needed.name)
        ),
        None => format!("install {name} {before} or newer on the target's server"),
    };
    let evidence = format!("source {before}, target {after}");
    let uses = uses_of_types(input.source, needed.name);
    if uses.is_empty() {
        let title = format!("extension {name} is older on the target");
        return vec![warning("extension-older", title, evidence, remedy)];
    }
    vec![blocking(
        "extension-older-type",
        format!("extension {name} is older on the target, and columns use its types"),
        few(uses).within(|columns| format!("{evidence}; {columns}")),
        remedy,
    )]
}

/// The version that the target has, or gets.
pub(super) fn future_version<'a>(input: &Input<'a>, name: &str) -> Option<&'a str> {
    installed(input.target, name)
        .map(|found| found.version.as_str())
        .or_else(|| available(input, name).map(|offered| offered.default_version.as_str()))
}

/// Columns of an extension's types whose format is not known to be the same in every version; `halfvec` and
/// `sparsevec` came with pgvector 0.7 and count as such.
fn uses_of_types(source: &Catalog, extension: &str) -> Vec<String> {
    let is_young = |name: &str| extension == "vector" && name != "vector";
    let is_of = |mut oid: Oid| loop {
        let Some(found) = source.types.get(&oid) else { return false };
        match found.kind {
            TypeKind::Domain { base, .. } => oid = base,
            TypeKind::Array { element } => oid = element,
            _ => {
                let is_stable = columns::treat(oid, &source.types, |_| false) == Treatment::Raw;
                return found.extension.as_deref() == Some(extension)
                    && (!is_stable || is_young(&found.name.name));
            }
        }
    };
    let columns =
        source.tables.iter().flat_map(|table| table.columns.iter().map(move |column| (table, column)));
    columns
        .filter(|(_, column)| is_of(column.type_oid))
        .map(|(table, column)| format!("{}.{}", table.name, display_identifier(&column.name)))
        .collect()
}

/// Whether a version is older than another. Versions are numbers with dots as far as anything is known of them.
pub(crate) fn is_older(version: &str, than: &str) -> bool {
    let numbers = |text: &str| -> Option<Vec<u32>> {
        let mut numbers: Vec<u32> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        // 1.1.0 is 1.1.
        numbers.truncate(numbers.iter().rposition(|number| *number > 0).map_or(0, |last| last + 1));
        Some(numbers)
    };
    matches!((numbers(version), numbers(than)), (Some(one), Some(other)) if one < other)
}

/// `CREATE EXTENSION` asks for a superuser, unless the extension is trusted and the role may create in the
/// database.
fn permitted(needed: &[Needed<'_>], input: &Input<'_>) -> Vec<Finding> {
    let session = &input.target.session;
    if input.has_superuser() {
        return vec![];
    }
    let refused: Vec<(&Needed<'_>, &AvailableExtension)> = needed
        .iter()
        .filter(|needed| installed(input.target, needed.name).is_none())
        .filter_map(|needed| available(input, needed.name).map(|offered| (needed, offered)))
        .filter(|(_, offered)| {
            offered.needs_superuser && !(offered.is_trusted && session.can_create_in_database)
        })
        .filter(|(needed, offered)| {
            !(input.has_operator && may_leave_to_operator(Some(offered), needed.schema))
        })
        .collect();
    if refused.is_empty() {
        return vec![];
    }
    // What the refused ones require must be there first, also where the owner could create it.
    let required: BTreeSet<&str> =
        refused.iter().flat_map(|(_, offered)| offered.requires.iter().map(String::as_str)).collect();
    let statements: Vec<String> = needed
        .iter()
        .filter(|needed| installed(input.target, needed.name).is_none())
        .filter(|needed| {
            required.contains(needed.name) || refused.iter().any(|(found, _)| found.name == needed.name)
        })
        .map(|needed| create(needed.name, needed.schema, available(input, needed.name)))
        .collect();
    let names = few(refused.iter().map(|(needed, _)| display_identifier(needed.name)));
    let database = &input.target.database.name;
    vec![blocking(
        "extension-needs-superuser",
        format!("the target's role {} may not create: {names}", display_identifier(&session.role)),
        "not trusted, not in the target's database yet, and no --target-admin was given",
        format!(
            "give --target-admin with a superuser of the same database; or, as a superuser, connected to database {} \
             (extensions are per database; CloudNative-PG's postInitSQL runs in database postgres, \
             postInitApplicationSQL in the right one): {}",
            display_identifier(database),
            statements.join(" ")
        ),
    )]
}

/// The statement for an extension, where it shall stand.
pub(crate) fn create(name: &str, schema: &str, offered: Option<&AvailableExtension>) -> String {
    let name = quote_identifier(name);
    let fixed = offered.and_then(|offered| offered.schema.as_ref());
    let (before, place) = match (fixed, schema) {
        (Some(_), _) => (String::new(), String::new()),
        (None, "public") => (String::new(), " WITH SCHEMA public".to_owned()),
        (None, other) => {
            let schema = quote_identifier(other);
            (format!("CREATE SCHEMA IF NOT EXISTS {schema}; "), format!(" WITH SCHEMA {schema}"))
        }
    };
    format!("{before}CREATE EXTENSION IF NOT EXISTS {name}{place};")
}

/// The libraries of a list such as `vchord.so, "$libdir/pg_stat_statements"`.
pub(crate) fn libraries(list: &str) -> Vec<&str> {
    list.split(',')
        .map(|item| item.trim().trim_matches(['"', '\'']))
        .map(|item| item.rsplit('/').next().unwrap_or(item).trim_end_matches(".so"))
        .filter(|item| !item.is_empty())
        .collect()
}

/// VectorChord works only when it was loaded at the server's start. Of other extensions the source's own list
/// tells which are.
fn preload(needed: &[Needed<'_>], input: &Input<'_>) -> Vec<Finding> {
    let listed = |server: &Server| server.shared_preload_libraries.clone();
    let before = listed(&input.source.server).unwrap_or_default();
    let after = listed(&input.target.server);
    let mut found = Vec::new();
    for name in needed.iter().map(|needed| needed.name) {
        let is_vchord = name == "vchord";
        let in_cluster =
            format!("CloudNative-PG: postgresql.shared_preload_libraries: [\"{name}.so\"] in the Cluster");
        let Some(after) = &after else {
            if is_vchord {
                let role = display_identifier(&input.target.session.role);
                found.push(warning(
                    "preload-unknown",
                    "vchord must be loaded by the target's server, and that cannot be seen",
                    format!("shared_preload_libraries is hidden from role {role}"),
                    format!(
                        "give --target-admin; or, as a superuser on the target: SHOW shared_preload_libraries; where vchord \
                         is missing, add it to the list and restart the server ({in_cluster})"
                    ),
                ));
            }
            continue;
        };
        if libraries(after).contains(&name) || !(is_vchord || libraries(&before).contains(&name)) {
            continue;
        }
        let list = if libraries(after).is_empty() { name.to_owned() } else { format!("{after}, {name}") };
        let title = format!("{} is not loaded by the target's server", display_identifier(name));
        let evidence = format!("shared_preload_libraries = '{after}'");
        let remedy = format!(
            "as a superuser on the target: ALTER SYSTEM SET shared_preload_libraries = {list}; then restart the server \
             ({in_cluster})"
        );
        found.push(if is_vchord {
            blocking("preload-missing", title, evidence, remedy)
        } else {
            warning("preload-differs", title, format!("{evidence}; on the source '{before}'"), remedy)
        });
    }
    found
}

/// Functions of earthdistance before 1.2 find `cube` by `search_path`, which servers from 17 on pin while an
/// index is built.
fn earthdistance(needed: &[Needed<'_>], input: &Input<'_>) -> Vec<Finding> {
    let name = "earthdistance";
    let Some(version) = future_version(input, name).filter(|version| is_older(version, "1.2")) else {
        return vec![];
    };
    let indexes: Vec<String> = input
        .source
        .indexes
        .iter()
        .filter(|index| index.definition.contains("ll_to_earth"))
        .map(|index| index.name.to_string())
        .collect();
    if indexes.is_empty() || !needed.iter().any(|needed| needed.name == name) {
        return vec![];
    }
    let server = &input.target.server;
    let evidence = few(indexes)
        .within(|indexes| format!("earthdistance {version} on server {}; {indexes}", server.version));
    if server.major() >= 17 {
        return vec![blocking(
            "earthdistance",
            "indexes over ll_to_earth cannot be built with the target's earthdistance",
            evidence,
            "update the target to 17.3 or newer, then in its database: ALTER EXTENSION earthdistance UPDATE;",
        )];
    }
    vec![warning(
        "earthdistance",
        "indexes over ll_to_earth depend on search_path with the target's earthdistance",
        evidence,
        "pgmove builds them with the source's search_path; a later REINDEX or pg_restore needs it too. Free of it: \
         earthdistance 1.2, with servers 16.7, 17.3 and 18",
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(is_older("0.8.2", "0.10.0"));
        assert!(is_older("1.1", "1.1.1"));
        assert!(!is_older("1.2", "1.2"));
        assert!(!is_older("1.2", "1.1"));
        assert!(!is_older("1.1", "1.1.0"));
        assert!(!is_older("unpackaged", "1.1"));
    }

    #[test]
    fn libraries_are_named_in_many_ways() {
        assert_eq!(libraries("vchord.so, \"$libdir/pg_cron\" ,'citus'"), ["vchord", "pg_cron", "citus"]);
        assert!(libraries("").is_empty());
    }
}
