#!/usr/bin/env python3
"""Starts a hub on a free port and connects clients to it that Gatecast did not write.

run.py [--long] GATECAST NAME=COMMAND ...: each command is a client. Lines of its output that begin with `ok` or `FAIL` are
checks. A line `hub: restart` or `hub: kill` asks for SIGTERM or SIGKILL and a new hub on the same address and data, `hub: pause`
or `hub: continue` for SIGSTOP or SIGCONT. The last line is `N passed, N failed`.

With --long, the hub and the gateways use their real intervals and timeouts instead of a tenth of them. Only `go-client processed`
can run so; it takes about five minutes.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading

CLIENT_SECONDS_MAX = 120
LONG_CLIENT_SECONDS_MAX = 1500
HUB_SECONDS_MAX = 30
SETTINGS = [
    "drain.window=1s",
    # All clients share one address and connect more often than a gateway would.
    "limits.rate_per_minute=0",
    # So that an event that no gateway survives is skipped within a few connections.
    "delivery.poison_connections=3",
    "delivery.poison_after=2s",
]
# Scaled to a tenth or less, so that a client outlives several pings and a timeout within seconds.
SHORT_SETTINGS = ["heartbeat.interval=1s", "heartbeat.timeout=3s", "delivery.processing_timeout=6s"]
# How long a gateway waits for a ping: 35 s at the hub's default timeout of 30 s.
PING_LIMIT, LONG_PING_LIMIT = "3.5s", "35s"


class Hub:
    """A hub and its data directory; it keeps its address when it is restarted."""

    def __init__(self, gatecast, data, settings):
        self.command = [gatecast, "serve", "--data", data]
        for setting in settings:
            self.command += ["--set", setting]
        self.data = data
        self.log = open(os.path.join(data, "log"), "a+")
        self.start("127.0.0.1:0")

    def start(self, address):
        self.process = subprocess.Popen(
            self.command + ["--listen", address], stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.ready = self.process.stdout.readline().strip()
        print(self.ready or "the hub did not start", flush=True)

    def read(self, name):
        with open(os.path.join(self.data, name)) as file:
            return file.read().strip()

    def stop(self):
        """Sends SIGTERM; returns the exit code, or None where the hub had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(HUB_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None

    def handle_request(self, request):
        """Does what a client asks for; returns how many checks passed and failed."""
        if request == "pause":
            self.process.send_signal(signal.SIGSTOP)
        elif request == "continue":
            self.process.send_signal(signal.SIGCONT)
        elif request == "restart":
            address = self.read("address").removeprefix("https://")
            passed, failed = self.check_stop()
            self.start(address)
            return passed, failed + (not self.ready)
        elif request == "kill":
            address = self.read("address").removeprefix("https://")
            self.process.kill()
            self.process.wait()
            self.start(address)
            return 0, int(not self.ready)
        else:
            print(f"FAIL  run.py: expected restart, kill, pause or continue behind `hub:`: found {request!r}", flush=True)
            return 0, 1
        return 0, 0

    def check_stop(self):
        code = self.stop()
        if code == 0:
            print("ok    hub: SIGTERM ends it with exit code 0", flush=True)
            return 1, 0
        print(f"FAIL  hub: SIGTERM ends it with exit code 0: found {code}", flush=True)
        return 0, 1


def main():
    arguments = sys.argv[1:]
    long = arguments[0] == "--long"
    gatecast, *clients = arguments[1:] if long else arguments
    clients = [argument.split("=", 1) for argument in clients]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="gatecast-interop-") as data:
        hub = Hub(gatecast, data, SETTINGS if long else SETTINGS + SHORT_SETTINGS)
        counts = []
        if hub.ready:
            environment = dict(
                os.environ,
                HUB=hub.read("address"),
                CA=os.path.join(data, "cert.pem"),
                ADMIN_TOKEN=hub.read("admin-token"),
                PING_LIMIT=LONG_PING_LIMIT if long else PING_LIMIT,
            )
            seconds_max = LONG_CLIENT_SECONDS_MAX if long else CLIENT_SECONDS_MAX
            counts = [run_client(hub, name, command, environment, seconds_max) for name, command in clients]
        counts.append(hub.check_stop())
        passed, failed = (sum(column) for column in zip(*counts))
        if failed:
            hub.log.seek(0)
            print("--- the hub's log", hub.log.read(), sep="\n")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def run_client(hub, name, command, environment, seconds_max):
    """Runs one client to its end; returns how many checks passed and failed."""
    passed = failed = 0
    client = subprocess.Popen(
        shlex.split(command), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = threading.Timer(seconds_max, client.kill)
    deadline.start()
    for line in client.stdout:
        if line.startswith("hub: "):
            one, other = hub.handle_request(line.removeprefix("hub: ").strip())
            passed, failed = passed + one, failed + other
            continue
        print(line, end="", flush=True)
        passed += line.startswith("ok ")
        failed += line.startswith("FAIL ")
    code = client.wait()
    deadline.cancel()
    # A client that was killed may have left the hub paused.
    hub.process.send_signal(signal.SIGCONT)
    if passed == 0 or (code != 0 and failed == 0):
        print(f"FAIL  {name}: it ends with exit code 0: found {code}")
        failed += 1
    return passed, failed


sys.exit(main())
