//! Where the sequences stand on both sides.
//!
//! Sequences have no snapshot: they are read as of now, outside any transaction.

use std::collections::BTreeMap;

use crate::catalog::{CatalogError, Sequence, SequenceValue, sequence_values};
use crate::error::Side;
use crate::pg::{QualifiedName, Session, describe};
use crate::verify::{Aspect, Comparison, Outcome, VerifyError, is_passing};

/// Where each sequence of one side stands, or what the server said against reading it.
pub type Values = BTreeMap<QualifiedName, Result<(i64, bool), String>>;

/// Where sequences stood when they were read.
pub fn known(values: &[SequenceValue]) -> Values {
    values.iter().map(|value| (value.name.clone(), Ok((value.last_value, value.is_called)))).collect()
}

/// The first sequence of `then` that does not stand there any more.
pub fn first_moved<'a>(then: &'a Values, now: &Values) -> Option<&'a QualifiedName> {
    then.iter().find(|(name, value)| now.get(*name) != Some(*value)).map(|(name, _)| name)
}

/// Reads all sequences of one side. One that may not be read does not keep the others from being read.
pub async fn values(session: &Session, side: Side, sequences: &[Sequence]) -> Result<Values, VerifyError> {
    match sequence_values(&session.client, side, sequences).await {
        Ok(values) => return Ok(known(&values)),
        Err(error) => _ = refusal(error)?,
    }
    let mut found = Values::new();
    for sequence in sequences {
        match sequence_values(&session.client, side, std::slice::from_ref(sequence)).await {
            Ok(values) => found.extend(known(&values)),
            Err(error) => _ = found.insert(sequence.name.clone(), Err(refusal(error)?)),
        }
    }
    Ok(found)
}

/// The server's answer, if it is one.
fn refusal(error: CatalogError) -> Result<String, VerifyError> {
    match &error {
        CatalogError::Query { error: answer, .. } if answer.code().is_some() && !is_passing(&error) => {
            Ok(describe(answer))
        }
        _ => Err(error.into()),
    }
}

/// Compares where the sequences stand. Both parts count: (1, false) gives 1 next, (1, true) gives 2.
pub fn compare(source: &Values, target: &Values, comparison: &mut Comparison) {
    let unreadable = |side, reason: &str| Outcome::NotCompared {
        reason: format!("could not be read on the {side}: {reason}"),
    };
    for (name, ours) in source {
        let outcome = match (ours, target.get(name)) {
            (_, None) => Outcome::different("the sequence is only on the source".to_owned()),
            (Err(reason), _) => unreadable("source", reason),
            (_, Some(Err(reason))) => unreadable("target", reason),
            (Ok(ours), Some(Ok(theirs))) if ours == theirs => Outcome::Equal,
            (Ok(ours), Some(Ok(theirs))) => Outcome::different(format!(
                "{} on the source, {} on the target",
                shown(*ours),
                shown(*theirs)
            )),
        };
        comparison.push(format!("sequence {name}"), Aspect::Sequence, outcome);
    }
    for name in target.keys().filter(|name| !source.contains_key(name)) {
        let outcome = Outcome::different("the sequence is only on the target".to_owned());
        comparison.push(format!("sequence {name}"), Aspect::Sequence, outcome);
    }
}

fn shown((last_value, is_called): (i64, bool)) -> String {
    format!("last value {last_value} ({})", if is_called { "given out" } else { "not given out yet" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Verdict;

    fn verdict(source: &[(&str, i64, bool)], target: &[(&str, i64, bool)]) -> Verdict {
        let values = |side: &[(&str, i64, bool)]| -> Values {
            side.iter()
                .map(|(name, value, called)| (QualifiedName::new("s", *name), Ok((*value, *called))))
                .collect()
        };
        let mut comparison = Comparison::default();
        compare(&values(source), &values(target), &mut comparison);
        comparison.verdict()
    }

    #[test]
    fn a_sequence_that_moved_or_went_is_found() {
        let at = |value, is_called| -> Values {
            [(QualifiedName::new("s", "a"), Ok((value, is_called)))].into_iter().collect()
        };
        assert_eq!(first_moved(&at(1, true), &at(1, true)), None);
        for now in [at(2, true), at(1, false), Values::new()] {
            assert_eq!(first_moved(&at(1, true), &now), Some(&QualifiedName::new("s", "a")));
        }
    }

    #[test]
    fn value_and_flag_both_count() {
        assert_eq!(verdict(&[("a", 1, true)], &[("a", 1, true)]), Verdict::Equal);
        assert_eq!(verdict(&[("a", 1, true)], &[("a", 1, false)]), Verdict::Different);
        assert_eq!(verdict(&[("a", 1, true)], &[("a", 2, true)]), Verdict::Different);
    }

    #[test]
    fn a_sequence_of_one_side_is_a_difference() {
        assert_eq!(verdict(&[("a", 1, true)], &[]), Verdict::Different);
        assert_eq!(verdict(&[], &[("a", 1, true)]), Verdict::Different);
    }
}
