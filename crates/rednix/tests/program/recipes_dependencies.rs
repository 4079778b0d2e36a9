//! What a recipe finds in its sysroot and toolchain folder, and dependencies that cannot be.

use crate::Outcome;
use crate::recipes::{build, contents, equal, tree};
use crate::support::{call, run};

pub const TESTS: [(&str, fn() -> Outcome); 7] = [
    ("dependency_folders_are_composed_in_order", composed_in_order),
    ("dependency_on_an_optional_package_brings_only_that", only_the_optional),
    ("dependency_of_host_recipes_is_turned", host_recipes),
    ("dependency_circles_and_depth_are_named", circles),
    ("source_is_prepared_once_for_all", prepared_once),
    ("source_script_has_no_network", no_network),
    ("recipe_settings_reach_the_clean_up", clean_up),
];

fn custom(dependencies: &str, script: &str) -> String {
    format!("[build]\ntemplate = \"custom\"\n{dependencies}\nscript = \"\"\"\n{script}\n\"\"\"\n")
}

/// By name, later ones over earlier ones; what a package has at its top lies below usr/; a tag for each.
fn composed_in_order() -> Outcome {
    let writes = |name: &str| {
        custom(
            "",
            &format!(
                "mkdir -p ${{COOKBOOK_STAGE}}/bin ${{COOKBOOK_STAGE}}/usr/lib ${{COOKBOOK_STAGE}}/etc\necho {name} > ${{COOKBOOK_STAGE}}/usr/lib/both\necho {name} > ${{COOKBOOK_STAGE}}/bin/{name}\nln -s {name} ${{COOKBOOK_STAGE}}/etc/link"
            ),
        )
    };
    let tree = tree(&[
        ("recipes/b/recipe.toml", &writes("b")),
        ("recipes/a/recipe.toml", &writes("a")),
        (
            "recipes/top/recipe.toml",
            &custom(
                "dependencies = [\"b\", \"a\"]",
                "cd ${COOKBOOK_SYSROOT}\n{\n cat lib/both\n echo etc/* usr/bin/* .tags/*\n readlink bin etc/link\n}> ${COOKBOOK_STAGE}/list\necho changed > usr/lib/both\ntest -z \"${COOKBOOK_TOOLCHAIN-}\"",
            ),
        ),
    ]);
    let (_, paths) = build(tree.path(), &["top"])?;
    equal(
        &contents(&paths[0].join("list"))?,
        "b\netc/link usr/bin/a usr/bin/b .tags/a .tags/b\nusr/bin\nb\n",
    )?;
    Ok(None)
}

fn only_the_optional() -> Outcome {
    let library = custom(
        "",
        "mkdir -p ${COOKBOOK_STAGE}/usr/lib\ntouch ${COOKBOOK_STAGE}/usr/lib/{one,two,three}",
    ) + "[[optional-packages]]\nname = \"a-sources\"\nfiles = [\"usr/lib/two\"]\n[[optional-packages]]\nname = \"dev\"\nfiles = [\"usr/lib/t*\"]\n";
    let tree = tree(&[
        ("recipes/l/recipe.toml", &library),
        (
            "recipes/d/recipe.toml",
            &custom(
                "dependencies = [\"l.dev\", \"l.a-sources\"]",
                "ls ${COOKBOOK_SYSROOT}/lib ${COOKBOOK_SYSROOT}/.tags > ${COOKBOOK_STAGE}/list",
            ),
        ),
        ("recipes/none/recipe.toml", &custom("dependencies = [\"l.docs\"]", "")),
        ("recipes/dots/recipe.toml", &custom("dependencies = [\"l.dev.more\"]", "")),
    ]);
    let (_, paths) = build(tree.path(), &["d"])?;
    equal(
        &contents(&paths[0].join("list"))?,
        "/build/sysroot/.tags:\nl.a-sources\nl.dev\n\n/build/sysroot/lib:\nthree\ntwo\n",
    )?;
    for (name, message) in [
        ("none", "recipe `l` has no optional package `docs`; it has: out, a-sources, dev"),
        ("dots", "`l.dev.more` is no package name"),
    ] {
        run(call(&["build", name, "--no-link", "--tree"]).arg(tree.path())).expect(2, &[message])?;
    }
    Ok(None)
}

/// For the build machine everything is `host:`, but what is for the target alone and the recipe itself. A target
/// recipe has its `host:` dependencies, and theirs, in another folder.
fn host_recipes() -> Outcome {
    let list = "mkdir -p ${COOKBOOK_STAGE}/usr/share\nls ${COOKBOOK_SYSROOT}/.tags > list\necho \"$TARGET $(ls ${COOKBOOK_TOOLCHAIN-nowhere}/.tags)\" | tr '\\n' ' ' >> list\ncp list ${COOKBOOK_STAGE}/usr/share/${COOKBOOK_NAME}";
    let tree = tree(&[
        ("recipes/plain/recipe.toml", &custom("", "")),
        ("recipes/deep/recipe.toml", &custom("", "")),
        (
            "recipes/tool/recipe.toml",
            &custom("dependencies = [\"plain\", \"target:deep\"]\ndev-dependencies = [\"host:tool\"]", list),
        ),
        (
            "recipes/user/recipe.toml",
            &custom("dependencies = [\"target:deep\"]\ndev-dependencies = [\"host:tool\"]", list),
        ),
    ]);
    let (_, paths) = build(tree.path(), &["host:tool", "user"])?;
    equal(&contents(&paths[0].join("usr/share/tool"))?, "plain\nx86_64-unknown-linux-gnu plain ")?;
    equal(&contents(&paths[1].join("usr/share/user"))?, "deep\nx86_64-unknown-redox plain tool ")?;
    Ok(None)
}

fn circles() -> Outcome {
    let mut files = vec![
        ("recipes/a/recipe.toml".to_owned(), custom("dependencies = [\"b\"]", "")),
        ("recipes/b/recipe.toml".to_owned(), custom("dev-dependencies = [\"c\"]", "")),
        ("recipes/c/recipe.toml".to_owned(), custom("dependencies = [\"a\"]", "")),
        ("recipes/above/recipe.toml".to_owned(), custom("dependencies = [\"a\"]", "")),
        ("recipes/s1/recipe.toml".to_owned(), "[source]\nsame_as = \"../s2\"\n".to_owned() + &custom("", "")),
        ("recipes/s2/recipe.toml".to_owned(), "[source]\nsame_as = \"../s1\"\n".to_owned() + &custom("", "")),
        ("recipes/d18/recipe.toml".to_owned(), custom("", "")),
    ];
    for level in 0..18 {
        files.push((
            format!("recipes/d{level}/recipe.toml"),
            custom(&format!("dependencies = [\"d{}\"]", level + 1), ""),
        ));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let tree = tree(&files);
    for (name, message) in [
        ("a", "recipe `a` is built from itself: a → b → c → a"),
        ("above", "is built from itself: "),
        ("s1", "the source of recipe `s1` is its own: s1 → s2 → s1"),
        ("d0", "recipe `d0` has build dependencies more than 16 deep: d0 → d1 → "),
    ] {
        run(call(&["build", name, "--no-link", "--tree"]).arg(tree.path())).expect(2, &[message])?;
    }
    build(tree.path(), &["d2"])?;
    Ok(None)
}

/// For host and target and for whoever shares the source, patched and scripted; patched files are newer than what
/// was made from them.
fn prepared_once() -> Outcome {
    let unique = std::process::id().to_string();
    let owner = |script: &str| {
        format!("[source]\npath = \"files\"\npatches = [\"one.patch\"]\n{script}")
            + &custom(
                "",
                "cp ${COOKBOOK_SOURCE}/text ${COOKBOOK_STAGE}\nif test ${COOKBOOK_SOURCE}/text -nt ${COOKBOOK_SOURCE}/other; then echo newer >> ${COOKBOOK_STAGE}/text; fi",
            )
    };
    let patch = format!("--- a/text\n+++ b/text\n@@ -1 +1 @@\n-first {unique}\n+second {unique}\n");
    let tree = tree(&[
        ("recipes/owner/files/text", &format!("first {unique}\n")),
        ("recipes/owner/files/other", ""),
        ("recipes/owner/one.patch", &patch),
        ("recipes/owner/recipe.toml", &owner("script = \"echo scripted >> text\"\n")),
        (
            "recipes/guest/recipe.toml",
            &("[source]\nsame_as = \"../owner\"\n".to_owned()
                + &custom("", "cp ${COOKBOOK_SOURCE}/text ${COOKBOOK_STAGE}")),
        ),
        ("recipes/simple/files/text", &format!("first {unique}\n")),
        ("recipes/simple/files/other", ""),
        ("recipes/simple/one.patch", &patch),
        ("recipes/simple/recipe.toml", &owner("")),
    ]);
    let (result, paths) = build(tree.path(), &["owner", "host:owner", "guest", "simple"])?;
    let prepared = result.stderr.matches("built owner-prepared").count();
    if prepared != 1 {
        return Err(format!("the source was prepared {prepared} times:\n{}", result.stderr));
    }
    for path in &paths[..3] {
        equal(&contents(&path.join("text"))?, &format!("second {unique}\nscripted\n"))?;
    }
    equal(&contents(&paths[3].join("text"))?, &format!("second {unique}\nnewer\n"))?;
    Ok(None)
}

/// Said plainly, and GNU's config.sub is the one thing that is there all the same.
fn no_network() -> Outcome {
    let tree = tree(&[(
        "recipes/n/recipe.toml",
        &("[source]\nscript = \"wget -O file https://example.invalid/file\"\n".to_owned() + &custom("", "")),
    )]);
    run(call(&["build", "n", "--no-link", "--tree"]).arg(tree.path()))
        .expect(1, &["wget cannot fetch https://example.invalid/file: a build has no network"])?;
    Ok(None)
}

/// Variables set without `export`, an error's line as the recipe counts it, and no names of ours in the environment.
fn clean_up() -> Outcome {
    let program = "mkdir -p ${COOKBOOK_STAGE}/usr/bin ${COOKBOOK_STAGE}/usr/lib\nprintf 'library' > ${COOKBOOK_STAGE}/usr/lib/x.la\nprintf '\\\\x7fELFnot really' > ${COOKBOOK_STAGE}/usr/bin/p\ntouch ${COOKBOOK_STAGE}/.crates.toml";
    let tree = tree(&[
        ("recipes/kept/recipe.toml", &custom("", &format!("{program}\nCOOKBOOK_NOSTRIP=1"))),
        ("recipes/env/recipe.toml", &custom("", "env | cut -d = -f 1 | sort > ${COOKBOOK_STAGE}/names")),
        ("recipes/wrong/recipe.toml", &custom("", "true\ntrue\nno-such-program\ntrue")),
    ]);
    let (_, paths) = build(tree.path(), &["kept", "env"])?;
    if paths[0].join("usr/lib/x.la").exists() || paths[0].join(".crates.toml").exists() {
        return Err("libtool's or cargo's notes were left in the package".to_owned());
    }
    let names = contents(&paths[1].join("names"))?;
    for hidden in ["out", "outputs", "name", "system", "builder", "rednixRoot", "cookbookScript"] {
        if names.lines().any(|name| name == hidden) {
            return Err(format!("a recipe's script sees `{hidden}`:\n{names}"));
        }
    }
    run(call(&["build", "wrong", "--no-link", "--tree"]).arg(tree.path()))
        .expect(1, &["line 3: no-such-program: command not found"])?;
    Ok(None)
}
