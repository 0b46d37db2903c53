//! A table of the target, cut into parts by its pages.

use std::sync::OnceLock;

use crate::pg::{QualifiedName, Session};
use crate::plan::Chunk;

/// How many pages a table had when its first part was read. All parts are cut from this one number: they tile the table,
/// whatever VACUUM or new rows make of its size meanwhile.
#[derive(Debug, Default)]
pub struct Pages(OnceLock<u64>);

impl Pages {
    /// The range of part `number` of so many `parts`.
    pub async fn part(
        &self,
        session: &Session,
        table: &QualifiedName,
        (number, parts): (usize, usize),
    ) -> Result<Chunk, tokio_postgres::Error> {
        if parts == 1 {
            return Ok(Chunk::WHOLE);
        }
        if let Some(pages) = self.0.get() {
            return Ok(range(*pages, number, parts));
        }
        let statement = include_str!("../../sql/verify/pages.sql");
        let row = session.client.query_one(statement, &[&table.sql()]).await?;
        let pages = u64::try_from(row.get::<_, i64>("pages")).unwrap_or_default();
        // Another lane may have been first.
        Ok(range(*self.0.get_or_init(|| pages), number, parts))
    }
}

fn range(pages: u64, number: usize, parts: usize) -> Chunk {
    let bound = |number: usize| pages * number as u64 / parts as u64;
    Chunk { from: (number > 0).then(|| bound(number)), to: (number + 1 < parts).then(|| bound(number + 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_tile_a_table_of_any_size() {
        for pages in [0, 1, 2, 7, 1000] {
            let parts: Vec<Chunk> = (0..5).map(|number| range(pages, number, 5)).collect();
            assert_eq!((parts[0].from, parts[4].to), (None, None));
            assert!(parts.windows(2).all(|pair| pair[0].to.is_some() && pair[0].to == pair[1].from));
        }
    }
}
