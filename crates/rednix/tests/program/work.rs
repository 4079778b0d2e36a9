//! The edit loop: a source in a folder to work in, built incrementally, and back again.

use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::recipes::{build, contents, tree};
use crate::support::{Run, call, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 4] = [
    ("work_builds_what_changed", builds_what_changed),
    ("work_diff_is_a_patch_for_the_recipe", diff_is_a_patch),
    ("work_in_a_folder_of_ones_own", existing),
    ("work_refuses_what_it_cannot_do", refusals),
];

/// Like make: a file is compiled when it is newer than what was made of it, or when the library's file is.
const LIKE_MAKE: &str = "[source]\npath = \"files\"\npatches = [\"one.patch\"]\nscript = \"echo scripted > made.c\"\n[build]\ntemplate = \"custom\"\ndependencies = [\"lib\"]\nscript = \"\"\"\nfor f in ${COOKBOOK_SOURCE}/*.c; do\n    o=$(basename $f).o\n    if [ ! -e $o ] || [ $f -nt $o ] || [ ${COOKBOOK_SYSROOT}/lib/x -nt $o ]; then\n        cat $f > $o\n        echo $(basename $f) >> compiled\n    fi\ndone\ncat *.o ${COOKBOOK_SYSROOT}/lib/x > ${COOKBOOK_STAGE}/all\ncp compiled ${COOKBOOK_STAGE}/compiled\n\"\"\"\n";

/// A tree whose recipe `w` is worked on, with a library it uses and a user of it; and the user's state.
struct Work {
    tree: tempfile::TempDir,
    state: tempfile::TempDir,
}

impl Work {
    fn new(name: &str) -> Work {
        let unique = format!("{name} {:?}\n", std::time::SystemTime::now());
        let library = |text: &str| {
            format!(
                "[build]\ntemplate = \"custom\"\nscript = \"mkdir -p ${{COOKBOOK_STAGE}}/usr/lib; echo {text} > ${{COOKBOOK_STAGE}}/usr/lib/x\"\n"
            )
        };
        let tree = tree(&[
            ("recipes/lib/recipe.toml", &library("one")),
            ("recipes/w/files/a.c", &unique),
            ("recipes/w/files/b.c", "before\n"),
            ("recipes/w/files/tools/run", "#!/bin/sh\n"),
            ("recipes/w/one.patch", "--- a/b.c\n+++ b/b.c\n@@ -1 +1 @@\n-before\n+patched\n"),
            ("recipes/w/recipe.toml", LIKE_MAKE),
            (
                "recipes/user/recipe.toml",
                "[build]\ntemplate = \"custom\"\ndependencies = [\"w\"]\nscript = \"mkdir -p ${COOKBOOK_STAGE}; ls ${COOKBOOK_SYSROOT} > ${COOKBOOK_STAGE}/list\"\n",
            ),
        ]);
        Work { tree, state: scratch() }
    }

    fn folder(&self) -> PathBuf {
        self.state.path().join("copy")
    }

    fn call(&self, arguments: &[&str]) -> Run {
        let mut command = call(arguments);
        run(command.arg("--tree").arg(self.tree.path()).env("XDG_STATE_HOME", self.state.path()))
    }

    fn begin(&self) -> Result<(), String> {
        let folder = self.folder();
        let run = self.call(&["work", "w", "--dir", folder.to_str().unwrap_or_default()]);
        run.expect(0, &[])?;
        if run.stdout.trim() != folder.to_string_lossy() {
            return Err(format!("the folder is told on standard output, not `{}`", run.stdout));
        }
        Ok(())
    }

    /// Builds `w`, and tells what was compiled since the build folder was new.
    fn build(&self) -> Result<(Run, PathBuf, String), String> {
        let run = self.call(&["build", "--no-link", "w"]);
        run.expect(0, &["`w` comes from the working copy"])?;
        let path = PathBuf::from(run.stdout.trim());
        let compiled = contents(&path.join("compiled"))?.replace('\n', " ");
        Ok((run, path, compiled))
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Result<(), String> {
    if got == wanted { Ok(()) } else { Err(format!("got {got:?}, wanted {wanted:?}")) }
}

fn builds_what_changed() -> Outcome {
    let work = Work::new("loop");
    let (_, pure) = build(work.tree.path(), &["w"])?;
    work.begin()?;
    equal(contents(&work.folder().join("b.c"))?.as_str(), "patched\n")?;
    equal(contents(&work.folder().join("made.c"))?.as_str(), "scripted\n")?;
    let (first, path, compiled) = work.build()?;
    equal(compiled.as_str(), "a.c b.c made.c ")?;
    first.expect(0, &["`w` is built from nothing"])?;
    equal(contents(&path.join("all"))?, contents(&pure[0].join("all"))?)?;

    // Nothing changed: nothing is done, whatever the times say.
    let file =
        std::fs::File::options().write(true).open(work.folder().join("a.c")).map_err(|e| e.to_string())?;
    file.set_modified(std::time::SystemTime::now()).map_err(|e| e.to_string())?;
    let (second, same, _) = work.build()?;
    equal(&same, &path)?;
    if second.stderr.lines().any(|line| line.starts_with("built ")) || second.stderr.contains("from nothing")
    {
        return Err(format!("something was built for an unchanged copy:\n{}", second.stderr));
    }

    write(&work.folder().join("b.c"), "edited\n");
    let why = work.call(&["why-rebuild", "w"]);
    why.expect(0, &[])?;
    if !why.stdout.contains("w would be built anew") || !why.stdout.contains("the working copy changed") {
        return Err(format!("why-rebuild tells of the copy:\n{}", why.stdout));
    }
    let (third, path, compiled) = work.build()?;
    equal(compiled.as_str(), "a.c b.c made.c b.c ")?;
    if third.stderr.contains("from nothing") || !contents(&path.join("all"))?.contains("edited\n") {
        return Err(format!("the edit is to be built on what is there:\n{}", third.stderr));
    }
    // What depends on it follows.
    let user = work.call(&["build", "--no-link", "user"]);
    user.expect(0, &["built user"])?;

    // A changed library is seen by those that use it, an unchanged one is not.
    let library = work.tree.path().join("recipes/lib/recipe.toml");
    write(&library, &contents(&library)?.replace("echo one", "echo two"));
    let (_, path, compiled) = work.build()?;
    equal(compiled.as_str(), "a.c b.c made.c b.c a.c b.c made.c ")?;
    if !contents(&path.join("all"))?.ends_with("two\n") {
        return Err("the library's new file is to be used".to_owned());
    }

    work.call(&["work", "--clean", "w"]).expect(0, &["your folder stays"])?;
    let (_, _, compiled) = work.build()?;
    equal(compiled.as_str(), "a.c b.c made.c ")?;

    write(&library, &contents(&library)?.replace("echo two", "echo one"));
    work.call(&["work", "--done", "w"]).expect(0, &["is built from its own source again"])?;
    let after = work.call(&["build", "--no-link", "w"]);
    after.expect(0, &[])?;
    equal(Path::new(after.stdout.trim()), pure[0].as_path())?;
    if after.stderr.contains("working copy") || !work.folder().join("b.c").is_file() {
        return Err("the copy is not used any more, and stays".to_owned());
    }
    equal(work.folder().with_extension("build").exists(), false)?;
    Ok(None)
}

/// Changed, new and deleted files; put into the recipe the patch gives the same.
fn diff_is_a_patch() -> Outcome {
    let work = Work::new("diff");
    work.begin()?;
    equal(work.call(&["work", "--diff", "w"]).stdout.as_str(), "")?;
    write(&work.folder().join("b.c"), "patched\nand edited\n");
    write(&work.folder().join("sub/new.c"), "new\n");
    std::fs::remove_file(work.folder().join("tools/run")).map_err(|e| e.to_string())?;
    let listed = work.call(&["work"]);
    listed.expect(0, &[])?;
    equal(listed.stdout.as_str(), &format!("w  {}  3 files changed\n", work.folder().display()))?;
    let patch = work.call(&["work", "--diff", "w"]);
    patch.expect(0, &[])?;
    work.call(&["work", "--done", "w"]).expect(0, &[])?;

    write(&work.tree.path().join("recipes/w/two.patch"), &patch.stdout);
    let recipe = work.tree.path().join("recipes/w/recipe.toml");
    let text = contents(&recipe)?.replace("[\"one.patch\"]", "[\"one.patch\", \"two.patch\"]");
    // The source's own script runs after the patches.
    write(&recipe, &text.replace("cat *.o", "cp -r ${COOKBOOK_SOURCE} ${COOKBOOK_STAGE}/source\ncat *.o"));
    let (_, paths) = build(work.tree.path(), &["w"])?;
    equal(contents(&paths[0].join("source/b.c"))?.as_str(), "patched\nand edited\n")?;
    equal(contents(&paths[0].join("source/sub/new.c"))?.as_str(), "new\n")?;
    equal(paths[0].join("source/tools/run").exists(), false)?;
    equal(work.call(&["work"]).stdout.as_str(), "no working copies of this tree's recipes\n")?;
    Ok(None)
}

fn existing() -> Outcome {
    let work = Work::new("existing");
    write(&work.folder().join("own.c"), "own\n");
    let folder = work.folder();
    let folder = folder.to_str().unwrap_or_default();
    work.call(&["work", "w", "--dir", folder]).expect(2, &["is not empty", "--existing"])?;
    work.call(&["work", "w", "--dir", folder, "--existing"]).expect(0, &[])?;
    let (_, _, compiled) = work.build()?;
    equal(compiled.as_str(), "own.c ")?;
    work.call(&["work", "--diff", "w"]).expect(2, &["was there before"])?;
    // What the command line says goes before it.
    let other = scratch();
    write(&other.path().join("other.c"), "other\n");
    let instead =
        work.call(&["build", "--no-link", "w", "--override", &format!("w={}", other.path().display())]);
    instead.expect(0, &[])?;
    equal(contents(&Path::new(instead.stdout.trim()).join("compiled"))?.as_str(), "other.c\n")?;
    Ok(None)
}

fn refusals() -> Outcome {
    let work = Work::new("refusals");
    work.call(&["work", "nothing"]).expect(2, &["no recipe is named `nothing`"])?;
    work.call(&["work", "lib"]).expect(2, &["recipe `lib` has no source to work on"])?;
    equal(crate::support::checkout().join("work/lib").exists(), false)?;
    work.call(&["work", "--done", "w"]).expect(2, &["there is no working copy of `w`"])?;
    work.begin()?;
    let folder = work.state.path().join("second");
    work.call(&["work", "w", "--dir", folder.to_str().unwrap_or_default()])
        .expect(2, &["worked on already"])?;
    std::fs::remove_dir_all(work.folder()).map_err(|e| e.to_string())?;
    work.call(&["build", "user"]).expect(2, &["is gone", "rednix work --done w"])?;
    work.call(&["work", "--done", "w"]).expect(0, &[])?;
    Ok(None)
}
