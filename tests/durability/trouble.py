"""Trouble with the log's files under a running hub: what publishers and gateways are answered, and that it heals without a restart."""
import os, sqlite3, subprocess, tempfile, threading, time

from fleet import Fleet
from gateway import Gateway
from hub import Hub, Refused, wait_until
from power import build
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


def full(binary, library, place):
    with Tmpfs(place, "96m") as mounted:
        if not mounted:
            return print("  full disk: skipped, no right to mount one")
        case = Case("disk full up to the reserve", binary, library, place, **{"event_log.reserve_bytes": "16MiB"})
        fill(os.path.join(place, "filler"), 4 << 20)
        time.sleep(0.4)
        case.expect({"no"}, "full", "resumed")
        os.remove(os.path.join(place, "filler"))
        case.heals()
        return case.wrong


def full_to_the_end(binary, library, place):
    with Tmpfs(place, "64m") as mounted:
        if not mounted:
            return None
        case = Case("disk full to the last byte", binary, library, place)
        fill(os.path.join(place, "filler"), 0)
        # The write-ahead log has room that was used before, so the first events may fit.
        for _ in range(200):
            if case.publish() is not None:
                break
        fill(os.path.join(place, "filler2"), 0)
        case.expect({"no", "unknown"}, "", "resumed", token=503)
        os.remove(os.path.join(place, "filler"))
        os.remove(os.path.join(place, "filler2"))
        case.heals()
        return case.wrong


def read_only(binary, library, place):
    case = Case("read-only", binary, library, place)
    case.switch("SYNC_READONLY", True)
    case.expect({"no", "unknown"}, "", "resumed")
    case.switch("SYNC_READONLY", False)
    case.heals()
    return case.wrong


def failed_sync(binary, library, place):
    case = Case("syncs fail", binary, library, place)
    case.switch("SYNC_FAIL", True)
    case.expect({"no", "unknown"}, "failing", "resumed")
    case.switch("SYNC_FAIL", False)
    case.heals()
    return case.wrong


def locked(binary, library, place):
    case = Case("locked by another process", binary, library, place)
    script = ("import sqlite3, sys\nfile = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
              "file.execute('BEGIN EXCLUSIVE')\nprint('locked', flush=True)\nsys.stdin.read()\n")
    other = subprocess.Popen(["python3", "-c", script, case.log_db], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    other.stdout.readline()
    case.expect({"no"}, "locked", "resumed")
    other.stdin.close()
    other.wait()
    case.heals()
    return case.wrong


def stuck(binary, library, place):
    case = Case("stuck", binary, library, place)
    case.switch("SYNC_BLOCK", True)
    began, first = time.monotonic(), []
    waiting = [threading.Thread(target=lambda: first.append(case.publish())), threading.Thread(target=lambda: first.extend(case.batch()))]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    case.check(set(first) == {"unknown"}, f"the first events were answered {first}, expected `unknown`")
    case.check(0.9 < time.monotonic() - began < 2, f"they were answered after {time.monotonic() - began:.1f} s")
    # Of a gateway that nobody follows yet, the log does not say where it ends.
    other = (case.hub.register("c"), "c")
    fresh, again = Gateway(Record(), *other), Gateway(Record(), *other)
    again.saved, again.not_resumed_is_wrong = f"{split(case.client.start)[0]}-0", False
    fleet, began = Fleet(case.hub, [fresh, again], cut=False).start(), time.monotonic()
    case.expect({"no"}, "the event log does not answer in time", "resumed", ack_position=False)
    case.check("position" not in fresh.ack, f"the ack was {fresh.ack}")
    case.check(case.hub.metric("gatecast_event_log_queue_age_seconds") > 1, "the metric does not tell the age of the queue")
    wait_until("a resume is refused", lambda: again.refusals or again.ack, 8)
    case.check(again.ack is None and "503" in again.answer + str(fleet.lost), f"a resume was answered {again.ack} {again.answer}")
    case.switch("SYNC_BLOCK", False)
    wait_until("what was unknown is delivered", lambda: len(case.client.read_so_far) >= 6, 5)
    name = case.record.new_name()
    text = f'{{"name":{name},"pad":""}}'
    fresh.record.note_text(name, text)
    wait_until("it heals", lambda: case.hub.ready()[1] == "ready", 5)
    publish = lambda: case.hub.call("POST", f"/api/v1/gateways/{other[0]}/events", f'{{"type":"t","payload":{text}}}')
    status, answer = publish()
    while answer.get("kept") == "no" and time.monotonic() < began + 30:
        # Until the log is asked again where that gateway's events end.
        status, answer = publish()
    case.check(status == 200 and answer["connections"] >= 1, f"the event was answered {status} {answer}; {fresh.ack} {fleet.lost}")
    try:
        wait_until("an ack without a position loses no event", lambda: fresh.read_so_far, 5)
    except TimeoutError as late:
        case.wrong.append(f"{late}: {answer} {fresh.stage} {fresh.ack} {fresh.record.wrong} {fleet.lost} {case.hub.log()[-1500:]}")
    fleet.stop()
    case.heals()
    return case.wrong


def removed(binary, library, place):
    case = Case("file removed", binary, library, place)
    os.remove(case.log_db)
    return exchanged(case)


def replaced(binary, library, place):
    case = Case("file replaced by a copy", binary, library, place)
    copy = case.log_db + ".other"
    with open(case.log_db, "rb") as source, open(copy, "wb") as target:
        target.write(source.read())
    os.rename(copy, case.log_db)
    return exchanged(case)


def exchanged(case):
    """A hub whose file is another one says so, and goes on with a new epoch."""
    old, first = case.client.saved, case.publish()
    case.check(first == "no", f"the first event was answered {first}")
    wait_until("the log heals", lambda: case.publish() is None, 5)
    case.check(case.hub.metric("gatecast_event_log_new_epochs_total") == 1, "there is no new epoch")
    again = Gateway(Record(), *case.names[0])
    again.saved, again.not_resumed_is_wrong, again.record.texts = old, False, case.record.texts
    fleet = Fleet(case.hub, [again], cut=False).start()
    wait_until("it is connected", lambda: again.stage == "live")
    case.check(again.ack.get("resumed") is False, f"a position of before was answered {again.ack}")
    fleet.stop()
    case.record.wrong = [what for what in case.record.wrong if "came behind" not in what]
    case.wrong += case.record.judge([], dense=False)
    case.heals(same_epoch=False)
    return case.wrong


def damaged(binary, library, place):
    """The file is cut or changed under the hub. Nothing wrong may be told, now or after a restart."""
    wrong = []
    for label, change in (("truncated", lambda path: os.truncate(path, 4096)),
                          ("overwritten", lambda path: overwrite(path))):
        inner = os.path.join(place, label)
        os.mkdir(inner)
        case = Case(f"file {label}", binary, library, inner)
        # What was kept goes into the file, and the hub reads it anew.
        case.fleet.stop()
        case.hub.stop()
        case.hub.start()
        case.fleet = Fleet(case.hub, [case.client], cut=False).start()
        wait_until("it is connected", lambda: case.client.stage == "live")
        with open(case.log_db, "rb") as file:
            whole = file.read()
        change(case.log_db)
        answers = [case.publish() for _ in range(5)] + case.batch()
        with open(case.log_db, "r+b") as file:
            file.write(whole)
        wait_until("it heals", lambda: case.publish() is None, 5)
        case.fleet.settle(case.record, 15)
        case.wrong += case.record.judge([case.client], dense=False)
        case.label += f" ({''.join({None: '+', 'no': '-', 'unknown': '?'}[answer] for answer in answers)})"
        case.end(0)
        wrong += [f"{label}: {what}" for what in case.wrong]
    return wrong


def overwrite(path):
    with open(path, "r+b") as file:
        size = os.path.getsize(path)
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def refused_starts(binary, library, place):
    """A start with a file that is no log, or of a later version: exit code 1 and a message that says what to do."""
    hub, wrong = Hub(binary, os.path.join(place, "data"), {"event_log.reserve_bytes": "0"}).start(), []
    hub.register("g")
    hub.stop()
    path = os.path.join(hub.data, "log.db")
    with open(path, "rb") as file:
        whole = file.read()

    def sql(text):
        file = sqlite3.connect(path)
        file.execute(text)
        file.commit()
        file.close()

    cases = [("a later version", lambda: sql("PRAGMA user_version=99"), ["newer Gatecast", "99"]),
             ("another program's file", lambda: sql("PRAGMA application_id=7"), ["not an event log"]),
             ("not a database", lambda: open(path, "wb").write(os.urandom(9000)), ["not a database"]),
             ("an empty file", lambda: open(path, "wb").close(), ["not an event log"])]
    for label, change, texts in cases:
        with open(path, "wb") as file:
            file.write(whole)
        change()
        with open(path, "rb") as file:
            before = file.read()
        try:
            hub.start()
            wrong.append(f"{label}: the hub started")
            hub.kill()
        except Refused as refused:
            texts = [*texts, "exit code 1", "log.db"]
            wrong += [f"{label}: {refused} does not say {text!r}" for text in texts if text not in str(refused)]
        with open(path, "rb") as file:
            if file.read() != before:
                wrong.append(f"{label}: the file was changed")
        os.remove(hub.log_path)
    with open(path, "wb") as file:
        file.write(whole)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    # A lock passes, and gateways connect meanwhile.
    hub.start()
    gateway = hub.call("GET", "/api/v1/gateways")[1]["list"][0]["id"]
    publish = lambda: hub.call("POST", f"/api/v1/gateways/{gateway}/events", '{"type":"t","payload":1}')
    locked = publish()
    if (locked[0], locked[1].get("kept")) != (503, "no"):
        wrong.append(f"with a locked file, an event was answered {locked}")
    other.execute("ROLLBACK")
    other.close()
    wait_until("a lock passes", lambda: publish()[0] == 200, 5)
    hub.kill()
    print(f"  starts with a file that cannot be used: {len(cases)} refused{' WRONG' if wrong else ''}")
    return wrong


CASES = [full, full_to_the_end, read_only, failed_sync, locked, stuck, removed, replaced, damaged, refused_starts]


def run(binary, only=None):
    """All kinds of trouble. Returns the violations."""
    wrong, began = [], time.monotonic()
    print("trouble with a running hub:", flush=True)
    with tempfile.TemporaryDirectory() as tools:
        library = build(tools)
        for kind in CASES:
            if only and kind.__name__ not in only:
                continue
            with tempfile.TemporaryDirectory() as place:
                try:
                    wrong += [f"{kind.__name__}: {what}" for what in kind(binary, library, place) or []]
                except (TimeoutError, OSError, Refused) as failed:
                    wrong.append(f"{kind.__name__}: {failed!r}")
    print(f"  {time.monotonic() - began:.0f} s", flush=True)
    return wrong
