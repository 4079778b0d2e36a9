//! What is built again when something changes, and where that stops. Every tree here carries the process's number, so
//! that no earlier run has built it already.

use std::path::Path;
use std::process::id;

use crate::Outcome;
use crate::recipes::{build, tree};
use crate::support::{Run, call, checkout, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 3] = [
    ("change_in_a_source_goes_as_far_as_it_has_effect", source),
    ("change_in_a_patch_goes_as_far_as_it_has_effect", patch),
    ("change_in_the_prelude_builds_everything_again", prelude),
];

/// Which of the names were built in a run, by the lines it printed.
fn built(run: &Run, wanted: &[&str], unwanted: &[&str]) -> Result<(), String> {
    let line = |name: &str| run.stderr.lines().any(|line| line.starts_with(&format!("built {name} (")));
    if let Some(name) = wanted.iter().find(|name| !line(name)) {
        return Err(format!("`{name}` was not built:\n{}", run.stderr));
    }
    match unwanted.iter().find(|name| line(name)) {
        Some(name) => Err(format!("`{name}` was built:\n{}", run.stderr)),
        None => Ok(()),
    }
}

/// A library that keeps its source's lines without the comments, and what uses it.
fn library_and_user(source: &str) -> tempfile::TempDir {
    tree(&[
        ("recipes/lib/files/text", &format!("# a comment\ntext {}\n", id())),
        (
            "recipes/lib/recipe.toml",
            &format!(
                "[source]\npath = \"files\"\n{source}[build]\ntemplate = \"custom\"\nscript = \"grep -v '^#' ${{COOKBOOK_SOURCE}}/text > ${{COOKBOOK_STAGE}}/text\"\n"
            ),
        ),
        (
            "recipes/user/recipe.toml",
            "[build]\ntemplate = \"custom\"\ndependencies = [\"lib\"]\nscript = \"cp ${COOKBOOK_SYSROOT}/text ${COOKBOOK_STAGE}/used\"\n",
        ),
    ])
}

fn source() -> Outcome {
    let tree = library_and_user("");
    let text = tree.path().join("recipes/lib/files/text");
    let (first, _) = build(tree.path(), &["user"])?;
    built(&first, &["lib", "user"], &[])?;
    write(&text, &format!("# another comment\ntext {}\n", id()));
    let (comment, _) = build(tree.path(), &["user"])?;
    built(&comment, &["lib"], &["user"])?;
    write(&text, &format!("# another comment\nchanged {}\n", id()));
    let (line, paths) = build(tree.path(), &["user"])?;
    built(&line, &["lib", "user"], &[])?;
    crate::recipes::equal(
        &crate::recipes::contents(&paths[0].join("used"))?,
        &format!("changed {}\n", id()),
    )?;
    Ok(None)
}

/// Preparing the source is a step of its own: a remark in a patch ends there, another comment in the patched file
/// ends at the library.
fn patch() -> Outcome {
    let tree = library_and_user("patches = [\"change.patch\"]\n");
    let patch = |remark: &str, comment: &str, line: &str| {
        let text = format!(
            "{remark}\n--- a/text\n+++ b/text\n@@ -1,2 +1,2 @@\n-# a comment\n-text {number}\n+# {comment}\n+{line} {number}\n",
            number = id()
        );
        write(&tree.path().join("recipes/lib/change.patch"), &text);
        build(tree.path(), &["user"]).map(|(run, _)| run)
    };
    built(&patch("First.", "a comment", "patched")?, &["lib-prepared", "lib", "user"], &[])?;
    built(&patch("A remark.", "a comment", "patched")?, &["lib-prepared"], &["lib", "user"])?;
    built(&patch("A remark.", "another", "patched")?, &["lib-prepared", "lib"], &["user"])?;
    built(&patch("A remark.", "another", "patched anew")?, &["lib-prepared", "lib", "user"], &[])?;
    let wrong = tree.path().join("recipes/lib/files/text");
    write(&wrong, "something else\n");
    run(call(&["build", "user", "--no-link", "--tree"]).arg(tree.path()))
        .expect(1, &["change.patch does not apply to this source"])?;
    Ok(None)
}

/// A copy of the library with another prelude cooks every recipe again, and what it changes is there.
fn prelude() -> Outcome {
    let tree = tree(&[(
        "recipes/one/recipe.toml",
        &format!(
            "[build]\ntemplate = \"custom\"\nscript = \"echo {} ${{ADDED-nothing}} > ${{COOKBOOK_STAGE}}/said\"\n",
            id()
        ),
    )]);
    let library = scratch();
    let copy = std::process::Command::new("cp")
        .arg("-r")
        .arg(checkout().join("nix"))
        .arg(library.path().join("nix"))
        .status()
        .map_err(|e| format!("cp: {e}"))?;
    if !copy.success() {
        return Err("the library cannot be copied".to_owned());
    }
    let cook = |tree: &Path| {
        let expression = format!(
            "(import {}/nix {{ tree = {}; }}).packages.one",
            library.path().display(),
            tree.display()
        );
        let result = run(&mut call(&["build", "--no-link", "-E", &expression]));
        result.expect(0, &[])?;
        Ok::<Run, String>(result)
    };
    let first = cook(tree.path())?;
    built(&first, &["one"], &[])?;
    built(&cook(tree.path())?, &[], &["one"])?;
    let prelude = library.path().join("nix/builder/prelude.sh");
    let text = std::fs::read_to_string(&prelude).map_err(|e| format!("{}: {e}", prelude.display()))?;
    write(&prelude, &format!("{text}ADDED=something\n"));
    let changed = cook(tree.path())?;
    built(&changed, &["one"], &[])?;
    let said = crate::recipes::contents(&Path::new(changed.stdout.trim()).join("said"))?;
    crate::recipes::equal(&said, &format!("{} something\n", id()))?;
    Ok(None)
}
