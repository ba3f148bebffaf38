//! How often an address may try to connect: an exact sliding window, kept by the one shard that owns the address.

use crate::model::{Instant, NetworkPrefix};
use ahash::HashMap;
use std::{collections::VecDeque, net::IpAddr, time::Duration};

/// The attempts of the last window.
#[derive(Debug)]
pub struct RateLimit {
    per_window: usize,
    window: Duration,
    addresses_max: usize,
    attempts: HashMap<NetworkPrefix, VecDeque<Instant>>,
    /// Every counted attempt, oldest first, so that forgetting costs what was counted and not more.
    order: VecDeque<(Instant, NetworkPrefix)>,
}

impl RateLimit {
    /// Allows `per_window` attempts an address (0: any number) and remembers `addresses_max` addresses.
    pub fn new(per_window: u32, window: Duration, addresses_max: usize) -> Self {
        Self {
            per_window: per_window as usize,
            window,
            addresses_max,
            attempts: HashMap::default(),
            order: VecDeque::new(),
        }
    }

    /// Counts an attempt. A refused one is not counted.
    ///
    /// # Errors
    /// Seconds until the address may try again, rounded up, where it has used up its window.
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
        if attempts.len() >= self.per_window {
            let oldest = attempts.front().copied().unwrap_or(now);
            let left = (oldest + self.window).since(now);
            return Err(u32::try_from(left.as_micros().div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1));
        }
        attempts.push_back(now);
        self.order.push_back((now, prefix));
        while self.attempts.len() > self.addresses_max {
            self.forget_oldest();
        }
        Ok(())
    }

    /// How many addresses are remembered.
    pub fn addresses(&self) -> usize {
        self.attempts.len()
    }

    /// Forgets what is older than the window, a bounded number at a time: more than one attempt can add.
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
            // The address itself may have dropped it when it tried again.
            if attempts.front().is_some_and(|oldest| *oldest <= at) {
                attempts.pop_front();
            }
            if attempts.is_empty() {
                self.attempts.remove(&prefix);
            }
        }
    }
}

const SHRINK_ABOVE: usize = 4_096;
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
    fn no_limit_counts_nothing() {
        let mut limit = RateLimit::new(0, Duration::from_secs(60), 10);
        for _ in 0..100 {
            assert!(limit.attempt(Instant(0), address("10.0.0.1")).is_ok());
        }
        assert_eq!(limit.addresses(), 0);
    }
}
