//! Delivery `processed`: pings that name positions, their pongs, and the time for one event.

use super::*;
use crate::model::Proof;

/// A connection that proves something, with this offset as the last one that it was given.
fn proving(offset: u64) -> World {
    let mut world = World::new();
    world.events.offset = Some(offset);
    world.upgraded()
}

fn text(offset: u64) -> Vec<u8> {
    Position { epoch: 1, offset }.to_string().into_bytes()
}

/// A pong that names an offset, which the shard judges so.
fn pong(world: &mut World, offset: u64, proof: Proof) -> PongOutcome {
    world.receive(&masked(0x8a, &text(offset)));
    assert_eq!(world.take_effects(), format!("Pong(Some(Position {{ epoch: 1, offset: {offset} }})) Life(None)"));
    let outcome = world.session.handle_proof(world.now, offset, proof);
    world.settle();
    outcome
}

#[test]
fn a_ping_of_the_heartbeat_names_the_last_event() {
    let mut world = proving(7);
    world.run(Duration::from_secs(20));
    assert_eq!(world.frames(), [(0x89, text(7))]);
    world.now.attended = world.now.attended + Duration::from_millis(3);
    let outcome = pong(&mut world, 7, Proof::Known);
    assert_eq!((outcome.expected, outcome.round_trip.is_some()), (true, true));
    assert!(!pong(&mut world, 7, Proof::Known).expected, "repeated");
    let mut written = World::streaming();
    written.run(Duration::from_secs(20));
    assert_eq!(written.frames(), [(0x89, vec![])], "with the delivery `written` it names nothing");
}

#[test]
fn after_a_silence_a_ping_goes_in_front_of_an_event() {
    let mut world = proving(7);
    let event = |world: &mut World| {
        (world.events.bytes, world.events.at) = (b"\x81\x01x".to_vec(), 0);
        world.settle();
        world.frames()
    };
    assert_eq!(event(&mut world), [(0x89, text(7)), (0x81, b"x".to_vec())], "it has answered nothing yet");
    assert_eq!(event(&mut world), [(0x81, b"x".to_vec())]);
    pong(&mut world, 7, Proof::Known);
    world.now.attended = world.now.attended + Duration::from_millis(1_000);
    assert_eq!(event(&mut world), [(0x81, b"x".to_vec())]);
    world.now.attended = world.now.attended + Duration::from_millis(1);
    assert_eq!(event(&mut world), [(0x89, text(7)), (0x81, b"x".to_vec())]);
}

#[test]
fn only_pongs_that_no_ping_asked_for_are_a_flood() {
    let mut world = proving(7);
    for offset in 8..5_000 {
        assert!(pong(&mut world, offset, Proof::Processed).expected);
    }
    assert!(!world.session.is_over() && world.session.wants_read());
    let mut sent = 0;
    while !world.take_effects().contains("Closing(Flood)") {
        world.receive(&masked(0x8a, &text(9)));
        world.session.handle_proof(world.now, 9, Proof::Invented);
        world.settle();
        sent += 1;
        assert!(sent < 2_000, "never refused");
    }
    assert!(sent > 900, "a burst of ten seconds is allowed, as of other control frames");
}

#[test]
fn a_pong_without_a_position_counts_as_other_control_frames_do() {
    let mut world = proving(7);
    world.receive(&masked(0x8a, b"nonsense"));
    assert_eq!(world.take_effects(), "Pong(None) Life(None)");
    world.receive(&masked(0x8a, b"").repeat(1_002));
    assert!(world.take_effects().contains("Closing(Flood)"));
}

#[test]
fn a_gateway_that_takes_too_long_for_an_event_is_closed_exactly_then() {
    let mut world = proving(7);
    world.run(Duration::from_secs(5));
    world.session.set_first(world.now, Some(7));
    // It sends other messages meanwhile.
    for _ in 0..5 {
        assert_eq!(world.run(Duration::from_secs(10)), None);
        world.receive(&masked(0x81, b"{}"));
    }
    world.frames();
    world.run(Duration::from_millis(9_999));
    assert!(world.frames().iter().all(|frame| frame.0 == 0x89));
    world.run(Duration::from_millis(1));
    assert_eq!(world.frames(), [(0x88, [&1011_u16.to_be_bytes()[..], b"processing timeout"].concat())]);
}

#[test]
fn a_gateway_at_work_may_be_silent_while_its_kernel_acknowledges() {
    for (reachable, ends) in [(true, 60), (false, 30)] {
        let mut world = proving(7);
        world.session.set_first(world.now, Some(7));
        let mut waited = 0_u64;
        let reason = loop {
            world.run(Duration::from_millis(100));
            waited += 100;
            let effects = world.take_effects();
            if effects.contains("Probe") {
                world.session.handle_peer_state(world.now, reachable);
                world.settle();
            }
            if effects.contains("Closing") || world.take_effects().contains("Closing") {
                break effects;
            }
            assert!(waited < 100_000, "never closed");
        };
        assert!((waited / 1_000).abs_diff(ends) <= 1, "{waited} ms: {reason}");
    }
}

#[test]
fn a_gateway_at_work_whose_socket_is_full_is_not_slow() {
    for (works, reason) in [(true, "ProcessingTimeout"), (false, "SlowConsumer")] {
        let mut world = proving(7);
        world.run(Duration::from_secs(1));
        world.session.set_first(world.now, works.then_some(7));
        (world.events.bytes, world.room) = (large_event(), 0);
        world.settle();
        while !world.take_effects().contains("Closing") {
            world.receive(&masked(0x81, b"{}"));
            assert!(!world.session.is_over(), "{reason}");
            world.run(Duration::from_secs(1));
            if world.effects.iter().any(|effect| effect.contains(reason)) {
                break;
            }
        }
        let since = world.now.attended.since(Instant(3_600_000_000)).as_secs();
        assert_eq!(since >= 60, works, "{reason} after {since} s");
    }
}
