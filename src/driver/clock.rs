//! The only place that reads the clocks.

use crate::model::{Instant, Now, Timestamp};
use std::{
    sync::OnceLock,
    time::{self, SystemTime, UNIX_EPOCH},
};

static ORIGIN: OnceLock<time::Instant> = OnceLock::new();

/// Both clocks. All threads share one origin, which lies a year back so that no deadline is ever near zero, whatever time is lost.
pub(crate) fn now() -> Now {
    let origin = ORIGIN.get_or_init(time::Instant::now);
    let micros = u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX - HEAD_START);
    Now::new(Instant(HEAD_START + micros), wall())
}

fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis =
        since.map_or_else(|before| -(before.duration().as_millis() as i128), |after| after.as_millis() as i128);
    Timestamp(i64::try_from(millis).unwrap_or(i64::MAX))
}

const HEAD_START: u64 = 366 * 86_400 * 1_000_000;
