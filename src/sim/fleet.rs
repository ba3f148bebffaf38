//! Plans the gateways with the delivery `processed`: how they handle events, lose their connections and come back.

use super::{
    behaviour::{Ending, Misbehaviour, Profile},
    handling::{Answers, Handling},
    requests::Request,
    rng::Rng,
    scenario::Scenario,
};
use crate::model::{DeliveryMode, Instant};
use std::time::Duration;

/// How likely each kind of accident is, per mille; each is 0 in half of the worlds.
struct Weights {
    slow: u64,
    hangs: u64,
    late: u64,
    at_once: u64,
    latest: u64,
    invents: u64,
    monitors: u64,
    comes_back: u64,
    written_only: u64,
    changes: u64,
}

impl Weights {
    fn swarm(rng: &mut Rng) -> Self {
        let mut weight = |max| if rng.chance(500) { 0 } else { rng.within(50..=max) };
        Self {
            slow: weight(500),
            hangs: weight(200),
            late: weight(500),
            at_once: weight(400),
            latest: weight(600),
            invents: weight(500),
            monitors: weight(900),
            comes_back: weight(1_000),
            written_only: weight(300),
            changes: weight(1_000),
        }
    }
}

impl Scenario {
    /// Decides the delivery of each gateway. In half of the worlds all have `written`.
    pub(super) fn plan_deliveries(&mut self, rng: &mut Rng) {
        if rng.chance(400) {
            return;
        }
        self.delivery.window = rng.pick(&[1, 1, 1, 2, 3, 8]) as u32;
        self.delivery.mode = rng.pick(&[DeliveryMode::Written, DeliveryMode::Processed]);
        if rng.chance(250) {
            self.delivery.poison_connections = rng.within(1..=3) as u32;
            self.delivery.poison_after = Duration::from_millis(rng.pick(&[0, 0, 300, 5_000]));
        }
        if rng.chance(400) {
            self.session.processing_timeout = Duration::from_millis(rng.pick(&[1_500, 2_000, 5_000, 20_000]));
        }
        let choices = [None, Some(DeliveryMode::Processed), Some(DeliveryMode::Processed), Some(DeliveryMode::Written)];
        for gateway in &mut self.roster.gateways {
            gateway.delivery = rng.pick(&choices);
            gateway.mode = Some((gateway.delivery.unwrap_or(self.delivery.mode), Instant(0)));
        }
    }

    /// Gives the gateways with the delivery `processed` their read loops, and plans who comes back, and what is changed meanwhile.
    pub(super) fn plan_fleet(&mut self, rng: &mut Rng) {
        let weights = Weights::swarm(rng);
        let proved = |scenario: &Self, key: usize| {
            let gateway = &scenario.roster.gateways[scenario.roster.keys[key].gateway];
            gateway.mode.is_some_and(|(mode, _)| mode == DeliveryMode::Processed)
        };
        if !self.roster.gateways.iter().any(|it| it.mode.is_some_and(|(mode, _)| mode == DeliveryMode::Processed)) {
            return;
        }
        let changed = self.plan_delivery_changes(&weights, rng);
        let keys = self.roster.keys.len();
        for index in 0..self.profiles.len() {
            let Some(key) = self.profiles[index].key.filter(|key| !self.profiles[index].platform && proved(self, *key))
            else {
                continue;
            };
            let gateway = self.roster.keys[key].gateway;
            let may_be_written = changed.contains(&gateway) || rng.chance(weights.written_only);
            let profile = &mut self.profiles[index];
            profile.written_only = may_be_written && !changed.contains(&gateway);
            // Behind a burst of events that are only written, a ping waits for the handlers of all.
            profile.handling = if may_be_written { Handling::INSTANT } else { weights.handling(rng) };
            if rng.chance(weights.comes_back) {
                self.plan_successors(index, rng);
            }
        }
        for key in (0..keys).filter(|key| proved(self, *key)).collect::<Vec<_>>() {
            if rng.chance(700) {
                let may_be_written = changed.contains(&self.roster.keys[key].gateway);
                self.plan_last(key, may_be_written, rng);
            }
        }
        self.plan_waits(rng);
    }

    /// Requests that change the delivery of gateways. Returns those gateways.
    fn plan_delivery_changes(&mut self, weights: &Weights, rng: &mut Rng) -> Vec<usize> {
        let Some(platform) = self.profiles.iter().rposition(|profile| profile.platform) else { return Vec::new() };
        let mut changed = Vec::new();
        if !rng.chance(weights.changes / 2) {
            return changed;
        }
        for _ in 0..rng.within(1..=3) {
            let gateway = rng.below(self.roster.gateways.len() as u64) as usize;
            let delivery = rng.pick(&[None, Some(DeliveryMode::Written), Some(DeliveryMode::Processed)]);
            let at = Duration::from_micros(rng.below(self.active.as_micros() as u64));
            self.profiles[platform].requests.push((at, Request::Change(gateway, delivery)));
            changed.push(gateway);
        }
        self.profiles[platform].requests.sort_by_key(|(at, _)| *at);
        changed
    }

    /// Connections of the same gateway that follow each other.
    fn plan_successors(&mut self, first: usize, rng: &mut Rng) {
        let mut lost = first;
        for _ in 0..rng.within(1..=5) {
            let active = self.active.as_micros() as u64;
            let next = Profile {
                follows: Some(lost),
                resumes: None,
                leaves: Duration::from_micros(rng.below(active * 2)),
                misbehaviour: Misbehaviour::None,
                ending: rng.pick(&[Ending::Stay, Ending::Fin, Ending::Reset, Ending::Vanish]),
                ..self.profiles[lost].clone()
            };
            lost = self.profiles.len();
            self.profiles.push(next);
        }
    }

    /// A connection that does everything right and stays: in the end it has all events.
    fn plan_last(&mut self, key: usize, may_be_written: bool, rng: &mut Rng) {
        let after = if rng.chance(300) { rng.within(61..=65) } else { rng.below(10) };
        let handling = Handling {
            usual_max: rng.pick(&[0, 5_000, 20_000]),
            answers: rng.pick(&[Answers::InTurn, Answers::InTurn, Answers::Latest, Answers::AtOnce]),
            ..Handling::INSTANT
        };
        let handling = if may_be_written { Handling::INSTANT } else { handling };
        let mut last = Profile { arrives: self.active + Duration::from_secs(after), handling, ..Profile::gateway(key) };
        for _ in 0..3 {
            self.profiles.push(last.clone());
            last.follows = Some(self.profiles.len() - 1);
        }
    }

    /// Some publishers wait for the processing of their events.
    fn plan_waits(&mut self, rng: &mut Rng) {
        let often = rng.pick(&[0, 50, 300]);
        let mut waits = 0;
        for (_, request) in self.profiles.iter_mut().flat_map(|profile| &mut profile.requests) {
            if !rng.chance(often) {
                continue;
            }
            let millis = if waits == 0 { 20_000 } else { rng.pick(&[1, 100, 500, 1_500]) };
            waits += 1;
            *request = match *request {
                Request::Publish { gateway, size } => Request::PublishAndWait { gateway, size, millis },
                Request::Batch { count, size, gateway: None } => Request::BatchAndWait { count, size, millis },
                Request::Deploy => Request::DeployAndWait { millis },
                other => other,
            };
        }
    }
}

impl Weights {
    fn handling(&self, rng: &mut Rng) -> Handling {
        let answers = match () {
            () if rng.chance(self.at_once) => Answers::AtOnce,
            () if rng.chance(self.latest) => Answers::Latest,
            () => Answers::InTurn,
        };
        Handling {
            usual_max: rng.pick(&[0, 1_000, 50_000]),
            slow: if rng.chance(self.slow) { rng.within(10..=300) } else { 0 },
            slow_max: Duration::from_millis(rng.pick(&[300, 3_000, 30_000])),
            hangs: if rng.chance(self.hangs) { rng.within(5..=100) } else { 0 },
            answers,
            pong_delay_max: if rng.chance(self.late) { rng.pick(&[1_000, 400_000, 400_000, 5_000_000]) } else { 0 },
            monitor: rng.chance(self.monitors).then(|| Duration::from_secs(rng.pick(&[4, 35]))),
            invents: rng.chance(self.invents),
        }
    }
}
