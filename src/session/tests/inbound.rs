//! Invalid or excessive input from a gateway.

use super::*;

#[test]
fn a_violation_of_a_gateway_is_answered_with_its_close_code() {
    for (input, code, label) in [
        (vec![0x81, 0x01, b'x'], 1002_u16, "protocol error"),
        (masked(0x81, &[0xff]), 1007, "invalid utf-8"),
        (vec![0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 1], 1009, "message too big"),
    ] {
        // A declared length is checked once the header is complete, that is with its mask.
        let input = if code == 1009 { [input, vec![0; 4]].concat() } else { input };
        let mut world = World::streaming();
        world.receive(&input);
        assert_eq!(world.frames(), [(0x88, [&code.to_be_bytes()[..], label.as_bytes()].concat())]);
        world.take_effects();
        world.receive(&masked(0x81, b"ignored"));
        assert_eq!(world.take_effects(), "");
        assert_eq!(world.run(Duration::from_secs(60)), Some(Duration::from_secs(1)));
    }
}

#[test]
fn a_flood_of_pings_is_answered_and_then_refused() {
    let mut world = World::streaming();
    let ping = masked(0x89, b"p");
    let mut sent = 0;
    while !world.effects.iter().any(|effect| effect.contains("Closing(Flood)")) {
        world.receive(&ping.repeat(100));
        sent += 100;
        assert!(sent <= 2_000, "never refused");
    }
    assert_eq!(sent, 1_100, "a burst of ten seconds' pings is allowed");
    assert_eq!(world.frames().last().map(|frame| frame.1[2..].to_vec()), Some(b"flood".to_vec()));
}

#[test]
fn reading_pauses_while_a_gateway_sends_too_many_messages() {
    let mut world = World::streaming();
    let burst = masked(0x81, b"{}").repeat(1_000);
    world.receive(&burst);
    world.receive(&burst);
    assert!(world.session.wants_read(), "a burst of one second's messages is allowed");
    world.receive(&burst);
    assert!(!world.session.wants_read());
    assert_eq!(world.run(Duration::from_millis(499)), None);
    assert!(!world.session.wants_read());
    assert_eq!(world.run(Duration::from_millis(1)), None);
    assert!(world.session.wants_read(), "reading resumes once the rate is met");
    assert_eq!(world.take_effects().matches("Message(").count(), 3_000, "no message that was read is lost");
}
