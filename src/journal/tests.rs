use super::*;
use crate::pg::Oid;

fn state(snapshot: &str) -> SourceState {
    SourceState {
        system_identifier: Some("7".into()),
        snapshot: snapshot.into(),
        statistics_reset: Some("1.5".into()),
    }
}

#[test]
fn records_survive_a_torn_last_line() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("run");
    let planned = Record::Planned { state: state("5:5:") };
    {
        let mut run = RunDirectory::create(&path).expect("new");
        run.append(planned.clone()).expect("written");
        assert!(matches!(RunDirectory::open(&path), Err(JournalError::Locked { run: None, .. })));
    }
    let mut journal = OpenOptions::new().append(true).open(path.join(JOURNAL)).expect("there");
    // Within a character, too.
    journal.write_all(b"{\"record\":\"verdict\",\"verdict\":\"gl\xc3").expect("written");
    let mut run = RunDirectory::open(&path).expect("readable");
    assert_eq!(run.records(), std::slice::from_ref(&planned));
    run.append(Record::Finished).expect("written");
    drop(run);
    assert_eq!(read(&path).expect("readable"), [planned, Record::Finished]);
    assert!(matches!(RunDirectory::create(&path), Err(JournalError::Exists(_))));
}

#[test]
fn what_is_not_the_runs_own_is_never_removed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("of/somebody");
    std::fs::create_dir_all(&path).expect("made");
    std::fs::write(path.join("photo"), "dear").expect("written");
    assert!(matches!(RunDirectory::create(&path), Err(JournalError::NotEmpty(_))));
    assert_eq!(std::fs::read(path.join("photo")).expect("there"), b"dear");
    std::fs::remove_file(path.join("photo")).expect("removed");
    // One that was there before stays; so does what came meanwhile.
    let run = RunDirectory::create(&path).expect("an empty one is taken");
    run.write_document(PLAN, &1).expect("written");
    run.remove();
    assert_eq!(std::fs::read_dir(&path).expect("there").count(), 0);
    let path = directory.path().join("new/run");
    let run = RunDirectory::create(&path).expect("new");
    std::fs::write(path.join("note"), "").expect("written");
    run.remove();
    assert!(path.join("note").exists() && !path.join(JOURNAL).exists());
    std::fs::remove_dir_all(&path).expect("removed");
    RunDirectory::create(&path).expect("new").remove();
    assert!(!path.exists());
}

#[test]
fn a_run_begins_where_only_a_fence_is_recorded_and_leaves_that_record() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("run");
    let database = DatabaseIdentity { system_identifier: None, oid: Oid(16_384), name: "app".into() };
    let fence = Record::Fence { database, former: Some("off".into()) };
    RunDirectory::create(&path).expect("new").append(fence.clone()).expect("written");
    let started = Record::Started {
        run: "20261123-1".into(),
        version: "1".into(),
        source: "one".into(),
        target: "other".into(),
        resumed: false,
    };
    let mut run = RunDirectory::create(&path).expect("no run is there");
    run.append(started.clone()).expect("written");
    let locked = RunDirectory::open(&path).expect_err("locked");
    assert_eq!(locked.to_string(), format!("another pgmove works in {}, on run 20261123-1", path.display()));
    drop(run);
    assert!(matches!(RunDirectory::create(&path), Err(JournalError::Exists(_))));
    RunDirectory::open(&path).expect("readable").remove();
    assert_eq!(read(&path).expect("readable"), std::slice::from_ref(&fence));
    let mut run = RunDirectory::create(&path).expect("no run is there any more");
    run.append(started).expect("written");
    run.remove();
    assert_eq!(read(&path).expect("readable"), [fence]);
}

#[test]
fn a_damaged_line_is_named() {
    let directory = tempfile::tempdir().expect("temporary directory");
    std::fs::write(
        directory.path().join(JOURNAL),
        "{\"record\":\"finished\"}\n{\"record\":\"unheard-of\"}\n",
    )
    .expect("written");
    let error = RunDirectory::open(directory.path()).expect_err("damaged");
    assert!(matches!(error, JournalError::Damaged { line: 2, .. }), "{error}");
}

#[test]
fn a_source_is_proven_unchanged_only_when_nothing_was_in_progress() {
    assert!(state("812:812:").is_proven_equal(&state("812:812:")));
    assert!(!state("812:812:").is_proven_equal(&state("813:813:")));
    assert!(!state("810:812:810").is_proven_equal(&state("810:812:810")));
    let crashed = SourceState { statistics_reset: Some("2.5".into()), ..state("812:812:") };
    assert!(!state("812:812:").is_proven_equal(&crashed));
    let unknown = SourceState { system_identifier: None, ..state("812:812:") };
    assert!(!unknown.is_proven_equal(&unknown.clone()));
}

#[test]
fn who_only_asks_keeps_nobody_from_the_run() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("run");
    assert!(!is_worked_on(&path).expect("nothing is there"));
    let run = RunDirectory::create(&path).expect("new");
    assert!(is_worked_on(&path).expect("readable"));
    drop(run);
    assert!(!is_worked_on(&path).expect("readable"));
    // Somebody is just asking, and is slow.
    let asking = File::open(path.join(JOURNAL)).expect("there");
    asking.lock_shared().expect("nobody holds it");
    let answered = std::thread::spawn(move || {
        std::thread::sleep(2 * PAUSE);
        drop(asking);
    });
    RunDirectory::open(&path).expect("it waits for the answer");
    answered.join().expect("it ends");
}

#[test]
fn a_new_run_takes_the_directory_of_a_refused_one_and_no_other() {
    use crate::report::files::{PAGE, REPORT};
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path();
    let write = |name: &str, text: &str| std::fs::write(path.join(name), text).expect("written");
    write(PAGE, "somebody's");
    assert!(matches!(RunDirectory::create(path), Err(JournalError::NotEmpty(_))));
    write(REPORT, "{\"of\": \"somebody\"}");
    assert!(matches!(RunDirectory::create(path), Err(JournalError::NotEmpty(_))));
    write(REPORT, &crate::report::document(&crate::report::sample::stopped()));
    write("photo", "dear");
    assert!(matches!(RunDirectory::create(path), Err(JournalError::NotEmpty(_))));
    std::fs::remove_file(path.join("photo")).expect("removed");
    RunDirectory::create(path).expect("only a report is there").remove();
    assert!(path.join(REPORT).exists());
}
