//! Reading without writing: the source's own count, and what the target holds.

use std::sync::Arc;

use crate::event::{Event, Stage};
use crate::transfer::lane::{Lane, LaneError, Origin, StreamError};
use crate::transfer::relay::{self, RelayError};

impl Lane {
    /// Counts a table of the source in the snapshot: chunks that did not tile the table would show here. An
    /// archive was counted so before it was finished; its manifest tells the number.
    pub(super) async fn count(&mut self, table: usize) -> Result<(), LaneError> {
        let shared = Arc::clone(&self.shared);
        let planned = &shared.plan.tables[table];
        let what = format!("could not count {}", planned.name);
        let Some(source) = self.source(&what).await? else {
            let Origin::Archive(archive) = &shared.origin else { unreachable!("a server has a session") };
            let stored = archive.manifest().digest(table);
            self.found(|found| found.counted[table] = stored.map(|digest| digest.rows));
            return Ok(());
        };
        // The server reads all of it by itself.
        if let Some(rate) = &shared.rate {
            rate.pay(planned.heap_bytes).await;
        }
        let row = source.client.query_one(&planned.count(), &[]).await;
        let row = row.map_err(|error| LaneError::Session {
            source: source.failed(format!("count {}", planned.name), error),
            what,
        })?;
        let rows = u64::try_from(row.get::<_, i64>(0)).unwrap_or_default();
        self.found(|found| found.counted[table] = Some(rows));
        Ok(())
    }

    /// Reads a part of a loaded table back from the target and hashes it. The parts are cut by the target's pages.
    pub(super) async fn read_back(&mut self, table: usize, part: usize) -> Result<(), LaneError> {
        let shared = Arc::clone(&self.shared);
        let (planned, lane) = (&shared.plan.tables[table], self.number);
        let what = format!("could not read back {}", planned.name);
        let target = self.target(&what).await?;
        let range = shared.pages[table].part(target, &planned.name, (part, planned.chunks.len())).await;
        let range = range.map_err(|error| LaneError::Session {
            what: what.clone(),
            source: target.failed(format!("measure {}", planned.name), error),
        })?;
        let stream = |source| LaneError::Stream { what: what.clone(), source: StreamError(source) };
        // Values that name objects (`regclass`) are spelled by `search_path`: it must be that of the source's sessions.
        let session = |source| LaneError::Session { what: what.clone(), source };
        let begin = "BEGIN READ ONLY; SET LOCAL search_path TO pg_catalog";
        target.run(begin, "begin").await.map_err(session)?;
        let rows =
            target.copy_out(&planned.copy_hashed(range)).await.map_err(RelayError::Target).map_err(stream)?;
        let digest = relay::read(
            rows,
            planned.columns.len(),
            &planned.masked(),
            shared.stall.into(),
            |rows, bytes| {
                shared.events.emit(Event::Progress { stage: Stage::Verify, lane, rows, bytes });
            },
        )
        .await
        .map_err(stream)?;
        target.copy_ended().await.map_err(|error| LaneError::Session {
            what: what.clone(),
            source: target.failed("end the COPY", error),
        })?;
        target.run("COMMIT", "end the reading").await.map_err(session)?;
        self.found(|found| found.read_back[table] += digest);
        Ok(())
    }
}
