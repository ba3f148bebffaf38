//! Thousands of simulated gateways, and the platform that publishes to them, in one thread with epoll.

use crate::{
    clock::{Clock, MILLISECOND, Nanos, SECOND},
    link::{ConnectOptions, Link},
    peer::{Peer, Reading, Stage},
    publisher::{DueEvent, Publisher, RequestTemplate},
    tally::Tally,
    target::Endpoint,
    verify::Verifier,
};
use platform::GatewayQueue;
use rustix::{
    event::epoll::{self, EventData, EventFlags},
    time::Timespec,
};
use rustls::ClientConfig;
use slab::Slab;
use std::{collections::VecDeque, net::Ipv4Addr, os::fd::OwnedFd, sync::Arc};

mod gateways;
mod platform;

/// One instance of a gateway. Its connections come and go.
pub struct Place {
    /// Its gateway, by its number in this run.
    pub gateway: usize,
    /// How it reads.
    pub reading: Reading,
    /// Whether its deliveries count in the latencies.
    pub is_measured: bool,
    /// Whether it reconnects after it has lost its connection.
    pub is_wanted: bool,
    from: Option<Ipv4Addr>,
    tls: Option<Arc<ClientConfig>>,
    slot: Option<usize>,
}

/// Events at a fixed rate, to each gateway in turn.
struct Schedule {
    next: Nanos,
    interval: Nanos,
    gateways: Vec<usize>,
    turn: usize,
}

/// The size and the options of a fleet.
pub struct Plan {
    /// For each gateway, how many connections it has that read everything.
    pub layout: Vec<usize>,
    /// Further connections: the gateway, and how the connection reads.
    pub slow: Vec<(usize, Reading)>,
    /// How many connections the platform has.
    pub publishers: usize,
    /// Handshakes in flight.
    pub window: usize,
    /// Whether each event is answered with a `deployment.ack`.
    pub answers_events: bool,
    /// Whether each place resumes the TLS session of its last connection.
    pub resumes: bool,
}

impl Plan {
    /// How many connections the whole fleet has.
    pub fn connections(&self) -> usize {
        self.layout.iter().sum::<usize>() + self.slow.len()
    }

    /// For each place, its gateway and how it reads: the gateways in turn, then the slow connections.
    fn readings(&self) -> impl Iterator<Item = (usize, Reading)> {
        let rows = self.layout.iter().copied().max().unwrap_or(0);
        let row = move |row: usize| (0..self.layout.len()).filter(move |gateway| self.layout[*gateway] > row);
        let good = (0..rows).flat_map(row).map(|gateway| (gateway, Reading::All));
        good.chain(self.slow.iter().copied())
    }
}

/// All simulated gateways, and the platform.
pub struct Fleet {
    /// The clock of the run.
    pub clock: Clock,
    /// Verifies every event.
    pub verifier: Verifier,
    /// Counters and latencies.
    pub tally: Tally,
    /// Every instance of every gateway.
    pub places: Vec<Place>,
    /// Handshakes in flight.
    pub window: usize,
    plan: Plan,
    template: RequestTemplate,
    keys: Vec<String>,
    endpoint: Endpoint,
    shared_tls: Option<Arc<ClientConfig>>,
    epoll: OwnedFd,
    handshakes: OwnedFd,
    ready: Vec<epoll::Event>,
    peers: Slab<Peer>,
    publishers: Vec<Publisher>,
    idle: Vec<usize>,
    gateway_queues: Vec<GatewayQueue>,
    sendable: VecDeque<usize>,
    turn: usize,
    to_open: VecDeque<usize>,
    to_retry: VecDeque<(Nanos, usize)>,
    opening: usize,
    live: usize,
    schedule: Option<Schedule>,
    closed_loop: Option<Vec<usize>>,
    trickled: Nanos,
    has_trickle: bool,
    scratch: Vec<u8>,
    plain: Vec<u8>,
}

const SCRATCH_BYTES: usize = 256 * 1024;
const READY_MAX: usize = 1_024;
/// How long after a refusal a gateway tries again.
const RETRY_DELAY: Nanos = 100 * MILLISECOND;
/// How often a trickle reads, and how many bytes.
const TRICKLE_INTERVAL: Nanos = 50 * MILLISECOND;
const TRICKLE_BYTES: usize = 256;
/// Marks the epoll data of a publisher; the other bits are its index.
const PUBLISHER_BIT: u64 = 1 << 63;
/// The epoll data of the nested epoll of the handshakes.
const HANDSHAKES: u64 = u64::MAX;
/// How many handshakes are begun or continued in one turn. They cost much more time than events, which must not wait
/// for all of them.
const HANDSHAKE_BATCH: usize = 8;
/// The longest wait in epoll, so that the progress is shown regularly.
const SLEEP_MAX: Nanos = 50 * MILLISECOND;

impl Fleet {
    /// A fleet without connections. `keys` and `template.ids` are those of its gateways, by number.
    ///
    /// # Errors
    /// A system call failed.
    pub fn new(
        clock: Clock,
        endpoint: Endpoint,
        plan: Plan,
        template: RequestTemplate,
        keys: Vec<String>,
    ) -> Result<Self, String> {
        // Handshakes have an epoll of their own inside the first one. So a turn can handle all ready events but only a
        // few handshakes; in one set the handshakes of a storm would delay events, and their latency would be the
        // generator's.
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| error.to_string())?;
        let handshakes = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| error.to_string())?;
        epoll::add(&epoll, &handshakes, EventData::new_u64(HANDSHAKES), EventFlags::IN)
            .map_err(|error| error.to_string())?;
        let shared_tls = endpoint.tls.clone().map(Arc::new);
        let places = plan.readings().enumerate().map(|(index, (gateway, reading))| Place {
            gateway,
            reading,
            is_measured: reading == Reading::All,
            is_wanted: false,
            from: endpoint.is_loopback().then(|| own_address(index)),
            tls: endpoint.tls.as_ref().filter(|_| plan.resumes).map(resuming),
            slot: None,
        });
        Ok(Self {
            clock,
            verifier: Verifier::new(keys.len()),
            tally: Tally::default(),
            places: places.collect(),
            window: plan.window,
            keys,
            shared_tls,
            epoll,
            handshakes,
            ready: Vec::with_capacity(READY_MAX),
            peers: Slab::new(),
            publishers: (0..plan.publishers).map(|_| Publisher::default()).collect(),
            // A stack: with few events, few publishers have connections.
            idle: (0..plan.publishers).rev().collect(),
            gateway_queues: (0..template.ids.len()).map(|_| GatewayQueue::default()).collect(),
            sendable: VecDeque::new(),
            turn: 0,
            to_open: VecDeque::new(),
            to_retry: VecDeque::new(),
            opening: 0,
            live: 0,
            schedule: None,
            closed_loop: None,
            trickled: 0,
            has_trickle: plan.slow.iter().any(|(_, reading)| *reading == Reading::Trickle),
            scratch: vec![0; SCRATCH_BYTES],
            plain: Vec::new(),
            template,
            plan,
            endpoint,
        })
    }

    /// Connections that have their ack.
    pub fn live(&self) -> usize {
        self.live
    }

    /// How the hub is reached.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The gateways' ids.
    pub fn ids(&self) -> &[String] {
        &self.template.ids
    }

    /// Does everything that is due, then waits for readiness, until `until` at the latest, and handles it.
    ///
    /// # Errors
    /// A system call failed.
    pub fn turn(&mut self, until: Nanos) -> Result<(), String> {
        let now = self.clock.now();
        // Events first: opening connections must not delay them beyond their intended time.
        self.publish_due(now);
        self.dispatch();
        self.open_due(now);
        self.trickle_due(now);
        let due = self.schedule.as_ref().map_or(u64::MAX, |schedule| schedule.next);
        let retry = self.to_retry.front().map_or(u64::MAX, |(due, _)| *due);
        let trickle = if self.has_trickle { self.trickled + TRICKLE_INTERVAL } else { u64::MAX };
        let wait = until.min(due).min(retry).min(trickle).saturating_sub(self.clock.now()).min(SLEEP_MAX);
        // No wait while more connections can be opened: each turn opens only a few.
        let wait = if self.opening < self.window && !self.to_open.is_empty() { 0 } else { wait };
        let ready = self.wait(false, READY_MAX, wait)?;
        let mut handshakes = false;
        for event in &ready {
            match event.data.u64() {
                HANDSHAKES => handshakes = true,
                data if data & PUBLISHER_BIT == 0 => self.handle_peer(index_of(data), event.flags),
                data => self.handle_publisher(index_of(data & !PUBLISHER_BIT)),
            }
        }
        self.ready = ready;
        if handshakes {
            let ready = self.wait(true, HANDSHAKE_BATCH, 0)?;
            ready.iter().for_each(|event| self.handle_peer(index_of(event.data.u64()), event.flags));
            self.ready = ready;
        }
        Ok(())
    }

    /// Waits on one of the two epolls for up to `nanos`; returns at most `most` events.
    fn wait(&mut self, of_handshakes: bool, most: usize, nanos: Nanos) -> Result<Vec<epoll::Event>, String> {
        let epoll = if of_handshakes { &self.handshakes } else { &self.epoll };
        // `SLEEP_MAX` is below a second, so the seconds are 0.
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(nanos % SECOND).unwrap_or(0) };
        let mut ready = std::mem::take(&mut self.ready);
        ready.resize(most, epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) });
        match epoll::wait(epoll, &mut ready[..], Some(&timeout)) {
            Ok(count) => ready.truncate(count),
            // A signal, such as SIGWINCH of the terminal, must not end the run.
            Err(rustix::io::Errno::INTR) => ready.clear(),
            Err(error) => return Err(format!("epoll: {error}")),
        }
        Ok(ready)
    }

    fn connect_options<'a>(endpoint: &'a Endpoint, tls: Option<&'a Arc<ClientConfig>>) -> ConnectOptions<'a> {
        ConnectOptions { to: endpoint.addr, from: None, tls, name: &endpoint.name, narrow: false }
    }
}

fn watch(epoll: &OwnedFd, link: &Link, data: u64) -> Result<(), String> {
    // Edge-triggered: a connection that is never read on purpose would otherwise be reported in every turn.
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(epoll, link, EventData::new_u64(data), flags).map_err(|error| error.to_string())
}

fn index_of(data: u64) -> usize {
    usize::try_from(data).unwrap_or(usize::MAX)
}

/// A loopback address for each place, so that no two share a rate limit of the hub.
fn own_address(place: usize) -> Ipv4Addr {
    // From 127.1.0.1 on, because the hub and others use 127.0.0.0/16; the modulus keeps the sum within 127.0.0.0/8.
    let place = u32::try_from(place % 0x00F0_0000).unwrap_or(0);
    Ipv4Addr::from(0x7F01_0001 + place)
}

/// A TLS configuration with a ticket store of its own: a shared one would give a place another's ticket.
fn resuming(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.resumption = rustls::client::Resumption::in_memory_sessions(1);
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_has_its_own_loopback_address() {
        assert_eq!(own_address(0), Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(own_address(1_000_000), Ipv4Addr::from(0x7F01_0001 + 1_000_000));
        assert!(own_address(usize::MAX).is_loopback());
    }
}
