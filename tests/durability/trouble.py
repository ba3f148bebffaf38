"""Trouble with the log's files under a running hub: what publishers and gateways are answered, and that it heals without a restart."""
import os, sqlite3, subprocess, tempfile, threading, time

from case import Case, Tmpfs, fill
from fleet import Fleet
from gateway import Gateway
from hub import Hub, Refused, wait_until
from power import build
from record import Record, split


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
    return switched("read-only", "SYNC_READONLY", "", binary, library, place)


def failed_sync(binary, library, place):
    return switched("syncs fail", "SYNC_FAIL", "failing", binary, library, place)


def switched(name, switch, reason, binary, library, place):
    """Trouble that the library makes for as long as the switch is on."""
    case = Case(name, binary, library, place)
    case.switch(switch, True)
    case.expect({"no", "unknown"}, reason, "resumed")
    case.switch(switch, False)
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
    case.expect({"no"}, "the event log does not answer to appends", "resumed", ack_position=False)
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
