//! A gateway's read loop: it handles what it has read, one after the other, and answers pings in between.

use super::{
    client::Reaction,
    handling::Answers,
    net::Net,
    peer::{Peer, Stage},
};

impl Peer {
    /// Reacts to what it has read, until the handler of an event takes time.
    pub(super) fn handle(&mut self, net: &mut Net) {
        if let Some(offset) = self.handler.end(net.now) {
            net.oracle.handled(net.now, self.index, offset);
        }
        while !self.handler.is_busy()
            && net.conns[self.index].reactions.front().is_some_and(|(offset, _)| *offset <= self.read)
            && let Some((_, reaction)) = net.conns[self.index].reactions.pop_front()
        {
            self.handle_next(reaction, net);
        }
        if self.stage != Stage::Upgraded {
            return;
        }
        if !self.handler.is_busy() {
            self.handler.rest(net.now, &self.profile.handling, &mut net.rng);
        }
        while let Some(payload) = self.handler.next_pong(net.now) {
            self.pong(&payload, net);
        }
    }

    fn handle_next(&mut self, reaction: Reaction, net: &mut Net) {
        let (now, handling) = (net.now, self.profile.handling);
        match reaction {
            Reaction::Text(Some(offset)) if self.stage == Stage::Upgraded => {
                self.react(Reaction::Text(None), &mut net.conns[self.index], &mut net.rng);
                if handling.invents {
                    self.invent(offset, net);
                }
                // What another thread answers proves receipt, so that is what counts as handled.
                let is_handled =
                    handling.answers == Answers::AtOnce || self.handler.begin(now, offset, &handling, &mut net.rng);
                if is_handled {
                    net.oracle.handled(now, self.index, offset);
                }
            }
            Reaction::Ping(payload) if self.profile.pongs && self.stage == Stage::Upgraded => {
                self.handler.ping(now, payload, &handling, &mut net.rng);
            }
            Reaction::Upgraded => {
                self.handler.open(now);
                self.react(Reaction::Upgraded, &mut net.conns[self.index], &mut net.rng);
            }
            reaction => self.react(reaction, &mut net.conns[self.index], &mut net.rng),
        }
    }

    fn pong(&mut self, payload: &[u8], net: &mut Net) {
        self.write_frame(0x8a, payload, &mut net.conns[self.index], &mut net.rng);
        net.oracle.pongs(self.index, self.total, payload);
        net.trace.add(net.now, Some(self.index), || format!("pongs {}", String::from_utf8_lossy(payload)));
        self.handler.answered = Some(payload.to_vec());
    }

    /// Sends a pong that no ping has asked for, or one again.
    fn invent(&mut self, offset: u64, net: &mut Net) {
        if self.pings == 0 {
            return;
        }
        self.pings -= 1;
        let next = net.oracle.watched[self.index].seen + 1;
        let payload = match (net.rng.below(5), self.handler.answered.clone()) {
            (0, Some(answered)) => answered,
            (1, _) => b"not a position".to_vec(),
            (2, _) => net.oracle.payload_of(self.index, offset, 1),
            (3, _) => net.oracle.payload_of(self.index, offset + 1_000_000, 0),
            // The event that comes next: the hub may have handed over only a part of it.
            _ => net.oracle.payload_of(self.index, next, 0),
        };
        net.oracle.cover("an invented pong");
        self.pong(&payload, net);
    }
}
