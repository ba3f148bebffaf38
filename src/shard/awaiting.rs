//! `?wait=…&until=processed` (contract section 2): the answer to a publish comes once its events are processed, or says who is missing.

use super::{
    Command, Effect, Origin, Published, Reply, Shard, counters,
    waits::{Asked, Awaited, Held},
};
use crate::{
    limits,
    model::{Awaiting, DeliveryMode, Failure, GatewayId, Missing, Now, Position, PublishOutcome},
};
use std::time::Duration;

impl Shard {
    /// Runs a command that publishes, and answers it once its events are processed.
    pub(super) fn publish_and_wait(&mut self, now: Now, origin: Origin, publish: Command, wait: Duration) {
        let gateways: Vec<_> = match &publish {
            Command::Publish(event) => vec![event.gateway],
            Command::PublishMany(events) | Command::Deploy(events) => {
                events.iter().map(|event| event.gateway).collect()
            }
            _ => Vec::new(),
        };
        // With too many that wait the answer comes at once, and says so. A hub that ends may get a publish from another core.
        let may_wait = self.waits.len() + gateways.len() <= limits::WAIT_EVENTS_MAX;
        let wait = if self.waits.has_ended() { Duration::ZERO } else { wait };
        self.waits.ask(origin, Asked { deadline: may_wait.then_some(now.instant + wait), gateways });
        self.handle_command(now, origin, publish);
    }

    /// Passes on the reply to a publish, or holds it back if the publisher waits for more.
    pub(super) fn hold_back_reply(&mut self, origin: Origin, reply: Reply) -> Option<Effect> {
        let Some(Asked { deadline, mut gateways }) = self.waits.take_asked(origin) else {
            return Some(Effect::Reply(origin, reply));
        };
        let mut reply = reply;
        let places = outcomes(&reply).zip(&gateways).enumerate();
        let places = places.filter_map(|(index, (outcome, gateway))| Some((index, *gateway, outcome?.position)));
        let is_proved = |(_, gateway, _): &(usize, GatewayId, _)| self.mode_of(*gateway) == DeliveryMode::Processed;
        let (mut events, unproved): (Vec<_>, Vec<_>) = places.partition(is_proved);
        for (index, ..) in unproved {
            set_awaiting(&mut reply, index, nobody(Missing::UNPROVED));
        }
        if deadline.is_none() {
            events.drain(..).for_each(|(index, ..)| set_awaiting(&mut reply, index, nobody(Missing::TOO_MANY)));
        }
        self.waits.hold((origin, reply), deadline.unwrap_or_default(), &events);
        gateways.dedup();
        gateways.into_iter().for_each(|gateway| self.check_waits(gateway));
        self.answer_complete();
        None
    }

    /// A gateway has come further, perhaps: answers those who wait for that.
    pub(super) fn check_waits(&mut self, gateway: GatewayId) {
        if self.waits.has(gateway)
            && let Some(reached) = self.reached(gateway)
        {
            self.waits.reach(gateway, reached);
            self.answer_complete();
        }
    }

    /// Nobody waits any longer for the events of a gateway, for this reason.
    pub(super) fn lose_waits(&mut self, gateway: GatewayId, why: &'static str) {
        self.waits.lose(gateway, why);
        self.answer_complete();
    }

    /// Up to where each connection of a gateway has processed its events; where it has none, up to where one had. `None` if its
    /// connections prove nothing, or it has had none for long.
    fn reached(&self, gateway: GatewayId) -> Option<Position> {
        let feed = self.feeds.get(self.feeds.of(gateway)?)?;
        let progress = feed.progress.as_ref()?.processed();
        let connections = feed.connections().iter().filter_map(|key| self.registry.connection(*key));
        let processed = connections.filter_map(|it| Some(it.cursor.processing.as_ref()?.processed()));
        Some(Position { offset: processed.min().unwrap_or(progress), ..feed.end() })
    }

    fn answer_complete(&mut self) {
        while let Some(held) = self.waits.pop_complete() {
            self.answer_held(held);
        }
    }

    /// Answers one publisher whose time is over. Returns whether there was one.
    pub(super) fn answer_expired_wait(&mut self, now: Now) -> bool {
        let Some(held) = self.waits.pop_expired(now.instant) else { return false };
        self.answer_held(held);
        true
    }

    /// The hub ends: whoever waits is told what is missing now.
    pub fn end_waits(&mut self, now: Now) {
        self.waits.end(now.instant);
    }

    fn answer_held(&mut self, Held { origin, mut reply, awaited, .. }: Held) {
        for (index, awaited) in awaited {
            let awaiting = match awaited {
                // What the gateway reads again by itself it has as good as processed; all else is missing to it.
                Awaited::Reached(skipped) => {
                    let processed = skipped.is_none_or(|why| why == counters::REPLAY);
                    Awaiting { processed, skipped, missing: Vec::new() }
                }
                Awaited::Missing(gateway, offset) => self.missing(gateway, offset),
                Awaited::Lost(why) => nobody(why),
            };
            set_awaiting(&mut reply, index, awaiting);
        }
        self.effects.push_back(Effect::Reply(origin, reply));
    }

    /// Who has not processed the event at an offset, and why.
    fn missing(&self, gateway: GatewayId, offset: u64) -> Awaiting {
        let feed = self.feeds.of(gateway).and_then(|key| self.feeds.get(key));
        let connections = feed.into_iter().flat_map(|feed| feed.connections());
        let connections = connections.filter_map(|key| self.registry.connection(*key));
        let missing = connections.filter_map(|connection| {
            let processing = connection.cursor.processing.as_ref().filter(|it| it.processed() < offset)?;
            let first = processing.first().map(|(first, _)| first.offset);
            let reason = if first == Some(offset) { Missing::PROCESSING } else { Missing::BEHIND };
            let before = Some(offset - processing.processed() - 1);
            Some(Missing { connection_id: Some(connection.id), reason, before })
        });
        let missing: Vec<_> = missing.take(limits::FAILURES_LISTED_MAX).collect();
        if missing.is_empty() {
            return nobody(Failure::NOT_CONNECTED);
        }
        Awaiting { processed: false, skipped: None, missing }
    }
}

/// No connection could process the event, for this reason.
fn nobody(reason: &'static str) -> Awaiting {
    let missing = vec![Missing { connection_id: None, reason, before: None }];
    Awaiting { processed: false, skipped: None, missing }
}

/// Notes what a publisher has waited for. The numbers of deliveries stay those of the moment at which its publish was decided.
fn set_awaiting(reply: &mut Reply, index: usize, awaiting: Awaiting) {
    let Some(outcome) = outcome_mut(reply, index) else { return };
    outcome.waiting &= !awaiting.processed;
    outcome.awaiting = Some(awaiting);
}

/// The outcomes in a reply, in the order of its events; `None` for an event without a position.
fn outcomes(reply: &Reply) -> impl Iterator<Item = Option<&PublishOutcome>> {
    let published = match reply {
        Reply::Published(published) => std::slice::from_ref(published),
        Reply::PublishedMany(many) => many,
        _ => &[],
    };
    published.iter().map(|published| if let Published::Outcome(outcome) = published { Some(outcome) } else { None })
}

fn outcome_mut(reply: &mut Reply, index: usize) -> Option<&mut PublishOutcome> {
    let published = match reply {
        Reply::Published(published) => Some(published),
        Reply::PublishedMany(many) => many.get_mut(index),
        _ => None,
    };
    if let Some(Published::Outcome(outcome)) = published { Some(outcome) } else { None }
}
