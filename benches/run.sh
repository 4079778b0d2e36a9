#!/usr/bin/env bash
# Measures what users wait for, side by side with the peer where it is installed, in one run. Nothing here passes
# or fails. Needs hyperfine. `$REDNIX_PEER` is a folder with C++ Nix's programs; else PATH is looked at.
set -eu
cd "$(dirname "$0")/.."

command -v hyperfine >/dev/null || { echo "benches need hyperfine (apt-get install hyperfine)" >&2; exit 1; }
rednix=target/release/rednix
peer=${REDNIX_PEER:+$REDNIX_PEER/}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
store=$($rednix doctor | sed -n 's/.*store at \([^ ]*\).*/\1/p')
measure() { hyperfine --style basic --warmup 2 --min-runs 10 "$@" 2>/dev/null | grep -E 'Benchmark|Time|Range|times|faster|±' || true; }
have_peer() { command -v "${peer}nix-instantiate" >/dev/null; }

echo "== start-up"
set -- -n rednix "$rednix --version"
have_peer && set -- "$@" -n "C++ Nix" "${peer}nix-instantiate --version"
measure "$@"

echo "== no-op build of the embedded image (everything is there; evaluation included)"
$rednix image probe >/dev/null
measure -n rednix "$rednix image probe"
/usr/bin/env time -f 'peak memory: %M KiB' "$rednix" image probe >/dev/null 2>"$work/memory" && tail -n 1 "$work/memory" || echo "skipped: peak memory: no time program"

echo "== evaluating the embedded image's derivation"
mkdir -p "$work/ours" "$work/theirs"
set -- -n rednix "$rednix nix-instantiate --store local?root=$work/ours nix/default.nix -A systems.probe.image"
have_peer && set -- "$@" -n "C++ Nix" "${peer}nix-instantiate --store local?root=$work/theirs nix/default.nix -A systems.probe.image"
measure "$@"

echo "== the evaluator, workload by workload"
if command -v python3 >/dev/null; then python3 benches/eval/run.py --rednix "$rednix"; else echo "skipped: no python3"; fi

echo "== copying between stores and caches"
if command -v python3 >/dev/null; then python3 benches/caches/run.py --rednix "$rednix" --store "$store"; else echo "skipped: no python3"; fi

echo "== NAR hashing, unpacking, image writing (in process)"
REDNIX_BENCH_STORE=$store cargo bench --quiet -p rednix --bench rooms 2>/dev/null

echo "== sandboxes, and what building costs beside the builders"
cargo bench --quiet -p rednix-build --bench builds 2>/dev/null
