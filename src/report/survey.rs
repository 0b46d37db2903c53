//! What `pgmove check` has seen, for a person: both sides, sizes, needs, what was looked at.

use std::fmt::Write as _;

use crate::report::grid::grid;
use crate::report::text::{Colour, Page, bytes, count, escape, number};
use crate::survey::{Side, Size, Summary};

/// Everything but the findings.
pub fn survey(summary: &Summary, page: Page) -> String {
    let mut out = String::new();
    for (name, side) in [("source", &summary.source), ("target", &summary.target)] {
        head(page, &mut out, name, &described(side));
    }
    out.push('\n');
    let mut parts = vec![
        format!("{}, {}", count(summary.table_count, "table", "tables"), bytes(summary.row_bytes)),
        format!("{}, {}", count(summary.index_count, "index", "indexes"), bytes(summary.index_bytes)),
    ];
    let large_objects = summary.large_objects;
    parts.extend((large_objects > 0).then(|| count(large_objects, "large object", "large objects")));
    head(page, &mut out, "size", &parts.join("; "));
    let table = |size: &Size| {
        vec![
            size.name.clone(),
            size.rows.map_or("unknown".into(), number),
            bytes(size.bytes),
            bytes(size.index_bytes),
        ]
    };
    let index =
        |size: &Size| vec![size.name.clone(), size.table.clone().unwrap_or_default(), bytes(size.bytes)];
    columns(
        page,
        &mut out,
        &["largest tables", ">rows, estimated", ">size", ">its indexes"],
        &summary.tables,
        table,
    );
    columns(page, &mut out, &["largest indexes", "table", ">size"], &summary.indexes, index);
    let needs = &summary.needs;
    let text = format!("up to {} on the target's volume", bytes(needs.total));
    head(page, &mut out, "needs", &text);
    let parts = format!(
        "rows {}, indexes {}, sorting for indexes {}, WAL {} (max_wal_size; up to {} where it is archived or kept for a standby)",
        bytes(needs.rows),
        bytes(needs.indexes),
        bytes(needs.sorting),
        bytes(needs.wal),
        bytes(needs.rows + needs.indexes)
    );
    page.wrap(&mut out, "  ", &parts);
    let free = "free space: not known, SQL does not tell it; compare with the size of the target's volume, and what it holds";
    page.wrap(&mut out, "  ", free);
    out.push('\n');
    let build = |build: &crate::survey::VectorBuild| {
        vec![
            build.index.clone(),
            build.access_method.clone(),
            bytes(build.maintenance_work_mem),
            bytes(build.beside),
        ]
    };
    let titles = ["vector index", "as", ">maintenance_work_mem", ">memory beside"];
    columns(page, &mut out, &titles, &summary.vector_builds, build);
    let extension = |row: &crate::survey::ExtensionRow| {
        let is_preloaded = match row.is_preloaded {
            Some(true) => "yes",
            Some(false) => "no",
            None => "hidden",
        };
        vec![
            row.name.clone(),
            row.source.clone().unwrap_or_default(),
            row.target.clone().unwrap_or_default(),
            row.created_by.to_owned(),
            is_preloaded.to_owned(),
        ]
    };
    let titles = ["extension", "source", "target", "created there by", "preloaded there"];
    columns(page, &mut out, &titles, &summary.extensions, extension);
    page.wrap(&mut out, "looked at: ", &summary.looked_at.join("; "));
    for skipped in &summary.skipped {
        page.wrap(&mut out, "not looked at: ", &escape(&format!("{}: {}", skipped.what, skipped.why)));
    }
    out.push('\n');
    out
}

fn head(page: Page, out: &mut String, title: &str, text: &str) {
    let _ = writeln!(out, "{}  {}", page.paint(&format!("{title:<6}"), Colour::Bold), escape(text));
}

fn described(side: &Side) -> String {
    format!(
        "PostgreSQL {}, database {} as {}, {}, {}, {}",
        side.version,
        side.database,
        side.role,
        bytes(side.bytes),
        side.encoding,
        side.locale
    )
}

/// A table of these, and an empty line; nothing without rows.
fn columns<T>(page: Page, out: &mut String, titles: &[&str], items: &[T], row: impl Fn(&T) -> Vec<String>) {
    if items.is_empty() {
        return;
    }
    // The grid stands two columns in.
    let page = Page { width: page.width.saturating_sub(2), ..page };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    for line in grid(page, titles, &rows).lines() {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
}
