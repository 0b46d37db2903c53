//! Tunnels that are cut at the worst moments: the chunk is copied again, with the reason told, and the rows arrive once.

use std::time::Duration;

use super::moving::{Move, SOURCE};
use super::stand_in::{After, End, Fault, StandIn};
use crate::support::Server;

/// A stand-in with both pods, and a move between them.
fn to_move() -> (StandIn, Move) {
    let target = Server::shared(18).database();
    let stand_in = StandIn::start(&[("legacy-0", SOURCE.0.server.port), ("new-1", target.server.port)]);
    let moved = Move::new(stand_in.reach(), ["pod/legacy-0", "pod/new-1"], target);
    (stand_in, moved)
}

#[test]
fn a_tunnel_that_is_cut_is_a_chunk_copied_again_with_the_reason() {
    let broke = ["the tunnel to media/legacy-0:5432 broke: ", "the tunnel to media/new-1:5432 broke: "];
    for (words, spared, after, end, reason) in [
        ("TO STDOUT", 10, After::Down(3000), End::Reset, broke[0]),
        ("TO STDOUT", 12, After::Up(7), End::Close(1011), "legacy-0:5432 was closed: code 1011"),
        (
            "TO STDOUT",
            20,
            After::Down(1),
            End::Error("error forwarding port: reset"),
            "error forwarding port: reset",
        ),
        ("TO STDOUT", 3, After::Down(0), End::Garbage, "a frame that begins with 00000009 came"),
        ("FROM STDIN", 10, After::Up(2000), End::Reset, broke[1]),
        ("FROM STDIN", 12, After::Down(0), End::Close(1001), "new-1:5432 was closed: code 1001"),
        ("'chunk:", 5, After::Down(0), End::Reset, broke[1]),
        ("'chunk:", 6, After::Up(20), End::Error("lost connection to pod"), "lost connection to pod"),
        ("CREATE INDEX", 3, After::Down(0), End::Reset, broke[1]),
    ] {
        let (stand_in, moved) = to_move();
        let fault = Fault { pod: "", words, spared, times: 1, after, end };
        stand_in.set(fault);
        let (outcome, retries) = moved.run(false);
        assert_eq!(stand_in.fired(), 1, "{fault:?}: {outcome:?}");
        moved.assert_moved(&outcome);
        assert!(retries.len() == 1 && retries[0].contains(reason), "{fault:?}: {retries:?}");
    }
}

#[test]
fn a_right_that_is_missed_for_a_moment_in_the_midst_of_a_run_is_told_and_waited_for() {
    let forbidden = "pods \"legacy-0\" is forbidden: User \"jane\" cannot create resource \"pods/portforward\" in API group \"\"";
    let (stand_in, moved) = to_move();
    let (after, end) = (After::Down(3000), End::Reset);
    stand_in.set(Fault { pod: "", words: "TO STDOUT", spared: 10, times: 1, after, end });
    // Two requests to cancel what the lane had begun come first.
    stand_in.refuse(&[(403, forbidden); 4]);
    let (outcome, retries) = moved.run(false);
    assert_eq!(stand_in.fired(), 1, "{outcome:?}");
    moved.assert_moved(&outcome);
    let [cut, refused @ ..] = &*retries else { panic!("nothing was tried again") };
    assert!(cut.contains("the tunnel to media/legacy-0:5432 broke: "), "{cut}");
    let reason = "account jane may not create pods/portforward";
    assert!(!refused.is_empty() && refused.iter().all(|told| told.contains(reason)), "{refused:?}");
}

#[test]
fn a_tunnel_that_stands_still_is_given_up() {
    let (stand_in, moved) = to_move();
    let hold = End::Hold(Duration::from_secs(60));
    stand_in.set(Fault {
        pod: "",
        words: "TO STDOUT",
        spared: 10,
        times: 1,
        after: After::Down(500),
        end: hold,
    });
    let (outcome, retries) = moved.run(false);
    assert_eq!(stand_in.fired(), 1);
    moved.assert_moved(&outcome);
    assert!(retries.len() == 1 && retries[0].contains("for 5 s"), "{retries:?}");
}

#[test]
fn the_snapshots_holder_is_missed_and_the_run_goes_on() {
    let (stand_in, moved) = to_move();
    // What the holder asks to keep its connection alive, at first, every minute and when the last chunk is copied; so does
    // the session that holds the target's lock.
    let (pod, words) = ("legacy-0", "\u{b}SELECT\0");
    stand_in.set(Fault { pod, words, spared: 0, times: 1, after: After::Down(0), end: End::Reset });
    let (outcome, retries) = moved.run(false);
    assert_eq!(stand_in.fired(), 1);
    moved.assert_moved(&outcome);
    assert!(
        retries.len() == 1 && retries[0].contains("the tunnel to media/legacy-0:5432 broke"),
        "{retries:?}"
    );
    assert!(
        retries[0].contains("snapshot is lost") && retries[0].contains("going on from the journal"),
        "{retries:?}"
    );
}
