//! The tree in `tests/trees/templates`: a recipe for every template and every key of its table, built for the build
//! machine, where the results are run, and for Redox, where they are looked at. No libraries, only small sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::host_tools::is_dynamic;
use crate::recipes::{build, contents, equal};
use crate::support::{call, run};

pub const TESTS: [(&str, fn() -> Outcome); 6] = [
    ("templates_for_the_build_machine", for_the_build_machine),
    ("templates_for_redox", for_redox),
    ("template_files_are_split_and_cleaned", split_and_cleaned),
    ("template_remote_and_unknown_fail_when_built", remote_and_unknown),
    ("template_flags_of_older_trees", older_trees),
    ("template_meta_package_brings_others", meta_package),
];

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trees").join(name)
}

/// Builds several packages in one run: name → folder.
fn built<'a>(names: &[&'a str]) -> Result<BTreeMap<&'a str, PathBuf>, String> {
    let (_, paths) = build(&fixture("templates"), names)?;
    Ok(names.iter().copied().zip(paths).collect())
}

/// `#define NAME VALUE` lines, without what meson says about them.
fn defined(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("#define "));
    lines.map(|line| line.replace(' ', "=")).collect()
}

/// Dynamic libraries where upstream has them, flags expanded by bash, examples and prefixes, python with and without
/// its old way. One recipe runs all the programs and keeps what they say.
fn for_the_build_machine() -> Outcome {
    let names = ["host:hello-check", "host:hello-cmake", "host:hello-meson", "host:libgreet.docs-all"];
    let paths = built(&names)?;
    equal(
        &contents(&paths["host:hello-check"].join("said.txt"))?,
        "hello says HELLO\n\
         hello-autotools for linux-gnu\n\
         hello-cmake says good libgreet\n\
         hello-meson says good libgreet\n\
         hello says hello\n\
         small_one says hello\n\
         second_one says hello\n\
         hello-python says hello\n\
         generated\n",
    )?;
    equal(
        &contents(&paths["host:libgreet.docs-all"].join("usr/share/doc/greet/configured.txt"))?,
        "host=x86_64-linux-gnu shared=yes static=no\n",
    )?;
    equal(
        &contents(&paths["host:hello-cmake"].join("usr/share/hello/cmake.txt"))?,
        "system=Linux build=Release shared=True library=/build/sysroot/lib/libgreet.so\n",
    )?;
    equal(
        &defined(&contents(&paths["host:hello-meson"].join("usr/share/hello/meson.txt"))?).join(" "),
        "FAMILY=x86_64 LIBRARIES=shared SYSTEM=linux TYPE=release",
    )?;
    Ok(None)
}

/// Everything static, for another system, with the tree's own C library.
fn for_redox() -> Outcome {
    let paths = built(&[
        "hello-autotools",
        "hello-bare",
        "hello-cmake",
        "hello-meson",
        "libgreet.docs-all",
        "libgreet.dev",
    ])?;
    equal(
        &contents(&paths["libgreet.docs-all"].join("usr/share/doc/greet/configured.txt"))?,
        "host=x86_64-unknown-redox shared=no static=yes\n",
    )?;
    equal(
        &contents(&paths["hello-cmake"].join("usr/share/hello/cmake.txt"))?,
        "system=UnixPaths build=Release shared=False library=/build/sysroot/lib/libgreet.a\n",
    )?;
    equal(
        &defined(&contents(&paths["hello-meson"].join("usr/share/hello/meson.txt"))?).join(" "),
        "FAMILY=x86_64 LIBRARIES=static SYSTEM=redox TYPE=release",
    )?;
    for name in ["hello-autotools", "hello-bare", "hello-cmake", "hello-meson"] {
        let program = paths[name].join("usr/bin").join(name);
        if is_dynamic(&program)? {
            return Err(format!("{} needs a dynamic loader", program.display()));
        }
    }
    if !paths["libgreet.dev"].join("usr/lib/libgreet.a").exists() {
        return Err("the static library is not in the package that claims it".to_owned());
    }
    Ok(None)
}

/// Files below a folder, sorted, as the image would get them.
fn files(folder: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).map_err(|e| format!("{}: {e}", next.display()))? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.is_dir() && !path.is_symlink() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).expect("it is below").display().to_string());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Optional packages take the files their patterns cover, the first one first; libtool's notes go, appstream data
/// learns the package's name, objects are stripped.
fn split_and_cleaned() -> Outcome {
    let paths = built(&["host:libgreet", "host:libgreet.dev", "host:libgreet.docs-all"])?;
    let expected: [(&str, &[&str]); 3] = [
        (
            "host:libgreet",
            &[
                "usr/lib/libgreet.so",
                "usr/lib/libgreet.so.1",
                "usr/share/doc/greet/more/x.txt",
                "usr/share/metainfo/greet.xml",
            ],
        ),
        ("host:libgreet.dev", &["usr/include/greet.h", "usr/lib/pkgconfig/libgreet.pc"]),
        ("host:libgreet.docs-all", &["usr/share/doc/greet/configured.txt"]),
    ];
    for (name, wanted) in expected {
        let got = files(&paths[name])?;
        if got != wanted {
            return Err(format!("{name} has {got:?}, wanted {wanted:?}"));
        }
    }
    equal(
        &contents(&paths["host:libgreet"].join("usr/share/metainfo/greet.xml"))?,
        "<component><pkgname>libgreet</pkgname></component>\n",
    )?;
    let library = paths["host:libgreet"].join("usr/lib/libgreet.so.1");
    let bytes = std::fs::read(&library).map_err(|e| format!("{}: {e}", library.display()))?;
    if bytes.windows(7).any(|name| name == b".debug_") {
        return Err(format!("{} has debug information", library.display()));
    }
    Ok(None)
}

/// Such recipes may be in a tree; only building one is an error.
fn remote_and_unknown() -> Outcome {
    let tree = crate::recipes::tree(&[
        ("recipes/r/recipe.toml", "[build]\ntemplate = \"remote\"\n"),
        ("recipes/g/recipe.toml", "[build]\ntemplate = \"go\"\n"),
        ("recipes/bare/recipe.toml", "[build]\ntemplate = \"custom\"\n"),
        ("recipes/odd/recipe.toml", "[build]\ntemplate = \"cmake\"\ncmakeflags = \"-DX=1\"\n"),
        ("recipes/fine/recipe.toml", "[build]\ntemplate = \"custom\"\nscript = \"\"\n"),
    ]);
    build(tree.path(), &["fine"])?;
    for (name, message) in [
        ("r", "template `remote`, which takes a package that somebody else built"),
        ("g", "template `go`, which this cookbook cannot build; it knows: cargo, cmake, configure"),
        ("bare", "template `custom` and no `script`"),
        ("odd", "`cmakeflags` is not a list of strings"),
    ] {
        run(call(&["build", name, "--no-link", "--tree"]).arg(tree.path())).expect(2, &[message])?;
    }
    Ok(None)
}

/// Up to early 2026 flags were one string, the path had another name and packages of a workspace got the recipe's
/// name in front. The last is seen from the tree's own cookbook.
fn older_trees() -> Outcome {
    let tree = crate::recipes::tree(&[
        ("src/cook/script.rs", "// function cookbook_cargo_packages\n"),
        ("recipes/old/source/sub/Cargo.toml", "[package]\nname = \"old-one\"\nversion = \"0.1.0\"\n"),
        ("recipes/old/source/sub/src/main.rs", "fn main() {}\n"),
        (
            "recipes/old/recipe.toml",
            "[build]\ntemplate = \"custom\"\nscript = \"\"\"\n\
             cargo() { echo \"cargo $*\"; }\nCOOKBOOK_CARGO=cargo PACKAGE_PATH=sub COOKBOOK_MAKE_JOBS=7\n\
             (cookbook_cargo --bin x) > said.txt\n\
             mkdir -p ${CARGO_TARGET_DIR}/${TARGET}/release\necho program > ${CARGO_TARGET_DIR}/${TARGET}/release/a_b\n\
             (cookbook_cargo_packages a_b)\ncp said.txt ${COOKBOOK_STAGE}\n\"\"\"\n",
        ),
        (
            "recipes/words/recipe.toml",
            "[build]\ntemplate = \"cargo\"\npackage_path = \"sub\"\ncargoflags = \"--bin x\"\n",
        ),
    ]);
    let (_, paths) = build(tree.path(), &["old"])?;
    equal(&contents(&paths[0].join("usr/bin/old_a-b"))?, "program\n")?;
    equal(
        &contents(&paths[0].join("said.txt"))?,
        "cargo install --path /build/source/sub --root /build/stage/usr -j 7 --no-track --offline --locked --bin x\n",
    )?;
    let script =
        run(call(&["eval", "--raw", "-A", "packages.words.cookbookScript", "--tree"]).arg(tree.path()));
    script.expect(0, &[])?;
    equal(&script.stdout, "DYNAMIC_INIT\nCOOKBOOK_CARGO_PATH=\"sub\"\ncookbook_cargo --bin x\n")?;
    Ok(None)
}

fn meta_package() -> Outcome {
    let expression = format!(
        "(import ./nix {{ tree = {}; }}).cookbook.runtimeClosure [ \"hello-check\" ]",
        fixture("templates").display()
    );
    let closure = run(&mut call(&["eval", "--json", "-E", &expression]));
    closure.expect(0, &[])?;
    equal(
        closure.stdout.trim(),
        r#"["hello-cargo","hello-check","hello-group","libgreet","libgreet.dev","libgreet.docs-all"]"#,
    )?;
    Ok(None)
}
