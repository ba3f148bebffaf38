//! The gateways of a fleet: they connect, read, lose their connection and reconnect.

use super::*;
use crate::{
    frames,
    marker::Marker,
    peer::Received,
    verify::{Progress, Wrong},
};
use std::{io, ops::Range};

/// Why a connection has ended.
enum End {
    Refused(u16),
    Closed(u16),
    Gone,
    Broken(String),
}

impl Fleet {
    /// Connects these places; at most `window` handshakes run at a time.
    pub fn connect(&mut self, places: Range<usize>) {
        for place in places {
            if !self.places[place].is_wanted {
                self.places[place].is_wanted = true;
                self.to_open.push_back(place);
            }
        }
    }

    /// Cuts a connection, with a close frame (`politely`) or without. It reconnects at once, as a real gateway does.
    pub fn cut(&mut self, place: usize, politely: bool) {
        let Some(slot) = self.places[place].slot else { return };
        if let Some(peer) = self.peers.get_mut(slot).filter(|_| politely) {
            peer.close();
        }
        self.forget(slot);
        if self.places[place].is_wanted {
            self.to_open.push_back(place);
        }
    }

    /// Lets slow connections read everything and no longer reconnect, so that the hub's closes are noticed and their
    /// events are verified.
    pub fn start_late_reading(&mut self) {
        for place in 0..self.places.len() {
            if self.places[place].reading != Reading::All {
                self.places[place].reading = Reading::Late;
                self.places[place].is_wanted = false;
                if let Some(slot) = self.places[place].slot {
                    self.read_peer(slot, usize::MAX);
                }
            }
        }
    }

    /// Whether each late reader has ended or has received every event.
    pub fn are_late_readers_done(&self) -> bool {
        let done = |place: &Place| match place.slot.and_then(|slot| self.peers.get(slot)) {
            Some(peer) => self.verifier.is_complete(&peer.progress),
            None => true,
        };
        self.places.iter().filter(|place| place.reading == Reading::Late).all(done)
    }

    /// Whether every connection that reads has received every event that it must.
    pub fn is_complete(&self) -> bool {
        let judged = |peer: &Peer| peer.stage == Stage::Live && self.places[peer.place].reading == Reading::All;
        self.peers.iter().all(|(_, peer)| !judged(peer) || self.verifier.is_complete(&peer.progress))
    }

    /// Ends the run: events that have not arrived by now are lost.
    pub fn judge(&mut self) {
        for peer in self.peers.drain().filter(|peer| peer.stage == Stage::Live) {
            match self.places[peer.place].reading {
                Reading::All => self.verifier.close(peer.progress),
                // What slow connections did not receive may still be in buffers; only gaps are errors.
                Reading::Never | Reading::Trickle | Reading::Late => self.verifier.end(peer.progress),
            }
        }
        self.live = 0;
    }

    pub(super) fn open_due(&mut self, now: Nanos) {
        while self.to_retry.front().is_some_and(|(due, _)| *due <= now) {
            self.to_open.extend(self.to_retry.pop_front().map(|(_, place)| place));
        }
        for _ in 0..HANDSHAKE_BATCH.min(self.window.saturating_sub(self.opening)) {
            let Some(place) = self.to_open.pop_front() else { break };
            if let Err(error) = self.open(place) {
                *self.tally.refused.entry(error).or_default() += 1;
                self.to_retry.push_back((now + RETRY_DELAY, place));
            }
        }
    }

    fn open(&mut self, index: usize) -> Result<(), String> {
        let place = &self.places[index];
        let tls = place.tls.as_ref().or(self.shared_tls.as_ref());
        // Kernel buffers can hold megabytes; with large ones the hub would need a long time to notice that the
        // connection does not read.
        let narrow = place.reading != Reading::All;
        let options = ConnectOptions { from: place.from, narrow, ..Self::connect_options(&self.endpoint, tls) };
        // Before `connect`: the TCP handshake is part of the time to the ack.
        let begun = self.clock.now();
        let link = Link::open(&options).map_err(|error| error.to_string())?;
        let progress = self.verifier.begin(place.gateway);
        let key = &self.keys[place.gateway];
        let peer =
            Peer::begin(link, index, progress, begun, &self.endpoint.host, key).map_err(|error| error.to_string())?;
        // Epoll has to know the slot before the peer is moved into it.
        let slot = self.peers.vacant_key();
        watch(&self.handshakes, &peer.link, slot as u64)?;
        self.peers.insert(peer);
        self.places[index].slot = Some(slot);
        self.opening += 1;
        Ok(())
    }

    pub(super) fn handle_peer(&mut self, slot: usize, flags: EventFlags) {
        // An earlier event of the same batch may have ended this connection.
        let Some(peer) = self.peers.get(slot) else { return };
        let reading = self.places[peer.place].reading;
        let reads = matches!(reading, Reading::All | Reading::Late) || peer.stage != Stage::Live;
        // A close frame or FIN waits behind bytes that this connection does not read. Only a reset shows at once.
        if reads {
            self.read_peer(slot, usize::MAX);
        } else if flags.contains(EventFlags::ERR) {
            self.lose(slot, &End::Gone);
        }
    }

    pub(super) fn trickle_due(&mut self, now: Nanos) {
        if !self.has_trickle || now < self.trickled + TRICKLE_INTERVAL {
            return;
        }
        self.trickled = now;
        let is_trickle = |place: &Place| place.reading == Reading::Trickle;
        let slots: Vec<usize> = self.places.iter().filter(|it| is_trickle(it)).filter_map(|it| it.slot).collect();
        slots.into_iter().for_each(|slot| self.read_peer(slot, TRICKLE_BYTES));
    }

    fn read_peer(&mut self, slot: usize, most: usize) {
        let Self {
            peers,
            places,
            scratch,
            plain,
            verifier,
            tally,
            clock,
            template,
            live,
            opening,
            gateway_queues,
            sendable,
            ..
        } = self;
        let Some(peer) = peers.get_mut(slot) else { return };
        let place = &places[peer.place];
        let (begun, gateway, is_measured) = (peer.begun, place.gateway, place.is_measured);
        let (mut end, mut acked, mut events) = (None, false, 0);
        // The connection is ended only after the read: inside it, `peer` is borrowed.
        let more = peer.read(scratch, plain, most, |progress, received| match received {
            Received::Ack => {
                acked = true;
                *live += 1;
                *opening -= 1;
                tally.opened += 1;
                tally.connecting.saturating_record(clock.now() - begun);
                verifier.acknowledge(progress);
            }
            Received::Event(message) => {
                events += 1;
                let now = clock.now();
                if let Some(marker) = see(verifier, progress, gateway, message, template.size) {
                    tally.deliveries += 1;
                    if is_measured {
                        tally.deliver(now.saturating_sub(marker.intended));
                    }
                    if gateway_queues[gateway].confirm(marker.sequence) {
                        sendable.push_back(gateway);
                    }
                }
            }
            Received::Ping => tally.pings += 1,
            Received::Close(code) => end = Some(End::Closed(code)),
            Received::Refused(status) => end = Some(End::Refused(status)),
            Received::Wrong(detail) => {
                verifier.find(Wrong::Protocol, gateway, 0, detail.clone());
                end = Some(End::Broken(detail));
            }
        });
        if acked {
            tally.resumed += u64::from(peer.link.is_resumed());
            // Move it to the main epoll: its events have priority over handshakes. Adding it reports bytes that are
            // already there, so no edge is lost.
            let moved = epoll::delete(&self.handshakes, &peer.link)
                .map_err(|error| error.to_string())
                .and_then(|()| watch(&self.epoll, &peer.link, slot as u64));
            if let Err(error) = moved {
                end = Some(End::Broken(error));
            }
        }
        if self.plan.answers_events && events > 0 {
            answer(peer, events);
        }
        match (end, more) {
            (Some(end), _) => self.lose(slot, &end),
            (None, Ok(true)) => {}
            (None, Ok(false)) => self.lose(slot, &End::Gone),
            (None, Err(error)) => self.lose(slot, &broken(&error)),
        }
    }

    fn lose(&mut self, slot: usize, end: &End) {
        let Some(peer) = self.peers.get(slot) else { return };
        let (index, was_live) = (peer.place, peer.stage == Stage::Live);
        let place = &self.places[index];
        let (gateway, reads, is_wanted) = (place.gateway, place.reading == Reading::All, place.is_wanted);
        let reason = match end {
            End::Refused(status) => status.to_string(),
            End::Closed(code) => format!("close {code}"),
            End::Gone => "ended without a close frame".to_owned(),
            End::Broken(error) => error.clone(),
        };
        self.forget(slot);
        let counts = if was_live { &mut self.tally.ended } else { &mut self.tally.refused };
        *counts.entry(reason.clone()).or_default() += 1;
        if was_live && reads {
            self.verifier.find(Wrong::Ended, gateway, 0, reason);
        }
        if is_wanted {
            // At once after a lost connection, as a real gateway; after a refusal with a delay, or the retries would
            // keep the hub busy.
            let delay = if was_live { 0 } else { RETRY_DELAY };
            self.to_retry.push_back((self.clock.now() + delay, index));
        }
    }

    fn forget(&mut self, slot: usize) {
        let peer = self.peers.remove(slot);
        self.places[peer.place].slot = None;
        if peer.stage == Stage::Live {
            self.live -= 1;
            self.verifier.end(peer.progress);
        } else {
            self.opening -= 1;
        }
    }
}

/// Verifies one event; returns its marker if it is one of this gateway's.
fn see(
    verifier: &mut Verifier,
    progress: &mut Progress,
    gateway: usize,
    message: &[u8],
    size: usize,
) -> Option<Marker> {
    let Some(marker) = Marker::find(message, size) else {
        verifier.find(
            Wrong::Garbled,
            gateway,
            0,
            format!("{} bytes without the payload that was published", message.len()),
        );
        return None;
    };
    if marker.gateway == gateway {
        verifier.see(progress, marker.sequence);
        Some(marker)
    } else {
        verifier.find(
            Wrong::Foreign,
            gateway,
            marker.sequence,
            format!("it is an event of gateway {}", marker.gateway),
        );
        None
    }
}

/// Sends this many deployment acks.
fn answer(peer: &mut Peer, events: usize) {
    let mut out = Vec::new();
    (0..events).for_each(|_| frames::push(frames::TEXT, DEPLOYMENT_ACK, &mut out));
    // A failed connection is noticed at the next read.
    let _ = peer.link.write(&out);
}

fn broken(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => End::Gone,
        _ => End::Broken(error.to_string()),
    }
}

const DEPLOYMENT_ACK: &[u8] = br#"{"type":"deployment.ack","payload":{"deploymentId":"d","artifactId":"a","resourceType":"api","action":"deploy","status":"success","performedAt":"2025-01-01T00:00:00Z"}}"#;
