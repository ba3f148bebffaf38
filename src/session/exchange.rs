//! HTTP on one connection: one request at a time, in order, until one upgrades the connection or ends it.

use super::{
    effect::{Effect, End, Presented},
    input::Input,
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

/// A request, with its body once that is complete.
#[derive(Debug)]
pub struct Request<'a> {
    /// The head.
    pub head: &'a Head,
    /// The body; empty until it is complete, and once the call does not need it any more.
    pub body: &'a [u8],
}

/// The stage in which a connection carries HTTP.
pub(super) struct Exchange {
    parser: HeadParser,
    input: Input,
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

// The state is taken out of the exchange while it is handled, because the heads in it move from state to state.
enum State {
    /// Waiting for a complete head.
    Head,
    /// The head is complete, and the engine looks up its route.
    Routing(Head),
    /// Receiving the body.
    Body(Head, BodyDecoder, Vec<u8>),
    /// The engine makes the response.
    Answering(Head, Body),
}

/// A complete body.
enum Body {
    /// It came with its head: the first pending bytes of the input, this many.
    InInput(usize),
    /// It came later, or in chunks.
    Gathered(Vec<u8>),
}

impl Body {
    const NONE: Self = Self::InInput(0);
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
            input: Input::default(),
            state: State::Head,
            deadline: Some(deadline),
            draining: false,
            ended: false,
            served: false,
            secret: false,
            paused: false,
        }
    }

    pub(super) fn request(&self) -> Option<Request<'_>> {
        match &self.state {
            State::Routing(head) => Some(Request { head, body: &[] }),
            State::Answering(head, Body::InInput(bytes)) => Some(Request { head, body: &self.pending()[..*bytes] }),
            State::Answering(head, Body::Gathered(body)) => Some(Request { head, body }),
            State::Head | State::Body(..) => None,
        }
    }

    /// The response does not depend on the body any more.
    pub(super) fn release_body(&mut self) {
        if let State::Answering(_, body) = &mut self.state
            && let Body::InInput(bytes) = std::mem::replace(body, Body::NONE)
        {
            self.input.consume(bytes);
        }
    }

    /// Bytes of incomplete requests.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        let body = if let State::Body(.., body) = &self.state { body.capacity() } else { 0 };
        self.pending().len() + body
    }

    /// Whether the bytes that came last have to be overwritten where else they are.
    pub(super) fn is_secret(&self) -> bool {
        // What was not looked at yet may have a key in it. A body has none.
        let body = match &self.state {
            State::Routing(Head { framing: Framing::Length(bytes), .. }) => {
                usize::try_from(*bytes).unwrap_or(usize::MAX)
            }
            State::Answering(_, Body::InInput(bytes)) => *bytes,
            _ => 0,
        };
        self.secret || self.pending().len() > body
    }

    /// The buffer for new bytes, which can take `most`. [`Exchange::handle_bytes`] then says how many came.
    pub(super) fn receive(&mut self, most: usize, spare: &mut Vec<u8>) -> &mut Vec<u8> {
        self.input.receive(most, spare)
    }

    /// Gives the core its buffer back once a read is handled. With `is_secret` there may be a key in it.
    pub(super) fn put_aside(&mut self, is_secret: bool, spare: &mut Vec<u8>) {
        self.input.put_aside(is_secret, spare);
    }

    pub(super) fn wants_read(&self) -> bool {
        matches!(self.state, State::Head | State::Body(..)) && !self.draining && !self.ended && !self.paused
    }

    /// Whether the next request waits until the responses before it are sent.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether a response is being made, or will be without another byte from the peer.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.state, State::Routing(_) | State::Answering(..)) || self.paused
    }

    /// Whether a request has begun to arrive and its response is not made yet.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.state, State::Head) || !self.pending().is_empty()
    }

    /// Whether a request's body is being received or is held until the response is made.
    pub(super) fn has_body(&self) -> bool {
        matches!(self.state, State::Body(..) | State::Answering(..))
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

    /// Handles the last `new` bytes of the input, which have just come.
    pub(super) fn handle_bytes(&mut self, now: Now, new: usize, settings: &Settings, out: &mut Vec<u8>) -> Progress {
        // The first byte of a further request ends the idle time. The first request's deadline counts from accept and
        // is not moved, or a peer could keep the socket by dribbling.
        if self.served && self.pending().len() == new && matches!(self.state, State::Head) {
            self.deadline = Some(now.attended + settings.handshake_deadline);
        }
        self.secret = false;
        self.advance(now, out)
    }

    /// Handles the head's route: the largest body in bytes that it accepts, or a response already.
    pub(super) fn handle_route(
        &mut self,
        now: Now,
        verdict: Result<usize, Response>,
        settings: &Settings,
        out: &mut Vec<u8>,
    ) -> Progress {
        let State::Routing(head) = std::mem::replace(&mut self.state, State::Head) else { return Progress::Wait };
        let framing = head.framing;
        let bound = match verdict {
            Ok(bound) => bound,
            Err(response) => {
                self.state = State::Answering(head, Body::NONE);
                // The connection closes if there is a body: it was not read, and it precedes the next request.
                let response = if matches!(framing, Framing::None) { response } else { response.closing() };
                return self.handle_response(now, &response, settings, out);
            }
        };
        if let Err(refusal) = http::check_length(framing, bound) {
            return refuse(now, refusal, out);
        }
        let announced = match framing {
            Framing::None => Some(0),
            Framing::Length(bytes) => usize::try_from(bytes).ok(),
            Framing::Chunked => None,
        };
        if let Some(bytes) = announced.filter(|bytes| *bytes <= self.pending().len()) {
            self.state = State::Answering(head, Body::InInput(bytes));
            self.deadline = None;
            return Progress::Do(Effect::Call);
        }
        // No 100 if the body has begun to arrive already (RFC 9110 section 10.1.1 allows this).
        if head.expects_continue && self.pending().is_empty() {
            out.extend_from_slice(http::CONTINUE);
        }
        self.deadline = Some(now.attended + limits::BODY_DEADLINE);
        self.state = State::Body(head, BodyDecoder::new(framing, bound), Vec::new());
        self.advance(now, out)
    }

    /// Handles the head's route, the connect path: the request is a valid upgrade, or is refused.
    pub(super) fn handle_upgrade(&mut self, now: Now, settings: &Settings, tls: bool, out: &mut Vec<u8>) -> Progress {
        let State::Routing(head) = std::mem::replace(&mut self.state, State::Head) else { return Progress::Wait };
        match upgrade::check(&head, &settings.origins, tls) {
            Ok(upgrade) => {
                let key = head.only_field("api-key").filter(|key| !key.is_empty()).map(KeyHash::of);
                let (resume, written_only) = (upgrade::last_position(&head), upgrade::is_written_only(&head));
                let presented = Presented { key, resume, written_only };
                let early_bytes = self.input.take();
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
        self.release_body();
        let State::Answering(head, _) = std::mem::replace(&mut self.state, State::Head) else { return Progress::Wait };
        // A peer that has ended its stream may have pipelined further requests before.
        let more = !self.ended || !self.pending().is_empty();
        let keep = head.keep_alive && !self.draining && more;
        response.encode(now.wall, head.method == Method::Head, keep, out);
        if response.close || !keep {
            return Progress::Close(End::Answered);
        }
        self.served = true;
        self.parser.reuse(head);
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
            State::Body(head, decoder, body) => self.advance_body(now, head, decoder, body, out),
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
        let (head, used) = match self.parser.parse(self.input.pending()) {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.secret = true;
                return Progress::Wait;
            }
            Err(refusal) => {
                self.secret = true;
                self.input.erase();
                return refuse(now, refusal, out);
            }
        };
        if head.field("api-key").is_some() {
            self.secret = true;
            self.input.erase_front(used);
        }
        self.input.consume(used);
        self.state = State::Routing(head);
        Progress::Do(Effect::Route)
    }

    fn advance_body(
        &mut self,
        now: Now,
        head: Head,
        mut decoder: BodyDecoder,
        mut body: Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Progress {
        match decoder.decode(self.input.pending(), &mut body) {
            Ok((used, done)) => {
                self.input.consume(used);
                if done {
                    self.deadline = None;
                    self.state = State::Answering(head, Body::Gathered(body));
                    return Progress::Do(Effect::Call);
                }
                self.state = State::Body(head, decoder, body);
                Progress::Wait
            }
            Err(refusal) => refuse(now, refusal, out),
        }
    }

    /// Bytes that are not parsed yet.
    fn pending(&self) -> &[u8] {
        self.input.pending()
    }
}

impl Drop for Exchange {
    /// Input that was not parsed may contain a key.
    fn drop(&mut self) {
        if !self.pending().is_empty() {
            self.input.erase();
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
