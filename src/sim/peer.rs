//! The other end: a gateway or a platform, with the manners that its seed gave it.

use super::{
    client::{self, Seen},
    dice::Dice,
    faults::{Ending, Manner, Prank, Reading},
    hub::{Line, News},
    oracle::Oracle,
};
use crate::model::Instant;
use std::time::Duration;

/// One peer.
pub(super) struct Peer {
    pub(super) manner: Manner,
    /// What it says first: the upgrade, or requests.
    opening: Vec<u8>,
    /// Sealed bytes that are to be sent, and how many of them have been.
    outgoing: Vec<u8>,
    sent: usize,
    /// Bytes of the hub that it has read.
    read: u64,
    leaves: Instant,
    stage: Stage,
    /// A FIN follows what is to be sent.
    fin: bool,
    pranked: bool,
    /// Pings that it may still send.
    pings: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Stage {
    /// Nothing is said yet.
    New,
    Asked,
    Upgraded,
    /// It says no more.
    Leaving,
    Gone,
}

/// What a turn came to.
pub(super) struct Turned {
    /// The hub's socket has something new: bytes, room or an end.
    pub(super) stirred: bool,
    /// The next turn that nobody else causes.
    pub(super) again: Option<Instant>,
}

impl Peer {
    pub(super) fn new(manner: Manner, opening: Vec<u8>, start: Instant) -> Self {
        Self {
            leaves: start + manner.leaves,
            manner,
            opening,
            outgoing: Vec::new(),
            sent: 0,
            read: 0,
            stage: Stage::New,
            fin: false,
            pranked: false,
            pings: 50,
        }
    }

    pub(super) fn is_new(&self) -> bool {
        self.stage == Stage::New
    }

    /// Reads, reacts, and sends a piece.
    pub(super) fn turn(
        &mut self,
        now: Instant,
        index: usize,
        line: &mut Line,
        dice: &mut Dice,
        oracle: &mut Oracle,
    ) -> Turned {
        if self.stage == Stage::Gone {
            return Turned { stirred: false, again: None };
        }
        if self.stage == Stage::New {
            self.stage = Stage::Asked;
            let opening = std::mem::take(&mut self.opening);
            self.say(&opening, line);
            if self.manner.prank == Prank::Garbage {
                self.outgoing = (0..200).map(|_| dice.next() as u8).collect();
            }
        }
        let mut stirred = self.read(line, dice);
        while line.news.front().is_some_and(|(offset, _)| *offset <= self.read)
            && let Some((_, news)) = line.news.pop_front()
        {
            self.react(news, line, dice);
        }
        if (line.pipe.hub_shut || line.pipe.hub_gone) && line.pipe.unread == 0 {
            self.fin = true;
        }
        if self.stage == Stage::Upgraded && !self.pranked {
            self.pranked = true;
            self.prank(line, dice);
        }
        if stirred && self.stage == Stage::Upgraded && self.manner.acks && self.pings > 0 && dice.chance(200) {
            self.pings -= 1;
            self.say_frame(0x89, b"there?", line, dice);
        }
        if now >= self.leaves && self.stage < Stage::Leaving {
            stirred |= self.leave(index, line, dice, oracle);
        }
        stirred |= self.send(line, dice);
        Turned { stirred, again: self.again(now, line, dice) }
    }

    fn read(&mut self, line: &mut Line, dice: &mut Dice) -> bool {
        let unread = line.pipe.unread;
        let reading = if self.stage < Stage::Upgraded { Reading::Eager } else { self.manner.reading };
        let take = match reading {
            Reading::Eager => unread,
            Reading::Slow(bytes) => unread.min(bytes),
            Reading::Never => 0,
            Reading::Bursts => unread * usize::from(dice.chance(150)),
        };
        line.pipe.unread -= take;
        self.read += take as u64;
        take > 0
    }

    fn react(&mut self, news: News, line: &mut Line, dice: &mut Dice) {
        match news {
            News::Handshake(bytes) => self.outgoing.extend(bytes),
            News::Seen(Seen::Upgraded) if self.stage < Stage::Leaving => self.stage = Stage::Upgraded,
            News::Seen(Seen::Ping) if self.manner.pongs && self.stage <= Stage::Leaving => {
                self.say_frame(0x8a, b"", line, dice);
            }
            News::Seen(Seen::Text(_)) if self.manner.acks && self.stage == Stage::Upgraded => {
                let ack = br#"{"type":"deployment.ack","payload":{"status":"success","action":"deploy"}}"#;
                self.say_frame(0x81, ack, line, dice);
            }
            News::Seen(Seen::Close(code, _)) if self.stage == Stage::Upgraded => {
                self.say_frame(0x88, &code.to_be_bytes(), line, dice);
                self.stage = Stage::Leaving;
            }
            News::Seen(_) => {}
        }
    }

    fn say(&mut self, plain: &[u8], line: &mut Line) {
        self.outgoing.extend(line.client.seal(plain));
    }

    fn say_frame(&mut self, first: u8, payload: &[u8], line: &mut Line, dice: &mut Dice) {
        let frame = client::frame(first, payload, dice);
        self.say(&frame, line);
    }

    fn prank(&mut self, line: &mut Line, dice: &mut Dice) {
        match self.manner.prank {
            Prank::Unmasked => self.say(&[0x81, 0x01, b'x'], line),
            Prank::NotUtf8 => self.say_frame(0x81, b"\xff\xfe", line, dice),
            Prank::TooBig => self.say_frame(0x81, &vec![b'x'; 70_000], line, dice),
            Prank::PingFlood => {
                let flood: Vec<u8> = (0..1_200).flat_map(|_| [0x89, 0x80, 0, 0, 0, 0]).collect();
                self.say(&flood, line);
            }
            Prank::Malformed => self.say_frame(0x81, b"{\"type\":", line, dice),
            Prank::Binary => self.say_frame(0x82, &[7; 300], line, dice),
            Prank::None | Prank::WrongKey | Prank::NoKey | Prank::HalfHead | Prank::Garbage => {}
        }
    }

    /// Leaves in its way; returns whether the socket noticed at once.
    fn leave(&mut self, index: usize, line: &mut Line, dice: &mut Dice, oracle: &mut Oracle) -> bool {
        let upgraded = self.stage == Stage::Upgraded;
        if self.manner.ending == Ending::Stay {
            self.leaves = Instant(u64::MAX);
            return false;
        }
        oracle.leaves(index);
        self.stage = Stage::Leaving;
        match self.manner.ending {
            Ending::Close(code) if upgraded => self.say_frame(0x88, &code.to_be_bytes(), line, dice),
            Ending::Close(_) | Ending::Fin => {
                if upgraded && line.client.is_tls() && dice.chance(700) {
                    self.outgoing.extend(line.client.goodbye());
                    self.fin = dice.chance(500);
                } else {
                    self.fin = true;
                }
            }
            Ending::Reset => {
                line.pipe.reset = true;
                self.stage = Stage::Gone;
            }
            Ending::Vanish | Ending::Stay => {
                line.pipe.vanished = true;
                self.stage = Stage::Gone;
            }
        }
        self.stage == Stage::Gone
    }

    fn send(&mut self, line: &mut Line, dice: &mut Dice) -> bool {
        let left = self.outgoing.len() - self.sent;
        if left > 0 && self.stage < Stage::Gone {
            let piece = dice.piece(self.manner.piece_max).max(left / 64).min(left);
            line.pipe.send(&self.outgoing[self.sent..self.sent + piece]);
            self.sent += piece;
            if piece == left {
                self.outgoing.clear();
                self.sent = 0;
            }
            return true;
        }
        if self.fin && self.stage < Stage::Gone {
            line.pipe.fin = true;
            self.stage = if line.pipe.hub_shut || line.pipe.hub_gone { Stage::Gone } else { Stage::Leaving };
            return true;
        }
        false
    }

    fn again(&self, now: Instant, line: &Line, dice: &mut Dice) -> Option<Instant> {
        if self.stage == Stage::Gone || line.pipe.hub_gone {
            return None;
        }
        let sending = self.sent < self.outgoing.len() || (self.fin && !line.pipe.fin);
        let reading = line.pipe.unread > 0 && self.stage >= Stage::Upgraded && self.manner.reading != Reading::Never;
        if sending {
            Some(now + Duration::from_micros(dice.below(self.manner.latency_max.min(1_000) + 1)))
        } else if reading && self.manner.reading != Reading::Eager {
            Some(now + Duration::from_millis(dice.within(10..=400)))
        } else {
            None
        }
    }
}
