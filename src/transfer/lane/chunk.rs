//! Copying one chunk: its rows and its ledger row in one transaction of the target.

use crate::event::{Event, Stage};
use crate::transfer::digest::Digest;
use crate::transfer::lane::{Lane, LaneError, StreamError};
use crate::transfer::ledger::{self, Durability};
use crate::transfer::relay::{self, NoTee, RelayError, Rows};
use crate::transfer::work::Work;

impl Lane {
    pub(super) async fn copy_chunk(&mut self, table: usize, chunk: usize) -> Result<(), LaneError> {
        let work = Work::Chunk { table, chunk };
        let what = format!("could not copy {}", self.describe(work));
        let shared = std::sync::Arc::clone(&self.shared);
        let (planned, lane) = (&shared.plan.tables[table], self.number);
        let range = planned.chunks[chunk];
        let session = |source| LaneError::Session { what: what.clone(), source };
        let stream = |source| LaneError::Stream { what: what.clone(), source: StreamError(source) };
        let progress = |rows, bytes| {
            shared.events.emit(Event::Progress { stage: Stage::Copy, lane, rows, bytes });
        };

        let (source, target) = self.sessions(&what).await?;
        // Only this chunk can have put rows there, in an attempt that was cut: TRUNCATE takes them away, and
        // lets the rows be loaded frozen, so that nothing has to visit them again.
        let is_whole = planned.chunks.len() == 1 && planned.condition.is_none();
        let begin =
            if is_whole { format!("BEGIN; TRUNCATE ONLY {}", planned.name.sql()) } else { "BEGIN".into() };
        target.run(&begin, format!("empty {}", planned.name)).await.map_err(session)?;
        let out =
            source.copy_out(&planned.copy_out(range)).await.map_err(RelayError::Source).map_err(stream)?;
        let into =
            target.copy_in(&planned.copy_in(is_whole)).await.map_err(RelayError::Target).map_err(stream)?;
        let rows = planned.rows();
        let mut digest =
            relay::relay(out, into, &rows, shared.stall, &mut NoTee, progress).await.map_err(stream)?;
        for (side, what) in [(source, "end the COPY"), (target, "end the COPY")] {
            side.copy_ended().await.map_err(|error| session(side.failed(what, error)))?;
        }
        if matches!(rows, Rows::Text) {
            let hashed = source
                .copy_out(&planned.copy_hashed(range))
                .await
                .map_err(RelayError::Source)
                .map_err(stream)?;
            let hashed =
                relay::read(hashed, planned.columns.len(), &planned.masked(), shared.stall, |_, _| ())
                    .await
                    .map_err(stream)?;
            source.copy_ended().await.map_err(|error| session(source.failed("end the COPY", error)))?;
            if hashed.rows != digest.rows {
                return Err(stream(RelayError::Count { sent: hashed.rows, loaded: digest.rows }));
            }
            digest = hashed;
        }
        let durability = if planned.is_unlogged { Durability::Unlogged } else { Durability::Logged };
        let item = work.item(&shared.plan).expect("a chunk is in the ledger");
        let commit = format!("{}; COMMIT", ledger::record(&item, Some(digest), durability));
        target.run(&commit, "commit the rows with their ledger row").await.map_err(session)?;
        self.remember(table, digest);
        Ok(())
    }

    fn remember(&self, table: usize, digest: Digest) {
        self.found(|found| found.copied[table] += digest);
    }
}
