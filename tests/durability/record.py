"""What was published, answered and delivered in a run, and the judgement about it.

A payload is the name of one attempt to publish, so that a position and the payload at it can be compared over all connections,
answers and restarts.
"""
import collections, threading, time


def split(position):
    """Epoch and offset. Only for the order of positions that the hub gave."""
    epoch, offset = position.split("-")
    return epoch, int(offset)


class Answered:
    """A publish that was answered 2xx."""

    def __init__(self, gateway, position, name, began, ended):
        self.gateway, self.name, self.began, self.ended = gateway, name, began, ended
        self.epoch, self.offset = split(position)


class Record:
    def __init__(self):
        self.lock = threading.Lock()
        self.names, self.texts, self.told = {}, {}, {}
        self.answered, self.refused, self.unknown = [], set(), set()
        self.seen = collections.defaultdict(dict)
        self.next_name, self.deliveries, self.resumes, self.catches = 0, 0, 0, 0
        self.wrong = []

    def violate(self, what):
        with self.lock:
            self.wrong.append(what)

    def new_name(self):
        with self.lock:
            self.next_name += 1
            return self.next_name

    def note_text(self, name, text):
        self.texts[name] = text

    def note_position(self, gateway, position, name):
        """Notes that `position` names this event; any other event under the same name is a violation."""
        with self.lock:
            known = self.names.setdefault((gateway, position), name)
            self.told.setdefault((gateway, position), time.monotonic())
            if known != name:
                self.wrong.append(f"position {position} of {gateway} names event {known} and event {name}")

    def note_answer(self, gateway, position, name, began, ended):
        self.note_position(gateway, position, name)
        with self.lock:
            self.answered.append(Answered(gateway, position, name, began, ended))

    def note_delivery(self, gateway, position, name, payload):
        self.note_position(gateway, position, name)
        if self.texts.get(name) != payload:
            self.violate(f"the payload of event {name} was changed: {payload[:80]!r}")
        with self.lock:
            self.seen[gateway][split(position)] = name
            self.deliveries += 1

    def judge(self, clients, dense=True):
        """Compares what each client got with all that is known of its gateway. Returns the violations."""
        wrong = list(self.wrong)
        for gateway, events in self.seen.items():
            for name in set(events.values()) & self.refused:
                wrong.append(f"event {name} of {gateway} was answered `kept: no` and delivered")
        known = collections.defaultdict(set)
        for gateway, position in self.names:
            known[gateway].add(split(position))
        for gateway, places in known.items():
            offsets = collections.defaultdict(list)
            for epoch, offset in places:
                offsets[epoch].append(offset)
            for epoch, of in offsets.items():
                if dense and max(of) - min(of) + 1 != len(of):
                    missing = sorted(set(range(min(of), max(of))) - set(of))
                    wrong.append(f"{gateway}: nobody was told what is at {missing[:5]} of epoch {epoch}")
        for client in clients:
            wrong += client.judge(known[client.gateway])
        return wrong + self.judge_order()

    def judge_order(self):
        """Who publishes after the answer to another publish gets a higher position."""
        wrong = []
        of = collections.defaultdict(list)
        for it in self.answered:
            of[it.gateway, it.epoch].append(it)
        for (gateway, _), events in of.items():
            events.sort(key=lambda it: it.offset, reverse=True)
            # From the highest position down: nothing lower may have begun after something higher was answered.
            earliest = None
            for it in events:
                if earliest and it.began > earliest.ended:
                    wrong.append(f"{gateway}: event {it.name} began after {earliest.name} was answered and has a lower position")
                if earliest is None or it.ended < earliest.ended:
                    earliest = it
        return wrong

    def summary(self):
        return (f"{len(self.answered)} events answered 2xx, {len(self.unknown)} unknown, {len(self.refused)} not kept, "
                f"{self.next_name - len(self.answered) - len(self.unknown) - len(self.refused)} not answered; "
                f"{self.deliveries} deliveries, {len(self.names)} positions, {self.resumes} resumes ({self.catches} with a past)")
