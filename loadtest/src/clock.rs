//! The clock of a run: nanoseconds since it began.

use std::time::{Duration, Instant};

/// Nanoseconds since the run began.
pub type Nanos = u64;

/// One millisecond.
pub const MILLISECOND: Nanos = 1_000_000;
/// One second.
pub const SECOND: Nanos = 1_000 * MILLISECOND;

/// The clock of a run; all threads of it share one origin.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the run began.
    pub fn now(self) -> Nanos {
        nanos(self.0.elapsed())
    }
}

/// A duration in nanoseconds; the maximum (584 years) if it does not fit.
pub fn nanos(span: Duration) -> Nanos {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
