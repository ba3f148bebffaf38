#!/usr/bin/env python3
"""Starts a hub on a free port and lets clients connect to it that are not ours.

run.py GATECAST NAME=COMMAND ...: each command is a client; it prints lines that begin with `ok` or `FAIL`.
The last line is `N passed, N failed`.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile

CLIENT_SECONDS_MAX = 120
HUB_SECONDS_MAX = 30


def main():
    gatecast, clients = sys.argv[1], [argument.split("=", 1) for argument in sys.argv[2:]]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="gatecast-interop-") as data:
        log = open(os.path.join(data, "log"), "w+")
        hub = subprocess.Popen(
            [gatecast, "serve", "--data", data, "--listen", "127.0.0.1:0"]
            + ["--set", "heartbeat.interval=1s", "--set", "heartbeat.timeout=3s", "--set", "drain.window=1s"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        ready = hub.stdout.readline()
        print(ready.strip() or "the hub did not start", flush=True)
        environment = dict(os.environ, CA=os.path.join(data, "cert.pem"))
        if ready:
            with open(os.path.join(data, "address")) as address, open(os.path.join(data, "admin-token")) as token:
                environment.update(HUB=address.read().strip(), ADMIN_TOKEN=token.read().strip())
            for name, command in clients:
                one, other = run_client(name, command, environment)
                passed, failed = passed + one, failed + other
            hub.send_signal(signal.SIGTERM)
        try:
            code = hub.wait(HUB_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            hub.kill()
            code = "none in time"
        if ready and code == 0:
            print("ok    hub: SIGTERM ends it with exit code 0")
            passed += 1
        else:
            print(f"FAIL  hub: SIGTERM ends it with exit code 0: found {code}")
            failed += 1
        if failed:
            log.seek(0)
            print("--- the hub's log", log.read(), sep="\n")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def run_client(name, command, environment):
    """Runs one client to its end; returns how many of its checks passed and failed."""
    try:
        client = subprocess.run(
            shlex.split(command), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=CLIENT_SECONDS_MAX,
        )
        output, code = client.stdout, client.returncode
    except subprocess.TimeoutExpired as error:
        output, code = (error.stdout or b"").decode(errors="replace"), "none in time"
    print(output, end="", flush=True)
    lines = output.splitlines()
    passed, failed = (sum(line.startswith(word) for line in lines) for word in ("ok ", "FAIL "))
    if passed == 0 or (code != 0 and failed == 0):
        print(f"FAIL  {name}: it ends with exit code 0: found {code}")
        failed += 1
    return passed, failed


sys.exit(main())
