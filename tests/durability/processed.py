"""kill -9 of the hub and of gateways with the delivery `processed` at random moments, under publishers: every event that was answered
2xx is handled, in order, and repeated only as far as the hub promises."""
import atexit, collections, os, random, subprocess, sys, tempfile, time, zlib

from hub import Hub, wait_until
from publishers import Publishers
from record import Record, split

WINDOW = 4
# What was processed in this time before a crash of the hub may be handled again: a second, and what a busy machine adds.
PROGRESS_SECONDS = 1.0 + 0.5
SETTLE_SECONDS = 60
WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")


class Worker:
    """A gateway whose process is killed and started again; its file remains."""

    def __init__(self, gateway, name, hub, place, record):
        self.gateway, self.name, self.hub, self.record = gateway, name, hub, record
        self.path, self.log = os.path.join(place, name), os.path.join(place, f"{name}.log")
        self.process, self.kills, self.repeated = None, 0, 0
        atexit.register(self.end)

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, WORKER, os.path.join(self.hub.data, "address"), self.name, self.path, str(self.kills)], stderr=log)

    def kill(self):
        self.end()
        self.kills += 1

    def end(self):
        if self.process:
            if self.process.poll() is not None:
                with open(self.log) as log:
                    self.record.violate(f"the process of {self.name} ended by itself: {log.read()[-500:]}")
            self.process.kill()
            self.process.wait()
            self.process = None

    def lines(self):
        """What its file has, split into words."""
        if not os.path.exists(self.path):
            return []
        with open(self.path) as file:
            return [line.split() for line in file.read().splitlines()]

    def handled_up_to(self):
        """The offset of the last event that it has handled."""
        return next((split(words[2])[1] for words in reversed(self.lines()) if words[0] == "handled"), 0)

    def note_deliveries(self):
        """Tells the record what it has handled."""
        for _, _, position, name, checksum in (words for words in self.lines() if words[0] == "handled"):
            text = self.record.texts.get(int(name), "")
            self.record.note_delivery(self.gateway, position, int(name), text if zlib.crc32(text.encode()) == int(checksum) else "?")

    def judge(self, last, hub_kills):
        """Compares what it has handled with all offsets from 1 to `last`, and each repetition with its bound."""
        wrong, times, epochs = [], {}, set()
        # The highest event; the last one, and whether it is of this connection; when this connection began, and the last with events.
        top, last_handled, same, connected, began = 0, 0, False, 0.0, 0.0
        for words in self.lines():
            when = float(words[1])
            if words[0] == "connected":
                same, connected = False, when
                continue
            epoch, offset = split(words[2])
            epochs.add(epoch)
            repeated = last_handled + 1 - offset
            if offset > (last_handled if same else top) + 1:
                wrong.append(f"{self.name} handled event {offset} and skipped those behind {last_handled if same else top}")
            elif same and repeated > 0:
                wrong.append(f"{self.name} handled event {offset} behind {last_handled} of the same connection")
            elif repeated > 0:
                self.repeated += repeated
                bound = WINDOW + self.lost_progress(times, began, hub_kills)
                if repeated > bound:
                    wrong.append(f"{self.name} was at event {last_handled} and handled {offset} again: "
                                 f"{repeated} repeated, at most {bound} may be")
            if not same:
                same, began = True, connected
            last_handled, top = offset, max(top, offset)
            times[offset] = when
        if len(epochs) > 1:
            wrong.append(f"{self.name} got events of {len(epochs)} epochs")
        missing = sorted(set(range(1, last + 1)) - set(times))
        if missing:
            wrong.append(f"{self.name} did not handle {missing[:5]}, {len(missing)} of {last} events")
        return wrong

    @staticmethod
    def lost_progress(times, began, hub_kills):
        """How many events were handled so shortly before a kill of the hub that their progress may not have been kept. `began` is
        the begin of the last connection that brought an event."""
        kills = [kill for kill in hub_kills if kill > began]
        return sum(when > min(kills) - PROGRESS_SECONDS for when in times.values()) if kills else 0


def run(binary, kills, gateways, seconds, seed):
    """Kills the hub `kills` times, and each time about half of the gateways; the hub runs for up to `seconds` between two kills.
    Returns the violations."""
    rng, record = random.Random(seed), Record()
    with tempfile.TemporaryDirectory() as place:
        hub = Hub(binary, os.path.join(place, "data"), {"delivery.window": str(WINDOW), "event_log.reserve_bytes": "0"}).start()
        workers = [Worker(hub.register(f"g{index}", delivery="processed"), f"g{index}", hub, place, record) for index in range(gateways)]
        for worker in workers:
            worker.start()
        wait_until("every gateway is connected once", lambda: all(worker.lines() for worker in workers))
        began, hub_kills = time.monotonic(), []
        publishers = Publishers(hub, record, [worker.gateway for worker in workers], count=4, pause=0.2).start()
        for _ in range(kills):
            time.sleep(0.3 + rng.random() * seconds)
            # Before the hub, while it is away, and after it.
            moments = [[], [], []]
            for worker in workers:
                if rng.random() < 0.5:
                    rng.choice(moments).append(worker)
            restart(moments[0])
            time.sleep(rng.random() * 0.3)
            hub_kills.append(time.monotonic())
            hub.kill()
            restart(moments[1])
            time.sleep(rng.random() * 0.3)
            hub.start()
            time.sleep(rng.random() * 0.3)
            restart(moments[2])
        time.sleep(seconds / 2)
        publishers.stop()
        settle(workers, record)
        epochs, poisoned = (hub.metric(name) for name in ("gatecast_event_log_new_epochs_total", "gatecast_events_poisoned_total"))
        # A gateway that has handled everything gets no event when it connects again.
        handled = [worker.handled_up_to() for worker in workers]
        counts = [len(worker.lines()) for worker in workers]
        restart(workers)
        wait_until("every gateway is connected again", lambda: all(len(it.lines()) > count for it, count in zip(workers, counts)))
        time.sleep(0.5)
        for worker, offset, count in zip(workers, handled, counts):
            again = len(worker.lines()) - count - 1
            if again > 0:
                record.violate(f"{worker.name} had handled everything up to {offset}, and got {again} events when it came again")
            worker.end()
        hub.kill()
        wrong = judge(workers, record, hub_kills)
        if epochs or poisoned:
            wrong.append(f"{epochs:.0f} new epochs and {poisoned:.0f} poisoned events after kills only")
        if "panic" in hub.log():
            wrong.append("the hub's log has a panic")
    repeated = sum(worker.repeated for worker in workers)
    print(f"processed (seed {seed}): {kills} kills of the hub and {sum(worker.kills for worker in workers)} of {gateways} gateways in "
          f"{time.monotonic() - began:.0f} s; {record.summary()}; {repeated} repeated", flush=True)
    if not record.answered or not repeated:
        wrong.append("the run was too short to show anything")
    return wrong


def restart(workers):
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.start()


def last_offsets(record):
    """The last offset that is known of each gateway."""
    last = collections.defaultdict(int)
    with record.lock:
        for gateway, position in record.names:
            last[gateway] = max(last[gateway], split(position)[1])
    return last


def settle(workers, record):
    """Waits until each gateway has handled the last event that was answered."""
    last, end = last_offsets(record), time.monotonic() + SETTLE_SECONDS
    behind = workers
    while behind and time.monotonic() < end:
        time.sleep(0.2)
        behind = [worker for worker in behind if worker.handled_up_to() < last[worker.gateway]]
    if behind:
        record.violate(f"{len(behind)} of {len(workers)} gateways did not catch up within {SETTLE_SECONDS} s, such as "
                       f"{[(it.name, it.handled_up_to(), last[it.gateway]) for it in behind[:3]]}")
    # Time for the last pong, and for events that were kept although the publisher got no answer.
    time.sleep(1.0)


def judge(workers, record, hub_kills):
    for worker in workers:
        worker.note_deliveries()
    last = last_offsets(record)
    return record.judge([]) + [what for worker in workers for what in worker.judge(last[worker.gateway], hub_kills)]
