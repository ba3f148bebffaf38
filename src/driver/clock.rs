//! Reads both clocks for the engines.

use crate::model::{Instant, Now, Timestamp};
use std::{
    sync::OnceLock,
    time::{self, SystemTime, UNIX_EPOCH},
};

static ORIGIN: OnceLock<time::Instant> = OnceLock::new();

/// Reads both clocks. All threads share one origin, because instants travel between cores. It lies a year back, so that
/// attended time, which is real time less lost time, stays far above zero.
pub(crate) fn now() -> Now {
    let origin = ORIGIN.get_or_init(time::Instant::now);
    let micros = u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX - HEAD_START);
    Now::new(Instant(HEAD_START + micros), wall())
}

fn wall() -> Timestamp {
    // A wall clock before 1970 is negative, not an error: a machine may start with a wrong clock.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis =
        since.map_or_else(|before| -(before.duration().as_millis() as i128), |after| after.as_millis() as i128);
    Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
}

const HEAD_START: u64 = 366 * 86_400 * 1_000_000;
