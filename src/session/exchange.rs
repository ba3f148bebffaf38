//! HTTP on one connection: a request at a time, in order, until one upgrades or ends it.

use super::{
    effect::{Effect, End},
    settings::Settings,
    waiting::Waiting,
};
use crate::{
    limits,
    model::{Instant, KeyHash, Now},
    wire::{
        http::{self, BodyDecoder, Framing, Head, HeadParser, Method, Refusal, Response},
        upgrade,
    },
};
use zeroize::Zeroize;

/// A request, with its body once it is there.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: Head,
    /// The body; empty until it is whole.
    pub body: Vec<u8>,
}

/// The stage of one connection.
pub(super) struct Exchange {
    parser: HeadParser,
    input: Vec<u8>,
    /// So much of the input is done with.
    used: usize,
    state: State,
    deadline: Option<Instant>,
    /// The hub goes away: this answer is the last.
    last: bool,
    /// The peer sends no more: what it has sent is answered, and nothing else.
    ended: bool,
    served: bool,
    /// There may be a gateway's key in the bytes that came last.
    secret: bool,
    /// The next request waits until the answers before it are in the socket.
    held: bool,
}

enum State {
    Head,
    /// The head is there; the route table decides what becomes of it.
    Routing(Request),
    Body(Request, BodyDecoder),
    Answering(Request),
}

/// What came of some input.
pub(super) enum Progress {
    /// More is needed.
    Wait,
    /// Something for the driver.
    Do(Effect),
    /// A gateway wants to connect with this key.
    Upgrade(Waiting, Option<KeyHash>),
    /// The last answer is in the output.
    Close(End),
}

impl Exchange {
    pub(super) fn new(deadline: Instant) -> Self {
        Self {
            parser: HeadParser::new(),
            input: Vec::new(),
            used: 0,
            state: State::Head,
            deadline: Some(deadline),
            last: false,
            ended: false,
            served: false,
            secret: false,
            held: false,
        }
    }

    pub(super) fn request(&self) -> Option<&Request> {
        match &self.state {
            State::Routing(request) | State::Answering(request) => Some(request),
            State::Head | State::Body(..) => None,
        }
    }

    /// Bytes of requests that are not whole.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let body = if let State::Body(request, _) = &self.state { request.body.capacity() } else { 0 };
        self.input.len() + body
    }

    /// Whether the bytes that came last have to be overwritten where else they are.
    pub(super) fn is_secret(&self) -> bool {
        // What was not looked at yet may have a key in it.
        self.secret || !self.pending().is_empty()
    }

    pub(super) fn wants_read(&self) -> bool {
        matches!(self.state, State::Head | State::Body(..)) && !self.last && !self.ended && !self.held
    }

    /// An answer is being made, or will be without another byte from the peer.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.state, State::Routing(_) | State::Answering(_)) || self.held
    }

    /// Whether a request is on its way in, or its answer out.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.state, State::Head) || !self.pending().is_empty()
    }

    /// Whether a request's body is here, or on its way.
    pub(super) fn has_body(&self) -> bool {
        matches!(self.state, State::Body(..) | State::Answering(_))
    }

    /// The answer that is being made is the last one.
    pub(super) fn handle_drain(&mut self) {
        self.last = true;
    }

    /// The peer sends no more, and still takes the answers to what it has sent.
    pub(super) fn handle_end(&mut self) {
        self.ended = true;
    }

    /// Whether the peer sends no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn handle_bytes(&mut self, now: Now, plain: &[u8], settings: &Settings, out: &mut Vec<u8>) -> Progress {
        if self.served && self.pending().is_empty() && matches!(self.state, State::Head) {
            self.deadline = Some(now.attended + settings.handshake_deadline);
        }
        self.secret = false;
        self.take_in(plain);
        self.advance(now, out)
    }

    /// Puts new bytes behind those that are pending. A key may be among these, so that no copy of them is left behind: neither where
    /// they were before they moved to the front, nor in a buffer that has become too small.
    fn take_in(&mut self, plain: &[u8]) {
        let used = std::mem::take(&mut self.used);
        if used > 0 {
            let pending = self.input.len() - used;
            self.input.copy_within(used.., 0);
            self.input[pending..].zeroize();
            self.input.truncate(pending);
        }
        let needed = self.input.len() + plain.len();
        if needed > self.input.capacity() {
            let mut larger = Vec::with_capacity(needed.max(2 * self.input.len()));
            larger.extend_from_slice(&self.input);
            self.input.zeroize();
            self.input = larger;
        }
        self.input.extend_from_slice(plain);
    }

    /// The head's route: how large a body may come, or the answer already.
    pub(super) fn handle_route(
        &mut self,
        now: Now,
        verdict: Result<usize, Response>,
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Progress {
        let State::Routing(request) = std::mem::replace(&mut self.state, State::Head) else { return Progress::Wait };
        let framing = request.head.framing;
        let bound = match verdict {
            Ok(bound) => bound,
            Err(response) => {
                self.state = State::Answering(request);
                // A body that was not read stands between this request and the next.
                let response = if matches!(framing, Framing::None) { response } else { response.closing() };
                return self.handle_response(now, &response, settings, out);
            }
        };
        if let Err(refusal) = http::check_length(framing, bound) {
            return refuse(now, refusal, out);
        }
        if matches!(framing, Framing::None) {
            self.state = State::Answering(request);
            self.deadline = None;
            return Progress::Do(Effect::Call);
        }
        if request.head.expects_continue && self.pending().is_empty() {
            out.extend_from_slice(http::CONTINUE);
        }
        self.deadline = Some(now.attended + limits::BODY_DEADLINE);
        self.state = State::Body(request, BodyDecoder::new(framing, bound));
        self.advance(now, out)
    }

    /// The head's route is the connect path: the request becomes an upgrade, or is refused.
    pub(super) fn handle_upgrade(&mut self, now: Now, settings: &Settings, tls: bool, out: &mut Vec<u8>) -> Progress {
        let State::Routing(Request { head, .. }) = std::mem::replace(&mut self.state, State::Head) else {
            return Progress::Wait;
        };
        match upgrade::check(&head, &settings.origins, tls) {
            Ok(upgrade) => {
                let key = head.only_field("api-key").filter(|key| !key.is_empty()).map(KeyHash::of);
                let waiting = Waiting { upgrade, early: self.input.split_off(self.used), ended: self.ended };
                Progress::Upgrade(waiting, key)
            }
            Err(response) => {
                response.encode(now.wall, head.method == Method::Head, false, out);
                let origin = upgrade::refused_origin(&head, &settings.origins, tls).filter(|_| response.status == 403);
                Progress::Close(origin.map_or(End::BadRequest("upgrade"), |origin| End::Origin(shown(origin))))
            }
        }
    }

    /// Gives the answer, and goes on with what the peer has sent behind its request.
    pub(super) fn handle_response(
        &mut self,
        now: Now,
        response: &Response,
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Progress {
        let State::Answering(request) = std::mem::replace(&mut self.state, State::Head) else { return Progress::Wait };
        let more = !self.ended || !self.pending().is_empty();
        let keep = request.head.keep_alive && !self.last && more;
        response.encode(now.wall, request.head.method == Method::Head, keep, out);
        if response.close || !keep {
            return Progress::Close(End::Answered);
        }
        self.served = true;
        self.parser = HeadParser::new();
        let patience = if self.pending().is_empty() { limits::HTTP_IDLE_DEADLINE } else { settings.handshake_deadline };
        self.deadline = Some(now.attended + patience);
        self.advance(now, out)
    }

    /// All answers are in the socket: goes on with the request that waited for that.
    pub(super) fn handle_drained(&mut self, now: Now, settings: &Settings, out: &mut Vec<u8>) -> Progress {
        if !std::mem::take(&mut self.held) {
            return Progress::Wait;
        }
        self.deadline = Some(now.attended + settings.handshake_deadline);
        self.advance(now, out)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends a peer that has not said in time what it wants.
    pub(super) fn handle_timeout(&mut self, now: Now, established: bool, out: &mut Vec<u8>) -> Progress {
        if self.deadline.is_none_or(|deadline| now.attended < deadline) {
            return Progress::Wait;
        }
        self.deadline = None;
        let idle = self.served && self.pending().is_empty() && matches!(self.state, State::Head);
        if established && !idle {
            Response::error(408, "The request did not arrive in time.").closing().encode(now.wall, false, false, out);
        }
        Progress::Close(if idle { End::Answered } else { End::TimedOut })
    }

    fn advance(&mut self, now: Now, out: &mut Vec<u8>) -> Progress {
        let progress = match std::mem::replace(&mut self.state, State::Head) {
            State::Head => self.advance_head(now, out),
            State::Body(request, decoder) => self.advance_body(now, request, decoder, out),
            waiting => {
                self.state = waiting;
                return Progress::Wait;
            }
        };
        match progress {
            // What is not whole now never will be.
            Progress::Wait if self.ended && !self.held => Progress::Close(End::Answered),
            progress => progress,
        }
    }

    fn advance_head(&mut self, now: Now, out: &mut Vec<u8>) -> Progress {
        if self.pending().is_empty() {
            return Progress::Wait;
        }
        // Many requests fit into one read, and each can ask for a long answer that the peer never takes.
        if out.len() > limits::ANSWERS_BYTES_MAX {
            self.held = true;
            self.deadline = None;
            return Progress::Wait;
        }
        let (head, used) = match self.parser.parse(&self.input[self.used..]) {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.secret = true;
                return Progress::Wait;
            }
            Err(refusal) => {
                self.secret = true;
                self.input.zeroize();
                self.used = 0;
                return refuse(now, refusal, out);
            }
        };
        if head.field("api-key").is_some() {
            self.secret = true;
            self.input[self.used..self.used + used].zeroize();
        }
        self.consume(used);
        self.state = State::Routing(Request { head, body: Vec::new() });
        Progress::Do(Effect::Route)
    }

    fn advance_body(
        &mut self,
        now: Now,
        mut request: Request,
        mut decoder: BodyDecoder,
        out: &mut Vec<u8>,
    ) -> Progress {
        match decoder.decode(&self.input[self.used..], &mut request.body) {
            Ok((used, done)) => {
                self.consume(used);
                if done {
                    self.deadline = None;
                    self.state = State::Answering(request);
                    return Progress::Do(Effect::Call);
                }
                self.state = State::Body(request, decoder);
                Progress::Wait
            }
            Err(refusal) => refuse(now, refusal, out),
        }
    }

    /// What came and was not used yet.
    fn pending(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// Forgets input that was used, in one go when all is: many requests come in one reading.
    fn consume(&mut self, used: usize) {
        self.used += used;
        if self.pending().is_empty() {
            self.input = Vec::new();
            self.used = 0;
        }
    }
}

impl Drop for Exchange {
    /// There may be a key in input that was not parsed.
    fn drop(&mut self) {
        if !self.pending().is_empty() {
            self.input.zeroize();
        }
    }
}

/// A peer's bytes as they may stand in a log line.
fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(limits::ORIGIN_SHOWN_BYTES_MAX)].escape_ascii().to_string()
}

fn refuse(now: Now, refusal: Refusal, out: &mut Vec<u8>) -> Progress {
    refusal.response().encode(now.wall, false, false, out);
    Progress::Close(End::BadRequest(refusal.reason))
}
