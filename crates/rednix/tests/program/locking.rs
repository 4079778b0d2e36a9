//! Pins and overrides on small trees: what a lock says, what it refuses, what it needs later. Nothing is built here,
//! and every address is a folder of this machine.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::Outcome;
use crate::support::{Run, call, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 10] = [
    ("lock_pins_every_kind_of_reference", pins_every_kind_of_reference),
    ("lock_takes_branches_as_of_a_day", takes_branches_as_of_a_day),
    ("lock_refuses_a_tar_with_another_hash", refuses_a_tar_with_another_hash),
    ("lock_keeps_drops_and_updates", keeps_drops_and_updates),
    ("lock_imports_upstreams_pins", imports_upstreams_pins),
    ("override_of_a_recipe_and_of_a_tar", override_of_a_recipe_and_of_a_tar),
    ("override_of_a_missing_submodule", override_of_a_missing_submodule),
    ("override_of_a_cargo_git_dependency", override_of_a_cargo_git_dependency),
    ("tree_by_its_address", tree_by_its_address),
    ("tree_check_and_graph", tree_check_and_graph),
];

/// A scratch world: repositories, a tree, a configuration.
pub struct World {
    folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> World {
        let folder = scratch();
        write(&folder.path().join("tree/config/s.toml"), "[packages]\n");
        write(&folder.path().join("config/rednix/config.toml"), "");
        World { folder }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub fn url(&self, relative: &str) -> String {
        format!("file://{}", self.path(relative).display())
    }

    pub fn write(&self, relative: &str, text: &str) {
        write(&self.path(relative), text);
    }

    pub fn recipe(&self, name: &str, source: &str) {
        let build = "[build]\ntemplate = \"custom\"\nscript = \"\"\n";
        self.write(&format!("tree/recipes/{name}/recipe.toml"), &format!("[source]\n{source}\n{build}"));
    }

    fn git(&self, repository: &str, day: &str, arguments: &[&str]) -> Result<String, String> {
        let folder = self.path(repository);
        std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=T",
                "-c",
                "user.email=t@example.invalid",
                "-c",
                "init.defaultBranch=main",
            ])
            .args(["-c", "protocol.file.allow=always"])
            .args(arguments)
            .current_dir(&folder)
            .env("GIT_AUTHOR_DATE", format!("{day}T12:00:00Z"))
            .env("GIT_COMMITTER_DATE", format!("{day}T12:00:00Z"))
            .output()
            .map_err(|e| format!("git: {e}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Commits one file and gives the commit.
    pub fn commit(&self, repository: &str, day: &str, file: &str, text: &str) -> Result<String, String> {
        self.write(&format!("{repository}/{file}"), text);
        if !self.path(&format!("{repository}/.git")).exists() {
            self.git(repository, day, &["init", "--quiet"])?;
        }
        self.git(repository, day, &["add", "."])?;
        self.git(repository, day, &["commit", "--quiet", "-m", text.lines().next().unwrap_or("x")])?;
        self.git(repository, day, &["rev-parse", "HEAD"])
    }

    pub fn call(&self, arguments: &[&str]) -> Command {
        let mut command = call(arguments);
        // Nothing may go out: cargo and rednix have folders only.
        command.env("XDG_CONFIG_HOME", self.path("config")).env("CARGO_NET_OFFLINE", "true");
        if !arguments.contains(&"--tree") {
            command.arg("--tree").arg(self.path("tree"));
        }
        command
    }

    pub fn lock(&self, arguments: &[&str]) -> Run {
        let mut command = self.call(arguments);
        run(command.arg("--output").arg(self.path("tree/rednix.lock")))
    }

    pub fn read(&self) -> Result<Value, String> {
        let text = std::fs::read_to_string(self.path("tree/rednix.lock")).map_err(|e| e.to_string())?;
        serde_json::from_str(&text).map_err(|e| e.to_string())
    }

    /// The path of a recipe's source, without any network.
    fn source(&self, name: &str) -> Result<PathBuf, String> {
        let attribute = format!(".#cookbook.sources.sourceOf \"{name}\"");
        let result = run(&mut self.call(&["--offline", "build", "--no-link", &attribute]));
        result.expect(0, &[])?;
        Ok(PathBuf::from(result.stdout.trim()))
    }
}

pub fn same(what: &str, got: &Value, wanted: &str) -> Result<(), String> {
    match got.as_str() {
        Some(text) if text == wanted => Ok(()),
        _ => Err(format!("{what} is {got}, not {wanted}")),
    }
}

/// Default branch, branch, tag, short revision, submodule; a shared source is pinned once; all is there offline.
fn pins_every_kind_of_reference() -> Outcome {
    let world = World::new();
    world.commit("sub", "2026-01-01", "inner", "inner\n")?;
    let first = world.commit("r", "2026-01-01", "text", "first\n")?;
    world.git("r", "2026-01-01", &["tag", "-a", "-m", "v1", "v1"])?;
    world.git("r", "2026-01-02", &["checkout", "--quiet", "-b", "side"])?;
    let side = world.commit("r", "2026-01-02", "text", "side\n")?;
    world.git("r", "2026-01-03", &["checkout", "--quiet", "main"])?;
    let url = world.url("sub");
    world.git("r", "2026-01-03", &["submodule", "--quiet", "add", &url, "sub"])?;
    let last = world.commit("r", "2026-01-03", "text", "last\n")?;
    let url = world.url("r");
    world.recipe("default", &format!("git = \"{url}\""));
    world.recipe("branch", &format!("git = \"{url}\"\nbranch = \"side\"\nshallow_clone = true"));
    world.recipe("tag", &format!("git = \"{url}\"\nrev = \"v1\""));
    world.recipe("short", &format!("git = \"{url}\"\nrev = \"{}\"", &first[..9]));
    world.recipe("shared", "same_as = \"../default\"");
    world.recipe("twice", "same_as = \"../shared\"");
    world.lock(&["lock", "twice", "branch", "tag", "short"]).expect(0, &[])?;
    let lock = world.read()?;
    for (name, rev) in [("default", &last), ("branch", &side), ("tag", &first), ("short", &first)] {
        same(name, &lock["sources"][name]["rev"], rev)?;
    }
    if lock["sources"].as_object().is_none_or(|sources| sources.len() != 4) {
        return Err(format!("a shared source is pinned with its owner only: {lock}"));
    }
    let source = world.source("twice")?;
    if !source.join("sub/inner").is_file() || source.join(".git").exists() {
        return Err(format!("{} has no submodule, or a .git", source.display()));
    }
    Ok(None)
}

fn takes_branches_as_of_a_day() -> Outcome {
    let world = World::new();
    let first = world.commit("r", "2026-01-01", "text", "first\n")?;
    world.commit("r", "2026-03-01", "text", "second\n")?;
    world.recipe("g", &format!("git = \"{}\"", world.url("r")));
    world.lock(&["lock", "g", "--date", "2026-02-06"]).expect(0, &[])?;
    same("the revision", &world.read()?["sources"]["g"]["rev"], &first)?;
    same("the day", &world.read()?["date"], "2026-02-06")?;
    world.lock(&["lock", "g", "--date", "yesterday"]).expect(2, &["YYYY-MM-DD"])?;
    world.lock(&["lock", "g", "--date", "2025-01-01"]).expect(1, &["no commit before"])?;
    same("a failed lock changes nothing: the revision", &world.read()?["sources"]["g"]["rev"], &first)?;
    Ok(None)
}

fn tar(world: &World, name: &str, text: &str) -> Result<(), String> {
    world.write(&format!("{name}-1/file"), text);
    let done = Command::new("tar")
        .args(["-cf", &format!("{name}.tar"), &format!("{name}-1")])
        .current_dir(world.folder.path())
        .status()
        .map_err(|e| format!("tar: {e}"))?;
    if done.success() { Ok(()) } else { Err("tar failed".to_owned()) }
}

fn refuses_a_tar_with_another_hash() -> Outcome {
    let world = World::new();
    tar(&world, "t", "text\n")?;
    let url = world.url("t.tar");
    world.recipe("t", &format!("tar = \"{url}\"\nblake3 = \"{}\"", "0".repeat(64)));
    world.lock(&["lock", "t"]).expect(1, &["wrong contents", &url])?;
    if world.path("tree/rednix.lock").exists() {
        return Err("a lock was written though its source is wrong".to_owned());
    }
    world.recipe("t", &format!("tar = \"{url}\""));
    world.lock(&["lock", "t"]).expect(0, &["names no hash"])?;
    Ok(None)
}

fn keeps_drops_and_updates() -> Outcome {
    let world = World::new();
    let first = world.commit("r", "2026-01-01", "text", "first\n")?;
    world.recipe("a", &format!("git = \"{}\"", world.url("r")));
    world.recipe("b", &format!("git = \"{}\"", world.url("r")));
    world.lock(&["lock"]).expect(0, &[])?;
    let second = world.commit("r", "2026-01-02", "text", "second\n")?;
    world.lock(&["lock"]).expect(0, &[])?;
    same("a kept pin", &world.read()?["sources"]["a"]["rev"], &first)?;
    let updated = world.lock(&["update", "a"]);
    updated.expect(0, &[])?;
    if updated.stdout != format!("a {first} → {second}\n") {
        return Err(format!("update printed {:?}", updated.stdout));
    }
    same("a pin that was not named", &world.read()?["sources"]["b"]["rev"], &first)?;
    std::fs::remove_dir_all(world.path("tree/recipes/b")).map_err(|e| e.to_string())?;
    world.lock(&["lock"]).expect(0, &[])?;
    if !world.read()?["sources"]["b"].is_null() {
        return Err("the pin of a recipe that is gone is still there".to_owned());
    }
    Ok(None)
}

fn imports_upstreams_pins() -> Outcome {
    let world = World::new();
    let first = world.commit("r", "2026-01-01", "text", "first\n")?;
    world.commit("r", "2026-01-02", "text", "second\n")?;
    world.recipe("g", &format!("git = \"{}\"", world.url("r")));
    world.write("tree/cookbook.lock", &format!("[recipes.g]\ngitrev = \"{first}\"\n"));
    world.lock(&["lock", "g"]).expect(0, &[])?;
    same("the revision", &world.read()?["sources"]["g"]["rev"], &first)?;
    Ok(None)
}

fn override_of_a_recipe_and_of_a_tar() -> Outcome {
    let world = World::new();
    tar(&world, "t", "original\n")?;
    tar(&world, "other", "other\n")?;
    world.recipe("g", "git = \"https://nowhere.invalid/g.git\"");
    world.recipe("t", "tar = \"https://nowhere.invalid/t.tar.gz\"\nblake3 = \"00\"");
    world.write("mine/text", "mine\n");
    let overrides = format!(
        "[overrides]\ng = \"{}\"\n\"https://nowhere.invalid/t.tar.gz\" = \"{}\"\n",
        world.path("mine").display(),
        world.path("other.tar").display()
    );
    world.write("config/rednix/config.toml", &overrides);
    world.lock(&["lock", "g", "t"]).expect(0, &["source of g is replaced"])?;
    let lock = world.read()?;
    same("what replaces g", &lock["overrides"]["g"]["by"], "folder")?;
    same("what replaces the tar", &lock["overrides"]["https://nowhere.invalid/t.tar.gz"]["by"], "file")?;
    let text = |path: PathBuf| std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()));
    if text(world.source("g")?.join("text"))? != "mine\n" {
        return Err("the override's contents are not used".to_owned());
    }
    if lock.to_string().contains(&world.path("mine").display().to_string()) {
        return Err("the lock names a folder of this machine".to_owned());
    }
    world.write("mine/text", "changed\n");
    run(&mut world.call(&["build", "--dry-run", "g"]))
        .expect(2, &["changed after it was locked", "rednix lock"])?;
    world.lock(&["lock", "g", "t"]).expect(0, &[])?;
    if text(world.source("g")?.join("text"))? != "changed\n" {
        return Err("the lock was not renewed for a changed override".to_owned());
    }
    // Without a lock of it, a folder is taken as it is.
    world.recipe("h", "git = \"https://nowhere.invalid/h.git\"");
    let momentary = format!("h={}", world.path("mine").display());
    run(&mut world.call(&["build", "--dry-run", "h", "--override", &momentary])).expect(0, &[])?;
    run(&mut world.call(&["build", "--dry-run", "h", "--override", "h=/nowhere"]))
        .expect(2, &["does not exist"])?;
    Ok(None)
}

fn override_of_a_missing_submodule() -> Outcome {
    let world = World::new();
    let inner = world.commit("sub", "2026-01-01", "inner", "inner\n")?;
    world.commit("r", "2026-01-01", "text", "text\n")?;
    let module = "[submodule \"sub\"]\n\tpath = sub\n\turl = https://nowhere.invalid/sub.git\n";
    world.write("r/.gitmodules", module);
    world.git(
        "r",
        "2026-01-01",
        &["update-index", "--add", "--cacheinfo", &format!("160000,{inner},sub")],
    )?;
    world.git("r", "2026-01-01", &["add", ".gitmodules"])?;
    world.git("r", "2026-01-01", &["commit", "--quiet", "-m", "module"])?;
    world.recipe("g", &format!("git = \"{}\"", world.url("r")));
    world.write("mine/inner", "mine\n");
    let argument = format!("https://nowhere.invalid/sub={}", world.path("mine").display());
    world
        .lock(&["lock", "g", "--override", &argument])
        .expect(0, &["submodule https://nowhere.invalid/sub is replaced"])?;
    let lock = world.read()?;
    same("the submodule", &lock["sources"]["g"]["submodules"]["https://nowhere.invalid/sub"], "override")?;
    if !world.source("g")?.join("sub/inner").is_file() {
        return Err("the submodule's override is not in the source".to_owned());
    }
    Ok(None)
}

pub fn cargo_package(world: &World, folder: &str, name: &str, version: &str, rest: &str) {
    let manifest =
        format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n{rest}");
    world.write(&format!("{folder}/Cargo.toml"), &manifest);
    world.write(&format!("{folder}/src/lib.rs"), "");
}

/// Another version in place of a git dependency: that crate alone changes in the Cargo.lock, and the lock says how.
fn override_of_a_cargo_git_dependency() -> Outcome {
    if Command::new("cargo").arg("--version").output().is_err() {
        return Ok(Some("cargo is not installed".to_owned()));
    }
    let world = World::new();
    let url = "https://nowhere.invalid/dep.git";
    let rev = "1".repeat(40);
    let dependency = |name: &str| format!("{name} = {{ git = \"{url}\" }}\n");
    cargo_package(
        &world,
        "r",
        "own",
        "1.0.0",
        &format!("[dependencies]\n{}{}", dependency("dep"), dependency("other")),
    );
    let entry = |name: &str| {
        format!("\n[[package]]\nname = \"{name}\"\nversion = \"0.1.0\"\nsource = \"git+{url}#{rev}\"\n")
    };
    let lock = format!(
        "version = 3\n{}{}\n[[package]]\nname = \"own\"\nversion = \"1.0.0\"\ndependencies = [\n \"dep\",\n \"other\",\n]\n",
        entry("dep"),
        entry("other")
    );
    world.commit("r", "2026-01-01", "Cargo.lock", &lock)?;
    world.recipe("g", &format!("git = \"{}\"", world.url("r")));
    world.lock(&["lock", "g"]).expect(1, &["nowhere.invalid"])?;
    cargo_package(&world, "mine/dep", "dep", "0.2.0", "");
    cargo_package(&world, "mine/other", "other", "0.1.0", "");
    let argument = format!("{url}={}", world.path("mine").display());
    world.lock(&["lock", "g", "--override", &argument]).expect(0, &["dep 0.1.0 → 0.2.0"])?;
    let lock = world.read()?;
    let cargo = &lock["sources"]["g"]["cargo"]["Cargo.lock"];
    let patch = cargo["patch"].as_str().unwrap_or_default();
    // A newer cargo may also write its own head of the file, but no other package may change.
    let changed =
        patch.lines().filter(|line| line.starts_with("+version = \"") || line.starts_with("+name")).count();
    if !patch.contains("-version = \"0.1.0\"\n+version = \"0.2.0\"") || changed != 1 {
        return Err(format!("more or less than one version changes:\n{patch}"));
    }
    let pinned = &lock["cargoGit"][format!("git+{url}#{rev}")];
    same("the place of dep", &pinned["packages"]["dep-0.2.0"], "dep")?;
    same("the pin", &pinned["rev"], "override")?;
    run(&mut world.call(&["build", "--dry-run", "g"])).expect(0, &[])?;
    Ok(None)
}

fn tree_by_its_address() -> Outcome {
    let world = World::new();
    world.commit("r", "2026-01-01", "text", "text\n")?;
    world.recipe("g", &format!("git = \"{}\"", world.url("r")));
    let rev = world.commit("tree", "2026-01-01", "README", "a tree\n")?;
    let address = world.url("tree");
    let lock = world.path("own.lock");
    let lock = lock.to_str().expect("scratch paths are plain");
    run(&mut world.call(&["tree", "check", "--tree", &address, "--lock", lock]))
        .expect(2, &["is not pinned", "rednix lock"])?;
    run(&mut world.call(&["lock", "g", "--tree", &address, "--output", lock])).expect(0, &[])?;
    let text = std::fs::read_to_string(lock).map_err(|e| e.to_string())?;
    let pinned: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    same("the tree's revision", &pinned["tree"]["rev"], &rev)?;
    std::fs::rename(world.path("tree"), world.path("gone")).map_err(|e| e.to_string())?;
    let offline = ["--offline", "tree", "graph", "g", "--tree", &address, "--lock", lock];
    let graph = run(&mut world.call(&offline));
    graph.expect(0, &[])?;
    if !graph.stdout.starts_with("g: 1 packages, 1 recipes\n") {
        return Err(format!("the graph is {:?}", graph.stdout));
    }
    Ok(None)
}

fn tree_check_and_graph() -> Outcome {
    let world = World::new();
    world.recipe("good", "path = \"x\"");
    world.write("tree/recipes/wip/bad/recipe.toml", "[source]\ngit = \n");
    world.write("tree/recipes/wip/go/recipe.toml", "[build]\ntemplate = \"go\"\n");
    world.write("tree/recipes/ignored/x/recipe.toml", "");
    world.write("tree/.gitignore", "# comment\nignored/\n**/my_*\n");
    world.write("tree/recipes/my_own/recipe.toml", "");
    let chain = |n: usize| format!("[build]\ntemplate = \"custom\"\ndependencies = [\"c{}\"]\n", n + 1);
    for n in 0..20 {
        world.write(&format!("tree/recipes/chain/c{n}/recipe.toml"), &chain(n));
    }
    world.write("tree/recipes/chain/c20/recipe.toml", "");
    let checked = run(&mut world.call(&["tree", "check"]));
    checked.expect(0, &[])?;
    for text in ["25 recipes, 24 can be read", "recipes/wip/bad/recipe.toml: ", "line 2", "template `go`"] {
        if !checked.stdout.contains(text) {
            return Err(format!("`{text}` is not in\n{}", checked.stdout));
        }
    }
    run(&mut world.call(&["tree", "check", "--strict"])).expect(1, &[])?;
    run(&mut world.call(&["tree", "graph", "c0"])).expect(2, &["deeper than 16", "c0 → c1 → c2"])?;
    let dot = run(&mut world.call(&["tree", "graph", "c18", "--format", "dot"]));
    dot.expect(0, &[])?;
    if !dot.stdout.contains("\"c18\" -> \"c19\";") {
        return Err(format!("the graph is\n{}", dot.stdout));
    }
    run(&mut world.call(&["tree", "graph", "nothing"])).expect(2, &["neither a system nor a recipe"])?;
    Ok(None)
}
