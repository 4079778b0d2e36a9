"""Makes recipe trees to evaluate, and locks without meaning for trees that have none. Nothing is fetched."""

import hashlib
import json
import shutil
import tomllib
from pathlib import Path

TEMPLATES = ["custom", "cargo", "configure", "cmake", "meson"]


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


def narhash(text):
    import base64

    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def pin(name, source):
    """A lock entry as `rednix lock` would make it, with hashes of nothing."""
    if "git" in source:
        entry = {"type": "git", "url": source["git"], "rev": digest(name)[:40], "narHash": narhash(name)}
    else:
        entry = {"type": "tar", "url": source["tar"], "sha256": digest(name)}
    number = int(digest(name)[:6], 16)
    if number % 3 == 0:
        first = number % 200
        crates = [[f"crate-{n}", f"1.{n}.0", digest(f"crate {n}")] for n in range(first, first + 40)]
        entry["cargo"] = {"Cargo.lock": {"crates": crates}}
    return entry


def lock_for(tree):
    """A lock for all sources of a tree that are fetched."""
    sources = {}
    for file in sorted(Path(tree).glob("recipes/**/recipe.toml")):
        try:
            source = tomllib.loads(file.read_text()).get("source", {})
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            continue
        if "git" in source or "tar" in source:
            sources[file.parent.name] = pin(file.parent.name, source)
    return {"version": 1, "sources": sources}


def recipe(number):
    name = f"recipe{number}"
    kind = "git" if number % 2 else "tar"
    url = f"https://example.org/{name}" + (".git" if kind == "git" else f"-1.{number}.tar.gz")
    lines = ["[source]", f'{kind} = "{url}"']
    if number % 5 == 0:
        lines.append('patches = ["one.patch"]')
    # Dependencies go to smaller numbers only, so there is no circle; closures stay like those of a real tree.
    depends = sorted({number // 2, number // 3, number // 7} - {0, number})
    template = TEMPLATES[number % len(TEMPLATES)]
    lines += ["", "[build]", f'template = "{template}"']
    if depends:
        lines.append("dependencies = [" + ", ".join(f'"recipe{n}"' for n in depends) + "]")
    if template == "custom":
        lines += ['script = """', "DYNAMIC_INIT", f'cookbook_configure --with-number="{number}"', 'make -j"${COOKBOOK_MAKE_JOBS}"', '"""']
    if number % 10 == 3:
        lines += ["", "[[optional-packages]]", 'name = "dev"', 'files = ["usr/include/**", "usr/lib/*.a"]']
    return "\n".join(lines) + "\n"


def generate(folder, count):
    """A tree of that many recipes below `folder`."""
    folder = Path(folder)
    for number in range(1, count + 1):
        own = folder / "recipes" / f"group{number % 20}" / f"recipe{number}"
        own.mkdir(parents=True)
        (own / "recipe.toml").write_text(recipe(number))
        if number % 5 == 0:
            (own / "one.patch").write_text(f"--- a/file\n+++ b/file\n@@ -1 +1 @@\n-{number}\n+{number + 1}\n")
    (folder / "config").mkdir()
    (folder / "config" / "minimal.toml").write_text("[general]\nfilesystem_size = 40\n\n[packages]\nrecipe1 = {}\n")


def loadable(tree, folder):
    """A copy of the parts of a tree that evaluation reads, without recipes that are no TOML; the names of those."""
    tree, folder = Path(tree), Path(folder)
    left_out = []
    for part in ["recipes", "config", "src", "Cargo.toml", "Cargo.lock", ".gitignore"]:
        if (tree / part).is_dir():
            shutil.copytree(tree / part, folder / part, symlinks=True)
        elif (tree / part).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / part, folder / part)
    for file in sorted(folder.glob("recipes/**/recipe.toml")):
        try:
            tomllib.loads(file.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            left_out.append(file.parent.name)
            shutil.rmtree(file.parent)
    return left_out


def write_lock(tree, path):
    Path(path).write_text(json.dumps(lock_for(tree)))
