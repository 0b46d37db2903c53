//! Names of database objects and their quoting.
//!
//! Every identifier that reaches a server goes through [`quote_identifier`]; every literal that cannot be a
//! parameter (utility statements take none) through [`quote_literal`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// An object identifier of one server. Two servers give different OIDs to equal objects: never compare
/// the OIDs of user objects across sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Oid(pub u32);

impl Oid {
    /// The first OID that a user's object can have (`FirstNormalObjectId` in `access/transam.h`). Objects
    /// below it are built in, and have the same OID on every server of that major.
    pub const FIRST_NORMAL: Oid = Oid(16384);

    /// Whether the object belongs to PostgreSQL itself.
    pub fn is_built_in(self) -> bool {
        self < Self::FIRST_NORMAL
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A schema-qualified name, unquoted. `Display` is for people; [`QualifiedName::sql`] is for servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QualifiedName {
    /// The schema.
    pub schema: String,
    /// The name within the schema.
    pub name: String,
}

impl QualifiedName {
    /// A name from its two unquoted parts.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        QualifiedName { schema: schema.into(), name: name.into() }
    }

    /// The name as SQL, both parts always quoted: no list of keywords can be out of date.
    pub fn sql(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", display_identifier(&self.schema), display_identifier(&self.name))
    }
}

/// An identifier as a person writes it: quoted only where its letters ask for it.
pub fn display_identifier(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_plain { name.to_owned() } else { quote_identifier(name) }
}

/// Quotes an identifier for SQL, always.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a string literal for SQL, whatever `standard_conforming_strings` says.
pub fn quote_literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_quoted_and_their_quotes_doubled() {
        assert_eq!(QualifiedName::new("public", "a\"b").sql(), r#""public"."a""b""#);
        assert_eq!(QualifiedName::new("public", "assetFile").to_string(), r#"public."assetFile""#);
    }

    #[test]
    fn literals_survive_quotes_and_backslashes() {
        assert_eq!(quote_literal("o'clock"), "'o''clock'");
        assert_eq!(quote_literal(r"a\b'c"), r" E'a\\b''c'");
    }
}
