//! What a seed stands for: the size of a world, the settings of its hub, the weights of its accidents.

use super::{
    dice::Dice,
    faults::{Faults, Manner},
};
use crate::{
    limits,
    model::{GatewayId, Life, ShardId},
    session::{self, Heartbeat},
    shard,
    transport::{Transport, WebSocket},
};
use std::time::Duration;

/// A world before it begins.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) shards: u16,
    pub(super) gateways: usize,
    pub(super) tls: bool,
    /// How long peers come and publishers publish.
    pub(super) active: Duration,
    pub(super) publishes: usize,
    pub(super) payload_max: usize,
    /// Events in one batch, at most.
    pub(super) batch_max: usize,
    pub(super) connections_max: usize,
    pub(super) connections_per_gateway_max: usize,
    pub(super) rate_per_window: u32,
    pub(super) outbox_bytes_max: usize,
    pub(super) publish_timeout: Duration,
    pub(super) inbox_max: usize,
    /// Microseconds that a message between cores may take.
    pub(super) mesh_delay_max: u64,
    pub(super) changes: usize,
    /// Addresses that the peers share.
    pub(super) addresses: u64,
    pub(super) drain: bool,
    pub(super) drain_window: Duration,
    pub(super) session: session::Settings,
    pub(super) manners: Vec<Manner>,
}

impl Scenario {
    /// What the seed stands for; the dice go on to be the world's.
    pub(super) fn of(seed: u64) -> (Self, Dice) {
        let mut dice = Dice::new(seed);
        let dice_ref = &mut dice;
        let faults = Faults::swarm(dice_ref);
        let heartbeat = heartbeat(dice_ref);
        let long = dice_ref.chance(60);
        let active = Duration::from_millis(if long { 70_000 } else { dice_ref.within(500..=6_000) });
        let large = dice_ref.chance(150);
        let payload_max = if large { dice_ref.within(40_000..=120_000) } else { dice_ref.within(10..=3_000) };
        let peers = dice_ref.within(2..=16) as usize;
        let often = |dice: &mut Dice, per_mille, value: u64, other: u64| {
            if dice.chance(per_mille) { value } else { other }
        };
        let few = dice_ref.within(1..=6);
        let mut scenario = Self {
            seed,
            shards: dice_ref.within(1..=4) as u16,
            gateways: dice_ref.within(1..=4) as usize,
            tls: dice_ref.chance(80),
            active,
            publishes: dice_ref.within(5..=if large { 40 } else { 160 }) as usize,
            payload_max: payload_max as usize,
            batch_max: dice_ref.within(1..=6) as usize,
            connections_max: often(dice_ref, 150, few, 1_000) as usize,
            connections_per_gateway_max: often(dice_ref, 100, 2, 0) as usize,
            rate_per_window: often(dice_ref, 100, few, 0) as u32,
            outbox_bytes_max: dice_ref.within(1_024..=if large { 200_000 } else { 16_384 }) as usize,
            publish_timeout: Duration::from_millis(dice_ref.pick(&[2_000, 2_000, 300])),
            inbox_max: dice_ref.pick(&[limits::INBOX_MAX, 64, 3, 1]),
            mesh_delay_max: dice_ref.pick(&[0, 50, 2_000, 200_000]),
            changes: often(dice_ref, 350, few.min(3), 0) as usize,
            addresses: dice_ref.within(1..=3),
            drain: dice_ref.chance(250),
            drain_window: Duration::from_millis(dice_ref.pick(&[0, 200, 5_000])),
            session: session_settings(heartbeat),
            manners: Vec::new(),
        };
        scenario.manners = (0..peers).map(|_| faults.manner(dice_ref, &scenario)).collect();
        (scenario, dice)
    }

    /// The life of a gateway: its incarnation is made of its id, so that a seed replays.
    pub(super) fn life(&self, gateway: GatewayId) -> Life {
        Life { gateway, incarnation: gateway.0.as_u64_pair().0 }
    }

    /// The epoch of a gateway's positions.
    pub(super) fn epoch_of(&self, gateway: GatewayId) -> u64 {
        self.life(gateway).epoch_in(self.seed)
    }

    pub(super) fn shard_settings(&self, id: ShardId) -> shard::Settings {
        shard::Settings {
            id,
            epoch: self.seed,
            outbox_bytes_max: self.outbox_bytes_max,
            connections_per_gateway_max: self.connections_per_gateway_max,
            publish_timeout: self.publish_timeout,
            rate_per_window: self.rate_per_window,
            rate_window: limits::RATE_WINDOW,
            rate_addresses_max: 100,
            encoding: shard::Encoding { encode: WebSocket::encode, boundary: WebSocket::boundary },
        }
    }
}

/// Half of the worlds have the hub's own heartbeat, half a fast one, which ends silent peers while others are busy.
fn heartbeat(dice: &mut Dice) -> Heartbeat {
    let fast = dice.chance(500);
    let [interval, timeout] =
        if fast { [2, 3].map(Duration::from_secs) } else { [limits::HEARTBEAT_INTERVAL, limits::HEARTBEAT_TIMEOUT] };
    let busy_grace = if dice.chance(100) { Duration::from_secs(4) } else { Duration::ZERO };
    Heartbeat { interval, timeout, busy_grace }
}

fn session_settings(heartbeat: Heartbeat) -> session::Settings {
    session::Settings {
        origins: Vec::new(),
        handshake_deadline: limits::HANDSHAKE_DEADLINE,
        heartbeat,
        write_deadline: limits::WRITE_DEADLINE,
        inbound_message_bytes_max: limits::INBOUND_MESSAGE_BYTES_MAX,
    }
}
