//! Where a connection begins in the events of its gateway: at their end, behind the position that it asks for, or behind the last
//! event that the gateway has processed.

use super::{
    ConnectionKey, Effect, Missed, Shard, catch_up::CatchUp, counters, cursor::Stage, feed_key::FeedKey, joins::Begin,
    processing::Processing,
};
use crate::model::{Now, Position, log::Head};

impl Shard {
    /// Begins a connection, now that the end of its gateway's log is known.
    pub(super) fn begin(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.registry.connection(key) else { return };
        // The feed may have lost its place, and begin once more, while the log looks for the connection's.
        let Some(feed) = self.feeds.get(connection.feed).filter(|_| connection.cursor.is_joining()) else { return };
        let end = feed.end();
        match connection.resume.as_deref().copied() {
            Some(asked) if asked.epoch == end.epoch && asked.offset <= end.offset => {
                self.begin_behind(now, key, asked, Some(true));
            }
            Some(_) => {
                self.counters.resumes.add(counters::UNKNOWN_POSITION);
                self.begin_without(now, key, Some(false));
            }
            None => self.begin_without(now, key, None),
        }
    }

    /// Begins a connection that asks for no position, or for one that the log does not have.
    fn begin_without(&mut self, now: Now, key: ConnectionKey, resumed: Option<bool>) {
        let Some(connection) = self.registry.connection(key) else { return };
        let feed = self.feeds.get(connection.feed).filter(|_| connection.is_proved);
        let progress =
            feed.and_then(|feed| Some(Position { offset: feed.progress.as_ref()?.processed(), ..feed.end() }));
        match progress {
            Some(processed) => self.begin_behind(now, key, processed, resumed),
            None => self.begin_at_end(now, key, resumed),
        }
    }

    /// Begins a connection behind a position, which is not above the end. `resumed` is what its gateway is told.
    fn begin_behind(&mut self, now: Now, key: ConnectionKey, position: Position, resumed: Option<bool>) {
        self.set_processing(key, position.offset, resumed != Some(true));
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let Some(feed) = self.feeds.get_mut(connection.feed) else { return };
        let end = feed.end();
        // Only the log knows whether everything behind that position is retained, unless it is in the feed.
        if position.offset + 1 < feed.first() {
            let catch_up = Box::new(CatchUp::undecided(resumed));
            connection.cursor.begin(position.offset, 0, Stage::CatchingUp(catch_up));
            return self.continue_catching_up(now, key);
        }
        let bytes = feed.bytes_at(position.offset);
        connection.cursor.begin(position.offset, bytes, Stage::Live);
        connection.cursor.go_live(end);
        feed.add_holder(position.offset + 1);
        if position.offset < end.offset {
            self.wake(key);
        }
        self.count_resumed(resumed);
        self.start(key, position.offset);
        self.admit(key, Begin { position: Some(position), resumed });
        self.pass_over(now, key);
    }

    /// Pongs of the connection prove something, if they do, from this offset on.
    fn set_processing(&mut self, key: ConnectionKey, begin: u64, skips: bool) {
        let Some(connection) = self.registry.connection(key).filter(|it| it.is_proved) else { return };
        let Some(feed) = self.feeds.get(connection.feed) else { return };
        let (end, next) = (feed.end().offset, begin + 1);
        // A gateway that names its position has everything before it, and gets everything behind it.
        let replay_until = if skips { end } else { 0 };
        let is_next = |processed| processed + 1 == next && next <= end;
        let poison = feed
            .progress
            .as_ref()
            .filter(|progress| skips && is_next(progress.processed()) && progress.is_poisoned(&self.settings.delivery));
        // As long as another connection is at work on it, it is not given up.
        let is_in_hands = |key: &ConnectionKey| self.first_in_flight(*key) == Some(next);
        let poison = poison.filter(|_| !feed.connections().iter().any(is_in_hands)).map(|_| next);
        let processing = Processing::new(self.settings.delivery.window, begin, replay_until, poison);
        if let Some(connection) = self.registry.connection_mut(key) {
            connection.cursor.processing = Some(Box::new(processing));
        }
    }

    /// The log has another epoch: the positions that connections ask for are not known any more.
    pub(super) fn refuse_positions(&mut self, now: Now, key: FeedKey) {
        let joining = self.feeds.get(key).map_or_else(Vec::new, |feed| feed.joining().to_vec());
        for member in joining {
            let Some(connection) = self.registry.connection(member) else { continue };
            let Some(resumed) = connection.cursor.catch_up().map(|catch_up| catch_up.resumed) else { continue };
            self.cancel_read(member);
            self.begin_anew(now, member, resumed);
        }
    }

    /// Begins a connection whose first read has shown that the position is not one of this log.
    pub(super) fn begin_anew(&mut self, now: Now, key: ConnectionKey, resumed: Option<bool>) {
        if let Some(connection) = self.registry.connection_mut(key) {
            connection.cursor.stage = Stage::Joining;
        }
        if resumed == Some(true) {
            self.counters.resumes.add(counters::UNKNOWN_POSITION);
        }
        self.begin_without(now, key, resumed.map(|_| false));
    }

    /// The first read of a connection has shown that events behind its position are not retained any more.
    pub(super) fn begin_trimmed(&mut self, now: Now, key: ConnectionKey, head: Head, resumed: Option<bool>) {
        if resumed == Some(true) {
            self.counters.resumes.add(counters::TRIMMED);
        }
        let Some(connection) = self.registry.connection_mut(key) else { return };
        if !connection.is_proved {
            return self.begin_at_end(now, key, resumed.map(|_| false));
        }
        // The gateway gets what is there. What is not there is lost to it, and is said. One that has asked for an older position than
        // its gateway has processed is not given those events again.
        let (gateway, id, taken) = (connection.gateway, connection.id, connection.cursor.taken);
        connection.cursor.stage = Stage::Joining;
        let feed_key = connection.feed;
        let feed = self.feeds.get(feed_key);
        let processed = feed.and_then(|feed| feed.progress.as_ref()).map_or(0, |progress| progress.processed());
        let (has, last_lost) = (processed.max(taken), head.first - 1);
        let begin = processed.max(last_lost);
        if last_lost > has {
            self.counters.skipped.add_many(counters::TRIMMED, last_lost - has);
            self.waits.skip_range(gateway, has + 1..=last_lost, counters::TRIMMED);
            let missed = Missed { gateway, connection: id, events: last_lost - has, is_lost: true };
            self.effects.push_back(Effect::Missed(missed));
            self.reach(now, feed_key, last_lost);
        }
        self.begin_behind(now, key, Position { epoch: head.epoch, offset: begin }, resumed.map(|_| false));
        self.follow_processed(now, key);
    }

    /// Begins a connection at the end of the log.
    pub(super) fn begin_at_end(&mut self, now: Now, key: ConnectionKey, resumed: Option<bool>) {
        let Some(feed) = self.registry.connection(key).and_then(|connection| self.feeds.get(connection.feed)) else {
            return;
        };
        let (end, bytes) = (feed.end(), feed.bytes());
        self.set_processing(key, end.offset, true);
        let Some(connection) = self.registry.connection_mut(key) else { return };
        connection.cursor.begin_live(end, bytes);
        self.start(key, end.offset);
        self.admit(key, Begin { position: Some(end), resumed });
        self.follow_processed(now, key);
    }

    /// The first read of a connection that begins in the past has shown that nothing is missing.
    pub(super) fn admit_past(&mut self, key: ConnectionKey) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let Some(feed) = self.feeds.get_mut(connection.feed) else { return };
        let begin = connection.cursor.taken;
        let Some(catch_up) = connection.cursor.catch_up_mut() else { return };
        catch_up.is_undecided = false;
        let resumed = catch_up.resumed;
        feed.behind += 1;
        let position = Some(Position { offset: begin, ..feed.end() });
        self.count_resumed(resumed);
        self.start(key, begin);
        self.admit(key, Begin { position, resumed });
    }

    fn count_resumed(&mut self, resumed: Option<bool>) {
        if resumed == Some(true) {
            self.counters.resumes.add(counters::RESUMED);
        }
    }

    /// From now on the connection counts among those that get its gateway's events. It begins behind an offset.
    fn start(&mut self, key: ConnectionKey, begin: u64) {
        let Some(feed) = self.registry.connection(key).map(|connection| connection.feed) else { return };
        let members = self.feeds.get(feed).map_or(&[][..], |feed| feed.connections());
        // A connection that only looks on is not the gateway.
        let is_away = members.iter().filter_map(|key| self.registry.connection(*key)).all(|other| other.written_only);
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let Some(feed) = self.feeds.get_mut(feed) else { return };
        let comes_back = is_away && !connection.written_only;
        feed.start(key);
        let has = if feed.is_proved() { Some(begin) } else { feed.left_at() };
        let missed = has.filter(|_| comes_back).map_or(0, |has| feed.end().offset.saturating_sub(has));
        if missed > 0 {
            feed.missed = u32::try_from(missed).unwrap_or(u32::MAX);
            self.counters.missed += missed;
            // What lies behind its begin comes now.
            let is_lost = begin == feed.end().offset;
            let (gateway, connection) = (connection.gateway, connection.id);
            self.effects.push_back(Effect::Missed(Missed { gateway, connection, events: missed, is_lost }));
        }
    }

    pub(super) fn admit(&mut self, key: ConnectionKey, begin: Begin) {
        if let Some(connection) = self.registry.connection_mut(key)
            && !std::mem::replace(&mut connection.admitted, true)
        {
            connection.resume = None;
            self.effects.push_back(Effect::Admit(key, begin));
        }
    }
}
