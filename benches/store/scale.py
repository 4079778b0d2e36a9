#!/usr/bin/env python3
"""A store of 100,000 paths on disk: verifying, linking equal files, collecting; collecting beside C++ Nix.

Makes one store, copies it for the peer, and runs each thing once, in turns, on the same file system. `$REDNIX_PEER` is a
folder with C++ Nix's programs, else PATH is looked at. Nothing here passes or fails. Needs room for two stores
(about 2 GB) in `--folder`.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = "build-users-group =\nsubstituters =\nbuilders =\nbuild-hook =\nexperimental-features = nix-command ca-derivations"


def timed(what, command, **more):
    """Runs a command, prints what it took: wall clock, and CPU time of the process and its children."""
    os.sync()
    before, start = os.times(), time.monotonic()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **more)
    wall, after = time.monotonic() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    said = (done.stderr.strip().splitlines() or [""])[-1]
    print(f"{what:34} {wall:8.2f} s   CPU {cpu:8.2f} s   {said[:90]}", flush=True)
    if done.returncode != 0:
        raise SystemExit(f"{what}: exit status {done.returncode}\n{done.stderr}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rednix", default=ROOT / "target/release/rednix")
    parser.add_argument("--make", default=ROOT / "target/release/examples/many_paths", help="cargo build --release -p rednix-store --example many_paths")
    parser.add_argument("--paths", type=int, default=100_000)
    parser.add_argument("--folder", default=None, help="where the stores are made")
    parser.add_argument("--store", default=None, help="a store made before, which is copied")
    options = parser.parse_args()
    peer = os.environ.get("REDNIX_PEER")
    collect = Path(peer) / "nix-store" if peer else shutil.which("nix-store")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "theirs"
        if options.store:
            subprocess.run(["cp", "-a", options.store, ours], check=True)
        else:
            subprocess.run([options.make, ours, str(options.paths)], check=True)
        if collect:
            subprocess.run(["cp", "-a", ours, theirs], check=True)
        rednix = lambda *words: [str(options.rednix), *words, "--store", str(ours)]
        timed("verify, contents too", rednix("store", "verify"))
        if collect:
            environment = dict(os.environ, NIX_CONFIG=CONFIGURATION)
            timed("C++ Nix: collect", [str(collect), "--store", f"local?root={theirs}", "--gc"], env=environment)
        else:
            print("skipped: C++ Nix is not here")
        if collect:
            shutil.rmtree(theirs)
            subprocess.run(["cp", "-a", ours, theirs], check=True)
        timed("collect", rednix("gc"))
        if not collect:
            return
        shutil.rmtree(ours)
        theirs.rename(ours)
        timed("link equal files", rednix("store", "optimise"))
        timed("link them again", rednix("store", "optimise"))
        timed("collect what is linked", rednix("gc"))


if __name__ == "__main__":
    main()
