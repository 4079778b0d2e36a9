//! `rednix store`, as its user meets it.

use std::path::Path;

use crate::Outcome;
use crate::support::{Run, call, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 6] = [
    ("store_commands", store_commands),
    ("store_archives_and_restores", store_archives_and_restores),
    ("store_messages", store_messages),
    ("read_only_stores", read_only_stores),
    ("store_repairs_itself", store_repairs_itself),
    ("paths_by_inputs_for_caches_without_realisations", paths_by_inputs),
];

fn store(root: &Path, arguments: &[&str]) -> Run {
    run(call(arguments).arg("--store").arg(root))
}

/// The whole standard output, where the command succeeds.
fn output(root: &Path, arguments: &[&str]) -> Result<String, String> {
    let result = store(root, arguments);
    result.expect(0, &[]).map_err(|error| format!("{arguments:?}: {error}"))?;
    Ok(result.stdout)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

fn sample(folder: &Path) -> String {
    write(&folder.join("thing/bin/tool"), "#!/bin/sh\n");
    write(&folder.join("thing/text"), &"text\n".repeat(400));
    write(&folder.join("thing/twin"), &"text\n".repeat(400));
    folder.join("thing").display().to_string()
}

fn store_commands() -> Outcome {
    let folder = scratch();
    let root = folder.path().join("root");
    let link = folder.path().join("result");
    let (link, thing) = (link.to_str().expect("plain"), sample(folder.path()));
    let path = output(&root, &["store", "add", &thing, "-o", link])?.trim().to_owned();
    same("the link", output(&root, &["store", "path-info", link])?.trim(), &path)?;
    same("a file", output(&root, &["store", "cat", &format!("{path}/bin/tool")])?.as_str(), "#!/bin/sh\n")?;
    same(
        "by the link",
        output(&root, &["store", "cat", &format!("{link}/bin/tool")])?.as_str(),
        "#!/bin/sh\n",
    )?;
    same("a list", output(&root, &["store", "ls", &path])?.as_str(), "bin\ntext\ntwin\n")?;
    same("all", output(&root, &["store", "ls", "-r", link])?.as_str(), "bin\nbin/tool\ntext\ntwin\n")?;
    let info: serde_json::Value =
        serde_json::from_str(&output(&root, &["store", "path-info", "--json", "-S", link])?)
            .map_err(|e| e.to_string())?;
    same("references", info[&path]["references"].to_string().as_str(), "[]")?;
    same("closure", info[&path]["closureSize"].clone(), info[&path]["narSize"].clone())?;
    // The archive and back.
    let nar = folder.path().join("nar");
    let mut dump = call(&["store", "dump", link, "--store"]);
    let dumped = dump.arg(&root).output().map_err(|e| e.to_string())?.stdout;
    std::fs::write(&nar, &dumped).map_err(|e| e.to_string())?;
    let again = folder.path().join("again");
    let mut restore = call(&["store", "restore", again.to_str().expect("plain"), "--store"]);
    let input = std::fs::File::open(&nar).map_err(|e| e.to_string())?;
    run(restore.arg(&root).stdin(input)).expect(0, &[])?;
    let readded = output(&root, &["store", "add", "--name", "thing", again.to_str().expect("plain")])?;
    same("what went through an archive", readded.trim(), &path)?;
    store(&root, &["store", "optimise"]).expect(0, &["linked 1 of"])?;
    output(&root, &["store", "verify"])?;
    crate::support::verify(&root)?;
    let roots = output(&root, &["store", "roots"])?;
    if !roots.contains(&path) || !roots.contains("link") {
        return Err(format!("roots: {roots}"));
    }
    // Nothing is gone while it is linked; what is not, goes by age and size.
    write(&folder.path().join("other"), "other");
    let other = output(&root, &["store", "add", folder.path().join("other").to_str().expect("plain")])?;
    same("too young", output(&root, &["gc", "--older-than", "1d"])?.as_str(), "")?;
    same("small enough", output(&root, &["gc", "--max-size", "1G"])?.as_str(), "")?;
    same("dry", output(&root, &["gc", "--dry-run"])?, other.clone())?;
    same("too large", output(&root, &["gc", "--max-size", "0", "--keep-derivations=false"])?, other)?;
    // What is wrong is said.
    store(&root, &["store", "cat", &path]).expect(2, &["is no file", "hint"])?;
    store(&root, &["store", "cat", "/etc/passwd"]).expect(2, &["neither a store path nor a link"])?;
    store(&root, &["store", "cat", &format!("{path}/../../../../etc/passwd")]).expect(1, &[])?;
    store(&root, &["store", "ls", "/nix/store/00000000000000000000000000000000-x"])
        .expect(1, &["is not in the store", "hint"])?;
    store(&root, &["gc", "--older-than", "soon"]).expect(2, &["30d"])?;
    Ok(None)
}

fn store_archives_and_restores() -> Outcome {
    let folder = scratch();
    let root = folder.path().join("root");
    let path = output(&root, &["store", "add", &sample(folder.path())])?.trim().to_owned();
    let expected = output(&root, &["store", "path-info", "--json", &path])?;
    same("what is archived", output(&root, &["store", "archive"])?.trim(), &path)?;
    store(&root, &["store", "path-info", &path]).expect(1, &["is archived", "store restore"])?;
    crate::support::verify(&root)?;
    same("what comes back", output(&root, &["store", "restore", &path])?.trim(), &path)?;
    let strip =
        |text: &str| text.lines().filter(|line| !line.contains("registrationTime")).collect::<String>();
    let again = output(&root, &["store", "path-info", "--json", &path])?;
    same("information", strip(&again), strip(&expected))?;
    crate::support::verify(&root)?;
    store(&root, &["store", "archive", "--forget", &path]).expect(0, &["deleted 1 paths"])?;
    output(&root, &["gc"])?;
    store(&root, &["store", "restore", &path]).expect(1, &["is not in the archive"])?;
    Ok(None)
}

/// Each names what was asked for and ends with a way out.
fn store_messages() -> Outcome {
    let folder = scratch();
    let root = folder.path().join("root");
    let thing = sample(folder.path());
    let path = output(&root, &["store", "add", &thing])?.trim().to_owned();
    let absent = format!("{path}/absent");
    let below_a_file = format!("{path}/text/x");
    let cases: [(&[&str], i32, &[&str]); 7] = [
        (&["store", "add", "/nope"], 1, &["cannot add `/nope`", "hint"]),
        (&["store", "add", &thing, "-o", "/nope/x"], 2, &["link `/nope/x`", "no folder `/nope`", "hint"]),
        (&["store", "cat", &absent], 1, &["has no `absent`", "store ls", "hint"]),
        (&["store", "cat", &below_a_file], 1, &["has no `text/x`", "hint"]),
        (&["store", "ls", &absent], 1, &["has no `absent`", "hint"]),
        (&["store", "restore", &thing], 1, &["cannot unpack", "something is there", "hint"]),
        (&["store", "archive", "--forget", &path], 1, &["is not in the archive", "--list", "hint"]),
    ];
    for (arguments, status, words) in cases {
        store(&root, arguments).expect(status, words).map_err(|error| format!("{arguments:?}: {error}"))?;
    }
    let place = folder.path().join("place");
    let mut restore = call(&["store", "restore", place.to_str().expect("plain"), "--store"]);
    let input = std::fs::File::open(folder.path().join("thing/text")).map_err(|e| e.to_string())?;
    run(restore.arg(&root).stdin(input))
        .expect(1, &["cannot unpack standard input", "store dump", "hint"])?;
    Ok(None)
}

/// What only reads works where nothing can be written; what writes says so.
fn read_only_stores() -> Outcome {
    let folder = scratch();
    let root = folder.path().join("root");
    let path = output(&root, &["store", "add", &sample(folder.path())])?.trim().to_owned();
    let script = r#"mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || { echo cannot mount >&2; exit 77; }
        store=$1; shift; exec "$@" --store "$store""#;
    let command = |arguments: &[&str]| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(&root);
        let program = call(arguments);
        command.arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    };
    let inside = |arguments: &[&str]| run(&mut command(arguments));
    let first = inside(&["store", "path-info", &path]);
    if first.status == Some(77) || first.stderr.contains("unshare failed") {
        return Ok(Some(format!("no read-only mounts here: {}", first.stderr.trim())));
    }
    let tool = format!("{path}/bin/tool");
    let cache = format!("file://{}", folder.path().join("cache").display());
    let reading: [(&[&str], &str); 8] = [
        (&["cache", "push", &cache, &path], "1 paths pushed"),
        (&["store", "path-info", &path], &path),
        (&["store", "ls", &path], "bin"),
        (&["store", "cat", &tool], "#!/bin/sh"),
        (&["store", "roots"], ""),
        (&["store", "archive", "--list"], ""),
        (&["store", "verify"], ""),
        (&["gc", "--dry-run"], &path),
    ];
    for (arguments, words) in reading {
        let result = inside(arguments);
        result.expect(0, &[]).map_err(|error| format!("{arguments:?}: {error}"))?;
        if !result.stdout.contains(words) {
            return Err(format!("{arguments:?}: {}", result.stdout));
        }
    }
    let mut serving = command(&["cache", "serve", "--listen", "127.0.0.1:0"]);
    let mut serving =
        serving.stdout(std::process::Stdio::piped()).spawn().map_err(|e| format!("the server: {e}"))?;
    let mut url = String::new();
    let told = serving
        .stdout
        .take()
        .map(|out| std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut url));
    let entry =
        format!("{}.narinfo", path.trim_start_matches("/nix/store/").split('-').next().unwrap_or_default());
    let answer = url.trim().strip_prefix("http://").map(|address| -> std::io::Result<String> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address)?;
        write!(stream, "GET /{entry} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let _ = serving.kill();
    let _ = serving.wait();
    match &answer {
        Some(Ok(text)) if text.contains(&path) => {}
        other => return Err(format!("the server says {url:?} ({told:?}) and {other:?}")),
    }
    for arguments in
        [&["store", "add", "/etc/hostname"][..], &["gc"], &["store", "optimise"], &["store", "archive"]]
    {
        inside(arguments)
            .expect(1, &["cannot write to the store at", "Read-only file system", "hint", "REDNIX_STORE"])
            .map_err(|error| format!("{arguments:?}: {error}"))?;
    }
    Ok(None)
}

/// Damaged contents, then a damaged database.
fn store_repairs_itself() -> Outcome {
    let folder = scratch();
    let root = folder.path().join("root");
    let link = folder.path().join("result");
    let thing = sample(folder.path());
    let path =
        output(&root, &["store", "add", &thing, "-o", link.to_str().expect("plain")])?.trim().to_owned();
    let real = root.join(path.trim_start_matches('/')).join("text");
    let damage = || {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o644))
            .and_then(|()| std::fs::write(&real, "damaged"))
            .map_err(|e| e.to_string())
    };
    // From the archive, where it is there.
    std::fs::remove_file(&link).map_err(|e| e.to_string())?;
    output(&root, &["store", "archive"])?;
    output(&root, &["store", "restore", &path])?;
    damage()?;
    store(&root, &["store", "verify"]).expect(1, &["was changed", "--repair"])?;
    store(&root, &["store", "verify", "--repair"]).expect(0, &["from the archive"])?;
    output(&root, &["store", "verify"])?;
    // Without it, it is taken back and the rest is whole.
    output(&root, &["store", "archive", "--forget", &path])?;
    damage()?;
    store(&root, &["store", "verify", "--repair"]).expect(1, &["took back", "1 paths are lost"])?;
    output(&root, &["store", "verify"])?;
    output(&root, &["store", "add", &thing])?;
    // A database that is none.
    let database = root.join("nix/var/nix/db/db.sqlite");
    std::fs::write(&database, "this is no database ".repeat(500)).map_err(|e| e.to_string())?;
    let _ = std::fs::remove_file(database.with_extension("sqlite-wal"));
    let _ = std::fs::remove_file(database.with_extension("sqlite-shm"));
    store(&root, &["store", "path-info", &path]).expect(1, &["is damaged", "verify --repair"])?;
    store(&root, &["store", "verify", "--repair"])
        .expect(0, &["made a new database", "1 by their contents"])?;
    same("the path", output(&root, &["store", "path-info", &path])?.trim(), &path)?;
    crate::support::verify(&root)?;
    Ok(None)
}

/// `contentAddressed = false`: outputs have their paths before they are built, so that any cache can have them.
fn paths_by_inputs() -> Outcome {
    let expression = |arguments: &str| {
        format!(
            "let l = import {}/nix {{ {arguments} }}; in l.derive.bashBuild {{ name = \"by-inputs\"; \
             root = l.debian.root \"base\"; script = builtins.toFile \"script\" \"echo built > $out\"; }}",
            crate::support::checkout().display()
        )
    };
    let eval = |arguments: &str| -> Result<String, String> {
        let result =
            run(&mut call(&["eval", "--raw", "--expr", &format!("({}).outPath", expression(arguments))]));
        result.expect(0, &[])?;
        Ok(result.stdout.trim().to_owned())
    };
    let path = eval("contentAddressed = false;")?;
    if !path.starts_with("/nix/store/") || !path.ends_with("-by-inputs") {
        return Err(format!("the path is not known beforehand: {path}"));
    }
    let floating = eval("")?;
    if floating.starts_with("/nix/store/") {
        return Err(format!("the default is not floating: {floating}"));
    }
    let built = run(&mut call(&["build", "--no-link", "--expr", &expression("contentAddressed = false;")]));
    if built.stderr.contains("cannot reach") || built.stderr.contains("no mirror is known") {
        return Ok(Some("no Debian mirror can be reached".to_owned()));
    }
    built.expect(0, &[])?;
    // The place in the store on this machine, which ends with the path inside of it.
    same("what was built", built.stdout.trim().ends_with(&path), true)?;
    let info = run(&mut call(&["store", "path-info", "--json", &path]));
    info.expect(0, &[])?;
    let info: serde_json::Value = serde_json::from_str(&info.stdout).map_err(|e| e.to_string())?;
    same("its content address", info[&path]["ca"].clone(), serde_json::Value::Null)?;
    Ok(None)
}
