//! Requests to the log that are made again: it was busy, or it failed to read.

use super::connection_key::ConnectionKey;
use crate::model::{Instant, log::LogRequest};
use std::{collections::VecDeque, time::Duration};

/// What is tried again, in the order of its times.
#[derive(Debug, Default)]
pub(super) struct Retries {
    requests: VecDeque<(Instant, LogRequest)>,
    reads: VecDeque<(Instant, ConnectionKey)>,
}

/// A busy log is asked again after this time.
const BUSY_RETRY: Duration = Duration::from_millis(20);
/// A log that failed to read is asked again after this time.
const FAILED_RETRY: Duration = Duration::from_secs(1);

impl Retries {
    /// Makes a request again that the log was too busy to take.
    pub(super) fn request_later(&mut self, now: Instant, request: LogRequest) {
        self.requests.push_back((now + BUSY_RETRY, request));
    }

    /// Makes a connection's read again, which has failed.
    pub(super) fn read_later(&mut self, now: Instant, key: ConnectionKey) {
        self.reads.push_back((now + FAILED_RETRY, key));
    }

    /// Takes a request that is due.
    pub(super) fn pop_request(&mut self, now: Instant) -> Option<LogRequest> {
        pop_due(&mut self.requests, now)
    }

    /// Takes a connection whose read is due.
    pub(super) fn pop_read(&mut self, now: Instant) -> Option<ConnectionKey> {
        pop_due(&mut self.reads, now)
    }

    /// When the next is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let (request, read) = (self.requests.front().map(|(at, _)| *at), self.reads.front().map(|(at, _)| *at));
        [request, read].into_iter().flatten().min()
    }
}

/// Takes the first entry of a queue that is in the order of its times, if it is due.
pub(super) fn pop_due<T>(queue: &mut VecDeque<(Instant, T)>, now: Instant) -> Option<T> {
    if queue.front()?.0 > now {
        return None;
    }
    queue.pop_front().map(|(_, entry)| entry)
}
