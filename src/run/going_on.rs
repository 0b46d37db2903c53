//! A run goes on by itself: what a cut connection, a server that restarts or a switchover has ended is taken up again from
//! the run's own journal, as `--resume` would, with its freeze standing and watched all the time.

use std::time::Duration;

use super::outcome::Interrupted;
use super::{Context, Outcome, append, by_severity, resume};
use crate::cutover::freeze::Frozen;
use crate::error::{Error, Exit, Side};
use crate::event::{Event, Stage};
use crate::journal::{Record, RunDirectory};
use crate::report::Scope;
use crate::transfer::archive::Writer;
use crate::verify::Comparison;

/// How long the first wait is, and how much longer each further one, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const GROWTH: u32 = 4;
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What outlives an attempt.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Whether the check was passed and the run is in the journal: what has never worked is not tried again.
    pub(super) is_announced: bool,
    /// The memory that the target's server has, as the first attempt found it.
    pub(super) memory_limit: Option<u64>,
    /// The freeze.
    pub(super) frozen: Option<Frozen>,
    /// How many units of work the last attempt found done.
    pub(super) units: usize,
    /// What was compared, when the verdict is written down.
    pub(super) compared: Option<(Box<Comparison>, Scope)>,
    /// An attempt has ended before the first write to the target, and none since has come so far.
    pub(super) unclaimed: Option<Unclaimed>,
}

/// What is as good as not begun: the archive, beside freeze and fence.
#[derive(Debug)]
pub(super) struct Unclaimed(pub(super) Option<Writer>);

/// How often a run goes on by itself, and after which time.
#[derive(Debug)]
struct Patience {
    limit: u32,
    used: u32,
    units: usize,
}

impl Patience {
    /// The wait before the next attempt; none when enough of them have brought the run no further. `units` is how many were
    /// done when the attempt began that has failed.
    fn next(&mut self, units: usize) -> Option<Duration> {
        if units > self.units {
            (self.used, self.units) = (0, units);
        }
        (self.used < self.limit).then(|| {
            let wait = FIRST_WAIT.saturating_mul(GROWTH.saturating_pow(self.used));
            self.used += 1;
            wait.min(LONGEST_WAIT)
        })
    }
}

impl Context<'_> {
    /// Makes attempts until one comes to its end, or there is no use in a further one.
    pub(super) async fn persist(&self, directory: &mut RunDirectory) -> Result<Outcome, Error> {
        let mut held = Held::default();
        let mut patience = Patience { limit: self.settings.retries, used: 0, units: 0 };
        let outcome = loop {
            let outcome = Box::pin(self.attempt(directory, &mut held)).await;
            let Err(error) = &outcome else { break outcome };
            if !self.may_go_on(error, &held) {
                break outcome;
            }
            let Some(wait) = patience.next(held.units) else { break outcome };
            let reason = error.chain().join(": ");
            if let Err(error) = append(directory, Record::Retried { reason: reason.clone() }) {
                break Err(error);
            }
            self.events.emit(Event::Retry {
                stage: Stage::Check,
                item: format!("run {}", self.run),
                reason: format!("{reason}; going on from the journal in {} s", wait.as_secs()),
            });
            tokio::select! {
                () = self.stop.cancelled() => break Err(Error::new(Exit::Interrupted, Interrupted)),
                () = tokio::time::sleep(wait) => {}
            }
        };
        let outcome = match (outcome, held.compared) {
            // It was this process that had compared, and only its clearing up was taken up again.
            (Ok(Outcome::Cleared { .. }), Some((comparison, scope))) => {
                Ok(Outcome::Moved { comparison, scope })
            }
            (outcome, _) => outcome,
        };
        // Before anything is put back, which the watch would take for somebody else's doing.
        let outcome = self.watched(held.frozen, outcome).await;
        if let Some(Unclaimed(writer)) = held.unclaimed {
            writer.iter().for_each(Writer::discard);
            self.back_out(directory).await;
        }
        outcome
    }

    /// The run from its beginning, or from where its journal and its ledger say that it is.
    async fn attempt(&self, directory: &mut RunDirectory, held: &mut Held) -> Result<Outcome, Error> {
        if resume::is_planned(directory.records()) {
            self.interruptible(self.end_leftovers()).await?;
        }
        if let Some(verdict) = resume::standing_verdict(directory.records())
            && let Some(left) = self.leave(directory, verdict).await?
        {
            return Ok(left);
        }
        let begun = self.begin_check();
        let mut checked = self.interruptible(self.naming_lock_holders(self.check())).await?;
        for (side, found) in
            [(Side::Source, checked.source.identity()), (Side::Target, checked.target.identity())]
        {
            let same = resume::is_same_database(directory.records(), side, &found);
            // What was named was right a moment ago.
            same.map_err(|error| {
                if held.is_announced && resume::has_written(directory.records()) {
                    Error { exit: Exit::StartOver, ..error }
                } else {
                    error
                }
            })?;
        }
        if held.is_announced {
            checked.memory_limit = held.memory_limit;
        } else {
            let has_begun = resume::settled(directory.records()).is_some();
            self.heed(&mut checked, has_begun).await?;
            held.memory_limit = checked.memory_limit;
        }
        self.announce_check(&checked);
        let (blocking, warnings) = by_severity(&checked);
        if !blocking.is_empty() {
            return Ok(Outcome::Refused(checked.findings));
        }
        self.safe_point()?;
        if !held.is_announced {
            self.announce(directory, &checked)?;
            self.announce_archive(directory)?;
            for finding in &warnings {
                self.events.warn(format!("{}; {}", finding.title, finding.remedy));
            }
            held.is_announced = true;
        }
        self.pin(directory).await?;
        if held.frozen.is_none() {
            let refused = Box::pin(self.refused_before_freeze(&checked, directory)).await?;
            if !refused.is_empty() {
                // An earlier attempt may have frozen a part.
                held.unclaimed.get_or_insert(Unclaimed(None));
                return Ok(Outcome::Refused(refused));
            }
            held.frozen = self.freeze(directory).await?;
        }
        Box::pin(self.move_frozen(directory, checked, begun, held)).await
    }

    fn may_go_on(&self, error: &Error, held: &Held) -> bool {
        held.is_announced
            && matches!(error.exit, Exit::Resumable | Exit::Refused)
            && error.fault.is_retryable()
            // By an interrupt, or by a freeze that no longer holds.
            && !self.stop.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(limit: u32, units: &[usize]) -> Vec<Option<u64>> {
        let mut patience = Patience { limit, used: 0, units: 0 };
        units.iter().map(|units| patience.next(*units).map(|wait| wait.as_secs())).collect()
    }

    #[test]
    fn a_run_goes_on_a_few_times_and_anew_when_it_has_come_further() {
        assert_eq!(waits(3, &[0, 0, 0, 0]), [Some(2), Some(8), Some(32), None]);
        assert_eq!(waits(3, &[0, 7, 7, 7, 7]), [Some(2), Some(2), Some(8), Some(32), None]);
        assert_eq!(waits(0, &[0, 7]), [None, None]);
        assert_eq!(waits(40, &[5; 40]).last(), Some(&Some(60)));
    }
}
