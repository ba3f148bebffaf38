"""Files of the log that were lost, exchanged or damaged while no hub ran: a hub that starts with them resumes right or not at all."""
import os, random, shutil, sqlite3, tempfile, time

import mark
from fleet import Fleet
from gateway import Gateway
from hub import Hub, Refused, wait_until
from record import Record, split

SETTINGS = {"event_log.reserve_bytes": "0"}


class Damage:
    """A log whose hub was killed, with copies of an earlier time, and what was told of it."""

    def __init__(self, binary, place, sync):
        self.binary, self.place, self.sync = binary, place, sync
        self.base, self.old = os.path.join(place, "base"), os.path.join(place, "old")
        self.record, self.wrong, self.lines = Record(), [], []
        hub = self.hub(self.base).start()
        self.names = [(hub.register(f"g{index}"), f"g{index}") for index in range(2)]
        # More than a checkpoint needs, so that the file has a part of it.
        self.publish(hub, 250, 20_000)
        os.mkdir(self.old)
        source, target = sqlite3.connect(os.path.join(self.base, "log.db")), sqlite3.connect(os.path.join(self.old, "backup"))
        source.backup(target)
        source.close()
        target.close()
        for name in ("log.db", "log.db-wal", "log.mark"):
            shutil.copy(os.path.join(self.base, name), os.path.join(self.old, name))
        self.publish(hub, 100, 20_000)
        # The end of a hub moves all into the file. After that, the write-ahead log has the rest, and no page of before.
        hub.stop()
        hub.start()
        self.publish(hub, 40, 1_000)
        hub.kill()

    def hub(self, data):
        return Hub(self.binary, data, {**SETTINGS, "event_log.sync": self.sync})

    def publish(self, hub, count, size):
        """Publishes to all gateways in turn, one batch at a time."""
        for begin in range(0, count, 10):
            lines, names = [], []
            for index in range(begin, min(begin + 10, count)):
                gateway, name = self.names[index % len(self.names)][0], self.record.new_name()
                text = f'{{"name":{name},"pad":"{"x" * size}"}}'
                self.record.note_text(name, text)
                lines.append(f'{{"gatewayId":"{gateway}","type":"t","payload":{text}}}')
                names.append((gateway, name))
            _, rows = hub.call("POST", "/api/v1/events", "\n".join(lines))
            for (gateway, name), row in zip(names, rows):
                self.record.note_answer(gateway, row["position"], name, 0, 0)

    def told(self, gateway):
        return {split(position): name for (of, position), name in self.record.names.items() if of == gateway}

    def case(self, label, change, expected):
        """Starts a hub with a copy that was changed. `expected` has what may happen to a resume: `whole`, `not` (resumed), `refused`
        (the hub does not start) and `in part` (the connection ends or gets 503 instead of an event)."""
        data = os.path.join(self.place, "data")
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(self.base, data)
        path = os.path.join(data, "log.mark")
        inode = os.stat(os.path.join(data, "log.db")).st_ino
        mark.rewrite(path, mark.read(path), inode)
        # A file that is copied over another may get its inode, which a mark that is not the copy's names by chance only.
        keep = open(os.path.join(data, "log.db"), "rb")
        change(data)
        before, outcomes = len(self.wrong), set()
        hub = self.hub(data)
        try:
            hub.start()
            for gateway, key in self.names:
                self.resume(hub, gateway, key, label, outcomes)
        except Refused as refused:
            outcomes.add("refused")
            if "exit code 1:" not in str(refused) or "log.db" not in str(refused) or "panic" in str(refused):
                self.wrong.append(f"{label}: {refused}")
        except TimeoutError as late:
            self.wrong.append(f"{label}: {late}")
        finally:
            hub.kill()
            keep.close()
        if os.path.exists(hub.log_path):
            os.remove(hub.log_path)
        if outcomes - set(expected):
            self.wrong.append(f"{label}: {sorted(outcomes)}, expected {sorted(expected)}")
        self.lines.append(f"{label}: {', '.join(sorted(outcomes))}{' WRONG' if len(self.wrong) > before else ''}")

    def resume(self, hub, gateway, key, label, outcomes):
        told = self.told(gateway)
        epoch, last = next(iter(told))[0], max(offset for _, offset in told)
        again = Record()
        again.texts, again.next_name = self.record.texts, self.record.next_name + 1_000_000
        clients = []
        for start in (0, last // 2, last - 1, last, last + 3):
            client = Gateway(again, gateway, key)
            client.saved = client.start = f"{epoch}-{start}"
            client.not_resumed_is_wrong, client.asked_first = False, start
            clients.append(client)
        fleet = Fleet(hub, clients, cut=False).start()
        try:
            wait_until("an answer to each connect", lambda: all(it.stage == "live" or it.closed or it.refusals for it in clients))
            acks = [client.ack for client in clients]
            answer = {}
            for name in (again.new_name() for _ in range(4)):
                text = f'{{"name":{name},"pad":""}}'
                again.note_text(name, text)
                _, answer = hub.call("POST", f"/api/v1/gateways/{gateway}/events", f'{{"type":"t","payload":{text}}}')
                if "position" not in answer:
                    break
                again.note_position(gateway, answer["position"], name)
                if split(answer["position"]) in told:
                    self.wrong.append(f"{label}: {answer['position']} names a second event")
            end = split(answer["position"]) if "position" in answer else None
            if end:
                try:
                    wait_until("all is read", lambda: all(it.read_so_far and it.read_so_far[-1] >= end for it in clients), 3)
                except TimeoutError:
                    pass
        finally:
            fleet.stop()
        self.wrong += [f"{label}: {what}" for what in again.wrong]
        for client, ack in zip(clients, acks):
            start = client.asked_first
            lost = [place for place in client.read_so_far if told.get(place, again.names.get((gateway, f"{place[0]}-{place[1]}")))
                    != again.seen[gateway][place]]
            if lost:
                self.wrong.append(f"{label}: {lost[:3]} are other events")
            if ack is None:
                outcomes.add("in part")
            elif ack.get("resumed") is not True:
                outcomes.add("not")
            elif client.start != f"{epoch}-{start}":
                # Resumed, closed before a damaged event, and then told that it is not resumed.
                outcomes.add("in part")
            elif start > last:
                self.wrong.append(f"{label}: resumed behind {start}, above the end {last}")
            else:
                got = [offset for place, offset in client.read_so_far if place == epoch]
                gap = got != list(range(start + 1, start + 1 + len(got)))
                if gap:
                    self.wrong.append(f"{label}: resumed behind {start} with a gap")
                whole = end and client.read_so_far[-1:] == [end]
                if whole and len([offset for offset in got if offset <= last]) < last - start:
                    self.wrong.append(f"{label}: resumed behind {start} and lacks events up to {last}")
                outcomes.add("whole" if whole else "in part")


def flip(path, at, bit=0):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1 << bit]))


def run(binary, sync, flips, seed=None):
    """All cases, and so many flipped bits of the file. Returns the violations."""
    seed = seed if seed is not None else random.randrange(1 << 30)
    rng, began = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        damage = Damage(binary, place, sync)
        join, size = os.path.join, os.path.getsize
        old = lambda name: join(damage.old, name)

        def remove(*names):
            return lambda data: [os.remove(join(data, name)) for name in names if os.path.exists(join(data, name))]

        def put(name, target="log.db", same_inode=False, without=()):
            def change(data):
                remove(*without)(data)
                if same_inode:
                    with open(old(name), "rb") as source, open(join(data, target), "r+b") as file:
                        file.truncate(0)
                        file.write(source.read())
                else:
                    shutil.copy(old(name), join(data, "copy"))
                    os.rename(join(data, "copy"), join(data, target))
            return change

        def cut(name, part):
            return lambda data: os.truncate(join(data, name), int(size(join(data, name)) * part))

        def turn(name, part):
            return lambda data: flip(join(data, name), int((size(join(data, name)) - 1) * part), rng.randrange(8))

        wal = ("log.db-wal", "log.db-shm")
        whole, new = {"whole", "not"}, {"not"}
        damage.case("nothing changed", lambda data: None, whole)
        damage.case("shared memory removed", remove("log.db-shm"), whole)
        damage.case("shared memory flipped", turn("log.db-shm", 0.01), whole)
        for same_inode in (False, True):
            how = "copied over the file" if same_inode else "in the place of the file"
            damage.case(f"backup {how}, write-ahead log removed", put("backup", "log.db", same_inode, wal), new)
            damage.case(f"older file {how}, write-ahead log removed", put("log.db", "log.db", same_inode, wal), new)
            damage.case(f"backup {how}, write-ahead log left", put("backup", "log.db", same_inode),
                        {"whole", "not", "refused", "in part"})
            damage.case(f"older file {how}, write-ahead log left", put("log.db", "log.db", same_inode),
                        {"whole", "not", "refused", "in part"})
        damage.case("write-ahead log removed", remove(*wal), new)
        damage.case("write-ahead log removed, shared memory left", remove("log.db-wal"), new)
        damage.case("older write-ahead log", put("log.db-wal", "log.db-wal"), {"not", "refused", "in part"})
        for part in (0, 0.3, 0.9):
            damage.case(f"write-ahead log truncated to {part:.0%}", cut("log.db-wal", part), new)
        for part in (0.00001, 0.001, 0.3, 0.7, 0.999):
            damage.case(f"write-ahead log flipped at {part:.3%}", turn("log.db-wal", part), new)
        damage.case("mark removed", remove("log.mark"), new)
        damage.case("mark flipped", turn("log.mark", 0.4), new)
        damage.case("mark truncated", cut("log.mark", 0.5), new)
        damage.case("file removed", remove("log.db"), new)
        damage.case("file and write-ahead log removed", remove("log.db", *wal), new)
        damage.case("all removed", remove("log.db", "log.mark", *wal), new)
        for part in (0, 0.01, 0.5, 0.99):
            damage.case(f"file truncated to {part:.0%}", cut("log.db", part), {"whole", "not", "refused", "in part"})
        for index in range(flips):
            part = rng.random() if index % 2 else rng.random() * 0.1
            damage.case(f"file flipped at {part:.4%}", turn("log.db", part), {"whole", "not", "refused", "in part"})
        remade(damage)
    print(f"damage, sync={sync} (seed {seed}): {len(damage.lines)} cases in {time.monotonic() - began:.0f} s, of a log with "
          f"{len(damage.record.names)} events")
    print("".join(f"  {line}\n" for line in damage.lines), end="", flush=True)
    return damage.wrong


def remade(damage):
    """A gateway that is deleted and made again with the same id, on a hub that runs, and over a kill."""
    data = os.path.join(damage.place, "remade")
    for killed in (False, True):
        shutil.rmtree(data, ignore_errors=True)
        hub = damage.hub(data).start()
        hub.register("g")
        _, gateways = hub.call("GET", "/api/v1/gateways")
        gateway, names, seen = gateways["list"][0]["id"], {}, []
        for life in range(4):
            record = Record()
            client = Gateway(record, gateway, f"key-{life}")
            client.not_resumed_is_wrong = False
            status, answer = hub.call("POST", f"/api/v1/gateways/{gateway}/tokens", {"sha256": sha(f"key-{life}")})
            if seen:
                client.saved = client.start = seen[-1]
            fleet = Fleet(hub, [client], cut=False).start()
            wait_until("it is connected", lambda: client.stage == "live")
            if seen and client.ack.get("resumed") is not False:
                damage.wrong.append(f"a gateway that was made again resumes behind {seen[-1]}: {client.ack}")
            for _ in range(3):
                name = record.new_name() + life * 100
                text = f'{{"name":{name},"pad":""}}'
                record.note_text(name, text)
                _, answer = hub.call("POST", f"/api/v1/gateways/{gateway}/events", f'{{"type":"t","payload":{text}}}')
                if names.setdefault(answer["position"], name) != name:
                    damage.wrong.append(f"{answer['position']} of a gateway that was made again names a second event")
                seen.append(answer["position"])
            wait_until("it has read them", lambda: len(client.read_so_far) == 3)
            fleet.stop()
            damage.wrong += record.wrong
            hub.call("DELETE", f"/api/v1/gateways/{gateway}")
            if killed:
                hub.kill()
                hub.start()
            status, answer = hub.call("POST", "/api/v1/gateways", {"name": "g", "id": gateway})
            if status != 201:
                damage.wrong.append(f"the gateway cannot be made again: {status} {answer}")
        hub.kill()
        damage.lines.append(f"gateway made again{' over kills' if killed else ''}: not")


def sha(key):
    import hashlib
    return hashlib.sha256(key.encode()).hexdigest()
