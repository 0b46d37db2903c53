//! Encoding and locale: what the target cannot hold, and what it sorts otherwise.

use std::collections::BTreeMap;

use super::{Finding, Input, blocking, few, warning};
use crate::catalog::{Database, LocaleProvider};
use crate::pg::{display_identifier, quote_identifier, quote_literal};

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    [
        encoding(input),
        locale(input),
        trigrams(input),
        collations(input),
        collation_version(input),
        target_collation_version(input),
    ]
    .concat()
}

/// Encoding and locale are fixed when a database is made.
fn make_anew(input: &Input<'_>) -> String {
    let (source, target) = (&input.source.database, &input.target.database);
    // Locale providers came with 15, the builtin one with 17; older servers have only libc. Unsaid, a database has the
    // provider of template0.
    let locale = source.locale.as_deref().map(quote_literal).unwrap_or_default();
    let provider = match source.locale_provider {
        LocaleProvider::Libc if input.target.server.major() < 15 => String::new(),
        LocaleProvider::Libc => " LOCALE_PROVIDER libc".to_owned(),
        LocaleProvider::Icu => format!(" LOCALE_PROVIDER icu ICU_LOCALE {locale}"),
        LocaleProvider::Builtin => format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}"),
    };
    let name = quote_identifier(&target.name);
    format!(
        "as a superuser: DROP DATABASE {name}; CREATE DATABASE {name} TEMPLATE template0 ENCODING {}{provider} LC_COLLATE {} \
         LC_CTYPE {} OWNER {};",
        quote_literal(&source.encoding),
        quote_literal(&source.collate),
        quote_literal(&source.ctype),
        quote_identifier(&target.owner)
    )
}

fn encoding(input: &Input<'_>) -> Vec<Finding> {
    let (source, target) = (&input.source.database, &input.target.database);
    let evidence = format!("source {}, target {}", source.encoding, target.encoding);
    match (source.encoding.as_str(), target.encoding.as_str()) {
        (one, other) if one == other => vec![],
        ("SQL_ASCII", _) => vec![warning(
            "encoding-unchecked",
            "the source does not know its texts' encoding",
            format!("{evidence}: a text that is not valid in {} is refused during the copy", target.encoding),
            "find out the application's encoding and repair such texts on the source first",
        )],
        (_, "SQL_ASCII") => vec![warning(
            "target-encoding-unknown",
            "the target does not check its texts' encoding",
            evidence,
            make_anew(input),
        )],
        // Every other encoding of a server converts to UTF-8, but for this internal one.
        (one, "UTF8") if one != "MULE_INTERNAL" => vec![],
        _ => vec![blocking(
            "encoding",
            "the target's encoding cannot hold the source's texts",
            evidence,
            format!("the encoding is fixed when a database is made; {}", make_anew(input)),
        )],
    }
}

fn described(database: &Database) -> String {
    let provider = match database.locale_provider {
        LocaleProvider::Libc => "libc",
        LocaleProvider::Icu => "icu",
        LocaleProvider::Builtin => "builtin",
    };
    let locale = database.locale.as_ref().map(|locale| format!(" {locale}")).unwrap_or_default();
    format!("{provider}{locale}, collate {}, ctype {}", database.collate, database.ctype)
}

/// `en_US.utf8` and `en_US.UTF-8` are one locale.
fn normalized(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "")
}

fn has_same_locale(source: &Database, target: &Database) -> bool {
    let key = |database: &Database| {
        (normalized(&database.collate), normalized(&database.ctype), database.locale.clone())
    };
    source.locale_provider == target.locale_provider && key(source) == key(target)
}

fn locale(input: &Input<'_>) -> Vec<Finding> {
    let (source, target) = (&input.source.database, &input.target.database);
    if has_same_locale(source, target) {
        return vec![];
    }
    vec![warning(
        "locale-differs",
        "the target compares and folds texts by another locale",
        format!("source {}; target {}", described(source), described(target)),
        format!(
            "ORDER BY, lower(), ILIKE and unique indexes over lower() or citext may answer otherwise. If that \
             matters, make the target anew (CloudNative-PG: bootstrap.initdb.localeCollate and localeCType), {}",
            make_anew(input)
        ),
    )]
}

/// Under ctype C, whatever the provider, `pg_trgm` drops letters that are not ASCII: `show_trgm('Привет')` is empty.
fn trigrams(input: &Input<'_>) -> Vec<Finding> {
    let has_trigrams = input.source.extensions.iter().any(|extension| extension.name == "pg_trgm");
    let (source, target) = (&input.source.database, &input.target.database);
    if !has_trigrams || !target.has_ctype_c() || source.has_ctype_c() {
        return vec![];
    }
    vec![warning(
        "trigrams-ascii-only",
        "searches with pg_trgm will not find letters that are not ASCII",
        format!("target ctype {}, source ctype {}", target.ctype, source.ctype),
        "make the target's database with the source's ctype (CloudNative-PG: bootstrap.initdb.localeCType), or with \
         C.UTF-8",
    )]
}

/// A column's collation that the target's system lacks stops its `CREATE TABLE`.
fn collations(input: &Input<'_>) -> Vec<Finding> {
    let mut missing: BTreeMap<&str, String> = BTreeMap::new();
    for table in &input.source.tables {
        for column in &table.columns {
            let Some(collation) = column.collation.as_ref().filter(|found| found.schema == "pg_catalog")
            else {
                continue;
            };
            if !input.target_rights.collations.contains(&collation.name) {
                let first = || format!("{}.{}", table.name, display_identifier(&column.name));
                missing.entry(&collation.name).or_insert_with(first);
            }
        }
    }
    if missing.is_empty() {
        return vec![];
    }
    vec![blocking(
        "collation-missing",
        "columns have collations that the target does not",
        few(missing.iter().map(|(name, column)| format!("{} (of {column})", quote_identifier(name)))),
        "install these locales on the target's server (CloudNative-PG: an image that is not -minimal); then, connected to \
         the target's database, as a superuser: SELECT pg_import_system_collations('pg_catalog');",
    )]
}

fn collation_version(input: &Input<'_>) -> Vec<Finding> {
    let database = &input.source.database;
    match (&database.collation_version, &database.actual_collation_version) {
        (Some(made), Some(now)) if made != now => vec![warning(
            "collation-version",
            "the source's system sorts otherwise than when its indexes were made: they may be damaged",
            format!("collation version {made} when the database was made, {now} now"),
            format!(
                "the move reads tables, not indexes, and builds the target's anew; a unique index that let duplicates in \
                 fails there. To be sure, connected to the source: REINDEX DATABASE {0}; ALTER DATABASE {0} REFRESH \
                 COLLATION VERSION;",
                quote_identifier(&database.name)
            ),
        )],
        _ => vec![],
    }
}

/// What a move makes is in today's order; what was made before, such as a shared extension's index, may not be.
fn target_collation_version(input: &Input<'_>) -> Vec<Finding> {
    let database = &input.target.database;
    match (&database.collation_version, &database.actual_collation_version) {
        (Some(made), Some(now)) if made != now => vec![warning(
            "target-collation-version",
            "the target's system sorts otherwise than when its database was made: every session is warned of it",
            format!("collation version {made} when the database was made, {now} now"),
            format!(
                "an empty database has nothing to build again; as its owner, connected to it: ALTER DATABASE {} REFRESH \
                 COLLATION VERSION;",
                quote_identifier(&database.name)
            ),
        )],
        _ => vec![],
    }
}

#[cfg(test)]
mod tests {
    use crate::preflight::tests::case::Case;

    /// What `template0` has is the default, and that may be ICU.
    #[test]
    fn a_database_of_libc_is_made_so_where_the_server_knows_providers() {
        let mut case = Case::clean();
        case.target.database.ctype = "C".into();
        let remedy = |case: &Case| case.findings().pop().expect("the locale differs").remedy;
        assert!(
            remedy(&case).contains("ENCODING 'UTF8' LOCALE_PROVIDER libc LC_COLLATE"),
            "{}",
            remedy(&case)
        );
        case.target.server.version_num = 140_010;
        case.source.server.version_num = 140_010;
        assert!(remedy(&case).contains("ENCODING 'UTF8' LC_COLLATE"), "{}", remedy(&case));
    }
}
