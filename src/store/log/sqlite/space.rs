//! Room on the disk: refuses events before it is used up, and keeps a file that is given up when a trim needs room.

use super::settings::SqliteLogSettings;
use crate::store::{Trouble, disk};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::{io, time::Duration};

/// How long one look at the disk holds. Events of this time need far less than the reserve.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The room that is left.
#[derive(Debug, Default)]
pub(super) struct Space {
    looked_at: Option<Duration>,
    free: u64,
}

impl Space {
    /// Whether events may be appended.
    pub fn check(&mut self, settings: &SqliteLogSettings, now: Duration) -> Result<(), Trouble> {
        if self.looked_at.is_none_or(|at| now.saturating_sub(at) >= LOOK_INTERVAL) {
            // Where the system does not tell, a write tells.
            self.free = free_bytes(settings).unwrap_or(u64::MAX);
            self.looked_at = Some(now);
        }
        if self.free < settings.reserve_bytes { Err(Trouble::Full) } else { Ok(()) }
    }

    /// Free bytes at the last look.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Makes the ballast again if there is room for it.
    pub fn make_ballast(&mut self, settings: &SqliteLogSettings) {
        let path = settings.ballast();
        let has_room = self.free >= settings.reserve_bytes.saturating_add(settings.ballast_bytes);
        if settings.ballast_bytes == 0 || !has_room || path.exists() {
            return;
        }
        let made = disk::create_private(&path).and_then(|file| {
            // Reserved and not only as long: a file with holes would give up nothing.
            Ok(fallocate(&file, FallocateFlags::empty(), 0, settings.ballast_bytes)?)
        });
        if let Err(error) = made {
            tracing::warn!(%error, "the ballast of the event log cannot be made");
            let _ = disk::remove(&path);
        }
        self.looked_at = None;
    }

    /// Removes the ballast. Returns whether there was one.
    pub fn give_up_ballast(&mut self, settings: &SqliteLogSettings) -> bool {
        self.looked_at = None;
        let path = settings.ballast();
        path.exists() && disk::remove(&path).is_ok()
    }
}

fn free_bytes(settings: &SqliteLogSettings) -> io::Result<u64> {
    if let Some(free) = (settings.tuning.free_bytes)() {
        return Ok(free);
    }
    // What is left to a user that is not root.
    let found = statvfs(&settings.dir)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
