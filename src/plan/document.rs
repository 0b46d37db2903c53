//! The plan as a file: `pgmove plan --save`, read back by `pgmove run --plan`. docs/plan.md specifies it. Pure.
//!
//! Two plans of an unchanged world are equal to the byte: no moment, no run and no order that is left to chance is in
//! them. A file carries the checksum of its content, so that one that was damaged or changed by hand is not taken for
//! a plan; nothing of it is a secret.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use ring::pbkdf2;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::catalog::{Catalog, DatabaseIdentity};
use crate::error::{Class, Fault};
use crate::event::ExtensionVersions;
use crate::plan::Plan;
use crate::settings::Choices;

/// The version of the format.
pub const VERSION: u32 = 1;

/// The key of the checksum.
const SHA256: &str = "sha256";

/// Rounds of the slow digest.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();

/// A plan, with what it was made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// The version of pgmove that made it.
    pub pgmove: String,
    /// The database moved from.
    pub source: Place,
    /// The database moved into.
    pub target: Place,
    /// The extensions of the source, and what the target offers for them.
    pub extensions: Vec<ExtensionVersions>,
    /// The rewrites that were asked for.
    pub choices: Choices,
    /// The size of chunks that was asked for, in bytes; `None` decided from size and lanes.
    pub chunk_bytes: Option<u64>,
    /// How many parallel workers the target's server gives one index build at most.
    pub workers: u32,
    /// How much it is, and how long it takes.
    pub estimate: Estimate,
    /// The plan, without a run.
    #[serde(flatten)]
    pub plan: Plan,
    /// The SHA-256 of everything else, see [`read`].
    pub sha256: String,
}

/// A database that was planned with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which.
    pub database: DatabaseIdentity,
    /// The server's version.
    pub server: String,
    /// The server's major version.
    pub major: i32,
}

impl Place {
    /// The database of a catalog.
    pub fn of(catalog: &Catalog) -> Place {
        Place {
            database: catalog.identity(),
            server: catalog.server.version.clone(),
            major: catalog.server.major(),
        }
    }
}

/// How much is moved, and how long that takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Tables with their TOAST.
    pub table_bytes: u64,
    /// Their indexes, as the source has them.
    pub index_bytes: u64,
    /// Large objects.
    pub large_object_bytes: u64,
    /// Where these numbers are from.
    pub bytes_basis: String,
    /// How long the window takes, in seconds.
    pub seconds: u64,
    /// Whether that was measured with these databases; else it takes that at least.
    pub measured: bool,
    /// Where that is from.
    pub seconds_basis: String,
}

impl Document {
    /// A plan that a person may see, with its checksum.
    #[must_use]
    pub fn seal(mut self) -> Document {
        self.sha256 = String::new();
        self.plan.run = String::new();
        // Comparing needs it, a reader does not; and its size on disk changes with every connection.
        self.plan.target_database = None;
        self.plan = self.plan.shown();
        let value = serde_json::to_value(&self).expect("a plan is plain data");
        self.sha256 = checksum(value).expect("a plan is an object");
        self
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a plan is plain data");
        text.push('\n');
        text
    }
}

/// Why a file is no plan to go by.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It ends in the middle, or something in it is no JSON.
    #[error("the plan is damaged")]
    Damaged(#[source] serde_json::Error),
    /// It is JSON, but nothing that pgmove has written.
    #[error("the file is no plan of pgmove: {0}")]
    Foreign(&'static str),
    /// A younger pgmove has written it.
    #[error("the plan has format {0}, and this version of pgmove knows {VERSION}")]
    Newer(u64),
    /// Another pgmove might do something else for the same plan.
    #[error("the plan was made by pgmove {made}, and this is {own}", own = env!("CARGO_PKG_VERSION"))]
    OtherVersion {
        /// Which.
        made: String,
    },
    /// Its content has another checksum.
    #[error("the plan was changed since pgmove wrote it")]
    Changed,
}

impl Fault for DocumentError {
    fn class(&self) -> Class {
        Class::User
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            DocumentError::Damaged(_) | DocumentError::Foreign(_) => {
                "make it again: pgmove plan --save FILE".into()
            }
            DocumentError::Newer(_) | DocumentError::OtherVersion { .. } => {
                "carry it out with the version that made it, or make it again with this one: pgmove plan --save FILE"
                    .into()
            }
            DocumentError::Changed => {
                "a plan is changed by the options it is made with, not by hand: pgmove plan … --save FILE".into()
            }
        })
    }
}

/// Reads a file.
pub fn read(text: &[u8]) -> Result<Document, DocumentError> {
    let value: Value = serde_json::from_slice(text).map_err(DocumentError::Damaged)?;
    let version = value.get("version").and_then(Value::as_u64);
    match version {
        None => return Err(DocumentError::Foreign("it has no version")),
        Some(version) if version > u64::from(VERSION) => return Err(DocumentError::Newer(version)),
        Some(_) => {}
    }
    let claimed = value.get(SHA256).and_then(Value::as_str).map(str::to_owned);
    let claimed = claimed.ok_or(DocumentError::Foreign("it has no sha256"))?;
    let pgmove = value.get("pgmove").and_then(Value::as_str).unwrap_or_default().to_owned();
    if checksum(value).is_none_or(|found| found != claimed) {
        return Err(DocumentError::Changed);
    }
    if pgmove != env!("CARGO_PKG_VERSION") {
        return Err(DocumentError::OtherVersion { made: pgmove });
    }
    // Not from the value: a number as it stands.
    serde_json::from_slice(text).map_err(DocumentError::Damaged)
}

/// The SHA-256 of all but the checksum itself, compact, with the keys of every object in order.
fn checksum(mut value: Value) -> Option<String> {
    value.as_object_mut()?.remove(SHA256);
    value.sort_all_objects();
    Some(hexadecimal(&Sha256::digest(serde_json::to_vec(&value).ok()?)))
}

/// A digest that takes a tenth of a second, so that a value cannot be found by trying a great many: PBKDF2 with
/// HMAC-SHA-256 and the rounds that OWASP asks for.
pub(super) fn slow_digest(salt: &str, text: &str) -> String {
    let mut digest = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt.as_bytes(), text.as_bytes(), &mut digest);
    hexadecimal(&digest)
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_plan_is_read_back_as_it_was_written() {
        let document = sample::document();
        let text = document.text();
        assert_eq!(read(text.as_bytes()).expect("its own").text(), text);
        // However it is laid out.
        let compact = serde_json::to_vec(&document).expect("plain data");
        assert_eq!(read(&compact).expect("the same").text(), text);
        assert!(!text.contains("\"run\""), "{text}");
    }

    /// The names of all fields.
    fn fields(value: &Value, found: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(object) => object.iter().for_each(|(name, value)| {
                found.insert(name.clone());
                fields(value, found);
            }),
            Value::Array(values) => values.iter().for_each(|value| fields(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_field_is_described() {
        let mut document = sample::document();
        let first = vec![crate::catalog::UserObject { kind: "table".into(), name: "taken".into() }];
        document.plan.replaced = Some(crate::catalog::UserObjects { count: 1, first });
        document.plan.steps[0].extension =
            Some(crate::kubernetes::WantedExtension { name: "vchord".into(), schema: None });
        document.plan.existing_schemas.push(crate::schema::rewrite::ExistingSchema {
            name: "extensions".into(),
            owner: "postgres".into(),
            is_owned: false,
        });
        document.plan.roles.owners = crate::schema::rewrite::Owners::All("app".into());
        let mut found = std::collections::BTreeSet::new();
        fields(&serde_json::to_value(document).expect("plain data"), &mut found);
        let text = include_str!("../../docs/plan.md");
        let missing: Vec<_> = found.iter().filter(|name| !text.contains(&format!("`{name}`"))).collect();
        assert!(found.len() > 70 && missing.is_empty(), "docs/plan.md does not tell of {missing:?}");
    }

    #[test]
    fn what_is_no_plan_is_told_apart() {
        let text = sample::document().text();
        let told = |text: &str| read(text.as_bytes()).expect_err("it is no plan").to_string();
        assert_eq!(told(&text[..text.len() / 2]), "the plan is damaged");
        assert_eq!(told("[]"), "the file is no plan of pgmove: it has no version");
        assert_eq!(told("{\"version\": 1}"), "the file is no plan of pgmove: it has no sha256");
        let edited = text.replacen("\"jobs\": 4", "\"jobs\": 8", 1);
        assert_ne!(edited, text);
        assert_eq!(told(&edited), "the plan was changed since pgmove wrote it");
        let newer = text.replacen("\"version\": 1", "\"version\": 2", 1);
        assert_eq!(told(&newer), "the plan has format 2, and this version of pgmove knows 1");
        let mut value: Value = serde_json::from_str(&text).expect("JSON");
        value["pgmove"] = "0.0.1".into();
        value[SHA256] = checksum(value.clone()).expect("an object").into();
        assert_eq!(
            told(&value.to_string()),
            format!("the plan was made by pgmove 0.0.1, and this is {}", env!("CARGO_PKG_VERSION"))
        );
    }
}
