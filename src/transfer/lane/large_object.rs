//! Copying a batch of large objects: contents, owners and grants, with the ledger row in one transaction.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::Oid as RawOid;

use crate::event::{Event, Stage};
use crate::pg::acl::{self, AclItem};
use crate::pg::{quote_identifier, quote_literal};
use crate::plan::LargeObjectBatch;
use crate::schema::rewrite::Roles;
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
        // What an earlier attempt of the run has left there is no longer in the ledger: it goes.
        let begin = format!("BEGIN; {}", remove(planned));
        target.run(&begin, "begin").await.map_err(session)?;
        let objects = source
            .client
            .query(
                include_str!("../../../sql/transfer/large_objects.sql"),
                &[&planned.first.0, &planned.last.0],
            )
            .await
            .map_err(|error| session(source.failed("list large objects", error)))?;
        for object in objects {
            let oid: RawOid = object.get("oid");
            let rights = rights(&object, &shared.plan.roles);
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
                    .query_one(
                        include_str!("../../../sql/transfer/read_large_object.sql"),
                        &[&oid, &offset, &PIECE],
                    )
                    .await
                    .map_err(|error| session(source.failed(format!("read large object {oid}"), error)))?;
                let piece: &[u8] = row.get("piece");
                if piece.is_empty() {
                    break;
                }
                target
                    .client
                    .execute(
                        include_str!("../../../sql/transfer/write_large_object.sql"),
                        &[&oid, &offset, &piece],
                    )
                    .await
                    .map_err(|error| session(target.failed(format!("write large object {oid}"), error)))?;
                offset += i64::try_from(piece.len()).expect("a piece is small");
                shared.events.emit(Event::Progress {
                    stage: Stage::Copy,
                    lane,
                    rows: 0,
                    bytes: piece.len() as u64,
                });
            }
            if !rights.is_empty() {
                let what = format!("give large object {oid} its owner, grants and comment");
                target.run(&rights.join(";\n"), what).await.map_err(session)?;
            }
        }
        let item = work.item(&shared.plan).expect("a batch is in the ledger");
        let commit = format!("{}; COMMIT", ledger::record(&item, None, Durability::Logged));
        target.run(&commit, "commit the large objects with their ledger row").await.map_err(session)
    }
}

/// Removes the batch's large objects from the target, if there are any.
fn remove(batch: LargeObjectBatch) -> String {
    format!(
        "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid BETWEEN {} AND {}",
        batch.first, batch.last
    )
}

/// The statements for comment, grants and owner; the owner last, because only an owner may do the others.
fn rights(object: &Row, roles: &Roles) -> Vec<String> {
    let name = format!("LARGE OBJECT {}", object.get::<_, RawOid>("oid"));
    let (owner, comment): (String, Option<String>) = (object.get("owner"), object.get("comment"));
    let acl: Option<Vec<String>> = object.get("acl");
    let mut statements: Vec<String> =
        comment.map(|text| format!("COMMENT ON {name} IS {}", quote_literal(&text))).into_iter().collect();
    for item in acl.iter().flatten().filter_map(|text| AclItem::parse(text)) {
        let is_known = item.grantee.as_ref().is_none_or(|role| roles.existing.contains(role));
        if is_known && item.grantee.as_deref() != Some(owner.as_str()) {
            statements.extend(item.grants(&name, acl::LARGE_OBJECT));
        }
    }
    statements
        .extend(roles.owner(&owner).map(|role| format!("ALTER {name} OWNER TO {}", quote_identifier(role))));
    statements
}
