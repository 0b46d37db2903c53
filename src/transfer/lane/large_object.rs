//! Copying a batch of large objects: contents, owners, grants and comments, with the ledger row in one transaction,
//! and into the archive where one is written.

use std::sync::Arc;

use bytes::BytesMut;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;

use crate::event::{Event, Stage};
use crate::pg::acl::{self, AclItem};
use crate::pg::{Session, SessionError, quote_identifier, quote_literal};
use crate::plan::LargeObjectBatch;
use crate::schema::rewrite::Roles;
use crate::transfer::archive::{self, MemberWriter, WireFormat};
use crate::transfer::digest::{Digest, Digester};
use crate::transfer::lane::{Lane, LaneError, Origin, StreamError, confirm};
use crate::transfer::large_object::{self, PIECE, Piece};
use crate::transfer::ledger::{self, Durability};
use crate::transfer::relay::{HEADER, RelayError, TRAILER};
use crate::transfer::work::Work;

impl Lane {
    /// Copies a batch into the target, and into the archive where one is written.
    pub(super) async fn copy_large_objects(&mut self, batch: usize) -> Result<(), LaneError> {
        let work = Work::LargeObjects { batch };
        let what = format!("could not copy {}", self.describe(work));
        let shared = Arc::clone(&self.shared);
        let session = |source| LaneError::Session { what: what.clone(), source };
        self.open_both(&what).await?;
        let (source, target) = self.both();
        // What an earlier attempt of the run has left there is no longer in the ledger: it goes.
        let begin = format!("BEGIN; {}", remove(shared.plan.large_objects[batch]));
        target.run(&begin, "begin").await.map_err(session)?;
        let digest = self.pass_on(work, batch, source, Some(target), &what).await?;
        let item = work.item(&shared.plan).expect("a batch is in the ledger");
        let commit = format!("{}; COMMIT", ledger::record(&item, Some(digest), Durability::Logged));
        target.run(&commit, "commit the large objects with their ledger row").await.map_err(session)
    }

    /// Copies a batch into the archive only.
    pub(super) async fn store_large_objects(&mut self, batch: usize) -> Result<(), LaneError> {
        let work = Work::StoreLargeObjects { batch };
        let what = format!("could not archive {}", self.describe(work));
        self.source(&what).await?;
        self.pass_on(work, batch, self.source.as_ref(), None, &what).await.map(drop)
    }

    async fn pass_on(
        &self,
        work: Work,
        batch: usize,
        source: Option<&Session>,
        target: Option<&Session>,
        what: &str,
    ) -> Result<Digest, LaneError> {
        let shared = &self.shared;
        let member = work.member().expect("a batch has its place in an archive");
        let stream = |source| LaneError::Stream { what: what.to_owned(), source: StreamError(source) };
        let file = match &shared.archive {
            Some(writer) => {
                Some(writer.chunk(member.clone()).await.map_err(RelayError::from).map_err(stream)?)
            }
            None => None,
        };
        let mut sink =
            Sink { lane: self, what, target, file, digester: large_object::digester(), row: BytesMut::new() };
        sink.write(HEADER).await?;
        let objects = match (&shared.origin, source) {
            (Origin::Archive(archive), _) => {
                let reader = archive.read(&member).map_err(RelayError::from).map_err(stream)?;
                let mut rows = std::pin::pin!(archive::rows(reader, WireFormat::Binary));
                let damaged = |source| RelayError::Row { row: 0, source };
                let mut outcome = Ok(());
                while let Some(row) = rows.next().await {
                    match row {
                        Ok(row) if row == HEADER || row == TRAILER => {}
                        Ok(row) => match Piece::parse(&row).map_err(damaged) {
                            Ok(piece) => sink.put(piece).await?,
                            Err(error) => outcome = Err(error),
                        },
                        Err(error) => outcome = Err(error),
                    }
                    if outcome.is_err() {
                        break;
                    }
                }
                let read = outcome.map(|()| sink.digester.digest());
                confirm(archive, &member, &large_object::rows(), read).map_err(stream)?;
                let objects = archive.document(&attachment(batch)).await;
                objects.map_err(RelayError::from).map_err(stream)?
            }
            (Origin::Server { .. }, source) => {
                let source = source.expect("a move from a server has a session there");
                let failed = |source| LaneError::Session { what: what.to_owned(), source };
                let objects = describe(source, shared.plan.large_objects[batch]).await.map_err(failed)?;
                let passed = pieces(source, &objects, async |piece| {
                    let length = piece.bytes.len() as u64;
                    sink.put(piece).await.map_err(PassError::Lane)?;
                    if let Some(rate) = &shared.rate {
                        rate.pay(length).await;
                    }
                    Ok::<_, PassError>(())
                });
                passed.await.map_err(|error| error.within(what))?;
                if let Some(writer) = &shared.archive {
                    let written = writer.attach_document(&attachment(batch), &objects).await;
                    written.map_err(RelayError::from).map_err(stream)?;
                }
                objects
            }
        };
        // After all pieces: an object that belongs to another role can no longer be written.
        if let Some(target) = target {
            for object in &objects {
                let statements = rights(object, &shared.plan.roles).join(";\n");
                let rights = format!("give large object {} its owner, grants and comment", object.oid);
                let given = target.run(&statements, rights).await;
                given.map_err(|source| LaneError::Session { what: what.to_owned(), source })?;
            }
        }
        sink.write(TRAILER).await?;
        let digest = sink.digester.digest();
        if let Some(file) = sink.file {
            file.finish(digest).await.map_err(RelayError::from).map_err(stream)?;
        }
        Ok(digest)
    }
}

/// What stands beside a large object's contents.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) oid: u32,
    pub(crate) owner: String,
    /// `aclitem` texts; `None` is the default.
    pub(crate) acl: Option<Vec<String>>,
    pub(crate) comment: Option<String>,
}

async fn describe(session: &Session, batch: LargeObjectBatch) -> Result<Vec<Description>, SessionError> {
    let statement = include_str!("../../../sql/transfer/large_objects.sql");
    let rows = session.client.query(statement, &[&batch.first.0, &batch.last.0]).await;
    let rows = rows.map_err(|error| session.failed("list large objects", error))?;
    let description = |row: &Row| Description {
        oid: row.get("oid"),
        owner: row.get("owner"),
        acl: row.get("acl"),
        comment: row.get("comment"),
    };
    Ok(rows.iter().map(description).collect())
}

/// Reads large objects of a server piece by piece.
async fn pieces<E: From<SessionError>>(
    session: &Session,
    objects: &[Description],
    mut take: impl AsyncFnMut(Piece<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for &Description { oid, .. } in objects {
        let mut offset: i64 = 0;
        loop {
            let row = session
                .client
                .query_one(
                    include_str!("../../../sql/transfer/read_large_object.sql"),
                    &[&oid, &offset, &PIECE],
                )
                .await
                .map_err(|error| session.failed(format!("read large object {oid}"), error))?;
            let bytes: &[u8] = row.get("piece");
            if bytes.is_empty() && offset > 0 {
                break;
            }
            take(Piece { oid, offset, bytes }).await?;
            offset += i64::try_from(bytes.len()).expect("a piece is small");
            if bytes.len() < PIECE as usize {
                break;
            }
        }
    }
    Ok(())
}

/// Removes the batch's large objects from the target, if there are any.
pub(crate) fn remove(batch: LargeObjectBatch) -> String {
    format!(
        "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid BETWEEN {} AND {}",
        batch.first, batch.last
    )
}

/// The statements for comment, grants and owner; the owner last, because only an owner may do the others.
fn rights(object: &Description, roles: &Roles) -> Vec<String> {
    let name = format!("LARGE OBJECT {}", object.oid);
    let comment = object.comment.iter().map(|text| format!("COMMENT ON {name} IS {}", quote_literal(text)));
    let mut statements: Vec<String> = comment.collect();
    for item in object.acl.iter().flatten().filter_map(|text| AclItem::parse(text)) {
        let is_known = item.grantee.as_ref().is_none_or(|role| roles.existing.contains(role));
        if is_known && item.grantee.as_deref() != Some(object.owner.as_str()) {
            statements.extend(item.grants(&name, acl::LARGE_OBJECT));
        }
    }
    let owner = roles.owner(&object.owner);
    statements.extend(owner.map(|role| format!("ALTER {name} OWNER TO {}", quote_identifier(role))));
    statements
}

/// The attachment with the descriptions of a batch.
pub(crate) fn attachment(batch: usize) -> String {
    format!("large-objects-{batch}.json")
}

/// Why a piece did not get from one side to the other.
enum PassError {
    Read(SessionError),
    Lane(LaneError),
}

impl From<SessionError> for PassError {
    fn from(error: SessionError) -> Self {
        PassError::Read(error)
    }
}

impl PassError {
    fn within(self, what: &str) -> LaneError {
        match self {
            PassError::Read(source) => LaneError::Session { what: what.to_owned(), source },
            PassError::Lane(error) => error,
        }
    }
}

/// Where pieces go.
struct Sink<'a> {
    lane: &'a Lane,
    what: &'a str,
    target: Option<&'a Session>,
    file: Option<MemberWriter>,
    digester: Digester,
    row: BytesMut,
}

impl Sink<'_> {
    async fn put(&mut self, piece: Piece<'_>) -> Result<(), LaneError> {
        let Piece { oid, offset, bytes } = piece;
        if let Some(target) = self.target {
            let failed = |action: &str, error| LaneError::Session {
                what: self.what.to_owned(),
                source: target.failed(format!("{action} large object {oid}"), error),
            };
            if offset == 0 {
                let create = include_str!("../../../sql/transfer/create_large_object.sql");
                target.client.execute(create, &[&oid]).await.map_err(|error| failed("create", error))?;
            }
            if !bytes.is_empty() {
                let write = include_str!("../../../sql/transfer/write_large_object.sql");
                target
                    .client
                    .execute(write, &[&oid, &offset, &bytes])
                    .await
                    .map_err(|error| failed("write", error))?;
            }
        }
        self.row.clear();
        piece.write(&mut self.row);
        let row = std::mem::take(&mut self.row);
        self.digester.row(&row).map_err(|source| self.failed(RelayError::Row { row: 0, source }))?;
        self.write(&row).await?;
        self.row = row;
        let (lane, bytes) = (self.lane.number, bytes.len() as u64);
        self.lane.emit(Event::Progress { stage: Stage::Copy, lane, rows: 0, bytes });
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), LaneError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write(bytes).await;
        written.map_err(|error| self.failed(error.into()))
    }

    fn failed(&self, source: RelayError) -> LaneError {
        LaneError::Stream { what: self.what.to_owned(), source: StreamError(source) }
    }
}
