//! What is known of applications: one file each, read when pgmove is compiled.
//!
//! A profile says how the application's database is recognised, how it makes its vector indexes, and what is to be asked and
//! told of it before a move; the next application is another file, and a line in [`PROFILES`]. Decisions are in
//! [`crate::plan::vector`], findings in [`crate::survey`].

use std::sync::LazyLock;

use serde::Deserialize;

use crate::catalog::Catalog;

/// All profiles.
const PROFILES: &[&str] = &[include_str!("immich.toml")];

/// What is known of an application. What one does not have, its file leaves away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Lists of tables: a database with all of one list is the application's.
    pub recognised_by: Vec<Vec<String>>,
    /// The query for its version.
    #[serde(default)]
    pub version: Option<String>,
    /// The vector indexes that it looks for, and how it makes them.
    #[serde(default)]
    pub vector_indexes: Vec<VectorIndexes>,
    /// Their access method, by the first of these extensions that the server offers.
    #[serde(default)]
    pub access_methods: Vec<AccessMethod>,
    /// A server's image with the library of pgvecto.rs.
    #[serde(default)]
    pub legacy_image: Option<String>,
    /// Columns that hold paths.
    #[serde(default)]
    pub paths: Vec<PathColumn>,
    /// What such a path may begin with.
    #[serde(default)]
    pub roots: Vec<String>,
    /// What is to be done about paths.
    #[serde(default)]
    pub paths_remedy: String,
    /// What depends on the locale.
    #[serde(default)]
    pub text_search: Option<TextSearch>,
    /// What its first start on the target does.
    #[serde(default)]
    pub first_start: Vec<String>,
    /// Extensions whose versions it checks.
    #[serde(default)]
    pub extensions: Vec<ExtensionRange>,
    /// What a later version counts on.
    #[serde(default)]
    pub gates: Vec<Gate>,
}

/// Vector indexes that an application makes in one way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorIndexes {
    /// Which.
    pub indexes: Vec<IndexName>,
    /// As `vchordrq`.
    #[serde(default)]
    pub vchordrq: Option<Vchordrq>,
    /// As `hnsw`.
    #[serde(default)]
    pub hnsw: Option<Hnsw>,
}

/// An index, in the application's schema.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexName {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// How an application makes a `vchordrq` index.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vchordrq {
    /// The index's `options`, with `{lists}` in the place of the number of lists.
    pub options: String,
    /// That number by the number of rows; the first that holds.
    pub lists: Vec<Lists>,
    /// The application also takes the number for so many percent of the rows.
    #[serde(default = "as_many")]
    pub also_at_percent: u64,
}

fn as_many() -> u64 {
    100
}

/// A number of lists.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lists {
    /// For fewer rows than this.
    #[serde(default)]
    pub below: Option<u64>,
    /// How many.
    pub lists: Rule,
}

/// How a number of lists follows from a number of rows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// It does not.
    Fixed(u64),
    /// The power of two above the rows divided by this.
    PowerAboveRowsPer(u64),
    /// The power of two above their square root, times this.
    PowerAboveRootTimes(u64),
}

impl Vchordrq {
    /// How many lists an index over so many rows gets.
    pub fn lists(&self, rows: u64) -> u64 {
        let power_above = |value: u64| 1_u64 << (64 - value.leading_zeros());
        let rule = self.lists.iter().find(|rule| rule.below.is_none_or(|below| rows < below));
        match rule.map(|rule| &rule.lists) {
            None => 1,
            Some(Rule::Fixed(lists)) => *lists,
            Some(Rule::PowerAboveRowsPer(divisor)) => power_above(rows / divisor),
            Some(Rule::PowerAboveRootTimes(factor)) => factor * power_above(rows.isqrt()),
        }
    }

    /// The numbers that the application takes.
    pub fn expected_lists(&self, rows: u64) -> Vec<u64> {
        let mut lists = vec![self.lists(rows), self.lists(rows.saturating_mul(self.also_at_percent) / 100)];
        lists.dedup();
        lists
    }
}

/// How an application makes an `hnsw` index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hnsw {
    /// Neighbours of a vector.
    pub m: u64,
    /// How many are looked at while it is built.
    pub ef_construction: u64,
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
    all().iter().find_map(|profile| {
        let schema = schema(profile, source)?;
        Some((profile.clone(), schema))
    })
}

/// How the application that knows a vector index makes it. Table and name tell enough: what asks for this may see a part of a
/// database only.
pub fn vector_index(table: &str, name: &str) -> Option<&'static VectorIndexes> {
    let is_it = |index: &IndexName| index.table == table && index.name == name;
    all().iter().flat_map(|profile| &profile.vector_indexes).find(|made| made.indexes.iter().any(is_it))
}

fn all() -> &'static [Profile] {
    static ALL: LazyLock<Vec<Profile>> = LazyLock::new(|| PROFILES.iter().map(|text| parse(text)).collect());
    &ALL
}

fn parse(text: &str) -> Profile {
    toml::from_str(text).expect("a test reads every profile")
}

fn schema(profile: &Profile, source: &Catalog) -> Option<String> {
    let has = |schema: &str, name: &String| {
        source.tables.iter().any(|table| table.name.schema == schema && table.name.name == *name)
    };
    let is_in =
        |schema: &str| profile.recognised_by.iter().any(|tables| tables.iter().all(|name| has(schema, name)));
    source.schemas.iter().map(|schema| &schema.name).find(|schema| is_in(schema)).cloned()
}

/// A second application, which has little to say.
#[cfg(test)]
pub(crate) fn tiny() -> Profile {
    parse(
        r#"
        name = "Shelf"
        recognised_by = [["book", "reader"]]
        access_methods = [{ extension = "vector", method = "hnsw" }]
        [[vector_indexes]]
        indexes = [{ table = "book", name = "book_idx" }]
        hnsw = { m = 8, ef_construction = 32 }
        "#,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::QualifiedName;
    use crate::preflight::tests::case::{Case, table};

    #[test]
    fn every_profile_can_be_read() {
        let names: Vec<&str> = all().iter().map(|profile| profile.name.as_str()).collect();
        assert_eq!(names, ["Immich"]);
        assert_eq!((tiny().version, tiny().paths.len(), tiny().text_search), (None, 0, None));
    }

    #[test]
    fn lists_follow_the_rule_of_immich() {
        let table = [
            (0, 1),
            (127_999, 1),
            (128_000, 256),
            (255_999, 256),
            (256_000, 512),
            (511_999, 512),
            (512_000, 1024),
            (1_023_999, 1024),
            (2_047_999, 2048),
            (2_048_000, 4096),
            (5_000_000, 8192),
        ];
        let index = vector_index("smart_search", "clip_index").expect("Immich's");
        let rule = index.vchordrq.as_ref().expect("it has one");
        for (rows, lists) in table {
            assert_eq!(rule.lists(rows), lists, "{rows} rows");
        }
        assert_eq!(rule.expected_lists(220_000), [256, 512]);
        assert_eq!(rule.expected_lists(300_000), [512]);
        assert_eq!(vector_index("smart_search", "face_index"), None);
    }

    #[test]
    fn an_application_is_recognised_by_all_of_its_tables_in_one_schema() {
        let mut source = Case::clean().source;
        let names = ["assets", "smart_search", "system_metadata", "version_history"];
        source.tables = names.map(|name| table(name, vec![])).into();
        let found = recognise(&source).map(|(profile, schema)| (profile.name, schema));
        assert_eq!(found, Some(("Immich".into(), "public".into())));
        assert_eq!(schema(&tiny(), &source), None);
        let mut other = Case::clean().source;
        other.tables = ["book", "reader"].map(|name| table(name, vec![])).into();
        assert_eq!((schema(&tiny(), &other).as_deref(), recognise(&other)), (Some("public"), None));
        source.tables[1].name = QualifiedName::new("other", "smart_search");
        assert_eq!(recognise(&source), None);
    }
}
