//! Types that are reachable from columns.
//!
//! The map holds every type of a column and, from there on, base types of domains, elements of arrays,
//! attributes of composites, subtypes of ranges: all that decides whether a value may travel in binary COPY.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CatalogError;
use super::query::{Reader, Record, sql_file};
use crate::pg::{Oid, QualifiedName};

/// Types by their OID on this server.
pub type Types = BTreeMap<Oid, Type>;

/// A data type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Type {
    /// Its OID; equal on two servers only where [`Oid::is_built_in`].
    pub oid: Oid,
    /// Its name (`_int4` for `integer[]`).
    pub name: QualifiedName,
    /// What it is made of.
    pub kind: TypeKind,
    /// `typcategory`, `A` for arrays and `U` for most extension types.
    pub category: char,
    /// `typsend`; `None` where the type has no binary output.
    pub send: Option<TypeFunction>,
    /// `typreceive`; `None` where the type has no binary input.
    pub receive: Option<TypeFunction>,
    /// The extension that the type (for an array: its element) is a member of.
    pub extension: Option<String>,
}

/// What a type is made of; every OID named here is a key of [`Types`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TypeKind {
    /// A base type, scalar as far as the catalog knows.
    Base,
    /// A variable-length array (`typelem` set, `typlen` -1; `oidvector` is one of them).
    Array {
        /// The element's type.
        element: Oid,
    },
    /// A composite type, or the row type of a table.
    Composite {
        /// Its attributes in order, dropped ones left out.
        attributes: Vec<TypeAttribute>,
    },
    /// A domain.
    Domain {
        /// The type below it, which can be a domain again.
        base: Oid,
        /// The modifier that the domain gives it (`vector(512)`: 512), or -1.
        modifier: i32,
    },
    /// An enum.
    Enum,
    /// A pseudo-type; a column cannot have one, a system composite can.
    Pseudo,
    /// A range.
    Range {
        /// The type of its bounds.
        subtype: Oid,
    },
    /// A multirange, from 14.
    Multirange {
        /// The range type.
        range: Oid,
    },
}

/// An attribute of a composite type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeAttribute {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: Oid,
}

/// An I/O function of a type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeFunction {
    /// Its OID.
    pub oid: Oid,
    /// Its name: `pg_catalog.textsend`.
    pub name: QualifiedName,
}

/// The type below all domains of a type, and the modifier that holds there: the innermost domain's, or
/// `modifier` (the column's) where there is no domain. `None` for a type that is not in the map.
pub fn below_domains(types: &Types, oid: Oid, modifier: i32) -> Option<(&Type, i32)> {
    let found = types.get(&oid)?;
    match found.kind {
        TypeKind::Domain { base, modifier } => below_domains(types, base, modifier),
        _ => Some((found, modifier)),
    }
}

/// Reads the types that columns of the user's relations reach.
pub(super) async fn read_types(reader: Reader<'_>) -> Result<Types, CatalogError> {
    let records = reader.rows(sql_file!("types"), &[]).await?;
    records.iter().map(|record| Type::decode(record).map(|decoded| (decoded.oid, decoded))).collect()
}

impl Type {
    fn decode(record: &Record) -> Result<Self, CatalogError> {
        Ok(Type {
            oid: record.oid("oid")?,
            name: record.qualified("schema", "name")?,
            kind: TypeKind::decode(record)?,
            category: record.code("category")?,
            send: TypeFunction::decode(record, "send", "send_schema", "send_name")?,
            receive: TypeFunction::decode(record, "receive", "receive_schema", "receive_name")?,
            extension: record.get("extension")?,
        })
    }
}

impl TypeKind {
    /// By `typtype` (`catalog/pg_type.h`).
    fn decode(record: &Record) -> Result<Self, CatalogError> {
        Ok(match record.code("kind")? {
            'b' => match record.oid("element")? {
                Oid(0) => TypeKind::Base,
                element => TypeKind::Array { element },
            },
            'c' => {
                let names: Vec<String> = record.get("attribute_names")?;
                let types: Vec<u32> = record.get("attribute_types")?;
                let attribute = |(name, oid)| TypeAttribute { name, type_oid: Oid(oid) };
                TypeKind::Composite { attributes: names.into_iter().zip(types).map(attribute).collect() }
            }
            'd' => TypeKind::Domain { base: record.oid("base")?, modifier: record.get("modifier")? },
            'e' => TypeKind::Enum,
            'm' => TypeKind::Multirange { range: record.oid("range")? },
            'p' => TypeKind::Pseudo,
            'r' => TypeKind::Range { subtype: record.oid("subtype")? },
            other => return Err(record.shape("kind", other)),
        })
    }
}

impl TypeFunction {
    fn decode(record: &Record, oid: &str, schema: &str, name: &str) -> Result<Option<Self>, CatalogError> {
        let name = record.optional_name(schema, name)?;
        name.map(|name| Ok(TypeFunction { oid: record.oid(oid)?, name })).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_type(oid: u32, kind: TypeKind) -> (Oid, Type) {
        let name = QualifiedName::new("public", format!("type_{oid}"));
        let oid = Oid(oid);
        (oid, Type { oid, name, kind, category: 'U', send: None, receive: None, extension: None })
    }

    #[test]
    fn the_innermost_domain_gives_the_modifier() {
        let types = Types::from([
            a_type(1, TypeKind::Base),
            a_type(2, TypeKind::Domain { base: Oid(1), modifier: 512 }),
            a_type(3, TypeKind::Domain { base: Oid(2), modifier: -1 }),
            a_type(4, TypeKind::Domain { base: Oid(9), modifier: -1 }),
        ]);
        let below = |oid, modifier| {
            below_domains(&types, Oid(oid), modifier).map(|(found, modifier)| (found.oid.0, modifier))
        };
        assert_eq!(below(1, 3), Some((1, 3)));
        assert_eq!(below(3, -1), Some((1, 512)));
        assert_eq!(below(4, -1), None);
    }
}
