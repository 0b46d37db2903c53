//! What has changed since a plan was made: the plan is made anew, and both are compared. Pure.
//!
//! Compared is what would be done: which tables and how they travel, every statement, what stays behind, both databases,
//! their major versions and extensions. Not compared is what may change without changing that: sizes, estimated rows,
//! the boundaries of chunks (any boundaries tile a table, however it has grown), the numbers of large objects. Of a value
//! that a plan does not show, its digest is compared.

use std::collections::{BTreeMap, BTreeSet};

use crate::pg::QualifiedName;
use crate::plan::document::{Document, Place};
use crate::plan::{Plan, Route, Step, TablePlan};
use crate::preflight::few;
use crate::schema::rewrite::Owners;

/// One thing that is not as it was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What, in a sentence.
    pub title: String,
    /// The first of its names, or what it was and is.
    pub evidence: String,
    /// All of its names, where there are any.
    pub objects: Vec<String>,
}

/// Everything in which the world is not as it was planned with.
pub fn differences(planned: &Document, now: &Document) -> Vec<Difference> {
    let mut found = Found::default();
    found.place("source", &planned.source, &now.source);
    found.place("target", &planned.target, &now.target);
    for before in &planned.extensions {
        if let Some(after) = now.extensions.iter().find(|extension| extension.name == before.name) {
            let versions = |found: &crate::event::ExtensionVersions| {
                format!(
                    "{} on the source, {} on the target",
                    found.source,
                    found.target.as_deref().unwrap_or("none")
                )
            };
            found.value(&format!("extension {}", before.name), &versions(before), &versions(after));
        }
    }
    let names = |document: &Document| document.extensions.iter().map(|found| found.name.clone()).collect();
    found.set("extensions of the source", &names(planned), &names(now));
    found.plan(&planned.plan, &now.plan);
    found.0
}

#[derive(Debug, Default)]
struct Found(Vec<Difference>);

impl Found {
    fn push(&mut self, title: String, evidence: String) {
        self.0.push(Difference { title, evidence, objects: vec![] });
    }

    fn value(&mut self, what: &str, before: &str, after: &str) {
        if before != after {
            self.push(format!("{what} has changed"), format!("planned: {before}; now: {after}"));
        }
    }

    fn set(&mut self, what: &str, before: &BTreeSet<String>, after: &BTreeSet<String>) {
        for (names, verb) in [(after - before, "were added"), (before - after, "are gone")] {
            if !names.is_empty() {
                let (title, names) = (format!("{what} {verb} since the plan was made"), few(names));
                self.0.push(Difference { title, evidence: names.to_string(), objects: names.all() });
            }
        }
    }

    fn place(&mut self, side: &str, before: &Place, after: &Place) {
        if !before.database.is_same_as(&after.database) {
            let evidence = format!("planned: {}; now: {}", before.database, after.database);
            self.push(format!("the {side} is another database"), evidence);
        }
        let major = |place: &Place| format!("PostgreSQL {}", place.major);
        self.value(&format!("the {side}'s server"), &major(before), &major(after));
    }

    fn plan(&mut self, before: &Plan, after: &Plan) {
        self.value("the source's search_path", &before.search_path, &after.search_path);
        let encoding = |plan: &Plan| plan.copy_encoding.clone().unwrap_or_else(|| "UTF8".into());
        self.value("the encoding that values travel in", &encoding(before), &encoding(after));
        self.replaced(before, after);
        let admin = |plan: &Plan| plan.admin.clone().unwrap_or_else(|| "nobody".into());
        self.value("who does what needs a superuser", &admin(before), &admin(after));
        let names = |tables: &[TablePlan]| tables.iter().map(|table| table.name.to_string()).collect();
        self.set("tables", &names(&before.tables), &names(&after.tables));
        self.tables(&before.tables, &after.tables);
        let views = |plan: &Plan| names(&plan.materialized_views);
        self.set("materialised views", &views(before), &views(after));
        self.tables(&before.materialized_views, &after.materialized_views);
        let names = |names: &[QualifiedName]| names.iter().map(ToString::to_string).collect();
        self.set("partitioned tables", &names(&before.partitioned), &names(&after.partitioned));
        self.set("sequences", &names(&before.sequences), &names(&after.sequences));
        let schemas = |plan: &Plan| {
            plan.existing_schemas
                .iter()
                .map(|schema| format!("{} of {}", schema.name, schema.owner))
                .collect()
        };
        self.set("schemas that the target has before", &schemas(before), &schemas(after));
        self.roles(before, after);
        self.steps(before, after);
        let left = |plan: &Plan| {
            plan.not_carried.iter().map(|left| format!("{} ({})", left.object, left.reason)).collect()
        };
        self.set("things that are not carried", &left(before), &left(after));
    }

    fn replaced(&mut self, before: &Plan, after: &Plan) {
        let told = |plan: &Plan| match &plan.replaced {
            None => "nothing of the target is dropped (no --replace)".to_owned(),
            Some(objects) => {
                let first =
                    few(objects.first.iter().map(|object| format!("{} {}", object.kind, object.name)));
                format!("{} are dropped: {first}", crate::preflight::counted(objects.count, "object"))
            }
        };
        self.value("what is dropped on the target first", &told(before), &told(after));
    }

    /// How each table that both plans have is copied and compared.
    fn tables(&mut self, before: &[TablePlan], after: &[TablePlan]) {
        for table in before {
            let Some(now) = after.iter().find(|now| now.name == table.name) else { continue };
            if let Some((what, [was, is])) = changed(table, now) {
                self.push(
                    format!(
                        "{} of {} {} changed",
                        what,
                        table.name,
                        if what == "columns" { "have" } else { "has" }
                    ),
                    format!("planned: {was}; now: {is}"),
                );
            }
        }
    }

    /// What large objects are given to; the other roles of the target stand in the statements.
    fn roles(&mut self, before: &Plan, after: &Plan) {
        let owner = |plan: &Plan| match &plan.roles.owners {
            Owners::Keep => "as on the source".to_owned(),
            Owners::All(role) => role.clone(),
        };
        self.value("the owner of everything", &owner(before), &owner(after));
        let creator = |plan: &Plan| {
            let role = plan.roles.creator.clone().unwrap_or_else(|| "nobody".to_owned());
            if plan.roles.may_impersonate { format!("{role}, a superuser") } else { role }
        };
        self.value("the role that makes everything", &creator(before), &creator(after));
        // A superuser can give them to any role.
        if !(before.roles.may_impersonate && after.roles.may_impersonate) {
            let roles = [&before.roles.assignable, &after.roles.assignable];
            self.set("roles that objects can be given to", roles[0], roles[1]);
        }
    }

    fn steps(&mut self, before: &Plan, after: &Plan) {
        self.order(before, after);
        let (planned, now) = (by_object(before), by_object(after));
        let names = |steps: &BTreeMap<&str, Vec<&Step>>| steps.keys().map(|&name| name.to_owned()).collect();
        self.set("objects", &names(&planned), &names(&now));
        let mut changed = BTreeSet::new();
        for (object, steps) in &planned {
            let Some(others) = now.get(object) else { continue };
            let told = |steps: &[&Step]| steps.iter().map(|step| told(step)).collect::<Vec<_>>().join("; ");
            let hidden =
                |steps: &[&Step]| steps.iter().map(|step| step.masked_digest.clone()).collect::<Vec<_>>();
            if told(steps) != told(others) {
                self.value(object, &told(steps), &told(others));
            } else if hidden(steps) != hidden(others) {
                self.push(
                    format!("{object} has changed"),
                    format!("a value that is not shown is another one: {}", told(others)),
                );
            } else {
                continue;
            }
            changed.insert(*object);
        }
        self.rewrites(before, after, &changed);
    }

    /// The first step that comes earlier than it was planned. pg_dump's order hangs on what depends on what.
    fn order(&mut self, before: &Plan, after: &Plan) {
        let objects = |plan: &Plan| plan.steps.iter().map(|step| step.object.clone()).collect::<Vec<_>>();
        let (planned, now) = (objects(before), objects(after));
        let is_same_set = || planned.iter().collect::<BTreeSet<_>>() == now.iter().collect::<BTreeSet<_>>();
        if let Some(at) = planned.iter().zip(&now).position(|(was, is)| was != is).filter(|_| is_same_set()) {
            let told = |objects: &[String]| format!("step {} is {}", at + 1, objects[at]);
            self.value("the order of steps", &told(&planned), &told(&now));
        }
    }

    /// Also where what comes of them is the same; `told` are objects that were named before.
    fn rewrites(&mut self, before: &Plan, after: &Plan, told: &BTreeSet<&str>) {
        let rewrites = |plan: &Plan| {
            let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for change in plan.rewrites.iter().filter(|change| !told.contains(change.object.as_str())) {
                let becomes = change.after.as_deref().unwrap_or("(left out)");
                let text = format!("{:?} of {} -> {becomes}", change.rewrite, change.before);
                found.entry(change.object.clone()).or_default().push(text);
            }
            found
        };
        let (planned, now) = (rewrites(before), rewrites(after));
        for object in planned.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
            let is_step = |plan: &Plan| plan.steps.iter().any(|step| step.object == *object);
            // One that has come or gone is named as that.
            if is_step(before) == is_step(after) {
                let text = |found: &BTreeMap<String, Vec<String>>| {
                    found.get(object).map_or_else(|| "none".to_owned(), |texts| texts.join("; "))
                };
                self.value(&format!("the rewrite of {object}"), &text(&planned), &text(&now));
            }
        }
    }
}

fn by_object(plan: &Plan) -> BTreeMap<&str, Vec<&Step>> {
    let mut found: BTreeMap<&str, Vec<&Step>> = BTreeMap::new();
    for step in &plan.steps {
        found.entry(&step.object).or_default().push(step);
    }
    found
}

/// What a step does.
fn told(step: &Step) -> String {
    let route = match step.route {
        Route::Owner => "",
        Route::Admin => " (as admin)",
        Route::Operator => " (by the operator)",
    };
    format!("{}{route}", step.shown().join("; "))
}

/// The first thing in which a table is copied or compared otherwise.
fn changed(before: &TablePlan, after: &TablePlan) -> Option<(&'static str, [String; 2])> {
    let columns = |table: &TablePlan| {
        let generated = table.generated.iter().map(|column| format!("{} generated", column.name));
        let columns = table.columns.iter().map(|column| column.name.clone());
        columns.chain(generated).collect::<Vec<_>>().join(", ")
    };
    let format = |table: &TablePlan| {
        let columns = table.columns.iter().chain(&table.generated);
        columns.map(|column| format!("{} {:?}", column.name, column.treatment)).collect::<Vec<_>>().join(", ")
    };
    let rows = |table: &TablePlan| table.condition.clone().unwrap_or_else(|| "all".to_owned());
    let logged = |table: &TablePlan| if table.is_unlogged { "unlogged" } else { "logged" }.to_owned();
    let facts = |table: &TablePlan| {
        [
            ("columns", columns(table)),
            ("the format", format(table)),
            ("the primary key", table.key.join(", ")),
            ("the choice of rows", rows(table)),
            ("the persistence", logged(table)),
        ]
    };
    let mut pairs = facts(before).into_iter().zip(facts(after));
    pairs.find(|((_, was), (_, is))| was != is).map(|((what, was), (_, is))| (what, [was, is]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Oid;
    use crate::plan::columns::Treatment;
    use crate::plan::{Chunk, LargeObjectBatch, NotCarried};
    use crate::report::sample;

    fn titles(change: impl FnOnce(&mut Document)) -> Vec<String> {
        let planned = sample::document();
        let mut now = planned.clone();
        change(&mut now);
        differences(&planned, &now).into_iter().map(|found| found.title).collect()
    }

    #[test]
    fn what_grows_is_no_change() {
        let grown = titles(|now| {
            let table = &mut now.plan.tables[0];
            table.bytes *= 2;
            table.heap_bytes *= 2;
            table.estimated_rows = None;
            table.chunks = vec![Chunk::WHOLE];
            now.plan.large_objects = vec![LargeObjectBatch { first: Oid(1), last: Oid(2) }];
            now.estimate.table_bytes *= 2;
            now.target.server = "18.99".into();
        });
        assert_eq!(grown, Vec::<String>::new());
    }

    #[test]
    fn each_change_is_named() {
        type Change = fn(&mut Document);
        let changes: [(&str, Change); 19] = [
            ("the source is another database", |now| now.source.database.oid = Oid(1)),
            ("the target's server has changed", |now| now.target.major += 1),
            ("extension vector has changed", |now| now.extensions[0].target = Some("0.9.0".into())),
            ("extensions of the source were added since the plan was made", |now| {
                let other =
                    crate::event::ExtensionVersions { name: "cube".into(), ..now.extensions[0].clone() };
                now.extensions.push(other);
            }),
            ("tables were added since the plan was made", |now| {
                let mut table = now.plan.tables[0].clone();
                table.name.name = "new".into();
                now.plan.tables.push(table);
            }),
            ("tables are gone since the plan was made", |now| {
                now.plan.tables.pop();
            }),
            ("columns of public.asset have changed", |now| {
                now.plan.tables[0].columns[0].name = "other".into();
            }),
            ("the format of public.asset has changed", |now| {
                now.plan.tables[0].columns[0].treatment = Treatment::Text("it is a raw OID".into());
            }),
            ("the primary key of public.asset has changed", |now| now.plan.tables[0].key.clear()),
            ("the persistence of public.asset has changed", |now| now.plan.tables[0].is_unlogged = true),
            ("TABLE public.asset has changed", |now| {
                now.plan.steps[1].statements = vec!["CREATE TABLE public.asset (id bigint)".into()];
            }),
            ("EXTENSION vchord has changed", |now| now.plan.steps[0].route = Route::Owner),
            ("objects are gone since the plan was made", |now| {
                now.plan.steps.pop();
            }),
            ("TABLE public.asset has changed", |now| {
                now.plan.steps[1].masked_digest = Some("another secret".into());
            }),
            ("the order of steps has changed", |now| now.plan.steps.swap(0, 1)),
            ("the role that makes everything has changed", |now| now.plan.roles.may_impersonate = true),
            ("roles that objects can be given to were added since the plan was made", |now| {
                now.plan.roles.assignable.insert("other".into());
            }),
            ("the rewrite of INDEX public.clip_index has changed", |now| {
                let changes = &mut now.plan.rewrites;
                let change = changes.iter_mut().find(|change| change.object == "INDEX public.clip_index");
                change.expect("it is rewritten").before = "CREATE INDEX, other than it was".into();
            }),
            ("things that are not carried were added since the plan was made", |now| {
                now.plan
                    .not_carried
                    .push(NotCarried { object: "SERVER old".into(), reason: "a password".into() });
            }),
        ];
        for (title, change) in changes {
            assert_eq!(titles(change), [title]);
        }
        let named =
            titles(|now| now.plan.replaced = Some(crate::catalog::UserObjects { count: 0, first: vec![] }));
        assert_eq!(named, ["what is dropped on the target first has changed"]);
    }
}
