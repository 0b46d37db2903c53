//! One entry of a dump's table of contents, with its statements.
//!
//! Classes and sections are those of `pg_dump.c`; a class that is not in the list is an error of the reader, not
//! a guess, because its section and its handling would be guesses too.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::lexer::{MASK, TokenKind, mask_strings, significant_tokens};
use super::statement;
use crate::pg::QualifiedName;

/// When an entry is applied: before, with or after the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Section {
    /// Before the rows: schemas, types, functions, tables, defaults.
    PreData,
    /// The rows themselves; a dump of the schema alone has none.
    Data,
    /// After the rows: indexes, constraints, triggers, rules, policies, publications, rights.
    PostData,
}

/// The class of an entry as `pg_restore --list` writes it: `TABLE`, `FK CONSTRAINT`, `ACL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct EntryClass(&'static str);

/// Where a class belongs. `None`: to the section of the entry it describes (`SECTION_NONE` in `pg_dump`).
const CLASSES: [(EntryClass, Option<Section>); 59] = {
    use Section::{Data, PostData, PreData};
    [
        (EntryClass("ACCESS METHOD"), Some(PreData)),
        (EntryClass::ACL, Some(PostData)),
        (EntryClass("AGGREGATE"), Some(PreData)),
        (EntryClass("BLOB"), Some(PreData)),
        (EntryClass("BLOB METADATA"), Some(PreData)),
        (EntryClass("BLOBS"), Some(Data)),
        (EntryClass("CAST"), Some(PreData)),
        (EntryClass("CHECK CONSTRAINT"), Some(PostData)),
        (EntryClass("COLLATION"), Some(PreData)),
        (EntryClass::COMMENT, None),
        (EntryClass::CONSTRAINT, Some(PostData)),
        (EntryClass("CONVERSION"), Some(PreData)),
        (EntryClass("DATABASE"), Some(PreData)),
        (EntryClass("DATABASE PROPERTIES"), Some(PreData)),
        (EntryClass::DEFAULT, Some(PreData)),
        (EntryClass::DEFAULT_ACL, Some(PostData)),
        (EntryClass::DOMAIN, Some(PreData)),
        (EntryClass::EVENT_TRIGGER, Some(PostData)),
        (EntryClass::EXTENSION, Some(PreData)),
        (EntryClass::FK_CONSTRAINT, Some(PostData)),
        (EntryClass("FOREIGN DATA WRAPPER"), Some(PreData)),
        (EntryClass::FOREIGN_TABLE, Some(PreData)),
        (EntryClass::FUNCTION, Some(PreData)),
        (EntryClass::INDEX, Some(PostData)),
        (EntryClass::INDEX_ATTACH, Some(PostData)),
        (EntryClass::MATERIALIZED_VIEW, Some(PreData)),
        (EntryClass("MATERIALIZED VIEW DATA"), Some(PostData)),
        (EntryClass("OPERATOR"), Some(PreData)),
        (EntryClass("OPERATOR CLASS"), Some(PreData)),
        (EntryClass("OPERATOR FAMILY"), Some(PreData)),
        (EntryClass::POLICY, Some(PostData)),
        (EntryClass("PROCEDURAL LANGUAGE"), Some(PreData)),
        (EntryClass("PROCEDURE"), Some(PreData)),
        (EntryClass("PUBLICATION"), Some(PostData)),
        (EntryClass("PUBLICATION TABLE"), Some(PostData)),
        (EntryClass("PUBLICATION TABLES IN SCHEMA"), Some(PostData)),
        (EntryClass("ROW SECURITY"), Some(PostData)),
        (EntryClass::RULE, Some(PostData)),
        (EntryClass::SCHEMA, Some(PreData)),
        (EntryClass("SECURITY LABEL"), None),
        (EntryClass::SEQUENCE, Some(PreData)),
        (EntryClass("SEQUENCE OWNED BY"), Some(PreData)),
        (EntryClass("SEQUENCE SET"), Some(Data)),
        (EntryClass("SERVER"), Some(PreData)),
        (EntryClass("SHELL TYPE"), Some(PreData)),
        (EntryClass("STATISTICS"), Some(PostData)),
        (EntryClass::SUBSCRIPTION, Some(PostData)),
        (EntryClass::TABLE, Some(PreData)),
        (EntryClass::TABLE_ATTACH, Some(PreData)),
        (EntryClass("TABLE DATA"), Some(Data)),
        (EntryClass("TEXT SEARCH CONFIGURATION"), Some(PreData)),
        (EntryClass("TEXT SEARCH DICTIONARY"), Some(PreData)),
        (EntryClass("TEXT SEARCH PARSER"), Some(PreData)),
        (EntryClass("TEXT SEARCH TEMPLATE"), Some(PreData)),
        (EntryClass("TRANSFORM"), Some(PreData)),
        (EntryClass::TRIGGER, Some(PostData)),
        (EntryClass::TYPE, Some(PreData)),
        (EntryClass::USER_MAPPING, Some(PreData)),
        (EntryClass::VIEW, Some(PreData)),
    ]
};

#[expect(missing_docs, reason = "each is PostgreSQL's own word for the class")]
impl EntryClass {
    pub const ACL: Self = Self("ACL");
    pub const COMMENT: Self = Self("COMMENT");
    pub const CONSTRAINT: Self = Self("CONSTRAINT");
    pub const DEFAULT: Self = Self("DEFAULT");
    pub const DEFAULT_ACL: Self = Self("DEFAULT ACL");
    pub const DOMAIN: Self = Self("DOMAIN");
    pub const EVENT_TRIGGER: Self = Self("EVENT TRIGGER");
    pub const EXTENSION: Self = Self("EXTENSION");
    pub const FK_CONSTRAINT: Self = Self("FK CONSTRAINT");
    pub const FOREIGN_TABLE: Self = Self("FOREIGN TABLE");
    pub const FUNCTION: Self = Self("FUNCTION");
    pub const INDEX: Self = Self("INDEX");
    pub const INDEX_ATTACH: Self = Self("INDEX ATTACH");
    pub const MATERIALIZED_VIEW: Self = Self("MATERIALIZED VIEW");
    pub const POLICY: Self = Self("POLICY");
    pub const RULE: Self = Self("RULE");
    pub const SCHEMA: Self = Self("SCHEMA");
    pub const SEQUENCE: Self = Self("SEQUENCE");
    pub const SUBSCRIPTION: Self = Self("SUBSCRIPTION");
    pub const TABLE: Self = Self("TABLE");
    pub const TABLE_ATTACH: Self = Self("TABLE ATTACH");
    pub const TRIGGER: Self = Self("TRIGGER");
    pub const TYPE: Self = Self("TYPE");
    pub const USER_MAPPING: Self = Self("USER MAPPING");
    pub const VIEW: Self = Self("VIEW");
}

impl EntryClass {
    /// The class that `pg_restore` writes so, or `None` for one that this version does not know.
    pub fn from_name(name: &str) -> Option<Self> {
        CLASSES.iter().map(|(class, _)| *class).find(|class| class.0 == name)
    }

    /// PostgreSQL's word for it.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// The section of `pg_dump`, but for rights: these come after the rows, as in `pg_restore`, because an owner
    /// may have revoked its own. `None` for what belongs to another entry's section.
    pub(crate) fn section(self) -> Option<Section> {
        CLASSES.iter().find(|(class, _)| *class == self).and_then(|(_, section)| *section)
    }

    /// Whether the statements may carry a password: they are not shown in plans, logs and errors.
    pub fn may_hold_secrets(self) -> bool {
        self.stays_behind() || self.0 == "SERVER"
    }

    /// Whether entries stay behind because they may carry a password. A server's options may, too; but they are what
    /// its foreign tables are reached by.
    pub fn stays_behind(self) -> bool {
        [EntryClass::SUBSCRIPTION, EntryClass::USER_MAPPING].contains(&self)
    }
}

impl<'de> Deserialize<'de> for EntryClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        EntryClass::from_name(&name)
            .ok_or_else(|| D::Error::custom(format!("unknown class of schema entry: {name}")))
    }
}

impl std::fmt::Display for EntryClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// One entry of the table of contents and the statements that make it. The statements of some classes may carry
/// passwords ([`EntryClass::may_hold_secrets`]): show [`Entry::shown_text`] instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The dump id, unique within one dump.
    pub id: u32,
    /// OID of the system catalog that holds the object, and of the object; both 0 where it is no object of
    /// its own (rights, comments).
    pub catalog_oid: (u32, u32),
    /// What it is.
    pub class: EntryClass,
    /// The schema, where it has one. As in the dump's comment: a line break is a space.
    pub schema: Option<String>,
    /// The name as `pg_dump` tags it (`touch()`, `person person_pkey`); a line break is a space. For the exact
    /// name of a relation see [`Entry::relation`].
    pub tag: String,
    /// The owner on the source.
    pub owner: Option<String>,
    /// When it is applied.
    pub section: Section,
    /// The dump ids that must be applied before; ids of entries that are not in the dump occur.
    pub dependencies: Vec<u32>,
    /// The table access method that `default_table_access_method` must name when it is applied.
    pub table_access_method: Option<String>,
    /// The statements, without their semicolons.
    pub statements: Vec<String>,
}

impl Entry {
    /// What a person calls it: `TABLE app.person`.
    pub fn object(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{} {schema}.{}", self.class, self.tag),
            None => format!("{} {}", self.class, self.tag),
        }
    }

    /// What is kept of it: nothing that may be a password, where it stays behind anyway.
    #[must_use]
    pub fn masked(mut self) -> Entry {
        if self.class.stays_behind() {
            self.statements = self.statements.iter().map(|text| mask_strings(text)).collect();
        }
        self
    }

    /// Whether [`Entry::masked`] has taken something away.
    pub fn is_masked(&self) -> bool {
        self.class.stays_behind() && self.statements.iter().any(|text| text.contains(MASK))
    }

    /// The statements for a person, joined; strings are masked where they may be secrets.
    pub fn shown_text(&self) -> String {
        let text = self.commands().join(";\n");
        if self.class.may_hold_secrets() { mask_strings(&text) } else { text }
    }

    /// The statements to send, in order, each by itself; the access method first where it matters.
    pub fn commands(&self) -> Vec<String> {
        let setting = self.table_access_method.as_ref().map(|method| {
            format!("SET default_table_access_method = {}", crate::pg::quote_identifier(method))
        });
        setting.into_iter().chain(self.statements.iter().cloned()).collect()
    }

    /// The relation that the entry makes or belongs to, exactly named: the table of a `TABLE`, `INDEX`,
    /// `CONSTRAINT`, `TRIGGER`, `POLICY` or `DEFAULT`, the view of a `VIEW`, the sequence of a `SEQUENCE`
    /// (but the table of an identity column's).
    pub fn relation(&self) -> Option<QualifiedName> {
        self.statements.first().and_then(|statement| statement::relation(statement))
    }

    /// Whether a statement holds a whole query, which servers of two majors write differently though it is the
    /// same (16 leaves out a qualification that 15 writes): views, rules, SQL-standard routine bodies.
    pub fn holds_query(&self) -> bool {
        [EntryClass::VIEW, EntryClass::MATERIALIZED_VIEW, EntryClass::RULE].contains(&self.class)
            || self.statements.iter().filter_map(|text| significant_tokens(text).ok()).any(|tokens| {
                tokens.windows(2).any(|pair| pair[0].is_word("BEGIN") && pair[1].is_word("ATOMIC"))
            })
    }

    /// Whether an identifier `schema` with a dot after it stands anywhere outside strings.
    pub fn mentions_schema(&self, schema: &str) -> bool {
        self.statements.iter().filter_map(|text| significant_tokens(text).ok()).any(|tokens| {
            tokens.windows(2).any(|pair| {
                pair[1].kind == TokenKind::Symbol
                    && pair[1].text == "."
                    && pair[0].identifier().as_deref() == Some(schema)
            })
        })
    }
}
