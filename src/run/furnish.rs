//! What a scratch database gets of its target before a move into it: the extensions, each where it is and in its version, and
//! the rights to create in the schemas. That is all that an empty target may have.

use super::scratch_database::ScratchDatabase;
use crate::catalog::{Catalog, Extension, Schema};
use crate::event::Events;
use crate::pg::{Access, Session, SessionError, quote_identifier, quote_literal};
use crate::preflight::in_order;

/// Gives it to the scratch database; what cannot be as on the target is noted.
pub(super) async fn furnish(
    scratch: &ScratchDatabase,
    target: &Catalog,
    events: &Events,
) -> Result<(), SessionError> {
    let session = Session::open(&scratch.admin, Access::Write, "pg_catalog").await?;
    let what = || format!("prepare database {}", scratch.name());
    for extension in target.extensions.iter().filter(|extension| !is_makeable(extension, target)) {
        events.note(format!(
            "extension {} is {} on the target, whose server makes no such one any more: the scratch database has the \
             server's default version",
            extension.name, extension.version
        ));
    }
    for statement in statements(target) {
        session.run(&statement, what()).await?;
    }
    for schema in target.schemas.iter().filter(|schema| schema.is_given()) {
        for creator in &schema.creators {
            let statement = include_str!("../../sql/scratch/may_create.sql");
            let row = session.client.query_one(statement, &[creator, &schema.name]).await;
            if !row.map_err(|error| session.failed(what(), error))?.get::<_, bool>("may_create") {
                let (name, creator) = (quote_identifier(&schema.name), quote_identifier(creator));
                session.run(&format!("GRANT CREATE ON SCHEMA {name} TO {creator}"), what()).await?;
            }
        }
    }
    session.close().await;
    Ok(())
}

/// Whether the server can make the extension in the version that the target has: an image that was replaced may not.
fn is_makeable(extension: &Extension, target: &Catalog) -> bool {
    let offered = target.available_extensions.iter().find(|offered| offered.name == extension.name);
    offered.is_none_or(|offered| offered.versions.contains(&extension.version))
}

fn statements(target: &Catalog) -> Vec<String> {
    let role = quote_identifier(&target.session.role);
    let mut statements = Vec::new();
    let is_made =
        |schema: &&Schema| schema.is_given() && schema.extension.is_none() && schema.name != "public";
    for schema in target.schemas.iter().filter(is_made) {
        let (name, owner) = (quote_identifier(&schema.name), quote_identifier(&schema.owner));
        statements.push(format!("CREATE SCHEMA {name} AUTHORIZATION {owner}"));
        statements.extend(schema.can_use.then(|| format!("GRANT USAGE ON SCHEMA {name} TO {role}")));
    }
    // Each after those that it requires, or CASCADE would choose their place and version.
    let extensions = in_order(&target.extensions).into_iter();
    for extension in extensions.filter(|extension| extension.name != "plpgsql") {
        let offered = target.available_extensions.iter().find(|offered| offered.name == extension.name);
        let at = match offered.and_then(|offered| offered.schema.as_ref()) {
            Some(_) => String::new(),
            None => format!(" SCHEMA {}", quote_identifier(&extension.schema)),
        };
        let version = if is_makeable(extension, target) {
            format!(" VERSION {}", quote_literal(&extension.version).trim_start())
        } else {
            String::new()
        };
        let name = quote_identifier(&extension.name);
        statements.push(format!("CREATE EXTENSION IF NOT EXISTS {name}{at}{version} CASCADE"));
    }
    statements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::tests::case::Case;

    #[test]
    fn a_version_that_the_server_no_longer_makes_is_its_default_one() {
        let mut case = Case::clean();
        case.install_both("vchord", "1.1.1");
        assert_eq!(
            statements(&case.target),
            [r#"CREATE EXTENSION IF NOT EXISTS "vchord" SCHEMA "public" VERSION '1.1.1' CASCADE"#]
        );
        case.target.available_extensions[0].versions = vec!["1.2.0".into()];
        assert_eq!(
            statements(&case.target),
            [r#"CREATE EXTENSION IF NOT EXISTS "vchord" SCHEMA "public" CASCADE"#]
        );
    }

    #[test]
    fn an_extension_comes_after_those_that_it_requires() {
        let mut case = Case::clean();
        case.install_both("vchord", "1.1.1");
        case.install_both("vector", "0.8.0");
        case.target.extensions[0].requires = vec!["vector".into()];
        let made = statements(&case.target);
        assert!(made[0].contains(r#""vector" SCHEMA "public" VERSION '0.8.0'"#), "{made:?}");
        assert!(made[1].contains(r#""vchord""#), "{made:?}");
    }
}
