//! A limit on what all lanes together read from the source.
//!
//! Who has read bytes waits until they are paid for, before more is read; the server then waits for its client, and
//! reads no more itself. The wait is not a silence of the source: it stands outside of every deadline on progress, and an
//! interrupt ends it as it ends any other work of a lane. Time in which nothing was read is not saved up.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many bytes a second, shared by whoever reads.
#[derive(Debug)]
pub struct Rate {
    bytes_per_second: u64,
    /// When everything that was read so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Rate {
    /// A limit of so many bytes a second; at least one.
    pub fn new(bytes_per_second: u64) -> Rate {
        Rate { bytes_per_second: bytes_per_second.max(1), paid: Mutex::new(None) }
    }

    /// Pays for bytes that were read: returns when they and all before them are paid for.
    pub async fn pay(&self, bytes: u64) {
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let paid = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let begin = paid.map_or(now, |paid| paid.max(now));
            *paid.insert(begin + cost)
        };
        tokio::time::sleep_until(paid).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn all_lanes_together_keep_to_the_rate() {
        let rate = Rate::new(MIB);
        let begun = Instant::now();
        let lane = async || {
            for _ in 0..160 {
                rate.pay(64 * 1024).await;
            }
        };
        tokio::join!(lane(), lane(), lane(), lane());
        let seconds = begun.elapsed().as_secs_f64();
        // 40 MiB.
        assert!((40.0..40.1).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_is_read_is_not_saved_up() {
        let rate = Rate::new(MIB);
        rate.pay(MIB).await;
        tokio::time::advance(Duration::from_secs(3600)).await;
        let begun = Instant::now();
        rate.pay(5 * MIB).await;
        assert!(begun.elapsed() >= Duration::from_secs(5), "{:?}", begun.elapsed());
        // However large a row is.
        rate.pay(1024 * MIB).await;
        assert!(begun.elapsed() >= Duration::from_secs(1029), "{:?}", begun.elapsed());
    }
}
