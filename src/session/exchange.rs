//! HTTP on one connection: one request at a time, in order, until one upgrades the connection or ends it.

use super::{
    effect::{Effect, End, Presented},
    pending_upgrade::PendingUpgrade,
    settings::Settings,
};
use crate::{
    limits,
    model::{Instant, KeyHash, Now},
    wire::{
        http::{self, BodyDecoder, Framing, Head, HeadParser, Method, Refusal, Response},
        token_text, upgrade,
    },
};
use zeroize::Zeroize;

/// A request, with its body once that is complete.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: Head,
    /// The body; empty until it is complete.
    pub body: Vec<u8>,
}

/// The stage in which a connection carries HTTP.
pub(super) struct Exchange {
    parser: HeadParser,
    input: Vec<u8>,
    /// Bytes at the front of `input` that are parsed already.
    used: usize,
    state: State,
    deadline: Option<Instant>,
    /// The hub drains: the next response closes the connection.
    draining: bool,
    /// The peer has ended its stream: the complete requests in `input` are the last.
    ended: bool,
    /// At least one request was served.
    served: bool,
    /// There may be a gateway's key in the bytes that came last.
    secret: bool,
    /// The next request in `input` waits until all responses before it are in the socket.
    paused: bool,
}

// The state is taken out of the exchange while it is handled, because the requests in it move from state to state.
enum State {
    /// Waiting for a complete head.
    Head,
    /// The head is complete, and the engine looks up its route.
    Routing(Request),
    /// Receiving the body.
    Body(Request, BodyDecoder),
    /// The engine makes the response.
    Answering(Request),
}

/// The result of a step.
pub(super) enum Progress {
    /// Waits for the peer or for the engine.
    Wait,
    /// The engine is to carry this out.
    Do(Effect),
    /// A gateway wants to connect with the key of this hash.
    Upgrade(PendingUpgrade, Presented),
    /// The last response is in the output.
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
            draining: false,
            ended: false,
            served: false,
            secret: false,
            paused: false,
        }
    }

    pub(super) fn request(&self) -> Option<&Request> {
        match &self.state {
            State::Routing(request) | State::Answering(request) => Some(request),
            State::Head | State::Body(..) => None,
        }
    }

    /// Bytes of incomplete requests.
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
        matches!(self.state, State::Head | State::Body(..)) && !self.draining && !self.ended && !self.paused
    }

    /// Whether a response is being made, or will be without another byte from the peer.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.state, State::Routing(_) | State::Answering(_)) || self.paused
    }

    /// Whether a request has begun to arrive and its response is not made yet.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.state, State::Head) || !self.pending().is_empty()
    }

    /// Whether a request's body is being received or is held until the response is made.
    pub(super) fn has_body(&self) -> bool {
        matches!(self.state, State::Body(..) | State::Answering(_))
    }

    /// The response that is being made closes the connection.
    pub(super) fn handle_drain(&mut self) {
        self.draining = true;
    }

    /// The peer has ended its stream. It still receives the responses to its complete requests.
    pub(super) fn handle_end(&mut self) {
        self.ended = true;
    }

    /// Whether the peer has ended its stream.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn handle_bytes(&mut self, now: Now, plain: &[u8], settings: &Settings, out: &mut Vec<u8>) -> Progress {
        // The first byte of a further request ends the idle time. The first request's deadline counts from accept and
        // is not moved, or a peer could keep the socket by dribbling.
        if self.served && self.pending().is_empty() && matches!(self.state, State::Head) {
            self.deadline = Some(now.attended + settings.handshake_deadline);
        }
        self.secret = false;
        self.take_in(plain);
        self.advance(now, out)
    }

    /// Appends new bytes to the pending input. The input may contain a key, so no copy of it may stay in memory: neither where the
    /// bytes were before they moved to the front, nor in a buffer that became too small.
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

    /// Handles the head's route: the largest body in bytes that it accepts, or a response already.
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
                // The connection closes if there is a body: it was not read, and it precedes the next request.
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
        // No 100 if the body has begun to arrive already (RFC 9110 section 10.1.1 allows this).
        if request.head.expects_continue && self.pending().is_empty() {
            out.extend_from_slice(http::CONTINUE);
        }
        self.deadline = Some(now.attended + limits::BODY_DEADLINE);
        self.state = State::Body(request, BodyDecoder::new(framing, bound));
        self.advance(now, out)
    }

    /// Handles the head's route, the connect path: the request is a valid upgrade, or is refused.
    pub(super) fn handle_upgrade(&mut self, now: Now, settings: &Settings, tls: bool, out: &mut Vec<u8>) -> Progress {
        let State::Routing(Request { head, .. }) = std::mem::replace(&mut self.state, State::Head) else {
            return Progress::Wait;
        };
        match upgrade::check(&head, &settings.origins, tls) {
            Ok(upgrade) => {
                let key = head.only_field("api-key").filter(|key| !key.is_empty()).map(KeyHash::of);
                let (resume, written_only) = (upgrade::last_position(&head), upgrade::is_written_only(&head));
                let presented = Presented { key, resume, written_only };
                let early_bytes = self.input.split_off(self.used);
                Progress::Upgrade(PendingUpgrade { upgrade, early_bytes, ended: self.ended }, presented)
            }
            Err(response) => {
                response.encode(now.wall, head.method == Method::Head, false, out);
                let origin = upgrade::refused_origin(&head, &settings.origins, tls).filter(|_| response.status == 403);
                Progress::Close(origin.map_or(End::BadRequest("upgrade"), |origin| End::Origin(shown(origin))))
            }
        }
    }

    /// Writes the response, then parses what the peer has sent after the request.
    pub(super) fn handle_response(
        &mut self,
        now: Now,
        response: &Response,
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Progress {
        let State::Answering(request) = std::mem::replace(&mut self.state, State::Head) else { return Progress::Wait };
        // A peer that has ended its stream may have pipelined further requests before.
        let more = !self.ended || !self.pending().is_empty();
        let keep = request.head.keep_alive && !self.draining && more;
        response.encode(now.wall, request.head.method == Method::Head, keep, out);
        if response.close || !keep {
            return Progress::Close(End::Answered);
        }
        self.served = true;
        self.parser = HeadParser::new();
        let timeout = if self.pending().is_empty() { limits::HTTP_IDLE_DEADLINE } else { settings.handshake_deadline };
        self.deadline = Some(now.attended + timeout);
        self.advance(now, out)
    }

    /// All responses are in the socket: resumes with the next request if it was paused.
    pub(super) fn handle_drained(&mut self, now: Now, settings: &Settings, out: &mut Vec<u8>) -> Progress {
        if !std::mem::take(&mut self.paused) {
            return Progress::Wait;
        }
        self.deadline = Some(now.attended + settings.handshake_deadline);
        self.advance(now, out)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends a connection whose handshake, head or body is late, or that was idle for too long.
    pub(super) fn handle_timeout(&mut self, now: Now, established: bool, out: &mut Vec<u8>) -> Progress {
        if self.deadline.is_none_or(|deadline| now.attended < deadline) {
            return Progress::Wait;
        }
        self.deadline = None;
        let idle = self.served && self.pending().is_empty() && matches!(self.state, State::Head);
        // Before TLS is established a response cannot be sent. An idle client gets none: it would take the 408 for the
        // response to its next request.
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
            // The peer has ended its stream, so an incomplete request will never be complete.
            Progress::Wait if self.ended && !self.paused => Progress::Close(End::Answered),
            progress => progress,
        }
    }

    fn advance_head(&mut self, now: Now, out: &mut Vec<u8>) -> Progress {
        if self.pending().is_empty() {
            return Progress::Wait;
        }
        // One read may contain many requests with long responses, which the peer may never read. No deadline while
        // paused: a peer that reads nothing reaches the write deadline.
        if out.len() > limits::ANSWERS_BYTES_MAX {
            self.paused = true;
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

    /// Bytes that are not parsed yet.
    fn pending(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// Marks input as parsed. The buffer is freed once all of it is, not shifted after each of many pipelined requests.
    fn consume(&mut self, used: usize) {
        self.used += used;
        if self.pending().is_empty() {
            self.input = Vec::new();
            self.used = 0;
        }
    }
}

impl Drop for Exchange {
    /// Input that was not parsed may contain a key.
    fn drop(&mut self) {
        if !self.pending().is_empty() {
            self.input.zeroize();
        }
    }
}

/// A peer's bytes, truncated and escaped for the log.
fn shown(bytes: &[u8]) -> String {
    bytes[..token_text::cut(bytes, limits::ORIGIN_SHOWN_BYTES_MAX)].escape_ascii().to_string()
}

fn refuse(now: Now, refusal: Refusal, out: &mut Vec<u8>) -> Progress {
    refusal.response().encode(now.wall, false, false, out);
    Progress::Close(End::BadRequest(refusal.reason))
}
