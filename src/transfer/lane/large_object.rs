//! Copying a batch of large objects: contents, owners and grants, with the ledger row in one transaction.

use std::sync::Arc;

use tokio_postgres::types::Oid as RawOid;

use crate::event::{Event, Stage};
use crate::transfer::lane::{Lane, LaneError};
use crate::transfer::ledger::{self, Durability};
use crate::transfer::work::Work;

/// How much of a large object is read and written at once.
const PIECE: i32 = 1024 * 1024;

impl Lane {
    pub(super) async fn copy_large_objects(&mut self, batch: usize) -> Result<(), LaneError> {
        let work = Work::LargeObjects { batch };
        let what = format!("could not copy {}", self.describe(work));
        let shared = Arc::clone(&self.shared);
        let (planned, lane) = (shared.plan.large_objects[batch], self.number);
        let (source, target) = self.sessions(&what).await?;
        let session = |source| LaneError::Session { what: what.clone(), source };
        target.run("BEGIN", "begin").await.map_err(session)?;
        let objects = source
            .client
            .query(include_str!("../../../sql/transfer/large_objects.sql"), &[&planned.first.0, &planned.last.0])
            .await
            .map_err(|error| session(source.failed("list large objects", error)))?;
        for object in objects {
            let oid: RawOid = object.get("oid");
            let failed = |error| session(target.failed(format!("create large object {oid}"), error));
            target
                .client
                .execute(include_str!("../../../sql/transfer/create_large_object.sql"), &[&oid])
                .await
                .map_err(failed)?;
            let mut offset: i64 = 0;
            loop {
                let row = source
                    .client
                    .query_one(include_str!("../../../sql/transfer/read_large_object.sql"), &[&oid, &offset, &PIECE])
                    .await
                    .map_err(|error| session(source.failed(format!("read large object {oid}"), error)))?;
                let piece: &[u8] = row.get("piece");
                if piece.is_empty() {
                    break;
                }
                target
                    .client
                    .execute(include_str!("../../../sql/transfer/write_large_object.sql"), &[&oid, &offset, &piece])
                    .await
                    .map_err(|error| session(target.failed(format!("write large object {oid}"), error)))?;
                offset += piece.len() as i64;
                shared.events.emit(Event::Progress { stage: Stage::Copy, lane, rows: 0, bytes: piece.len() as u64 });
            }
        }
        let item = work.item(&shared.plan).expect("a batch is in the ledger");
        let commit = format!("{}; COMMIT", ledger::record(&item, None, Durability::Logged));
        target.run(&commit, "commit the large objects with their ledger row").await.map_err(session)
    }
}
