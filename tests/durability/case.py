"""One kind of trouble with a running hub: what holds before, during and after it; and a disk to make trouble with."""
import os, subprocess, time

from fleet import Fleet
from gateway import Gateway
from hub import Hub, wait_until
from record import Record, split


class Case:
    """A hub with two gateways, one of which has a connection that goes on through the trouble."""

    def __init__(self, label, binary, library, place, **settings):
        self.label, self.place, self.wrong = label, place, []
        self.data = os.path.join(place, "data")
        flags = {"event_log.reserve_bytes": "0", "publish.timeout": "1s", "heartbeat.interval": "500ms", "heartbeat.timeout": "5s",
                 **settings}
        self.switches = {name: os.path.join(place, name) for name in ("SYNC_BLOCK", "SYNC_FAIL", "SYNC_READONLY")}
        self.hub = Hub(binary, self.data, flags, {"LD_PRELOAD": library, "SYNC_DATA": self.data, **self.switches}).start()
        self.log_db = os.path.join(self.data, "log.db")
        self.names = [(self.hub.register(name), name) for name in ("a", "b")]
        self.record = Record()
        self.client = Gateway(self.record, *self.names[0])
        self.fleet = Fleet(self.hub, [self.client], cut=False).start()
        wait_until("a gateway is connected", lambda: self.client.stage == "live")
        self.before = [self.publish() for _ in range(3)]
        if set(self.before) != {None}:
            self.wrong.append(f"before the trouble, publishes were answered {self.before}")

    def check(self, right, what):
        if not right:
            self.wrong.append(what)

    def switch(self, name, on):
        if on:
            open(self.switches[name], "w").close()
        else:
            os.remove(self.switches[name])

    def publish(self, index=0):
        """Publishes one event; None if it was answered 2xx, and otherwise what is said of it."""
        gateway, name = self.names[index][0], self.record.new_name()
        text = f'{{"name":{name},"pad":""}}'
        self.record.note_text(name, text)
        began = time.monotonic()
        status, answer = self.hub.call("POST", f"/api/v1/gateways/{gateway}/events", f'{{"type":"t","payload":{text}}}')
        return self.note(gateway, name, began, status, answer)

    def note(self, gateway, name, began, status, answer):
        if "position" in answer:
            self.record.note_answer(gateway, answer["position"], name, began, time.monotonic())
            return None
        kept = answer.get("kept")
        self.check(status == 503 and kept in ("no", "unknown"), f"an event was answered {status} {answer}")
        (self.record.unknown if kept == "unknown" else self.record.refused).add(name)
        return kept

    def batch(self):
        """Publishes a batch with a line for no gateway; what is said of each other line."""
        names, lines = [], []
        for index in (0, 1, 0):
            name = self.record.new_name()
            text = f'{{"name":{name},"pad":""}}'
            self.record.note_text(name, text)
            names.append((self.names[index][0], name))
            lines.append(f'{{"gatewayId":"{self.names[index][0]}","type":"t","payload":{text}}}')
        lines.insert(1, '{"gatewayId":"00000000-0000-4000-8000-000000000000","type":"t","payload":1}')
        began = time.monotonic()
        status, rows = self.hub.call("POST", "/api/v1/events", "\n".join(lines))
        self.check(status == 200 and len(rows) == 4, f"a batch was answered {status} {rows}")
        self.check(rows[1].get("status") == 404 and "kept" not in rows[1], f"the line for no gateway: {rows[1]}")
        del rows[1]
        return [self.note(gateway, name, began, row.get("status"), row) for (gateway, name), row in zip(names, rows)]

    def expect(self, kept, reason, resume, ack_position=True, token=201):
        """What holds during the trouble: what is said of events, why the hub is degraded, and what a resume is answered."""
        answers = [self.publish()] + self.batch() + [self.publish(1)]
        self.check(None not in answers and set(answers) <= kept, f"events were answered {answers}, expected {sorted(kept)}")
        try:
            wait_until("/ready tells it", lambda: self.hub.ready()[1] == "degraded", 3)
        except TimeoutError as late:
            self.wrong.append(str(late))
        ready = self.hub.ready()
        self.check(ready[0] == 200 and ready[1] == "degraded" and reason in ready[2], f"/ready is {ready}, expected {reason!r}")
        self.check(self.hub.metric("gatecast_event_log_healthy") == 0, "gatecast_event_log_healthy is not 0")
        pings = self.client.pings
        # Without a resume, whoever connects is admitted; with one, as the log can be read.
        fresh, again = Gateway(Record(), *self.names[1]), Gateway(Record(), *self.names[0])
        stranger = Gateway(Record(), "", "no such key")
        again.saved = again.start = f"{split(self.client.start)[0]}-0"
        again.not_resumed_is_wrong = False
        again.record.texts = self.record.texts
        others, began = Fleet(self.hub, [fresh, again, stranger], cut=False).start(), time.monotonic()
        wait_until("a gateway is admitted", lambda: fresh.stage == "live", 8)
        took = time.monotonic() - began
        self.check(took < (1 if ack_position else 2), f"the ack came after {took:.1f} s")
        self.check(("position" in fresh.ack) == ack_position, f"the ack without a resume was {fresh.ack}")
        wait_until("a wrong key is refused", lambda: stranger.refusals)
        self.check("401" in (stranger.answer or stranger.closed or "401"), f"a wrong key was answered {stranger.answer}")
        wait_until("the resume is answered", lambda: again.refusals or again.ack, 8)
        answer = "503" if again.ack is None else {True: "resumed", False: "not"}[again.ack.get("resumed")]
        self.check(answer == resume, f"a resume was answered {answer}, expected {resume}: {again.answer[:100]}")
        wait_until("pings go on", lambda: self.client.pings >= pings + 3, 5)
        self.check(self.client.stage == "live" and not self.fleet.lost, f"the connected gateway was lost: {self.fleet.lost}")
        status, _ = self.hub.call("POST", f"/api/v1/gateways/{self.names[1][0]}/tokens", {})
        self.check(status == token, f"a token was answered {status}")
        others.stop()
        self.wrong += again.record.wrong + fresh.record.wrong

    def heals(self, same_epoch=True):
        """What holds once the trouble has gone."""
        took = wait_until("/ready is ready", lambda: self.hub.ready() == (200, "ready", ""), 10)
        epoch = split(self.client.start)[0]
        after = [self.publish(), *self.batch(), self.publish()]
        self.check(set(after) == {None}, f"after the trouble, events were answered {after}")
        if not same_epoch:
            # The connected gateway goes on where it was, with positions of another epoch.
            self.check(self.client.read_so_far[-1:] != [], "nothing was read")
            return self.end(took)
        self.fleet.settle(self.record, 15)
        self.check(not self.fleet.lost, f"the connected gateway was lost: {self.fleet.lost}")
        self.check(split(self.client.saved)[0] == epoch, "the epoch has changed")
        self.wrong += self.record.judge([self.client], dense=False)
        # And over a kill.
        self.hub.kill()
        self.hub.start()
        self.check(self.publish() is None, "after a kill, an event was refused")
        self.fleet.settle(self.record, 15)
        self.check(self.hub.metric("gatecast_event_log_new_epochs_total") == 0, "the kill gave a new epoch")
        self.wrong += self.record.judge([self.client], dense=False)
        self.end(took)

    def end(self, took):
        self.fleet.stop()
        log = self.hub.log()
        self.check("panic" not in log, f"the hub's log has a panic: {log[-500:]}")
        self.hub.kill()
        print(f"  {self.label}: {len(self.record.answered)} events kept, {len(self.record.refused)} not, {len(self.record.unknown)} unknown; "
              f"healed after {took:.1f} s{' WRONG' if self.wrong else ''}", flush=True)


class Tmpfs:
    """A file system in memory over a directory."""

    def __init__(self, place, size):
        self.place = place
        os.makedirs(place, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True)
        self.mounted = done.returncode == 0

    def __enter__(self):
        return self.mounted

    def __exit__(self, *_):
        if self.mounted:
            subprocess.run(["umount", "-l", self.place], check=False)


def fill(path, leave):
    """Writes a file until the disk has only so many bytes left."""
    with open(path, "wb") as file:
        size = 1 << 20
        while size:
            found = os.statvfs(os.path.dirname(path))
            if found.f_bavail * found.f_frsize <= leave + size:
                size //= 2
                continue
            try:
                file.write(b"x" * size)
                file.flush()
            except OSError:
                size //= 2
