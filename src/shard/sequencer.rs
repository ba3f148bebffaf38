//! Gives events their positions, and deployments their times. It keeps the last of each for every gateway of one shard.

use crate::model::{GatewayId, Life, Position, Timestamp};
use ahash::HashMap;

/// The last positions of one shard's gateways. A gateway that never had an event uses no memory.
#[derive(Debug)]
pub struct Sequencer {
    /// The epoch of the process.
    epoch: u64,
    last: HashMap<GatewayId, Last>,
}

/// The last position and time of one life of a gateway id.
#[derive(Debug)]
struct Last {
    incarnation: u64,
    offset: u64,
    /// The time of its last deployment.
    performed_at: Option<Timestamp>,
}

impl Last {
    fn none(incarnation: u64) -> Self {
        Self { incarnation, offset: 0, performed_at: None }
    }
}

impl Sequencer {
    /// Begins all sequences under an epoch that no earlier process had.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, last: HashMap::default() }
    }

    /// Takes the next position of a gateway.
    pub fn append(&mut self, life: Life) -> Position {
        let last = self.last_mut(life);
        last.offset += 1;
        let offset = last.offset;
        // Nothing is kept on disk, so offsets begin at 1 again after a restart, and after the id was used again. The
        // epoch is made of the process and the incarnation, so no position is given twice.
        Position { epoch: life.epoch_in(self.epoch), offset }
    }

    /// The time of a new deployment: `wall`, or a millisecond after the previous one if the clock has not advanced or was
    /// set back.
    pub fn performed_at(&mut self, life: Life, wall: Timestamp) -> Timestamp {
        let last = self.last_mut(life);
        // A gateway ignores a deployment that is not later than its last one, so two must never have the same time.
        let at = last.performed_at.map_or(wall, |before| wall.max(Timestamp(before.0.saturating_add(1))));
        last.performed_at = Some(at);
        at
    }

    fn last_mut(&mut self, Life { gateway, incarnation }: Life) -> &mut Last {
        let last = self.last.entry(gateway).or_insert(Last::none(incarnation));
        // `forget` removes a deleted gateway. This covers a caller that misses the deletion.
        if last.incarnation != incarnation {
            *last = Last::none(incarnation);
        }
        last
    }

    /// The position of the gateway's last event; its offset is 0 if there was none.
    pub fn last(&self, life: Life) -> Position {
        let last = self.last.get(&life.gateway).filter(|last| last.incarnation == life.incarnation);
        Position { epoch: life.epoch_in(self.epoch), offset: last.map_or(0, |last| last.offset) }
    }

    /// Removes the state of a deleted gateway.
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
    fn times_of_deployments_rise_even_if_the_clock_is_set_back() {
        let mut sequencer = Sequencer::new(7);
        let [one, other] = [(); 2].map(|()| life(GatewayId::random(), 1));
        let mut at = |life, wall| sequencer.performed_at(life, Timestamp(wall)).0;
        assert_eq!([at(one, 100), at(one, 100), at(one, 50), at(one, 200), at(one, 201)], [100, 101, 102, 200, 201]);
        assert_eq!(at(other, 50), 50, "each gateway has its own times");
        assert_eq!(sequencer.append(one).offset, 1, "a time takes no position");
    }

    #[test]
    fn forgetting_a_gateway_frees_its_memory() {
        let mut sequencer = Sequencer::new(7);
        let gateway = GatewayId::random();
        sequencer.append(life(gateway, 1));
        sequencer.forget(gateway);
        assert!(sequencer.last.is_empty());
    }
}
