//! Copying one chunk: its rows and its ledger row in one transaction of the target, and the same stream into the
//! archive where one is written.

use std::sync::Arc;

use crate::event::{Event, Stage};
use crate::pg::Session;
use crate::plan::TablePlan;
use crate::transfer::archive::{self, Archive, Defect, Member, WireFormat};
use crate::transfer::digest::Digest;
use crate::transfer::lane::{Lane, LaneError, Origin, StreamError};
use crate::transfer::ledger::{self, Durability};
use crate::transfer::relay::{self, RelayError, Rows};
use crate::transfer::work::Work;

impl Lane {
    pub(super) async fn copy_chunk(&mut self, table: usize, chunk: usize) -> Result<(), LaneError> {
        let work = Work::Chunk { table, chunk };
        let what = format!("could not copy {}", self.describe(work));
        let shared = Arc::clone(&self.shared);
        let (planned, lane) = (&shared.plan.tables[table], self.number);
        let range = planned.chunks[chunk];
        let session = |source| LaneError::Session { what: what.clone(), source };
        let stream = |source| LaneError::Stream { what: what.clone(), source: StreamError(source) };
        let progress = |rows, bytes| {
            shared.events.emit(Event::Progress { stage: Stage::Copy, lane, rows, bytes });
        };

        self.open_both(&what).await?;
        let (source, target) = self.both();
        // Only this chunk can have put rows there, in an attempt that was cut: TRUNCATE takes them away, and
        // lets the rows be loaded frozen, so that nothing has to visit them again.
        let is_whole = planned.chunks.len() == 1 && planned.condition.is_none();
        let begin =
            if is_whole { format!("BEGIN; TRUNCATE ONLY {}", planned.name.sql()) } else { "BEGIN".into() };
        target.run(&begin, format!("empty {}", planned.name)).await.map_err(session)?;
        let into =
            target.copy_in(&planned.copy_in(is_whole)).await.map_err(RelayError::Target).map_err(stream)?;
        let rows = planned.rows();
        let member = work.member().expect("a chunk has its place in an archive");
        let digest = match (&shared.origin, source) {
            (Origin::Archive(archive), _) => {
                let format = if matches!(rows, Rows::Text) { WireFormat::Text } else { WireFormat::Binary };
                let stored = archive.read(&member).map_err(RelayError::from).map_err(stream)?;
                let stored = archive::rows(stored, format);
                let read = relay::relay(
                    stored,
                    into,
                    &rows.clone().archived(),
                    shared.stall.into(),
                    &mut None,
                    progress,
                )
                .await;
                let digest = confirm(archive, &member, &rows, read).map_err(stream)?;
                target.copy_ended().await.map_err(|error| session(target.failed("end the COPY", error)))?;
                digest
            }
            (Origin::Server { .. }, source) => {
                let source = source.expect("a move from a server has a session there");
                let mut file = match &shared.archive {
                    Some(writer) => {
                        Some(writer.chunk(member).await.map_err(RelayError::from).map_err(stream)?)
                    }
                    None => None,
                };
                let out = source.copy_out(&planned.copy_out(range)).await;
                let out = relay::from_server(out.map_err(RelayError::Source).map_err(stream)?);
                let digest = relay::relay(out, into, &rows, shared.pace(), &mut file, progress)
                    .await
                    .map_err(stream)?;
                for side in [source, target] {
                    side.copy_ended().await.map_err(|error| session(side.failed("end the COPY", error)))?;
                }
                let digest = self.hash_text(source, planned, range, digest).await.map_err(stream)?;
                // Before the commit: what the ledger has, the archive has.
                if let Some(file) = file {
                    file.finish(digest).await.map_err(RelayError::from).map_err(stream)?;
                }
                digest
            }
        };
        let durability = if planned.is_unlogged { Durability::Unlogged } else { Durability::Logged };
        let item = work.item(&shared.plan).expect("a chunk is in the ledger");
        let commit = format!("{}; COMMIT", ledger::record(&item, Some(digest), durability));
        target.run(&commit, "commit the rows with their ledger row").await.map_err(session)?;
        self.remember(table, digest);
        Ok(())
    }

    /// Copies a chunk into the archive only.
    pub(super) async fn store_chunk(&mut self, table: usize, chunk: usize) -> Result<(), LaneError> {
        let work = Work::StoreChunk { table, chunk };
        let what = format!("could not archive {}", self.describe(work));
        let shared = Arc::clone(&self.shared);
        let (planned, lane) = (&shared.plan.tables[table], self.number);
        let range = planned.chunks[chunk];
        let stream = |source| LaneError::Stream { what: what.clone(), source: StreamError(source) };
        let progress = |rows, bytes| {
            shared.events.emit(Event::Progress { stage: Stage::Copy, lane, rows, bytes });
        };
        let (writer, member) = (shared.archive.as_ref(), work.member());
        let (writer, member) = writer.zip(member).expect("only a move with an archive has such tasks");
        self.source(&what).await?;
        let source = self.source.as_ref().expect("it was just opened");
        let mut file = writer.chunk(member).await.map_err(RelayError::from).map_err(stream)?;
        let out =
            source.copy_out(&planned.copy_out(range)).await.map_err(RelayError::Source).map_err(stream)?;
        let digest =
            relay::store(relay::from_server(out), &mut file, &planned.rows(), shared.pace(), progress)
                .await
                .map_err(stream)?;
        source.copy_ended().await.map_err(|error| LaneError::Session {
            what: what.clone(),
            source: source.failed("end the COPY", error),
        })?;
        let digest = self.hash_text(source, planned, range, digest).await.map_err(stream)?;
        file.finish(digest).await.map_err(RelayError::from).map_err(stream)?;
        if shared.target.is_none() {
            self.remember(table, digest);
        }
        Ok(())
    }

    /// The digest of a chunk that was read: text is counted only, so its rows are read once more to be hashed.
    async fn hash_text(
        &self,
        source: &Session,
        planned: &TablePlan,
        range: crate::plan::Chunk,
        digest: Digest,
    ) -> Result<Digest, RelayError> {
        if !matches!(planned.rows(), Rows::Text) {
            return Ok(digest);
        }
        let rows = source.copy_out(&planned.copy_hashed(range)).await.map_err(RelayError::Source)?;
        let (columns, masked) = (planned.columns.len(), planned.masked());
        let hashed = relay::read(rows, columns, &masked, self.shared.pace(), |_, _| ()).await?;
        source.copy_ended().await.map_err(RelayError::Source)?;
        if hashed.rows != digest.rows {
            return Err(RelayError::Count { sent: hashed.rows, loaded: digest.rows });
        }
        Ok(hashed)
    }

    fn remember(&self, table: usize, digest: Digest) {
        self.found(|found| found.copied[table] += digest);
    }
}

/// The manifest's digest of a chunk, if `read` (what reading its rows gave) confirms it. Text is counted only.
pub(crate) fn confirm(
    archive: &Archive,
    member: &Member,
    rows: &Rows,
    read: Result<Digest, RelayError>,
) -> Result<Digest, RelayError> {
    let defect = match read {
        Ok(found) => {
            let expected = archive.manifest().chunk(member).map(|record| record.digest).unwrap_or_default();
            let is_equal = match rows {
                Rows::Text => found.rows == expected.rows,
                Rows::Binary { .. } => found == expected,
            };
            if is_equal {
                return Ok(expected);
            }
            Defect::Digest { expected: expected.into(), found: found.into() }
        }
        Err(error @ (RelayError::Row { .. } | RelayError::Convert { .. } | RelayError::Stream(_))) => {
            Defect::Rows(error.to_string())
        }
        Err(error) => return Err(error),
    };
    Err(archive.damaged(member, defect).into())
}
