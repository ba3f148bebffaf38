//! Values between cores over bounded channels.
//!
//! Three lanes to each worker, so that one that is full cannot hold up another: *requests* (full: the asker is told at once),
//! *replies* (never full: there are no more of them than requests in flight) and *control* (the store and the server; they
//! wait).

use super::handoff::Handoff;
use crate::{
    limits,
    model::{Change, ShardId, StoreOutcome},
    shard::{Command, Reply, RequestKey},
    store::Settled,
};
use flume::{Receiver, Sender};
use rustls::ServerConfig;
use std::sync::Arc;

/// What one core asks another.
pub(crate) enum Request {
    /// A command for the shard; the reply goes to `from`.
    Command {
        /// Who asks.
        from: ShardId,
        /// What the answer is to be known by there.
        key: RequestKey,
        /// What is asked.
        command: Command,
    },
    /// A connection whose gateway lives here.
    Handoff(Box<Handoff>),
}

/// An answer to this core.
pub(crate) enum Answered {
    /// A shard's.
    Shard(RequestKey, Reply),
    /// The store's.
    Store(RequestKey, StoreOutcome),
}

/// What the server and the store tell every core.
#[derive(Clone)]
pub(crate) enum Control {
    /// Gateways or tokens changed. The last core to drop it lets the answer go.
    Change(Change, Arc<Settled>),
    /// A new certificate.
    Tls(Arc<ServerConfig>),
    /// Close everything, over the window, and end.
    Drain,
}

/// The way to one worker.
#[derive(Clone)]
pub(crate) struct Address {
    pub(crate) requests: Sender<Request>,
    pub(crate) replies: Sender<Answered>,
    pub(crate) control: Sender<Control>,
}

/// What a worker reads from.
pub(crate) struct Inbox {
    pub(crate) requests: Receiver<Request>,
    pub(crate) replies: Receiver<Answered>,
    pub(crate) control: Receiver<Control>,
}

/// The addresses of all workers, and an inbox for each.
pub(crate) fn build(shards: u16) -> (Vec<Address>, Vec<Inbox>) {
    (0..shards)
        .map(|_| {
            let (requests, requests_in) = flume::bounded(limits::INBOX_MAX);
            let (replies, replies_in) = flume::bounded(limits::REQUESTS_IN_FLIGHT_MAX * ANSWERS_PER_REQUEST);
            let (control, control_in) = flume::bounded(limits::STORE_QUEUE_MAX);
            (
                Address { requests, replies, control },
                Inbox { requests: requests_in, replies: replies_in, control: control_in },
            )
        })
        .unzip()
}

/// A late answer may still be on its way when its request's place has been given to another.
const ANSWERS_PER_REQUEST: usize = 2;
