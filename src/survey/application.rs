//! The application that the database belongs to, if pgmove knows it: its version, what that takes of the target, and what
//! its first start will do. What is known stands in [`crate::profile`].

use super::read::{ReadError, Reader, refusal};
use super::{Input, Skipped, note, warning};
use crate::catalog::Catalog;
use crate::pg::{QualifiedName, display_identifier, quote_identifier};
use crate::plan::Plan;
use crate::preflight::{Finding, counted, create, few, is_older};
use crate::profile::{self, ExtensionRange, Gate, PathColumn, Profile};
use crate::report::number;

/// A known application, as its database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// What is known of it.
    pub profile: Profile,
    /// The schema of its tables.
    pub schema: String,
    /// Its version; none where the database does not tell.
    pub version: Option<String>,
    /// What its paths begin with.
    pub paths: Vec<Roots>,
    /// What the gates' queries say.
    pub gates: Vec<(Gate, Option<String>)>,
}

/// What the paths of a column begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The column.
    pub column: PathColumn,
    /// The most frequent beginnings, and how many paths each has.
    pub roots: Vec<(String, i64)>,
}

/// So many beginnings of a column are told.
const ROOTS: usize = 5;

/// Asks the database what its application's profile wants to know.
pub(super) async fn read(
    reader: &Reader<'_>,
    source: &Catalog,
) -> Result<(Option<Application>, Vec<Skipped>), ReadError> {
    let Some((profile, schema)) = profile::recognise(source) else { return Ok((None, vec![])) };
    let mut skipped = Vec::new();
    reader
        .rows(
            "SELECT pg_catalog.set_config('search_path', $1, false)",
            &[&quote_identifier(&schema)],
            "set the path",
        )
        .await?;
    let columns_of = |name: &str| {
        let table =
            source.tables.iter().find(|table| table.name.schema == schema && table.name.name == name)?;
        Some(table.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>())
    };
    let version = match &profile.version {
        Some(query) => word(reader, query, &format!("the version of {}", profile.name), &mut skipped).await?,
        None => None,
    };
    let mut paths = Vec::new();
    for column in &profile.paths {
        if !columns_of(&column.table).is_some_and(|columns| columns.contains(&column.column.as_str())) {
            continue;
        }
        let what = format!("the paths of {}.{}", column.table, column.column);
        match reader.rows(&roots_statement(column), &[&profile.roots], &what).await {
            Ok(rows) => paths.push(Roots {
                column: column.clone(),
                roots: rows.iter().map(|row| (row.get("root"), row.get("files"))).collect(),
            }),
            Err(error) => skipped.push(Skipped { what, why: refusal(error)?.words }),
        }
    }
    let mut gates = Vec::new();
    for gate in profile.gates.iter().filter(|gate| columns_of(&gate.table).is_some()) {
        let found = word(reader, &gate.query, &format!("table {}", gate.table), &mut skipped).await?;
        gates.push((gate.clone(), found));
    }
    Ok((Some(Application { profile, schema, version, paths, gates }), skipped))
}

/// The one value of a query, if there is a row.
async fn word(
    reader: &Reader<'_>,
    query: &str,
    what: &str,
    skipped: &mut Vec<Skipped>,
) -> Result<Option<String>, ReadError> {
    match reader
        .rows(&format!("SELECT found::text FROM ({query}) AS asked (found)"), &[], &format!("read {what}"))
        .await
    {
        Ok(rows) => Ok(rows.first().and_then(|row| row.get(0))),
        Err(error) => {
            skipped.push(Skipped { what: what.to_owned(), why: refusal(error)?.words });
            Ok(None)
        }
    }
}

/// A known beginning, else the first name of the path.
fn roots_statement(column: &PathColumn) -> String {
    format!(
        "SELECT coalesce((SELECT root FROM unnest($1::text[]) AS root WHERE starts_with(path, root || '/') \
         ORDER BY length(root) DESC LIMIT 1), substring(path FROM '^/?[^/]+')) AS root, count(*) AS files \
         FROM (SELECT {}::text AS path FROM {}) AS stored WHERE path <> '' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {ROOTS}",
        quote_identifier(&column.column),
        quote_identifier(&column.table)
    )
}

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    let Some(application) = &input.found.application else { return vec![] };
    let mut found = vec![recognised(application)];
    found.extend(extension_range(application, input));
    found.extend(extension_updates(application, input));
    found.extend(locale(application, input));
    found.extend(rebuilds(application, input));
    found.extend(upgrade_path(application));
    found.extend(paths(application));
    found.extend(first_start(application));
    found
}

fn recognised(application: &Application) -> Finding {
    let name = &application.profile.name;
    let version = application.version.as_deref().unwrap_or("unknown");
    note(
        "application",
        format!("this is the database of {name}"),
        format!("version {version}, in schema {}", display_identifier(&application.schema)),
        format!("start the same version of {name} on the target, and upgrade it when the move is proven"),
    )
}

/// The access method that the application wants of its indexes, and the extension that it then works with.
fn wanted<'a>(application: &'a Application, input: &Input<'_>) -> Option<&'a profile::AccessMethod> {
    let is_offered =
        |name: &str| input.target.available_extensions.iter().any(|offered| offered.name == name);
    application.profile.access_methods.iter().find(|method| is_offered(&method.extension))
}

/// The range of an application's version. Versions before the first know nothing of the extension.
fn accepted<'a>(range: &'a ExtensionRange, version: &str) -> Option<&'a profile::Accepted> {
    range.accepted.iter().rev().find(|accepted| !is_older(version, &accepted.from))
}

fn extension_range(application: &Application, input: &Input<'_>) -> Option<Finding> {
    let profile = &application.profile;
    let version = application.version.as_deref()?.trim_start_matches('v');
    let extension = &wanted(application, input)?.extension;
    let range = profile.extensions.iter().find(|range| range.name == *extension)?;
    let offered = input.target.available_extensions.iter().find(|offered| offered.name == *extension)?;
    let is_in = |accepted: &&profile::Accepted| {
        !is_older(&offered.default_version, &accepted.at_least)
            && is_older(&offered.default_version, &accepted.below)
    };
    let takes = accepted(range, version);
    if takes.as_ref().is_some_and(is_in) {
        return None;
    }
    let takes = takes.map_or_else(
        || format!("{version} does not know it"),
        |takes| format!("{version} takes {} and newer, but older than {}", takes.at_least, takes.below),
    );
    let fitting = range.accepted.iter().find(is_in);
    let otherwise = fitting.map(|fitting| {
        format!("upgrade the source to {} {} or newer before the move; or ", profile.name, fitting.from)
    });
    Some(warning(
        "application-extension-range",
        format!(
            "{} would not start on the target: it does not take the server's version of {extension}",
            profile.name
        ),
        format!("the target offers {extension} {}; {} {takes}", offered.default_version, profile.name),
        format!(
            "{}give the target's server an image with a version of {extension} that is taken",
            otherwise.unwrap_or_default()
        ),
    ))
}

/// Only the extension's owner may update it, which an ordinary role is not; and nobody gets an older version that way.
fn extension_updates(application: &Application, input: &Input<'_>) -> Vec<Finding> {
    let target = input.target;
    let name = &application.profile.name;
    let updated = application.profile.extensions.iter().filter(|range| range.updates).filter_map(|range| {
        let installed = target.extensions.iter().find(|found| found.name == range.name)?;
        let offered = target.available_extensions.iter().find(|found| found.name == range.name)?;
        let is_newer = is_older(&offered.default_version, &installed.version);
        let may_not = installed.version != offered.default_version && !target.session.is_superuser;
        (is_newer || may_not).then_some((installed, offered, is_newer))
    });
    updated
        .map(|(installed, offered, is_newer)| {
            if is_newer {
                return warning(
                    "application-extension-downgraded",
                    format!(
                        "{name} would not start on the target: extension {} is newer than what the server offers",
                        installed.name
                    ),
                    format!("installed {}, the server offers {}", installed.version, offered.default_version),
                    format!(
                        "give the target's server an image that offers {0} {1} or newer; or, while the database is empty, as \
                         a superuser, connected to database {2}: DROP EXTENSION {3} CASCADE; {4}",
                        installed.name,
                        installed.version,
                        display_identifier(&target.database.name),
                        quote_identifier(&installed.name),
                        create(&installed.name, &installed.schema, Some(offered))
                    ),
                );
            }
            warning(
                "application-extension-update",
                format!("{name} would update extension {} at its first start, and may not", installed.name),
                format!(
                    "installed {}, the server offers {}; it belongs to {}",
                    installed.version,
                    offered.default_version,
                    display_identifier(&installed.owner)
                ),
                format!(
                    "before the move, as a superuser, connected to database {}: ALTER EXTENSION {} UPDATE;",
                    display_identifier(&target.database.name),
                    quote_identifier(&installed.name)
                ),
            )
        })
        .collect()
}

fn locale(application: &Application, input: &Input<'_>) -> Option<Finding> {
    let search = application.profile.text_search.as_ref()?;
    let uses = input.source.extensions.iter().any(|found| found.name == search.extension);
    (uses && input.target.database.has_ctype_c()).then(|| {
        warning(
            "application-locale",
            format!("{} of {} will not know letters that are not ASCII", search.what, application.profile.name),
            format!(
                "it works by {}, and the target's ctype is {}; the source's is {}",
                search.extension, input.target.database.ctype, input.source.database.ctype
            ),
            "make the target's database anew with a ctype of UTF-8 (CloudNative-PG: bootstrap.initdb.localeCType: \
             en_US.utf8, or C.UTF-8); it is fixed when a database is made",
        )
    })
}

/// An index that is not as the application makes it, or is not there, is built before it serves anybody.
fn rebuilds(application: &Application, input: &Input<'_>) -> Option<Finding> {
    let (plan, wanted) = (input.plan?, wanted(application, input)?);
    let profile = &application.profile;
    let known = profile.vector_indexes.iter().flat_map(|made| &made.indexes);
    let others: Vec<String> =
        known.filter_map(|index| other(index, wanted, application, plan, input)).collect();
    let (method, name) = (&wanted.method, &profile.name);
    (!others.is_empty()).then(|| {
        warning(
            "application-rebuild",
            format!("{name} will build vector indexes at its first start, before it serves anybody"),
            few(others).within(|others| {
                format!("{others}; the target offers {}, and {name} then wants {method}", wanted.extension)
            }),
            format!(
                "give --vector-index {method}, or leave it away, which makes them as {name} does; one that is missing is made by \
                 {name} on the source, if that is started there once more; or let the startup probe of {name} wait for the \
                 builds"
            ),
        )
    })
}

/// In what an index is not as the application wants it; nothing where it is, or where its table is not there.
fn other(
    index: &profile::IndexName,
    wanted: &profile::AccessMethod,
    application: &Application,
    plan: &Plan,
    input: &Input<'_>,
) -> Option<String> {
    let table = QualifiedName::new(&application.schema, &index.table);
    input.source.tables.iter().find(|found| found.name == table)?;
    let name = QualifiedName::new(&application.schema, &index.name);
    let mut planned = plan.steps.iter().filter_map(|step| step.vector_index.as_ref());
    let Some(made) = planned.find(|made| made.index == name) else {
        let is_invalid = input.source.indexes.iter().any(|found| found.name == name && !found.is_valid);
        let why = if is_invalid {
            "is invalid on the source, and stays behind"
        } else {
            "is missing on the source"
        };
        return Some(format!("{name} {why}"));
    };
    if made.access_method != wanted.method {
        return Some(format!("{name} as {}", made.access_method));
    }
    let is_expected = made.expected_lists.is_empty() || made.expected_lists.contains(&made.lists);
    (!is_expected).then(|| {
        let expected: Vec<String> = made.expected_lists.iter().map(|lists| number(*lists)).collect();
        format!("{name} with {} in the place of {}", counted(made.lists, "list"), expected.join(" or "))
    })
}

fn upgrade_path(application: &Application) -> Vec<Finding> {
    let closed =
        application.gates.iter().filter(|(gate, found)| found.as_deref() != Some(gate.expected.as_str()));
    closed
        .map(|(gate, found)| {
            warning(
                "application-upgrade-path",
                gate.title.as_str(),
                format!(
                    "the last of table {} is {}, not {}",
                    gate.table,
                    found.as_deref().unwrap_or("none"),
                    gate.expected
                ),
                gate.remedy.as_str(),
            )
        })
        .collect()
}

fn paths(application: &Application) -> Option<Finding> {
    let profile = &application.profile;
    let with_paths: Vec<&Roots> = application.paths.iter().filter(|found| !found.roots.is_empty()).collect();
    if with_paths.is_empty() {
        return None;
    }
    let described = |found: &&Roots| {
        let roots =
            found.roots.iter().map(|(root, files)| format!("{root} ({})", number(files.unsigned_abs())));
        format!("{}.{}: {}", found.column.table, found.column.column, roots.collect::<Vec<_>>().join(", "))
    };
    let evidence = with_paths.iter().map(described).collect::<Vec<_>>().join("; ");
    let mut known: Vec<&String> = with_paths
        .iter()
        .flat_map(|found| found.roots.iter().map(|(root, _)| root))
        .filter(|root| profile.roots.contains(root))
        .collect();
    known.sort();
    known.dedup();
    let remedy = profile.paths_remedy.as_str();
    // External libraries are elsewhere, and may be.
    Some(if known.len() > 1 {
        let title = format!("{} has stored its own files under several places", profile.name);
        warning("application-paths", title, evidence, remedy)
    } else {
        note("application-paths", format!("{} has stored paths of files", profile.name), evidence, remedy)
    })
}

fn first_start(application: &Application) -> Option<Finding> {
    let profile = &application.profile;
    (!profile.first_start.is_empty()).then(|| {
        note(
            "application-first-start",
            format!("the first start of {} on the target changes its database", profile.name),
            profile.first_start.join("; "),
            "compare with pgmove verify before that start, not after it",
        )
    })
}
