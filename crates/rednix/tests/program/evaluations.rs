//! Remembered evaluations see every change of what they read, and several evaluators come to what one comes to.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::support::{call, rednix, run, scratch, tree_with, write};

pub const TESTS: [(&str, fn() -> Outcome); 4] = [
    ("remembered_evaluations_see_changes", remembered_evaluations_see_changes),
    ("remembered_evaluations_are_used", remembered_evaluations_are_used),
    ("the_time_is_never_remembered", the_time_is_never_remembered),
    ("parallel_evaluation_is_deterministic", parallel_evaluation_is_deterministic),
];

/// What was changed less than this before it was read is compared by contents.
const SETTLED_AFTER: std::time::Duration = std::time::Duration::from_millis(2100);

fn eval(cache: &Path, store: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(rednix());
    command.args(["--log-format", "plain", "--store"]).arg(store).arg("eval").args(arguments);
    command.env("XDG_CACHE_HOME", cache).env_remove("REDNIX_BENCH").stdin(std::process::Stdio::null());
    command
}

fn remembered_evaluations_see_changes() -> Outcome {
    let (cache, store, folder) = (scratch(), scratch(), scratch());
    let file = folder.path().join("main.nix");
    write(
        &file,
        "{ read = import ./part.nix; names = builtins.attrNames (builtins.readDir ./dir); there = builtins.pathExists ./absent; variable = builtins.getEnv \"REDNIX_BENCH\"; tree = \"${./tree}\"; }",
    );
    write(&folder.path().join("part.nix"), "1");
    write(&folder.path().join("dir/a"), "");
    write(&folder.path().join("tree/f"), "one");
    let file = file.display().to_string();
    let look = |variable: Option<&str>| -> Result<serde_json::Value, String> {
        let mut command = eval(cache.path(), store.path(), &["--json", &file]);
        command.envs(variable.map(|value| ("REDNIX_BENCH", value)));
        let run = run(&mut command);
        run.expect(0, &[])?;
        serde_json::from_str(&run.stdout).map_err(|e| e.to_string())
    };
    let check = |what: &str, found: &serde_json::Value, want: serde_json::Value| {
        if *found == want { Ok(()) } else { Err(format!("after {what}: {found}, not {want}")) }
    };
    // The first round is about files that are new, the second about files known by their times.
    for round in ["2", "3"] {
        let before = look(None)?;
        check("nothing", &look(None)?, before.clone())?;
        let part = folder.path().join("part.nix");
        std::fs::write(&part, round).map_err(|e| e.to_string())?;
        check("a changed file", &look(None)?["read"], round.parse::<u64>().unwrap_or(0).into())?;
        write(&folder.path().join("dir/b"), "");
        check("an added entry", &look(None)?["names"], serde_json::json!(["a", "b"]))?;
        std::fs::remove_file(folder.path().join("dir/b")).map_err(|e| e.to_string())?;
        check("a removed entry", &look(None)?["names"], serde_json::json!(["a"]))?;
        write(&folder.path().join("absent"), "");
        check("a path that appears", &look(None)?["there"], true.into())?;
        std::fs::remove_file(folder.path().join("absent")).map_err(|e| e.to_string())?;
        check("a path that goes", &look(None)?["there"], false.into())?;
        check("a variable", &look(Some("set"))?["variable"], "set".into())?;
        check("no variable", &look(None)?["variable"], "".into())?;
        std::fs::write(folder.path().join("tree/f"), round).map_err(|e| e.to_string())?;
        if look(None)?["tree"] == before["tree"] {
            return Err("a changed file of a tree that is copied was not seen".to_owned());
        }
        let with_more = look(None)?["tree"].clone();
        write(&folder.path().join("tree/more"), "");
        if look(None)?["tree"] == with_more {
            return Err("a file added to a tree that is copied was not seen".to_owned());
        }
        std::fs::remove_file(folder.path().join("tree/more")).map_err(|e| e.to_string())?;
        std::thread::sleep(SETTLED_AFTER);
    }
    std::fs::remove_file(folder.path().join("part.nix")).map_err(|e| e.to_string())?;
    let gone = run(&mut eval(cache.path(), store.path(), &["--json", &file]));
    gone.expect(2, &["part.nix"])?;
    Ok(None)
}

/// The one entry of a cache that has one.
fn entry_of(cache: &Path) -> Result<std::path::PathBuf, String> {
    let folder = cache.join("rednix/evaluations");
    let mut entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let entry = entries.next().ok_or("nothing is remembered")?.map_err(|e| e.to_string())?;
    Ok(entry.path())
}

/// An entry that says something else shows who is asked.
fn remembered_evaluations_are_used() -> Outcome {
    let (cache, store) = (scratch(), scratch());
    let value = |more: &[&str]| -> Result<String, String> {
        let run =
            run(eval(cache.path(), store.path(), &["--expr", "\"asked\" + \" anew\"", "--raw"]).args(more));
        run.expect(0, &[])?;
        Ok(run.stdout)
    };
    if value(&[])? != "asked anew" {
        return Err("the value is wrong".to_owned());
    }
    let entry = entry_of(cache.path())?;
    let text = std::fs::read_to_string(&entry).map_err(|e| e.to_string())?;
    let (_, text) = text.split_once('\n').ok_or("the entry has no hash")?;
    let other = text.replace("asked anew", "remembered");
    let hash = rednix_store::hash::Hash::sha256(other.as_bytes()).to_nix32();
    std::fs::write(&entry, format!("{hash}\n{other}")).map_err(|e| e.to_string())?;
    if value(&[])? != "remembered" {
        return Err("what is remembered was not used".to_owned());
    }
    if value(&["--no-eval-cache"])? != "asked anew" {
        return Err("`--no-eval-cache` used what is remembered".to_owned());
    }
    std::fs::write(&entry, format!("{hash}\n{other} ")).map_err(|e| e.to_string())?;
    if value(&[])? != "asked anew" {
        return Err("a damaged entry was used".to_owned());
    }
    Ok(None)
}

fn the_time_is_never_remembered() -> Outcome {
    let (cache, store) = (scratch(), scratch());
    let expression = "let name = \"current\" + \"Time\"; in builtins.${name} > 0";
    run(&mut eval(cache.path(), store.path(), &["--expr", expression])).expect(0, &[])?;
    match entry_of(cache.path()) {
        Err(_) => Ok(None),
        Ok(_) => Err("an evaluation that used the time was remembered".to_owned()),
    }
}

fn parallel_evaluation_is_deterministic() -> Outcome {
    let store = scratch();
    let tree = tree_with("[build]\ntemplate = \"custom\"\nscript = \"true\"\n");
    for name in ["two", "three", "four"] {
        let script = format!("[build]\ntemplate = \"custom\"\nscript = \"echo {name}\"\n");
        write(&tree.path().join(format!("recipes/{name}/recipe.toml")), &script);
    }
    let built = |jobs: &str, names: &[&str]| {
        let arguments = ["--no-eval-cache", "--eval-jobs", jobs, "build", "--dry-run", "--tree"];
        run(call(&arguments).arg(tree.path()).args(names).env("REDNIX_STORE", store.path()))
    };
    let names = ["three", "one", "host:two", "four", "two"];
    let (alone, together) = (built("1", &names), built("4", &names));
    alone.expect(0, &[])?;
    together.expect(0, &[])?;
    if alone.stdout != together.stdout || alone.stdout.lines().count() != names.len() {
        return Err(format!("one evaluator: {}several: {}", alone.stdout, together.stdout));
    }
    for _ in 0..3 {
        let failing = built("4", &["one", "absent-a", "two", "absent-b"]);
        failing.expect(2, &["absent-a"])?;
        if failing.stderr.contains("absent-b") {
            return Err(format!("another error than the first: {}", failing.stderr));
        }
    }
    Ok(None)
}
