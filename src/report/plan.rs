//! The plan, for a person: what will be done, in the order of the stages.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::event::ExtensionVersions;
use crate::plan::columns::Treatment;
use crate::plan::document::{Document, Place};
use crate::plan::{Phase, Plan, Route, Step, TablePlan};
use crate::preflight::few;
use crate::report::grid::grid;
use crate::report::text::{Colour, Page, bytes, count, duration, escape, number};
use crate::schema::{Change, Rewrite};

/// So many tables are listed, the largest; the rest is counted.
const LISTED_TABLES: usize = 20;
/// Of a rewrite that touches nearly every object, so many changes are shown; all are in the JSON.
pub(super) const LISTED_CHANGES: usize = 3;

/// What a run does beside the plan's own steps.
const AROUND: [(&str, &str); 3] = [
    (
        "before: ",
        "with --freeze what writes to the source is stopped, with --fence the source refuses writes; the plan is made once \
         more, of the snapshot that is moved",
    ),
    (
        "meanwhile: ",
        "the target is read-only by default for everybody else, and its schema pgmove (the ledger) holds what is done",
    ),
    (
        "after: ",
        "every table, sequence, definition, right and setting is compared, vector indexes are searched; with the verdict the \
         ledger and the mark are taken away",
    ),
];

/// The whole plan. `is_verbose`: nothing of it is shortened.
pub fn plan(document: &Document, is_verbose: bool, page: Page) -> String {
    let plan = &document.plan;
    let mut out = String::new();
    let place = |place: &Place| format!("{} (PostgreSQL {})", place.database.name, place.server);
    let places = format!("{} to {}", place(&document.source), place(&document.target));
    let lanes = count(plan.jobs.into(), "lane", "lanes");
    page.wrap(&mut out, "plan ", &format!("{}, {lanes}", escape(&places)));
    extensions(&document.extensions, page, &mut out);
    if let Some(admin) = &plan.admin {
        page.wrap(&mut out, "admin ", &escape(admin));
    }
    replaced(plan, page, &mut out);
    schema(plan, is_verbose, page, &mut out);
    copy(plan, is_verbose, page, &mut out);
    indexes(plan, document.workers, is_verbose, page, &mut out);
    finish(plan, is_verbose, page, &mut out);
    rewrites(plan, is_verbose, page, &mut out);
    if !plan.not_carried.is_empty() {
        head(page, &mut out, "not carried", "the target will not have it");
        for left in &plan.not_carried {
            page.wrap(&mut out, "  ", &format!("{}: {}", escape(&left.object), escape(&left.reason)));
        }
    }
    head(page, &mut out, "around", "what each run does beside");
    for (when, what) in AROUND {
        page.wrap(&mut out, &format!("  {when}"), what);
    }
    estimate(document, page, &mut out);
    out
}

fn extensions(extensions: &[ExtensionVersions], page: Page, out: &mut String) {
    if extensions.is_empty() {
        return;
    }
    head(page, out, "extensions", "version on the source, and the one that the target has or would create");
    for found in extensions {
        let target = found.target.as_deref().unwrap_or("not offered");
        page.wrap(out, "  ", &escape(&format!("{}: {} -> {target}", found.name, found.source)));
    }
}

fn estimate(document: &Document, page: Page, out: &mut String) {
    let estimate = &document.estimate;
    let sizes = format!(
        "tables {}, indexes {}, large objects {}",
        bytes(estimate.table_bytes),
        bytes(estimate.index_bytes),
        bytes(estimate.large_object_bytes)
    );
    head(page, out, "estimate", &sizes);
    page.wrap(out, "  ", &estimate.bytes_basis);
    #[expect(clippy::cast_precision_loss, reason = "seconds of a window are far below 2^52")]
    let time = duration(estimate.seconds as f64);
    let how_long = if estimate.measured { format!("about {time}") } else { format!("{time} at least") };
    page.wrap(out, "  ", &format!("the window will take {how_long}: {}", estimate.seconds_basis));
}

fn head(page: Page, out: &mut String, title: &str, text: &str) {
    let _ = writeln!(out, "\n{}  {text}", page.paint(&format!("{title:<8}"), Colour::Bold));
}

fn indent(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "  {line}");
    }
}

fn steps(plan: &Plan, wanted: fn(&Phase) -> bool) -> Vec<&Step> {
    plan.steps.iter().filter(|step| wanted(&step.phase)).collect()
}

/// Every statement of these steps that goes over the admin connection.
fn admin(steps: &[&Step], page: Page, out: &mut String) {
    for step in steps.iter().filter(|step| step.route == Route::Admin) {
        page.wrap(out, "  as admin: ", &escape(&step.object));
        for statement in step.shown() {
            page.wrap(out, "    ", &statement);
        }
    }
}

fn replaced(plan: &Plan, page: Page, out: &mut String) {
    let Some(objects) = plan.replaced.as_ref().filter(|objects| objects.count > 0) else { return };
    let text = format!("{} of the target dropped", count(objects.count, "object is", "objects are"));
    head(page, out, "replace", &text);
    for object in &objects.first {
        page.wrap(out, "  ", &escape(&format!("{} {}", object.kind, object.name)));
    }
    let rest = objects.count.saturating_sub(objects.first.len() as u64);
    if rest > 0 {
        let _ = writeln!(out, "  and {} more", number(rest));
    }
}

fn schema(plan: &Plan, is_verbose: bool, page: Page, out: &mut String) {
    let steps = steps(plan, |phase| matches!(phase, Phase::PreData));
    head(page, out, "schema", &count(steps.len() as u64, "step", "steps"));
    if is_verbose {
        in_order(&steps, page, out);
    }
    for step in steps.iter().filter(|step| step.route == Route::Operator) {
        page.wrap(out, "  by the operator, from a Database resource: ", &escape(&step.object));
    }
    admin(&steps, page, out);
}

fn copy(plan: &Plan, is_verbose: bool, page: Page, out: &mut String) {
    let total = plan.tables.iter().map(|table| table.bytes).sum();
    let chunks = plan.tables.iter().map(|table| table.chunks.len() as u64).sum();
    let mut parts = vec![
        count(plan.tables.len() as u64, "table", "tables"),
        bytes(total),
        count(chunks, "chunk", "chunks"),
    ];
    let sequences = plan.sequences.len() as u64;
    parts.extend((sequences > 0).then(|| count(sequences, "sequence", "sequences")));
    let batches = plan.large_objects.len() as u64;
    parts.extend((batches > 0).then(|| count(batches, "batch of large objects", "batches of large objects")));
    head(page, out, "copy", &parts.join(", "));

    let mut sorted: Vec<&TablePlan> = plan.tables.iter().collect();
    sorted.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
    let row = |table: &&TablePlan| {
        vec![
            table.name.to_string(),
            format(table).to_owned(),
            number(table.chunks.len() as u64),
            bytes(table.bytes),
            table.estimated_rows.map_or("unknown".into(), number),
        ]
    };
    let listed = if is_verbose { sorted.len() } else { sorted.len().min(LISTED_TABLES) };
    let rows: Vec<Vec<String>> = sorted[..listed].iter().map(row).collect();
    if !rows.is_empty() {
        // The grid stands two columns in.
        let page = Page { width: page.width.saturating_sub(2), ..page };
        indent(out, &grid(page, &["table", "format", ">chunks", ">size", ">rows, estimated"], &rows));
    }
    let rest = &sorted[listed..];
    if !rest.is_empty() {
        let size = rest.iter().map(|table| table.bytes).sum();
        let _ = writeln!(out, "  and {} more, {} in all", number(rest.len() as u64), bytes(size));
    }
    for table in &plan.tables {
        if let Some(reason) = table.text_reason() {
            let line = format!("{} travels as text: {}", escape(&table.name.to_string()), escape(&reason));
            page.wrap(out, "  ", &line);
        }
        if let Some(condition) = &table.condition {
            let line = format!("{}: only rows {}", escape(&table.name.to_string()), escape(condition));
            page.wrap(out, "  ", &line);
        }
    }
}

fn format(table: &TablePlan) -> &'static str {
    let is_converted = table.columns.iter().any(|column| column.treatment == Treatment::Embedding);
    match (table.text_reason(), is_converted) {
        (Some(_), _) => "text",
        (None, true) => "binary, embeddings converted",
        (None, false) => "binary",
    }
}

fn indexes(plan: &Plan, workers: u32, is_verbose: bool, page: Page, out: &mut String) {
    let steps = steps(plan, |phase| matches!(phase, Phase::Build { .. } | Phase::ForeignKey { .. }));
    let foreign_keys =
        steps.iter().filter(|step| matches!(step.phase, Phase::ForeignKey { .. })).count() as u64;
    let builds = steps.len() as u64 - foreign_keys;
    let text = format!(
        "{}, {}",
        count(builds, "index or constraint", "indexes and constraints"),
        count(foreign_keys, "foreign key", "foreign keys")
    );
    head(page, out, "indexes", &text);
    let text = format!(
        "{} of memory for all that are built at once, and up to {} for each, as the target is set",
        bytes(plan.index_memory),
        count(workers.into(), "parallel worker", "parallel workers")
    );
    page.wrap(out, "  ", &text);
    by_memory(&steps, is_verbose, page, out);
    if is_verbose {
        let of_key = |step: &&&Step| matches!(step.phase, Phase::ForeignKey { .. });
        let foreign_keys: Vec<&Step> = steps.iter().filter(of_key).copied().collect();
        in_order(&foreign_keys, page, out);
    }
    let vectors: Vec<Vec<String>> = steps
        .iter()
        .filter_map(|step| Some((step, step.vector_index.as_ref()?)))
        .map(|(step, index)| {
            vec![
                index.index.to_string(),
                format!("{} of {}", index.column, index.table),
                index.access_method.clone(),
                if index.lists > 0 { number(index.lists) } else { String::new() },
                bytes(step.maintenance_work_mem + index.memory),
            ]
        })
        .collect();
    if !vectors.is_empty() {
        let page = Page { width: page.width.saturating_sub(2), ..page };
        indent(out, &grid(page, &["vector index", "column", "method", ">lists", ">memory"], &vectors));
    }
    admin(&steps, page, out);
}

/// What the steps make, in their order.
fn in_order(steps: &[&Step], page: Page, out: &mut String) {
    let names: Vec<String> = steps.iter().map(|step| escape(&step.object).to_string()).collect();
    if !names.is_empty() {
        page.wrap(out, "  ", &format!("in order: {}", names.join(", ")));
    }
}

/// How many builds get how much memory.
fn by_memory(steps: &[&Step], is_verbose: bool, page: Page, out: &mut String) {
    let mut sizes: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    let plain = |step: &&&Step| matches!(step.phase, Phase::Build { .. }) && step.vector_index.is_none();
    for step in steps.iter().filter(plain) {
        sizes.entry(step.maintenance_work_mem).or_default().push(&step.object);
    }
    for (memory, objects) in sizes.iter().rev() {
        let memory = match memory {
            0 => "with the memory that the target is set to".to_owned(),
            memory => format!("with {} each", bytes(*memory)),
        };
        let names = objects.iter().map(|object| escape(object));
        let names = if is_verbose { names.collect::<Vec<_>>().join(", ") } else { few(names).to_string() };
        page.wrap(out, "  ", &format!("{memory}: {names}"));
    }
}

/// Whether a step gives rights.
fn is_grant(step: &Step) -> bool {
    ["ACL ", "DEFAULT ACL ", "grants "].iter().any(|kind| step.object.starts_with(kind))
}

fn finish(plan: &Plan, is_verbose: bool, page: Page, out: &mut String) {
    let steps = steps(plan, |phase| matches!(phase, Phase::Finish));
    head(page, out, "finish", &count(steps.len() as u64, "step", "steps"));
    for step in steps.iter().filter(|step| step.object.starts_with("setting ") && step.route == Route::Owner)
    {
        page.wrap(out, "  ", &step.shown().join("; "));
    }
    let grants: Vec<&Step> = plan.steps.iter().filter(|step| is_grant(step)).collect();
    if !grants.is_empty() {
        let objects = count(grants.len() as u64, "object with grants", "objects with grants");
        if is_verbose {
            let _ = writeln!(out, "  {objects}:");
            for statement in grants.iter().flat_map(|step| step.shown()) {
                page.wrap(out, "    ", &statement);
            }
        } else {
            let names = few(grants.iter().map(|step| escape(&step.object)));
            page.wrap(out, "  ", &format!("{objects}: {names}"));
        }
    }
    let views: Vec<String> = plan.materialized_views.iter().map(|view| view.name.to_string()).collect();
    if !views.is_empty() {
        page.wrap(out, "  ", &format!("refreshed and compared apart: {}", escape(&views.join(", "))));
    }
    admin(&steps, page, out);
}

fn rewrites(plan: &Plan, is_verbose: bool, page: Page, out: &mut String) {
    let mut by_rule: BTreeMap<Rewrite, Vec<&Change>> = BTreeMap::new();
    for change in &plan.rewrites {
        by_rule.entry(change.rewrite).or_default().push(change);
    }
    if by_rule.is_empty() {
        return;
    }
    head(
        page,
        out,
        "rewrites",
        &count(plan.rewrites.len() as u64, "changed statement", "changed statements"),
    );
    for (rule, changes) in by_rule {
        let shown = if is_everywhere(rule) && !is_verbose { LISTED_CHANGES } else { usize::MAX };
        let _ = writeln!(out, "  {}: {}", name(rule), number(changes.len() as u64));
        for change in changes.iter().take(shown) {
            page.wrap(out, "    ", &format!("{}: {}", escape(&change.object), escape(&change.reason)));
            page.wrap(out, "      - ", &change.before);
            page.wrap(out, "      + ", change.after.as_deref().unwrap_or("(left out)"));
        }
        if changes.len() > shown {
            let _ = writeln!(out, "    and {} more alike", number((changes.len() - shown) as u64));
        }
    }
}

/// Whether a rewrite touches nearly every object.
pub(super) fn is_everywhere(rule: Rewrite) -> bool {
    matches!(rule, Rewrite::Owner | Rewrite::Role | Rewrite::Grantor | Rewrite::UniqueIndex)
}

pub(super) fn name(rule: Rewrite) -> &'static str {
    match rule {
        Rewrite::Owner => "owner",
        Rewrite::Role => "role",
        Rewrite::Grantor => "grantor",
        Rewrite::Extension => "extension",
        Rewrite::LegacySchema => "legacy schema",
        Rewrite::ExistingSchema => "existing schema",
        Rewrite::Type => "type",
        Rewrite::VectorIndex => "vector index",
        Rewrite::CreatePrivilege => "create privilege",
        Rewrite::UniqueIndex => "unique index",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_plan_for_a_person() {
        insta::assert_snapshot!(plan(&sample::document(), false, sample::PAGE));
    }

    #[test]
    fn a_plan_names_every_admin_statement_and_counts_small_tables() {
        let mut document = sample::document();
        let many = &mut document.plan;
        let small = many.tables[0].clone();
        many.tables.extend((0..30).map(|number| {
            let mut table = small.clone();
            table.name.name = format!("t{number}");
            table.bytes = 8192;
            table
        }));
        document.plan.admin = Some("psql as postgres in the pod of cluster/new in media".into());
        let grant = Step {
            object: "ACL public.TABLE asset".into(),
            phase: Phase::Finish,
            statements: vec!["GRANT SELECT ON TABLE public.asset TO reader".into()],
            ..document.plan.steps[1].clone()
        };
        document.plan.steps.push(grant);
        let text = plan(&document, false, sample::PAGE);
        assert!(text.contains("\nadmin psql as postgres in the pod of cluster/new in media\n"), "{text}");
        let statements: Vec<&String> = document
            .plan
            .steps
            .iter()
            .filter(|step| step.route == Route::Admin)
            .flat_map(|step| &step.statements)
            .collect();
        assert!(
            !statements.is_empty() && statements.iter().all(|statement| text.contains(*statement)),
            "{text}"
        );
        assert!(text.contains("\n  and 13 more, 104 KiB in all\n"), "{text}");
        assert!(text.contains("1 object with grants: ACL public.TABLE asset"), "{text}");
        for implicit in ["--freeze", "--fence", "read-only", "ledger", "compared"] {
            assert!(text.contains(implicit), "no {implicit} in {text}");
        }
        let all = plan(&document, true, sample::PAGE);
        assert!((0..30).all(|number| all.contains(&format!("public.t{number} "))), "{all}");
        assert!(all.contains("\n    GRANT SELECT ON TABLE public.asset TO reader\n"), "{all}");
        assert!(!all.contains(" more alike") && !all.contains("  and "), "{all}");
    }
}
