#!/usr/bin/env python3
"""How small many versions of real things become in the archive: `history.py FOLDER`.

FOLDER holds one folder for each version (sorted by name), and each of those one folder or file for each package. Every
package of every version is added to a store of its own under the package's name, nothing is rooted, and all of it is
archived, version by version. Says the size of the archives (NARs), of the store with equal files linked, of each NAR
compressed alone, and of the archive; and checks that every path comes back. Nothing here passes or fails.
"""

import argparse
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(command, store, **more):
    done = subprocess.run([*command, "--store", store], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise SystemExit(f"{command}: exit status {done.returncode}\n{done.stderr}")
    return done


def used(folder):
    return int(subprocess.run(["du", "-sk", folder], capture_output=True, text=True, check=True).stdout.split()[0]) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rednix", default=ROOT / "target/release/rednix")
    parser.add_argument("--scratch", default=None, help="where the store is made")
    options = parser.parse_args()
    rednix = str(options.rednix)
    versions = sorted(path for path in options.folder.iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        store = str(Path(scratch) / "store")
        raw = alone = 0
        archive = Path(store) / "nix/var/rednix/archive.sqlite"
        added, seconds, sizes = [], 0.0, []
        for version in versions:
            for package in sorted(version.iterdir()):
                path = run([rednix, "store", "add", "--name", package.name, str(package)], store).stdout.strip()
                if path in added:
                    continue
                added.append(path)
                nar = subprocess.Popen([rednix, "store", "dump", path, "--store", store], stdout=subprocess.PIPE)
                packed = subprocess.run(["zstd", "-12", "-c"], stdin=nar.stdout, capture_output=True, check=True)
                alone += len(packed.stdout)
                raw += int(re.search(r"\d+", run([rednix, "store", "path-info", "--json", path], store).stdout.split('"narSize":')[1]).group())
            start = time.monotonic()
            run([rednix, "store", "archive"], store)
            seconds += time.monotonic() - start
            sizes.append(archive.stat().st_size)
        start = time.monotonic()
        for path in added:
            run([rednix, "store", "restore", path], store)
        restoring = time.monotonic() - start
        run([rednix, "store", "verify"], store)
        files = used(Path(store) / "nix/store")
        run([rednix, "store", "optimise"], store)
        linked = used(Path(store) / "nix/store")
        mb = lambda size: f"{size / 1e6:9.1f} MB  1/{raw / size:.1f}"
        print(f"{len(versions)} versions, {len(added)} different paths")
        print(f"archives (NARs)           {mb(raw)}")
        print(f"files on disk             {mb(files)}")
        print(f"equal files linked        {mb(linked)}")
        print(f"each NAR compressed alone {mb(alone)}")
        print(f"archive                   {mb(sizes[-1])}   first version {sizes[0] / 1e6:.1f} MB; {seconds:.1f} s in, {restoring:.1f} s out")


if __name__ == "__main__":
    main()
