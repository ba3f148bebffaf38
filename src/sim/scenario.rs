//! The scenario that a seed gives: the size of a world, the settings of its hub, its peers and their requests.

use super::{
    behaviour::{Profile, Weights},
    log::LogFaults,
    requests::Request,
    rng::Rng,
    roster::Roster,
    store::StoreFaults,
};
use crate::{
    limits, session,
    session::Heartbeat,
    shard,
    transport::{Transport, WebSocket},
};
use std::time::Duration;

/// Everything that is decided before a world begins.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) shards: u16,
    pub(super) tls: bool,
    /// The factor by which the costs of all calls are multiplied.
    pub(super) cost: u64,
    /// How long peers connect and platforms send requests.
    pub(super) active: Duration,
    /// This long after the active time every peer leaves.
    pub(super) leave_after: Duration,
    pub(super) connections_max: usize,
    pub(super) connections_per_gateway_max: usize,
    pub(super) rate_per_window: u32,
    pub(super) recent_bytes_max: usize,
    /// Bytes that the log keeps of one gateway.
    pub(super) log_gateway_bytes_max: usize,
    pub(super) log: LogFaults,
    pub(super) publish_timeout: Duration,
    pub(super) control_max: usize,
    pub(super) replies_max: usize,
    pub(super) requests_max: usize,
    /// Longest delay of a message between cores, in microseconds.
    pub(super) mesh_delay_max: u64,
    /// How many ready sockets one harvest reports at most.
    pub(super) harvest_max: usize,
    pub(super) store: StoreFaults,
    /// From when to when the kernel has no descriptors.
    pub(super) descriptors: Option<(Duration, Duration)>,
    /// How many sockets the hub may hold.
    pub(super) sockets_max: usize,
    /// When the wall clock jumps, and by how many milliseconds.
    pub(super) jumps: Vec<(Duration, i64)>,
    /// How many addresses the peers share.
    pub(super) addresses: u64,
    /// When the hub drains; it drains at the end in any case.
    pub(super) drain: Option<Duration>,
    pub(super) drain_window: Duration,
    /// All cores stand still from the first moment to the second.
    pub(super) pause: Option<(Duration, Duration)>,
    /// A core that stops running, and when.
    pub(super) death: Option<(usize, Duration)>,
    pub(super) session: session::Settings,
    pub(super) delivery: shard::Delivery,
    pub(super) roster: Roster,
    /// Bounds of one event on the wire and of one answer.
    pub(super) event_bytes_max: usize,
    pub(super) answer_bytes_max: usize,
    pub(super) profiles: Vec<Profile>,
    /// Whether the strict rules are checked, which hold in worlds made by hand but not in every world from a seed.
    pub(super) strict: bool,
    /// Rules whose violations are counted and do not end the world.
    pub(super) counted: Vec<&'static str>,
}

/// How much longer than the publish timeout an answer from another core may take.
pub(super) const ANSWER_GRACE: Duration = Duration::from_secs(3);

impl Scenario {
    /// A hub with its default settings, no peers and no accidents.
    pub(super) fn calm(seed: u64) -> Self {
        let heartbeat = Heartbeat {
            interval: limits::HEARTBEAT_INTERVAL,
            timeout: limits::HEARTBEAT_TIMEOUT,
            busy_grace: Duration::ZERO,
        };
        Self {
            seed,
            shards: 1,
            tls: false,
            cost: 1,
            active: Duration::from_secs(5),
            leave_after: Duration::from_secs(1),
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_gateway_max: 0,
            rate_per_window: 0,
            recent_bytes_max: limits::RECENT_BYTES_MAX,
            log_gateway_bytes_max: limits::EVENT_LOG_GATEWAY_BYTES_MAX,
            log: LogFaults::NONE,
            publish_timeout: limits::PUBLISH_TIMEOUT,
            control_max: limits::CONTROL_BACKLOG_MAX,
            replies_max: limits::REQUESTS_IN_FLIGHT_MAX * 2,
            requests_max: limits::INBOX_MAX,
            mesh_delay_max: 50,
            harvest_max: 512,
            store: StoreFaults {
                late: 0,
                late_max: Duration::ZERO,
                fails: 0,
                in_doubt: 0,
                queue_max: limits::STORE_QUEUE_MAX,
            },
            descriptors: None,
            sockets_max: usize::MAX,
            jumps: Vec::new(),
            addresses: 100,
            drain: None,
            drain_window: Duration::from_millis(200),
            pause: None,
            death: None,
            session: session_settings(heartbeat),
            delivery: shard::Delivery::default(),
            roster: Roster::default(),
            event_bytes_max: 200_000,
            answer_bytes_max: 100_000,
            profiles: Vec::new(),
            strict: false,
            counted: Vec::new(),
        }
    }

    /// The scenario of a seed, and the generator in the state in which the world goes on with it.
    pub(super) fn of(seed: u64) -> (Self, Rng) {
        let mut rng = Rng::new(seed);
        let rng_ref = &mut rng;
        let weights = Weights::swarm(rng_ref);
        let large = rng_ref.chance(150);
        let mut scenario = Self::sized(seed, large, rng_ref);
        scenario.accidents(rng_ref);
        let gateways = rng_ref.within(1..=4) as usize;
        scenario.roster = Roster::new(gateways, rng_ref.chance(200), rng_ref);
        scenario.plan_deliveries(rng_ref);
        let keys = scenario.roster.keys.len();
        let peers = rng_ref.within(2..=14) as usize;
        scenario.profiles = (0..peers).map(|_| weights.gateway(rng_ref, &scenario, keys)).collect();
        let platforms = rng_ref.within(1..=4) as usize;
        scenario.profiles.extend((0..platforms).map(|_| weights.platform(rng_ref, &scenario)).collect::<Vec<_>>());
        scenario.plan_publishes(large, platforms, rng_ref);
        scenario.plan_changes(rng_ref);
        scenario.plan_fleet(rng_ref);
        (scenario, rng)
    }

    fn sized(seed: u64, large: bool, rng: &mut Rng) -> Self {
        let long = rng.chance(60);
        let few = rng.within(1..=6);
        let often =
            |rng: &mut Rng, per_mille, value: u64, other: u64| if rng.chance(per_mille) { value } else { other };
        Self {
            shards: rng.within(1..=4) as u16,
            tls: rng.chance(80),
            cost: rng.pick(&[1, 1, 1, 5, 20]),
            active: Duration::from_millis(if long { 70_000 } else { rng.within(500..=6_000) }),
            leave_after: Duration::from_secs(75),
            connections_max: often(rng, 150, few, 1_000) as usize,
            connections_per_gateway_max: often(rng, 100, 2, 0) as usize,
            rate_per_window: often(rng, 100, few, 0) as u32,
            recent_bytes_max: match rng.chance(400) {
                true => rng.within(8_192..=if large { 800_000 } else { 65_536 }) as usize,
                false => limits::RECENT_BYTES_MAX,
            },
            log_gateway_bytes_max: often(rng, 200, if large { 400_000 } else { 20_000 }, 64 << 20) as usize,
            publish_timeout: Duration::from_millis(rng.pick(&[2_000, 2_000, 300])),
            requests_max: rng.pick(&[limits::INBOX_MAX, 64, 3, 1]),
            mesh_delay_max: rng.pick(&[0, 50, 2_000, 200_000]),
            harvest_max: rng.pick(&[512, 512, 3, 1]),
            addresses: rng.within(1..=3),
            drain_window: Duration::from_millis(rng.pick(&[0, 200, 5_000])),
            session: session_settings(heartbeat(rng)),
            ..Self::calm(seed)
        }
    }

    /// Draws what goes wrong around the hub.
    fn accidents(&mut self, rng: &mut Rng) {
        let active = self.active.as_micros() as u64;
        if rng.chance(250) {
            self.drain = Some(Duration::from_micros(rng.within(active / 2..=active)));
        }
        if rng.chance(150) {
            let from = rng.below(active);
            let until = from + rng.below(3_000_000);
            self.descriptors = Some((Duration::from_micros(from), Duration::from_micros(until)));
        }
        if rng.chance(150) {
            let jump = rng.pick(&[-86_400_000, -1_000, 30_000, 31_536_000_000]);
            self.jumps.push((Duration::from_micros(rng.below(active)), jump));
        }
        if rng.chance(400) {
            self.store = StoreFaults {
                late: rng.within(0..=500),
                late_max: Duration::from_millis(rng.pick(&[200, 3_000, 8_000])),
                fails: rng.within(0..=300),
                in_doubt: rng.pick(&[0, 300]),
                queue_max: rng.pick(&[1_024, 2, 1]) as usize,
            };
        }
        if rng.chance(150) {
            self.control_max = rng.within(1..=3) as usize;
        }
        if rng.chance(600) {
            self.log.delay_max = Duration::from_micros(rng.pick(&[100, 1_000, 20_000]));
        }
        if rng.chance(300) {
            self.log = LogFaults {
                delay_max: Duration::from_micros(rng.pick(&[100, 1_000, 20_000])),
                late: rng.pick(&[0, 0, 20, 200]),
                late_max: Duration::from_millis(rng.pick(&[50, 500, 1_500, 6_000])),
                fails: rng.pick(&[0, 50, 400]),
                in_doubt: rng.pick(&[0, 300, 1_000]),
                read_fails: rng.pick(&[0, 0, 100]),
                interrupts: rng.pick(&[0, 0, 50, 300]),
                queue_max: rng.pick(&[10_000, 10_000, 3]) as usize,
            };
        }
    }

    /// Gives the platforms, which are the last peers, their requests.
    fn plan_publishes(&mut self, large: bool, platforms: usize, rng: &mut Rng) {
        let size = if large { rng.within(40_000..=120_000) } else { rng.within(10..=3_000) } as usize;
        let publishes = rng.within(5..=if large { 40 } else { 120 });
        let batch_max = rng.pick(&[2, 6, 6, if large { 6 } else { 200 }]);
        let first = self.profiles.len() - platforms;
        let active = self.active.as_micros() as u64;
        let gateways = self.roster.gateways.len();
        let mut at = 0;
        for _ in 0..publishes {
            // Some requests come at the same moment.
            at = if rng.chance(400) { at } else { rng.below(active) };
            let gateway = rng.below(gateways as u64) as usize;
            let request = match rng.below(100) {
                0..14 => Request::Batch { count: rng.piece(batch_max), size, gateway: None },
                14..17 => Request::Deploy,
                17..21 => Request::Get(rng.pick(&["/health", "/ready", "/metrics", "/nowhere", "/api/v1/gateways"])),
                21..24 => Request::Get("/api/internal/v1/stats"),
                24..26 => Request::GetGateway(gateway),
                26..28 => Request::Manifest { key: rng.below(self.roster.keys.len() as u64) as usize, size: 300 },
                _ => Request::Publish { gateway, size },
            };
            let platform = first + rng.below(platforms as u64) as usize;
            self.profiles[platform].requests.push((Duration::from_micros(at), request));
        }
    }

    /// Plans the gateways and keys that are created, revoked and deleted while the world runs.
    fn plan_changes(&mut self, rng: &mut Rng) {
        let platform = self.profiles.len() - 1;
        let active = self.active.as_micros() as u64;
        let mut requests = Vec::new();
        let later = self.roster.gateways.iter().position(|gateway| !gateway.is_initial);
        if let Some(later) = later {
            let at = rng.below(active / 2);
            requests.push((at, Request::CreateGateway(later)));
            let keys = (0..self.roster.keys.len()).filter(|key| self.roster.keys[*key].gateway == later);
            requests.extend(keys.map(|key| (at + 1, Request::CreateToken(key))));
        }
        let changes = if rng.chance(400) { rng.within(1..=3) } else { 0 };
        for _ in 0..changes {
            // Half of them race with the admission of a gateway that has just connected.
            let at = if rng.chance(500) {
                let arrival = rng.below(self.profiles.len() as u64) as usize;
                self.profiles[arrival].arrives.as_micros() as u64 + rng.below(20_000)
            } else {
                rng.below(active)
            };
            let key = rng.below(self.roster.keys.len() as u64) as usize;
            let gateway = self.roster.keys[key].gateway;
            if rng.chance(250) {
                requests.push((at, Request::Delete(gateway)));
            } else if self.roster.keys[key].is_initial {
                requests.push((at, Request::Revoke(key)));
            }
        }
        self.profiles[platform]
            .requests
            .extend(requests.into_iter().map(|(at, request)| (Duration::from_micros(at), request)));
        for profile in &mut self.profiles {
            profile.requests.sort_by_key(|(at, _)| *at);
        }
    }

    /// Whether the log keeps so little of a gateway that a position may be gone.
    pub(super) fn trims(&self) -> bool {
        self.log_gateway_bytes_max < limits::EVENT_LOG_GATEWAY_BYTES_MAX
    }

    /// Whether connections may have to take their events from the log: the memory for events is small, or a follow that
    /// is interrupted does not find its place again.
    pub(super) fn is_scarce(&self) -> bool {
        self.recent_bytes_max < limits::RECENT_BYTES_MAX || (self.trims() && self.log.interrupts > 0)
    }

    /// Whether a connection that begins in the past may wait long for its first event.
    pub(super) fn is_read_late(&self) -> bool {
        self.log.is_faulty() || self.log.read_fails > 0 || self.is_scarce()
    }

    pub(super) fn shard_settings(&self, id: crate::model::ShardId) -> shard::Settings {
        shard::Settings {
            id,
            placement: shard::Placement::new(self.shards, self.seed),
            recent_bytes_max: self.recent_bytes_max,
            gateway_recent_bytes_max: self.recent_bytes_max / 2,
            connections_per_gateway_max: self.connections_per_gateway_max,
            publish_timeout: self.publish_timeout,
            rate_per_window: self.rate_per_window,
            rate_window: limits::RATE_WINDOW,
            rate_addresses_max: 100,
            delivery: self.delivery.clone(),
            encoding: shard::Encoding { encode: WebSocket::encode, boundary: WebSocket::boundary },
        }
    }
}

/// The default heartbeat in half of the worlds; in the others a fast one, so that silent peers time out within the
/// active time.
fn heartbeat(rng: &mut Rng) -> Heartbeat {
    let fast = rng.chance(500);
    let [interval, timeout] =
        if fast { [2, 3].map(Duration::from_secs) } else { [limits::HEARTBEAT_INTERVAL, limits::HEARTBEAT_TIMEOUT] };
    let busy_grace = if rng.chance(100) { Duration::from_secs(4) } else { Duration::ZERO };
    Heartbeat { interval, timeout, busy_grace }
}

fn session_settings(heartbeat: Heartbeat) -> session::Settings {
    session::Settings {
        origins: Vec::new(),
        handshake_deadline: limits::HANDSHAKE_DEADLINE,
        heartbeat,
        write_deadline: limits::WRITE_DEADLINE,
        processing_timeout: limits::DELIVERY_PROCESSING_TIMEOUT,
        inbound_message_bytes_max: limits::INBOUND_MESSAGE_BYTES_MAX,
    }
}
