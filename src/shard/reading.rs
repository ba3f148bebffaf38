//! Reads a gateway's log for the API: one request to the log, whose answer is the reply. [`super::history`] bounds them.

use super::{Effect, Events, Origin, Reply, Shard};
use crate::{
    limits,
    model::{
        GatewayId,
        log::{End, LogRequest, ReadFrom, ReadKey, Record, Room},
    },
};

impl Shard {
    /// Asks the log for events of a gateway, at most `limit`.
    pub(super) fn read_events(&mut self, origin: Origin, gateway: GatewayId, from: ReadFrom, limit: usize) {
        let Some(life) = self.life_of(gateway) else { return self.answer_events(origin, Events::NoSuchGateway) };
        if self.history.is_full() {
            return self.answer_events(origin, Events::Overloaded);
        }
        let key = self.log.read_key();
        let room = Room { records: limit, bytes: limits::EVENTS_PAGE_BYTES_MAX };
        self.history.ask(key, origin, gateway);
        self.log.push(LogRequest::Read { key, life, from, upto: None, room });
    }

    /// Answers the read with what the log has told.
    pub(super) fn handle_events(&mut self, read: ReadKey, records: Vec<Record>, end: End) {
        let Some(origin) = self.history.end(read) else { return };
        let events = match end {
            End::More { head } => Events::Page { records, more: true, head },
            End::Reached { head } => Events::Page { records, more: false, head },
            End::Gone { head } => Events::Trimmed(head),
            End::OtherEpoch { head } => Events::UnknownPosition(head),
            End::Failed(why) => Events::Unavailable(why),
        };
        self.answer_events(origin, events);
    }

    /// The log is too busy for the read. It is not made again: the caller can, and need not wait to learn it.
    pub(super) fn handle_events_busy(&mut self, read: ReadKey) {
        if let Some(origin) = self.history.end(read) {
            self.answer_events(origin, Events::Overloaded);
        }
    }

    /// Answers the reads of a gateway that was deleted.
    pub(super) fn end_events(&mut self, gateway: GatewayId) {
        for origin in self.history.cancel(gateway, &mut self.log) {
            self.answer_events(origin, Events::NoSuchGateway);
        }
    }

    fn answer_events(&mut self, origin: Origin, events: Events) {
        self.effects.push_back(Effect::Reply(origin, Reply::Events(events)));
    }
}
