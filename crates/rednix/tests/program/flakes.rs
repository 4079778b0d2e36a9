//! Flakes and fetching, from local repositories, files and a server on this machine; side by side with C++ Nix 2.34
//! where it is.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::support::{Run, call, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 7] = [
    ("flake_references_as_the_peer_reads_them", references_as_the_peer_reads_them),
    ("flake_lock_as_the_peer_writes_it", lock_as_the_peer_writes_it),
    ("fetching_as_the_peer_fetches", fetching_as_the_peer_fetches),
    ("flake_commands", flake_commands),
    ("fetching_over_http", fetching_over_http),
    ("pure_evaluation_refuses", pure_evaluation_refuses),
    ("import_from_derivation_builds", import_from_derivation_builds),
];

fn git(folder: &Path, arguments: &[&str]) {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=test", "-c", "user.email=test@example", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .env("GIT_AUTHOR_DATE", "2024-05-06T07:08:09Z")
        .env("GIT_COMMITTER_DATE", "2024-05-06T07:08:09Z")
        .output()
        .expect("git can be started");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn repository(folder: &Path, files: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).expect("folders can be made");
    git(folder, &["init", "--quiet", "-b", "main"]);
    // For commits the program itself makes.
    git(folder, &["config", "user.name", "test"]);
    git(folder, &["config", "user.email", "test@example"]);
    for (name, text) in files {
        write(&folder.join(name), text);
    }
    git(folder, &["add", "."]);
    git(folder, &["commit", "--quiet", "-m", "first"]);
}

/// The program with a store, a cache and a configuration of its own.
fn ours(root: &Path, arguments: &[&str]) -> Command {
    let mut command = call(&["--store"]);
    command.arg(root.join("store")).args(arguments).current_dir(root);
    command.env("HOME", root.join("home")).env("XDG_CACHE_HOME", root.join("cache"));
    command.env("XDG_CONFIG_HOME", root.join("config")).env_remove("NIX_PATH");
    command
}

/// The peer with a store and a cache of its own.
fn theirs(root: &Path, arguments: &[&str]) -> Option<Command> {
    let mut command = crate::peer::tool("nix")?;
    command.args(arguments).arg("--store").arg(format!("local?root={}", root.join("peer").display()));
    command.env("HOME", root.join("peer-home")).env("XDG_CACHE_HOME", root.join("peer-cache"));
    command.current_dir(root);
    std::fs::create_dir_all(root.join("peer-home")).expect("folders can be made");
    Some(command)
}

fn skipped() -> Outcome {
    Ok(Some("C++ Nix is not installed (REDNIX_PEER)".to_owned()))
}

fn last_error(text: &str) -> String {
    let line = text.lines().rev().find(|line| line.contains("error:")).unwrap_or_default();
    line.split_once("error:").map_or("", |(_, rest)| rest).trim().to_owned()
}

/// The value of an expression as both give it; an error is compared by its being one.
fn compare(root: &Path, expression: &str) -> Result<(), String> {
    // A set with an `outPath` would be shown as that alone.
    let expression = &format!(
        "let x = {expression}; in if builtins.isAttrs x && x ? outPath then {{ all = removeAttrs x [ \"outPath\" ]; path = x.outPath; }} else x"
    );
    let us = run(&mut ours(root, &["eval", "--json", "--expr", expression]));
    let them: Run = theirs(root, &["eval", "--impure", "--json", "--expr", expression])
        .expect("looked for before")
        .output()
        .map_err(|error| error.to_string())?
        .into();
    let is_same = match (us.status, them.status) {
        (Some(0), Some(0)) => us.stdout.trim() == them.stdout.trim(),
        (Some(ours), Some(theirs)) => ours != 0 && theirs != 0,
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    Err(format!(
        "{expression}\nours   {}{}\ntheirs {}{}",
        us.stdout,
        us.stderr,
        them.stdout,
        last_error(&them.stderr)
    ))
}

fn references_as_the_peer_reads_them() -> Outcome {
    let root = scratch();
    if theirs(root.path(), &[]).is_none() {
        return skipped();
    }
    let references = [
        "nixpkgs",
        "nixpkgs/release",
        "nixpkgs/0123456789012345678901234567890123456789",
        "flake:a/main/0123456789012345678901234567890123456789",
        "github:o/r",
        "github:o/r/v1?dir=a/b",
        "github:o/r/feature/x",
        "github:o/r?host=h.example&rev=0123456789012345678901234567890123456789",
        "gitlab:o%2Fsub/r",
        "sourcehut:~o/r",
        "git+https://h/r?ref=main&dir=x",
        "git+ssh://git@h/r.git?submodules=1&shallow=1",
        "git+file:///a/b?x=y",
        "git://h/r",
        "https://h/a.tar.gz",
        "tarball+https://h/a?x=y&narHash=sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "file+http://h:8080/a",
        "file:///a/b.tar.gz",
        "path:/a/b?lastModified=5",
        "/a/b",
        "/a b/c",
        "github:o",
        "git+https://h/r?ref=a..b",
        "svn://h/r",
        "x:y",
    ];
    let list: Vec<String> = references.iter().map(|text| format!("\"{text}\"")).collect();
    // One evaluation per reference that fails would be slow: those that fail are found by each side for itself.
    for text in &list {
        compare(
            root.path(),
            &format!("let a = builtins.parseFlakeRef {text}; in [ a (builtins.flakeRefToString a) ]"),
        )?;
    }
    Ok(None)
}

/// A repository whose flake has inputs of several kinds.
fn flakes(root: &Path) -> PathBuf {
    repository(
        &root.join("lib"),
        &[("flake.nix", "{ outputs = { self }: { v = 1; inherit (self) narHash; }; }"), ("data", "x")],
    );
    let lib = root.join("lib").display().to_string();
    repository(
        &root.join("mid"),
        &[(
            "flake.nix",
            &format!(
                "{{ inputs.lib.url = \"git+file://{lib}\"; outputs = {{ self, lib }}: {{ w = lib.v + 1; }}; }}"
            ),
        )],
    );
    write(&root.join("plain/file"), "text\n");
    let top = format!(
        r#"{{
  description = "A flake of several inputs";
  inputs = {{
    lib.url = "git+file://{root}/lib";
    mid = {{ url = "git+file://{root}/mid"; inputs.lib.follows = "lib"; }};
    other.url = "git+file://{root}/mid?ref=main";
    plain = {{ url = "path:{root}/plain"; flake = false; }};
    inner.url = "path:./inner";
  }};
  outputs = {{ self, lib, mid, other, plain, inner }}: {{
    sum = lib.v + mid.w + inner.x;
    about = removeAttrs self.sourceInfo [ "outPath" ] // {{ rev = mid.rev; names = builtins.attrNames self; }};
    packages.x86_64-linux.default = derivation {{
      name = "made"; system = "x86_64-linux"; builder = "/bin/sh"; src = self; inherit plain; from = mid.outPath;
    }};
  }};
}}
"#,
        root = root.display()
    );
    let inner = "{ outputs = { self }: { x = 40; }; }";
    repository(&root.join("top"), &[("flake.nix", &top), ("inner/flake.nix", inner)]);
    root.join("top")
}

fn lock_as_the_peer_writes_it() -> Outcome {
    let root = scratch();
    if theirs(root.path(), &[]).is_none() {
        return skipped();
    }
    let top = flakes(root.path());
    let lock = top.join("flake.lock");
    let flake = top.display().to_string();
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    run(&mut ours(root.path(), &["flake", "lock", &flake])).expect(0, &["creating lock file"])?;
    let written = read(&lock)?;
    git(&top, &["rm", "--cached", "--quiet", "--force", "flake.lock"]);
    std::fs::remove_file(&lock).map_err(|error| error.to_string())?;
    let peer = |arguments: &[&str]| -> Result<String, String> {
        let mut command = theirs(root.path(), arguments).expect("looked for before");
        let output = command.output().map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    };
    peer(&["flake", "lock", &flake])?;
    let same = |what: &str, ours: &str, theirs: &str| match ours.trim() == theirs.trim() {
        true => Ok(()),
        false => Err(format!("{what}\nours   {ours}\ntheirs {theirs}")),
    };
    same("flake.lock", &written, &read(&lock)?)?;
    // Committed, then dirty: the derivations and what is told about the flake.
    git(&top, &["add", "."]);
    git(&top, &["commit", "--quiet", "-m", "lock"]);
    for dirty in [false, true] {
        if dirty {
            write(&top.join("inner/flake.nix"), "{ outputs = { self }: { x = 41; }; }");
        }
        for attribute in ["packages.x86_64-linux.default.drvPath", "sum", "about"] {
            let installable = format!("{flake}#{attribute}");
            let result = run(&mut ours(root.path(), &["eval", "--json", &installable]));
            result.expect(0, &[])?;
            same(attribute, &result.stdout, &peer(&["eval", "--json", &installable])?)?;
        }
        let result = run(&mut ours(root.path(), &["flake", "metadata", "--json", &flake]));
        let mut theirs: serde_json::Value =
            serde_json::from_str(&peer(&["flake", "metadata", "--json", &flake])?)
                .map_err(|e| e.to_string())?;
        theirs.as_object_mut().expect("metadata is a set").remove("fingerprint");
        let ours: serde_json::Value = serde_json::from_str(&result.stdout).map_err(|e| e.to_string())?;
        if ours != theirs {
            return Err(format!("metadata\nours   {ours}\ntheirs {theirs}"));
        }
    }
    Ok(None)
}

fn fetching_as_the_peer_fetches() -> Outcome {
    let root = scratch();
    if theirs(root.path(), &[]).is_none() {
        return skipped();
    }
    let repo = root.path().join("repo");
    repository(
        &repo,
        &[
            ("a.txt", "one\ntwo\n"),
            ("kept/b", "b"),
            ("left/c", "c"),
            (".gitattributes", "*.txt text eol=crlf\nleft export-ignore\n"),
        ],
    );
    git(&repo, &["tag", "v1"]);
    write(&repo.join("later"), "later");
    git(&repo, &["add", "later"]);
    git(&repo, &["commit", "--quiet", "-m", "second"]);
    let rev = Command::new("git").arg("-C").arg(&repo).args(["rev-parse", "v1"]).output().expect("git runs");
    let rev = String::from_utf8_lossy(&rev.stdout).trim().to_owned();
    let tar = root.path().join("a.tar.gz");
    let packed = Command::new("tar")
        .args(["--mtime=2020-01-02 03:04:05Z", "--owner=0", "--group=0", "-czf"])
        .arg(&tar)
        .arg("-C")
        .arg(root.path())
        .args(["--exclude=.git", "repo"])
        .status();
    assert!(packed.is_ok_and(|status| status.success()), "tar can pack");
    let (repo, tar) = (repo.display(), tar.display());
    let expressions = [
        format!("builtins.fetchGit {repo}"),
        format!("builtins.fetchGit \"file://{repo}\""),
        format!("builtins.fetchGit {{ url = {repo}; ref = \"main\"; }}"),
        format!("builtins.fetchGit {{ url = {repo}; rev = \"{rev}\"; name = \"named\"; }}"),
        format!("builtins.fetchGit {{ url = {repo}; ref = \"refs/tags/v1\"; }}"),
        format!("builtins.fetchGit {{ url = {repo}; ref = \"none\"; }}"),
        format!("builtins.fetchGit {{ url = {repo}; rev = \"{}\"; }}", "0".repeat(39) + "1"),
        format!("builtins.fetchGit {{ url = {repo}; type = \"git\"; }}"),
        format!(
            "builtins.fetchTree {{ type = \"git\"; url = \"file://{repo}\"; rev = \"{rev}\"; shallow = false; }}"
        ),
        format!("builtins.fetchTree {{ type = \"path\"; path = \"{repo}/kept\"; }}"),
        format!("builtins.fetchTree {{ type = \"tarball\"; url = \"file://{tar}\"; }}"),
        format!("builtins.fetchTree {{ type = \"file\"; url = \"file://{tar}\"; }}"),
        "builtins.fetchTree { url = \"x\"; }".to_owned(),
        "builtins.fetchTree { type = \"git\"; url = \"x\"; nothing = 1; }".to_owned(),
        format!("fetchTarball \"file://{tar}\""),
        format!("builtins.fetchurl \"file://{tar}\""),
        format!("builtins.fetchurl {{ url = \"file://{tar}\"; sha256 = \"{}\"; }}", "0".repeat(52)),
        format!("fetchTarball {{ url = \"file://{tar}\"; sha256 = \"{}\"; }}", "0".repeat(52)),
        format!("fetchTarball {{ url = \"file://{tar}\"; other = 1; }}"),
        format!("builtins.readFile ((builtins.fetchGit {repo}) + \"/a.txt\")"),
        format!(
            "toString (builtins.findFile [ {{ prefix = \"x\"; path = \"file://{tar}\"; }} ] \"x/kept/b\")"
        ),
        format!("(builtins.getFlake \"path:{repo}\").x"),
    ];
    for expression in &expressions {
        compare(root.path(), expression)?;
    }
    // What is not committed.
    write(&root.path().join("repo/a.txt"), "changed");
    write(&root.path().join("repo/unknown"), "git does not know of it");
    compare(root.path(), &format!("builtins.fetchGit {repo}"))?;
    Ok(None)
}

fn flake_commands() -> Outcome {
    let root = scratch();
    let top = flakes(root.path());
    let flake = top.display().to_string();
    let ours = |arguments: &[&str]| run(&mut ours(root.path(), arguments));
    let value = |arguments: &[&str], expected: &str| -> Result<(), String> {
        let result = ours(arguments);
        result.expect(0, &[])?;
        if result.stdout.trim() == expected {
            Ok(())
        } else {
            Err(format!("{arguments:?}: {}", result.stdout))
        }
    };
    ours(&["flake", "metadata", &flake, "--no-update-lock-file"])
        .expect(2, &["requires lock file changes", "--no-update-lock-file"])?;
    let sum = format!("{flake}#sum");
    value(&["eval", &sum, "--no-write-lock-file"], "43")?;
    if top.join("flake.lock").exists() {
        return Err("a lock file was written although it was not to be".to_owned());
    }
    value(&["eval", &sum], "43")?;
    git(&top, &["add", "."]);
    git(&top, &["commit", "--quiet", "-m", "lock"]);
    // A branch moves; the pin does not, until it is renewed.
    write(&root.path().join("lib/flake.nix"), "{ outputs = { self }: { v = 2; }; }");
    git(&root.path().join("lib"), &["commit", "--quiet", "-am", "second"]);
    value(&["eval", &sum], "43")?;
    ours(&["flake", "update", "nothing", "--flake", &flake])
        .expect(0, &["'nothing' does not match any input"])?;
    ours(&["flake", "update", "lib", "--flake", &flake, "--commit-lock-file"])
        .expect(0, &["Updated input 'lib'"])?;
    value(&["eval", &sum], "45")?;
    let log = Command::new("git").arg("-C").arg(&top).args(["log", "-1", "--format=%s"]).output();
    let log = log.map_err(|error| error.to_string())?;
    if log.stdout != b"flake.lock: Update\n" {
        return Err(format!("the last commit is {}", String::from_utf8_lossy(&log.stdout)));
    }
    write(&root.path().join("instead/flake.nix"), "{ outputs = { self }: { x = 0; }; }");
    let instead = format!("path:{}/instead", root.path().display());
    value(&["eval", &sum, "--no-write-lock-file", "--override-input", "inner", &instead], "5")?;
    ours(&["eval", &format!("{flake}#nothing")])
        .expect(2, &["does not provide attribute", "rednix flake show"])?;
    ours(&["flake", "show", "name-of-nothing"]).expect(2, &["cannot find flake", "registry.json"])?;
    ours(&["flake", "show", &flake]).expect(0, &[])?;
    write(
        &root.path().join("config/rednix/registry.json"),
        &format!(
            r#"{{"version":2,"flakes":[{{"from":{{"type":"indirect","id":"known"}},"to":{{"type":"git","url":"file://{flake}"}}}}]}}"#
        ),
    );
    value(&["eval", "known#sum"], "45")?;
    write(
        &root.path().join("computed/flake.nix"),
        "{ inputs = let x = { }; in x; outputs = { self }: { }; }",
    );
    let computed = format!("path:{}/computed", root.path().display());
    ours(&["flake", "metadata", &computed]).expect(2, &["expected a literal"])?;
    Ok(None)
}

/// Answers requests for the given paths, as often as they come, until the process ends.
fn serve(files: Vec<(&'static str, Vec<u8>)>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match files.iter().find(|(name, _)| *name == path) {
                Some((_, body)) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", &b""[..]),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    address
}

fn fetching_over_http() -> Outcome {
    let root = scratch();
    write(
        &root.path().join("pack/r-1/flake.nix"),
        "{ outputs = { self }: { inherit (self) rev lastModified; }; }",
    );
    let tar = root.path().join("r.tar.gz");
    let packed = Command::new("tar")
        .args(["--mtime=2020-01-02 03:04:05Z", "-czf"])
        .arg(&tar)
        .arg("-C")
        .arg(root.path().join("pack"))
        .arg("r-1")
        .status();
    assert!(packed.is_ok_and(|status| status.success()), "tar can pack");
    let bytes = std::fs::read(&tar).map_err(|error| error.to_string())?;
    let rev = "0123456789abcdef0123456789abcdef01234567";
    let answer = format!(r#"{{"sha":"{rev}","commit":{{"tree":{{"sha":"{rev}"}}}}}}"#);
    let address = serve(vec![
        ("/r.tar.gz", bytes.clone()),
        ("/forge/o/r/archive/0123456789abcdef0123456789abcdef01234567.tar.gz", bytes),
        ("/api/repos/o/r/commits/HEAD", answer.into_bytes()),
    ]);
    write(
        &root.path().join("config/rednix/config.toml"),
        &format!(
            "[mirrors]\n\"https://github.com/\" = \"http://{address}/forge/\"\n\"https://api.github.com/\" = \"http://{address}/api/\"\n"
        ),
    );
    let ours = |arguments: &[&str]| run(&mut ours(root.path(), arguments));
    let expect = |arguments: &[&str], expected: &str| -> Result<(), String> {
        let result = ours(arguments);
        result.expect(0, &[])?;
        if result.stdout.trim() == expected {
            Ok(())
        } else {
            Err(format!("{arguments:?}: {}", result.stdout))
        }
    };
    let read = format!("builtins.attrNames (builtins.readDir (fetchTarball \"http://{address}/r.tar.gz\"))");
    expect(&["eval", "--json", "--expr", &read], r#"["flake.nix"]"#)?;
    // The forge by a mirror: which commit the branch is, and the archive of that.
    expect(&["eval", "--raw", "github:o/r#rev"], rev)?;
    expect(&["eval", "--json", &format!("github:o/r/{rev}#lastModified")], "1577934245")?;
    // Offline, what was fetched is still there.
    expect(&["--offline", "eval", "--raw", &format!("github:o/r/{rev}#rev")], rev)?;
    let entry = format!("x=http://{address}/r.tar.gz");
    expect(&["eval", "--json", "-I", &entry, "--expr", "builtins.pathExists <x/flake.nix>"], "true")?;
    let missing = format!("builtins.fetchurl \"http://{address}/nothing\"");
    ours(&["eval", "--expr", &missing]).expect(2, &["/nothing", "404", "hint"])?;
    Ok(None)
}

fn pure_evaluation_refuses() -> Outcome {
    let root = scratch();
    repository(&root.path().join("repo"), &[("a", "a")]);
    write(&root.path().join("file.nix"), "1");
    let folder = root.path().display();
    let refused = [
        (format!("import {folder}/file.nix"), "is forbidden in pure evaluation mode"),
        (format!("builtins.readDir {folder}"), "is forbidden in pure evaluation mode"),
        (format!("\"${{{folder}/file.nix}}\""), "is forbidden in pure evaluation mode"),
        (format!("builtins.fetchGit {folder}/repo"), "doesn't fetch unlocked input"),
        ("builtins.fetchurl \"http://127.0.0.1/x\"".to_owned(), "requires a 'sha256' argument"),
        ("fetchTarball \"http://127.0.0.1/x\"".to_owned(), "requires a 'sha256' argument"),
        (format!("builtins.getFlake \"path:{folder}\""), "unlocked flake reference"),
        ("<nixpkgs>".to_owned(), "in pure evaluation mode"),
        ("builtins.currentSystem".to_owned(), "currentSystem"),
        ("builtins.storePath \"/nix/store\"".to_owned(), "not allowed in pure evaluation mode"),
        ("builtins.fetchMercurial \"http://127.0.0.1/x\"".to_owned(), "not supported"),
    ];
    for (expression, message) in &refused {
        run(&mut ours(root.path(), &["eval", "--pure-eval", "--expr", expression])).expect(2, &[message])?;
    }
    let allowed = [
        ("builtins.getEnv \"HOME\"".to_owned(), "\"\""),
        ("builtins.nixPath".to_owned(), "[ ]"),
        (format!("builtins.pathExists {folder}/file.nix"), "false"),
        ("builtins.readFile (builtins.toFile \"x\" \"y\")".to_owned(), "\"y\""),
    ];
    for (expression, expected) in &allowed {
        let result = run(&mut ours(root.path(), &["eval", "--pure-eval", "--expr", expression]));
        result.expect(0, &[])?;
        if result.stdout.trim() != *expected {
            return Err(format!("{expression}: {}", result.stdout));
        }
    }
    let restricted = format!("builtins.readFile {folder}/file.nix");
    run(&mut ours(root.path(), &["eval", "--restrict-eval", "--expr", &restricted]))
        .expect(2, &["in restricted mode"])?;
    let include = format!("x={folder}");
    run(&mut ours(root.path(), &["eval", "--restrict-eval", "-I", &include, "--expr", &restricted]))
        .expect(0, &[])?;
    Ok(None)
}

fn import_from_derivation_builds() -> Outcome {
    let root = scratch();
    write(&root.path().join("made.nix"), "{ value = 41; }");
    // A builder inside rednix, so that no build root is needed.
    let expression = format!(
        r#"let made = derivation {{
             name = "made.nix"; system = "x86_64-linux"; builder = "builtin:fetchurl";
             url = "file://{}/made.nix"; outputHashMode = "flat"; outputHashAlgo = "sha256";
             outputHash = builtins.hashFile "sha256" {}/made.nix;
           }}; in (import made).value + builtins.stringLength (builtins.readFile "${{made}}")"#,
        root.path().display(),
        root.path().display()
    );
    let result = run(&mut ours(root.path(), &["eval", "--expr", &expression]));
    result.expect(0, &[])?;
    if result.stdout.trim() != "56" {
        return Err(result.stdout);
    }
    let failing = r#"import (derivation { name = "x"; system = "x86_64-linux"; builder = "builtin:fetchurl"; url = "file:///nothing/here"; outputHashAlgo = "sha256"; outputHash = "0000000000000000000000000000000000000000000000000000"; })"#;
    run(&mut ours(root.path(), &["eval", "--expr", failing])).expect(2, &["evaluation needs what `x"])?;
    Ok(None)
}
