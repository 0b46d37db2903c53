//! Whether the source stayed as it was. Pure.

use crate::catalog::SourceState;
use crate::verify::Outcome;

/// Compares the source's state at the snapshot with its state now. What cannot be proven is not compared, unless
/// writes were accepted beforehand.
pub fn unchanged(then: &SourceState, now: &SourceState, accept_writes: bool) -> Outcome {
    if then.is_proven_equal(now) {
        return Outcome::Equal;
    }
    written(
        format!(
            "transaction ids were given out on the source's server since the snapshot ({} then, {} now), or it \
             crashed: it was written, or its state cannot be told",
            then.snapshot, now.snapshot
        ),
        accept_writes,
    )
}

/// A source that was written, or may have been.
pub fn written(detail: String, accept_writes: bool) -> Outcome {
    if accept_writes {
        Outcome::as_planned(detail)
    } else {
        Outcome::not_compared(format!("{detail}; --accept-writes takes this as done"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_moved_is_no_proof() {
        let state = |snapshot: &str| SourceState {
            system_identifier: Some("7".into()),
            snapshot: snapshot.into(),
            statistics_reset: None,
        };
        assert_eq!(unchanged(&state("8:8:"), &state("8:8:"), false), Outcome::Equal);
        assert!(matches!(unchanged(&state("8:8:"), &state("9:9:"), false), Outcome::NotCompared { .. }));
        assert!(matches!(unchanged(&state("8:8:"), &state("9:9:"), true), Outcome::AsPlanned { .. }));
    }
}
