//! Small trees written for the purpose: what recipes may say about their source and their packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::support::{Run, call, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 7] = [
    ("recipe_sees_its_dependencies", recipe_sees_its_dependencies),
    ("recipe_with_patch_and_source_script", recipe_with_patch_and_source_script),
    ("recipe_with_optional_packages", recipe_with_optional_packages),
    ("recipe_shares_a_source", recipe_shares_a_source),
    ("recipe_from_git_is_locked_and_built", recipe_from_git_is_locked_and_built),
    ("cargo_recipe_of_a_folder_with_several_packages", cargo_recipe_of_several),
    ("recipe_nobody_wrote_builds_the_tree_s_own_crate", own_crate),
];

const BASE: &str = "\n[rednix]\nroot = \"base\"\n";

/// A tree from `(file below it, contents)`; recipes get the smallest root.
pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let tree = scratch();
    for (path, text) in files {
        let text = if path.ends_with("recipe.toml") { format!("{text}{BASE}") } else { (*text).to_owned() };
        write(&tree.path().join(path), &text);
    }
    tree
}

pub fn build(tree: &Path, names: &[&str]) -> Result<(Run, Vec<PathBuf>), String> {
    let result = run(call(&["build", "--no-link"]).args(names).arg("--tree").arg(tree));
    result.expect(0, &[])?;
    let paths = result.stdout.lines().map(PathBuf::from).collect();
    Ok((result, paths))
}

pub fn contents(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))
}

pub fn equal(got: &str, wanted: &str) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?}, wanted {wanted:?}")) }
}

const LIBRARY: &str = "[build]\ntemplate = \"custom\"\nscript = \"\"\"\nmkdir -p ${COOKBOOK_STAGE}/usr/lib\necho library > ${COOKBOOK_STAGE}/usr/lib/one\n\"\"\"\n";

/// Build dependencies of dependencies are there, their dev-dependencies are not.
fn recipe_sees_its_dependencies() -> Outcome {
    let tree = tree(&[
        ("recipes/libs/one/recipe.toml", LIBRARY),
        ("recipes/libs/tool/recipe.toml", &LIBRARY.replace("usr/lib/one", "usr/lib/tool")),
        (
            "recipes/libs/two/recipe.toml",
            "[build]\ntemplate = \"custom\"\ndependencies = [\"one\"]\ndev-dependencies = [\"tool\"]\nscript = \"\"\"\nls ${COOKBOOK_SYSROOT}/lib > list\nmkdir -p ${COOKBOOK_STAGE}/usr/lib\ncp list ${COOKBOOK_STAGE}/usr/lib/two\n\"\"\"\n",
        ),
        (
            "recipes/top/recipe.toml",
            "[build]\ntemplate = \"custom\"\ndependencies = [\"two\"]\nscript = \"ls ${COOKBOOK_SYSROOT}/lib > ${COOKBOOK_STAGE}/list\"\n",
        ),
    ]);
    let (_, paths) = build(tree.path(), &["two", "top"])?;
    equal(&contents(&paths[0].join("usr/lib/two"))?, "one\ntool\n")?;
    equal(&contents(&paths[1].join("list"))?, "one\ntwo\n")?;
    Ok(None)
}

fn recipe_with_patch_and_source_script() -> Outcome {
    let tree = tree(&[
        ("recipes/p/files/hello", "good morning\n"),
        ("recipes/p/change.patch", "--- a/hello\n+++ b/hello\n@@ -1 +1 @@\n-good morning\n+good evening\n"),
        (
            "recipes/p/recipe.toml",
            "[source]\npath = \"files\"\npatches = [\"change.patch\"]\nscript = \"echo scripted >> hello\"\n[build]\ntemplate = \"custom\"\nscript = \"cp ${COOKBOOK_SOURCE}/hello ${COOKBOOK_STAGE}\"\n",
        ),
    ]);
    let (_, paths) = build(tree.path(), &["p"])?;
    equal(&contents(&paths[0].join("hello"))?, "good evening\nscripted\n")?;
    Ok(None)
}

fn recipe_with_optional_packages() -> Outcome {
    let tree = tree(&[(
        "recipes/o/recipe.toml",
        "[build]\ntemplate = \"custom\"\nscript = \"\"\"\nmkdir -p ${COOKBOOK_STAGE}/usr/include/deep ${COOKBOOK_STAGE}/usr/bin\necho h > ${COOKBOOK_STAGE}/usr/include/deep/h\necho b > ${COOKBOOK_STAGE}/usr/bin/b\n\"\"\"\n[[optional-packages]]\nname = \"dev\"\nfiles = [\"usr/include/**\"]\n",
    )]);
    let (_, paths) = build(tree.path(), &["o", "o.dev"])?;
    if paths[0].join("usr/include/deep/h").exists() || !paths[0].join("usr/bin/b").exists() {
        return Err("the main package has the wrong files".to_owned());
    }
    equal(&contents(&paths[1].join("usr/include/deep/h"))?, "h\n")?;
    Ok(None)
}

fn recipe_shares_a_source() -> Outcome {
    let tree = tree(&[
        ("recipes/owner/files/text", "shared\n"),
        (
            "recipes/owner/recipe.toml",
            "[source]\npath = \"files\"\n[build]\ntemplate = \"custom\"\nscript = \"\"\n",
        ),
        (
            "recipes/guest/recipe.toml",
            "[source]\nsame_as = \"../owner\"\n[build]\ntemplate = \"custom\"\nscript = \"cp ${COOKBOOK_SOURCE}/text ${COOKBOOK_STAGE}\"\n",
        ),
    ]);
    let (_, paths) = build(tree.path(), &["guest"])?;
    equal(&contents(&paths[0].join("text"))?, "shared\n")?;
    Ok(None)
}

pub fn git(folder: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.invalid",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(folder)
        .output()
        .map_err(|e| format!("git: {e}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A floating source is refused until it is locked; a later commit changes nothing until the pin is renewed.
fn recipe_from_git_is_locked_and_built() -> Outcome {
    let repository = scratch();
    write(&repository.path().join("text"), "first\n");
    git(repository.path(), &["init", "--quiet"])?;
    git(repository.path(), &["add", "."])?;
    git(repository.path(), &["commit", "--quiet", "-m", "first"])?;
    let recipe = format!(
        "[source]\ngit = \"file://{}\"\n[build]\ntemplate = \"custom\"\nscript = \"cp ${{COOKBOOK_SOURCE}}/text ${{COOKBOOK_STAGE}}\"\n",
        repository.path().display()
    );
    let tree = tree(&[("recipes/g/recipe.toml", recipe.as_str())]);
    let lock = tree.path().join("rednix.lock");
    run(call(&["build", "g", "--no-link", "--tree"]).arg(tree.path()))
        .expect(2, &["`g` is not pinned", "rednix lock"])?;
    run(call(&["lock", "g", "--tree"]).arg(tree.path()).arg("--output").arg(&lock)).expect(0, &[])?;
    let (_, paths) = build(tree.path(), &["g"])?;
    equal(&contents(&paths[0].join("text"))?, "first\n")?;
    write(&repository.path().join("text"), "second\n");
    git(repository.path(), &["commit", "--quiet", "-am", "second"])?;
    run(call(&["lock", "g", "--tree"]).arg(tree.path()).arg("--output").arg(&lock)).expect(0, &[])?;
    let (_, paths) = build(tree.path(), &["g"])?;
    equal(&contents(&paths[0].join("text"))?, "first\n")?;
    run(call(&["update", "g", "--tree"]).arg(tree.path()).arg("--output").arg(&lock)).expect(0, &[])?;
    let (_, paths) = build(tree.path(), &["g"])?;
    equal(&contents(&paths[0].join("text"))?, "second\n")?;
    Ok(None)
}

/// Of a folder with several packages only the named one and what it reaches by path is the source.
fn cargo_recipe_of_several() -> Outcome {
    let manifest = |name: &str, rest: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{rest}")
    };
    let tree = tree(&[
        (
            "recipes/c/code/app/Cargo.toml",
            &manifest("app", "[dependencies]\nshared = { path = \"../shared\" }\n"),
        ),
        ("recipes/c/code/shared/Cargo.toml", &manifest("shared", "")),
        ("recipes/c/code/other/Cargo.toml", &manifest("other", "")),
        (
            "recipes/c/recipe.toml",
            "[source]\npath = \"code\"\n[build]\ntemplate = \"custom\"\ncargopath = \"app\"\nscript = \"ls ${COOKBOOK_SOURCE} > ${COOKBOOK_STAGE}/list\"\n",
        ),
    ]);
    let (_, paths) = build(tree.path(), &["c"])?;
    equal(&contents(&paths[0].join("list"))?, "app\nshared\n")?;
    Ok(None)
}

/// A crate at the tree's root is a host tool of its own name, its unit tests run and counted; the recipes below it are no
/// part of its source.
fn own_crate() -> Outcome {
    let tree = tree(&[
        ("Cargo.toml", "[package]\nname = \"own\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        ("Cargo.lock", "version = 4\n\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n"),
        (
            "src/main.rs",
            "fn main() {\n    println!(\"own\");\n}\n\n#[test]\nfn adds() {\n    assert_eq!(1 + 1, 2);\n}\n",
        ),
        ("recipes/x/recipe.toml", "[build]\ntemplate = \"custom\"\nscript = \"\"\n"),
    ]);
    let (_, paths) = build(tree.path(), &["host:own"])?;
    equal(
        &contents(&paths[0].join("usr/share/rednix/tests/own"))?,
        "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
    )?;
    if !paths[0].join("usr/bin/own").exists() {
        return Err("the crate's program is not there".to_owned());
    }
    write(&tree.path().join("recipes/x/notes"), "new\n");
    let (again, after) = build(tree.path(), &["host:own"])?;
    if again.stderr.contains("built host-own") || paths != after {
        return Err(format!("a recipe's folder is part of the crate's source:\n{}", again.stderr));
    }
    Ok(None)
}
