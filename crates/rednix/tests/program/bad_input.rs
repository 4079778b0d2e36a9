//! Everything a user can get wrong: one clear error with its object and the next step, the right exit status,
//! and a store that still verifies.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::support::{
    bash_expression, call, processes_called, rednix, run, scratch, tree_with, verify, write,
};

pub const TESTS: [(&str, fn() -> Outcome); 16] = [
    ("syntax_error_in_nix", syntax_error_in_nix),
    ("syntax_error_in_recipe", syntax_error_in_recipe),
    ("unknown_package", unknown_package),
    ("unknown_system", unknown_system),
    ("unknown_template", unknown_template),
    ("wrong_usage", wrong_usage),
    ("missing_source", missing_source),
    ("corrupted_source", corrupted_source),
    ("no_space_left", no_space_left),
    ("build_that_forks_and_hangs", build_that_forks_and_hangs),
    ("build_that_tries_the_network", build_that_tries_the_network),
    ("build_that_tries_the_hosts_files", build_that_tries_the_hosts_files),
    ("build_that_fails_shows_its_log", build_that_fails_shows_its_log),
    ("archive_with_dangerous_names", archive_with_dangerous_names),
    ("store_from_a_newer_version", store_from_a_newer_version),
    ("offline_without_the_source", offline_without_the_source),
];

fn syntax_error_in_nix() -> Outcome {
    let folder = scratch();
    let file = folder.path().join("bad.nix");
    write(&file, "{\n  a = 1;\n  b = [ 1 2 ;\n}\n");
    let store = scratch();
    run(call(&["eval", "--store"]).arg(store.path()).arg(&file))
        .expect(2, &["bad.nix:3:", "b = [ 1 2 ;", "syntax error"])?;
    verify(store.path())?;
    Ok(None)
}

fn syntax_error_in_recipe() -> Outcome {
    let tree = tree_with("[source\npath = \"x\"\n");
    let store = scratch();
    run(call(&["build", "one", "--no-link", "--store"]).arg(store.path()).arg("--tree").arg(tree.path()))
        .expect(2, &["recipes/one/recipe.toml", "line 1"])?;
    verify(store.path())?;
    Ok(None)
}

fn unknown_package() -> Outcome {
    let tree = tree_with("[build]\ntemplate = \"custom\"\nscript = \"\"\n");
    let store = scratch();
    run(call(&["build", "onee", "--no-link", "--store"]).arg(store.path()).arg("--tree").arg(tree.path()))
        .expect(2, &["no recipe is named `onee`", "one"])?;
    verify(store.path())?;
    Ok(None)
}

fn unknown_system() -> Outcome {
    let tree = tree_with("[build]\ntemplate = \"custom\"\nscript = \"\"\n");
    let store = scratch();
    run(call(&["image", "nosuch", "--store"]).arg(store.path()).arg("--tree").arg(tree.path()))
        .expect(2, &["no system is named `nosuch`", "s"])?;
    verify(store.path())?;
    Ok(None)
}

fn unknown_template() -> Outcome {
    let tree = tree_with("[build]\ntemplate = \"go\"\n");
    let store = scratch();
    run(call(&["build", "one", "--no-link", "--store"]).arg(store.path()).arg("--tree").arg(tree.path()))
        .expect(2, &["recipe `one`", "`go`", "custom"])?;
    verify(store.path())?;
    Ok(None)
}

fn wrong_usage() -> Outcome {
    run(&mut call(&["biuld"])).expect(2, &["biuld", "build"])?;
    run(&mut call(&["build"])).expect(2, &["INSTALLABLE"])?;
    Ok(None)
}

const TAR_RECIPE: &str = "[source]\ntar = \"FILE\"\n[build]\ntemplate = \"custom\"\nscript = \"cp ${COOKBOOK_SOURCE}/hello ${COOKBOOK_STAGE}\"\n[rednix]\nroot = \"base\"\n";

/// A tree whose one recipe has `tar` as its source, pinned with `sha256`.
fn tar_tree(tar: &Path, sha256: &str) -> tempfile::TempDir {
    let url = format!("file://{}", tar.display());
    let tree = tree_with(&TAR_RECIPE.replace("FILE", &url));
    let lock =
        format!(r#"{{"version":1,"sources":{{"one":{{"type":"tar","url":"{url}","sha256":"{sha256}"}}}}}}"#);
    write(&tree.path().join("rednix.lock"), &lock);
    tree
}

fn missing_source() -> Outcome {
    let store = scratch();
    let absent = store.path().join("nothing.tar");
    let tree = tar_tree(&absent, &"0".repeat(64));
    run(call(&["build", "one", "--no-link", "--store"]).arg(store.path()).arg("--tree").arg(tree.path()))
        .expect(1, &["nothing.tar"])?;
    verify(store.path())?;
    Ok(None)
}

fn corrupted_source() -> Outcome {
    let store = scratch();
    let files = scratch();
    let tar = files.path().join("hello.tar");
    write(&tar, "not the bytes that were pinned");
    let wanted = "1".repeat(64);
    let tree = tar_tree(&tar, &wanted);
    run(call(&["build", "one", "--no-link", "--store"]).arg(store.path()).arg("--tree").arg(tree.path()))
        .expect(1, &["one-source.tar", "wrong contents", "update the lock"])?;
    verify(store.path())?;
    Ok(None)
}

/// The store lies on a file system of two megabytes, made in a namespace of the test's own.
fn no_space_left() -> Outcome {
    let folder = scratch();
    let big = folder.path().join("big");
    std::fs::write(&big, vec![b'x'; 8 << 20]).map_err(|e| e.to_string())?;
    let script = "set -e; mount -t tmpfs -o size=2m none \"$1\"; mkdir \"$1/store\"; \
        set +e; \"$2\" --log-format plain --store \"$1/store\" eval -E \"\\\"\\${builtins.path { path = $3; name = \\\"big\\\"; }}\\\"\"; \
        echo \"first: $?\"; \"$2\" --log-format plain --store \"$1/store\" verify --check-contents; echo \"verify: $?\"";
    let mount = folder.path().join("mount");
    std::fs::create_dir(&mount).map_err(|e| e.to_string())?;
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(&mount)
        .arg(rednix())
        .arg(&big);
    let result = run(&mut command);
    if result.stderr.contains("unshare failed") {
        return Ok(Some("user namespaces are denied".to_owned()));
    }
    if !result.stdout.contains("first: 1") || !result.stderr.contains("no space left") {
        return Err(format!("no clear error:\n{}{}", result.stdout, result.stderr));
    }
    if !result.stdout.contains("verify: 0") {
        return Err(format!("the store does not verify:\n{}{}", result.stdout, result.stderr));
    }
    Ok(None)
}

/// Builds in the shared store, in the smallest root.
fn build_expression(name: &str, script: &str, arguments: &[&str]) -> crate::support::Run {
    let mut all = vec!["build", "--no-link"];
    all.extend(arguments);
    run(call(&all).arg("--expr").arg(bash_expression(name, script)))
}

fn build_that_forks_and_hangs() -> Outcome {
    let mark = crate::support::mark("hang");
    let script = format!(
        "for i in 1 2 3 4 5; do ( exec -a {mark} sleep 1000 ) & ( ( exec -a {mark} sleep 1000 ) & ) ; done; wait"
    );
    build_expression("hangs", &script, &["--timeout", "3"]).expect(1, &["hangs", "longer than 3 s"])?;
    let left = processes_called(&mark);
    if left > 0 { Err(format!("{left} processes are left")) } else { verify_shared() }
}

/// The store all tests share is in use meanwhile, so only rednix itself looks at it.
fn verify_shared() -> Outcome {
    run(&mut call(&["verify", "--check-contents"])).expect(0, &[])?;
    Ok(None)
}

fn build_that_tries_the_network() -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let script =
        format!("if echo hello >/dev/tcp/127.0.0.1/{port}; then echo REACHED; else echo cut off; fi; exit 7");
    let result = build_expression("network", &script, &[]);
    result.expect(1, &["network", "cut off"])?;
    if result.stderr.contains("REACHED") {
        Err("the builder reached the host's network".to_owned())
    } else {
        verify_shared()
    }
}

fn build_that_tries_the_hosts_files() -> Outcome {
    let secret = scratch();
    let file = secret.path().join("secret");
    write(&file, "REACHED");
    let script =
        format!("cat {} /proc/1/root{} ; ls /home /root 2>&1; exit 7", file.display(), file.display());
    let result = build_expression("files", &script, &[]);
    result.expect(1, &["files", "No such file"])?;
    if result.stderr.contains("REACHED") {
        Err("the builder read the host's file".to_owned())
    } else {
        verify_shared()
    }
}

fn build_that_fails_shows_its_log() -> Outcome {
    build_expression("fails", "echo first; echo the very last words; exit 3", &[])
        .expect(1, &["the very last words", "exit status 3", "rednix log"])?;
    Ok(None)
}

/// Names that would leave the folder: nothing may be written outside, whatever the archive says.
fn archive_with_dangerous_names() -> Outcome {
    for name in ["../../escaped", "/tmp/rednix-escaped", "a/../../../escaped"] {
        let files = scratch();
        let store = scratch();
        let tar = files.path().join("evil.tar");
        std::fs::write(&tar, tar_of(name, b"evil")).map_err(|e| e.to_string())?;
        let tree = tar_tree(&tar, &sha256(&tar));
        let result = run(call(&["build", "one", "--no-link", "--store"])
            .arg(store.path())
            .arg("--tree")
            .arg(tree.path()));
        result.expect(1, &["one-source", name])?;
        if Path::new("/tmp/rednix-escaped").exists() {
            return Err("the archive wrote outside its folder".to_owned());
        }
        verify(store.path())?;
    }
    Ok(None)
}

/// A tar archive of one file whose name is written as it is, which well-behaved libraries would refuse.
fn tar_of(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{:011o}", contents.len()).as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[156] = b'0';
    header[257..263].copy_from_slice(b"ustar\0");
    header[263..265].copy_from_slice(b"00");
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(contents);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

fn sha256(file: &Path) -> String {
    let bytes = std::fs::read(file).expect("the file was just written");
    rednix_store::hash::Hash::sha256(&bytes).to_hex()
}

fn store_from_a_newer_version() -> Outcome {
    let store = scratch();
    let schema = store.path().join("nix/var/nix/db/schema");
    write(&schema, "99");
    run(call(&["eval", "-E", "builtins.toFile \"a\" \"b\"", "--store"]).arg(store.path()))
        .expect(1, &["99", &store.path().display().to_string()])?;
    Ok(None)
}

fn offline_without_the_source() -> Outcome {
    let store = scratch();
    let files = scratch();
    let recipe = TAR_RECIPE.replace("FILE", "https://example.invalid/one.tar");
    let tree = tree_with(&recipe);
    let lock = format!(
        r#"{{"version":1,"sources":{{"one":{{"type":"tar","url":"https://example.invalid/one.tar","sha256":"{}"}}}}}}"#,
        "2".repeat(64)
    );
    write(&tree.path().join("rednix.lock"), &lock);
    run(call(&["build", "one", "--no-link", "--offline", "--store"])
        .arg(store.path())
        .arg("--tree")
        .arg(tree.path())
        .current_dir(files.path()))
    .expect(1, &["offline"])?;
    verify(store.path())?;
    Ok(None)
}
