//! Rows that the source itself cannot read: their table or materialised view, where they are, and what the server says.
//!
//! Every value is read as the copy will read it, on the server, so that only a count crosses the network. A table that
//! cannot be read is halved until the pages and rows are known that it fails at.

use tokio_postgres::error::SqlState;

use super::read::{ReadError, Reader, Refusal, refusal};
use super::{Input, Skipped, blocking};
use crate::catalog::Catalog;
use crate::event::{Event, Events, Stage};
use crate::pg::QualifiedName;
use crate::plan::TablePlan;
use crate::plan::columns::ColumnPlan;
use crate::preflight::{Finding, few};

/// Rows that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Their table.
    pub table: QualifiedName,
    /// `(12,3)`, `page 12`; nothing where only the table is known.
    pub place: Option<String>,
    /// What the server says, with its SQLSTATE.
    pub words: String,
}

/// So many places of a table are named, and so often it is asked for them.
const MOST_PLACES: usize = 10;
const MOST_PROBES: usize = 500;

/// An offset that no row of a page has: to read it is to read the page.
const NO_ROW: u64 = 65_000;

/// A piece of a table, from (inclusive) to (exclusive).
#[derive(Debug, Clone, Copy)]
enum Piece {
    Pages(u64, u64),
    Rows { page: u64, from: u64, to: u64 },
}

impl Piece {
    /// The condition for it. Single rows are fetched by their ctid, which every server does.
    fn filter(self) -> String {
        let row = |page, offset| format!("'({page},{offset})'::pg_catalog.tid");
        match self {
            Piece::Pages(from, to) => format!("ctid >= {} AND ctid < {}", row(from, 0), row(to, 0)),
            Piece::Rows { page, from, to } => {
                let rows: Vec<String> = (from..to).map(|offset| row(page, offset)).collect();
                format!("ctid = ANY (ARRAY[{}])", rows.join(", "))
            }
        }
    }

    fn halves(self) -> [Piece; 2] {
        match self {
            Piece::Pages(from, to) => {
                let middle = u64::midpoint(from, to);
                [Piece::Pages(from, middle), Piece::Pages(middle, to)]
            }
            Piece::Rows { page, from, to } => {
                let middle = u64::midpoint(from, to);
                [Piece::Rows { page, from, to: middle }, Piece::Rows { page, from: middle, to }]
            }
        }
    }
}

/// Reads every table through, and tells where it cannot.
pub(super) async fn read(
    reader: &Reader<'_>,
    source: &Catalog,
    tables: &[TablePlan],
    events: &Events,
) -> Result<(Vec<Damage>, Vec<Skipped>), ReadError> {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    let has_ranges = source.server.major() >= 14;
    for table in tables {
        events.emit(Event::ItemStarted {
            stage: Stage::Check,
            lane: 0,
            item: table.name.to_string(),
            table: Some(table.name.to_string()),
            bytes: Some(table.bytes),
        });
        let begun = std::time::Instant::now();
        let probe = Probe { reader, statement: statement(table), what: format!("read {}", table.name) };
        match probe.ask(None).await? {
            None => {}
            Some(Refusal { code: Some(code), words }) if code == SqlState::INSUFFICIENT_PRIVILEGE => {
                skipped.push(Skipped { what: format!("the rows of {}", table.name), why: words });
            }
            Some(refusal) => {
                let pages =
                    source.tables.iter().find(|known| known.name == table.name).map(|known| known.pages);
                let pages = pages.filter(|_| has_ranges).unwrap_or(0);
                let (mut places, are_all) = probe.places(pages, source.server.block_size).await?;
                if !are_all {
                    skipped.push(Skipped {
                        what: format!("further places of {} that cannot be read", table.name),
                        why: format!(
                            "{} were found and told; look again when these are mended",
                            places.len()
                        ),
                    });
                }
                if places.is_empty() {
                    places.push((None, refusal.words));
                }
                let damage = |(place, words)| Damage { table: table.name.clone(), place, words };
                found.extend(places.into_iter().map(damage));
            }
        }
        events.emit(Event::Progress { stage: Stage::Check, lane: 0, rows: 0, bytes: table.bytes });
        events.emit(Event::ItemFinished {
            stage: Stage::Check,
            lane: 0,
            item: table.name.to_string(),
            seconds: begun.elapsed().as_secs_f64(),
        });
    }
    Ok((found, skipped))
}

/// Counts rows after having made the bytes of each value, as COPY does.
fn statement(table: &TablePlan) -> String {
    let values: Vec<String> = table.columns.iter().chain(&table.generated).map(ColumnPlan::hashed).collect();
    let row =
        if values.is_empty() { "*".to_owned() } else { format!("record_send(ROW({}))", values.join(", ")) };
    format!("SELECT count({row}) FROM ONLY {}", table.name.sql())
}

/// A place, if one is known, and what the server says of it.
type Place = (Option<String>, String);

/// The question whether a table can be read.
struct Probe<'a> {
    reader: &'a Reader<'a>,
    statement: String,
    what: String,
}

impl Probe<'_> {
    /// What the server says if a piece cannot be read.
    async fn ask(&self, piece: Option<Piece>) -> Result<Option<Refusal>, ReadError> {
        let filter = piece.map(|piece| format!(" WHERE {}", piece.filter())).unwrap_or_default();
        match self.reader.rows(&format!("{}{filter}", self.statement), &[], &self.what).await {
            Ok(_) => Ok(None),
            Err(error) => refusal(error).map(Some),
        }
    }

    /// The places that cannot be read, of a table of so many pages, and whether these are all.
    async fn places(&self, pages: u64, block_size: u64) -> Result<(Vec<Place>, bool), ReadError> {
        // A row takes a line pointer and a header (`MaxHeapTuplesPerPage` in access/htup_details.h).
        let most_rows = block_size / 28;
        let mut places = Vec::new();
        let mut open = if pages > 0 { vec![Piece::Pages(0, pages)] } else { vec![] };
        let mut probes = 0;
        while let Some(piece) = open.pop() {
            if places.len() >= MOST_PLACES || probes >= MOST_PROBES {
                return Ok((places, false));
            }
            probes += 1;
            let Some(refusal) = self.ask(Some(piece)).await? else { continue };
            match piece {
                Piece::Pages(page, to) if to - page == 1 => {
                    let whole = Piece::Rows { page, from: NO_ROW, to: NO_ROW + 1 };
                    if self.ask(Some(whole)).await?.is_some() {
                        places.push((Some(format!("page {page}")), refusal.words));
                    } else {
                        open.push(Piece::Rows { page, from: 1, to: most_rows + 1 });
                    }
                }
                Piece::Rows { page, from, to } if to - from == 1 => {
                    places.push((Some(format!("({page},{from})")), refusal.words));
                }
                _ => {
                    let [first, second] = piece.halves();
                    // The last one in is the next.
                    open.extend([second, first]);
                }
            }
        }
        Ok((places, true))
    }
}

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    let mut tables: Vec<&QualifiedName> = input.found.damage.iter().map(|damage| &damage.table).collect();
    tables.dedup();
    let finding = |table: &QualifiedName| {
        let damages = || input.found.damage.iter().filter(|damage| damage.table == *table);
        let described = |damage: &Damage| match &damage.place {
            Some(place) => format!("{place}: {}", damage.words),
            None => damage.words.clone(),
        };
        let row = damages().filter_map(|damage| damage.place.as_deref()).find(|place| place.starts_with('('));
        if input.source.materialized_views.iter().any(|view| view.name == *table) {
            return blocking(
                "rows-unreadable",
                format!("rows of materialised view {table} cannot be read on the source"),
                few(damages().map(described)),
                format!("make them anew: REFRESH MATERIALIZED VIEW {};", table.sql()),
            );
        }
        let how = row.map_or_else(
            || {
                "a page that is damaged as a whole can be emptied by reading it with zero_damaged_pages = on, as a \
                 superuser, which loses its rows"
                    .to_owned()
            },
            |row| format!("DELETE FROM {} WHERE ctid = '{row}';", table.sql()),
        );
        blocking(
            "rows-unreadable",
            format!("rows of {table} cannot be read on the source"),
            few(damages().map(described)),
            format!(
                "take the table from a backup; or, after a copy of the data directory was made, and if the application can \
                 do without these rows or compute them again: {how}"
            ),
        )
    };
    tables.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_halved_without_a_gap() {
        let [one, other] = Piece::Pages(3, 8).halves();
        assert_eq!(one.filter(), "ctid >= '(3,0)'::pg_catalog.tid AND ctid < '(5,0)'::pg_catalog.tid");
        assert_eq!(other.filter(), "ctid >= '(5,0)'::pg_catalog.tid AND ctid < '(8,0)'::pg_catalog.tid");
        let [one, other] = Piece::Rows { page: 7, from: 1, to: 4 }.halves();
        assert_eq!(one.filter(), "ctid = ANY (ARRAY['(7,1)'::pg_catalog.tid])");
        assert_eq!(other.filter(), "ctid = ANY (ARRAY['(7,2)'::pg_catalog.tid, '(7,3)'::pg_catalog.tid])");
    }
}
