//! A hub of some shards with its peers and publishers, run from a seed to its end without sockets or real time.

use super::{
    calls::ADMIN,
    client::{self, Client},
    core::Core,
    dice::Dice,
    faults::{Manner, Prank},
    hub::{Control, Entrant, Hub, Line, START, What},
    oracle::{Oracle, Violation},
    peer::Peer,
    pipe::Pipe,
    scenario::Scenario,
    story::Story,
    tls,
};
use crate::{
    api::{Ask, Phase},
    driver::wheel::TICK,
    model::{Change, CorrelationId, Event, EventType, GatewayId, Instant, KeyHash, ShardId, TokenId},
    session::{Role, Session},
    shard::{Command, Directory},
    wire::tls::Security,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

/// One gateway's token, and its key in the clear.
#[derive(Clone)]
struct Token {
    entrant: Entrant,
    secret: String,
}

/// The world.
pub(super) struct World {
    hub: Hub,
    cores: Vec<Core>,
    peers: Vec<Peer>,
    tokens: Vec<Token>,
    gateways: Vec<GatewayId>,
    end: Instant,
}

/// What a run came to.
pub(super) struct Report {
    pub(super) violation: Option<Violation>,
    pub(super) story: Story,
    pub(super) joined: u64,
    pub(super) events_seen: u64,
    pub(super) steps: u64,
    pub(super) sights: BTreeMap<&'static str, u64>,
}

impl World {
    /// The world that the seed stands for.
    pub(super) fn new(seed: u64, told: bool) -> Self {
        let (scenario, mut dice) = Scenario::of(seed);
        let gateways: Vec<_> = (0..scenario.gateways).map(|_| GatewayId(dice.uuid())).collect();
        let tokens = gateways.iter().flat_map(|gateway| tokens(*gateway, &mut dice)).collect::<Vec<_>>();
        let mut oracle = Oracle::new(scenario.clone());
        let mut peers = Vec::new();
        let mut lines = Vec::new();
        for (index, manner) in scenario.manners.iter().enumerate() {
            let opening = if manner.platform {
                requests(index, &gateways, &scenario, &mut dice, &mut oracle)
            } else {
                opening(manner, &tokens, &mut dice)
            };
            peers.push(Peer::new(*manner, opening, Instant(START)));
            lines.push(Line {
                pipe: Pipe::new(manner.mood),
                client: Client::new(scenario.tls.then(|| tls::client(dice.chance(300)))),
                news: VecDeque::new(),
                owner: None,
                latency: manner.latency_max,
            });
        }
        let end = Instant(START) + scenario.active;
        let mut hub = Hub::new(scenario, dice, lines, oracle, Story::new(told));
        let cores = (0..hub.scenario.shards).map(|id| core(ShardId(id), &hub, &gateways, &tokens)).collect();
        plan(&mut hub, end);
        Self { hub, cores, peers, tokens, gateways, end }
    }

    /// Runs to the end: everybody has left, a rule is broken, or it takes too long.
    pub(super) fn run(mut self) -> Report {
        let mut steps = 0;
        while self.hub.oracle.violation.is_none()
            && let Some(what) = self.hub.advance()
        {
            steps += 1;
            self.step(what);
            if self.hub.now.instant > self.end + PATIENCE {
                let left: Vec<_> = self.cores.iter().filter_map(Core::leftovers).collect();
                self.hub.oracle.fail("everybody leaves", None, left.join("; "));
            }
        }
        if self.hub.oracle.violation.is_none() {
            self.check_end();
        }
        let oracle = self.hub.oracle;
        Report {
            violation: oracle.violation,
            story: self.hub.story,
            joined: oracle.watched.iter().filter(|watched| watched.member.is_some()).count() as u64,
            events_seen: oracle.seen_events,
            steps,
            sights: oracle.sights,
        }
    }

    fn step(&mut self, what: What) {
        match what {
            What::Peer(index) => self.turn_peer(index),
            What::Unstalled(index) => self.stir(index),
            What::Mail(core) => self.cores[core].handle_mail(&mut self.hub),
            What::Publish => self.publish(),
            What::Change => self.change(),
            What::Drain if self.hub.phase == Phase::Draining => {}
            What::Drain => {
                self.hub.phase = Phase::Draining;
                self.hub.story.tell(self.hub.now.instant, None, || "drains".to_owned());
                self.hub.tell(Control::Drain);
            }
            What::DrainNext(core) => self.cores[core].drain_next(&mut self.hub),
            What::Force(core) => self.cores[core].force(&mut self.hub),
            What::Tick => self.tick(),
        }
        self.settle();
        self.hub.oracle.check_step();
    }

    /// Lets every core do all that it can do now, in an order of chance.
    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for core in &mut self.cores {
                busy |= core.turn(&mut self.hub);
                if !core.ready.is_empty() {
                    busy = true;
                    let at = self.hub.dice.below(core.ready.len() as u64) as usize;
                    let key = core.ready.swap_remove(at);
                    core.pump(&mut self.hub, key);
                }
            }
        }
    }

    fn turn_peer(&mut self, index: usize) {
        let now = self.hub.now.instant;
        let peer = &mut self.peers[index];
        if peer.is_new() {
            if now < Instant(START) + peer.manner.arrives {
                return;
            }
            self.connect(index);
        }
        let line = &mut self.hub.lines[index];
        let turned = self.peers[index].turn(now, index, line, &mut self.hub.dice, &mut self.hub.oracle);
        if let Some(again) = turned.again {
            self.hub.schedule(again, What::Peer(index));
        }
        if turned.stirred {
            self.stir(index);
        }
    }

    fn connect(&mut self, index: usize) {
        let hub = &mut self.hub;
        let address =
            SocketAddr::from(([10, 0, 0, hub.dice.below(hub.scenario.addresses) as u8], 1_000 + index as u16));
        let security = if hub.scenario.tls { Security::tls(tls::server()).expect("a server") } else { Security::Plain };
        let session = Session::new(hub.now, hub.settings.clone(), security, address, Role::Both);
        let core = hub.dice.below(self.cores.len() as u64) as usize;
        let manner = self.peers[index].manner;
        hub.story.tell(hub.now.instant, Some(index), || format!("connects to core {core}: {manner:?}"));
        self.cores[core].adopt(hub, index, session);
    }

    /// The hub's socket of this line may have something new.
    fn stir(&mut self, index: usize) {
        if let Some((core, key)) = self.hub.lines[index].owner {
            self.cores[core].ready.push(key);
        }
    }

    fn tick(&mut self) {
        for core in &mut self.cores {
            core.tick(&mut self.hub);
        }
        self.settle();
        for core in &self.cores {
            for link in core.members() {
                let Some(line) = link.line else { continue };
                let backlog = link.session.backlog().len();
                let progress = self.hub.lines[line].pipe.progress;
                self.hub.oracle.check_tick(self.hub.now.instant, line, &core.shard, backlog, progress);
            }
        }
        let waiting = self.hub.now.instant < self.end || self.hub.mail.iter().any(|mail| !mail.requests.is_empty());
        if waiting || self.cores.iter().any(Core::is_busy) {
            self.hub.schedule(self.hub.now.instant + Duration::from_micros(TICK), What::Tick);
        }
    }

    fn publish(&mut self) {
        let hub = &mut self.hub;
        let gateway = hub.dice.pick(&self.gateways);
        let count = if hub.dice.chance(200) { hub.dice.piece(hub.scenario.batch_max) } else { 1 };
        let events: Vec<_> = (0..count).map(|_| event(gateway, hub.scenario.payload_max, &mut hub.dice)).collect();
        let run = hub.oracle.ledger.begin(&events);
        let owner = hub.placement.of_gateway(gateway);
        hub.story.tell_minor(hub.now.instant, || format!("publish {run}: {count} to {gateway} on shard {owner}"));
        let core = hub.dice.below(self.cores.len() as u64) as usize;
        let mut events = events;
        let single = if count == 1 && hub.dice.chance(800) { events.pop() } else { None };
        let command = single.map_or(Command::PublishMany(events), Command::Publish);
        let asks = vec![Ask::Shard(owner, command)];
        self.cores[core].ask(hub, None, asks, super::asks::Then::Published(run));
    }

    fn change(&mut self) {
        let hub = &mut self.hub;
        let at = hub.dice.below(self.tokens.len() as u64) as usize;
        let Entrant { gateway, token, key } = self.tokens[at].entrant;
        let change = if hub.dice.chance(250) {
            Change::GatewayDeleted(gateway)
        } else {
            Change::TokenRevoked { gateway, token, hash: key }
        };
        hub.story.tell(hub.now.instant, None, || format!("{change:?}"));
        hub.tell(Control::Change(change));
    }

    fn check_end(&mut self) {
        self.hub.oracle.check_end();
        if let Some(left) = self.cores.iter().find_map(Core::leftovers) {
            self.hub.oracle.fail("nothing is left when all have left", None, left);
        }
        let taken = self.hub.slots.taken();
        if taken > 0 {
            self.hub.oracle.fail("nothing is left when all have left", None, format!("{taken} slots"));
        }
        let mut totals = crate::shard::command::DeliveryStats::default();
        for core in &mut self.cores {
            core.shard.handle_command(self.hub.now, 0, Command::Totals(None));
            while let Some(effect) = core.shard.poll_effect() {
                if let crate::shard::Effect::Reply(_, crate::shard::Reply::Totals(shard)) = effect {
                    totals.add(&shard.deliveries);
                }
            }
        }
        let (counted, asked) =
            (totals.total_events_sent + totals.failed_deliveries, self.hub.oracle.ledger.deliveries());
        if counted != asked || totals.failed_deliveries != self.hub.oracle.ledger.failed {
            let text = format!("{totals:?}, {asked} deliveries, {} reported", self.hub.oracle.ledger.failed);
            self.hub.oracle.fail("the statistics are the sum of the answers", None, text);
        }
    }
}

fn core(id: ShardId, hub: &Hub, gateways: &[GatewayId], tokens: &[Token]) -> Core {
    let mut directory = Directory::default();
    let created = gateways.iter().map(|gateway| Change::GatewayCreated(hub.scenario.life(*gateway)));
    created.clone().for_each(|change| directory.apply(change));
    for Token { entrant, .. } in tokens {
        let Entrant { gateway, token, key } = *entrant;
        directory.apply(Change::TokenCreated { gateway, token, hash: key });
    }
    let mut core = Core::new(id, hub.scenario.shard_settings(id), directory, hub.now);
    created.for_each(|change| core.shard.handle_change(change));
    core
}

/// Puts what will happen by itself into the calendar.
fn plan(hub: &mut Hub, end: Instant) {
    let active = hub.scenario.active.as_micros() as u64;
    for index in 0..hub.scenario.manners.len() {
        let manner = hub.scenario.manners[index];
        hub.schedule(Instant(START) + manner.arrives, What::Peer(index));
        hub.schedule(Instant(START) + manner.leaves, What::Peer(index));
    }
    let mut at = 0;
    for _ in 0..hub.scenario.publishes {
        // Some come together.
        at = if hub.dice.chance(400) { at } else { hub.dice.below(active) };
        hub.schedule(Instant(START + at), What::Publish);
    }
    for _ in 0..hub.scenario.changes {
        // Half of them meet somebody who is about to be let in.
        let at = if hub.dice.chance(500) {
            let arrival = hub.dice.below(hub.scenario.manners.len() as u64) as usize;
            hub.scenario.manners[arrival].arrives.as_micros() as u64 + hub.dice.below(20_000)
        } else {
            hub.dice.below(active)
        };
        hub.schedule(Instant(START + at), What::Change);
    }
    if hub.scenario.drain {
        let at = Instant(START + hub.dice.within(active / 2..=active));
        hub.schedule(at.min(end), What::Drain);
    }
    // Who stays is sent away at last.
    hub.schedule(end + LAST_CALL, What::Drain);
    hub.schedule(hub.now.instant, What::Tick);
}

fn tokens(gateway: GatewayId, dice: &mut Dice) -> Vec<Token> {
    (0..dice.within(1..=2))
        .map(|_| {
            let secret = dice.uuid().to_string();
            let key = KeyHash::of(secret.as_bytes());
            Token { entrant: Entrant { gateway, token: TokenId(dice.uuid()), key }, secret }
        })
        .collect()
}

fn event(gateway: GatewayId, payload_max: usize, dice: &mut Dice) -> Event {
    let kind = ["api.deployed", "api.undeployed", "x"];
    let most = if dice.chance(300) { payload_max } else { payload_max.min(200) };
    let length = dice.below(most as u64);
    // Each byte of a payload depends on its place, so that no two pieces of it are the same.
    let from = dice.below(36) as usize;
    let mut payload = Vec::with_capacity(length as usize + 80);
    payload.push(b'"');
    while payload.len() <= length as usize {
        payload.extend_from_slice(&LETTERS[from..]);
        payload.extend_from_slice(format!("{:x}", payload.len()).as_bytes());
    }
    payload.truncate(length as usize + 1);
    payload.push(b'"');
    Event {
        gateway,
        kind: EventType::parse(dice.pick(&kind)).expect("a valid type"),
        payload: Bytes::from(payload),
        correlation: CorrelationId(dice.uuid()),
        user_id: None,
    }
}

/// What a gateway says first.
fn opening(manner: &Manner, tokens: &[Token], dice: &mut Dice) -> Vec<u8> {
    let token = &tokens[dice.below(tokens.len() as u64) as usize];
    let mut bytes = match manner.prank {
        Prank::WrongKey => client::upgrade(Some("nobody's")).into_bytes(),
        Prank::NoKey => client::upgrade(None).into_bytes(),
        _ => client::upgrade(Some(&token.secret)).into_bytes(),
    };
    if manner.prank == Prank::HalfHead {
        bytes.truncate(60);
    } else if manner.early {
        bytes.extend(client::frame(0x81, br#"{"type":"hello"}"#, dice));
        bytes.extend(client::frame(0x89, b"", dice));
    }
    bytes
}

/// What a platform says: some requests, one behind the other.
fn requests(line: usize, gateways: &[GatewayId], scenario: &Scenario, dice: &mut Dice, oracle: &mut Oracle) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..dice.within(1..=4) {
        if dice.chance(250) {
            oracle.ledger.expect_http(line, None);
            let path = dice.pick(&["/health", "/api/internal/v1/stats", "/nowhere"]);
            bytes.extend(format!("GET {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {ADMIN}\r\n\r\n").bytes());
            continue;
        }
        let event = event(dice.pick(gateways), scenario.payload_max.min(3_000), dice);
        let run = oracle.ledger.begin(std::slice::from_ref(&event));
        oracle.ledger.expect_http(line, Some(run));
        let payload = String::from_utf8_lossy(&event.payload);
        let body =
            format!(r#"{{"type":"{}","payload":{payload},"correlationId":"{}"}}"#, event.kind, event.correlation);
        let (gateway, length) = (event.gateway, body.len());
        bytes.extend(
            format!(
                "POST /api/v1/gateways/{gateway}/events HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {ADMIN}\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            )
            .bytes(),
        );
    }
    bytes
}

/// The silent have been found by then.
const LAST_CALL: Duration = Duration::from_secs(40);
/// Silence, a stalled write, a lingering close and an idle HTTP connection have all ended after this.
const PATIENCE: Duration = Duration::from_secs(130);

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz 0123456789 ABCDEFGHIJKLMNOPQRSTUVWXYZ";
