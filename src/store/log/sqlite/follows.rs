//! Follows of gateways: where they begin, their events from the past, and when they are interrupted.

use super::{
    heads::Follow,
    past,
    queue::{Answer, live_bytes},
    writer::Writer,
};
use crate::{
    limits::{EVENT_LOG_SLICE_BYTES_MAX, EVENT_LOG_SLICE_EVENTS_MAX},
    model::{
        Life, Position,
        log::{End, FollowKey, LogReply, Record, Room},
    },
};
use std::sync::atomic::Ordering;

impl Writer {
    /// Answers a follow.
    pub fn follow(&mut self, port: usize, key: FollowKey, life: Life, behind: Option<Position>) -> LogReply {
        // What went wrong with another gateway does not concern this one.
        let _ = self.begin_progress();
        if let Err(why) = self.forget_older(life) {
            return LogReply::NotFollowing { key, why: End::Failed(why) };
        }
        let index = self.heads.index_or_create(life);
        let gateway = &self.heads.gateways[index];
        let (head, progress) = (gateway.head, gateway.progress.map(|kept| kept.told(gateway.head)));
        let start = behind.unwrap_or(Position { epoch: head.epoch, offset: head.last });
        if let Err(why) = past::check(head, start) {
            return LogReply::NotFollowing { key, why };
        }
        if start.offset < self.heads.gateways[index].erased {
            return LogReply::NotFollowing { key, why: End::Gone { head } };
        }
        let past = (start.offset < head.last).then_some(start.offset + 1);
        self.heads.add_follow(index, Follow { port, key, past });
        LogReply::Following { key, head, progress }
    }

    /// Gives follows that began in the past their next events. Returns whether more can be given at once.
    pub fn step_past(&mut self) -> bool {
        if self.heads.in_the_past == 0 || self.file.is_none() {
            return false;
        }
        let mut more = false;
        let indices: Vec<_> = self.heads.gateways.iter().map(|(index, _)| index).collect();
        for index in indices {
            let follows = self.heads.gateways[index].follows.clone();
            for (follow, next) in follows.into_iter().filter_map(|follow| Some((follow, follow.past?))) {
                more |= self.step_follow(index, follow, next);
            }
        }
        more
    }

    fn step_follow(&mut self, index: usize, Follow { port, key, .. }: Follow, next: u64) -> bool {
        let shared = &self.shared.ports()[port];
        // Set before the room is looked at: a port that drains afterwards sees it and wakes this thread.
        shared.wants_room.store(true, Ordering::SeqCst);
        if shared.live_bytes.load(Ordering::SeqCst) > self.shared.tuning.live_bytes_max / 2 {
            return false;
        }
        shared.wants_room.store(false, Ordering::SeqCst);
        let (gateway, Some(file)) = (&self.heads.gateways[index], &self.file) else { return false };
        let after = Position { epoch: gateway.head.epoch, offset: next - 1 };
        let room = Room { records: EVENT_LOG_SLICE_EVENTS_MAX, bytes: EVENT_LOG_SLICE_BYTES_MAX };
        let read = past::read(&file.connection, gateway.number, gateway.life, after, gateway.head.last, room);
        match read {
            Ok((records, more)) if next >= gateway.head.first && next > gateway.erased => {
                let told = records.last().map_or(after.offset, |record| record.position.offset);
                self.heads.set_past(index, port, key, more.then_some(told + 1));
                self.tell(port, key, records);
                more
            }
            // It follows again, and is told why that is no place to begin.
            _ => {
                self.interrupt(port, key);
                false
            }
        }
    }

    /// Tells a follow its next events, if its port takes them.
    pub fn tell(&mut self, port: usize, key: FollowKey, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        let (bytes, shared) = (live_bytes(&records), &self.shared.ports()[port]);
        let waiting = shared.live_bytes.load(Ordering::SeqCst);
        if waiting > 0 && waiting + bytes > self.shared.tuning.live_bytes_max {
            return self.interrupt(port, key);
        }
        shared.live_bytes.fetch_add(bytes, Ordering::SeqCst);
        self.answers[port].push(Answer::told(LogReply::Live { key, records: records.into() }));
    }

    pub fn interrupt(&mut self, port: usize, key: FollowKey) {
        self.heads.end_follow(port, key);
        self.answers[port].push(Answer::told(LogReply::Interrupted(key)));
    }
}
