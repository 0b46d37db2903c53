//! Lanes: one thread each, taking tasks from one schedule.
//!
//! A lane is an operating-system thread with a runtime of its own: the two connections of a COPY and the task
//! between them stay on one core, which halves the client's cost against a shared runtime. The first task that
//! fails stops the pool: running tasks end at their next safe point, nothing new starts, and the error is
//! returned. An interrupt does the same without an error of its own.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::transfer::schedule::{Schedule, TaskId};

/// One lane's hands: what carries out a task.
pub trait Worker {
    /// What a task holds.
    type Work: Clone + Send + Sync + 'static;
    /// What can go wrong.
    type Error: Send + 'static;

    /// Carries out one task; returns when it is committed.
    fn perform(&mut self, work: Self::Work) -> impl Future<Output = Result<(), Self::Error>>;

    /// Closes the lane's sessions. Called once, at the end, in whatever way the lane ends.
    fn close(self) -> impl Future<Output = ()>;
}

/// How a pool ended, if no task failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every task is done.
    Finished,
    /// Stopped by an interrupt, with tasks left.
    Interrupted,
}

struct Shared<W, E> {
    state: Mutex<State<W, E>>,
    changed: Notify,
    stop: CancellationToken,
}

struct State<W, E> {
    schedule: Schedule<W>,
    error: Option<E>,
}

/// Runs every task of `schedule` on `lanes` threads. `worker(lane, stop)` makes a lane's worker on its own
/// thread; a running task should end early when `stop` is cancelled, be it by an interrupt or because another
/// task failed. Blocks until all lanes have ended.
pub fn run<M, F>(
    schedule: Schedule<M::Work>,
    lanes: usize,
    stop: &CancellationToken,
    worker: F,
) -> Result<Ended, M::Error>
where
    M: Worker,
    F: Fn(usize, CancellationToken) -> M + Send + Sync,
{
    let shared = Arc::new(Shared {
        state: Mutex::new(State { schedule, error: None }),
        changed: Notify::new(),
        stop: stop.child_token(),
    });
    std::thread::scope(|scope| {
        for lane in 0..lanes {
            let (shared, worker) = (Arc::clone(&shared), &worker);
            scope.spawn(move || {
                // However a lane ends, by a panic too, the others must not wait for it.
                let _stop = shared.stop.clone().drop_guard();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime needs only what a running process has");
                runtime.block_on(drive(&shared, worker(lane, shared.stop.clone())));
            });
        }
    });
    let mut state = lock(&shared.state);
    match state.error.take() {
        Some(error) => Err(error),
        None if state.schedule.is_finished() => Ok(Ended::Finished),
        None => Ok(Ended::Interrupted),
    }
}

async fn drive<M: Worker>(shared: &Shared<M::Work, M::Error>, mut worker: M) {
    while let Some((id, work)) = next(shared).await {
        let result = worker.perform(work).await;
        let mut state = lock(&shared.state);
        match result {
            Ok(()) => state.schedule.finish(id),
            Err(error) => {
                // Later failures are most often the echo of the first.
                state.error.get_or_insert(error);
                shared.stop.cancel();
            }
        }
        drop(state);
        shared.changed.notify_waiters();
    }
    worker.close().await;
}

/// Waits for a task that may start; `None` when there is nothing left to do or the pool is stopping.
async fn next<W: Clone, E>(shared: &Shared<W, E>) -> Option<(TaskId, W)> {
    loop {
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        // Registered before the look, so that no change between look and wait is missed.
        changed.as_mut().enable();
        {
            let mut state = lock(&shared.state);
            if shared.stop.is_cancelled() || state.schedule.is_finished() {
                return None;
            }
            if let Some(id) = state.schedule.start() {
                return Some((id, state.schedule.work(id).clone()));
            }
        }
        tokio::select! {
            () = changed => {}
            () = shared.stop.cancelled() => return None,
        }
    }
}

/// A lane that panics ends the process through the thread scope; the state it leaves is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::transfer::schedule::Task;

    struct Counter<'a> {
        done: &'a AtomicUsize,
        fail_at: usize,
    }

    impl Worker for Counter<'_> {
        type Work = usize;
        type Error = usize;

        async fn perform(&mut self, work: usize) -> Result<(), usize> {
            tokio::task::yield_now().await;
            if work == self.fail_at {
                return Err(work);
            }
            self.done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        async fn close(self) {}
    }

    fn chain(length: usize) -> Schedule<usize> {
        let task = |work: usize| Task {
            work,
            needs: if work < 2 { vec![] } else { vec![work - 2] },
            weight: 1,
            locks: vec![],
            memory: 0,
        };
        Schedule::new((0..length).map(task).collect(), 0)
    }

    #[test]
    fn all_tasks_are_done_on_several_lanes() {
        let done = AtomicUsize::new(0);
        let ended = run(chain(100), 4, &CancellationToken::new(), |_, _| Counter {
            done: &done,
            fail_at: usize::MAX,
        });
        assert_eq!((ended, done.into_inner()), (Ok(Ended::Finished), 100));
    }

    #[test]
    fn the_first_failure_stops_the_pool_and_is_returned() {
        let done = AtomicUsize::new(0);
        let ended =
            run(chain(100), 2, &CancellationToken::new(), |_, _| Counter { done: &done, fail_at: 10 });
        assert_eq!(ended, Err(10));
        assert!(done.into_inner() < 99);
    }

    #[test]
    fn an_interrupt_ends_it_without_an_error() {
        let (done, stop) = (AtomicUsize::new(0), CancellationToken::new());
        stop.cancel();
        let ended = run(chain(5), 2, &stop, |_, _| Counter { done: &done, fail_at: usize::MAX });
        assert_eq!(ended, Ok(Ended::Interrupted));
    }
}
