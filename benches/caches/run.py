#!/usr/bin/env python3
"""Copying beside C++ Nix: the same paths between the same two stores, in turns, each run into something empty.

Wall and CPU time (user and system, of the process that was started and its children) are what the kernel counted; the
median of several runs is shown, and the ratio to `nix copy`. Afterwards both destinations must hold the same archives.
Needs Python 3.11. `$REDNIX_PEER` is a folder with C++ Nix's programs, else PATH is looked at. The store is only read.
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGURATION = "build-users-group =\nsubstituters =\nbuilders =\nbuild-hook =\nexperimental-features = nix-command flakes ca-derivations"


def peer_command():
    folder = os.environ.get("REDNIX_PEER")
    program = shutil.which("nix", path=folder) if folder else shutil.which("nix")
    if program is None:
        return None, "C++ Nix is not installed (REDNIX_PEER)"
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
    return program, version


def choose(store, bytes_max, each_max):
    """Paths that refer to nothing outside of themselves, in the order of their names, up to a size."""
    database = store / "nix/var/nix/db/db.sqlite"
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    rows = connection.execute("select id, path, narSize from ValidPaths where path not like '%.drv' order by path").fetchall()
    bound = {row[0] for row in connection.execute("select referrer from Refs where referrer != reference")}
    chosen, total = [], 0
    for number, path, size in rows:
        if number not in bound and size <= each_max and total + size <= bytes_max:
            chosen.append(path)
            total += size
    return chosen, total


class Run:
    def __init__(self, wall, cpu, memory):
        self.wall, self.cpu, self.memory = wall, cpu, memory


def measure(command, environment):
    """Seconds, CPU seconds and peak KiB of one command that must succeed."""
    with tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - started
        if os.waitstatus_to_exitcode(status) != 0:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command[:6])} …: exit status {status}\n{errors.read().decode(errors='replace')[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


def remove(folder):
    subprocess.run(["chmod", "-R", "u+w", folder], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)


def valid(store):
    connection = sqlite3.connect(f"file:{store}/nix/var/nix/db/db.sqlite?mode=ro", uri=True)
    return sorted(connection.execute("select path, hash, narSize from ValidPaths"))


class Bench:
    def __init__(self, rednix, peer, store, paths, scratch, runs):
        self.rednix, self.peer, self.store, self.paths = rednix, peer, store, paths
        self.scratch, self.runs = scratch, runs
        self.environment = {**os.environ, "NIX_CONFIG": CONFIGURATION, "NO_COLOR": "1", "HOME": str(scratch)}
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
            self.environment[name] = str(scratch / "home")

    def ours(self, arguments, store):
        return measure([self.rednix, "--log-format", "plain", *arguments], {**self.environment, "REDNIX_STORE": str(store)})

    def theirs(self, arguments):
        # What it remembers of caches between runs would spare it questions.
        remove(self.scratch / "home" / "nix")
        return measure([self.peer, *arguments], self.environment)

    def leg(self, name, ours, theirs, is_store):
        mine, others = [], []
        for number in range(self.runs):
            kept = []
            for which, run, results in (("ours", ours, mine), ("theirs", theirs, others)):
                if which == "theirs" and not self.peer:
                    continue
                destination = self.scratch / f"{name.replace(' ', '-')}-{which}-{number}"
                results.append(run(destination))
                kept.append(destination)
            if is_store and len(kept) == 2 and valid(kept[0]) != valid(kept[1]):
                raise SystemExit(f"{name}: the two destinations differ")
            # Kept until the end: a file system that was just relieved of thousands of files is slow to make new ones.
        median = lambda runs, part: statistics.median(getattr(run, part) for run in runs)
        line = f"{name:34} {median(mine, 'wall'):7.2f} s {median(mine, 'cpu'):7.2f} s {median(mine, 'memory') / 1024:6.0f} MiB"
        if others:
            line += f" {median(others, 'wall'):8.2f} s {median(others, 'cpu'):7.2f} s {median(others, 'memory') / 1024:6.0f} MiB"
            line += f"   {median(others, 'wall') / median(mine, 'wall'):5.2f} x {median(mine, 'cpu') / median(others, 'cpu'):6.2f}"
        print(line, flush=True)

    def folder(self, parameters, name):
        self.leg(
            name,
            lambda to: self.ours(["cache", "push", f"file://{to}", *self.paths], self.store),
            lambda to: self.theirs(["copy", "--from", f"local?root={self.store}", "--to", f"file://{to}{parameters}", "--no-check-sigs", *self.paths]),
            is_store=False,
        )

    def bring(self, name, address, trusted):
        """From `address` into a store; `trusted` is the same with our parameter."""
        self.leg(
            name,
            lambda to: self.ours(["cache", "pull", "--from", trusted, *self.paths], to),
            lambda to: self.theirs(["copy", "--from", address, "--to", f"local?root={to}", "--no-check-sigs", *self.paths]),
            is_store=True,
        )

    def served(self, name, more):
        server = subprocess.Popen(
            [self.rednix, "--log-format", "plain", "cache", "serve", "--listen", "127.0.0.1:0", *more],
            env={**self.environment, "REDNIX_STORE": str(self.store)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        try:
            address = server.stdout.readline().strip()
            self.bring(name, address, f"{address}?trusted=1")
        finally:
            server.terminate()
            server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("legs", nargs="*", help="what to measure (parts of the names); none means all")
    parser.add_argument("-n", "--runs", type=int, default=3)
    parser.add_argument("--rednix", default=str(Path(__file__).resolve().parent.parent.parent / "target/release/rednix"))
    parser.add_argument("--store", type=Path, required=True, help="folder of a store with something in it")
    parser.add_argument("--bytes", type=int, default=400 << 20, help="size of what is copied, at most")
    parser.add_argument("--each", type=int, default=100 << 20, help="size of one path, at most")
    parser.add_argument("--scratch", help="folder on the disk to be measured")
    arguments = parser.parse_args()
    peer, why = peer_command()
    print(f"peer: {why}" if peer else f"skipped: comparison: {why}")
    store = arguments.store.resolve()
    paths, total = choose(store, arguments.bytes, arguments.each)
    print(f"{len(paths)} paths, {total / (1 << 20):.0f} MiB of archives; load of the machine: {os.getloadavg()[0]:.1f}; median of {arguments.runs} runs, in turns")
    head = f"{'':34} {'rednix':>9} {'CPU':>9} {'memory':>10}"
    print(head + (f" {'nix copy':>10} {'CPU':>9} {'memory':>10}   {'speed':>7} {'CPU':>6}" if peer else ""))
    with tempfile.TemporaryDirectory(prefix="rednix-bench-", dir=arguments.scratch) as scratch:
        scratch = Path(scratch).resolve()
        bench = Bench(os.path.realpath(arguments.rednix), peer, store, paths, scratch, arguments.runs)
        local = f"local?root={store}"
        cache = scratch / "cache"
        bench.ours(["cache", "push", f"file://{cache}", *paths], store)
        legs = {
            "store to folder, as they are": lambda name: bench.folder("", name),
            "store to folder, both zstd": lambda name: bench.folder("?compression=zstd", name),
            "folder to store": lambda name: bench.bring(name, f"file://{cache}", f"file://{cache}?trusted=1"),
            "server to store, zstd on the fly": lambda name: bench.served(name, []),
            "server to store, plain": lambda name: bench.served(name, ["--no-compression"]),
            "store to store": lambda name: bench.bring(name, local, f"{local}&trusted=1"),
        }
        for name, leg in legs.items():
            if not arguments.legs or any(part in name for part in arguments.legs):
                leg(name)
        # Stores are read-only.
        remove(scratch)
        scratch.mkdir()


if __name__ == "__main__":
    sys.exit(main())
