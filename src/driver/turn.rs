//! The turn: everything that is due on this core is done, a batch at a time, and one connection's panic ends that one.

use super::{flush::Flushed, link::Link, worker::Worker};
use crate::{
    limits,
    model::{CloseReason, Now},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::atomic::Ordering,
};
use zeroize::Zeroize;

impl Worker {
    /// Puts the connection on the agenda.
    pub(super) fn enqueue(&self, link: &Rc<Link>) {
        if !link.queued.replace(true) {
            self.agenda.borrow_mut().push_back(Rc::clone(link));
        }
    }

    /// Does what is on the agenda, up to a batch; the rest is gone on with after I/O had its turn.
    pub(super) fn turn(&self) {
        for _ in 0..limits::FLUSH_BATCH {
            self.carry_out_shard();
            let Some(link) = self.next() else { return };
            link.queued.set(false);
            self.guard(&link, |worker| worker.serve(&link));
        }
        self.carry_out_shard();
        // Full means that the task has been told already.
        let _ = self.more.try_send(());
    }

    fn next(&self) -> Option<Rc<Link>> {
        if let Some(link) = self.agenda.borrow_mut().pop_front() {
            return Some(link);
        }
        loop {
            let key = self.shard.borrow_mut().poll_dirty()?;
            let members = self.members.borrow();
            let link = members.get(key.index as usize).and_then(Option::as_ref);
            if let Some(link) = link.filter(|link| link.member.get() == Some(key)) {
                return Some(Rc::clone(link));
            }
        }
    }

    /// Runs something for one connection; its panic ends that connection and no other.
    pub(super) fn guard(&self, link: &Rc<Link>, what: impl Fn(&Self)) {
        if catch_unwind(AssertUnwindSafe(|| what(self))).is_ok() {
            return;
        }
        self.shared.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!(address = %link.session.borrow().peer(), "a connection's code panicked; the connection ends");
        let closing = catch_unwind(AssertUnwindSafe(|| {
            link.session.borrow_mut().close(self.now(), CloseReason::InternalError);
            self.flush(link);
        }));
        if closing.is_err() {
            link.session.borrow_mut().depart();
        }
    }

    /// Feeds the session what was read.
    pub(super) fn receive(&self, link: &Link, bytes: usize) {
        #[cfg(test)]
        super::faults::strike(link.session.borrow().peer());
        let mut received = self.received.borrow_mut();
        let mut scratch = self.scratch.borrow_mut();
        let mut session = link.session.borrow_mut();
        session.handle_received(self.now(), &mut received[..bytes], &mut scratch);
        if session.had_secret() {
            // Without TLS there may have been a key in it.
            received[..bytes].zeroize();
        }
    }

    /// Carries out what the session asks for, and writes what it has to say.
    fn serve(&self, link: &Rc<Link>) {
        loop {
            self.carry_out_session(link);
            let flushed = self.flush(link);
            let effect = link.session.borrow().has_effect();
            if !effect {
                if flushed == Flushed::More {
                    self.enqueue(link);
                }
                break;
            }
        }
        self.arm(link);
        link.nudge();
    }

    /// Makes sure that the wheel brings the connection up when it wants to be looked at.
    pub(super) fn arm(&self, link: &Link) {
        if let Some(at) = link.session.borrow().poll_timeout() {
            link.alarm.set(&mut self.wheel.borrow_mut(), at, link.key);
        }
    }

    /// Time has passed: deadlines of connections, publishes and questions.
    pub(super) fn tick(&self) {
        let now = self.refresh_clock();
        self.shared.beat(self.id);
        let mut due = Vec::new();
        self.wheel.borrow_mut().advance(now.instant, &mut due);
        for key in due {
            let link = self.links.borrow().get(key.index as usize).filter(|link| link.key == key).cloned();
            if let Some(link) = link {
                self.handle_due(&link, now);
            }
        }
        self.shard.borrow_mut().handle_timeout(now);
        loop {
            let expired = self.asks.borrow_mut().expire(now.instant);
            let Some(expired) = expired else { break };
            self.complete(expired);
        }
        self.turn();
    }

    fn handle_due(&self, link: &Rc<Link>, now: Now) {
        if !link.alarm.ring(now.instant) {
            return;
        }
        let due = link.session.borrow().poll_timeout().is_some_and(|at| at <= now.instant);
        if due {
            link.session.borrow_mut().handle_timeout(now);
            self.enqueue(link);
        } else {
            self.arm(link);
        }
    }
}
