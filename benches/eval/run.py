#!/usr/bin/env python3
"""The evaluator beside C++ Nix: the same workloads, run in turns on one thread, outputs compared.

CPU time (user and system) and peak memory of each process are what the kernel counted for it; the median of several
runs is shown. Needs Python 3.11. `$REDNIX_PEER` is a folder with C++ Nix's programs, else PATH is looked at;
`$REDNIX_BENCH_TREE` is a recipe tree to evaluate too;
`--paths` compares the .drv path of each of its recipes instead of measuring. Exits with 1 where outputs differ, and with `--check` where a
workload needs more CPU time or memory than the peer.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tree

HERE = Path(__file__).resolve().parent
CALLS, REST, READ, WRITE, MEMORY = 0.33, 0.5, 0.25, 0.15, 0.5
GOALS = {"fib": CALLS, "nqueens": CALLS}
CONFIGURATION = "build-users-group =\nsubstituters =\nbuilders =\nbuild-hook =\nexperimental-features = nix-command flakes ca-derivations"


def resolve(program):
    """What a program that is a script runs in the end, so that a wrapper's own time does not count for the peer."""
    with open(program, "rb") as file:
        if file.read(2) != b"#!":
            return [program], {}
    marker = ["--eval", "-"]
    child = subprocess.Popen([program, *marker], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        own = os.path.realpath(f"/proc/{child.pid}/exe")
        for _ in range(200):
            time.sleep(0.02)
            words = Path(f"/proc/{child.pid}/cmdline").read_bytes().split(b"\0")[:-1]
            words = [os.fsdecode(word) for word in words]
            if words[-2:] == marker and program not in words:
                environment = Path(f"/proc/{child.pid}/environ").read_bytes().split(b"\0")
                pairs = dict(os.fsdecode(pair).split("=", 1) for pair in environment if b"=" in pair)
                words[0] = os.path.realpath(f"/proc/{child.pid}/exe")
                return words[:-2], pairs
        return [program], {}
    finally:
        child.stdin.close()
        child.wait()


def peer_command():
    folder = os.environ.get("REDNIX_PEER")
    program = shutil.which("nix-instantiate", path=folder) if folder else shutil.which("nix-instantiate")
    if program is None:
        return None, "C++ Nix is not installed (REDNIX_PEER)"
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.strip()
    if " 2.34" not in version:
        return None, f"the peer is {version}, not 2.34"
    command, environment = resolve(program)
    environment = {**os.environ, **environment, "NIX_CONFIG": CONFIGURATION}
    return (command, environment), version


# A process counts the memory of the one that started it as its own peak, so what starts it has to be small.
LAUNCHER = """
import os, sys
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as file:
    print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=file)
"""


def measure(command, environment, cwd):
    """Output, CPU seconds and peak kilobytes of one run."""
    with tempfile.NamedTemporaryFile("r") as usage:
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, usage.name, *command]
        done = subprocess.run(launcher, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True)
        status, cpu, memory = usage.read().split() or (done.returncode, 0, 0)
    if int(status) != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {status}\n{done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout, float(cpu), int(memory)


class Workload:
    def __init__(self, name, arguments, goal, writes=False):
        self.name, self.arguments, self.goal, self.writes = name, arguments, goal, writes

    def run(self, command, environment, scratch):
        # Each run that writes begins with an empty store.
        store = "dummy://"
        folder = None
        if self.writes:
            folder = tempfile.mkdtemp(dir=scratch)
            store = f"local?root={folder}"
        try:
            return measure([*command, "--store", store, *self.arguments], environment, HERE)
        finally:
            if folder:
                subprocess.run(["chmod", "-R", "u+w", folder], check=True)
                shutil.rmtree(folder)


def workloads(scratch, count):
    eval_json = ["--eval", "--strict", "--json"]
    found = [Workload("start-up", [*eval_json, "--expr", "1"], REST)]
    for file in sorted((HERE / "work").glob("*.nix")):
        found.append(Workload(file.stem, [*eval_json, str(file)], GOALS.get(file.stem, REST)))
    trees = []
    generated = scratch / "tree"
    tree.generate(generated, count)
    trees.append((f"{count} recipes", generated))
    given = os.environ.get("REDNIX_BENCH_TREE")
    if given:
        left_out = tree.loadable(given, scratch / "given")
        print(f"given tree: {len(left_out)} recipes that are no TOML are left out: {' '.join(left_out)}")
        trees.append(("given tree", scratch / "given"))
    else:
        print("skipped: no tree given (REDNIX_BENCH_TREE)")
    for name, folder in trees:
        lock = scratch / f"{folder.name}.lock"
        tree.write_lock(folder, lock)
        arguments = [*eval_json, str(HERE / "recipes.nix"), "--arg", "tree", str(folder), "--arg", "lock", str(lock)]
        found.append(Workload(f"{name}, read only", [*arguments, "--readonly-mode"], READ))
        found.append(Workload(f"{name}, written", [*arguments, "--read-write-mode"], WRITE, writes=True))
    return found


def compare_paths(ours, peer, environment, scratch):
    """The .drv path of each loadable recipe of the given tree, beside the peer's."""
    given = os.environ.get("REDNIX_BENCH_TREE")
    if not given or not peer:
        print("skipped: " + ("no C++ Nix (REDNIX_PEER)" if given else "no tree given (REDNIX_BENCH_TREE)"))
        return True
    left_out = tree.loadable(given, scratch / "given")
    lock = scratch / "given.lock"
    tree.write_lock(scratch / "given", lock)
    arguments = ["--store", "dummy://", "--eval", "--strict", "--json", "--readonly-mode", str(HERE / "recipes.nix")]
    arguments += ["--arg", "tree", str(scratch / "given"), "--arg", "lock", str(lock), "--arg", "each", "true"]
    mine = json.loads(measure([*ours, *arguments], environment, HERE)[0])
    theirs = json.loads(measure([*peer[0], *arguments], peer[1], HERE)[0])
    made = [name for name in theirs if theirs[name] is not None]
    differing = [name for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]
    for name in differing[:20]:
        print(f"{name}\n  ours   {mine.get(name)}\n  theirs {theirs.get(name)}")
    print(f"{len(left_out)} recipes are no TOML and left out: {' '.join(left_out)}")
    failing = [name for name in theirs if theirs[name] is None]
    print(f"{len(failing)} are refused by the library, for both alike: {' '.join(failing)}")
    equal = len([name for name in made if mine.get(name) == theirs[name]])
    print(f"{len(theirs)} recipes compared: {len(made)} .drv paths, {equal} equal, {len(differing)} differing")
    return not differing and bool(made)


def select(found, names):
    unknown = [name for name in names if not any(name in work.name for work in found)]
    if unknown:
        raise SystemExit(f"no workload is named {unknown[0]}; there are: {', '.join(work.name for work in found)}")
    return [work for work in found if not names or any(name in work.name for name in names)]


def row(work, ours, theirs):
    cpu, memory = (statistics.median(run[part] for run in ours) for part in (1, 2))
    line = f"{work.name:24} {cpu:8.3f} s {memory / 1024:8.1f} MiB"
    if not theirs:
        return line, True
    their_cpu, their_memory = (statistics.median(run[part] for run in theirs) for part in (1, 2))
    ratio, space = cpu / their_cpu, memory / their_memory
    met = ("yes" if ratio <= work.goal else "no") + "/" + ("yes" if space <= MEMORY else "no")
    line += f" {their_cpu:8.3f} s {their_memory / 1024:8.1f} MiB {ratio:7.2f} ({work.goal}) {space:7.2f} ({MEMORY})  {met}"
    return line, ratio <= 1 and space <= 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="workloads to run (parts of their names); none means all")
    parser.add_argument("-n", "--runs", type=int, default=3)
    parser.add_argument("--rednix", default=str(HERE.parent.parent / "target/release/rednix"))
    parser.add_argument("--recipes", type=int, default=3200)
    parser.add_argument("--check", action="store_true", help="fail where the peer is faster or smaller")
    parser.add_argument("--paths", action="store_true", help="compare the given tree's .drv paths, measure nothing")
    arguments = parser.parse_args()
    ours = [os.path.realpath(arguments.rednix), "nix-instantiate"]
    peer, why = peer_command()
    print(f"peer: {why}" if peer else f"skipped: comparison: {why}")
    if arguments.paths:
        with tempfile.TemporaryDirectory(prefix="rednix-bench-") as scratch:
            scratch = Path(scratch).resolve()
            environment = {**os.environ, "REDNIX_STORE": str(scratch / "store")}
            sys.exit(0 if compare_paths(ours, peer, environment, scratch) else 1)
    load = os.getloadavg()[0]
    print(f"load of the machine: {load:.1f}; median of {arguments.runs} runs, in turns")
    head = f"{'workload':24} {'rednix':>10} {'':>12}"
    print(head + (f" {'peer':>10} {'':>12} {'CPU (goal)':>14} {'memory (goal)':>13}  met" if peer else ""))
    good = True
    with tempfile.TemporaryDirectory(prefix="rednix-bench-") as scratch:
        scratch = Path(scratch).resolve()
        environment = {**os.environ, "REDNIX_STORE": str(scratch / "store")}
        for work in select(workloads(scratch, arguments.recipes), arguments.names):
            mine, others = [], []
            for _ in range(arguments.runs):
                mine.append(work.run(ours, environment, scratch))
                if peer:
                    others.append(work.run(*peer, scratch))
            if len({run[0] for run in mine + others}) != 1:
                print(f"{work.name}: outputs differ\n  ours   {mine[0][0][:300]}\n  theirs {(others or mine)[0][0][:300]}")
                good = False
                continue
            line, within = row(work, mine, others)
            print(line, flush=True)
            good &= within or not arguments.check
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
