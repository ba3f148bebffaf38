"""A gateway in a process of its own that knows nothing of positions: it handles each event in its read loop, slowly, and answers the
ping behind it only then.

  worker.py ADDRESS KEY FILE SEED

ADDRESS is a file with the hub's address. Appends a line to FILE before an event counts as handled: `connected TIME`, or
`handled TIME POSITION NAME CHECKSUM`. The times are those of the machine's monotonic clock. Runs until it is killed.
"""
import json, os, random, sys, time, zlib

from gateway import PAYLOAD, Gateway

HANDLING_SECONDS_MAX = 0.04
RETRY_SECONDS = 0.02


class Worker(Gateway):
    def __init__(self, key, file, seed):
        # No position is ever saved, so no connection asks for a resume.
        super().__init__(None, "", key)
        self.file, self.rng = file, random.Random(seed)

    def note(self, *words):
        # One write, so that a process that is killed leaves no part of a line.
        os.write(self.file, (" ".join(str(word) for word in words) + "\n").encode())

    def handle_ack(self, ack):
        self.ack, self.stage = ack, "live"
        self.note("connected", time.monotonic())

    def handle_event(self, payload):
        time.sleep(self.rng.random() * HANDLING_SECONDS_MAX)
        found = PAYLOAD.search(payload)
        text, name = found.groups() if found else (payload, b"0")
        self.note("handled", time.monotonic(), json.loads(payload)["position"], name.decode(), zlib.crc32(text))

    def handle_frame(self, opcode, payload):
        super().handle_frame(opcode, payload)
        # A pong does not wait for the events behind its ping.
        if self.socket and self.out:
            self.socket.sendall(self.out)
            self.out = b""


def port_in(address):
    """The port that the hub has written, or None while it starts."""
    try:
        with open(address) as file:
            return int(file.read().strip().rpartition(":")[2])
    except (FileNotFoundError, ValueError):
        return None


def main():
    address, key, path, seed = sys.argv[1:]
    worker = Worker(key, os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), int(seed))
    while True:
        if worker.stage == "away":
            time.sleep(RETRY_SECONDS)
            port = port_in(address)
            if port is None:
                continue
            worker.open(port, tls=False)
            worker.socket.setblocking(True)
        worker.handle_ready()


if __name__ == "__main__":
    main()
