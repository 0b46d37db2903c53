//! Plan, comparison and processes, put together by table, by index and by stage.

use std::collections::{BTreeMap, HashMap};

use super::{Format, Index, Search, Table};
use crate::plan::columns::Treatment;
use crate::plan::{Phase, Plan, TablePlan};
use crate::report::closing::severity;
use crate::report::process::Process;
use crate::report::progress::{StageTiming, TableTiming, Timings};
use crate::verify::{Aspect, Comparison, Outcome, VectorSearchResult};

/// The processes together. A stage that one of them did not finish is not finished unless a later one did it.
pub(super) fn timings(processes: &[Process]) -> Timings {
    let mut stages: BTreeMap<_, StageTiming> = BTreeMap::new();
    let mut tables: BTreeMap<String, TableTiming> = BTreeMap::new();
    for process in processes {
        for StageTiming { stage, seconds, is_finished, items, tables, rows, bytes, retries } in
            process.stages.iter().map(|span| &span.timing)
        {
            let sum = stages.entry(*stage).or_insert_with(|| StageTiming {
                stage: *stage,
                seconds: 0.0,
                is_finished: false,
                items: 0,
                tables: 0,
                rows: 0,
                bytes: 0,
                retries: 0,
            });
            sum.is_finished = *is_finished;
            sum.seconds += seconds;
            // A table of which two processes copied chunks is one.
            sum.tables = sum.tables.max(*tables);
            sum.items += items;
            sum.rows += rows;
            sum.bytes += bytes;
            sum.retries += retries;
        }
        for (table, timing) in &process.tables {
            let sum = tables.entry(table.clone()).or_default();
            sum.rows += timing.rows;
            sum.bytes += timing.bytes;
            sum.copy_seconds += timing.copy_seconds;
            sum.index_seconds += timing.index_seconds;
            sum.verify_seconds += timing.verify_seconds;
        }
    }
    Timings { stages: stages.into_values().collect(), tables }
}

pub(super) fn tables(
    plan: Option<&Plan>,
    comparison: &Comparison,
    timings: &BTreeMap<String, TableTiming>,
) -> Vec<Table> {
    let planned = |table: &TablePlan, format: Format| Table {
        table: table.name.to_string(),
        rows: None,
        checksums: None,
        outcome: None,
        format: Some(format),
        text_reason: table.text_reason(),
        chunks: table.chunks.len() as u64,
        timing: TableTiming::default(),
    };
    let mut tables: Vec<Table> = plan
        .into_iter()
        .flat_map(|plan| {
            let views = plan.materialized_views.iter().map(|view| planned(view, Format::Refreshed));
            plan.tables.iter().map(|table| planned(table, format(table))).chain(views)
        })
        .collect();
    let mut positions: HashMap<String, usize> =
        tables.iter().enumerate().map(|(position, table)| (table.table.clone(), position)).collect();
    for found in &comparison.tables {
        let position = *positions.entry(found.table.clone()).or_insert_with(|| {
            tables.push(Table {
                table: found.table.clone(),
                rows: None,
                checksums: None,
                outcome: None,
                format: None,
                text_reason: None,
                chunks: 0,
                timing: TableTiming::default(),
            });
            tables.len() - 1
        });
        tables[position].rows = Some(found.rows);
        tables[position].checksums.clone_from(&found.checksums);
    }
    // A table's worst check speaks for it.
    let is_of_table =
        |aspect| matches!(aspect, Aspect::Rows | Aspect::GeneratedColumns | Aspect::MaterializedView);
    let mut worst: HashMap<&str, &Outcome> = HashMap::new();
    for check in comparison.checks.iter().filter(|check| is_of_table(check.aspect)) {
        let outcome = worst.entry(&check.object).or_insert(&check.outcome);
        if severity(&check.outcome) > severity(outcome) {
            *outcome = &check.outcome;
        }
    }
    for table in &mut tables {
        table.outcome = worst.get(table.table.as_str()).map(|outcome| tag(outcome).to_owned());
        table.timing = timings.get(&table.table).copied().unwrap_or_default();
    }
    tables
}

/// The word for an outcome, as in the checks.
fn tag(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Equal => "equal",
        Outcome::AsPlanned { .. } => "as-planned",
        Outcome::Different { .. } => "different",
        Outcome::NotCompared { .. } => "not-compared",
    }
}

fn format(table: &TablePlan) -> Format {
    let is_converted = table.columns.iter().any(|column| column.treatment == Treatment::Embedding);
    match (table.text_reason(), is_converted) {
        (Some(_), _) => Format::Text,
        (None, true) => Format::Converted,
        (None, false) => Format::Binary,
    }
}

pub(super) fn indexes(plan: Option<&Plan>, comparison: &Comparison, processes: &[Process]) -> Vec<Index> {
    let mut searches: Vec<&VectorSearchResult> = comparison.vector_search.iter().collect();
    let seconds = |object: &String| {
        let times = processes.iter().filter_map(|process| process.builds.get(object)).copied();
        times.reduce(|sum, more| sum + more)
    };
    let mut indexes = Vec::new();
    for (plan, step) in plan.into_iter().flat_map(|plan| plan.steps.iter().map(move |step| (plan, step))) {
        let table = match &step.phase {
            Phase::Build { table, .. } => *table,
            Phase::ForeignKey { tables } => tables.first().copied(),
            Phase::PreData | Phase::Finish => continue,
        };
        let vector = step.vector_index.as_ref();
        let name = vector.map(|vector| vector.index.to_string());
        let search = searches.iter().position(|search| Some(&search.index) == name.as_ref());
        indexes.push(Index {
            object: step.object.clone(),
            table: table.map(|table| plan.tables[table].name.to_string()),
            access_method: vector.map(|vector| vector.access_method.clone()),
            memory: step.maintenance_work_mem + vector.map_or(0, |vector| vector.memory),
            seconds: seconds(&step.object),
            search: search.map(|position| Search::from(searches.remove(position))),
        });
    }
    // Indexes that were asked and that no plan tells of.
    indexes.extend(searches.into_iter().map(|search| Index {
        object: search.index.clone(),
        table: None,
        access_method: None,
        memory: 0,
        seconds: None,
        search: Some(Search::from(search)),
    }));
    indexes
}
