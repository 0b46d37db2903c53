//! Large objects that the source itself cannot read. They are read piece by piece, and stay on their server: what crosses the
//! network is a hash.

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::read::{ReadError, Reader, refusal};
use super::{Input, Skipped, blocking};
use crate::pg::Oid;
use crate::preflight::{Finding, few};

/// So many are listed and read together.
const BATCH: i64 = 200;

/// So much of each is read at once.
const PIECE: i32 = 1 << 20;

/// So many that cannot be read are named.
const MOST: usize = 20;

/// Reads all of them, and tells which cannot be, with the server's words.
pub(super) async fn read(reader: &Reader<'_>) -> Result<(Vec<(Oid, String)>, Vec<Skipped>), ReadError> {
    let (mut found, mut skipped) = (Vec::new(), Vec::new());
    let statement = include_str!("../../sql/verify/large_objects.sql");
    let mut last = 0_u32;
    loop {
        let rows = reader.rows(statement, &[&last, &BATCH], "list the large objects").await?;
        let oids: Vec<u32> = rows.iter().map(|row: &Row| row.get("oid")).collect();
        let Some(&end) = oids.last() else { return Ok((found, skipped)) };
        last = end;
        // One that cannot be read is found by halving the batch.
        let mut open = vec![oids];
        while let Some(oids) = open.pop() {
            if found.len() >= MOST {
                let next = oids.first().map_or(last, |oid| *oid);
                skipped.push(Skipped {
                    what: format!("large objects from {next} on"),
                    why: format!("{MOST} cannot be read already"),
                });
                return Ok((found, skipped));
            }
            let Err(error) = pieces(reader, &oids).await else { continue };
            let refused = refusal(error)?;
            if let [oid] = oids[..] {
                if refused.code == Some(SqlState::INSUFFICIENT_PRIVILEGE) {
                    skipped.push(Skipped { what: format!("large object {oid}"), why: refused.words });
                } else {
                    found.push((Oid(oid), refused.words));
                }
            } else {
                let (first, second) = oids.split_at(oids.len() / 2);
                // The last one in is the next.
                open.extend([second.to_vec(), first.to_vec()]);
            }
        }
    }
}

/// Reads these from one end to the other.
async fn pieces(reader: &Reader<'_>, oids: &[u32]) -> Result<(), ReadError> {
    let statement = include_str!("../../sql/verify/large_object_pieces.sql");
    let (mut oids, mut offset) = (oids.to_vec(), 0_i64);
    while !oids.is_empty() {
        let rows = reader.rows(statement, &[&oids, &offset, &PIECE], "read large objects").await?;
        let is_whole = |row: &&Row| row.get::<_, i32>("length") == PIECE;
        oids = rows.iter().filter(is_whole).map(|row| row.get("oid")).collect();
        offset += i64::from(PIECE);
    }
    Ok(())
}

pub(super) fn findings(input: &Input<'_>) -> Vec<Finding> {
    let damaged = &input.found.damaged_objects;
    let Some((first, _)) = damaged.first() else { return vec![] };
    vec![blocking(
        "rows-unreadable",
        "large objects cannot be read on the source",
        few(damaged.iter().map(|(oid, words)| format!("{oid}: {words}"))),
        format!(
            "take them from a backup; or, after a copy of the data directory was made, and if the application can do without \
             them: SELECT lo_unlink({first});"
        ),
    )]
}
