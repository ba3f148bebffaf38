#!/usr/bin/env python3
"""Two ways in which one user of a hub could delay all others, tried on a running hub.

  run.py BINARY [--publishers 2500] [--seconds 20] [--connections 200] [--only flood|batch]

flood: publishers that pipeline requests without end, on two cores. Gateways that answer every ping must stay connected, and no
       ping may be late: the hub's metric gatecast_deadline_lateness_seconds_max must be at most 50 ms.
batch: one batch of 8 MiB to many connections that read as fast as they can. No delivery may fail, no connection may be closed,
       and another gateway's events must arrive within 250 ms.

Needs only Python 3. Prints what it measured; the exit status is 1 if any of this does not hold.
"""
import argparse, http.client, json, multiprocessing, os, resource, select, signal, socket, sys, threading, time

from live_hub import Gateway, Hub, attend

INTERVAL, TIMEOUT = 2.0, 3.0


def drain_sockets(port, keys, ready, stop, closed, seen=None):
    """Gateways' connections in their own process. They read everything without parsing it, and send a pong twice per interval."""
    gateways = [Gateway(port, key) for key in keys]
    ready.set()
    poll = select.epoll()
    by_fd = {gateway.socket.fileno(): gateway for gateway in gateways}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    last_pong, total = time.monotonic(), 0
    while not stop.is_set():
        for fd, _ in poll.poll(0.05):
            try:
                more = by_fd[fd].socket.recv(1 << 20)
            except OSError:
                more = b""
            if not more:
                poll.unregister(fd)
                closed.value += 1
            total += len(more)
        if seen is not None:
            seen.value = total
        if time.monotonic() - last_pong > INTERVAL / 2:
            last_pong = time.monotonic()
            for gateway in gateways:
                try:
                    gateway.socket.send(b"\x8a\x80\0\0\0\0")
                except OSError:
                    pass


def flood_from(port, token, gateways, count, stop, answered):
    """Publishers that send the next requests without waiting for an answer."""
    poll = select.epoll()
    sockets, waiting = {}, {}
    for index in range(count):
        body = json.dumps({"type": "t", "payload": "x" * 300})
        request = (f"POST /api/v1/gateways/{gateways[index % len(gateways)]}/events HTTP/1.1\r\nHost: h\r\n"
                   f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()
        connection = socket.create_connection(("127.0.0.1", port), 30)
        connection.setblocking(False)
        sockets[connection.fileno()] = connection
        waiting[connection.fileno()] = [request * 32, 0]
        poll.register(connection.fileno(), select.EPOLLIN | select.EPOLLOUT)
    while not stop.is_set():
        for fd, event in poll.poll(0.1):
            connection = sockets[fd]
            try:
                if event & select.EPOLLIN:
                    answered.value += connection.recv(1 << 18).count(b"HTTP/1.1 200")
                if event & select.EPOLLOUT:
                    blob, at = waiting[fd]
                    at += connection.send(blob[at:])
                    waiting[fd][1] = 0 if at >= len(blob) else at
            except OSError:
                poll.unregister(fd)


def flood(binary, publishers, seconds):
    hub = Hub(binary, **{"heartbeat.interval": f"{INTERVAL:.0f}s", "heartbeat.timeout": f"{TIMEOUT:.0f}s"})
    sinks = [hub.register(f"sink-{index}") for index in range(50)]
    healthy = [Gateway(hub.port, hub.register(f"healthy-{index}")[1]) for index in range(100)]
    stop, ready = multiprocessing.Event(), multiprocessing.Event()
    closed, answered = multiprocessing.Value("i", 0), [multiprocessing.Value("q", 0) for _ in range(2)]
    jobs = [multiprocessing.Process(target=drain_sockets, args=(hub.port, [key for _, key in sinks], ready, stop, closed))]
    jobs += [multiprocessing.Process(target=flood_from, args=(hub.port, hub.token, [sink[0] for sink in sinks],
                                                            publishers // 2, stop, counter)) for counter in answered]
    for job in jobs:
        job.start()
    end = time.monotonic() + seconds
    attend(healthy, lambda: time.monotonic() > end)
    late = hub.lateness()
    stop.set()
    for job in jobs:
        job.join(20)
        job.kill()
    ended = sum(gateway.closed for gateway in healthy)
    gap = max(gateway.gap for gateway in healthy)
    rate = sum(counter.value for counter in answered) / seconds
    hub.stop()
    print(f"flood: {publishers} publishers, {rate:,.0f} publishes a second answered; of {len(healthy)} healthy gateways {ended} were "
          f"closed; longest time between two pings {gap:.2f} s (interval {INTERVAL:.0f} s); the hub reports "
          f"{'no lateness' if late is None else f'deadlines up to {late * 1000:.1f} ms late'}")
    return ended == 0 and late is not None and late <= 0.05


def batch(binary, connections):
    hub = Hub(binary)
    large, other = hub.register("large"), hub.register("other")
    stop, ready = multiprocessing.Event(), [multiprocessing.Event() for _ in range(2)]
    closed, seen = multiprocessing.Value("i", 0), [multiprocessing.Value("q", 0) for _ in range(2)]
    jobs = [multiprocessing.Process(target=drain_sockets, args=(hub.port, [large[1]] * (connections // 2), event, stop, closed, total))
            for event, total in zip(ready, seen)]
    for job in jobs:
        job.start()
    for event in ready:
        event.wait(60)
    probed = Gateway(hub.port, other[1])
    line = json.dumps({"gatewayId": large[0], "type": "t", "payload": "x" * 930}) + "\n"
    body = line * (8 * 1024 * 1024 // len(line))
    answers = []
    sender = threading.Thread(target=lambda: answers.append(hub.call("POST", "/api/v1/events", body)))
    sent = []

    def probe():
        connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=60)
        while not done.is_set():
            sent.append(time.monotonic())
            hub.call("POST", f"/api/v1/gateways/{other[0]}/events", json.dumps({"type": "t", "payload": len(sent)}), connection)
            time.sleep(0.01)

    done = threading.Event()
    prober = threading.Thread(target=probe)
    prober.start()
    begun = time.monotonic()
    sender.start()
    whole = len(body) * (connections // 2 * 2)
    attend([probed], lambda: time.monotonic() - begun > 90 or (answers and sum(total.value for total in seen) >= whole))
    took = time.monotonic() - begun
    done.set()
    prober.join()
    attend([probed], lambda: len(probed.texts) > len(sent) or time.monotonic() - begun > 100)
    stop.set()
    for job in jobs:
        job.join(20)
        job.kill()
    rows = [json.loads(row) for row in answers[0].splitlines()] if answers else []
    failed, pending = sum(row.get("failed", 1) for row in rows), sum(row.get("pending", 0) for row in rows)
    events = [text for text in probed.texts if b'"type":"t"' in text[1]]
    waits = sorted(at - begin for begin, (at, _) in zip(sent, events))
    hub.stop()
    print(f"batch: {len(rows)} events, {len(body) / 2**20:.1f} MiB, to {connections} connections in {took:.1f} s: {failed} deliveries failed, "
          f"{pending} pending, {closed.value} connections closed; another gateway's events came after {waits[len(waits) // 2] * 1000:.1f} ms, "
          f"{waits[-1] * 1000:.0f} ms at most ({len(waits)} of {len(sent)})")
    return bool(rows) and failed == 0 and closed.value == 0 and len(waits) == len(sent) and waits[-1] < 0.25


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("binary")
    options.add_argument("--publishers", type=int, default=2500)
    options.add_argument("--seconds", type=float, default=20)
    options.add_argument("--connections", type=int, default=200)
    options.add_argument("--only", choices=["flood", "batch"])
    chosen = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    if chosen.only != "batch":
        held.append(flood(chosen.binary, chosen.publishers, chosen.seconds))
    if chosen.only != "flood":
        held.append(batch(chosen.binary, chosen.connections))
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
