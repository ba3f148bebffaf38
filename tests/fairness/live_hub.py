"""Starts a hub and connects gateways, for the scripts beside this one."""
import hashlib, http.client, json, os, re, select, signal, socket, subprocess, tempfile, time

CONNECT = "/api/internal/v1/ws/gateways/connect"


class Hub:
    def __init__(self, binary, **settings):
        self.data = tempfile.TemporaryDirectory()
        flags = {"listen": "127.0.0.1:0", "cores": "2", "tls": "off", "limits.max_connections": "4000",
                 "limits.rate_per_minute": "0", "drain.window": "0s", **settings}
        command = [binary, "serve"] + [f"--set={'tls.mode' if key == 'tls' else key}={value}" for key, value in flags.items()]
        self.process = subprocess.Popen(command, env={**os.environ, "GATECAST_DATA": self.data.name},
                                        stdout=subprocess.PIPE, stderr=open("/dev/null", "wb"), text=True)
        line = self.process.stdout.readline()
        self.port = int(re.search(r":(\d+)", line.split("//")[1]).group(1))
        self.token = open(os.path.join(self.data.name, "admin-token")).read().strip()

    def call(self, method, path, body=None, connection=None):
        http_connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        http_connection.request(method, path, body, {"Authorization": "Bearer " + self.token})
        answer = http_connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:200]!r}")
        return text

    def register(self, name):
        gateway = json.loads(self.call("POST", "/api/v1/gateways", json.dumps({"name": name})))["id"]
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.call("POST", f"/api/v1/gateways/{gateway}/tokens", json.dumps({"sha256": digest}))
        return gateway, name

    def lateness(self):
        found = re.search(r"^gatecast_deadline_lateness_seconds_max ([\d.e-]+)$", self.call("GET", "/metrics").decode(), re.M)
        return float(found.group(1)) if found else None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.data.cleanup()


def upgrade(port, key, receive_buffer=None, address=None, pause=0):
    """Connects as a gateway, from `address` and with a `pause` before the request head if given; returns the socket and the
    bytes received after the 101, which include the ack."""
    peer = socket.socket()
    if receive_buffer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(20)
    if address:
        peer.bind((address, 0))
    peer.connect(("127.0.0.1", port))
    time.sleep(pause)
    peer.sendall((f"GET {CONNECT} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\napi-key: {key}\r\n\r\n").encode())
    answer = b""
    while b"connection.ack" not in answer:
        more = peer.recv(65536)
        if not more:
            raise SystemExit(f"the hub closed before the ack: {answer[:200]!r}")
        answer += more
    return peer, answer[answer.index(b"\r\n\r\n") + 4:]


class Gateway:
    """One connection that reads everything and answers every ping, unless it is `silent`."""

    silent, pings = False, 0

    def __init__(self, port, key, **how):
        self.socket, self.buffer = upgrade(port, key, **how)
        self.socket.setblocking(False)
        self.pinged, self.gap, self.texts, self.closed = time.monotonic(), 0.0, [], False

    def read(self, most=1 << 20):
        """Reads once, at most `most` bytes, and returns the number of bytes read."""
        try:
            more = self.socket.recv(most)
        except BlockingIOError:
            return 0
        except OSError:
            more = b""
        if not more:
            self.closed = True
            return 0
        self.buffer += more
        at, buffer = 0, self.buffer
        while len(buffer) - at >= 2:
            length, header = buffer[at + 1], 2
            if length == 126:
                if len(buffer) - at < 4:
                    break
                length, header = int.from_bytes(buffer[at + 2:at + 4], "big"), 4
            if len(buffer) - at < header + length:
                break
            first, payload = buffer[at] & 0x0F, buffer[at + header:at + header + length]
            at += header + length
            if first == 9:
                now = time.monotonic()
                self.gap, self.pinged, self.pings = max(self.gap, now - self.pinged), now, self.pings + 1
                if not self.silent:
                    self.socket.send(b"\x8a\x80\0\0\0\0")
            elif first == 8:
                self.closed = True
            elif first == 1:
                self.texts.append((time.monotonic(), payload))
        self.buffer = buffer[at:]
        return len(more)


def attend(gateways, until):
    """Reads for all gateways until `until()` is true."""
    poll = select.epoll()
    by_fd = {gateway.socket.fileno(): gateway for gateway in gateways}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    while not until():
        for fd, _ in poll.poll(0.05):
            by_fd[fd].read()
            if by_fd[fd].closed:
                poll.unregister(fd)
