//! CREATE on schemas, lent to the roles that objects are given to. Pure.
//!
//! `ALTER ... OWNER TO role` asks that the role may create in the object's schema (`AlterObjectOwner_internal`), and
//! in the database for a publication. `pg_dump` gives rights last, since an owner may have revoked its own. So a
//! role that would lack the right gets it after the schemas are made, and gives it back before the dump's rights
//! follow, which stay as they are.

use std::collections::BTreeMap;

use crate::pg::{display_identifier, quote_identifier};
use crate::plan::ddl::{Input, needs_admin, roles};
use crate::plan::{Phase, Route, Step};
use crate::schema::rewrite::{self, ExistingSchema, Rewrite};
use crate::schema::{Change, Entry, EntryClass};

/// Where a role must be allowed to create.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Database,
    Schema(String),
}

/// What asks for the right.
#[derive(Debug, Default)]
struct Need {
    objects: Vec<String>,
    /// The first `ALTER ... OWNER TO`, with its entry's dump id; none for what the session makes for itself.
    given: Option<(u32, String)>,
}

/// A right that nobody can give before the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ungranted {
    /// The role that may not create.
    pub role: String,
    /// Where: `schema extensions`.
    pub place: String,
    /// The objects that ask for it.
    pub objects: Vec<String>,
    /// Who may give it, and how.
    pub remedy: String,
}

/// The steps that lend and take back, and what cannot be lent.
#[derive(Debug, Default)]
pub struct Loans {
    /// After the schemas are made.
    pub before: Vec<Step>,
    /// Before the dump's rights.
    pub after: Vec<Step>,
    /// For the plan's list.
    pub changes: Vec<Change>,
    /// What forbids the plan.
    pub ungranted: Vec<Ungranted>,
}

/// What must be lent so that these entries, rewritten, can be applied. `first_id` is the first free dump id.
pub fn lend(entries: &[Entry], input: &Input<'_>, first_id: u32) -> Loans {
    let mut loans = Loans::default();
    if input.target.session.is_superuser {
        return loans;
    }
    let mut id = first_id;
    for ((place, role), need) in needs(entries, input) {
        let (name, privilege) = match &place {
            Place::Database => {
                let database = &input.target.database.name;
                let name = format!("database {}", display_identifier(database));
                (name, format!("CREATE ON DATABASE {}", quote_identifier(database)))
            }
            Place::Schema(schema) => {
                let name = format!("schema {}", display_identifier(schema));
                (name, format!("CREATE ON SCHEMA {}", quote_identifier(schema)))
            }
        };
        let grant = format!("GRANT {privilege} TO {}", quote_identifier(&role));
        let revoke = format!("REVOKE {privilege} FROM {}", quote_identifier(&role));
        let Some(route) = route(entries, &place, input) else {
            let remedy = match existing(&place, input) {
                Some(_) => format!("give --target-admin; or, as a superuser on the target: {grant};"),
                None => format!("create the extension that makes {name} on the target first"),
            };
            loans.ungranted.push(Ungranted { role, place: name, objects: need.objects, remedy });
            continue;
        };
        let step = |id, phase, statement: &str| Step {
            id,
            object: format!("right of {} to create in {name}", display_identifier(&role)),
            phase,
            route,
            needs: vec![],
            statements: vec![statement.to_owned()],
            may_hold_secrets: false,
            masked_digest: None,
            extension: None,
            maintenance_work_mem: 0,
            vector_index: None,
        };
        loans.before.push(step(id, Phase::PreData, &grant));
        loans.after.push(step(id + 1, Phase::Finish, &revoke));
        id += 2;
        loans.changes.extend(need.given.map(|(entry, statement)| Change {
            rewrite: Rewrite::CreatePrivilege,
            entry,
            object: need.objects[0].clone(),
            after: Some(format!("{grant};\n{statement};\n{revoke}")),
            before: statement,
            reason: format!(
                "{} must be allowed to create in {name} when objects are given to it",
                display_identifier(&role)
            ),
        }));
    }
    loans
}

fn needs(entries: &[Entry], input: &Input<'_>) -> BTreeMap<(Place, String), Need> {
    let session = &input.target.session.role;
    let mut needs: BTreeMap<(Place, String), Need> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| !needs_admin(entry, input)) {
        let Some(given) = rewrite::new_owner(entry) else { continue };
        let place = match given.schema {
            Some(schema) => Place::Schema(schema),
            None if entry.class.name() == "PUBLICATION" => Place::Database,
            None => continue,
        };
        // The session makes it before it is given away.
        if existing(&place, input).is_some() && !may_create(&place, session, input) {
            needs.entry((place.clone(), session.clone())).or_default().objects.push(entry.object());
        }
        let is_free = given.role == *session
            || owns(entries, &place, &given.role, input)
            || may_create(&place, &given.role, input);
        if !is_free {
            let need = needs.entry((place, given.role)).or_default();
            need.objects.push(entry.object());
            need.given.get_or_insert((entry.id, given.statement));
        }
    }
    needs
}

fn existing<'a>(place: &Place, input: &Input<'a>) -> Option<&'a ExistingSchema> {
    let Place::Schema(name) = place else { return None };
    input.existing_schemas.iter().find(|existing| existing.name == *name)
}

fn of_dump<'a>(entries: &'a [Entry], place: &Place) -> Option<&'a Entry> {
    let Place::Schema(name) = place else { return None };
    entries.iter().find(|entry| entry.class == EntryClass::SCHEMA && entry.tag == *name)
}

/// Whether the run makes the schema and gives it to the role.
fn owns(entries: &[Entry], place: &Place, role: &str, input: &Input<'_>) -> bool {
    let owner = of_dump(entries, place).and_then(|entry| entry.owner.as_deref());
    existing(place, input).is_none() && owner.is_some_and(|owner| roles(input).owner(owner) == Some(role))
}

/// Whether the role may create there before anything is made.
fn may_create(place: &Place, role: &str, input: &Input<'_>) -> bool {
    match place {
        Place::Database => input.target.roles.iter().any(|found| found.name == role && found.can_create),
        Place::Schema(name) => {
            let schema = input.target.schemas.iter().find(|found| found.name == *name);
            schema.is_some_and(|schema| schema.creators.iter().any(|creator| creator == role))
        }
    }
}

/// Who can give the right: the session in its database and in what the run makes; a superuser in what is another
/// role's. Nobody can in a schema that only comes with its extension.
fn route(entries: &[Entry], place: &Place, input: &Input<'_>) -> Option<Route> {
    match existing(place, input) {
        Some(schema) if schema.is_owned => Some(Route::Owner),
        Some(_) => input.has_admin.then_some(Route::Admin),
        None => (*place == Place::Database || of_dump(entries, place).is_some()).then_some(Route::Owner),
    }
}
