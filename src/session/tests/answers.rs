//! HTTP responses while the socket takes bytes slowly.

use super::*;

const REQUEST: &str = "GET /x HTTP/1.1\r\nHost: hub\r\n\r\n";
const ANSWER_BYTES: usize = 200_000;

impl World {
    /// Gives a long response to the request that waits for one; returns whether there was one.
    fn answer(&mut self) -> bool {
        let effects = self.take_effects();
        if effects.contains("Route") {
            self.session.handle_route(self.now, Ok(0));
            self.settle();
            assert_eq!(self.take_effects(), "Call");
            let response = Response { body: vec![b'x'; ANSWER_BYTES], ..Response::empty(200) };
            self.session.handle_response(self.now, &response, &self.scratch);
            self.settle();
            return true;
        }
        false
    }

    fn answers(&self) -> usize {
        self.sent.windows(9).filter(|bytes| *bytes == b"HTTP/1.1 ").count()
    }
}

#[test]
fn pipelined_requests_wait_until_earlier_responses_are_sent() {
    let mut world = World::new();
    world.room = 1_000;
    world.receive(REQUEST.repeat(3).as_bytes());
    assert!(world.answer());
    assert!(!world.answer(), "the first response is not in the socket yet");
    assert!(!world.session.wants_read());
    for answers in 2..=3 {
        world.room = ANSWER_BYTES + 1_000;
        world.settle();
        assert!(world.answer());
        assert_eq!(world.answers(), answers);
    }
    world.room = usize::MAX;
    world.settle();
    assert!(world.sent.len() > 3 * ANSWER_BYTES);
    assert!(world.session.wants_read());
}

#[test]
fn a_request_paused_for_the_socket_does_not_time_out() {
    let mut world = World::new();
    world.room = 1_000;
    world.receive(REQUEST.repeat(2).as_bytes());
    assert!(world.answer());
    for _ in 0..3 {
        assert_eq!(world.run(limits::WRITE_DEADLINE - Duration::from_secs(1)), None);
        world.room = 1_000;
        world.settle();
    }
    world.room = usize::MAX;
    world.settle();
    assert!(world.answer());
    assert_eq!(world.answers(), 2);
}

#[test]
fn a_client_that_half_closes_gets_its_whole_response() {
    for field in ["", "Connection: close\r\n"] {
        let mut world = World::new();
        world.room = 150_000;
        world.receive(format!("GET /x HTTP/1.1\r\nHost: hub\r\n{field}\r\n").as_bytes());
        assert!(world.answer());
        // The peer's FIN is read while a part of the response still waits.
        world.session.handle_end(world.now);
        world.settle();
        assert!(!world.session.is_over(), "{field:?}");
        world.room = usize::MAX;
        world.settle();
        assert!(world.sent.len() > ANSWER_BYTES, "{field:?}: {}", world.sent.len());
        assert_eq!(world.take_effects(), "ShutdownWrite Over(Answered)", "{field:?}");
    }
}

#[test]
fn a_broken_socket_ends_the_connection_at_once() {
    let mut world = World::new();
    world.room = 1_000;
    world.receive(REQUEST.as_bytes());
    assert!(world.answer());
    world.session.handle_broken();
    assert!(world.session.is_over());
}

#[test]
fn an_idle_http_connection_is_closed_after_sixty_seconds() {
    let idle = Duration::from_secs(60);
    let mut world = World::new();
    for answers in 1..=2 {
        world.receive(REQUEST.as_bytes());
        assert!(world.answer());
        assert_eq!(world.answers(), answers);
        // The second request comes just in time, and restarts the timer.
        assert_eq!(world.run(idle - Duration::from_micros(1)), None);
        assert_eq!(world.take_effects(), "");
    }
    assert_eq!(world.run(Duration::from_micros(1)), None);
    assert_eq!(world.take_effects(), "ShutdownWrite", "the FIN goes out at 60 s");
    world.session.handle_end(world.now);
    world.settle();
    assert_eq!(world.take_effects(), "Over(Answered)", "the peer's FIN ends the connection");
    assert_eq!(world.answers(), 2, "it is closed without a further answer");
}

#[test]
fn the_memory_of_a_response_that_may_have_a_token_in_it_is_not_used_again() {
    for (responses, is_kept) in [(&[true][..], true), (&[false], false), (&[true, false], false), (&[true, true], true)]
    {
        let mut world = World::new();
        // Nothing is sent before the last response is in the queue.
        world.room = 0;
        world.receive(REQUEST.repeat(responses.len()).as_bytes());
        for reuses in responses {
            world.session.handle_route(world.now, Ok(0));
            let response = Response { body: b"text".to_vec(), reuses: *reuses, ..Response::empty(200) };
            world.session.handle_response(world.now, &response, &world.scratch);
        }
        world.room = usize::MAX;
        world.settle();
        assert_eq!(world.answers(), responses.len());
        assert_eq!(world.scratch.buffers.take().capacity() > 0, is_kept, "{responses:?}");
    }
}
