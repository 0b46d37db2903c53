//! Progress under retries, wrong estimates and events in any order.

use proptest::prelude::*;

use super::*;

fn started(lane: usize, item: &str, bytes: Option<u64>) -> Event {
    Event::ItemStarted {
        stage: Stage::Copy,
        lane,
        item: item.into(),
        table: Some("public.asset".into()),
        bytes,
    }
}

fn finished(lane: usize, item: &str) -> Event {
    Event::ItemFinished { stage: Stage::Copy, lane, item: item.into(), seconds: 2.0 }
}

fn moved(lane: usize, rows: u64, bytes: u64) -> Event {
    Event::Progress { stage: Stage::Copy, lane, rows, bytes }
}

fn begun(items: u64, bytes: u64) -> Event {
    Event::StageStarted { stage: Stage::Copy, items: Some(items), bytes: Some(bytes), rows: None }
}

fn fold(events: &[Event]) -> Progress {
    let mut progress = Progress::default();
    for (second, event) in events.iter().enumerate() {
        progress.apply(event, Duration::from_secs(second as u64));
    }
    progress
}

#[test]
fn a_retry_is_not_counted_twice_and_takes_nothing_from_the_screen() {
    let retry = Event::Retry { stage: Stage::Copy, item: "a".into(), reason: "cut".into() };
    let mut events = vec![begun(2, 200), started(0, "a", Some(100)), moved(0, 9, 90), retry];
    let progress = fold(&events);
    let copy = progress.of(Stage::Copy).expect("it began");
    assert_eq!((copy.rows, copy.shown_rows, copy.shown_share()), (0, 9, Some(0.45)));
    events.extend([moved(0, 10, 100), finished(0, "a")]);
    let timings = fold(&events).timings(Duration::from_secs(9));
    assert_eq!((timings.stages[0].rows, timings.stages[0].retries), (10, 1));
    let table = timings.tables["public.asset"];
    assert_eq!((table.rows, table.bytes, table.copy_seconds), (10, 100, 2.0));
    assert!(!timings.stages[0].is_finished);
}

#[test]
fn too_small_an_estimate_stops_at_99_per_cent() {
    let events =
        [begun(2, 100), started(0, "a", None), moved(0, 1, 500), finished(0, "a"), started(0, "b", None)];
    let progress = fold(&events);
    let line = progress.of(Stage::Copy).expect("it began").line(Duration::from_secs(5));
    assert_eq!(line, " 99 %  1 row  500 B  100 B/s  4 s");
    let progress = fold(&[&events[..], &[finished(0, "b")]].concat());
    assert_eq!(progress.of(Stage::Copy).and_then(StageProgress::shown_share), Some(1.0));
}

#[test]
fn a_stage_that_began_early_counts_from_there() {
    let again = Event::StageStarted { stage: Stage::Copy, items: None, bytes: None, rows: None };
    let end = Event::StageFinished { stage: Stage::Copy, seconds: 1.0 };
    let early = [begun(2, 200), started(0, "a", Some(100)), moved(0, 9, 90), finished(0, "a"), again];
    let progress = fold(&early);
    assert_eq!(progress.of(Stage::Copy).and_then(StageProgress::shown_share), Some(0.5));
    let timings = fold(&[&early[..], &[end]].concat()).timings(Duration::from_secs(9));
    assert!((timings.stages[0].seconds - 4.0).abs() < 1e-9);
}

#[test]
fn nothing_is_known_of_a_stage_without_totals() {
    let progress = fold(&[moved(3, 1, 0)]);
    assert_eq!(progress.of(Stage::Copy).expect("it began").line(Duration::from_secs(2)), "1 row  2 s");
}

fn any_event() -> impl Strategy<Value = Event> {
    let item = || (0_u8..4).prop_map(|item| format!("item {item}"));
    prop_oneof![
        (0_u64..9, proptest::option::of(0_u64..900)).prop_map(|(items, bytes)| Event::StageStarted {
            stage: Stage::Copy,
            items: Some(items),
            bytes,
            rows: None
        }),
        (0_usize..3, item(), proptest::option::of(0_u64..900))
            .prop_map(|(lane, item, bytes)| started(lane, &item, bytes)),
        (0_usize..3, 0_u64..9, 0_u64..400).prop_map(|(lane, rows, bytes)| moved(lane, rows, bytes)),
        (0_usize..3, item()).prop_map(|(lane, item)| finished(lane, &item)),
        item().prop_map(|item| Event::Retry { stage: Stage::Copy, item, reason: String::new() }),
    ]
}

proptest! {
    #[test]
    fn a_share_never_goes_back_nor_above_one(events in proptest::collection::vec(any_event(), 0..60)) {
        let mut progress = Progress::default();
        let mut last = (0.0, 0, 0);
        for (second, event) in events.iter().enumerate() {
            progress.apply(event, Duration::from_secs(second as u64));
            if let Some(copy) = progress.of(Stage::Copy) {
                let next = (copy.shown_share, copy.shown_rows, copy.shown_bytes);
                prop_assert!(next.0 >= last.0 && next.0 <= 1.0);
                prop_assert!(next.1 >= last.1 && next.2 >= last.2);
                copy.line(Duration::from_secs(second as u64));
                last = next;
            }
        }
    }
}
