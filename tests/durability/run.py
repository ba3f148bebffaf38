#!/usr/bin/env python3
import argparse, sys
import kills
o = argparse.ArgumentParser()
o.add_argument("binary"); o.add_argument("--long", action="store_true")
c = o.parse_args()
w = kills.run(c.binary, "power", 3, 40, 10, 1.5)
for x in w[:20]: print("WRONG", x)
