//! What the writer does about trouble with the file: tells it, closes the file, and opens it again, without a restart of the hub.

use super::{
    file::{Failed, LogFile},
    queue::{Answer, Lane, lock},
    recovery, schema,
    settings::why,
    writer::Writer,
};
use crate::{
    limits::{EVENT_LOG_LOCK_WAIT, EVENT_LOG_PROBE_INTERVAL, EVENT_LOG_RETRY_INTERVAL},
    model::log::LogReply,
    store::Trouble,
};
use std::{sync::Arc, time::Duration};

/// Log time that is not written down, in milliseconds, while events are kept and none is appended. A process that is killed forgets
/// it, so events are kept for longer.
const LOG_TIME_INTERVAL_MS: u64 = 60_000;

impl Writer {
    /// Whether a write may be tried now; opens the file if it is closed.
    pub fn ready(&mut self) -> Result<(), Trouble> {
        let now = self.shared.now();
        // A copy of the file is too much work for more than one try a second.
        let interval = if self.unsynced { EVENT_LOG_PROBE_INTERVAL } else { EVENT_LOG_RETRY_INTERVAL };
        if let Some(trouble) = &self.trouble
            && now.saturating_sub(self.tried_at) < interval
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
        let mut reader = lock(&shared.read_connection);
        *reader = None;
        if self.unsynced {
            recovery::replace_by_copy(&self.settings.file(), &self.settings.mark())?;
            self.mark.mark.inode = schema::inode(&self.settings.file())?;
            self.unsynced = false;
            tracing::warn!("the event log was copied into a new file after a failed sync");
        }
        let (file, mark, lost) = LogFile::open(&self.settings, Some(self.mark.mark), Duration::ZERO)?;
        let loaded = self.heads.load(&file.connection, file.meta.epoch)?;
        drop(reader);
        if let Some(why) = lost {
            tracing::warn!(why, "the event log has a new epoch: events may have been lost");
            self.shared.stats.count_new_epoch();
        }
        (0..loaded.damaged).for_each(|_| self.shared.stats.count_damaged_row());
        self.shared.stats.set_epoch(file.meta.epoch);
        (self.file, self.mark) = (Some(file), mark);
        for follow in loaded.ended {
            self.answers[follow.port].push(Answer::told(LogReply::Interrupted(follow.key)));
        }
        Ok(())
    }

    /// Notes that the file was written.
    pub fn handle_success(&mut self) {
        // A trim or a forget may succeed while there is too little room for events.
        let full = matches!(self.trouble, Some(Trouble::Full));
        if full && self.space.check(&self.settings, self.shared.now()).is_err() {
            return;
        }
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
        self.unsynced |= failed.unsynced;
        self.heads.roll_back();
        if trouble.ends_connection() || self.heads.stale_after_roll_back {
            if let Some(file) = self.file.take() {
                file.abandon();
            }
        } else if let Some(file) = &self.file {
            // Only the first request waits for a lock. If each did, the last of a full queue would wait for minutes.
            let _ = file.connection.busy_timeout(Duration::ZERO);
        }
        self.shared.report(Lane::Write, Err(why(trouble)), &trouble.text("the event log"));
        if self.trouble.replace(trouble.clone()).is_none() {
            self.tried_at = self.shared.now();
        }
    }

    /// Tests a write where the last one failed, and writes the log time down from time to time.
    pub fn probe(&mut self) {
        let now = self.shared.now();
        if self.trouble.is_some() {
            if now.saturating_sub(self.tried_at) < EVENT_LOG_PROBE_INTERVAL {
                return;
            }
            let ready = self.ready().and_then(|()| self.space.check(&self.settings, now));
            if let Err(trouble) = ready {
                return self.handle_failure(&Failed::from(trouble));
            }
        } else {
            let Some(file) = &self.file else { return };
            let is_written = file.log_time(now).saturating_sub(file.meta.log_time) < LOG_TIME_INTERVAL_MS;
            if is_written || self.heads.retained_events == 0 {
                return;
            }
        }
        self.write_progress();
        if self.trouble.is_none() {
            self.space.make_ballast(&self.settings);
        }
    }

    /// What was in progress may be in the file or not, so the file is closed and read again.
    pub fn handle_panic(&mut self) {
        tracing::error!("the event log's thread panicked; it goes on with the file read again");
        let failed = Failed::unknown("its thread panicked");
        self.backlog.end_turn();
        self.end_parts(Some(&failed));
        self.handle_failure(&failed);
        self.send_answers();
    }
}
