//! Running the files of `sql/catalog/` and decoding their rows by column name.

use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Row};

use super::CatalogError;
use crate::error::Side;
use crate::pg::{Oid, QualifiedName};

/// A file of `sql/catalog/`.
#[derive(Debug, Clone, Copy)]
pub(super) struct SqlFile {
    /// The file's name without its ending.
    pub(super) name: &'static str,
    /// The statement.
    pub(super) text: &'static str,
}

/// The [`SqlFile`] of a name, in the program itself.
macro_rules! sql_file {
    ($name:literal) => {
        $crate::catalog::query::SqlFile {
            name: $name,
            text: include_str!(concat!("../../sql/catalog/", $name, ".sql")),
        }
    };
}
pub(super) use sql_file;

/// A session whose catalog is read.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) client: &'a Client,
    pub(super) side: Side,
}

impl Reader<'_> {
    /// All rows of a query.
    pub(super) async fn rows(
        &self,
        file: SqlFile,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Record>, CatalogError> {
        self.query(file.name, file.text, parameters).await
    }

    /// The row of a query that gives exactly one.
    pub(super) async fn row(&self, file: SqlFile) -> Result<Record, CatalogError> {
        let mut records = self.rows(file, &[]).await?;
        match (records.pop(), records.len()) {
            (Some(record), 0) => Ok(record),
            (last, others) => Err(CatalogError::Shape {
                side: self.side,
                query: file.name,
                what: format!("{} rows in place of one", others + usize::from(last.is_some())),
            }),
        }
    }

    /// All rows of a statement that was made from the file `name`.
    pub(super) async fn query(
        &self,
        name: &'static str,
        text: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Record>, CatalogError> {
        let side = self.side;
        match self.client.query(text, parameters).await {
            Ok(rows) => Ok(rows.into_iter().map(|row| Record { row, query: name, side }).collect()),
            Err(error) => Err(CatalogError::Query { side, query: name, error }),
        }
    }
}

/// A row that knows where it comes from.
pub(super) struct Record {
    row: Row,
    query: &'static str,
    side: Side,
}

impl Record {
    /// A column's value.
    pub(super) fn get<'a, T: FromSql<'a>>(&'a self, column: &str) -> Result<T, CatalogError> {
        self.row.try_get(column).map_err(|error| CatalogError::Query {
            side: self.side,
            query: self.query,
            error,
        })
    }

    /// A count or a size, `bigint` on the server.
    pub(super) fn count(&self, column: &str) -> Result<u64, CatalogError> {
        let value: i64 = self.get(column)?;
        u64::try_from(value).map_err(|_| self.shape(column, value))
    }

    /// An object's OID.
    pub(super) fn oid(&self, column: &str) -> Result<Oid, CatalogError> {
        self.get(column).map(Oid)
    }

    /// The name that two columns hold: the schema and the name within it.
    pub(super) fn qualified(&self, schema: &str, name: &str) -> Result<QualifiedName, CatalogError> {
        Ok(QualifiedName { schema: self.get(schema)?, name: self.get(name)? })
    }

    /// As [`Record::qualified`], where the columns may be NULL.
    pub(super) fn optional_name(
        &self,
        schema: &str,
        name: &str,
    ) -> Result<Option<QualifiedName>, CatalogError> {
        let parts: (Option<String>, Option<String>) = (self.get(schema)?, self.get(name)?);
        Ok(match parts {
            (Some(schema), Some(name)) => Some(QualifiedName { schema, name }),
            _ => None,
        })
    }

    /// A `"char"` column. An empty one, the catalogs' way to say "none", is `'\0'`.
    pub(super) fn code(&self, column: &str) -> Result<char, CatalogError> {
        let code: i8 = self.get(column)?;
        Ok(char::from(code.cast_unsigned()))
    }

    /// What a code of a `"char"` column means. An unknown one is an error: a younger server has something
    /// that this version of pgmove would lose.
    pub(super) fn choose<T: Copy>(&self, column: &str, meanings: &[(char, T)]) -> Result<T, CatalogError> {
        let code = self.code(column)?;
        let meaning = meanings.iter().find(|(known, _)| *known == code);
        meaning.map(|(_, meaning)| *meaning).ok_or_else(|| self.shape(column, format!("{code:?}")))
    }

    /// The error for a value that cannot be.
    pub(super) fn shape(&self, column: &str, value: impl std::fmt::Display) -> CatalogError {
        let object =
            self.row.try_get::<_, &str>("name").map(|name| format!(" of {name}")).unwrap_or_default();
        CatalogError::Shape {
            side: self.side,
            query: self.query,
            what: format!("column {column}{object} holds {value}"),
        }
    }
}
