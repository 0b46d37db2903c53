//! The tasks of a move and what each needs: the plan turned into a graph. Pure.

use std::collections::HashMap;

use crate::plan::{LockMode, Phase, Plan};
use crate::transfer::archive::Member;
use crate::transfer::schedule::{Lock, Task};

/// One task of a lane. Numbers are positions in the plan's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Copy a chunk of a table.
    Chunk {
        /// The table.
        table: usize,
        /// The chunk.
        chunk: usize,
    },
    /// Count a table's rows on the source, in the snapshot, by a query that knows no chunks.
    Count {
        /// The table.
        table: usize,
    },
    /// Read a part of a loaded table back from the target and hash it.
    ReadBack {
        /// The table.
        table: usize,
        /// Which part.
        part: usize,
    },
    /// Copy a batch of large objects.
    LargeObjects {
        /// The batch.
        batch: usize,
    },
    /// VACUUM before a vector index is built.
    Vacuum {
        /// The table.
        table: usize,
    },
    /// Take a step of DDL: an index, a constraint, a foreign key.
    Build {
        /// The step.
        step: usize,
    },
    /// ANALYZE a table.
    Analyze {
        /// The table.
        table: usize,
    },
    /// Copy a chunk of a table into the archive only.
    StoreChunk {
        /// The table.
        table: usize,
        /// The chunk.
        chunk: usize,
    },
    /// Copy a batch of large objects into the archive only.
    StoreLargeObjects {
        /// The batch.
        batch: usize,
    },
}

impl Work {
    /// Its name in the ledger; `None` where doing it again changes nothing.
    pub fn item(self, plan: &Plan) -> Option<String> {
        match self {
            Work::Chunk { table, chunk } => Some(format!("chunk:{table}:{chunk}")),
            Work::LargeObjects { batch } => Some(format!("large-objects:{batch}")),
            Work::Build { step } => Some(format!("ddl:{}", plan.steps[step].id)),
            Work::Count { .. }
            | Work::ReadBack { .. }
            | Work::Vacuum { .. }
            | Work::Analyze { .. }
            | Work::StoreChunk { .. }
            | Work::StoreLargeObjects { .. } => None,
        }
    }

    /// Its file in an archive.
    pub fn member(self) -> Option<Member> {
        let number =
            |position: usize| u32::try_from(position).expect("a plan has fewer than 2^32 of anything");
        match self {
            Work::Chunk { table, chunk } | Work::StoreChunk { table, chunk } => {
                Some(Member::Chunk { table: number(table), chunk: number(chunk) })
            }
            Work::LargeObjects { batch } | Work::StoreLargeObjects { batch } => {
                Some(Member::LargeObjects { chunk: number(batch) })
            }
            _ => None,
        }
    }
}

/// The tasks that put rows and large objects into an archive only, but for those whose file `is_stored`. None needs
/// another.
pub fn storing(plan: &Plan, is_stored: impl Fn(Work) -> bool) -> Vec<Task<Work>> {
    let chunks = plan.tables.iter().enumerate().flat_map(|(table, found)| {
        let weight = found.bytes / found.chunks.len().max(1) as u64;
        (0..found.chunks.len()).map(move |chunk| (Work::StoreChunk { table, chunk }, weight))
    });
    let batches =
        (0..plan.large_objects.len()).map(|batch| (Work::StoreLargeObjects { batch }, LARGE_OBJECTS_WEIGHT));
    chunks
        .chain(batches)
        .filter(|(work, _)| !is_stored(*work))
        .map(|(work, weight)| Task { work, needs: vec![], weight: weight.max(1), locks: vec![], memory: 0 })
        .collect()
}

/// The tasks that count every table of the source.
pub fn counting(plan: &Plan) -> Vec<Task<Work>> {
    let count = |(table, found): (usize, &crate::plan::TablePlan)| Task {
        work: Work::Count { table },
        needs: vec![],
        weight: (found.bytes / 32).max(1),
        locks: vec![],
        memory: 0,
    };
    plan.tables.iter().enumerate().map(count).collect()
}

/// What a batch of large objects costs; their sizes are not known.
const LARGE_OBJECTS_WEIGHT: u64 = 1 << 24;

/// ANALYZE reads a sample, of 30,000 rows by default: it costs about as much as this many bytes copied, however large
/// the table is.
const ANALYZED_BYTES: u64 = 32 << 20;

/// Every task of the copying and building stages that `is_done` (by ledger item) does not name.
pub fn tasks(plan: &Plan, is_done: impl Fn(&str) -> bool) -> Vec<Task<Work>> {
    let mut graph = Graph { plan, is_done: &is_done, tasks: Vec::new() };
    let mut ready: Vec<Vec<usize>> =
        plan.tables.iter().enumerate().map(|(index, _)| graph.load(index)).collect();
    for batch in 0..plan.large_objects.len() {
        graph.push(Work::LargeObjects { batch }, vec![], LARGE_OBJECTS_WEIGHT, vec![], 0);
    }
    for (table, loaded) in ready.iter_mut().enumerate() {
        let has_vectors = plan.steps.iter().any(|step| {
            step.vector_index.is_some()
                && matches!(step.phase, Phase::Build { table: Some(found), .. } if found == table)
        });
        if has_vectors {
            // vchord samples dead rows too, and fails on those whose TOAST is gone (VectorChord #470).
            let vacuum = graph.push(
                Work::Vacuum { table },
                loaded.clone(),
                plan.tables[table].bytes / 16,
                lock(table, LockMode::ShareUpdateExclusive),
                0,
            );
            loaded.extend(vacuum);
        }
    }
    graph.build(&mut ready);
    graph.tasks
}

struct Graph<'a> {
    plan: &'a Plan,
    is_done: &'a dyn Fn(&str) -> bool,
    tasks: Vec<Task<Work>>,
}

impl Graph<'_> {
    /// Adds a task unless it is done; its position.
    fn push(
        &mut self,
        work: Work,
        needs: Vec<usize>,
        weight: u64,
        locks: Vec<Lock>,
        memory: u64,
    ) -> Option<usize> {
        if work.item(self.plan).is_some_and(|item| (self.is_done)(&item)) {
            return None;
        }
        self.tasks.push(Task { work, needs, weight: weight.max(1), locks, memory });
        Some(self.tasks.len() - 1)
    }

    /// The tasks that load, count and read back a table; returns those after which it is loaded.
    fn load(&mut self, table: usize) -> Vec<usize> {
        let found = &self.plan.tables[table];
        let parts = found.chunks.len();
        let weight = found.bytes / parts.max(1) as u64;
        // A whole table is emptied first, see `Lane::copy_chunk`.
        let loading = if parts == 1 { LockMode::AccessExclusive } else { LockMode::RowExclusive };
        let mut loaded = Vec::new();
        for chunk in 0..parts {
            loaded.extend(self.push(Work::Chunk { table, chunk }, vec![], weight, lock(table, loading), 0));
        }
        self.push(Work::Count { table }, vec![], found.bytes / 32, vec![], 0);
        for part in 0..parts {
            let locks = lock(table, LockMode::AccessShare);
            self.push(Work::ReadBack { table, part }, loaded.clone(), weight / 4, locks, 0);
        }
        loaded
    }

    fn build(&mut self, ready: &mut [Vec<usize>]) {
        let plan = self.plan;
        // By dump id: the task that takes the step.
        let mut taken: HashMap<u32, usize> = HashMap::new();
        let mut built: Vec<Vec<usize>> = ready.to_vec();
        // ANALYZE wants indexes on expressions and extended statistics, but no constraint.
        let mut to_analyze = built.clone();
        let in_order = |wanted: fn(&Phase) -> bool| {
            plan.steps.iter().enumerate().filter(move |(_, step)| wanted(&step.phase))
        };
        let steps = in_order(|phase| matches!(phase, Phase::Build { .. }))
            .chain(in_order(|phase| matches!(phase, Phase::ForeignKey { .. })));
        for (index, step) in steps {
            let mut needs: Vec<usize> = step.needs.iter().filter_map(|id| taken.get(id).copied()).collect();
            let (locks, weight, tables) = match &step.phase {
                Phase::Build { table: Some(table), lock: mode } => {
                    needs.extend(&ready[*table]);
                    let found = &plan.tables[*table];
                    let weight = match &step.vector_index {
                        Some(_) => found.bytes * 3,
                        // A constraint upon an index that is there.
                        None if step.maintenance_work_mem == 0 => 1,
                        None => found.heap_bytes / 3,
                    };
                    (lock(*table, *mode), weight, vec![*table])
                }
                Phase::ForeignKey { tables } => {
                    needs.extend(tables.iter().flat_map(|&table| built[table].iter().copied()));
                    let bytes = tables.iter().map(|&table| plan.tables[table].heap_bytes).max().unwrap_or(0);
                    let mode = LockMode::ShareRowExclusive;
                    let locks = tables.iter().map(|&table| Lock { table, mode }).collect();
                    (locks, bytes / 4, tables.clone())
                }
                _ => (vec![], 1, vec![]),
            };
            needs.sort_unstable();
            needs.dedup();
            let memory =
                step.maintenance_work_mem + step.vector_index.as_ref().map_or(0, |index| index.memory);
            if let Some(task) = self.push(Work::Build { step: index }, needs, weight, locks, memory) {
                taken.insert(step.id, task);
                if let Phase::Build { lock, .. } = step.phase {
                    for table in tables {
                        built[table].push(task);
                        if lock != LockMode::AccessExclusive {
                            to_analyze[table].push(task);
                        }
                    }
                }
            }
        }
        for (table, needs) in to_analyze.into_iter().enumerate() {
            let weight = (plan.tables[table].heap_bytes / 4).min(ANALYZED_BYTES);
            let locks = lock(table, LockMode::ShareUpdateExclusive);
            self.push(Work::Analyze { table }, needs, weight, locks, 0);
        }
    }
}

fn lock(table: usize, mode: LockMode) -> Vec<Lock> {
    vec![Lock { table, mode }]
}
