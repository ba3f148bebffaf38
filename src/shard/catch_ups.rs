//! The reads of connections that catch up, and whose turn it is.
//!
//! What all of them have read and not taken is bounded together. They take turns, and the more there are, the smaller
//! are their chunks, so that a fleet that resumes at once shares the log.

use super::connection_key::ConnectionKey;
use crate::{
    limits,
    model::{Instant, log::ReadKey},
};
use ahash::HashMap;
use std::{collections::VecDeque, time::Duration};

/// The reads of all connections of a shard.
#[derive(Debug, Default)]
pub(super) struct CatchUps {
    /// Connections that join and wait for their first read. They come first: their gateways wait for an ack.
    joining: VecDeque<ConnectionKey>,
    /// The others that wait for a read.
    waiting: VecDeque<ConnectionKey>,
    /// The reads that were asked for, and the bytes that each may bring.
    asked: HashMap<ReadKey, (ConnectionKey, usize)>,
    reserved_bytes: usize,
    /// Bytes that were read and not taken.
    held_bytes: usize,
    /// When to look again whether a read can be asked for, if some wait and there was no memory for them.
    look_again: Option<Instant>,
}

/// A connection that has not taken what was read for it in this time gives it back if others wait for memory.
pub(super) const RECLAIM_AFTER: Duration = Duration::from_millis(100);

impl CatchUps {
    /// Bytes that were read, or may come with the reads that were asked for.
    pub(super) fn bytes(&self) -> usize {
        self.held_bytes + self.reserved_bytes
    }

    /// Bytes that may come with the reads that were asked for.
    pub(super) fn asked_bytes(&self) -> usize {
        self.reserved_bytes
    }

    /// Bytes that were read and not taken.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// There is no memory for those that wait.
    pub(super) fn wait_for_memory(&mut self, now: Instant) {
        self.look_again.get_or_insert(now + RECLAIM_AFTER);
    }

    /// When to look again whether there is memory for those that wait.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.look_again
    }

    /// Whether it is time to look again.
    pub(super) fn take_look(&mut self, now: Instant) -> bool {
        self.look_again.take_if(|at| *at <= now).is_some()
    }

    /// Whether reads were asked for.
    pub(super) fn is_asking(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Counts bytes that a connection holds.
    pub(super) fn hold(&mut self, bytes: usize) {
        self.held_bytes += bytes;
    }

    /// Counts bytes that a connection has taken or dropped.
    pub(super) fn free(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.held_bytes, "only what is held is freed");
        self.held_bytes -= bytes;
    }

    pub(super) fn push(&mut self, key: ConnectionKey, joining: bool) {
        if joining { self.joining.push_back(key) } else { self.waiting.push_back(key) }
    }

    pub(super) fn pop(&mut self) -> Option<ConnectionKey> {
        self.joining.pop_front().or_else(|| self.waiting.pop_front())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.joining.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn ask(&mut self, read: ReadKey, key: ConnectionKey, bytes: usize) {
        self.reserved_bytes += bytes;
        self.asked.insert(read, (key, bytes));
    }

    pub(super) fn end(&mut self, read: ReadKey) -> Option<ConnectionKey> {
        let (key, bytes) = self.asked.remove(&read)?;
        self.reserved_bytes -= bytes;
        Some(key)
    }

    /// Whether the answer to this read is awaited.
    pub(super) fn is_asked(&self, read: ReadKey) -> bool {
        self.asked.contains_key(&read)
    }

    /// Bytes of one chunk now.
    pub(super) fn chunk_bytes(&self, budget: usize) -> usize {
        let shared = 1 + self.joining.len() + self.waiting.len() + self.asked.len();
        (budget / shared).clamp(limits::CHUNK_BYTES_MIN, limits::CHUNK_BYTES_MAX)
    }
}
