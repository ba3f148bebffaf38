//! The writer's thread: takes requests from all ports, answers follows, and commits what is to be appended in groups.

use super::{
    backlog::{Backlog, Slice},
    file::{Failed, LogFile, sizes},
    heads::{Garbage, Gateway, Heads},
    mark::MarkFile,
    port::refuse,
    queue::{Answer, Lane, Shared, lock},
    rows::{self, HeadRow},
    settings::{SqliteLogSettings, why},
    space::Space,
};
use crate::{
    limits::EVENT_LOG_WAL_BYTES_MAX,
    model::{
        Life, Position,
        log::{ForgetKey, LogReply, LogRequest, NotAppended, Why},
    },
    store::Trouble,
};
use ahash::HashSet;
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
    pub slice: Slice,
    pub results: Vec<Result<Position, NotAppended>>,
}

/// The state of the retention.
#[derive(Debug, Default)]
pub(super) struct Retention {
    /// When it last looked for old events and found none.
    pub looked_at: Option<Duration>,
    /// Gateways over their bound in bytes.
    pub over: Vec<usize>,
    /// A trim found the disk full, and there was no ballast.
    pub starved: Option<Duration>,
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
    /// Gateways that are to be forgotten, with the ports that ask for it.
    pub forgets: Vec<(usize, ForgetKey, Life)>,
    /// The group in progress.
    pub parts: Vec<Part>,
    /// Answers of the group in progress, for each port.
    pub answers: Vec<Vec<Answer>>,
    pub trouble: Option<Trouble>,
    /// When progress was written last without events.
    pub progress_at: Duration,
    /// When a write was tried last.
    pub tried_at: Duration,
    pub space: Space,
    pub retention: Retention,
    /// A sync has failed: the file is copied before it is used again.
    pub unsynced: bool,
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
                Ok(Next::Sleep) => thread::park_timeout(self.sleep_max()),
                Ok(Next::End) => break,
                Err(_) => self.handle_panic(),
            }
        }
        self.end();
    }

    fn turn(&mut self) -> Next {
        // Where a core shares this processor, it goes on first and asks for more: each event costs less in a larger commit.
        // Where none does, this costs one system call.
        thread::yield_now();
        // Read before the queues, so that nothing is queued behind the last look at them.
        let stopped = self.shared.is_stopped();
        self.fill_backlog();
        while let Some((port, request)) = self.backlog.next_other() {
            self.handle(port, request);
        }
        self.forget_gathered();
        if !self.backlog.is_empty() {
            self.commit_group();
        }
        let past = self.step_past();
        self.send_answers();
        // Behind the answers, which do not wait for it.
        self.write_progress_if_due();
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
            self.backlog.fill(index, |into| port.take(Lane::Write, into));
        }
    }

    fn handle(&mut self, port: usize, request: LogRequest) {
        match request {
            LogRequest::Follow { key, life, behind } => {
                let reply = self.follow(port, key, life, behind);
                self.answers[port].push(Answer::to(Lane::Write, 0, reply));
            }
            LogRequest::Unfollow(key) => self.heads.end_follow(port, key),
            LogRequest::Forget { key, life } => self.forgets.push((port, key, life)),
            LogRequest::Progress { life, step } => self.step_progress(life, step),
            // They are never queued here.
            LogRequest::Append { .. } | LogRequest::Read { .. } | LogRequest::Cancel(_) => {}
        }
    }

    /// Removes the logs of the gateways that are to be forgotten. All in one commit: with one for each, appends would wait
    /// for thousands of syncs when as many gateways are deleted.
    fn forget_gathered(&mut self) {
        let forgets = std::mem::take(&mut self.forgets);
        if forgets.is_empty() {
            return;
        }
        let lives: Vec<_> = forgets.iter().map(|(_, _, life)| *life).collect();
        let forgotten = self.forget(&lives);
        for (port, key, _) in forgets {
            self.answers[port].push(Answer::to(Lane::Write, 0, LogReply::Forgotten(key, forgotten)));
        }
    }

    /// Removes logs of gateways: at once from sight, and their events from the file later, slice by slice.
    pub fn forget(&mut self, lives: &[Life]) -> Result<(), Why> {
        let is_stored =
            |heads: &Heads, life| heads.index_of_life(life).is_some_and(|index| heads.gateways[index].stored);
        if lives.iter().any(|life| is_stored(&self.heads, *life)) {
            // This may read the heads again, and then each has another index.
            self.ready().map_err(|trouble| why(&trouble))?;
            let heads = &self.heads;
            let known = lives.iter().filter_map(|life| heads.index_of_life(*life)).map(|index| &heads.gateways[index]);
            let stored = known.filter(|gateway| gateway.stored);
            let rows: Vec<_> = stored.map(|gateway| HeadRow { dead: true, ..gateway.row() }).collect();
            self.write(|connection| rows.iter().try_for_each(|row| rows::update_head(connection, row)))?;
        }
        for life in lives {
            self.heads.to_begin.retain(|other| other != life);
            let Some(index) = self.heads.index_of_life(*life) else { continue };
            let removed = self.heads.remove(index);
            if removed.stored {
                self.heads.garbage.push(Garbage::of_dead(removed.number));
            }
        }
        Ok(())
    }

    /// Removes the log of an older incarnation of a gateway, if there is one.
    pub fn forget_older(&mut self, life: Life) -> Result<(), Why> {
        self.heads.older_life(life).map_or(Ok(()), |older| self.forget(&[older]))
    }

    /// Removes the gateways that were deleted while no hub ran, or just before the last one ended.
    pub fn forget_orphans(&mut self) -> Result<(), Trouble> {
        let lives: HashSet<_> = self.settings.lives.iter().copied().collect();
        let is_orphan = |(_, gateway): &(usize, &Gateway)| !lives.contains(&gateway.life);
        let orphans: Vec<_> = self.heads.gateways.iter().filter(is_orphan).map(|(index, _)| index).collect();
        let Some(file) = self.file.as_mut().filter(|_| !orphans.is_empty()) else { return Ok(()) };
        let heads = &self.heads;
        let marked = file.write(self.shared.now(), &mut self.mark, |connection| {
            let rows = orphans.iter().map(|index| HeadRow { dead: true, ..heads.gateways[*index].row() });
            rows.into_iter().try_for_each(|row| rows::update_head(connection, &row))
        });
        marked.map_err(|failed| failed.trouble)?;
        tracing::info!(gateways = orphans.len(), "the event log removes the events of gateways that do not exist");
        for index in orphans {
            let number = self.heads.remove(index).number;
            self.heads.garbage.push(Garbage::of_dead(number));
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

    pub fn send_answers(&mut self) {
        for (index, (port, answers)) in self.shared.ports().iter().zip(&mut self.answers).enumerate() {
            port.note_oldest(Lane::Write, self.backlog.oldest(index));
            port.answer(answers);
        }
    }

    /// Work between groups. Returns whether there is more.
    fn maintain(&mut self) -> bool {
        if self.shared.unsynced.swap(false, Ordering::Relaxed) {
            let failed = Failed { unsynced: true, ..Failed::unknown("a checkpoint could not be synced") };
            self.handle_failure(&failed);
        }
        self.restart_wal_if_due();
        self.probe();
        self.trim_slice() || self.give_back_pages()
    }

    /// Begins the write-ahead log anew where the reader asks for it, or cannot keep up with what is written.
    fn restart_wal_if_due(&mut self) {
        let wanted = self.shared.wal_restart.load(Ordering::Acquire);
        // As much again may be in it from before the checkpoint in progress.
        let is_behind = self.shared.wal_pending.load(Ordering::Relaxed) > EVENT_LOG_WAL_BYTES_MAX / 2;
        let (shared, Some(file)) = (Arc::clone(&self.shared), &self.file) else { return };
        if !wanted && !is_behind {
            return;
        }
        // Waits for the checkpoint or the read in progress.
        let reader = lock(&shared.read_connection);
        let restarted = file.restart_wal();
        drop(reader);
        self.shared.wal_pending.store(0, Ordering::Relaxed);
        self.shared.wal_restart.store(false, Ordering::Release);
        if let Err(failed) = restarted {
            self.handle_failure(&failed);
        }
    }

    fn update_stats(&self) {
        let stats = &self.shared.stats;
        stats.set_free_bytes(self.space.free());
        stats.set_retained_events(self.heads.retained_events);
        stats.set_retained_bytes(self.heads.retained_bytes);
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
        self.write_progress_at_end();
        if self.reader.take().is_some_and(|reader| reader.join().is_err()) {
            tracing::error!("the reading thread of the event log has panicked");
        }
        *lock(&self.shared.read_connection) = None;
        let Some(file) = self.file.take() else { return };
        let synced = file
            .close()
            .and_then(|synced| if synced { self.mark.end().map_err(|error| Trouble::from_io(&error)) } else { Ok(()) });
        if let Err(trouble) = synced {
            tracing::error!(trouble = trouble.text("the event log"), "the event log was not closed cleanly");
        }
        let (file_bytes, wal_bytes) = sizes(&self.settings);
        self.shared.stats.set_file_bytes(file_bytes);
        self.shared.stats.set_wal_bytes(wal_bytes);
    }
}
