//! Pings, their round trips, and gateways that answer none.

use super::*;

#[test]
fn a_silent_gateway_gets_a_close_frame_and_is_closed_at_thirty_seconds() {
    let mut world = World::streaming();
    assert_eq!(world.run(Duration::from_secs(60)), Some(Duration::from_secs(30)));
    let frames = world.frames();
    assert!(frames[..frames.len() - 1].iter().all(|frame| *frame == (0x89, vec![])), "{frames:x?}");
    assert_eq!(frames.last(), Some(&(0x88, [&1001_u16.to_be_bytes()[..], b"heartbeat timeout"].concat())));
    assert!(world.take_effects().ends_with("Over(Closed(HeartbeatTimeout))"));
}

#[test]
fn a_gateway_that_answers_pings_stays_and_each_round_trip_is_measured() {
    let mut world = World::streaming();
    for _ in 0..20 {
        assert_eq!(world.run(Duration::from_secs(20)), None);
        let pings = world.frames();
        assert_eq!(pings, [(0x89, vec![])], "one ping in each interval");
        world.receive(&masked(0x8a, b""));
        assert!(world.take_effects().contains("Life(Some("));
    }
}
