//! What belongs to the database itself and is in no dump of its contents: settings, comment, grants. Pure.

use std::collections::BTreeMap;

use crate::catalog::{Catalog, DatabaseSetting};
use crate::pg::acl::{self, AclItem};
use crate::pg::{quote_identifier, quote_literal};
use crate::plan::columns::LEGACY_VECTOR_EXTENSION;
use crate::plan::{NotCarried, Phase, Route, Step};
use crate::schema::lexer::mask_strings;

/// What becomes of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is set on the target to this value.
    Carried(String),
    /// It stays behind, for this reason.
    Left(&'static str),
}

/// What a setting of the source's database becomes on the target, whoever may set it.
pub fn fate(setting: &DatabaseSetting) -> Fate {
    match setting.name.as_str() {
        "default_transaction_read_only" => Fate::Left("it is the fence of the source"),
        // Removed in VectorChord 0.4: every new session would warn of it.
        "vchordrq.prewarm_dim" => Fate::Left("VectorChord no longer knows it"),
        name if name.starts_with("vectors.") => Fate::Left("it belongs to pgvecto.rs"),
        "search_path" => {
            let kept: Vec<&str> = setting
                .value
                .split(',')
                .map(str::trim)
                .filter(|part| part.trim_matches('"') != LEGACY_VECTOR_EXTENSION)
                .collect();
            if kept.is_empty() {
                Fate::Left("it names the schema of pgvecto.rs only")
            } else {
                Fate::Carried(kept.join(", "))
            }
        }
        _ => Fate::Carried(setting.value.clone()),
    }
}

/// Settings whose value is a list of quoted names (`GUC_LIST_QUOTE`): written as they stand.
const LISTS: &[&str] =
    &["search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"];

/// The steps that give the target's database what the source's has, and what stands in their way. `contexts` are
/// those of the settings on the target (`pg_settings.context`); `first_id` is the first free dump id.
pub fn steps(
    source: &Catalog,
    target: &Catalog,
    contexts: &BTreeMap<String, String>,
    has_admin: bool,
    first_id: u32,
) -> Made {
    let mut made = Made { next_id: first_id, ..Made::default() };
    let database = quote_identifier(&target.database.name);
    let is_superuser = target.session.is_superuser;
    for setting in &source.database.settings {
        let object = match &setting.role {
            None => format!("setting {} of the database", setting.name),
            Some(role) => format!("setting {} of role {role} in the database", setting.name),
        };
        let value = match fate(setting) {
            Fate::Carried(value) => value,
            Fate::Left(reason) => {
                made.leave(object, reason);
                continue;
            }
        };
        let is_known_role =
            setting.role.as_ref().is_none_or(|role| target.roles.iter().any(|found| found.name == *role));
        if !is_known_role {
            made.leave(object, "the role does not exist on the target");
            continue;
        }
        let is_there = |found: &DatabaseSetting| {
            (&found.role, &found.name, &found.value) == (&setting.role, &setting.name, &value)
        };
        if target.database.settings.iter().any(is_there) {
            continue;
        }
        let is_own = setting.role.as_ref().is_none_or(|role| *role == target.session.role);
        let is_open = contexts.get(&setting.name).is_some_and(|context| context == "user");
        let is_allowed = is_superuser || (is_own && is_open);
        let value = if LISTS.contains(&setting.name.as_str()) { value } else { quote_literal(&value) };
        let of = setting.role.as_ref().map_or_else(
            || format!("ALTER DATABASE {database}"),
            |role| format!("ALTER ROLE {} IN DATABASE {database}", quote_identifier(role)),
        );
        let statement = format!("{of} SET {} TO {value}", quoted_parts(&setting.name));
        let defining = defining_statement(&setting.name, source, target).filter(|_| is_own);
        let is_secret = may_be_secret(&setting.name);
        let (route, statements) = match (is_allowed, has_admin, defining) {
            (true, _, _) => (Route::Owner, vec![statement]),
            (_, true, _) => (Route::Admin, vec![statement]),
            (_, _, Some(defining)) => (Route::Owner, vec![defining, statement]),
            (_, _, None) => {
                let shown = if is_secret { mask_strings(&statement) } else { statement };
                let reason = format!("it takes {shown}, unless the target's database has that already");
                made.forbidden.push((object, reason));
                continue;
            }
        };
        made.step(object, route, statements).may_hold_secrets = is_secret;
    }
    if let Some(comment) = &source.database.comment {
        let statement = format!("COMMENT ON DATABASE {database} IS {}", quote_literal(comment));
        made.step("comment on the database".into(), Route::Owner, vec![statement]);
    }
    made.grants(source, target, &database);
    made
}

/// Extensions whose settings are numbers and modes.
const OPEN_PREFIXES: &[&str] = &["hnsw", "ivfflat", "vchordrq", "vchordg", "plpgsql", "pg_trgm"];

/// A setting of two names may be an application's own, which some keep their keys and tokens in.
pub fn may_be_secret(setting: &str) -> bool {
    setting.split_once('.').is_some_and(|(prefix, _)| !OPEN_PREFIXES.contains(&prefix))
}

/// What has the server load the library that defines a setting: until then it is a placeholder, which only a
/// superuser may set for a database (`assignable_custom_variable_name` in guc.c). Known of pgvector, which need not be
/// loaded at the server's start.
fn defining_statement(setting: &str, source: &Catalog, target: &Catalog) -> Option<String> {
    let is_pgvector = ["hnsw.", "ivfflat."].iter().any(|prefix| setting.starts_with(prefix));
    let mut extensions = target.extensions.iter().chain(&source.extensions);
    let vector = extensions.find(|found| is_pgvector && found.name == "vector")?;
    Some(format!("SELECT '[0]'::{}.vector", quote_identifier(&vector.schema)))
}

/// `plpgsql.extra_warnings` is two identifiers.
fn quoted_parts(name: &str) -> String {
    name.split('.').map(quote_identifier).collect::<Vec<_>>().join(".")
}

/// What becomes of the database's own properties.
#[derive(Debug, Default)]
pub struct Made {
    /// How they are made.
    pub steps: Vec<Step>,
    /// What stays behind.
    pub not_carried: Vec<NotCarried>,
    /// What needs a superuser where there is none, with its statement.
    pub forbidden: Vec<(String, String)>,
    next_id: u32,
}

impl Made {
    fn leave(&mut self, object: String, reason: &str) {
        self.not_carried.push(NotCarried { object, reason: reason.to_owned() });
    }

    fn step(&mut self, object: String, route: Route, statements: Vec<String>) -> &mut Step {
        let id = self.next_id;
        self.next_id += 1;
        self.steps.push(Step {
            id,
            object,
            phase: Phase::Finish,
            route,
            needs: vec![],
            statements,
            may_hold_secrets: false,
            masked_digest: None,
            extension: None,
            maintenance_work_mem: 0,
            vector_index: None,
        });
        self.steps.last_mut().expect("it was pushed")
    }

    /// Grants on the database, but for the owner's own.
    fn grants(&mut self, source: &Catalog, target: &Catalog, database: &str) {
        let Some(acl) = &source.database.acl else { return };
        let object = format!("DATABASE {database}");
        let items: Vec<AclItem> = acl.iter().filter_map(|text| AclItem::parse(text)).collect();
        let has_public = items.iter().any(|item| item.grantee.is_none());
        if !has_public {
            let statement = format!("REVOKE ALL ON {object} FROM PUBLIC");
            self.step("grants on the database to PUBLIC".into(), Route::Owner, vec![statement]);
        }
        for item in items {
            match &item.grantee {
                Some(role) if *role == source.database.owner => {}
                Some(role) if !target.roles.iter().any(|found| found.name == *role) => {
                    self.leave(
                        format!("grants on the database to {role}"),
                        "the role does not exist on the target",
                    );
                }
                grantee => {
                    let named = grantee.clone().unwrap_or_else(|| "PUBLIC".into());
                    let statements = item.grants(&object, acl::DATABASE);
                    self.step(
                        format!("grants on the database to {named}"),
                        Route::Owner,
                        vec![statements.join(";\n")],
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::tests::case::Case;

    #[test]
    fn the_value_of_an_applications_own_setting_is_not_shown() {
        let mut case = Case::clean();
        for (name, value) in [("app.jwt_secret", "s3cret"), ("hnsw.ef_search", "80"), ("work_mem", "8MB")] {
            let setting = DatabaseSetting { role: None, name: name.into(), value: value.into() };
            case.source.database.settings.push(setting);
        }
        let made = |has_admin| steps(&case.source, &case.target, &BTreeMap::new(), has_admin, 1);
        let shown: Vec<String> = made(true).steps.iter().flat_map(Step::shown).collect();
        assert_eq!(
            shown,
            [
                r#"ALTER DATABASE "app" SET "app"."jwt_secret" TO '***'"#,
                r#"ALTER DATABASE "app" SET "hnsw"."ef_search" TO '80'"#,
                r#"ALTER DATABASE "app" SET "work_mem" TO '8MB'"#,
            ]
        );
        let forbidden = made(false).forbidden;
        assert_eq!(forbidden.len(), 3);
        assert!(!forbidden.iter().any(|(_, reason)| reason.contains("s3cret")), "{forbidden:?}");
    }
}
