use serde_json::{Value, json};

use super::*;
use crate::elf::tests::sample;

/// Packages on disk: `(name, files)`, a file's contents being the libraries it names.
struct Scene {
    folder: tempfile::TempDir,
    packages: Vec<Package>,
}

impl Scene {
    fn new() -> Self {
        Scene { folder: tempfile::tempdir().unwrap(), packages: Vec::new() }
    }

    /// `more` holds the dependency lists; `files` maps paths to the libraries an ELF file there names.
    fn package(&mut self, name: &str, files: &[(&str, &[&str])], more: Value) {
        let folder = self.folder.path().join(name);
        for (path, libraries) in files {
            let file = folder.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, sample(libraries, true, false)).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        let mut package: Package = serde_json::from_value(more).unwrap();
        package.name = name.to_owned();
        package.path = Some(folder);
        self.packages.push(package);
    }

    /// `name: why` of the closure, in order.
    fn resolve(&self, listed: &[&str]) -> Vec<String> {
        let listed: Vec<String> = listed.iter().map(|&name| name.to_owned()).collect();
        let closure = resolve(&self.packages, &listed).unwrap();
        closure
            .members
            .iter()
            .map(|member| match &member.reason {
                Reason::Listed => format!("{}: listed", member.package.name),
                Reason::Declared { by } => format!("{}: declared by {by}", member.package.name),
                Reason::Library { by, file, library } => {
                    format!("{}: {library} in {file} of {by}", member.package.name)
                }
                Reason::Static { by, through } => {
                    format!("{}: static in {by} through {through}", member.package.name)
                }
            })
            .collect()
    }
}

#[test]
fn a_library_of_a_build_dependency_is_needed() {
    let mut scene = Scene::new();
    scene.package(
        "curl",
        &[("usr/bin/curl", &["libcurl.so.4", "libc.so.6"]), ("usr/lib/libcurl.so.4", &["libssl.so.3"])],
        json!({ "dependencies": ["ca-certificates"], "buildDependencies": ["openssl3"] }),
    );
    scene.package(
        "openssl3",
        &[("usr/lib/libssl.so.3", &["libz.so.1"])],
        json!({ "buildDependencies": ["zlib", "zstd"] }),
    );
    // Only a link has the name; the file itself is a version's.
    scene.package("zlib", &[("usr/lib/libz.so.1.3", &[])], json!({}));
    std::os::unix::fs::symlink("libz.so.1.3", scene.folder.path().join("zlib/usr/lib/libz.so.1")).unwrap();
    scene.package("zstd", &[("usr/lib/libzstd.so.1", &[])], json!({}));
    scene.package("ca-certificates", &[], json!({}));
    assert_eq!(
        scene.resolve(&["curl"]),
        [
            "ca-certificates: declared by curl",
            "curl: listed",
            "openssl3: libssl.so.3 in usr/lib/libcurl.so.4 of curl",
            "zlib: libz.so.1 in usr/lib/libssl.so.3 of openssl3",
        ]
    );
    let closure = resolve(&scene.packages, &["curl".to_owned()]).unwrap();
    assert_eq!(closure.members[1].depends, ["ca-certificates", "openssl3"]);
    // Its own library: no build dependency has it.
    assert_eq!(closure.missing, [("curl: usr/bin/curl".to_owned(), "libcurl.so.4".to_owned())]);
}

#[test]
fn what_is_linked_statically_brings_what_it_needs() {
    let mut scene = Scene::new();
    scene.package(
        "bash",
        &[("usr/bin/bash", &[])],
        json!({ "buildDependencies": ["readline"], "devDependencies": ["doc"] }),
    );
    scene.package(
        "readline",
        &[("usr/lib/libreadline.a", &[])],
        json!({ "buildDependencies": ["ncursesw"] }),
    );
    scene.package("ncursesw", &[], json!({ "dependencies": ["terminfo"] }));
    scene.package("terminfo", &[], json!({ "dependencies": ["terminfo-extra"] }));
    scene.package("terminfo-extra", &[], json!({}));
    scene.package("doc", &[], json!({ "dependencies": ["reader"] }));
    scene.package("reader", &[], json!({}));
    assert_eq!(
        scene.resolve(&["bash"]),
        [
            "bash: listed",
            "terminfo: static in bash through readline",
            "terminfo-extra: static in bash through readline",
        ]
    );
}

#[test]
fn a_library_used_dynamically_does_not_bring_what_it_needs_by_that_rule() {
    let mut scene = Scene::new();
    scene.package(
        "app",
        &[("usr/libexec/deep/er/app", &["libn.so.1"])],
        json!({ "buildDependencies": ["n"] }),
    );
    scene.package("n", &[("lib/libn.so.1", &[])], json!({ "dependencies": ["data"] }));
    scene.package("data", &[], json!({}));
    assert_eq!(
        scene.resolve(&["app"]),
        ["app: listed", "data: declared by n", "n: libn.so.1 in usr/libexec/deep/er/app of app"]
    );
}

#[test]
fn places_that_do_not_count() {
    let mut scene = Scene::new();
    scene.package(
        "app",
        &[("usr/share/app", &["libn.so.1"]), ("bin/app", &["libn.so.1"]), ("usr/bin/app", &["libm.so.1"])],
        json!({ "buildDependencies": ["n", "m"] }),
    );
    scene.package("n", &[("usr/lib/libn.so.1", &[])], json!({}));
    // Not a direct child of a library folder.
    scene.package("m", &[("usr/lib/m/libm.so.1", &[])], json!({}));
    assert_eq!(scene.resolve(&["app"]), ["app: listed"]);
}

#[test]
fn first_level_development_dependencies_count_for_libraries() {
    let mut scene = Scene::new();
    scene.package("app", &[("usr/bin/app", &["liba.so", "libb.so"])], json!({ "devDependencies": ["a"] }));
    scene.package("a", &[("usr/lib/liba.so", &[])], json!({ "devDependencies": ["b"] }));
    scene.package("b", &[("usr/lib/libb.so", &[])], json!({}));
    assert_eq!(scene.resolve(&["app"]), ["a: liba.so in usr/bin/app of app", "app: listed"]);
}

#[test]
fn all_packages_of_a_recipe_are_searched_and_optional_ones_bring_the_main_one() {
    let mut scene = Scene::new();
    scene.package("llvm", &[], json!({ "buildDependencies": ["z.dev"] }));
    scene.package(
        "llvm.dev",
        &[("usr/bin/config", &["libz.so"])],
        json!({ "dependencies": ["llvm", "llvm.runtime"] }),
    );
    scene.package("llvm.runtime", &[], json!({ "dependencies": ["llvm"] }));
    scene.package("z", &[], json!({}));
    scene.package("z.dev", &[("usr/lib/libz.so", &[])], json!({ "dependencies": ["z"] }));
    let stages = ["llvm", "llvm.dev"].map(|name| scene.folder.path().join(name)).to_vec();
    scene.packages[0].stages = stages;
    assert_eq!(
        scene.resolve(&["llvm.dev"]),
        [
            "llvm: declared by llvm.dev",
            "llvm.dev: listed",
            "llvm.runtime: declared by llvm.dev",
            "z: declared by z.dev",
            "z.dev: libz.so in usr/bin/config of llvm",
        ]
    );
}

#[test]
fn circles_end_and_meta_packages_have_no_files() {
    let mut scene = Scene::new();
    scene.package("a", &[], json!({ "dependencies": ["b"], "buildDependencies": ["b"] }));
    scene.package("b", &[], json!({ "dependencies": ["a", "meta"], "buildDependencies": ["a"] }));
    scene.packages.push(Package { name: "meta".into(), ..Package::default() });
    assert_eq!(scene.resolve(&["a"]), ["a: listed", "b: declared by a", "meta: static in a through b"]);
}

#[test]
fn an_absent_package_is_an_error_that_says_who_wants_it() {
    let mut scene = Scene::new();
    scene.package("a", &[], json!({ "dependencies": ["b"] }));
    let message = resolve(&scene.packages, &["a".to_owned()]).unwrap_err().to_string();
    assert!(message.contains("`b` is not there, but `a` needs it"), "{message}");
    scene.packages.push(scene.packages[0].clone());
    assert!(resolve(&scene.packages, &[]).unwrap_err().to_string().contains("given twice"));
}
