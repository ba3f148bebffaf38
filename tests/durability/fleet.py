"""Many gateways on one thread: connects them, cuts them in every stage, and connects them again."""
import collections, random, select, threading, time

# No cut, or where a connection is cut: before the request is out, before the answer, after the ack, after an event, inside a
# frame; or it stops reading for a while, until it has to catch up.
STAGES = ["none", "none", "connect", "request", "answer", "ack", "event", "event", "frame", "frame", "sleep"]


class Fleet:
    def __init__(self, hub, gateways, seed=1, cut=True):
        self.hub, self.gateways, self.cut = hub, gateways, cut
        self.rng, self.done, self.calm = random.Random(seed), threading.Event(), threading.Event()
        self.wait_until = collections.defaultdict(float)
        self.lost = {}
        self.poll, self.by_fd = select.epoll(), {}
        self.thread = threading.Thread(target=self.run, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def stop(self):
        self.done.set()
        self.thread.join(30)
        for gateway in self.gateways:
            gateway.drop()

    def run(self):
        try:
            self.attend()
        except Exception as error:
            self.gateways[0].record.violate(f"the fleet has a bug: {error!r}")
            raise

    def attend(self):
        while not self.done.is_set():
            now, calm = time.monotonic(), self.calm.is_set()
            for gateway in self.gateways:
                if gateway.stage == "away":
                    self.connect(gateway, now, calm)
                elif gateway.cut_stage and gateway.cut_stage != "sleep":
                    self.cut_late(gateway, now, calm)
            for fd, _ in self.poll.poll(0.02):
                gateway = self.by_fd.get(fd)
                # A hub that is being started has copies of closed descriptors for a moment.
                if gateway is None or gateway.sleep_until > now and not calm:
                    continue
                gateway.handle_ready()
                self.watch(gateway, fd)
            for fd, gateway in list(self.by_fd.items()):
                if gateway.socket is None or gateway.socket.fileno() != fd:
                    self.forget(fd)
                else:
                    self.watch(gateway, fd)

    def connect(self, gateway, now, calm):
        if gateway.closed:
            self.lost[gateway.closed] = self.lost.get(gateway.closed, 0) + 1
            gateway.closed = None
        if not self.hub.port or now < self.wait_until[gateway]:
            return
        # As today's gateway: at once, or nearly.
        self.wait_until[gateway] = now + (0.05 if calm else self.rng.choice([0.02, 0.05, 0.4]))
        try:
            gateway.open(self.hub.port, self.hub.tls)
        except OSError:
            return gateway.drop()
        if self.cut and not calm:
            stage = self.rng.choice(STAGES)
            if stage == "connect":
                return gateway.drop("connect")
            gateway.cut_stage, gateway.cut_at = stage, self.rng.choice([0, 1, 3, 20, 100])
            if stage == "none":
                gateway.cut_stage = None
            if stage == "sleep":
                gateway.sleep_until = now + self.rng.random() * 1.5
                gateway.cuts["sleep"] = gateway.cuts.get("sleep", 0) + 1
        self.by_fd[gateway.socket.fileno()] = gateway
        self.poll.register(gateway.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def cut_late(self, gateway, now, calm):
        """A cut that waits for too many events is made where it is."""
        if not calm and now - gateway.began > 2 + gateway.cut_at / 50:
            gateway.drop("quiet")

    def watch(self, gateway, fd):
        if gateway.socket is None or gateway.socket.fileno() != fd:
            return self.forget(fd)
        asleep = gateway.sleep_until > time.monotonic() and not self.calm.is_set()
        events = 0 if asleep else select.EPOLLIN | (select.EPOLLOUT if gateway.wants_write else 0)
        self.poll.modify(fd, events)

    def forget(self, fd):
        if self.by_fd.pop(fd, None):
            try:
                self.poll.unregister(fd)
            except (OSError, ValueError):
                pass

    def settle(self, record, seconds=60):
        """Ends all cuts, and waits until each gateway is connected and has read up to the last position that is known."""
        self.calm.set()
        last = collections.defaultdict(int)
        for gateway in self.gateways:
            gateway.cut_stage = None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with record.lock:
                for gateway, position in record.names:
                    last[gateway] = max(last[gateway], int(position.split("-")[1]))
            behind = [gateway for gateway in self.gateways if gateway.stage != "live"
                      or gateway.saved is None or int(gateway.saved.split("-")[1]) < last[gateway.gateway]]
            if not behind:
                return True
            time.sleep(0.1)
        record.violate(f"{len(behind)} of {len(self.gateways)} gateways did not catch up within {seconds} s, such as "
                       f"{[(it.gateway, it.stage, it.saved, last[it.gateway], it.closed, it.answer[:80]) for it in behind[:3]]}")
        return False
