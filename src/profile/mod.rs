//! What is known of applications: one file each, read when pgmove is compiled.
//!
//! A profile says how the application's database is recognised, and what is to be asked and told of it before a move; the
//! next application is another file, and a line in [`PROFILES`]. The findings are in [`crate::survey`].

use serde::Deserialize;

use crate::catalog::Catalog;

/// All profiles.
const PROFILES: &[&str] = &[include_str!("immich.toml")];

/// What is known of an application.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Lists of tables: a database with all of one list is the application's.
    pub recognised_by: Vec<Vec<String>>,
    /// The query for its version.
    pub version: String,
    /// The vector indexes that it looks for.
    pub indexes: Vec<String>,
    /// Their access method, by the first of these extensions that the server offers.
    pub access_methods: Vec<AccessMethod>,
    /// Columns that hold paths.
    pub paths: Vec<PathColumn>,
    /// What such a path may begin with.
    pub roots: Vec<String>,
    /// What is to be done about paths.
    pub paths_remedy: String,
    /// What depends on the locale.
    pub text_search: TextSearch,
    /// What its first start on the target does.
    pub first_start: Vec<String>,
    /// Extensions whose versions it checks.
    pub extensions: Vec<ExtensionRange>,
    /// What a later version counts on.
    pub gates: Vec<Gate>,
}

/// An access method for vector indexes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessMethod {
    /// The extension that it belongs to.
    pub extension: String,
    /// Its name.
    pub method: String,
}

/// A column that holds paths.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathColumn {
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
}

/// What searches texts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSearch {
    /// By this extension.
    pub extension: String,
    /// In words.
    pub what: String,
}

/// Which versions of an extension an application takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionRange {
    /// The extension.
    pub name: String,
    /// Whether the application updates it to what the server offers.
    pub updates: bool,
    /// The ranges, the oldest application first.
    pub accepted: Vec<Accepted>,
}

/// What an application takes from a version on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// The application's version.
    pub from: String,
    /// The oldest version of the extension.
    pub at_least: String,
    /// The first that is too new.
    pub below: String,
}

/// A state that a later version of the application counts on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// Asked only where there is this table.
    pub table: String,
    /// One row and one column.
    pub query: String,
    /// What it must say.
    pub expected: String,
    /// What it means if it does not.
    pub title: String,
    /// What to do then.
    pub remedy: String,
}

/// The profile of the application that a database belongs to, and the schema that its tables are in.
pub fn recognise(source: &Catalog) -> Option<(Profile, String)> {
    all().into_iter().find_map(|profile| {
        let schema = schema(&profile, source)?;
        Some((profile, schema))
    })
}

fn all() -> Vec<Profile> {
    PROFILES.iter().map(|text| toml::from_str(text).expect("a test reads every profile")).collect()
}

fn schema(profile: &Profile, source: &Catalog) -> Option<String> {
    let has = |schema: &str, name: &String| {
        source.tables.iter().any(|table| table.name.schema == schema && table.name.name == *name)
    };
    let is_in =
        |schema: &str| profile.recognised_by.iter().any(|tables| tables.iter().all(|name| has(schema, name)));
    source.schemas.iter().map(|schema| &schema.name).find(|schema| is_in(schema)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::QualifiedName;
    use crate::preflight::tests::case::{Case, table};

    #[test]
    fn every_profile_can_be_read() {
        let names: Vec<String> = all().into_iter().map(|profile| profile.name).collect();
        assert_eq!(names, ["Immich"]);
    }

    #[test]
    fn an_application_is_recognised_by_all_of_its_tables_in_one_schema() {
        let mut source = Case::clean().source;
        let names = ["assets", "smart_search", "system_metadata", "version_history"];
        source.tables = names.map(|name| table(name, vec![])).into();
        let found = recognise(&source).map(|(profile, schema)| (profile.name, schema));
        assert_eq!(found, Some(("Immich".into(), "public".into())));
        source.tables[1].name = QualifiedName::new("other", "smart_search");
        assert_eq!(recognise(&source), None);
    }
}
