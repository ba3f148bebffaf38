"""Publishers that go on through kills and restarts of the hub, and note how each event was answered."""
import http.client, json, random, threading, time


class Publishers:
    def __init__(self, hub, record, gateways, count=8, pause=0.02, large=20_000):
        self.hub, self.record, self.gateways, self.pause, self.large = hub, record, gateways, pause, large
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(index,), daemon=True) for index in range(count)]

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join(30)
            if thread.is_alive():
                self.record.violate("a publisher was not answered for 30 s")

    def run(self, index):
        rng, connection = random.Random(index), None
        while not self.done.is_set():
            if not self.hub.port:
                connection = None
                time.sleep(0.01)
                continue
            try:
                connection = connection or self.hub.connection()
                # Two of eight publish batches.
                (self.batch if index % 4 == 3 else self.single)(rng, connection)
            except (OSError, http.client.HTTPException, ValueError):
                # What was sent may have been kept or not.
                connection = None
            time.sleep(rng.random() * 2 * self.pause)

    def draft(self, rng):
        name = self.record.new_name()
        size = rng.choice([0, 0, 10, 200, 200, self.large])
        text = f'{{"name":{name},"pad":"{"x" * size}"}}'
        self.record.note_text(name, text)
        return name, text

    def single(self, rng, connection):
        gateway = rng.choice(self.gateways)
        again = True
        while again and not self.done.is_set():
            name, text = self.draft(rng)
            body = f'{{"type":"t","payload":{text}}}'
            began = time.monotonic()
            status, answer = self.hub.call("POST", f"/api/v1/gateways/{gateway}/events", body, connection)
            # What may have been kept is published again, as another event.
            again = self.note(gateway, name, began, status, answer) == "unknown"

    def batch(self, rng, connection):
        drafts = [(rng.choice(self.gateways), *self.draft(rng)) for _ in range(rng.choice([2, 10, 60]))]
        lines = [f'{{"gatewayId":"{gateway}","type":"t","payload":{text}}}' for gateway, _, text in drafts]
        began = time.monotonic()
        status, rows = self.hub.call("POST", "/api/v1/events", "\n".join(lines), connection)
        if status == 200 and len(rows) != len(drafts):
            self.record.violate(f"a batch of {len(drafts)} lines was answered with {len(rows)}")
        last = {}
        for (gateway, name, _), row in zip(drafts, rows if status == 200 else [rows[0]] * len(drafts)):
            self.note(gateway, name, began, row.get("status", row.get("code", status)), row)
            if "position" in row:
                offset = int(row["position"].split("-")[1])
                if offset <= last.get(gateway, 0):
                    self.record.violate(f"the lines of a batch to {gateway} are not in order")
                last[gateway] = offset

    def note(self, gateway, name, began, status, answer):
        """Notes an answer; returns what is said of an event that was not answered 2xx."""
        if "position" in answer:
            self.record.note_answer(gateway, answer["position"], name, began, time.monotonic())
            return None
        kept = answer.get("kept")
        if status != 503 or kept not in ("no", "unknown", None):
            self.record.violate(f"event {name} was answered {status}: {json.dumps(answer)[:200]}")
        # A hub that drains says 503 before it looks at the event.
        (self.record.unknown if kept == "unknown" else self.record.refused).add(name)
        if kept != "unknown":
            time.sleep(0.05)
        return kept
