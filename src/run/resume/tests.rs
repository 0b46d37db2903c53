use super::*;
use crate::pg::Oid;
use crate::plan::VectorIndexChoice::{self, Auto, Hnsw, Keep};

fn settled_with(owner: Option<&str>, vector_index: VectorIndexChoice) -> [Record; 1] {
    let identity =
        |oid| DatabaseIdentity { system_identifier: Some("7".into()), oid: Oid(oid), name: "app".into() };
    let choices = Choices { owner: owner.map(Into::into), vector_index };
    [Record::Settled(Settled { source: identity(1), target: identity(2), choices, keep_ledger: false })]
}

#[test]
fn a_run_goes_on_with_the_rewrites_it_began_with() {
    let given =
        |owner: Option<&str>, vector_index| GivenChoices { owner: owner.map(Into::into), vector_index };
    let begun = settled_with(Some("app"), Hnsw);
    for same in [given(None, None), given(Some("app"), None), given(Some("app"), Some(Hnsw))] {
        let chosen = choices(&begun, &same).expect("nothing else is asked for");
        assert_eq!(chosen, Choices { owner: Some("app".into()), vector_index: Hnsw });
    }
    for (records, other, named) in [
        (&begun, given(Some("other"), None), "--owner app"),
        (&begun, given(None, Some(Auto)), "--vector-index hnsw"),
        (&settled_with(None, Keep), given(Some("app"), None), "no --owner"),
    ] {
        let error = choices(records, &other).expect_err("it contradicts").to_string();
        assert!(error.contains(named), "{error}");
    }
    assert_eq!(choices(&[], &given(None, None)).expect("new").vector_index, Auto);
}

#[test]
fn another_database_is_refused_also_under_the_same_name() {
    let records = settled_with(None, Auto);
    let Record::Settled(Settled { source, target, .. }) = &records[0] else { unreachable!() };
    assert!(is_same_database(&records, Side::Source, source).is_ok());
    assert!(is_same_database(&records, Side::Target, target).is_ok());
    assert!(is_same_database(&records, Side::Source, target).is_err());
    let on = |server: Option<&str>| DatabaseIdentity {
        system_identifier: server.map(Into::into),
        ..target.clone()
    };
    assert!(is_same_database(&records, Side::Target, &on(Some("8"))).is_err());
    assert!(is_same_database(&records, Side::Target, &on(None)).is_ok());
}

#[test]
fn a_withdrawn_verdict_does_not_stand() {
    let verdict = |exit| Record::Verdict { verdict: "equal".into(), exit };
    assert_eq!(standing_verdict(&[verdict(0)]), Some(("equal".into(), 0)));
    assert_eq!(standing_verdict(&[verdict(0), Record::Withdrawn]), None);
    assert_eq!(standing_verdict(&[verdict(0), Record::Withdrawn, verdict(4)]), Some(("equal".into(), 4)));
}
