//! How a column's values travel and how they are hashed. Pure.
//!
//! COPY BINARY is used only where it is proven to carry a value unchanged; anything else makes its whole table
//! travel as text:
//! - `reg*` values are raw OIDs in binary: they load without an error and mean another object;
//! - composites carry the OIDs of their attributes' types, which differ between servers;
//! - a type without a send or receive function cannot;
//! - a type of an extension only where both servers have the same version, or where the format is known not to
//!   change between versions.
//!
//! Arrays of user-defined types carry their element's OID in the header. Servers from 14 on accept another
//! one (`array_recv`), so they travel in binary, and the digest hashes that OID as zero.

use serde::{Deserialize, Serialize};

use crate::catalog::{Type, TypeKind, Types};
use crate::pg::{Oid, quote_identifier};

/// What is done with a column's values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// Binary, hashed as it is.
    Raw,
    /// A binary array whose element OID is hashed as zero.
    MaskedArray,
    /// An embedding of pgvecto.rs: read as `real[]`, re-encoded as pgvector's type, hashed as `real[]`.
    Embedding,
    /// Text, hashed as text; the table travels as text for this reason.
    Text(String),
}

/// A column that is copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnPlan {
    /// Its name, on both sides.
    pub name: String,
    /// What is done with it.
    pub treatment: Treatment,
}

impl ColumnPlan {
    /// The expression that the source's binary COPY selects.
    pub fn binary(&self) -> String {
        match self.treatment {
            Treatment::Embedding => format!("{}::real[]", quote_identifier(&self.name)),
            _ => quote_identifier(&self.name),
        }
    }

    /// The expression that is hashed, equal on both sides.
    pub fn hashed(&self) -> String {
        match self.treatment {
            Treatment::Embedding => format!("{}::real[]", quote_identifier(&self.name)),
            Treatment::Text(_) => format!("{}::text", quote_identifier(&self.name)),
            Treatment::Raw | Treatment::MaskedArray => quote_identifier(&self.name),
        }
    }
}

/// The extension whose `vector` type is converted.
pub const LEGACY_VECTOR_EXTENSION: &str = "vectors";

/// Extensions whose types keep their binary format in every published version.
const STABLE_EXTENSIONS: &[&str] = &["citext", "cube", "hstore", "ltree", "isn", "seg", "vector"];

/// Decides for the type `oid` of the source.
///
/// `same_version` says of an extension whether both servers have the same version of it.
pub fn treat(oid: Oid, types: &Types, same_version: impl Fn(&str) -> bool) -> Treatment {
    judge(oid, types, &same_version)
}

fn judge(oid: Oid, types: &Types, same_version: &dyn Fn(&str) -> bool) -> Treatment {
    let Some(found) = types.get(&oid) else {
        return Treatment::Text(format!("type {oid} is unknown"));
    };
    match &found.kind {
        TypeKind::Domain { base, .. } => judge(*base, types, same_version),
        TypeKind::Enum => Treatment::Raw,
        TypeKind::Array { element } => match judge(*element, types, same_version) {
            Treatment::Raw if element.is_built_in() => Treatment::Raw,
            Treatment::Raw => Treatment::MaskedArray,
            Treatment::Text(reason) => Treatment::Text(reason),
            Treatment::MaskedArray | Treatment::Embedding => container(found),
        },
        TypeKind::Range { subtype: inner } | TypeKind::Multirange { range: inner } => {
            match judge(*inner, types, same_version) {
                Treatment::Raw => Treatment::Raw,
                Treatment::Text(reason) => Treatment::Text(reason),
                Treatment::MaskedArray | Treatment::Embedding => container(found),
            }
        }
        TypeKind::Composite { .. } | TypeKind::Pseudo => container(found),
        TypeKind::Base => base(found, same_version),
    }
}

fn container(found: &Type) -> Treatment {
    Treatment::Text(format!("{} carries the OIDs of other types", found.name))
}

fn base(found: &Type, same_version: &dyn Fn(&str) -> bool) -> Treatment {
    if found.extension.as_deref() == Some(LEGACY_VECTOR_EXTENSION) && found.name.name == "vector" {
        return Treatment::Embedding;
    }
    let (Some(send), Some(_)) = (&found.send, &found.receive) else {
        return Treatment::Text(format!("{} has no binary form", found.name));
    };
    if found.oid.is_built_in() {
        return match send.name.name.as_str() {
            name if name.starts_with("reg") => {
                Treatment::Text(format!("{} is a raw OID in binary", found.name.name))
            }
            // Its binary form has been reported to differ in alignment (pgcopydb #894); xml's depends on
            // both servers' libxml and encodings.
            "tsvectorsend" | "xml_send" => {
                Treatment::Text(format!("{} is not proven safe in binary", found.name.name))
            }
            _ => Treatment::Raw,
        };
    }
    match &found.extension {
        Some(extension) if STABLE_EXTENSIONS.contains(&extension.as_str()) || same_version(extension) => {
            Treatment::Raw
        }
        Some(extension) => Treatment::Text(format!(
            "{} belongs to extension {extension}, whose version differs between the servers",
            found.name
        )),
        None => Treatment::Text(format!("{} is a user's own base type", found.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::TypeFunction;
    use crate::pg::QualifiedName;

    fn base_type(oid: u32, name: &str, send: Option<&str>, extension: Option<&str>) -> Type {
        let function = |name: &str| TypeFunction { oid: Oid(1), name: QualifiedName::new("s", name) };
        Type {
            oid: Oid(oid),
            name: QualifiedName::new("s", name),
            kind: TypeKind::Base,
            category: 'U',
            send: send.map(function),
            receive: send.map(function),
            extension: extension.map(str::to_owned),
        }
    }

    fn of(kind: TypeKind) -> Type {
        Type { kind, ..base_type(90_000, "outer", Some("outer_send"), None) }
    }

    fn types() -> Types {
        [
            base_type(23, "int4", Some("int4send"), None),
            base_type(2205, "regclass", Some("regclasssend"), None),
            base_type(1033, "aclitem", None, None),
            base_type(20_000, "vector", None, Some("vectors")),
            base_type(20_001, "vector", Some("vector_send"), Some("vector")),
            base_type(20_002, "odd", Some("odd_send"), Some("odd")),
            base_type(20_003, "own", Some("own_send"), None),
            Type { kind: TypeKind::Enum, ..base_type(20_004, "mood", Some("enum_send"), None) },
            Type {
                kind: TypeKind::Domain { base: Oid(20_000), modifier: 3 },
                ..base_type(20_005, "embedding", None, None)
            },
        ]
        .into_iter()
        .map(|found| (found.oid, found))
        .collect()
    }

    fn judged(kind: TypeKind) -> Treatment {
        let mut types = types();
        types.insert(Oid(90_000), of(kind));
        treat(Oid(90_000), &types, |extension| extension == "odd")
    }

    #[test]
    fn values_that_hold_oids_travel_as_text() {
        assert!(matches!(treat(Oid(2205), &types(), |_| true), Treatment::Text(_)));
        assert!(matches!(judged(TypeKind::Array { element: Oid(2205) }), Treatment::Text(_)));
        assert!(matches!(judged(TypeKind::Domain { base: Oid(2205), modifier: -1 }), Treatment::Text(_)));
        assert!(matches!(judged(TypeKind::Composite { attributes: vec![] }), Treatment::Text(_)));
        assert!(matches!(judged(TypeKind::Range { subtype: Oid(2205) }), Treatment::Text(_)));
    }

    #[test]
    fn arrays_of_user_types_are_masked() {
        assert_eq!(judged(TypeKind::Array { element: Oid(23) }), Treatment::Raw);
        assert_eq!(judged(TypeKind::Array { element: Oid(20_004) }), Treatment::MaskedArray);
        assert_eq!(judged(TypeKind::Range { subtype: Oid(23) }), Treatment::Raw);
    }

    #[test]
    fn extension_types_need_equal_versions_or_a_stable_format() {
        assert_eq!(treat(Oid(20_001), &types(), |_| false), Treatment::Raw);
        assert_eq!(treat(Oid(20_002), &types(), |_| true), Treatment::Raw);
        assert!(matches!(treat(Oid(20_002), &types(), |_| false), Treatment::Text(_)));
        assert!(matches!(treat(Oid(20_003), &types(), |_| true), Treatment::Text(_)));
        assert!(matches!(treat(Oid(1033), &types(), |_| true), Treatment::Text(_)));
    }

    #[test]
    fn legacy_embeddings_are_converted_also_under_a_domain() {
        assert_eq!(treat(Oid(20_000), &types(), |_| false), Treatment::Embedding);
        assert_eq!(treat(Oid(20_005), &types(), |_| false), Treatment::Embedding);
        assert!(matches!(judged(TypeKind::Array { element: Oid(20_000) }), Treatment::Text(_)));
    }
}
