//! One commit of the writer: as many slices of appends as fit a group, written, committed and answered together.

use super::{
    backlog::{Backlog, Slice},
    file::Failed,
    heads::{Garbage, Heads},
    queue::{Answer, Freed, Lane},
    rows::{self, InsertEvent, Place},
    settings::why,
    writer::{Part, Writer},
};
use crate::{
    limits::{EVENT_LOG_CHECKPOINT_BYTES, EVENT_LOG_GROUP_BYTES_MAX, EVENT_LOG_GROUP_EVENTS_MAX},
    model::{
        Life, Position,
        log::{Draft, LogReply, NotAppended, Record},
    },
    store::Trouble,
};
use rusqlite::Connection;
use std::{sync::atomic::Ordering, time::Instant};

/// Bytes that a commit writes besides its events: the pages that it changes in part.
pub(super) const WAL_BYTES_PER_COMMIT: u64 = 16 * 1024;

impl Writer {
    /// Commits a group, and answers it.
    pub fn commit_group(&mut self) {
        let began = Instant::now();
        let written = self.ready().and_then(|()| self.space.check(&self.settings, self.shared.now()));
        let written = written.and_then(|()| self.begin_progress());
        let written = written.map_err(Failed::from).and_then(|()| self.write_group());
        match written {
            Ok(()) => {
                let events = self.parts.iter().map(|part| part.results.len() as u64).sum();
                let bytes: usize = self.parts.iter().map(|part| part.slice.bytes).sum();
                self.shared.stats.count_commit(events, began.elapsed());
                self.note_wal(bytes as u64 + WAL_BYTES_PER_COMMIT);
                self.heads.note_progress_written();
                self.handle_success();
                self.end_parts(None);
                self.tell_live();
            }
            Err(failed) => {
                if self.parts.is_empty() {
                    self.take_unwritten();
                }
                self.end_parts(Some(&failed));
                self.handle_failure(&failed);
            }
        }
    }

    /// Wakes the reader when there is enough for a checkpoint.
    pub fn note_wal(&self, bytes: u64) {
        let before = self.shared.wal_pending.fetch_add(bytes, Ordering::Relaxed);
        if before < EVENT_LOG_CHECKPOINT_BYTES && before + bytes >= EVENT_LOG_CHECKPOINT_BYTES {
            self.shared.wake(Lane::Read);
        }
    }

    fn write_group(&mut self) -> Result<(), Failed> {
        let now = self.shared.now();
        let Some(file) = &mut self.file else { return Err(Trouble::Failing("its file is closed".to_owned()).into()) };
        file.begin()?;
        let (seq, logged) = (file.seq, file.log_time(now));
        let inserted = Inserting::new(&file.connection, &mut self.heads, seq, logged)
            .and_then(|insert| insert.slices(&mut self.backlog, &mut self.parts))
            .and_then(|seq| self.heads.write_progress(&file.connection).map(|()| seq));
        match inserted {
            Ok(seq) => {
                file.commit(now, &mut self.mark, (self.shared.tuning.commit_fault)())?;
                file.seq = seq;
                Ok(())
            }
            Err(trouble) => {
                file.roll_back();
                Err(trouble.into())
            }
        }
    }

    /// Takes a group from the backlog that cannot be written.
    fn take_unwritten(&mut self) {
        let mut events = 0;
        while events < EVENT_LOG_GROUP_EVENTS_MAX {
            let Some((port, pending)) = self.backlog.next_append() else { break };
            let slice = pending.begin_slice(EVENT_LOG_GROUP_EVENTS_MAX, EVENT_LOG_GROUP_BYTES_MAX);
            pending.take(&slice).for_each(drop);
            self.parts.push(Part { port, slice, results: Vec::new() });
            self.backlog.end_turn();
            events += slice.events;
        }
    }

    /// Answers the slices of the group: with their positions, or with why there are none.
    pub fn end_parts(&mut self, failed: Option<&Failed>) {
        let why = failed.map(|failed| {
            let why = why(&failed.trouble);
            if failed.unknown { NotAppended::Unknown(why) } else { NotAppended::Refused(why) }
        });
        for Part { port, slice: Slice { key, from, events, bytes, last }, mut results } in self.parts.drain(..) {
            if let Some(why) = &why {
                results.clear();
                results.resize(events, Err(why.clone()));
            }
            let freed = Freed { lane: Lane::Write, requests: usize::from(last), bytes };
            let reply = LogReply::Appended { key, from, results, last };
            self.answers[port].push(Answer { reply: Some(reply), freed: Some(freed) });
        }
    }

    /// Tells follows the events of the group that was committed.
    fn tell_live(&mut self) {
        let mut touched = std::mem::take(&mut self.heads.touched);
        for index in touched.drain(..) {
            let gateway = &mut self.heads.gateways[index];
            gateway.before = None;
            gateway.stored = true;
            if gateway.retained_bytes() > self.settings.gateway_bytes_max && !self.retention.over.contains(&index) {
                self.retention.over.push(index);
            }
            if gateway.fresh.is_empty() {
                continue;
            }
            let mut records = std::mem::take(&mut gateway.fresh);
            let live: Vec<_> =
                gateway.follows.iter().filter(|it| it.past.is_none()).map(|it| (it.port, it.key)).collect();
            for (at, (port, key)) in live.iter().enumerate() {
                let records = if at + 1 == live.len() { std::mem::take(&mut records) } else { records.clone() };
                self.tell(*port, *key, records);
            }
        }
        self.heads.stale_after_roll_back = false;
        // Its room is used for the next group.
        self.heads.touched = touched;
    }
}

/// Inserts the events of one group.
struct Inserting<'a> {
    connection: &'a Connection,
    insert: InsertEvent<'a>,
    heads: &'a mut Heads,
    seq: u64,
    logged: u64,
}

impl<'a> Inserting<'a> {
    fn new(connection: &'a Connection, heads: &'a mut Heads, seq: u64, logged: u64) -> Result<Self, Trouble> {
        Ok(Self { connection, insert: InsertEvent::prepare(connection)?, heads, seq, logged })
    }

    /// Inserts slices until the group is full or nothing waits. Returns the last `seq`. After an error, the slice in which it
    /// came is among `parts` as a whole.
    fn slices(mut self, backlog: &mut Backlog, parts: &mut Vec<Part>) -> Result<u64, Trouble> {
        let (mut events, mut bytes) = (0, 0);
        while events < EVENT_LOG_GROUP_EVENTS_MAX && bytes < EVENT_LOG_GROUP_BYTES_MAX {
            let Some((port, pending)) = backlog.next_append() else { break };
            let slice = pending.begin_slice(EVENT_LOG_GROUP_EVENTS_MAX - events, EVENT_LOG_GROUP_BYTES_MAX - bytes);
            (events, bytes) = (events + slice.events, bytes + slice.bytes);
            // Among the parts before it is inserted, so that it is answered even after a panic.
            parts.push(Part { port, slice, results: Vec::with_capacity(slice.events) });
            let Some(part) = parts.last_mut() else { break };
            let mut failed = None;
            for draft in pending.take(&slice) {
                match self.event(draft) {
                    Ok(position) => part.results.push(Ok(position)),
                    // All of the group is refused. The rest of the slice is left to the next turn, which drops it.
                    Err(trouble) => {
                        failed = Some(trouble);
                        break;
                    }
                }
            }
            backlog.end_turn();
            if let Some(trouble) = failed {
                return Err(trouble);
            }
        }
        Ok(self.seq)
    }

    fn event(&mut self, draft: Draft) -> Result<Position, Trouble> {
        let index = self.gateway(draft.life)?;
        let position = self.heads.advance(index, draft.event.payload.len());
        let gateway = &mut self.heads.gateways[index];
        let bytes = gateway.head.bytes;
        let record = Record { position, accepted: draft.accepted, bytes, event: draft.event };
        self.seq += 1;
        self.insert.run(Place { seq: self.seq, number: gateway.number, logged: self.logged }, &record)?;
        if gateway.is_followed_live() {
            gateway.fresh.push(record);
        }
        Ok(position)
    }

    /// The gateway's index, after it got its row in the file.
    fn gateway(&mut self, life: Life) -> Result<usize, Trouble> {
        let index = match self.heads.index_of(life.gateway) {
            Some(index) if self.heads.gateways[index].life == life => index,
            Some(older) => {
                self.replace(older)?;
                self.heads.index_or_create(life)
            }
            None => self.heads.index_or_create(life),
        };
        let gateway = &self.heads.gateways[index];
        if !gateway.stored && gateway.before.is_none() {
            rows::insert_head(self.connection, &gateway.row())?;
        }
        Ok(index)
    }

    /// Removes an older incarnation that nobody forgot.
    fn replace(&mut self, index: usize) -> Result<(), Trouble> {
        self.heads.touched.retain(|touched| *touched != index);
        let mut removed = self.heads.remove(index);
        if removed.stored {
            // Before this group: its events in the group are removed with the others.
            removed.stored = false;
            rows::update_head(self.connection, &rows::HeadRow { dead: true, ..removed.row() })?;
            self.heads.garbage.push(Garbage::of_dead(removed.number));
            self.heads.stale_after_roll_back = true;
        }
        Ok(())
    }
}
