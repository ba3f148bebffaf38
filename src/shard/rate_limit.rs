//! The rate limit of connection attempts: an exact sliding window for each address, on the shard that owns the address.

use crate::model::{Instant, NetworkPrefix};
use ahash::HashMap;
use std::{collections::VecDeque, net::IpAddr, time::Duration};

/// The connection attempts in the last window, by address.
#[derive(Debug)]
pub struct RateLimit {
    per_window: usize,
    window: Duration,
    addresses_max: usize,
    attempts: HashMap<NetworkPrefix, VecDeque<Instant>>,
    /// Every counted attempt, oldest first. Without it, finding the attempts to forget would scan all addresses.
    order: VecDeque<(Instant, NetworkPrefix)>,
}

impl RateLimit {
    /// Allows `per_window` attempts for each address (0: any number), and remembers `addresses_max` addresses.
    pub fn new(per_window: u32, window: Duration, addresses_max: usize) -> Self {
        Self {
            per_window: per_window as usize,
            window,
            addresses_max,
            attempts: HashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Counts an attempt, unless it is refused.
    ///
    /// # Errors
    /// Seconds until the address may try again, rounded up, if it had all its attempts in this window.
    pub fn attempt(&mut self, now: Instant, address: IpAddr) -> Result<(), u32> {
        if self.per_window == 0 {
            return Ok(());
        }
        self.forget(now);
        let prefix = NetworkPrefix::from(address);
        let attempts = self.attempts.entry(prefix).or_default();
        while attempts.front().is_some_and(|at| now.since(*at) >= self.window) {
            attempts.pop_front();
        }
        // Refused attempts are not counted: a client that retries too soon would otherwise never be admitted again.
        if attempts.len() >= self.per_window {
            let oldest = attempts.front().copied().unwrap_or(now);
            let left = (oldest + self.window).since(now);
            return Err(u32::try_from(left.as_micros().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1));
        }
        attempts.push_back(now);
        self.order.push_back((now, prefix));
        // The oldest attempt is forgotten, not the new one refused: an attacker with many addresses must not lock out
        // others.
        while self.attempts.len() > self.addresses_max {
            self.forget_oldest();
        }
        Ok(())
    }

    /// Number of remembered addresses.
    pub fn addresses(&self) -> usize {
        self.attempts.len()
    }

    /// Forgets attempts older than the window, up to [`FORGOTTEN_AT_ONCE`].
    pub fn forget(&mut self, now: Instant) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            if self.order.front().is_none_or(|(at, _)| now.since(*at) < self.window) {
                break;
            }
            self.forget_oldest();
        }
        if self.order.is_empty() && self.attempts.capacity() > SHRINK_ABOVE {
            self.attempts = HashMap::default();
            self.order = VecDeque::new();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((at, prefix)) = self.order.pop_front() else { return };
        if let Some(attempts) = self.attempts.get_mut(&prefix) {
            // A later attempt of this address may have removed this one already.
            if attempts.front().is_some_and(|oldest| *oldest <= at) {
                attempts.pop_front();
            }
            if attempts.is_empty() {
                self.attempts.remove(&prefix);
            }
        }
    }
}

/// Addresses for which memory was reserved, above which it is freed once no attempt is remembered.
const SHRINK_ABOVE: usize = 4_096;
/// Attempts that one call forgets, so that no call takes long after a flood. Each new attempt adds one and may forget
/// this many.
const FORGOTTEN_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn limit() -> RateLimit {
        RateLimit::new(10, Duration::from_secs(60), 1_000)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_eleventh_attempt_in_any_window_is_refused() {
        let mut limit = limit();
        for i in 0..10 {
            assert_eq!(limit.attempt(Instant(i * SECOND), address("10.0.0.1")), Ok(()));
        }
        assert_eq!(limit.attempt(Instant(10 * SECOND), address("10.0.0.1")), Err(50));
        assert_eq!(limit.attempt(Instant(60 * SECOND - 1), address("10.0.0.1")), Err(1));
        assert_eq!(limit.attempt(Instant(60 * SECOND), address("10.0.0.1")), Ok(()));
        assert_eq!(limit.attempt(Instant(60 * SECOND), address("10.0.0.1")), Err(1));
        assert_eq!(limit.attempt(Instant(60 * SECOND), address("10.0.0.2")), Ok(()));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_a_mapped_address_as_ipv4() {
        let mut limit = limit();
        for i in 0..10 {
            assert_eq!(limit.attempt(Instant(0), address(&format!("2001:db8:0:1::{i}"))), Ok(()));
            assert_eq!(limit.attempt(Instant(0), address("10.0.0.1")), Ok(()));
        }
        assert!(limit.attempt(Instant(0), address("2001:db8:0:1:ffff::")).is_err());
        assert!(limit.attempt(Instant(0), address("2001:db8:0:2::")).is_ok());
        assert!(limit.attempt(Instant(0), address("::ffff:10.0.0.1")).is_err());
    }

    #[test]
    fn idle_addresses_are_forgotten_and_memory_is_bounded() {
        let mut limit = limit();
        for i in 0..5_000_u32 {
            assert!(limit.attempt(Instant(u64::from(i)), IpAddr::from(i.to_be_bytes())).is_ok());
        }
        assert_eq!(limit.addresses(), 1_000);
        for _ in 0..1_000 / FORGOTTEN_AT_ONCE + 1 {
            limit.forget(Instant(61 * SECOND));
        }
        assert_eq!(limit.addresses(), 0);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut limit = RateLimit::new(0, Duration::from_secs(60), 10);
        for _ in 0..100 {
            assert!(limit.attempt(Instant(0), address("10.0.0.1")).is_ok());
        }
        assert_eq!(limit.addresses(), 0);
    }
}
