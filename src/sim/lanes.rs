//! The three lanes of each core: with a delay, in order for each pair of cores. That of control is never full.

use super::{io::SimSocket, rng::Rng, store::Receipt};
use crate::{
    engine::{Incoming, Lane},
    model::Instant,
};
use std::{collections::VecDeque, rc::Rc, time::Duration};

/// What travels between cores.
pub(super) type Message = Incoming<SimSocket, Rc<Receipt>>;

/// One way into a core.
pub(super) struct LaneQueue {
    queue: VecDeque<(Instant, Message)>,
    /// When the last message of each sender arrives.
    last: Vec<Instant>,
    max: usize,
}

/// A core's inbox.
pub(super) struct Lanes {
    queues: [LaneQueue; 3],
    delay_max: u64,
    /// The core has ended: nothing gets in any more.
    closed: bool,
}

/// Who is no core: the store and the server.
pub(super) const OUTSIDE: usize = 0;

const fn index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Replies => 1,
        Lane::Requests => 2,
    }
}

impl Lanes {
    /// Lanes of a hub of so many cores with these bounds, in the order control, replies, requests.
    pub(super) fn new(cores: usize, max: [usize; 3], delay_max: u64) -> Self {
        let queue = |max| LaneQueue { queue: VecDeque::new(), last: vec![Instant(0); cores + 1], max };
        Self { queues: max.map(queue), delay_max, closed: false }
    }

    /// Sends; returns when it arrives, or the message where the lane is full or the core has ended.
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

    /// The next message of a lane that has arrived.
    pub(super) fn take(&mut self, now: Instant, lane: Lane) -> Option<Message> {
        let queue = &mut self.queues[index(lane)];
        queue.queue.front().filter(|(due, _)| *due <= now)?;
        queue.queue.pop_front().map(|(_, message)| message)
    }

    /// When the next message arrives.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queues.iter().filter_map(|queue| queue.queue.front()).map(|(due, _)| *due).min()
    }

    pub(super) fn is_full(&self, lane: Lane) -> bool {
        let queue = &self.queues[index(lane)];
        !self.closed && queue.queue.len() >= queue.max
    }

    /// The core has ended; what waits for it is given out to be dropped.
    pub(super) fn close(&mut self) -> Vec<Message> {
        self.closed = true;
        self.queues.iter_mut().flat_map(|queue| queue.queue.drain(..)).map(|(_, message)| message).collect()
    }
}
