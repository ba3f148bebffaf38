#!/usr/bin/env bash
# Builds the hub with a profile of its own work (profile-guided optimization): the compiler then puts the code of an event close together, and
# code that hardly ever runs elsewhere. It takes about 15 minutes on two cores; the program is target/profile-guided/gatecast.
set -euo pipefail
cd "$(dirname "$0")/.."

host="$(rustc -vV | sed -n 's/^host: //p')"
profdata="$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata"
[ -x "$profdata" ] || { echo "llvm-profdata is missing: rustup component add llvm-tools" >&2; exit 1; }

out="$PWD/target/profile-guided"
counts="$out/counts"
mkdir -p "$out"
# Cargo does not see that a profile has changed, so what was built with an old one has to go.
rm -rf "$counts" "$out/guided"

# build NAME RUSTC_FLAG: the hub with this flag. With --target it is not used for build scripts and procedural macros.
build() {
  RUSTFLAGS="${RUSTFLAGS:-} $2" cargo build --release --locked --package gatecast --target "$host" --target-dir "$out/$1"
}

# train SCENARIO…: runs the hub that counts under this load. It writes its counts when it ends.
train() {
  echo "loadtest $*"
  touch "$out/begun"
  "$loadtest" "$@" --quiet --spawn "$out/counting/$host/release/gatecast" >"$out/load.log" || { cat "$out/load.log" >&2; exit 1; }
  [ -n "$(find "$counts" -newer "$out/begun")" ] || { echo "the hub ended without writing its counts" >&2; exit 1; }
}

echo "1 of 4: the load generator"
cargo build --release --locked --package loadtest --target-dir target
loadtest=target/release/loadtest

echo "2 of 4: a hub that counts how often its code runs"
build counting "-Cprofile-generate=$counts"

echo "3 of 4: load of each kind"
# What a hub does all day counts most: single events, small and large, with TLS, on one core and between two.
export GATECAST_EVENT_LOG_MODE=memory
train throughput --closed --cores 1 --gateways 128 --fill-connections 1000 --size 300 --seconds 6
train throughput --closed --cores 1 --gateways 128 --size 10240 --seconds 3
train throughput --closed --cores 2 --gateways 128 --size 300 --publishers 64 --seconds 3
train throughput --cores 1 --gateways 128 --size 300 --rate 500 --seconds 3
train throughput --closed --cores 1 --gateways 1 --batch 1000 --size 60 --publishers 4 --seconds 2
train fanout --cores 1 --connections 1,10,100,1000 --size 300
unset GATECAST_EVENT_LOG_MODE
train throughput --closed --cores 1 --gateways 128 --size 300 --publishers 64 --seconds 4
train throughput --closed --cores 1 --gateways 128 --size 300 --plain --seconds 2
train fanout --cores 1 --connections 1,10,100 --size 10240
train idle --cores 1 --gateways 1000 --seconds 21
train storm --cores 1 --gateways 2000 --resume
train mixed --cores 2 --seconds 5

echo "4 of 4: the hub"
"$profdata" merge --output "$out/profile" "$counts"
# Usually the code with 99 % of all counts is taken for hot. That is the loops over single bytes; the code that runs once an event is not.
build guided "-Cprofile-use=$out/profile -Cllvm-args=-profile-summary-cutoff-hot=999900"
cp "$out/guided/$host/release/gatecast" "$out/gatecast"
echo "$out/gatecast"
