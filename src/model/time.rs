//! Time as a value. The driver reads the clocks, and everything below it gets the time as a parameter.

use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};
use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

/// A moment on the monotonic clock, in microseconds since the process began.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A moment on the wall clock, in milliseconds since the Unix epoch; shown as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Appends the text of `Display`, without a formatter: the envelope of every event contains a timestamp.
    pub fn append_to(self, out: &mut Vec<u8>) {
        let at = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let at = TimeZone::UTC.to_datetime(at);
        if !(0..10_000).contains(&at.year()) {
            // These years have more digits or a sign (ISO 8601), which the code below does not write.
            return out.extend_from_slice(format!("{at}Z").as_bytes());
        }
        let digit = |n: i16| b'0' + u8::try_from(n % 10).expect("a digit");
        let two = |n: i8| [digit(i16::from(n) / 10), digit(i16::from(n))];
        let (year, millis) = (at.year(), at.millisecond());
        out.extend_from_slice(&[digit(year / 1_000), digit(year / 100), digit(year / 10), digit(year), b'-']);
        let parts = [(at.month(), b'-'), (at.day(), b'T'), (at.hour(), b':'), (at.minute(), b':'), (at.second(), b'.')];
        for (part, mark) in parts {
            out.extend_from_slice(&two(part));
            out.push(mark);
        }
        out.extend_from_slice(&[digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(24);
        self.append_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// The monotonic clock, for durations and for the hub's own deadlines.
    pub instant: Instant,
    /// `instant` without the time in which this core did not run, for deadlines of peers. A peer whose bytes came while
    /// the hub was stopped is not late.
    pub attended: Instant,
    /// The wall clock, for people and for the wire. It can be set back, so no deadline depends on it.
    pub wall: Timestamp,
}

impl Now {
    /// A reading on a core that has lost no time.
    pub const fn new(instant: Instant, wall: Timestamp) -> Self {
        Self { instant, attended: instant, wall }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_in_utc_with_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_700_000_000_007).to_string(), "2023-11-14T22:13:20.007Z");
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn durations_are_never_negative() {
        assert_eq!(Instant(5).since(Instant(9)), Duration::ZERO);
        assert_eq!((Instant(5) + Duration::from_millis(1)).since(Instant(5)), Duration::from_millis(1));
    }
}
