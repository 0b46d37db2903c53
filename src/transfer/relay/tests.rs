use super::*;

fn binary() -> State {
    let rows = Rows::Binary { columns: 1, masked: vec![], embedded: vec![], is_archived: false };
    State::new(&rows, Some(buffer()))
}

fn message(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

const ROW: &[u8] = &[0, 1, 0, 0, 0, 1, b'a'];

#[test]
fn the_header_may_ride_in_the_first_row_or_come_alone() {
    for messages in [
        vec![message(&[HEADER, ROW]), message(&[TRAILER])],
        vec![message(&[HEADER]), message(&[ROW]), message(&[TRAILER])],
        vec![message(&[HEADER, ROW, TRAILER])],
    ] {
        let mut state = binary();
        for message in messages {
            state.take(&message).expect("proper");
        }
        state.end().expect("ended");
        let out = state.out.as_deref().expect("it has one");
        assert_eq!((state.count(), out), (1, &[HEADER, ROW, TRAILER].concat()[..]));
    }
}

#[test]
fn a_cut_or_foreign_stream_is_refused() {
    assert!(matches!(binary().take(&message(&[ROW])), Err(RelayError::Stream(_))));
    let mut state = binary();
    state.take(&message(&[HEADER, ROW])).expect("proper");
    assert!(state.end().is_err());
    state.take(&message(&[TRAILER])).expect("proper");
    assert!(matches!(state.take(&message(&[ROW])), Err(RelayError::Stream(_))));
    let mut state = binary();
    let error = state.take(&message(&[HEADER, &ROW[..6]])).expect_err("short row");
    assert!(matches!(error, RelayError::Row { row: 1, .. }));
    let error = binary().take(&message(&[HEADER, ROW, &ROW[..6]])).expect_err("short second row");
    assert!(matches!(error, RelayError::Row { row: 2, .. }));
    let error = binary().take(&message(&[HEADER, TRAILER, ROW])).expect_err("a row after the end");
    assert!(matches!(error, RelayError::Stream(_)));
}

#[test]
fn rows_of_text_are_its_lines() {
    let mut state = State::new(&Rows::Text, Some(buffer()));
    for message in [&b"a\\nb\t1\n\n"[..], b"c\n"] {
        state.take(message).expect("text");
    }
    assert_eq!((state.count(), state.out.as_deref()), (3, Some(&b"a\\nb\t1\n\nc\n"[..])));
}

#[test]
fn embeddings_are_converted_in_every_row_of_a_message() {
    let array = |value: f32| {
        let header = [1, 0, 700, 1, 1, 4].map(i32::to_be_bytes).concat();
        [&[0, 1, 0, 0, 0, 28][..], &header, &value.to_be_bytes()].concat()
    };
    let vector = |value: f32| [&[0, 1, 0, 0, 0, 8, 0, 1, 0, 0][..], &value.to_be_bytes()].concat();
    let given = [HEADER, &array(0.5), &array(2.0), TRAILER].concat();
    let converted = [HEADER, &vector(0.5), &vector(2.0), TRAILER].concat();
    let moved = Rows::Binary { columns: 1, masked: vec![], embedded: vec![0], is_archived: false };
    let digests = [(moved.clone(), given), (moved.archived(), converted.clone())].map(|(rows, message)| {
        let mut state = State::new(&rows, Some(buffer()));
        state.take(&message).expect("proper");
        assert_eq!(state.out.as_deref(), Some(&converted[..]));
        state.digest()
    });
    assert_eq!(digests[0].rows, 2);
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_what_was_read_to_be_paid_is_no_stall() {
    let rate = Rate::new(1024);
    let pace = Pace { stall: Duration::from_secs(1), rate: Some(&rate) };
    let messages = [message(&[HEADER, ROW]), Bytes::from(ROW.repeat(BUFFER)), message(&[TRAILER])];
    let source = futures_util::stream::iter(messages).then(async |message| {
        tokio::time::sleep(Duration::from_millis(900)).await;
        Ok(message)
    });
    let rows = Rows::Binary { columns: 1, masked: vec![], embedded: vec![], is_archived: false };
    let begun = tokio::time::Instant::now();
    let digest = examine(source, &rows, pace, |_, _| ()).await.expect("it is slow, and does not stand still");
    assert_eq!(digest.rows, BUFFER as u64 + 1);
    let seconds = begun.elapsed().as_secs();
    assert!(seconds >= (ROW.len() * BUFFER / 1024) as u64, "{seconds}");
}
