//! The one clock of a run: nanoseconds since its beginning.

use std::time::{Duration, Instant};

/// Nanoseconds since the run began.
pub type Nanos = u64;

/// One millisecond.
pub const MILLISECOND: Nanos = 1_000_000;
/// One second.
pub const SECOND: Nanos = 1_000 * MILLISECOND;

/// Tells the time of a run.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A run that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    pub fn now(self) -> Nanos {
        nanos(self.0.elapsed())
    }
}

/// A span in nanoseconds; what does not fit is centuries away.
pub fn nanos(span: Duration) -> Nanos {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
