#!/usr/bin/env python3
"""Shows on a running hub that no event is lost which was answered 2xx, and that no position names two events.

  run.py BINARY [--long] [--only kills|power|damage|trouble|processed] [--seed N]

kills:   kill -9 at random moments, under 8 publishers and gateways that resume and are cut in every stage. Every event that was
         answered 2xx reaches every gateway, in order and once.
power:   the files of the log as they were at each sync (sync_copies.c, preloaded into the hub, two of whose syncs fail), opened
         again. With `event_log.sync` `power` everything is there that was told before that sync; with `process` no gateway resumes.
damage:  the log lost, exchanged, cut or changed while no hub ran, and a gateway that is deleted and made again: a resume is right
         or answered with `resumed: false`.
trouble: a disk that is full, read-only, fails or hangs, a file that is locked, removed, exchanged or damaged under the hub: what
         publishers and gateways are answered, and that it heals without a restart.
processed: kill -9 of the hub and of gateways that handle events slowly and know no positions, with delivery `processed`. Every event
         that was answered 2xx is handled, in order; repeated is at most the window, and after a kill of the hub the last second.

Needs Python 3 and cc, and for the full disk the right to mount one. Prints what it did; the exit status is 1 if anything of this
does not hold. The short form takes a minute and a half, --long about eleven.
"""
import argparse, os, random, resource, sys, time

import damage, kills, power, processed, trouble


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("binary")
    options.add_argument("--long", action="store_true")
    options.add_argument("--only", choices=["kills", "power", "damage", "trouble", "processed"])
    options.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    chosen = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    began, wrong = time.monotonic(), []
    binary, seed = os.path.abspath(chosen.binary), chosen.seed
    count, gateways, ids, seconds = (20, 200, 50, 2.0) if chosen.long else (3, 40, 10, 1.5)
    if chosen.only in (None, "kills"):
        wrong += kills.run(binary, "power", count, gateways, ids, seconds, seed=seed)
        wrong += kills.run(binary, "process", count, gateways, ids, seconds, tls="self-signed", seed=seed)
        if chosen.long:
            wrong += kills.run(binary, "process", count, gateways, ids, seconds, seed=seed + 1)
    if chosen.only in (None, "power"):
        for sync in ("power", "process"):
            wrong += power.run(binary, sync, *((15, 60) if chosen.long else (3, 8)), seed=seed)
    if chosen.only in (None, "damage"):
        for sync in ("power", "process") if chosen.long else ("power",):
            wrong += damage.run(binary, sync, 100 if chosen.long else 4, seed=seed)
    if chosen.only in (None, "trouble"):
        wrong += trouble.run(binary)
    if chosen.only in (None, "processed"):
        wrong += processed.run(binary, 20 if chosen.long else 6, 10, 2.0, seed=seed)
    for what in wrong[:50]:
        print(f"WRONG: {what}")
    print(f"{len(wrong)} violations in {time.monotonic() - began:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
