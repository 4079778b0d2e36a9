//! The server as people meet it: its page in a browser, what is told when pushing to it goes wrong, and many equal paths.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::caches::{Machine, Server, keygen, text};
use crate::support::{call, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 3] = [
    ("cache_page_in_a_browser", cache_page_in_a_browser),
    ("cache_push_of_equal_paths", cache_push_of_equal_paths),
    ("cache_push_troubles_are_told", cache_push_troubles_are_told),
];

fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("REDNIX_BROWSER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    named.into_iter().chain(found).find(|program| program.is_file())
}

/// What a page is once a browser has loaded it. It reaches this machine only.
fn loaded(browser: &Path, folder: &Path, url: &str) -> Result<String, String> {
    let mut command = Command::new(browser);
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args([
            "--proxy-server=http://127.0.0.1:1",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ])
        .arg(format!("--user-data-dir={}", folder.join("browser").display()))
        .args(["--timeout=240000", "--dump-dom", url])
        .env("HOME", folder)
        .stdin(Stdio::null());
    let output = command.output().map_err(|e| format!("the browser: {e}"))?;
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() && page.contains("</html>") {
        true => Ok(page),
        false => Err(format!(
            "the browser: {}\n{page}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// The text between tags, in lines.
fn shown(page: &str) -> Vec<String> {
    let body = page.split_once("<body>").map_or(page, |(_, body)| body);
    let mut lines: Vec<String> = Vec::new();
    for part in body.split('<') {
        let text = part.split_once('>').map_or(part, |(_, text)| text).trim();
        if !text.is_empty() {
            lines.push(text.to_owned());
        }
    }
    lines
}

fn cache_page_in_a_browser() -> Outcome {
    let Some(browser) = browser() else { return Ok(Some("no chromium".to_owned())) };
    let folder = scratch();
    let machine = Machine::new("");
    let (key, public) = keygen(folder.path(), "page-1")?;
    let server = Server::start(Some(&machine.store()), &["--key", text(&key)?])?;
    let page = loaded(&browser, folder.path(), &format!("{}/", server.url))?;
    if !shown(&page).iter().any(|line| line == "Nothing is here yet.") {
        return Err(format!("an empty store: {page}"));
    }
    let file = folder.path().join("seen-by-people");
    write(&file, &"x".repeat(3000));
    let added = machine.call(&["store", "add", text(&file)?]);
    added.expect(0, &[])?;
    let page = loaded(&browser, folder.path(), &format!("{}/", server.url))?;
    let address = server.url.trim_start_matches("http://");
    if !page.contains(&format!("<title>rednix cache at {address}</title>")) {
        return Err(format!("no title: {page}"));
    }
    let lines = shown(&page);
    let follows = |first: &str, second: &str| {
        lines.windows(2).any(|pair| pair[0] == first && pair[1].starts_with(second))
    };
    let told = [
        follows("rednix cache", "Paths"),
        follows("Paths", "1"),
        follows("Uploads taken", "none"),
        follows("Newest", "Path"),
        follows("seen-by-people", "/nix/store/"),
        follows(added.stdout.trim(), "added"),
        follows("added", "3.0 KiB"),
        lines.iter().any(|line| line.contains(&format!("extra-substituters = [\"{}\"]", server.url))),
        lines.iter().any(|line| line.contains(&format!("extra-trusted-public-keys = [\"{public}\"]"))),
    ];
    if told.contains(&false) {
        return Err(format!("{told:?} of {lines:#?}"));
    }
    // The link leads to the entry.
    let hash = added.stdout.trim().trim_start_matches("/nix/store/").split('-').next().unwrap_or_default();
    if !page.contains(&format!("href=\"/{hash}.narinfo\"")) {
        return Err(format!("no link: {page}"));
    }
    let entry = loaded(&browser, folder.path(), &format!("{}/log/{hash}-x.drv", server.url))?;
    if !entry.contains("404") {
        return Err(format!("a log that is not there: {entry}"));
    }
    Ok(None)
}

/// Forty folders with the same file, under names of their own: one archive, forty entries, as often as one likes.
fn cache_push_of_equal_paths() -> Outcome {
    let folder = scratch();
    let token = folder.path().join("token");
    write(&token, "token-of-the-test");
    let machine = Machine::new("");
    for number in 0..40 {
        let path = folder.path().join(format!("same-{number}"));
        write(&path.join("file"), "the same");
        machine.call(&["store", "add", text(&path)?]).expect(0, &[])?;
    }
    for round in 0..3 {
        let store = folder.path().join(format!("server-{round}"));
        let server = Server::start(Some(&store), &["--token", text(&token)?, "--accept-unsigned"])?;
        let pushed = machine.call(&["cache", "push", &server.url, "--all", "--token", text(&token)?]);
        crate::caches::says(&pushed, "40 paths pushed")?;
    }
    Ok(None)
}

fn cache_push_troubles_are_told() -> Outcome {
    let folder = scratch();
    let file = |name: &str, contents: &str| {
        let path = folder.path().join(name);
        write(&path, contents);
        path.display().to_string()
    };
    let (right, wrong) = (file("right", "the-right-token"), file("wrong", "the-wrong-token"));
    let bad = file("bad", "AAAA");
    let machine = Machine::new("");
    machine.call(&["store", "add", &right]).expect(0, &[])?;
    let server =
        Server::start(Some(&folder.path().join("server")), &["--token", &right, "--accept-unsigned"])?;
    let url = &server.url;
    let cases: [(&[&str], i32, &[&str], &[&str]); 8] = [
        (&["push", url, "--all", "--token", &wrong], 1, &["HTTP 401", &wrong, "serve --token"], &["netrc"]),
        (&["push", url, "--all"], 1, &["HTTP 401", "--token FILE"], &[]),
        (
            &["push", url, "--all", "--key", &bad],
            2,
            &["the secret key file", &bad, "it has no `:`", "keygen"],
            &["AAAA", "`the secret key`"],
        ),
        (
            &["push", url, "--all", "--key", "/nonexistent/key"],
            2,
            &["/nonexistent/key", "hint", "keygen"],
            &[],
        ),
        (&["push", url, "--all", "--token", "/nonexistent/t"], 2, &["/nonexistent/t", "hint"], &[]),
        (
            &["push", "http://127.0.0.1:1", "--all"],
            1,
            &["cannot reach", "is the cache running"],
            &["builds go on without"],
        ),
        (&["push", "local?root=/nonexistent", "--all"], 2, &["/nonexistent", "hint", "file:///FOLDER"], &[]),
        (&["keygen", "a b"], 2, &["`a b` is no name for a key", "one word without a `:`"], &[]),
    ];
    for (arguments, status, told, untold) in cases {
        let mut command = call(&["cache"]);
        command.args(arguments).env("REDNIX_STORE", machine.store());
        let result = run(&mut command);
        result.expect(status, told)?;
        if let Some(text) = untold.iter().find(|text| result.stderr.contains(*text)) {
            return Err(format!("{arguments:?} tells `{text}`: {}", result.stderr));
        }
    }
    Ok(None)
}
