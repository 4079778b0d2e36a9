#!/usr/bin/env bash
# Runs every test: the workspace's, the guest's on the host, and at the end the machines. Closes with one line that
# adds up all runners' summaries; a test that said `skipped: reason` is not counted as passed.
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0

for package in common drivers; do
    cargo test --release --locked --manifest-path guest/$package/Cargo.toml --target-dir target/guest --lib --tests 2>&1 | tee -a "$log" || status=1
done
cargo test --release --locked --no-fail-fast --workspace --lib --bins --tests "$@" 2>&1 | tee -a "$log" || status=1

awk '
    /^skipped: / { said++ }
    /^test result: / {
        for (i = 1; i <= NF; i++) {
            if ($i ~ /^passed/) passed += $(i - 1)
            if ($i ~ /^failed/) failed += $(i - 1)
            if ($i ~ /^ignored/) ignored += $(i - 1)
        }
    }
    END {
        skipped = said > ignored ? said : ignored
        printf "\n%d passed, %d failed, %d skipped\n", passed - (skipped - ignored), failed, skipped
    }' "$log"
exit $status
