"""One gateway that resumes: it saves a position after it has read the event, and asks for what is behind it when it reconnects.

Never blocks; `Fleet` calls it when its socket is ready.
"""
import json, re, socket, ssl, struct, time

from hub import insecure
from record import split

CONNECT = "/api/internal/v1/ws/gateways/connect"
TLS = insecure()
PAYLOAD = re.compile(rb'"payload":(\{"name":(\d+),"pad":"x*"\})')


class Gateway:
    def __init__(self, record, gateway, key):
        self.record, self.gateway, self.key = record, gateway, key
        # All that it has read, in order, with the position behind which it began.
        self.saved, self.start, self.read_so_far = None, None, []
        # How often it was cut in each stage.
        self.cuts = {}
        self.not_resumed_is_wrong, self.refusals = True, 0
        self.reset()

    def reset(self):
        self.socket, self.stage, self.buffer, self.parts, self.out = None, "away", b"", b"", b""
        self.asked, self.ack, self.pings, self.events, self.closed, self.answer = None, None, 0, 0, None, ""
        self.cut_stage, self.cut_at, self.sleep_until, self.last_ping = None, 0, 0.0, 0.0

    def open(self, port, tls):
        """Begins a connection."""
        self.reset()
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.asked = self.saved
        self.began = time.monotonic()
        try:
            self.socket.connect(("127.0.0.1", port))
        except BlockingIOError:
            pass
        resume = f"last-position: {self.asked}\r\n" if self.asked else ""
        self.out = (f"GET {CONNECT} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    f"api-key: {self.key}\r\n{resume}\r\n").encode()
        self.stage = "handshake" if tls else "request"

    def drop(self, stage=None, reset=False):
        """Ends the connection. What was not read whole is forgotten."""
        if self.socket:
            if reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()
        if stage:
            self.cuts[stage] = self.cuts.get(stage, 0) + 1
        self.socket, self.stage, self.buffer = None, "away", b""

    @property
    def wants_write(self):
        return bool(self.out) or self.stage == "handshake"

    def handle_ready(self):
        """Reads and writes what it can; ends the connection where the hub has ended it."""
        try:
            self.advance()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.closed = self.closed or "broken"
            self.drop()

    def advance(self):
        if self.stage == "handshake":
            if not isinstance(self.socket, ssl.SSLSocket):
                # Not before it is connected.
                self.socket.getpeername()
                self.socket = TLS.wrap_socket(self.socket, do_handshake_on_connect=False, server_hostname="localhost")
            self.socket.do_handshake()
            self.stage = "request"
        while self.out:
            upto = len(self.out) // 2 if self.cut_stage == "request" and self.stage == "request" else len(self.out)
            sent = self.socket.send(self.out[:upto])
            self.out = self.out[sent:]
            if self.cut_stage == "request" and self.stage == "request":
                return self.drop("request")
        if self.stage == "request":
            self.stage = "answer"
        if self.cut_stage == "answer" and self.stage == "answer":
            return self.drop("answer", reset=True)
        # In pieces, so that one with much to read keeps no other waiting.
        pieces = 0
        while pieces < 4 or isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            pieces += 1
            more = self.socket.recv(65536)
            if not more:
                self.closed = self.closed or "eof"
                return self.drop()
            self.buffer += more
            self.parse()
            if not self.socket:
                return

    def parse(self):
        if self.stage == "answer":
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self.answer = (head + b" " + rest).decode(errors="replace")
                self.closed, self.refusals = head[9:12].decode(), self.refusals + 1
                return self.drop()
            self.stage, self.buffer = "ack", rest
        at = 0
        while (frame := self.frame_at(at)) is not None:
            opcode, begin, end = frame
            # A long message comes in parts, with pings between them.
            if opcode in (0, 1) and not self.buffer[at] & 0x80:
                self.parts += self.buffer[begin:end]
            else:
                whole = self.parts + self.buffer[begin:end] if opcode == 0 else self.buffer[begin:end]
                self.parts = b"" if opcode == 0 else self.parts
                self.handle_frame(opcode or 1, whole)
            if not self.socket:
                return
            at = end
        self.buffer = self.buffer[at:]
        if self.cut_stage == "frame" and self.events >= self.cut_at and (self.buffer or self.parts):
            self.drop("frame")

    def frame_at(self, at):
        """Opcode, begin and end of the frame's payload; None if it is not there whole."""
        buffer, left = self.buffer, len(self.buffer) - at
        if left < 2:
            return None
        length, header = buffer[at + 1], 2
        if length >= 126:
            header = 4 if length == 126 else 10
            if left < header:
                return None
            length = int.from_bytes(buffer[at + 2:at + header], "big")
        if left < header + length:
            return None
        return buffer[at] & 0x0F, at + header, at + header + length

    def handle_frame(self, opcode, payload):
        if opcode == 9:
            self.pings, self.last_ping = self.pings + 1, time.monotonic()
            # As the RFC wants it: the payload of the ping, masked.
            self.out += bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload
        elif opcode == 8:
            self.closed = payload[2:].decode(errors="replace") or "closed"
            self.drop()
        elif opcode == 1 and self.stage == "ack":
            self.handle_ack(json.loads(payload))
        elif opcode == 1:
            self.handle_event(payload)

    def handle_ack(self, ack):
        self.ack, self.stage = ack, "live"
        if ack.get("type") != "connection.ack":
            self.record.violate(f"the first frame was {ack}")
        resumed, position = ack.get("resumed"), ack.get("position")
        if self.asked and resumed is not True and self.not_resumed_is_wrong:
            self.record.violate(f"{self.gateway}: asked for {self.asked}, answered {ack}")
        if self.asked and resumed is True:
            self.record.resumes += 1
            if position != self.asked:
                self.record.violate(f"{self.gateway}: resumed behind {self.asked} at {position}")
        elif self.asked or self.start is None:
            # A clean slate: what was before is given up, and this is where it goes on.
            self.start, self.saved, self.read_so_far = position, position, []
        elif position is None:
            self.start, self.saved, self.read_so_far = None, None, []
        if self.cut_stage == "ack":
            self.drop("ack")

    def handle_event(self, payload):
        event = json.loads(payload)
        found, position = PAYLOAD.search(payload), event.get("position")
        if not found or not position:
            return self.record.violate(f"{self.gateway}: not an event of this run: {payload[:120]!r}")
        previous = self.read_so_far[-1] if self.read_so_far else self.start and split(self.start)
        place = split(position)
        if previous and (place[0] != previous[0] or place[1] <= previous[1]):
            self.record.violate(f"{self.gateway}: {place} came behind {previous}")
        self.record.note_delivery(self.gateway, position, int(found.group(2)), found.group(1).decode())
        if self.events == 0 and self.asked and self.ack.get("resumed"):
            self.record.catches += 1
        self.read_so_far.append(place)
        # Only now.
        self.saved, self.events = position, self.events + 1
        if self.start is None:
            self.start = f"{place[0]}-{place[1] - 1}"
        if self.cut_stage == "event" and self.events > self.cut_at:
            self.drop("event", reset=self.cut_at % 2 == 0)

    def judge(self, known):
        """What it lacks, or got without a reason, of the places that are known of its gateway."""
        if self.start is None:
            return [f"a connection of {self.gateway} never learned where it begins"] if self.read_so_far else []
        epoch, offset = split(self.start)
        expected = sorted(place for place in known if place[0] == epoch and place[1] > offset)
        if expected == self.read_so_far:
            return []
        missing = sorted(set(expected) - set(self.read_so_far))[:5]
        return [f"a connection of {self.gateway} from {self.start} on lacks {missing} of {len(expected)}, "
                f"and read {len(self.read_so_far)}"]
