"""Losses of power: the files of the log as they were at each sync, opened again by another hub."""
import os, random, shutil, subprocess, tempfile, time

import mark
from fleet import Fleet
from gateway import Gateway
from hub import Hub, wait_until
from publishers import Publishers
from record import Record, split

# Nothing is trimmed, so that every copy can be read from the begin.
SETTINGS = {"event_log.reserve_bytes": "0", "event_log.gateway_bytes": "4GiB", "event_log.total_bytes": "8GiB"}
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sync_copies.c")


def build(place):
    """Compiles the library that is preloaded into a hub."""
    library = os.path.join(place, "sync_copies.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def run(binary, sync, seconds, samples, seed=None):
    """Publishes for so long, with two failed syncs, and opens a sample of the copies. Returns the violations."""
    seed = seed if seed is not None else random.randrange(1 << 30)
    with tempfile.TemporaryDirectory() as place:
        data, copies, fail = (os.path.join(place, name) for name in ("data", "copies", "fail"))
        os.makedirs(os.path.join(copies, "synced"))
        environment = {"LD_PRELOAD": build(place), "SYNC_DATA": data, "SYNC_COPIES": copies, "SYNC_COPIES_MAX": "800",
                       "SYNC_FAIL": fail}
        names = create(binary, data)
        shutil.copytree(data, os.path.join(place, "store"))
        record = Record()
        hub = Hub(binary, data, {**SETTINGS, "event_log.sync": sync}, environment).start()
        clients = [Gateway(record, *names[index % len(names)]) for index in range(4)]
        fleet = Fleet(hub, clients, seed, cut=False).start()
        wait_until("the gateways are connected", lambda: all(client.stage == "live" for client in clients))
        # The first start with an empty log raises the store's generation. Nothing else writes to the store.
        for name in (name for name in os.listdir(data) if name.startswith("gatecast.db")):
            shutil.copy(os.path.join(data, name), os.path.join(place, "store", name))
        publishers = Publishers(hub, record, [gateway for gateway, _ in names], large=60_000).start()
        failed = []
        for _ in range(2):
            time.sleep(seconds / 3)
            before = len(record.unknown) + len(record.refused)
            open(fail, "w").close()
            # In mode `process` only a checkpoint is synced.
            try:
                wait_until("a sync fails", lambda: "failing" in hub.ready()[2], 10)
                failed.append(hub.ready()[2])
            except TimeoutError:
                record.violate("a failed sync was not told by /ready")
            os.remove(fail)
            wait_until("the log heals", lambda: hub.ready()[1] == "ready")
            failed.append(len(record.unknown) + len(record.refused) - before)
        time.sleep(seconds / 3)
        publishers.stop()
        fleet.settle(record)
        # Before it ends in order: that is a sync, too.
        fleet.stop()
        hub.stop()
        wrong = record.judge(clients)
        taken = sorted(name for name in os.listdir(copies) if name != "synced")
        chosen = set(random.Random(seed).sample(taken, min(samples, len(taken)))) | {taken[-1]}
        resumed = sum(check(binary, place, os.path.join(copies, name), record, names, sync, wrong) for name in sorted(chosen))
    print(f"power, sync={sync} (seed {seed}): {record.summary()}; two failed syncs ({failed}); {len(taken)} copies, {len(chosen)} "
          f"opened, {resumed} of {len(chosen) * len(names)} resumes were answered true", flush=True)
    if sync == "power" and not record.unknown:
        wrong.append("no event was answered `unknown`")
    return wrong


def create(binary, data):
    """A data directory with gateways and without a log. Returns their ids and keys."""
    hub = Hub(binary, data).start()
    names = [(hub.register(f"g{index}"), f"g{index}") for index in range(2)]
    hub.stop()
    for name in os.listdir(data):
        if name.startswith("log."):
            os.remove(os.path.join(data, name))
    return names


def check(binary, place, copy, record, names, sync, wrong):
    """Opens one copy after a restart of the machine. Returns how many gateways were told that they resume."""
    data = os.path.join(place, "again")
    shutil.rmtree(data, ignore_errors=True)
    shutil.copytree(os.path.join(place, "store"), data)
    with open(os.path.join(copy, "taken")) as file:
        began, what = file.readline().split()
        inodes = {name: int(inode) for name, inode, _ in (line.split() for line in file)}
    # A log that was closed in order is as good as one that is always synced.
    stored = mark.read(os.path.join(copy, "log.mark"))
    safe = sync == "power" or stored is not None and mark.clean(stored)
    label = f"{os.path.basename(copy)} ({what}, {sync})"
    for name in inodes:
        shutil.copy(os.path.join(copy, name), os.path.join(data, name))
    if stored and "log.db" in inodes:
        same = mark.inode(stored) == inodes["log.db"]
        now = os.stat(os.path.join(data, "log.db")).st_ino
        mark.rewrite(os.path.join(data, "log.mark"), stored, now if same else now + 1, os.urandom(16))
    hub = Hub(binary, data, {**SETTINGS, "event_log.sync": sync})
    try:
        hub.start()
    except Exception as refused:
        wrong.append(f"{label}: the hub does not start: {refused}")
        return 0
    epochs, resumed = hub.metric("gatecast_event_log_new_epochs_total"), 0
    try:
        for gateway, key in names:
            resumed += check_gateway(hub, gateway, key, record, float(began), label, safe, epochs, wrong)
    except TimeoutError as late:
        wrong.append(f"{label}: {late}")
    finally:
        hub.kill()
    return resumed


def check_gateway(hub, gateway, key, record, began, label, safe, epochs, wrong):
    told = {split(position): record.names[of, position] for (of, position), at in record.told.items()
            if of == gateway and at < began}
    ever = {split(position): name for (of, position), name in record.names.items() if of == gateway}
    epoch = next(iter(ever))[0]
    again = Record()
    # Names that the first run did not give.
    again.next_name, again.texts = record.next_name + 1_000_000, record.texts
    client = Gateway(again, gateway, key)
    client.saved = client.start = f"{epoch}-0"
    client.not_resumed_is_wrong = False
    fleet = Fleet(hub, [client], cut=False).start()
    try:
        wait_until("it is connected", lambda: client.stage == "live")
        name = again.new_name()
        text = f'{{"name":{name},"pad":""}}'
        again.note_text(name, text)
        status, answer = hub.call("POST", f"/api/v1/gateways/{gateway}/events", f'{{"type":"t","payload":{text}}}')
        if status != 200:
            wrong.append(f"{label}: a publish was answered {status} {answer}")
            return 0
        last = split(answer["position"])
        wait_until("it reads everything", lambda: client.read_so_far and client.read_so_far[-1] >= last or client.closed)
    finally:
        fleet.stop()
    wrong += [f"{label}: {what}" for what in again.wrong]
    found = {place: again.seen[gateway][place] for place in client.read_so_far}
    if last in told:
        wrong.append(f"{label}: {last} of {gateway} names a new event, and was told as event {told[last]}")
    found.pop(last, None)
    differ = [place for place, name in found.items() if ever.get(place, name) != name]
    if differ:
        wrong.append(f"{label}: {differ[:3]} of {gateway} are other events than before")
    if client.ack.get("resumed") is not True:
        # Without a single event that was told, the log may not have existed on the disk.
        if safe and told:
            wrong.append(f"{label}: {gateway} was not resumed although every commit was synced ({epochs:.0f} new epochs)")
        return 0
    if missing := sorted(set(told) - set(found)):
        wrong.append(f"{label}: {gateway} was told that it resumes and lacks {len(missing)} events such as {missing[:3]}")
    return 1
