//! Catching up: a connection whose next record is not in the feed gets its records from the log, chunk by chunk, until
//! the next one is.
//!
//! ```text
//!   live ──(its record was evicted)──▶ catching up ──(its next record is in the feed)──▶ live
//!                joining with an older position ──▲
//! ```
//!
//! [`super::catch_ups`] says how they share the log.

use super::{
    Connection, ConnectionKey, Delivery, Effect, Encoding, Shard,
    catch_up::{Chunked, Reading},
    catch_ups::RECLAIM_AFTER,
    counters,
    cursor::Stage,
    processing::{About, Processing},
};
use crate::{
    limits,
    model::{
        CloseReason, Frame, Now, Position,
        log::{End, LogRequest, ReadFrom, ReadKey, Record, Room, Why},
    },
};

impl Shard {
    /// Memory for what connections that catch up have read.
    fn catch_up_budget(&self) -> usize {
        self.settings.recent_bytes_max / 4
    }

    /// A live connection falls behind, because its next record leaves the feed. The publishers of what it has not taken
    /// do not wait for it any more. [`Shard::continue_catching_up`] follows, once the record has left.
    pub(super) fn fall_behind(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.registry.connection(key) else { return };
        let (taken, feed_key) = (connection.cursor.taken, connection.feed);
        let Some(last) = self.feeds.get(feed_key).map(|feed| feed.end().offset) else { return };
        self.let_go(now, key, taken + 1..=last, None);
        let (Some(connection), Some(feed)) = (self.registry.connection_mut(key), self.feeds.get_mut(feed_key)) else {
            return;
        };
        let kept = connection.cursor.fall_behind(feed);
        feed.behind += 1;
        self.catch_ups.hold(kept);
    }

    /// The next step of a connection that may be catching up: go live, or read the next chunk once half is taken.
    pub(super) fn continue_catching_up(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let feed = self.feeds.get(connection.feed);
        let Some(feed) = feed else { return };
        if connection.cursor.has_caught_up(feed) {
            return self.go_live(now, key);
        }
        let Connection { cursor, .. } = connection;
        let (next, has_room) = (cursor.read_up_to(), cursor.room() > 0);
        let Some(catch_up) = cursor.catch_up_mut() else { return };
        // With a full window nothing more is taken for now, so what waits is enough.
        let is_short = catch_up.held_bytes < limits::CHUNK_BYTES_MAX / 2 && (has_room || catch_up.len() == 0);
        if catch_up.read == Reading::No && next < feed.end().offset && is_short {
            catch_up.read = Reading::Queued;
            let joining = catch_up.is_undecided;
            self.catch_ups.push(key, joining);
            self.read_next(now);
        }
    }

    /// The connection has taken all that there was for it.
    pub fn handle_drained(&mut self, now: Now, key: ConnectionKey) {
        if self.registry.connection(key).is_some_and(|it| it.cursor.catch_up().is_some()) {
            self.continue_catching_up(now, key);
        }
    }

    /// The connection's next record is in the feed.
    fn go_live(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.registry.connection(key) else { return };
        let (confirmed, feed_key) = (connection.cursor.confirmed, connection.feed);
        let held_until = connection.cursor.held_until;
        if held_until < u64::MAX && held_until > confirmed {
            // Taken before it fell behind, and still on the way to its socket.
            self.let_go(now, key, confirmed + 1..=held_until, None);
        }
        self.cancel_read(key);
        let (Some(connection), Some(feed)) = (self.registry.connection_mut(key), self.feeds.get_mut(feed_key)) else {
            return;
        };
        let end = feed.end();
        connection.cursor.go_live(end);
        feed.behind -= 1;
        let first = connection.cursor.taken + 1;
        feed.add_holder(first);
        if first <= end.offset {
            self.wake(key);
        }
        self.release(feed_key);
        self.pass_over(now, key);
    }

    /// Asks the log for the next chunks, as many as there is memory for.
    pub(super) fn read_next(&mut self, now: Now) {
        let budget = self.catch_up_budget();
        while !self.catch_ups.is_empty() {
            let bytes = self.catch_ups.chunk_bytes(budget);
            // What the log has read stands in front of its answers to publishers. The next chunk that comes asks again.
            if self.catch_ups.asked_bytes() > 0 && self.catch_ups.asked_bytes() + bytes > limits::READS_BYTES_MAX {
                return;
            }
            if self.catch_ups.bytes() > 0 && self.catch_ups.bytes() + bytes > budget {
                return self.catch_ups.wait_for_memory(now.instant);
            }
            self.ask_next(bytes);
        }
    }

    /// Asks the log for the next chunk.
    fn ask_next(&mut self, bytes: usize) {
        let Some(key) = self.catch_ups.pop() else { return };
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let Some(feed) = self.feeds.get(connection.feed) else { return };
        let Connection { cursor, .. } = connection;
        let (after, window) = (cursor.read_up_to(), cursor.room());
        let Some(catch_up) = cursor.catch_up_mut().filter(|it| it.read == Reading::Queued) else { return };
        let read = self.log.read_key();
        catch_up.read = Reading::Asked(read);
        let after = Position { offset: after, ..feed.end() };
        // The memory of a small event is that of its envelope.
        let records = (bytes / limits::CHUNK_RECORD_BYTES).min(limits::CHUNK_RECORDS_MAX);
        // Of a slow gateway's past only little is kept in memory.
        let records =
            if catch_up.is_single { 1 } else { records.min(window.saturating_mul(2).max(WINDOW_RECORDS_MIN)) };
        let room = Room { records, bytes };
        // Not beyond what the log has told: the rest comes by the feed.
        self.log.push(LogRequest::Read {
            key: read,
            life: feed.life,
            from: ReadFrom::After(after),
            upto: Some(feed.end()),
            room,
        });
        self.catch_ups.ask(read, key, bytes);
    }

    /// Some connections have waited for memory. Those that do not take what was read for them give it back: their
    /// sockets or their windows are full, and they read it again when those take events ([`Shard::handle_drained`]).
    pub(super) fn look_for_memory(&mut self, now: Now) {
        self.read_next(now);
        if self.catch_ups.is_empty() || self.catch_ups.is_asking() {
            return;
        }
        let is_idle = |(key, it): (ConnectionKey, &Connection)| {
            let catch_up = it.cursor.catch_up()?;
            (now.instant >= catch_up.read_at + RECLAIM_AFTER && catch_up.held_bytes > 0).then_some(key)
        };
        let idle: Vec<_> = self.registry.iter().filter_map(is_idle).collect();
        for key in idle {
            let freed = self.registry.connection_mut(key).map_or(0, |it| it.cursor.give_back());
            self.catch_ups.free(freed);
        }
        // Where only records are left that sockets have begun to take, one read goes beyond the memory for them.
        if !self.catch_ups.is_asking() {
            self.ask_next(limits::CHUNK_BYTES_MIN);
        }
    }

    /// Takes back the connection's read.
    pub(super) fn cancel_read(&mut self, key: ConnectionKey) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let Some(catch_up) = connection.cursor.catch_up_mut() else { return };
        // A queued one is passed over when its turn comes.
        if let Reading::Asked(read) = std::mem::take(&mut catch_up.read)
            && self.catch_ups.end(read).is_some()
        {
            self.log.push(LogRequest::Cancel(read));
        }
    }

    /// Handles what a read has brought.
    pub(super) fn handle_chunk(&mut self, now: Now, read: ReadKey, records: Vec<Record>, end: End) {
        let Some(key) = self.catch_ups.end(read) else { return };
        self.take_chunk(now, key, records, end);
        self.read_next(now);
    }

    fn take_chunk(&mut self, now: Now, key: ConnectionKey, records: Vec<Record>, end: End) {
        let budget = self.catch_up_budget();
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let held_before = connection.cursor.catch_up().map_or(0, |catch_up| catch_up.held_bytes);
        if let Some(first) = records.first().filter(|_| !connection.admitted) {
            connection.cursor.learn_bytes(first);
        }
        let (Stage::CatchingUp(catch_up), processing) = (&mut connection.cursor.stage, &connection.cursor.processing)
        else {
            return;
        };
        catch_up.read = Reading::No;
        catch_up.read_at = now.instant;
        let (undecided, resumed) = (catch_up.is_undecided, catch_up.resumed);
        // Whoever is to get everything does not get it. Others are not given what was erased.
        let is_erased = records.iter().any(|record| record.event.is_erased());
        let has_gap = is_erased && (processing.is_none() || resumed == Some(true));
        match end {
            End::More { head } | End::Reached { head } if has_gap && undecided => {
                self.begin_trimmed(now, key, head, resumed);
            }
            End::More { .. } | End::Reached { .. } if has_gap => self.close(now, key, CloseReason::SlowConsumer),
            End::More { .. } | End::Reached { .. } => {
                let empty = catch_up.len() == 0;
                // A chunk has one event at least, however little memory was kept for it. Of many that come together with large
                // events, those beyond the memory are read again later.
                let is_beyond = self.catch_ups.held_bytes() >= budget && self.catch_ups.is_asking();
                let delivery = &self.settings.delivery;
                let encoding = &self.settings.encoding;
                for record in records.into_iter().filter(|_| !is_beyond) {
                    catch_up.push(chunked(&record, encoding, delivery, processing.as_deref()));
                }
                let held = catch_up.held_bytes - held_before;
                self.catch_ups.hold(held);
                catch_up.is_single = false;
                if undecided {
                    self.admit_past(key);
                }
                if empty {
                    self.pass_over(now, key);
                    self.wake(key);
                }
                self.continue_catching_up(now, key);
            }
            End::Gone { head } if undecided => self.begin_trimmed(now, key, head, resumed),
            End::OtherEpoch { .. } if undecided => self.begin_anew(now, key, resumed),
            End::Failed(Why::Damaged) if connection.is_proved => self.step_over_damage(now, key),
            // A damaged event is as good as trimmed: asking again would only keep the gateway away from what is behind it.
            End::Failed(Why::Damaged) if undecided => {
                self.counters.resumes.add(counters::TRIMMED);
                self.begin_at_end(now, key, Some(false));
            }
            End::Gone { .. } => self.close(now, key, CloseReason::SlowConsumer),
            End::OtherEpoch { .. } | End::Failed(Why::Damaged) => self.close(now, key, CloseReason::LogReplaced),
            End::Failed(_) if undecided && resumed.is_some() => self.refuse_resume(key),
            End::Failed(_) => self.retries.read_later(now.instant, key),
        }
    }

    /// An event that a connection is given next is damaged. It is found, and passed over; all others are delivered.
    fn step_over_damage(&mut self, now: Now, key: ConnectionKey) {
        let Some(connection) = self.registry.connection_mut(key) else { return };
        let bytes = connection.cursor.bytes();
        let Some(catch_up) = connection.cursor.catch_up_mut() else { return };
        let undecided = catch_up.is_undecided;
        if std::mem::replace(&mut catch_up.is_single, true) {
            catch_up.is_single = false;
            let passed = Some(counters::DAMAGED);
            catch_up.push(Chunked { frame: Frame::default(), bytes, about: None, passed });
            if undecided {
                self.admit_past(key);
            }
            self.pass_over(now, key);
        }
        self.continue_catching_up(now, key);
    }

    /// Closes a connection for this reason.
    pub(super) fn close(&mut self, now: Now, key: ConnectionKey, reason: CloseReason) {
        self.handle_closing(now, key, reason);
        self.effects.push_back(Effect::Close(key, reason));
    }
}

/// Events that are read at once for a connection with a small window.
const WINDOW_RECORDS_MIN: usize = 16;

/// A record as one connection is given it: whole, without the ping, or not at all.
fn chunked(record: &Record, encoding: &Encoding, delivery: &Delivery, processing: Option<&Processing>) -> Chunked {
    let (event, position) = (&record.event, record.position);
    let about = processing.map(|_| About { kind: event.kind.clone(), correlation: event.correlation });
    let passed = processing.and_then(|it| it.passes_over(position.offset, delivery.skips_in_replay(&event.kind)));
    let passed = passed.or(event.is_erased().then_some(counters::ERASED));
    if passed.is_some() {
        return Chunked { frame: Frame::default(), bytes: record.bytes, about, passed };
    }
    let frame = (encoding.encode)(record, processing.is_some(), Vec::new());
    Chunked { frame, bytes: record.bytes, about, passed: None }
}
