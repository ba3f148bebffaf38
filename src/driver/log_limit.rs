//! Keeps one noisy address from filling the log: a line a second for each, and the number of those left out.

use crate::model::Instant;
use ahash::HashMap;
use std::{net::IpAddr, time::Duration};

const INTERVAL: Duration = Duration::from_secs(1);
/// Addresses remembered; beyond it all are forgotten, which costs a line too many at worst.
const ADDRESSES_MAX: usize = 1_024;

/// When a line about an address and a reason was last written.
#[derive(Default)]
pub(super) struct LogLimit {
    last: HashMap<(IpAddr, &'static str), (Instant, u64)>,
}

impl LogLimit {
    /// Whether a line about this address and reason may be written now, and how many were left out since the last one.
    pub(super) fn allow(&mut self, now: Instant, address: IpAddr, reason: &'static str) -> Option<u64> {
        if self.last.len() >= ADDRESSES_MAX {
            self.last.clear();
        }
        match self.last.get_mut(&(address, reason)) {
            Some((at, left_out)) if now.since(*at) < INTERVAL => {
                *left_out += 1;
                None
            }
            entry => {
                let left_out = entry.map_or(0, |(_, left_out)| *left_out);
                self.last.insert((address, reason), (now, 0));
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_the_rest_is_counted() {
        let mut limit = LogLimit::default();
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert_eq!(limit.allow(Instant(0), a, "r"), Some(0));
        assert_eq!(limit.allow(Instant(1), a, "r"), None);
        assert_eq!(limit.allow(Instant(1), b, "r"), Some(0));
        assert_eq!(limit.allow(Instant(999_999), a, "r"), None);
        assert_eq!(limit.allow(Instant(1_000_000), a, "r"), Some(2));
    }
}
