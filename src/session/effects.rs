//! The effects of one session that wait for its caller. A queue of two or fewer has no memory of its own: a read that brings a pong
//! makes two, and an idle connection should hold as little as possible.

use super::effect::Effect;
use std::collections::VecDeque;

/// A queue, first in, first out.
#[derive(Default)]
pub(super) struct Effects {
    first: Option<Effect>,
    second: Option<Effect>,
    /// Those behind the second, while there are any: a read with many small messages makes thousands.
    #[expect(clippy::box_collection, reason = "an empty `VecDeque` is four words, no box is one")]
    others: Option<Box<VecDeque<Effect>>>,
}

impl Effects {
    pub(super) fn push(&mut self, effect: Effect) {
        if self.first.is_none() {
            self.first = Some(effect);
        } else if self.second.is_none() {
            self.second = Some(effect);
        } else {
            self.others.get_or_insert_default().push_back(effect);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Effect> {
        let next = std::mem::replace(&mut self.first, self.second.take());
        if let Some(others) = &mut self.others {
            self.second = others.pop_front();
            if others.is_empty() {
                self.others = None;
            }
        }
        next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn numbered(number: u64) -> Effect {
        Effect::Life(Some(Duration::from_secs(number)))
    }

    fn pop(effects: &mut Effects) -> Option<u64> {
        effects.pop().map(|effect| match effect {
            Effect::Life(Some(number)) => number.as_secs(),
            other => panic!("nobody has pushed {other:?}"),
        })
    }

    #[test]
    fn effects_leave_in_the_order_in_which_they_came_and_an_empty_queue_has_no_memory() {
        // Each step pushes and pops numbers of its own, so that the queue is empty, short and long in turn.
        for (pushes, pops) in [(1, 1), (2, 2), (3, 1), (5, 3), (2, 1), (10_000, 9_999), (3, 4)] {
            let mut effects = Effects::default();
            let (mut next, mut expected) = (0, 0);
            for _ in 0..5 {
                for _ in 0..pushes {
                    effects.push(numbered(next));
                    next += 1;
                }
                for _ in 0..pops {
                    let popped = pop(&mut effects);
                    assert_eq!(popped, (expected < next).then_some(expected));
                    expected += u64::from(popped.is_some());
                }
                assert_eq!(effects.is_empty(), expected == next);
            }
            while let Some(popped) = pop(&mut effects) {
                assert_eq!(popped, expected);
                expected += 1;
            }
            assert_eq!(expected, next);
            assert!(effects.is_empty() && effects.others.is_none());
        }
    }

    #[test]
    fn an_empty_queue_is_small() {
        let bytes = size_of::<Effects>();
        assert!(bytes <= 56, "an empty queue has {bytes} bytes, expected at most 56");
    }
}
