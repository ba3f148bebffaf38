//! How far gateways have processed: changed in memory at once, and written with the next commit, for all that have changed. If no
//! event is appended, that is a commit of its own, at most ten times a second.
//!
//! Nothing waits for it. A change that could not be written is kept and written later, also after the file was opened again.

use super::{
    file::Failed,
    group::WAL_BYTES_PER_COMMIT,
    heads::{Garbage, Heads},
    rows,
    writer::Writer,
};
use crate::{
    model::{Life, log::ProgressStep},
    store::{
        Trouble,
        log::progress::{self, Kept},
    },
};
use rusqlite::Connection;
use std::time::Duration;

/// Bytes that a row adds to the write-ahead log, most of them of rows beside it: a guess, which a checkpoint corrects.
const WAL_BYTES_PER_ROW: u64 = 128;

impl Heads {
    /// Changes how far a gateway has processed.
    fn step_progress(&mut self, index: usize, step: ProgressStep) {
        let gateway = &self.gateways[index];
        self.set_progress(index, progress::step(gateway.progress, step, gateway.head));
    }

    fn set_progress(&mut self, index: usize, kept: Option<Kept>) {
        let gateway = &mut self.gateways[index];
        if gateway.progress == kept {
            return;
        }
        gateway.progress = kept;
        self.mark_unwritten(index);
    }

    fn mark_unwritten(&mut self, index: usize) {
        let gateway = &mut self.gateways[index];
        if !gateway.unwritten {
            gateway.unwritten = true;
            self.unwritten.push(index);
        }
    }

    /// Writes what has changed into the transaction in progress, behind its events.
    pub fn write_progress(&self, connection: &Connection) -> Result<(), Trouble> {
        for index in &self.unwritten {
            let gateway = &self.gateways[*index];
            let Some(kept) = gateway.progress else {
                rows::delete_progress(connection, gateway.number)?;
                continue;
            };
            // The row of the head comes first; an event of this group has brought it along.
            if !gateway.stored && gateway.before.is_none() {
                rows::insert_head(connection, &gateway.row())?;
            }
            rows::put_progress(connection, gateway.number, kept)?;
        }
        Ok(())
    }

    /// That transaction was committed.
    pub fn note_progress_written(&mut self) {
        for index in self.unwritten.drain(..) {
            let gateway = &mut self.gateways[index];
            gateway.unwritten = false;
            gateway.stored |= gateway.progress.is_some();
        }
    }

    /// Reads the rows of the file, once the heads are read. Returns the number of those that are damaged.
    pub fn load_progress(&mut self, connection: &Connection) -> Result<u64, Trouble> {
        let mut damaged = 0;
        for (number, row) in rows::progress(connection)? {
            damaged += u64::from(row.is_none());
            let Some(index) = self.index_of_number(number) else {
                let is_known = self.garbage.iter().any(|garbage| garbage.number == number && garbage.dead);
                if !is_known {
                    tracing::error!(number, "the progress of a gateway that the event log does not know is damaged");
                    // Removed, so that no later gateway with this number takes it for its own.
                    self.garbage.push(Garbage::of_dead(number));
                    self.skip_number(number);
                }
                continue;
            };
            let gateway = &mut self.gateways[index];
            let kept = row.map(|kept| kept.capped(gateway.head.last));
            // Everything that is retained is delivered again, rather than some of it never.
            gateway.progress = Some(kept.unwrap_or(Kept::at(gateway.head.first - 1)));
            if gateway.progress != row {
                let gateway = gateway.life.gateway;
                tracing::error!(%gateway, "the progress of a gateway in the event log is damaged: its events are delivered again");
                self.mark_unwritten(index);
            }
        }
        Ok(damaged)
    }

    /// Takes over what heads that were loaded before know, which may not be in the file.
    pub fn adopt_progress(&mut self, old: &mut Heads) {
        self.to_begin = std::mem::take(&mut old.to_begin);
        for (_, gateway) in &old.gateways {
            let Some(index) = self.index_to_adopt_progress(gateway.life, gateway.progress.is_some()) else { continue };
            let new = &self.gateways[index];
            let head = new.head;
            // In another epoch, what the file says fits its events, and an offset of before only as far as the base.
            let kept = match (gateway.progress, new.progress) {
                (Some(known), _) if head.epoch == gateway.head.epoch => Some(known.capped(head.last)),
                (Some(known), None) => Some(known.capped(head.base)),
                (Some(_), found) => found,
                (None, _) => None,
            };
            self.set_progress(index, kept);
            self.gateways[index].erased = gateway.erased;
        }
    }

    fn index_to_adopt_progress(&mut self, life: Life, is_kept: bool) -> Option<usize> {
        match self.index_of_life(life) {
            None if is_kept && self.index_of(life.gateway).is_none() => Some(self.index_or_create(life)),
            None if is_kept => {
                self.begin_later(life);
                None
            }
            found => found,
        }
    }

    fn begin_later(&mut self, life: Life) {
        self.to_begin.retain(|other| other.gateway != life.gateway);
        self.to_begin.push(life);
    }
}

impl Writer {
    /// Handles a step of a gateway.
    pub fn step_progress(&mut self, life: Life, step: ProgressStep) {
        let index = match step {
            ProgressStep::Begin | ProgressStep::Restart => {
                if self.forget_older(life).is_err() {
                    return self.heads.begin_later(life);
                }
                self.heads.index_or_create(life)
            }
            ProgressStep::Reach(_) | ProgressStep::End => {
                if step == ProgressStep::End {
                    self.heads.to_begin.retain(|other| *other != life);
                }
                let Some(index) = self.heads.index_of_life(life) else { return };
                index
            }
        };
        self.heads.step_progress(index, step);
    }

    /// Begins the progress of gateways whose older incarnation could not be forgotten before.
    pub fn begin_progress(&mut self) -> Result<(), Trouble> {
        while let Some(life) = self.heads.to_begin.last().copied() {
            if self.forget_older(life).is_err() {
                return Err(self.trouble.clone().unwrap_or(Trouble::Failing("its file is closed".to_owned())));
            }
            self.heads.to_begin.retain(|other| *other != life);
            let index = self.heads.index_or_create(life);
            self.heads.step_progress(index, ProgressStep::Begin);
        }
        Ok(())
    }

    /// Writes what has changed, where no group of events has done it. On a full disk as well: it needs little room.
    pub fn write_progress_if_due(&mut self) {
        let may_write = matches!(self.trouble, None | Some(Trouble::Full));
        let is_due = self.shared.now().saturating_sub(self.progress_at) >= self.shared.tuning.progress_interval;
        if may_write && is_due && self.is_progress_unwritten() && self.ready().is_ok() {
            self.write_progress();
            self.progress_at = self.shared.now();
        }
    }

    /// The longest time that the thread sleeps if nobody wakes it.
    pub fn sleep_max(&self) -> Duration {
        let tuning = &self.shared.tuning;
        let waits = self.is_progress_unwritten() && !tuning.progress_interval.is_zero();
        if waits { tuning.tick.min(tuning.progress_interval) } else { tuning.tick }
    }

    fn is_progress_unwritten(&self) -> bool {
        !self.heads.unwritten.is_empty() || !self.heads.to_begin.is_empty()
    }

    /// Makes a commit with what has changed, if anything has. After trouble it is the test whether the file can be written.
    pub fn write_progress(&mut self) {
        // While there is trouble this fails; the commit ends it, and then the next one has what is left.
        let _ = self.begin_progress();
        match self.commit_progress() {
            Ok(()) => {
                self.note_wal(WAL_BYTES_PER_COMMIT + WAL_BYTES_PER_ROW * self.heads.unwritten.len() as u64);
                self.heads.note_progress_written();
                self.handle_success();
            }
            Err(failed) => self.handle_failure(&failed),
        }
    }

    fn commit_progress(&mut self) -> Result<(), Failed> {
        let now = self.shared.now();
        let Some(file) = &mut self.file else { return Err(Trouble::Failing("its file is closed".to_owned()).into()) };
        let (heads, fault) = (&self.heads, &self.shared.tuning.commit_fault);
        file.write_with(now, &mut self.mark, |connection| heads.write_progress(connection), || fault())
    }

    /// The last try, when the log ends.
    pub fn write_progress_at_end(&mut self) {
        // After a failed sync the next start copies the file; what is not written is repeated.
        if self.is_progress_unwritten() && !self.unsynced {
            self.trouble = None;
            if self.ready().is_ok() {
                self.write_progress();
            }
        }
        if self.is_progress_unwritten() {
            tracing::error!("how far gateways have processed could not be written: they get some events again");
        }
    }
}
