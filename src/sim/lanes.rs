//! The three lanes into each core. Messages are delayed, and stay in order for each sender. The control lane never
//! refuses a message.

use super::{io::SimSocket, rng::Rng, store::Receipt};
use crate::{
    engine::{Incoming, Lane},
    model::Instant,
};
use std::{collections::VecDeque, rc::Rc, time::Duration};

/// A message to a core.
pub(super) type Message = Incoming<SimSocket, Rc<Receipt>>;

/// One lane: its messages in the order of their arrival.
pub(super) struct LaneQueue {
    queue: VecDeque<(Instant, Message)>,
    /// The arrival of each sender's last message; the next must not overtake it.
    last: Vec<Instant>,
    max: usize,
}

/// The lanes into one core.
pub(super) struct Lanes {
    queues: [LaneQueue; 3],
    delay_max: u64,
    /// The core has ended: every message is refused.
    closed: bool,
}

/// The sender's number for the store and the server; core `n` is number `n` + 1.
pub(super) const OUTSIDE: usize = 0;

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Replies => 1,
        Lane::Requests => 2,
    }
}

impl Lanes {
    /// Lanes with these bounds (control, replies, requests) in a hub of `cores` cores.
    pub(super) fn new(cores: usize, max: [usize; 3], delay_max: u64) -> Self {
        let queue = |max| LaneQueue { queue: VecDeque::new(), last: vec![Instant(0); cores + 1], max };
        Self { queues: max.map(queue), delay_max, closed: false }
    }

    /// Sends a message and returns when it arrives; gives it back if the lane is full or the core has ended.
    pub(super) fn send(
        &mut self,
        now: Instant,
        from: usize,
        lane: Lane,
        message: Message,
        rng: &mut Rng,
    ) -> Result<Instant, Message> {
        let queue = &mut self.queues[index(lane)];
        if self.closed || (lane != Lane::Control && queue.queue.len() >= queue.max) {
            return Err(message);
        }
        let due = (now + Duration::from_micros(rng.below(self.delay_max + 1))).max(queue.last[from]);
        queue.last[from] = due;
        let place = queue.queue.iter().rposition(|(at, _)| *at <= due).map_or(0, |place| place + 1);
        queue.queue.insert(place, (due, message));
        Ok(due)
    }

    /// Takes the next message of a lane, if one has arrived.
    pub(super) fn take(&mut self, now: Instant, lane: Lane) -> Option<Message> {
        let queue = &mut self.queues[index(lane)];
        queue.queue.front().filter(|(due, _)| *due <= now)?;
        queue.queue.pop_front().map(|(_, message)| message)
    }

    /// The arrival of the next message on any lane.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queues.iter().filter_map(|queue| queue.queue.front()).map(|(due, _)| *due).min()
    }

    pub(super) fn is_full(&self, lane: Lane) -> bool {
        let queue = &self.queues[index(lane)];
        !self.closed && queue.queue.len() >= queue.max
    }

    /// Closes the lanes of a core that has ended, and returns the messages that it did not take.
    pub(super) fn close(&mut self) -> Vec<Message> {
        self.closed = true;
        self.queues.iter_mut().flat_map(|queue| queue.queue.drain(..)).map(|(_, message)| message).collect()
    }
}
