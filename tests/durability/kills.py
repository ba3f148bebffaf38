"""kill -9 at random moments, under publishers and gateways that resume."""
import os, random, tempfile, time

from fleet import Fleet
from gateway import Gateway
from hub import Hub, wait_until
from publishers import Publishers
from record import Record


def run(binary, sync, kills, gateways, ids, seconds, tls="off", seed=None):
    """Kills a hub so many times; `seconds` is the longest time that it lives. Returns the violations."""
    seed = seed if seed is not None else random.randrange(1 << 30)
    rng, record = random.Random(seed), Record()
    with tempfile.TemporaryDirectory() as place:
        hub = Hub(binary, os.path.join(place, "data"), {
            "event_log.sync": sync, "tls.mode": tls, "heartbeat.interval": "1s", "heartbeat.timeout": "10s",
            # The least that there is, so that gateways that sleep must catch up from the file.
            "limits.recent_bytes": "8MiB", "event_log.reserve_bytes": "0"})
        hub.start()
        names = [(hub.register(f"g{index}"), f"g{index}") for index in range(ids)]
        clients = [Gateway(record, *names[index % ids]) for index in range(gateways)]
        fleet = Fleet(hub, clients, seed, cut=False).start()
        wait_until("every gateway is connected once", lambda: all(client.start for client in clients))
        fleet.cut, began = True, time.monotonic()
        publishers = Publishers(hub, record, [gateway for gateway, _ in names]).start()
        early = 0
        for _ in range(kills):
            time.sleep(0.3 + rng.random() * seconds)
            hub.kill()
            # Now and then it is killed again while it starts.
            while rng.random() < 0.3:
                hub.start_and_kill(rng.random() * 0.3)
                early += 1
            hub.start()
        time.sleep(seconds / 2)
        publishers.stop()
        fleet.settle(record)
        epochs = hub.metric("gatecast_event_log_new_epochs_total")
        fleet.stop()
        # Nobody reads any more, and what is in the file is still what was told.
        hub.kill()
        wrong = record.judge(clients)
        wrong += [f"{epochs:.0f} new epochs after kills only"] if epochs else []
        cuts = {}
        for client in clients:
            for stage, count in client.cuts.items():
                cuts[stage] = cuts.get(stage, 0) + count
        if "panic" in hub.log():
            wrong.append("the hub's log has a panic")
    print(f"kills, sync={sync}{', TLS' if tls != 'off' else ''} (seed {seed}): {kills} kills and {early} during a start in "
          f"{time.monotonic() - began:.0f} s, {gateways} gateways of {ids} ids; {record.summary()}; cuts {cuts}; "
          f"lost {dict(fleet.lost)}", flush=True)
    if not record.answered or not record.catches:
        wrong.append("the run was too short to show anything")
    return wrong
