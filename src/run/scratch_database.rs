//! A database of the target's server that is made for one command and dropped with it.
//!
//! It is like the target's own (encoding, locale, tablespace), empty, and of the target's role; the administrator makes
//! it and drops it. [`within`] drops it however the work ends. What a process could not drop, because it was killed or
//! the server was gone, is told from a database of somebody else's by its name and a setting of its own, and from one that is
//! in use by its sessions: [`remove_left_over`].

use std::fmt;
use std::sync::Arc;

use tokio_postgres::Row;

use super::Context;
use crate::error::{Class, Error, Exit, Fault};
use crate::event::Events;
use crate::pg::{Access, Endpoint, Session, SessionError, quote_identifier, quote_literal};
use crate::settings::{Connections, Substitute};

/// The setting that marks a scratch database. A comment would be overwritten by the source's.
const MARK: &str = "pgmove.scratch";

/// Why there is no scratch database, or still is one.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// Only a superuser makes databases here.
    #[error("a scratch database needs the administrator's connection to the target, and there is none")]
    NoAdmin,
    /// The server refused it.
    #[error("could not make scratch database {name}")]
    NotMade {
        /// Its name.
        name: String,
        /// Why not.
        source: SessionError,
    },
    /// It is still there.
    #[error("scratch database {name} could not be dropped, and is left on the target's server")]
    NotDropped {
        /// Its name.
        name: String,
        /// Why not.
        source: SessionError,
    },
    /// The server could not be asked.
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl Fault for ScratchError {
    fn class(&self) -> Class {
        match self {
            ScratchError::NoAdmin => Class::User,
            ScratchError::NotMade { source, .. }
            | ScratchError::NotDropped { source, .. }
            | ScratchError::Session(source) => source.class(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ScratchError::NoAdmin => Some(
                "give --target-admin with a superuser of the target; a Cluster of CloudNative-PG has one with \
                 enableSuperuserAccess: true"
                    .into(),
            ),
            ScratchError::NotMade { source, .. } | ScratchError::Session(source) => source.hint(),
            ScratchError::NotDropped { name, .. } => {
                Some(format!("as a superuser of the target, run: {}", drop_statement(name)))
            }
        }
    }
}

/// A scratch database, with the endpoints that lead into it.
#[derive(Debug)]
pub struct ScratchDatabase {
    name: String,
    /// As the target's ordinary role, which owns it.
    pub target: Endpoint,
    /// As the administrator.
    pub admin: Endpoint,
    /// The administrator in the target's own database.
    outside: Endpoint,
    /// A session there. As long as it lives, nobody takes the scratch database for a left-over.
    keeper: Session,
}

impl ScratchDatabase {
    /// Makes one for `run`, owned by `owner`. Its sessions are named after the run.
    pub async fn create(
        target: &Endpoint,
        admin: Option<&Endpoint>,
        owner: &str,
        run: &str,
    ) -> Result<ScratchDatabase, ScratchError> {
        let admin = admin.ok_or(ScratchError::NoAdmin)?;
        let name = name(run);
        let named = |endpoint: &Endpoint| Endpoint {
            application_name: Context::application_name(run),
            ..endpoint.clone()
        };
        let inside = |endpoint: &Endpoint| Endpoint {
            conninfo: Arc::new((*endpoint.conninfo).clone().with_database(&name)),
            ..named(endpoint)
        };
        let outside = named(admin);
        let keeper = Session::open(&outside, Access::Write, "pg_catalog").await?;
        let like = keeper.client.query_one(include_str!("../../sql/scratch/like.sql"), &[]).await;
        let like = like.map_err(|error| keeper.failed("read what the target's database is like", error))?;
        let statement = create_statement(&name, owner, &Like::of(&like));
        let not_made = |source| ScratchError::NotMade { name: name.clone(), source };
        if let Err(source) = keeper.run(&statement, format!("create database {name}")).await {
            // A server whose answer was lost may have made it.
            if source.is_retryable() {
                let dropping = async {
                    let session = Session::open(&outside, Access::Write, "pg_catalog").await?;
                    session.run(&drop_statement(&name), format!("drop database {name}")).await
                };
                let dropped: Result<(), SessionError> = dropping.await;
                dropped.map_err(|source| ScratchError::NotDropped { name: name.clone(), source })?;
            }
            return Err(not_made(source));
        }
        let scratch = ScratchDatabase { target: inside(target), admin: inside(admin), outside, keeper, name };
        let mark = format!(
            "ALTER DATABASE {} SET {MARK} TO {}",
            quote_identifier(&scratch.name),
            quote_literal(run)
        );
        if let Err(source) = scratch.keeper.run(&mark, "mark the scratch database").await {
            let name = scratch.name.clone();
            scratch.drop().await?;
            return Err(ScratchError::NotMade { name, source });
        }
        Ok(scratch)
    }

    /// The connections of a move, led into it. Its administrator does everything there that needs one: an operator, or psql
    /// in the target's pod, would work in the target's own database.
    pub fn connections(&self, outside: &Connections) -> Connections {
        Connections {
            target: Arc::clone(&self.target.conninfo),
            target_admin: Some(Arc::clone(&self.admin.conninfo)),
            substitute: Substitute::None,
            operator: None,
            ..outside.clone()
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Drops it, with whatever sessions it has.
    pub async fn drop(self) -> Result<(), ScratchError> {
        let ScratchDatabase { name, outside, keeper, .. } = self;
        let statement = drop_statement(&name);
        let dropped = match keeper.run(&statement, format!("drop database {name}")).await {
            // The session may have been cut while others worked.
            Err(error) if error.is_retryable() => {
                let again = async {
                    let session = Session::open(&outside, Access::Write, "pg_catalog").await?;
                    session.run(&statement, format!("drop database {name}")).await?;
                    session.close().await;
                    Ok(())
                };
                again.await
            }
            dropped => dropped,
        };
        dropped.map_err(|source| ScratchError::NotDropped { name, source })?;
        keeper.close().await;
        Ok(())
    }
}

/// Drops the scratch database when `work` has come to an end, whichever. What cannot be dropped is an error of exit
/// code 7, or a warning beside the error of the work.
pub async fn within<T>(
    scratch: ScratchDatabase,
    events: &Events,
    work: impl AsyncFnOnce(&ScratchDatabase) -> Result<T, Error>,
) -> Result<T, Error> {
    let outcome = Box::pin(work(&scratch)).await;
    match (outcome, scratch.drop().await) {
        (Ok(_), Err(error)) => Err(Error::new(Exit::StartOver, error)),
        (Err(error), Err(left)) => {
            events.warn(format!("{left}; {}", left.hint().unwrap_or_default()));
            Err(error)
        }
        (outcome, Ok(())) => outcome,
    }
}

/// A scratch database that an earlier command has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOver {
    /// Its name.
    pub name: String,
    /// Whether it was dropped; one that lacks pgmove's mark is named only, and one that is in use is none.
    pub is_dropped: bool,
}

impl fmt::Display for LeftOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeftOver { name, is_dropped } = self;
        if *is_dropped {
            return write!(f, "scratch database {name} was left by an earlier command; it was dropped");
        }
        let statement = drop_statement(name);
        write!(
            f,
            "database {name} is named as a scratch database of pgmove, but lacks the setting {MARK}; if it is one, run as a \
             superuser of the target: {statement}"
        )
    }
}

/// Drops the scratch databases that nobody works with any more; `session` is the administrator's.
pub async fn remove_left_over(session: &Session) -> Result<Vec<LeftOver>, ScratchError> {
    let rows = session.client.query(include_str!("../../sql/scratch/left_over.sql"), &[&MARK]).await;
    let rows = rows.map_err(|error| session.failed("look for scratch databases", error))?;
    let mut found = Vec::new();
    for row in rows.iter().filter(|row| !row.get::<_, bool>("is_used")) {
        let (name, is_dropped): (String, bool) = (row.get("name"), row.get("is_marked"));
        if is_dropped {
            // Without FORCE: a session that has come meanwhile keeps it.
            let statement = format!("DROP DATABASE IF EXISTS {}", quote_identifier(&name));
            let dropped = session.run(&statement, format!("drop database {name}")).await;
            dropped.map_err(|source| ScratchError::NotDropped { name: name.clone(), source })?;
        }
        found.push(LeftOver { name, is_dropped });
    }
    Ok(found)
}

/// `pgmove_20261123_143000_0a1b2c`: an identifier that needs no quotes.
fn name(run: &str) -> String {
    format!("pgmove_{}", run.replace('-', "_"))
}

fn drop_statement(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote_identifier(name))
}

/// What a database is made with.
#[derive(Debug)]
struct Like {
    encoding: String,
    lc_collate: String,
    lc_ctype: String,
    tablespace: String,
    provider: Option<String>,
    locale: Option<String>,
    icu_rules: Option<String>,
}

impl Like {
    fn of(row: &Row) -> Like {
        Like {
            encoding: row.get("encoding"),
            lc_collate: row.get("lc_collate"),
            lc_ctype: row.get("lc_ctype"),
            tablespace: row.get("tablespace"),
            provider: row.get("provider"),
            locale: row.get("locale"),
            icu_rules: row.get("icu_rules"),
        }
    }
}

fn create_statement(name: &str, owner: &str, like: &Like) -> String {
    let literal = |option: &str, value: &String| format!("{option} {}", quote_literal(value));
    let locale = like.locale.as_ref().and_then(|locale| match like.provider.as_deref() {
        Some("icu") => Some(literal("ICU_LOCALE", locale)),
        Some("builtin") => Some(literal("BUILTIN_LOCALE", locale)),
        _ => None,
    });
    let options = [
        Some(format!("OWNER {}", quote_identifier(owner))),
        // The only template in which nothing is, and that may be copied into any encoding and locale.
        Some("TEMPLATE template0".to_owned()),
        Some(literal("ENCODING", &like.encoding)),
        Some(literal("LC_COLLATE", &like.lc_collate)),
        Some(literal("LC_CTYPE", &like.lc_ctype)),
        like.provider.as_ref().map(|provider| format!("LOCALE_PROVIDER {provider}")),
        locale,
        like.icu_rules.as_ref().map(|rules| literal("ICU_RULES", rules)),
        Some(format!("TABLESPACE {}", quote_identifier(&like.tablespace))),
    ];
    let options: Vec<String> = options.into_iter().flatten().collect();
    format!("CREATE DATABASE {} {}", quote_identifier(name), options.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_database_is_like_the_targets() {
        let like = |provider: Option<&str>, locale: Option<&str>, rules: Option<&str>| Like {
            encoding: "UTF8".into(),
            lc_collate: "C".into(),
            lc_ctype: "C".into(),
            tablespace: "pg_default".into(),
            provider: provider.map(str::to_owned),
            locale: locale.map(str::to_owned),
            icu_rules: rules.map(str::to_owned),
        };
        let name = name("20261123-143000-0a1b2c");
        let made = |like: &Like| create_statement(&name, "app owner", like);
        assert_eq!(
            made(&like(None, None, None)),
            r#"CREATE DATABASE "pgmove_20261123_143000_0a1b2c" OWNER "app owner" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TABLESPACE "pg_default""#
        );
        let icu = made(&like(Some("icu"), Some("und"), Some("& V < w")));
        assert!(icu.contains("LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '& V < w' TABLESPACE"), "{icu}");
        let builtin = made(&like(Some("builtin"), Some("C.UTF-8"), None));
        assert!(builtin.contains("LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' TABLESPACE"), "{builtin}");
        let libc = made(&like(Some("libc"), None, None));
        assert!(libc.contains("LOCALE_PROVIDER libc TABLESPACE"), "{libc}");
    }
}
