//! The DDL of both sides.
//!
//! Takes two dumps made by one `pg_dump`; the source's is rewritten as the plan asks, the target's only by what a
//! rewrite leaves out anywhere (extensions, which are compared apart). Each entry becomes a check: equal, as
//! planned where a rewrite or a tolerance explains it, else different.
//!
//! Two majors can write one definition differently (16 and later leave out `t.` where there is one table). So what
//! differs between majors is asked of the target itself ([`redefine`]): the source's statement is carried out there,
//! in a transaction that is rolled back, and must leave all definitions of the schema as they were.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use crate::catalog::Catalog;
use crate::error::Fault as _;
use crate::pg::server_error::describe_chain;
use crate::pg::{Endpoint, display_identifier};
use crate::plan::VectorIndexChoice;
use crate::plan::ddl::{self, Input};
use crate::plan::vector::is_vector_method;
use crate::schema::rewrite::ExistingSchema;
use crate::schema::{
    Change, ChildEndpoint, ChildLimits, ClientTools, DumpRequest, Entry, EntryClass, EntryKey, IndexColumn,
    IndexStatement, Rewrite, Tolerance, compare as compare_entries, index_statement, read_schema,
};
use crate::settings::Choices;
use crate::verify::redefine::{self, Redefined};
use crate::verify::{Aspect, Comparison, Outcome, TableResult, VerifyError, is_passing};

/// pgmove's own schema on the target, while a run lasts.
const SCHEMA: &str = "pgmove";

/// What may differ between any two servers.
const TOLERANCES: [Tolerance; 3] =
    [Tolerance::InheritedColumnOrder, Tolerance::NotNullName, Tolerance::MaintainRight];

/// The DDL of one side, or why it could not be read.
pub type Schema = Result<Vec<Entry>, String>;

/// Reads the DDL as it is now; `directory` is a private one that takes `pg_dump`'s archive.
pub async fn read(
    endpoint: &Endpoint,
    tools: &ClientTools,
    directory: &Path,
    limits: &ChildLimits,
) -> Result<Schema, VerifyError> {
    let (side, archive) = (endpoint.side, directory.join(format!("{}.dump", endpoint.side)));
    let child = ChildEndpoint::of(&endpoint.conninfo)?;
    let request = DumpRequest { tools, endpoint: &child, snapshot: None, archive: &archive, limits, side };
    match read_schema(&request).await {
        Ok(dump) => Ok(Ok(dump.entries)),
        Err(_) if limits.cancel.is_cancelled() => Err(VerifyError::Interrupted),
        Err(error) if is_passing(&error) => Err(error.into()),
        // pg_dump reads everything or nothing: one table that it may not lock is enough.
        Err(error) => Ok(Err(describe_chain(&error))),
    }
}

/// What becomes of a definition that cannot be tried because somebody holds a lock on its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// An error: a run can be resumed, and its verdict stands.
    Stop,
    /// A check that was not made: a comparison by itself can be repeated.
    Tell,
}

/// Compares the DDL of both sides. `existing_schemas` are those that the target had before the move; `target` is asked what it makes of definitions that two majors write differently.
pub async fn compare(
    schemas: [Schema; 2],
    [ours, theirs]: [&Catalog; 2],
    existing_schemas: &[ExistingSchema],
    choices: &Choices,
    (target, held): (&Endpoint, Held),
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let [source, found] = match schemas {
        [Ok(source), Ok(found)] => [source, found],
        [Err(reason), _] | [_, Err(reason)] => {
            comparison.push("schema", Aspect::Schema, Outcome::not_compared(reason));
            return Ok(());
        }
    };
    let counted = |table: &TableResult| (table.table.clone(), table.rows[0]);
    let counts: HashMap<String, u64> = comparison.tables.iter().map(counted).collect();
    let vector_rows = ours
        .tables
        .iter()
        .filter_map(|table| Some((table.name.clone(), *counts.get(&table.name.to_string())?)))
        .collect();
    let input = Input {
        existing_schemas,
        source: ours,
        target: theirs,
        vector_rows: &vector_rows,
        owner: choices.owner.as_deref(),
        vector_index: choices.vector_index,
        // These decide how a statement is carried out, not what it says.
        tables: &[],
        has_admin: true,
        has_operator: false,
        index_memory: 0,
        jobs: 1,
        setting_contexts: &BTreeMap::new(),
    };
    check(&source, &found, &input, (target, held), comparison).await
}

async fn check(
    source: &[Entry],
    found: &[Entry],
    input: &Input<'_>,
    (target, held): (&Endpoint, Held),
    comparison: &mut Comparison,
) -> Result<(), VerifyError> {
    let (expected, changes) = expected(source, input);
    let (found, left_out) = normal_target(found, input);
    let result = compare_entries(&expected, &found, &TOLERANCES);
    let mut outcomes: BTreeMap<EntryKey, Outcome> = BTreeMap::new();
    for entry in &expected {
        let reasons: BTreeSet<String> = changes.get(&entry.id).into_iter().flatten().map(reason).collect();
        if entry.statements.is_empty() && reasons.is_empty() {
            continue;
        }
        let outcome = match reasons.len() {
            _ if entry.is_masked() => Outcome::not_compared(
                "its strings may hold a password and are not kept; `pgmove verify` compares them",
            ),
            0 => Outcome::Equal,
            _ => Outcome::as_planned(reasons.into_iter().collect::<Vec<_>>().join("; ")),
        };
        outcomes.insert(key(entry), outcome);
    }
    for tolerated in &result.tolerated {
        let names: Vec<&str> = tolerated.tolerances.iter().map(|one| tolerance(*one)).collect();
        outcomes.insert(tolerated.difference.key.clone(), Outcome::as_planned(names.join("; ")));
    }
    for missing in &result.only_in_source {
        let outcome = if missing.class.may_hold_secrets() {
            Outcome::not_compared(
                "only on the source; it may hold a password, so it is not carried: create it by hand",
            )
        } else {
            Outcome::different("missing on the target")
        };
        outcomes.insert(missing.clone(), outcome);
    }
    for further in &result.only_in_target {
        let outcome = match existing_schema(further, input) {
            Some(schema) => Outcome::as_planned(kept(schema)),
            None => Outcome::different("only on the target"),
        };
        outcomes.insert(further.clone(), outcome);
    }
    for (key, reason) in left_out {
        outcomes.entry(key).or_insert_with(|| Outcome::as_planned(format!("only on the target: {reason}")));
    }
    let has_other_major = input.source.server.major() != input.target.server.major();
    for difference in &result.different {
        let entry = expected.iter().find(|entry| key(entry) == difference.key);
        let other = found.iter().find(|entry| key(entry) == difference.key);
        let (Some(entry), Some(other)) = (entry, other) else { continue };
        let existing = existing_schema(&difference.key, input).filter(|_| holds(other, entry)).map(kept);
        let outcome = match existing.or_else(|| vector_indexes(entry, other, input.vector_index)) {
            Some(detail) => Outcome::as_planned(detail),
            None if has_other_major => asked((target, held), entry, other).await?,
            None => Outcome::different(shown(entry, other)),
        };
        outcomes.insert(difference.key.clone(), outcome);
    }
    for (key, outcome) in outcomes {
        comparison.push(object(&key), Aspect::Schema, outcome);
    }
    Ok(())
}

/// The source's entries as the target should have them, with the changes by entry.
fn expected(source: &[Entry], input: &Input<'_>) -> (Vec<Entry>, BTreeMap<u32, Vec<Change>>) {
    let mut changes = BTreeMap::new();
    let mut entries = Vec::new();
    for entry in source.iter().filter(|entry| !is_compared_apart(entry)) {
        let (rewritten, of_entry, _) = ddl::rewritten(entry, input);
        changes.insert(entry.id, of_entry);
        entries.push(rewritten);
    }
    (entries, changes)
}

/// The target's own entries, less what is left out on the source too; with the reason, what is left out of a
/// schema that the target had before.
fn normal_target(found: &[Entry], input: &Input<'_>) -> (Vec<Entry>, BTreeMap<EntryKey, String>) {
    let own = Input { source: input.target, owner: None, vector_index: VectorIndexChoice::Keep, ..*input };
    let (mut entries, mut left_out) = (Vec::new(), BTreeMap::new());
    for entry in found.iter().filter(|entry| !is_compared_apart(entry)) {
        let (normal, changes, _) = ddl::rewritten(entry, &own);
        let of_schema = changes.iter().filter(|change| change.rewrite == Rewrite::ExistingSchema);
        left_out.extend(of_schema.map(|change| (key(entry), reason(change))));
        entries.push(normal);
    }
    (entries, left_out)
}

/// The schema that the target had for its extensions, where the entry describes it. Schema `public` is the user's as
/// well: its comment and rights are compared in full.
fn existing_schema<'a>(key: &EntryKey, input: &Input<'a>) -> Option<&'a ExistingSchema> {
    let described = key.tag.strip_prefix("SCHEMA ").filter(|_| key.schema.is_none())?;
    let mut existing = input.existing_schemas.iter().filter(|schema| schema.name != "public");
    existing.find(|schema| schema.name == described)
}

fn kept(schema: &ExistingSchema) -> String {
    format!("schema {} is on the target and keeps what it had there", display_identifier(&schema.name))
}

/// Whether an entry has every statement of another.
fn holds(entry: &Entry, other: &Entry) -> bool {
    let single = |entry: &Entry| -> Vec<[Entry; 1]> {
        let one = |statement: &String| [Entry { statements: vec![statement.clone()], ..entry.clone() }];
        entry.statements.iter().map(one).collect()
    };
    let has = single(entry);
    single(other)
        .iter()
        .all(|wanted| has.iter().any(|one| compare_entries(wanted, one, &TOLERANCES).is_equal()))
}

/// Extensions are compared by themselves; schema `pgmove` is not the user's.
fn is_compared_apart(entry: &Entry) -> bool {
    let is_of_run = entry.schema.as_deref() == Some(SCHEMA)
        || (entry.schema.is_none() && [SCHEMA.to_owned(), format!("SCHEMA {SCHEMA}")].contains(&entry.tag));
    is_of_run
        || entry.class == EntryClass::EXTENSION
        || (entry.class == EntryClass::COMMENT && entry.tag.starts_with("EXTENSION "))
}

fn key(entry: &Entry) -> EntryKey {
    EntryKey { class: entry.class, schema: entry.schema.clone(), tag: entry.tag.clone() }
}

fn object(key: &EntryKey) -> String {
    match &key.schema {
        Some(schema) => format!("{} {schema}.{}", key.class, key.tag),
        None => format!("{} {}", key.class, key.tag),
    }
}

fn reason(change: &Change) -> String {
    change.reason.clone()
}

fn tolerance(tolerance: Tolerance) -> &'static str {
    match tolerance {
        Tolerance::InheritedColumnOrder => "columns of an inherited table stand in another order",
        Tolerance::MaintainRight => "servers before 17 know no right MAINTAIN",
        Tolerance::NotNullName => "a NOT NULL constraint has another name",
    }
}

/// What differs, for a person, unless it may be a password.
fn shown(entry: &Entry, other: &Entry) -> String {
    if entry.class.may_hold_secrets() {
        return "defined differently".to_owned();
    }
    let (ours, theirs) = (entry.commands(), other.commands());
    let first = ours.iter().zip(&theirs).find(|(our, their)| our != their);
    let (our, their) = match first {
        Some((our, their)) => (our.as_str(), their.as_str()),
        None => (
            ours.get(theirs.len()).map_or("nothing further", String::as_str),
            theirs.get(ours.len()).map_or("nothing further", String::as_str),
        ),
    };
    contrast(our, their)
}

/// How many words around a difference are shown.
const CONTEXT: usize = 3;

/// Both texts from the first to the last word that differs.
fn contrast(our: &str, their: &str) -> String {
    let [ours, theirs] = [our, their].map(|text| text.split_whitespace().collect::<Vec<_>>());
    let is_same = |(our, their): &(&&str, &&str)| our == their;
    let before = ours.iter().zip(&theirs).take_while(is_same).count();
    let shorter = ours.len().min(theirs.len());
    let after = ours.iter().rev().zip(theirs.iter().rev()).take(shorter - before).take_while(is_same).count();
    let part = |words: &[&str]| {
        let (from, to) = (before.saturating_sub(CONTEXT), (words.len() - after + CONTEXT).min(words.len()));
        let begin = if from > 0 { "... " } else { "" };
        let end = if to < words.len() { " ..." } else { "" };
        format!("`{begin}{}{end}`", words[from..to].join(" "))
    };
    format!("expected {}, found {}", part(&ours), part(&theirs))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Vector indexes: unless they were to be kept, their kind and their options follow what was asked for and the number
/// of rows at the time. Their operator classes decide which queries can use them, and are those that were planned.
fn vector_indexes(entry: &Entry, other: &Entry, choice: VectorIndexChoice) -> Option<String> {
    if choice == VectorIndexChoice::Keep {
        return None;
    }
    let parsed = |entry: &Entry| -> Option<IndexStatement> {
        let [statement] = entry.statements.as_slice() else { return None };
        index_statement(statement).filter(|index| is_vector_method(&index.access_method))
    };
    let (ours, theirs) = (parsed(entry)?, parsed(other)?);
    let columns = |index: &IndexStatement| -> Vec<(String, Option<String>)> {
        let column = |column: &IndexColumn| (column.expression.clone(), column.operator_class());
        index.columns.iter().map(column).collect()
    };
    let is_same = ours.table == theirs.table
        && columns(&ours) == columns(&theirs)
        && ours.predicate == theirs.predicate;
    is_same.then(|| {
        let options = |index: &IndexStatement| one_line(index.options.as_deref().unwrap_or("no options"));
        format!(
            "a vector index of another kind: {} ({}) expected, {} ({}) found",
            ours.access_method,
            options(&ours),
            theirs.access_method,
            options(&theirs)
        )
    })
}

/// Asks the target whether both say the same.
async fn asked(
    (target, held): (&Endpoint, Held),
    entry: &Entry,
    other: &Entry,
) -> Result<Outcome, VerifyError> {
    // What stands beside the definition (the owner) must be equal as it stands.
    let rest = |entry: &Entry| {
        let mut rest = entry.clone();
        rest.statements.drain(..rest.statements.len().min(1));
        [rest]
    };
    if !compare_entries(&rest(entry), &rest(other), &TOLERANCES).is_equal() {
        return Ok(Outcome::different(shown(entry, other)));
    }
    let not_asked = |reason: String| {
        Outcome::not_compared(format!(
            "both majors write it differently, and the target could not be asked: {reason}; {}",
            shown(entry, other)
        ))
    };
    Ok(match redefine::redefine(target, entry).await {
        Ok(Redefined::Unchanged) => Outcome::Equal,
        Ok(Redefined::Changed | Redefined::Unknown) => Outcome::different(shown(entry, other)),
        Ok(Redefined::Refused(reason)) => not_asked(reason),
        Err(error) if held == Held::Tell && error.lock_timeout().is_some() => not_asked(error.to_string()),
        Err(error) => return Err(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown_with_a_little_around_it() {
        assert_eq!(
            contrast(
                "CREATE TABLE a (one int, two int, three int, four int)",
                "CREATE TABLE a (one int, two text, three int, four int)"
            ),
            "expected `... (one int, two int, three int, four ...`, found `... (one int, two text, three int, four ...`"
        );
        assert_eq!(contrast("a b c d e", "a b c d e f"), "expected `... c d e`, found `... c d e f`");
        assert_eq!(contrast("a a", "a a a"), "expected `a a`, found `a a a`");
        assert_eq!(contrast("", "x"), "expected ``, found `x`");
    }
}
