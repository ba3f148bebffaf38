//! Gives events their positions, and deployments their times: the last ones of each gateway of one shard.

use crate::model::{GatewayId, Life, Position, Timestamp};
use ahash::HashMap;

/// The positions of one shard's gateways, in one log. A gateway that never got an event costs nothing.
#[derive(Debug)]
pub struct Sequencer {
    epoch: u64,
    last: HashMap<GatewayId, Last>,
}

/// The last event of a gateway, and in which of its lives that was.
#[derive(Debug)]
struct Last {
    incarnation: u64,
    offset: u64,
    /// The time that its last deployment was given.
    performed_at: Option<Timestamp>,
}

impl Last {
    fn none(incarnation: u64) -> Self {
        Self { incarnation, offset: 0, performed_at: None }
    }
}

impl Sequencer {
    /// Begins a log under an epoch that no log of the past has.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, last: HashMap::default() }
    }

    /// The position of the gateway's next event, which is its last from now on.
    pub fn append(&mut self, life: Life) -> Position {
        let last = self.last_mut(life);
        last.offset += 1;
        let offset = last.offset;
        Position { epoch: life.epoch_in(self.epoch), offset }
    }

    /// The time of a deployment that the gateway gets now: `wall`, or a millisecond after its last one where the clock stands still
    /// or was set back.
    pub fn performed_at(&mut self, life: Life, wall: Timestamp) -> Timestamp {
        let last = self.last_mut(life);
        let at = last.performed_at.map_or(wall, |before| wall.max(Timestamp(before.0.saturating_add(1))));
        last.performed_at = Some(at);
        at
    }

    fn last_mut(&mut self, Life { gateway, incarnation }: Life) -> &mut Last {
        let last = self.last.entry(gateway).or_insert(Last::none(incarnation));
        if last.incarnation != incarnation {
            *last = Last::none(incarnation);
        }
        last
    }

    /// The position of the gateway's last event.
    pub fn last(&self, life: Life) -> Position {
        let last = self.last.get(&life.gateway).filter(|last| last.incarnation == life.incarnation);
        Position { epoch: life.epoch_in(self.epoch), offset: last.map_or(0, |last| last.offset) }
    }

    /// The gateway was deleted.
    pub fn forget(&mut self, gateway: GatewayId) {
        self.last.remove(&gateway);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(gateway: GatewayId, incarnation: u64) -> Life {
        Life { gateway, incarnation }
    }

    #[test]
    fn offsets_rise_from_one_in_each_life() {
        let mut sequencer = Sequencer::new(7);
        let gateway = GatewayId::random();
        let (first, second) = (life(gateway, 1), life(gateway, 2));
        assert_eq!(sequencer.last(first), Position { epoch: first.epoch_in(7), offset: 0 });
        assert_eq!([(); 2].map(|()| sequencer.append(first).offset), [1, 2]);
        assert_eq!(sequencer.last(first).offset, 2);
        assert_eq!(sequencer.last(second), Position { epoch: second.epoch_in(7), offset: 0 });
        assert_eq!(sequencer.append(second), Position { epoch: second.epoch_in(7), offset: 1 });
        assert_ne!(first.epoch_in(7), second.epoch_in(7));
    }

    #[test]
    fn deployments_are_performed_ever_later_whatever_the_clock_does() {
        let mut sequencer = Sequencer::new(7);
        let [one, other] = [(); 2].map(|()| life(GatewayId::random(), 1));
        let mut at = |life, wall| sequencer.performed_at(life, Timestamp(wall)).0;
        assert_eq!([at(one, 100), at(one, 100), at(one, 50), at(one, 200), at(one, 201)], [100, 101, 102, 200, 201]);
        assert_eq!(at(other, 50), 50, "each gateway has its own");
        assert_eq!(sequencer.append(one).offset, 1, "a time is not an event");
    }

    #[test]
    fn a_forgotten_gateway_leaves_nothing_behind() {
        let mut sequencer = Sequencer::new(7);
        let gateway = GatewayId::random();
        sequencer.append(life(gateway, 1));
        sequencer.forget(gateway);
        assert!(sequencer.last.is_empty());
    }
}
