//! A freeze and its rollback, for a person.

use std::fmt::Write as _;

use crate::cutover::freeze::FreezePlan;
use crate::cutover::object::spelled;
use crate::cutover::record::{FieldChange, shown};
use crate::cutover::rollback::Restoration;
use crate::report::text::{Colour, Page, count};

/// What a freeze changes, or has changed.
pub fn freeze(plan: &FreezePlan, page: Page) -> String {
    let mut out = String::new();
    let changes = count(plan.changes.len() as u64, "object", "objects");
    let _ = writeln!(out, "{}  {changes}", page.paint("freeze", Colour::Bold));
    for (index, change) in plan.changes.iter().enumerate() {
        page.wrap(&mut out, &format!("  {:>2}. ", index + 1), &change.object.to_string());
        for field in &change.fields {
            page.wrap(&mut out, "        ", &line(field, &field.former, &field.frozen));
        }
        page.wrap(&mut out, "        because ", &change.reason);
    }
    for (word, colour, texts) in
        [("blocking", Colour::Red, &plan.obstacles), ("note", Colour::Yellow, &plan.notes)]
    {
        for text in texts {
            let mut entry = String::new();
            page.wrap(&mut entry, &format!("{word}: "), text);
            out.push_str(&entry.replacen(word, &page.paint(word, colour), 1));
        }
    }
    out
}

fn line(field: &FieldChange, from: &serde_json::Value, to: &serde_json::Value) -> String {
    format!("{}: {} -> {}", spelled(&field.field), shown(from), shown(to))
}

/// What was put back, and what was not.
pub fn restoration(found: &Restoration, page: Page) -> String {
    let mut out = String::new();
    let objects = count(found.restored.len() as u64, "object", "objects");
    let _ = writeln!(out, "{}  {objects} put back", page.paint("rollback", Colour::Bold));
    for restored in &found.restored {
        page.wrap(&mut out, "  ", &restored.object.to_string());
        for field in &restored.fields {
            page.wrap(&mut out, "      ", &line(field, &field.frozen, &field.former));
        }
    }
    let mut problem = |word: &str, text: String| {
        let mut entry = String::new();
        page.wrap(&mut entry, &format!("{word}: "), &text);
        out.push_str(&entry.replacen(word, &page.paint(word, Colour::Yellow), 1));
    };
    for restored in &found.restored {
        for left in &restored.left {
            let by = left.by.as_ref().map(|by| format!(", set {by}")).unwrap_or_default();
            problem(
                "left as it is",
                format!(
                    "{}: {} is {}{by}; before the freeze it was {}",
                    restored.object,
                    spelled(&left.field),
                    shown(&left.now),
                    shown(&left.former)
                ),
            );
        }
    }
    for object in &found.gone {
        problem("gone", format!("{object} was removed or replaced since it was frozen"));
    }
    for failed in &found.failed {
        problem("not put back", format!("{}: {}", failed.object, failed.reason));
    }
    for place in &found.unsearched {
        problem("not searched", place.clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::cutover::field_manager::FieldManager;
    use crate::cutover::object::ObjectKey;
    use crate::cutover::record::{Change, Left};
    use crate::cutover::rollback::{Failed, Restored};
    use crate::report::sample;

    fn object(kind: &str, name: &str) -> ObjectKey {
        ObjectKey {
            group: "apps".into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: format!("{}s", kind.to_lowercase()),
            namespace: "media".into(),
            name: name.into(),
            uid: "u".into(),
        }
    }

    fn scaled() -> FieldChange {
        FieldChange { field: "/spec/replicas".into(), former: json!(2), frozen: json!(0) }
    }

    #[test]
    fn a_freeze_for_a_person() {
        let marked = FieldChange {
            field: "/metadata/annotations/kustomize.toolkit.fluxcd.io~1reconcile".into(),
            former: json!(null),
            frozen: json!("disabled"),
        };
        let plan = FreezePlan {
            source: Some(object("StatefulSet", "immich-postgres")),
            changes: vec![
                Change {
                    object: object("StatefulSet", "immich-postgres"),
                    reason: "Flux must not prune what the source needs".into(),
                    fields: vec![marked],
                    addresses: BTreeSet::new(),
                },
                Change {
                    object: object("Deployment", "immich-server"),
                    reason: "Pod media/immich-server-5d9-a is connected: session 11 of role immich (immich)"
                        .into(),
                    fields: vec![scaled()],
                    addresses: BTreeSet::new(),
                },
            ],
            obstacles: vec!["deploy/absent is not in namespace media".into()],
            notes: vec!["Job media/backup begins anew when it is resumed".into()],
        };
        insta::assert_snapshot!(freeze(&plan, sample::PAGE));
    }

    #[test]
    fn a_rollback_for_a_person() {
        let left = Left {
            field: "/spec/replicas".into(),
            former: json!(1),
            now: json!(3),
            by: Some(FieldManager { name: "kubectl-scale".into(), at: None, is_certain: true }),
        };
        let found = Restoration {
            restored: vec![
                Restored {
                    object: object("Deployment", "immich-server"),
                    fields: vec![scaled()],
                    left: vec![],
                },
                Restored { object: object("StatefulSet", "indexer"), fields: vec![], left: vec![left] },
            ],
            gone: vec![object("Deployment", "immich-machine-learning")],
            failed: vec![Failed {
                object: object("CronJob", "backup"),
                reason:
                    "could not patch CronJob backup in namespace media: account jane may not patch cronjobs"
                        .into(),
            }],
            unsearched: vec![
                "helmreleases in namespace media: account jane may not list helmreleases".into(),
            ],
        };
        insta::assert_snapshot!(restoration(&found, sample::PAGE));
    }
}
