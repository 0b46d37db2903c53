//! The order of work: a pure state machine over a graph of tasks.
//!
//! A task starts when all it needs is done, nobody holds a conflicting lock, and its memory fits the budget.
//! Among those the one with the longest critical path behind it goes first (list scheduling): a large table
//! whose index takes long is not left to the end. No I/O and no clock: [`crate::transfer::pool`] drives it.

use std::collections::{BTreeSet, HashMap};

use crate::plan::LockMode;

/// Position of a task in its graph.
pub type TaskId = usize;

/// The lock that a task takes on a table of the target. The schedule starts no task that would wait for one in the
/// server, and its lane with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// The table, by its number.
    pub table: usize,
    /// As its statements take it.
    pub mode: LockMode,
}

/// One node of the graph.
#[derive(Debug, Clone)]
pub struct Task<W> {
    /// What to do.
    pub work: W,
    /// Tasks that must be done before.
    pub needs: Vec<TaskId>,
    /// Estimated cost, in bytes handled.
    pub weight: u64,
    /// Tables it touches.
    pub locks: Vec<Lock>,
    /// Memory on the target's server, in bytes.
    pub memory: u64,
}

/// The graph with the state of every task.
#[derive(Debug)]
pub struct Schedule<W> {
    tasks: Vec<Task<W>>,
    dependents: Vec<Vec<TaskId>>,
    missing: Vec<usize>,
    /// Ready tasks by critical path; the last is the next. The id makes the order stable.
    ready: BTreeSet<(u64, std::cmp::Reverse<TaskId>)>,
    critical: Vec<u64>,
    /// By table: the locks of the running tasks.
    held: HashMap<usize, Vec<LockMode>>,
    memory_budget: u64,
    memory_used: u64,
    open: usize,
}

impl<W> Schedule<W> {
    /// A schedule of `tasks`, whose `needs` point to smaller positions only (so there is no cycle).
    ///
    /// # Panics
    /// If a task needs itself or a later one: a defect of the caller.
    pub fn new(tasks: Vec<Task<W>>, memory_budget: u64) -> Self {
        let mut dependents = vec![Vec::new(); tasks.len()];
        for (id, task) in tasks.iter().enumerate() {
            for &need in &task.needs {
                assert!(need < id, "task {id} needs the later task {need}");
                dependents[need].push(id);
            }
        }
        let mut critical = vec![0_u64; tasks.len()];
        for (id, task) in tasks.iter().enumerate().rev() {
            let behind = dependents[id].iter().map(|&next| critical[next]).max().unwrap_or(0);
            critical[id] = task.weight.saturating_add(behind);
        }
        let missing: Vec<usize> = tasks.iter().map(|task| task.needs.len()).collect();
        let ready = (0..tasks.len())
            .filter(|&id| missing[id] == 0)
            .map(|id| (critical[id], std::cmp::Reverse(id)))
            .collect();
        let open = tasks.len();
        Schedule {
            tasks,
            dependents,
            missing,
            ready,
            critical,
            held: HashMap::new(),
            memory_budget,
            memory_used: 0,
            open,
        }
    }

    /// The next task to start, or `None` while everything that is left waits for a running one.
    pub fn start(&mut self) -> Option<TaskId> {
        let key = self.ready.iter().rev().find(|(_, id)| self.fits(&self.tasks[id.0])).copied()?;
        self.ready.remove(&key);
        let id = key.1.0;
        for lock in &self.tasks[id].locks {
            self.held.entry(lock.table).or_default().push(lock.mode);
        }
        self.memory_used += self.tasks[id].memory;
        Some(id)
    }

    /// A task larger than the whole budget runs alone among those that need memory, rather than never.
    fn fits(&self, task: &Task<W>) -> bool {
        let has_memory = task.memory == 0
            || self.memory_used == 0
            || self.memory_used.saturating_add(task.memory) <= self.memory_budget;
        let is_held_against = |lock: &Lock| {
            self.held
                .get(&lock.table)
                .is_some_and(|held| held.iter().any(|&mode| mode.conflicts_with(lock.mode)))
        };
        has_memory && !task.locks.iter().any(is_held_against)
    }

    /// Marks a started task as done.
    pub fn finish(&mut self, id: TaskId) {
        for lock in &self.tasks[id].locks {
            let held = self.held.entry(lock.table).or_default();
            if let Some(position) = held.iter().position(|&mode| mode == lock.mode) {
                held.swap_remove(position);
            }
        }
        self.memory_used -= self.tasks[id].memory;
        self.open -= 1;
        for &next in &self.dependents[id] {
            self.missing[next] -= 1;
            if self.missing[next] == 0 {
                self.ready.insert((self.critical[next], std::cmp::Reverse(next)));
            }
        }
    }

    /// What a task has to do.
    pub fn work(&self, id: TaskId) -> &W {
        &self.tasks[id].work
    }

    /// Whether every task is done.
    pub fn is_finished(&self) -> bool {
        self.open == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn task(needs: &[TaskId], weight: u64) -> Task<()> {
        Task { work: (), needs: needs.to_vec(), weight, locks: Vec::new(), memory: 0 }
    }

    #[test]
    fn the_longest_path_goes_first() {
        // 0 is small, but 2 behind it is large.
        let mut schedule = Schedule::new(vec![task(&[], 1), task(&[], 5), task(&[0], 100)], 0);
        assert_eq!(schedule.start(), Some(0));
        assert_eq!(schedule.start(), Some(1));
        assert_eq!(schedule.start(), None);
        schedule.finish(0);
        assert_eq!(schedule.start(), Some(2));
    }

    #[test]
    fn a_lock_keeps_away_what_conflicts_with_it() {
        let with = |mode, weight| Task { locks: vec![Lock { table: 7, mode }], ..task(&[], weight) };
        let mut schedule = Schedule::new(
            vec![
                with(LockMode::Share, 3),
                with(LockMode::AccessShare, 2),
                with(LockMode::AccessExclusive, 1),
            ],
            0,
        );
        assert_eq!((schedule.start(), schedule.start(), schedule.start()), (Some(0), Some(1), None));
        schedule.finish(0);
        assert_eq!(schedule.start(), None);
        schedule.finish(1);
        assert_eq!(schedule.start(), Some(2));
    }

    #[test]
    fn memory_is_shared_and_a_giant_runs_alone() {
        let with = |memory, weight| Task { memory, ..task(&[], weight) };
        let mut schedule = Schedule::new(vec![with(500, 9), with(60, 8), with(40, 7)], 100);
        assert_eq!((schedule.start(), schedule.start()), (Some(0), None));
        schedule.finish(0);
        assert_eq!((schedule.start(), schedule.start()), (Some(1), Some(2)));
    }

    proptest! {
        #[test]
        fn every_task_runs_once_and_after_its_needs(
            shape in prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 0..4), 0u64..50,
                0u64..200, 0usize..3, any::<bool>()), 1..40),
            lanes in 1usize..5,
        ) {
            let tasks: Vec<Task<()>> = shape.iter().enumerate().map(|(id, (needs, weight, memory, table, is_exclusive))| Task {
                work: (),
                needs: if id == 0 { vec![] } else { needs.iter().map(|need| need.index(id)).collect::<BTreeSet<_>>().into_iter().collect() },
                weight: *weight, memory: *memory,
                locks: vec![Lock {
                    table: *table,
                    mode: if *is_exclusive { LockMode::AccessExclusive } else { LockMode::AccessShare },
                }],
            }).collect();
            let mut schedule = Schedule::new(tasks.clone(), 100);
            let (mut running, mut done) = (Vec::new(), BTreeSet::new());
            while !schedule.is_finished() {
                while running.len() < lanes {
                    let Some(id) = schedule.start() else { break };
                    prop_assert!(tasks[id].needs.iter().all(|need| done.contains(need)));
                    running.push(id);
                }
                prop_assert!(!running.is_empty(), "stuck");
                let id = running.remove(0);
                schedule.finish(id);
                prop_assert!(done.insert(id));
            }
            prop_assert_eq!(done.len(), tasks.len());
        }
    }
}
