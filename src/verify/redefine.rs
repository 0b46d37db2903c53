//! What the target makes of a definition of the source.
//!
//! The statement is carried out on the target and rolled back: in the place of the definition that is there, which
//! must leave all definitions of its schema as they were, or beside it, and then both must read alike. This needs a transaction that may
//! write, and for a moment a lock on the object; who holds it against us is not waited for.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use crate::pg::{Access, Endpoint, QualifiedName, Session, SessionError, describe, quote_identifier};
use crate::schema::{Entry, EntryClass, SESSION_SETTINGS, index_statement};
use crate::verify::is_passing;

/// What became of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redefined {
    /// It says what was there already.
    Unchanged,
    /// It says something else, or cannot take the place of what is there.
    Changed,
    /// The target would not let it be tried.
    Refused(String),
    /// Entries of this class are not replaced.
    Unknown,
}

/// Tries the source's definition of `entry` on the target.
pub async fn redefine(target: &Endpoint, entry: &Entry) -> Result<Redefined, SessionError> {
    let (Some(trial), Some(schema)) = (trial(entry), &entry.schema) else {
        return Ok(Redefined::Unknown);
    };
    let session = Session::open(target, Access::Write, "").await?;
    let tried = attempt(&session, &trial, schema).await;
    // Closing the session would do as well; nothing may be left to chance here.
    session.run("ROLLBACK", "roll the trial back").await?;
    session.close().await;
    match tried {
        Err(error) if is_passing(&error) => Err(error),
        Ok(true) => Ok(Redefined::Unchanged),
        Ok(false) => Ok(Redefined::Changed),
        Err(SessionError::Statement { error, side, what, cut }) => match error.code() {
            Some(code) if is_refusal(code) => Ok(Redefined::Refused(describe(&error))),
            Some(_) => Ok(Redefined::Changed),
            None => Err(SessionError::Statement { error, side, what, cut }),
        },
        Err(error) => Err(error),
    }
}

/// Statements that carry a definition out, and what must hold after them.
enum Trial {
    /// They put it in the place of the one that is there: all definitions of the schema must be as they were.
    Replace(Vec<String>),
    /// They put it beside the one that is there: both, so named, must be alike.
    Beside(Vec<String>, [String; 2]),
}

async fn attempt(session: &Session, trial: &Trial, schema: &str) -> Result<bool, SessionError> {
    let what = "try a definition of the source";
    let settings = SESSION_SETTINGS.map(|(name, value)| format!("SET LOCAL {name} = '{value}'"));
    let begin = format!("BEGIN; SET LOCAL lock_timeout = '3s'; {}", settings.join("; "));
    session.run(&begin, what).await?;
    let ask = async |query, names: &[&(dyn ToSql + Sync)]| {
        session
            .client
            .query_one(query, names)
            .await
            .map_err(|error| session.failed("read definitions", error))
    };
    match trial {
        Trial::Replace(statements) => {
            let query = include_str!("../../sql/verify/definitions.sql");
            let before: String = ask(query, &[&schema]).await?.get("definitions");
            session.run(&statements.join(";\n"), what).await?;
            let after: String = ask(query, &[&schema]).await?.get("definitions");
            Ok(before == after)
        }
        Trial::Beside(statements, [former, new]) => {
            session.run(&statements.join(";\n"), what).await?;
            let query = include_str!("../../sql/verify/same_definition.sql");
            Ok(ask(query, &[former, new]).await?.get("is_same"))
        }
    }
}

/// What becomes of a name while another object takes it.
const FORMER: &str = "pgmove former";

/// How the entry's definition is tried; `None` for a class of which all majors write the same, or which cannot be
/// tried without its rows.
fn trial(entry: &Entry) -> Option<Trial> {
    let statement = entry.statements.first()?;
    let rest = statement.strip_prefix("CREATE ")?;
    let is_replaced = [EntryClass::VIEW, EntryClass::RULE, EntryClass::TRIGGER, EntryClass::FUNCTION]
        .contains(&entry.class)
        || entry.class.name() == "PROCEDURE";
    if is_replaced {
        return Some(Trial::Replace(vec![format!("CREATE OR REPLACE {rest}")]));
    }
    let relation = entry.relation()?;
    let former = QualifiedName::new(&relation.schema, FORMER);
    let rename = |kind: &str, name: &QualifiedName, to: &str| {
        format!("ALTER {kind} {} RENAME TO {}", name.sql(), quote_identifier(to))
    };
    if entry.class == EntryClass::POLICY {
        // The tag of what belongs to a table is the table's name, a blank, and its own.
        let name = entry.tag.strip_prefix(&relation.name)?.strip_prefix(' ')?;
        let drop = format!("DROP POLICY {} ON {}", quote_identifier(name), relation.sql());
        return Some(Trial::Replace(vec![drop, statement.clone()]));
    }
    if entry.class == EntryClass::MATERIALIZED_VIEW {
        let statements = vec![rename("MATERIALIZED VIEW", &relation, FORMER), statement.clone()];
        return Some(Trial::Beside(statements, [former.sql(), relation.sql()]));
    }
    if entry.class == EntryClass::INDEX {
        // On an empty table of the same columns, so that nothing is built.
        let index = QualifiedName::new(&relation.schema, index_statement(statement)?.name);
        let former_index = QualifiedName::new(&relation.schema, format!("{FORMER} index"));
        let statements = vec![
            rename("INDEX", &index, &former_index.name),
            rename("TABLE", &relation, FORMER),
            format!("CREATE TABLE {} (LIKE {})", relation.sql(), former.sql()),
            statement.clone(),
        ];
        return Some(Trial::Beside(statements, [former_index.sql(), index.sql()]));
    }
    None
}

/// Errors that say nothing about the definition.
fn is_refusal(code: &SqlState) -> bool {
    [&SqlState::INSUFFICIENT_PRIVILEGE, &SqlState::READ_ONLY_SQL_TRANSACTION, &SqlState::QUERY_CANCELED]
        .contains(&code)
}
