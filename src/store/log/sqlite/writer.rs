//! The writer's thread: takes requests from all ports, answers follows, and commits what is to be appended in groups.

use super::{
    backlog::Backlog,
    file::{Failed, LogFile, sizes},
    heads::{Follow, Garbage, Heads},
    mark::MarkFile,
    past,
    port::refuse,
    queue::{Answer, Lane, Shared, payload_bytes},
    settings::{SqliteLogSettings, why},
    space::Space,
};
use crate::{
    limits::{EVENT_LOG_LOCK_WAIT, EVENT_LOG_RETRY_INTERVAL, EVENT_LOG_SLICE_BYTES_MAX, EVENT_LOG_SLICE_EVENTS_MAX},
    model::{
        Life, Position,
        log::{AppendKey, End, FollowKey, LogReply, LogRequest, NotAppended, Record, Room, Why},
    },
    store::Trouble,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

/// A slice of an append in the group in progress.
#[derive(Debug)]
pub(super) struct Part {
    pub port: usize,
    pub key: AppendKey,
    pub from: usize,
    pub results: Vec<Result<Position, NotAppended>>,
    pub last: bool,
    /// As the port counts.
    pub bytes: usize,
}

/// The writer.
pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub settings: SqliteLogSettings,
    /// `None` after trouble, until it is opened again.
    pub file: Option<LogFile>,
    pub mark: MarkFile,
    pub heads: Heads,
    pub backlog: Backlog,
    /// The group in progress.
    pub parts: Vec<Part>,
    /// Answers of the group in progress, for each port.
    pub answers: Vec<Vec<Answer>>,
    pub trouble: Option<Trouble>,
    /// When a write was tried last.
    pub tried_at: Duration,
    pub space: Space,
    pub reader: Option<JoinHandle<()>>,
}

/// What the thread does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Again,
    Sleep,
    End,
}

impl Writer {
    /// Runs until the log is stopped.
    pub fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(Next::Again) => {}
                Ok(Next::Sleep) => thread::park_timeout(self.shared.tuning.tick),
                Ok(Next::End) => break,
                Err(_) => self.handle_panic(),
            }
        }
        self.end();
    }

    fn turn(&mut self) -> Next {
        // Read before the queues, so that nothing is queued behind the last look at them.
        let stopped = self.shared.is_stopped();
        self.fill_backlog();
        while let Some((port, request)) = self.backlog.next_other() {
            self.handle(port, request);
        }
        if !self.backlog.is_empty() {
            self.commit_group();
        }
        let past = self.step_past();
        self.send_answers();
        let busy = self.maintain();
        self.update_stats();
        match (self.backlog.is_empty(), stopped) {
            (true, true) => Next::End,
            (true, false) if !past && !busy => Next::Sleep,
            _ => Next::Again,
        }
    }

    fn fill_backlog(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.answers.resize_with(shared.ports().len(), Vec::new);
        for (index, port) in shared.ports().iter().enumerate() {
            self.backlog.fill(index, |into, held| port.take(Lane::Write, into, held));
        }
    }

    fn handle(&mut self, port: usize, request: LogRequest) {
        match request {
            LogRequest::Follow { key, life, behind } => {
                let reply = self.follow(port, key, life, behind);
                self.answers[port].push(Answer::to(Lane::Write, 0, reply));
            }
            LogRequest::Unfollow(key) => self.heads.end_follow(port, key),
            LogRequest::Forget { key, life } => {
                let known = self.heads.index_of(life.gateway).filter(|index| self.heads.gateways[*index].life == life);
                let forgotten = known.map_or(Ok(()), |index| self.forget(index));
                self.answers[port].push(Answer::to(Lane::Write, 0, LogReply::Forgotten(key, forgotten)));
            }
            // They are never queued here.
            LogRequest::Append { .. } | LogRequest::Read { .. } | LogRequest::Cancel(_) => {}
        }
    }

    fn follow(&mut self, port: usize, key: FollowKey, life: Life, behind: Option<Position>) -> LogReply {
        if let Some(older) = self.heads.older_life(life)
            && let Err(why) = self.forget(older)
        {
            return LogReply::NotFollowing { key, why: End::Failed(why) };
        }
        let index = self.heads.index_or_create(life);
        let head = self.heads.gateways[index].head;
        let start = behind.unwrap_or(Position { epoch: head.epoch, offset: head.last });
        if let Err(why) = past::check(head, start) {
            return LogReply::NotFollowing { key, why };
        }
        let past = (start.offset < head.last).then_some(start.offset + 1);
        self.heads.add_follow(index, Follow { port, key, past });
        LogReply::Following { key, head }
    }

    /// Removes a gateway's log: at once from sight, and its events from the file later, slice by slice.
    pub fn forget(&mut self, index: usize) -> Result<(), Why> {
        if self.heads.gateways[index].stored {
            let mut row = self.heads.gateways[index].row();
            row.dead = true;
            self.ready().map_err(|trouble| why(&trouble))?;
            self.write(|connection| super::rows::update_head(connection, &row))?;
        }
        let removed = self.heads.remove(index);
        if removed.stored {
            self.heads.garbage.push(Garbage { number: removed.number, below: u64::MAX >> 1, dead: true });
        }
        Ok(())
    }

    /// Makes one write in a transaction of its own.
    pub fn write(&mut self, write: impl FnOnce(&rusqlite::Connection) -> Result<(), Trouble>) -> Result<(), Why> {
        let now = self.shared.now();
        let Some(file) = &mut self.file else { return Err(Why::Io) };
        match file.write(now, &mut self.mark, write) {
            Ok(()) => {
                self.handle_success();
                Ok(())
            }
            Err(failed) => {
                self.handle_failure(&failed);
                Err(why(&failed.trouble))
            }
        }
    }

    /// Whether a write may be tried now; opens the file if it is closed.
    pub fn ready(&mut self) -> Result<(), Trouble> {
        let now = self.shared.now();
        if let Some(trouble) = &self.trouble
            && now.saturating_sub(self.tried_at) < EVENT_LOG_RETRY_INTERVAL
        {
            return Err(trouble.clone());
        }
        self.tried_at = now;
        if self.file.is_none() {
            self.reopen().inspect_err(|trouble| self.handle_failure(&Failed::from(trouble.clone())))?;
        }
        Ok(())
    }

    /// Opens the file again after trouble, and reads the heads again.
    fn reopen(&mut self) -> Result<(), Trouble> {
        // Held until the file is open, so that the reader does not open what is being replaced.
        let shared = Arc::clone(&self.shared);
        let mut reader = super::queue::lock(&shared.read_connection);
        *reader = None;
        let (file, mark, lost) = LogFile::open(&self.settings, Some(self.mark.mark), Duration::ZERO)?;
        let ended = self.heads.load(&file.connection, file.meta.epoch)?;
        drop(reader);
        if let Some(why) = lost {
            tracing::warn!(why, "the event log has a new epoch: events may have been lost");
            self.shared.stats.count_new_epoch();
        }
        self.shared.stats.set_epoch(file.meta.epoch);
        (self.file, self.mark) = (Some(file), mark);
        for follow in ended {
            self.answers[follow.port].push(Answer::told(LogReply::Interrupted(follow.key)));
        }
        Ok(())
    }

    /// Notes that the file was written.
    pub fn handle_success(&mut self) {
        if self.trouble.take().is_some() {
            if let Some(file) = &self.file
                && let Err(error) = file.connection.busy_timeout(EVENT_LOG_LOCK_WAIT)
            {
                tracing::error!(%error, "the event log's time limit for locks cannot be set");
            }
            self.shared.report(Lane::Write, Ok(()), "");
        }
    }

    /// Notes that the file was not written, and closes it if it must be read again.
    pub fn handle_failure(&mut self, failed: &Failed) {
        let trouble = &failed.trouble;
        self.heads.roll_back();
        if trouble.ends_connection() || self.heads.stale_after_roll_back {
            if let Some(file) = self.file.take() {
                file.abandon();
            }
        } else if let Some(file) = &self.file {
            // Only the first request waits for a lock. If each did, the last of a full queue would wait for minutes.
            let _ = file.connection.busy_timeout(Duration::ZERO);
        }
        self.shared.report(Lane::Write, Err(why(trouble)), &trouble.to_string());
        self.trouble = Some(trouble.clone());
        self.tried_at = self.shared.now();
    }

    /// Gives follows that began in the past their next events. Returns whether more can be given at once.
    fn step_past(&mut self) -> bool {
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
            Ok((records, end)) if next >= gateway.head.first => {
                let told = records.last().map_or(after.offset, |record| record.position.offset);
                self.heads.set_past(index, port, key, (end == End::More).then_some(told + 1));
                self.tell(port, key, records);
                end == End::More
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
        let (bytes, shared) = (payload_bytes(&records), &self.shared.ports()[port]);
        let waiting = shared.live_bytes.load(Ordering::SeqCst);
        if waiting > 0 && waiting + bytes > self.shared.tuning.live_bytes_max {
            return self.interrupt(port, key);
        }
        shared.live_bytes.fetch_add(bytes, Ordering::SeqCst);
        self.answers[port].push(Answer::told(LogReply::Live { key, records }));
    }

    pub fn interrupt(&mut self, port: usize, key: FollowKey) {
        self.heads.end_follow(port, key);
        self.answers[port].push(Answer::told(LogReply::Interrupted(key)));
    }

    pub fn send_answers(&mut self) {
        for (port, answers) in self.shared.ports().iter().zip(&mut self.answers) {
            port.answer(answers);
        }
    }

    /// Work between groups. Returns whether there is more.
    fn maintain(&mut self) -> bool {
        if self.shared.wal_restart.swap(false, Ordering::Relaxed)
            && let Some(file) = &self.file
            && let Err(trouble) = file.restart_wal()
        {
            self.handle_failure(&Failed::from(trouble));
        }
        false
    }

    fn update_stats(&self) {
        let (stats, now) = (&self.shared.stats, self.shared.now());
        stats.set_free_bytes(self.space.free());
        let ages = self.shared.ports().iter().map(|port| port.oldest_age(Lane::Write, now));
        stats.set_queue_age_ms(ages.max().map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)));
        stats.set_retained_events(self.heads.retained_events);
        stats.set_retained_bytes(self.heads.retained_bytes);
    }

    /// What was in progress may be in the file or not, so the file is closed and read again.
    fn handle_panic(&mut self) {
        tracing::error!("the event log's thread panicked; it goes on with the file read again");
        let trouble = Trouble::Failing("its thread panicked".to_owned());
        self.end_parts(Some(&Failed { trouble: trouble.clone(), unknown: true }));
        self.handle_failure(&Failed::from(trouble));
        self.send_answers();
    }

    /// Answers what is left, and closes the file.
    fn end(mut self) {
        for port in self.shared.ports() {
            let mut answers = Vec::new();
            for queued in port.close(Lane::Write, Why::Stopping) {
                let mut out = Vec::new();
                refuse(queued.request, Why::Stopping, &mut out);
                answers.extend(out.into_iter().map(Answer::told));
            }
            port.answer(&mut answers);
        }
        if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            tracing::error!("the reading thread of the event log has panicked");
        }
        *super::queue::lock(&self.shared.read_connection) = None;
        let Some(file) = self.file.take() else { return };
        let synced = file
            .close()
            .and_then(|synced| if synced { self.mark.end().map_err(|error| Trouble::from_io(&error)) } else { Ok(()) });
        if let Err(trouble) = synced {
            tracing::error!(%trouble, "the event log was not closed cleanly");
        }
        let (file_bytes, wal_bytes) = sizes(&self.settings);
        self.shared.stats.set_file_bytes(file_bytes);
        self.shared.stats.set_wal_bytes(wal_bytes);
    }
}
