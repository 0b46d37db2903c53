//! Types that are reachable from columns.
//!
//! The map holds every type of a column and, from there on, base types of domains, elements of arrays,
//! attributes of composites, subtypes of ranges: all that decides whether a value may travel in binary COPY.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
