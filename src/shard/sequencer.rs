//! Gives events their positions: the last position of each gateway of one shard.

use crate::model::{GatewayId, Life, Position};
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
}

impl Sequencer {
    /// Begins a log under an epoch that no log of the past has.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, last: HashMap::default() }
    }

    /// The position of the gateway's next event, which is its last from now on.
    pub fn append(&mut self, life: Life) -> Position {
        let Life { gateway, incarnation } = life;
        let last = self.last.entry(gateway).or_insert(Last { incarnation, offset: 0 });
        if last.incarnation != incarnation {
            *last = Last { incarnation, offset: 0 };
        }
        last.offset += 1;
        Position { epoch: life.epoch_in(self.epoch), offset: last.offset }
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
    fn a_forgotten_gateway_leaves_nothing_behind() {
        let mut sequencer = Sequencer::new(7);
        let gateway = GatewayId::random();
        sequencer.append(life(gateway, 1));
        sequencer.forget(gateway);
        assert!(sequencer.last.is_empty());
    }
}
