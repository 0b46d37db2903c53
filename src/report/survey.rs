//! What `pgmove check` has seen, for a person: both sides, sizes, needs, what was looked at.

use std::fmt::Write as _;

use crate::report::grid::grid;
use crate::report::text::{Colour, Page, bytes, count, escape, number};
use crate::survey::{Needs, Side, Size, Summary};

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
    let text = format!("up to {} on the target's volume", bytes(needs.on_volume));
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
    page.wrap(&mut out, "  ", &free_space(needs));
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

fn free_space(needs: &Needs) -> String {
    let (Some(volume), Some(free)) = (needs.volume, needs.free()) else {
        return "free space: not known, SQL does not tell it; compare with the size of the target's volume, and what it holds"
            .to_owned();
    };
    let wal = match needs.wal_volume {
        Some(size) => format!("; WAL has a volume of its own of {}", bytes(size)),
        None if needs.on_volume < needs.total => "; WAL has a volume of its own".to_owned(),
        None => String::new(),
    };
    format!(
        "free space: about {}, of a volume of {} on which the server's databases hold {}{wal}",
        bytes(free),
        bytes(volume),
        bytes(needs.occupied)
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use crate::survey::{ExtensionRow, Skipped, VectorBuild};

    #[test]
    fn a_survey_for_a_person() {
        let database = |version: &str, name: &str, locale: &str| Side {
            version: version.into(),
            database: name.into(),
            role: "app".into(),
            bytes: 420 << 20,
            encoding: "UTF8".into(),
            locale: locale.into(),
        };
        let size = |name: &str, table: Option<&str>, mib: u64| Size {
            name: name.into(),
            table: table.map(str::to_owned),
            rows: table.is_none().then_some(100_000),
            bytes: mib << 20,
            index_bytes: if table.is_none() { 40 << 20 } else { 0 },
        };
        let extension = |name: &str, source: Option<&str>, target: Option<&str>, created_by| ExtensionRow {
            name: name.into(),
            source: source.map(str::to_owned),
            target: target.map(str::to_owned),
            created_by,
            is_preloaded: None,
        };
        let summary = Summary {
            source: database("14.23", "immich", "libc en_US.utf8"),
            target: database("17.6", "app", "libc C"),
            row_bytes: 310 << 20,
            index_bytes: 100 << 20,
            table_count: 67,
            index_count: 239,
            large_objects: 3,
            tables: vec![size("public.smart_search", None, 200), size("public.asset", None, 98)],
            indexes: vec![size("public.\"UQ_assets\x1b\"", Some("public.asset"), 12)],
            needs: Needs {
                rows: 310 << 20,
                indexes: 420 << 20,
                sorting: 260 << 20,
                wal: 1 << 30,
                total: 2014 << 20,
                occupied: 8 << 20,
                volume: None,
                wal_volume: None,
                on_volume: 2014 << 20,
            },
            vector_builds: vec![VectorBuild {
                index: "public.clip_index".into(),
                access_method: "vchordrq".into(),
                maintenance_work_mem: 64 << 20,
                beside: 515 << 20,
            }],
            extensions: vec![
                extension("vchord", None, Some("1.1.1 in public"), "--target-admin"),
                extension("vectors", Some("0.2.0 in vectors"), None, "nobody: vector takes its place"),
            ],
            looked_at: vec!["servers and client programs", "embeddings, row by row"],
            skipped: vec![Skipped { what: "damaged rows".into(), why: "only --deep looks for them".into() }],
        };
        insta::assert_snapshot!(survey(&summary, sample::PAGE));
        let needs = Needs {
            occupied: 3 << 30,
            volume: Some(10 << 30),
            wal_volume: Some(1 << 30),
            on_volume: 990 << 20,
            ..summary.needs
        };
        assert_eq!(
            free_space(&needs),
            "free space: about 7.00 GiB, of a volume of 10.0 GiB on which the server's databases hold 3.00 GiB; WAL has a \
             volume of its own of 1.00 GiB"
        );
    }
}
