//! What rednix says about what it built: second builds, chains, differences, reasons, timelines.

use std::path::Path;

use crate::Outcome;
use crate::recipes::{build, tree};
use crate::support::{Run, call, run, write};

pub const TESTS: [(&str, fn() -> Outcome); 6] = [
    ("second_build_is_compared", second_build),
    ("why_tells_chains", why),
    ("why_rebuild_tells_the_changed_line", why_rebuild),
    ("diff_tells_packages_and_files", diff),
    ("trace_is_a_timeline", trace),
    ("system_is_reported_like_a_package", system),
];

/// A call about a tree that must end with this status.
fn about(tree: &Path, status: i32, arguments: &[&str]) -> Result<Run, String> {
    let result = run(call(arguments).arg("--tree").arg(tree));
    result.expect(status, &[])?;
    Ok(result)
}

fn has(text: &str, wanted: &[&str]) -> Result<(), String> {
    match wanted.iter().find(|line| !text.contains(**line)) {
        None => Ok(()),
        Some(line) => Err(format!("there is no `{line}` in:\n{text}")),
    }
}

fn custom(rest: &str, script: &str) -> String {
    format!("{rest}[build]\ntemplate = \"custom\"\nscript = \"\"\"\n{script}\n\"\"\"\n")
}

fn second_build() -> Outcome {
    let noise = custom(
        "",
        "mkdir -p ${COOKBOOK_STAGE}/usr/lib; head -c 40 /dev/urandom > ${COOKBOOK_STAGE}/usr/lib/noise; echo s > ${COOKBOOK_STAGE}/steady",
    );
    let tree = tree(&[
        ("recipes/noise/recipe.toml", noise.as_str()),
        ("recipes/steady/recipe.toml", custom("", "echo 1 > ${COOKBOOK_STAGE}/one").as_str()),
    ]);
    let (_, first) = build(tree.path(), &["noise"])?;
    let result = about(tree.path(), 0, &["build", "--rebuild", "steady"])?;
    has(&result.stdout, &["identical steady (1 entry)"])?;
    let result = about(tree.path(), 1, &["build", "--rebuild", "--keep", "steady", "noise"])?;
    has(
        &result.stdout,
        &["identical steady", "differs   noise: 1 difference", "  usr/lib/noise: byte 0x", "  second: "],
    )?;
    has(&result.stderr, &["1 of 2 were not the same the second time"])?;
    let second = result.stdout.lines().find_map(|line| line.strip_prefix("  second: ")).unwrap_or_default();
    let second = Path::new(second.trim_end_matches(" (until `rednix gc`)"));
    if !second.join("usr/lib/noise").is_file() {
        return Err(format!("`{}` was to be kept", second.display()));
    }
    let (_, again) = build(tree.path(), &["noise"])?;
    if first != again {
        return Err("the second build took the first one's place".to_owned());
    }
    Ok(None)
}

/// `lib` is used by `middle`, which `top` is built with; `top` installs a file that names another one.
fn three(text: &str) -> tempfile::TempDir {
    tree(&[
        ("recipes/lib/files/text", text),
        (
            "recipes/lib/recipe.toml",
            custom("[source]\npath = \"files\"\n", "cp ${COOKBOOK_SOURCE}/text ${COOKBOOK_STAGE}/").as_str(),
        ),
        (
            "recipes/middle/recipe.toml",
            &custom("", "echo m > ${COOKBOOK_STAGE}/m")
                .replace("script =", "dependencies = [\"lib\"]\nscript ="),
        ),
        (
            "recipes/top/recipe.toml",
            &custom("", "cat ${COOKBOOK_SYSROOT}/.tags/middle > ${COOKBOOK_STAGE}/names; echo 1 > ${COOKBOOK_STAGE}/old")
                .replace("script =", "dependencies = [\"middle\"]\nscript ="),
        ),
        ("recipes/alone/recipe.toml", &custom("", "echo a > ${COOKBOOK_STAGE}/a")),
    ])
}

fn why() -> Outcome {
    let tree = three("why\n");
    let result = about(tree.path(), 0, &["why", "middle", "lib"])?;
    has(&result.stdout, &["middle\n└─ lib  (cookbookSysroot)\n"])?;
    let result = about(tree.path(), 0, &["why", "--all", "top", "lib"])?;
    has(&result.stdout, &["top\n└─ lib  (cookbookSysroot)\n"])?;
    let result = about(tree.path(), 0, &["why", "lib", "deb-bash"])?;
    has(&result.stdout, &["lib\n└─ deb-bash  (rednixRoot)\n"])?;
    let result = about(tree.path(), 0, &["why", "middle", "source"])?;
    has(&result.stdout, &["middle\n└─ lib  (cookbookSysroot)\n   └─ source  (cookbookSource)\n"])?;
    let result = about(tree.path(), 1, &["why", "lib", "alone"])?;
    has(&result.stderr, &["`lib` does not need `alone`"])?;
    let result = about(tree.path(), 2, &["why", "lib", "nothing-of-that-name"])?;
    has(&result.stderr, &["nothing-of-that-name"])?;

    write(
        &tree.path().join("recipes/lib/files/text"),
        &format!("never built {:?}\n", std::time::SystemTime::now()),
    );
    let result = about(tree.path(), 1, &["why", "--size", "lib"])?;
    has(&result.stderr, &["`lib` is not built", "rednix build lib"])?;
    build(tree.path(), &["top", "lib"])?;
    let result = about(tree.path(), 0, &["why", "--runtime", "top", "middle"])?;
    has(&result.stdout, &["-top\n└─ /nix/store/", "-middle  (names)\n"])?;
    about(tree.path(), 1, &["why", "--runtime", "lib", "top"])?;
    let result = about(tree.path(), 0, &["why", "--size", "top"])?;
    has(&result.stdout, &["-middle\n", "-top\n", "  together\n"])?;
    Ok(None)
}

fn why_rebuild() -> Outcome {
    let unique = format!("first\nsecond {}\nthird\n", std::process::id());
    let tree = three(&unique);
    let told =
        |wanted: &[&str]| about(tree.path(), 0, &["why-rebuild", "top"]).and_then(|r| has(&r.stdout, wanted));
    told(&["top was not built from this tree yet"])?;
    build(tree.path(), &["top"])?;
    told(&["nothing: top is what was built last"])?;

    let source = tree.path().join("recipes/lib/files/text");
    write(&source, &unique.replace("third", "fourth"));
    told(&[
        "top would be built anew",
        "top ← lib:\n",
        "cookbookSource changed (source)",
        "text changed",
        "-third",
        "+fourth",
    ])?;
    build(tree.path(), &["top"])?;
    told(&["is what was built last; it differs from the time before", "-third", "+fourth"])?;

    let recipe = tree.path().join("recipes/middle/recipe.toml");
    let text = std::fs::read_to_string(&recipe).map_err(|e| e.to_string())?;
    write(&recipe, &text.replace("echo m", "echo much"));
    told(&["top ← middle:\n", "`cookbookScript` changed", "-echo m >", "+echo much >"])?;
    write(&recipe, &text.replace("[\"lib\"]", "[\"lib\", \"alone\"]"));
    told(&["it now needs alone"])?;
    // What was not named itself is found in what was.
    let result = about(tree.path(), 0, &["why-rebuild", "middle"])?;
    has(&result.stdout, &["middle would be built anew", "it now needs alone"])?;
    Ok(None)
}

fn diff() -> Outcome {
    let unique = format!("diff {}\n", std::process::id());
    let tree = three(&unique);
    let (_, old) = build(tree.path(), &["top"])?;
    write(&tree.path().join("recipes/lib/files/text"), &format!("{unique}more\n"));
    let result = about(tree.path(), 0, &["diff", "last:top", "top"])?;
    has(
        &result.stdout,
        &["packages: 0 added, 0 removed, 3 changed, 0 the same", "~ lib  ", " → not built", "not compared"],
    )?;
    let recipe = tree.path().join("recipes/top/recipe.toml");
    let text = std::fs::read_to_string(&recipe).map_err(|e| e.to_string())?;
    write(&recipe, &text.replace("echo 1 > ${COOKBOOK_STAGE}/old", "echo 22 > ${COOKBOOK_STAGE}/new"));
    let (_, new) = build(tree.path(), &["top"])?;
    let paths: Vec<&str> = [&old[0], &new[0]].into_iter().filter_map(|path| path.to_str()).collect();
    let result = about(tree.path(), 0, &["diff", paths[0], paths[1]])?;
    has(&result.stdout, &["files: 1 added, 1 removed, 0 changed\n", "+ new  3 B", "- old  2 B", "~ top  "])?;
    // `middle` was built again and came out the same: to its users nothing changed.
    if result.stdout.contains("middle") {
        return Err(format!("`middle` did not change:\n{}", result.stdout));
    }
    let result = about(tree.path(), 0, &["diff", paths[0], "alone"])?;
    has(&result.stdout, &["packages: 1 added, 3 removed"])?;
    Ok(None)
}

fn trace() -> Outcome {
    let unique = custom("", &format!("echo {} > ${{COOKBOOK_STAGE}}/traced", std::process::id()));
    let tree = tree(&[("recipes/traced/recipe.toml", unique.as_str())]);
    let file = tree.path().join("trace.json");
    let file_name = file.to_str().ok_or("the temporary folder's name is odd")?;
    about(tree.path(), 0, &["build", "--no-link", "traced", "--trace", file_name])?;
    let text = std::fs::read(&file).map_err(|e| e.to_string())?;
    let trace: Vec<serde_json::Value> = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    for (category, name) in [("evaluation", "evaluate traced"), ("build", "traced"), ("phase", "run")] {
        let begins = |e: &&serde_json::Value| e["ph"] == "B" && e["cat"] == category && e["name"] == name;
        if trace.iter().filter(begins).count() != 1 {
            return Err(format!("no `{name}` of `{category}` in {}", String::from_utf8_lossy(&text)));
        }
    }
    let count = |phase: &str| trace.iter().filter(|e| e["ph"] == phase).count();
    if count("B") != count("E") {
        return Err("not all that begins ends".to_owned());
    }
    run(call(&["build", "x", "--trace", "/no/such/folder/t.json"]).arg("--tree").arg(tree.path()))
        .expect(2, &["cannot write the trace"])?;
    Ok(None)
}

fn system() -> Outcome {
    run(&mut call(&["image", "probe"])).expect(0, &[])?;
    let result = run(&mut call(&["why", "system:probe", "loader"]));
    has(&result.expect(0, &[])?.stdout, &["probe-image\n└─ loader  (", "packages"])?;
    let result = run(&mut call(&["why", "--size", "system:probe"]));
    has(&result.expect(0, &[])?.stdout, &["probe-image (the image, holes included)", "loader", "all parts"])?;
    let result = run(&mut call(&["diff", "last:system:probe", "system:probe"]));
    has(
        &result.expect(0, &[])?.stdout,
        &["packages: 0 added, 0 removed, 0 changed", "files: 0 added, 0 removed, 0 changed"],
    )?;
    Ok(None)
}
