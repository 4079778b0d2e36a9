//! Ways to and from caches: pushing whatever comes, certificates of one's own, and git trees that only a cache has.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Outcome;
use crate::caches::{Machine, Server, count, keygen, says, text, trusting};
use crate::recipes::git;
use crate::support::{scratch, verify, write};

pub const TESTS: [(&str, fn() -> Outcome); 6] = [
    ("cache_push_watches", cache_push_watches),
    ("cache_push_watching_waits_as_it_is_told", cache_push_watching_waits_as_it_is_told),
    (
        "cache_push_watching_goes_on_without_what_is_refused",
        cache_push_watching_goes_on_without_what_is_refused,
    ),
    ("cache_push_ends_when_it_is_interrupted", cache_push_ends_when_it_is_interrupted),
    ("cache_behind_an_own_certificate", cache_behind_an_own_certificate),
    ("cache_has_git_trees_whose_mirrors_are_gone", cache_has_git_trees_whose_mirrors_are_gone),
];

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(300);

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) -> Result<(), String> {
    let started = Instant::now();
    while !is_there() {
        if started.elapsed() > PATIENCE {
            return Err(format!("waited in vain for {what}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A running `rednix cache push --watch`, and what it says.
struct Watching {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Watching {
    fn start(machine: &Machine, arguments: &[&str]) -> Result<Watching, String> {
        let mut command = machine.command(&["cache", "push", "--watch"]);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let errors = child.stderr.take().ok_or("it has no standard error")?;
        let said: Arc<Mutex<String>> = Arc::default();
        let heard = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                heard.lock().expect("nobody panicked").push_str(&format!("{line}\n"));
            }
        });
        let watching = Watching { child, said };
        wait_for("the watch to begin", || watching.says("watching the store"))?;
        Ok(watching)
    }

    fn says(&self, text: &str) -> bool {
        self.said.lock().expect("nobody panicked").contains(text)
    }

    /// Ctrl-C, which ends it well.
    fn end(self) -> Result<(), String> {
        self.end_with(0)
    }

    fn end_with(mut self, expected: i32) -> Result<(), String> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::INT).map_err(|e| e.to_string())?;
        let status = self.child.wait().map_err(|e| e.to_string())?;
        match status.code() == Some(expected) {
            true => Ok(()),
            false => {
                Err(format!("the watch ends with {status}: {}", self.said.lock().expect("nobody panicked")))
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Adds a file to a machine's store; returns the path that it has.
fn add(machine: &Machine, name: &str) -> Result<String, String> {
    let file = machine.folder().join(name);
    write(&file, name);
    let added = machine.call(&["store", "add", text(&file)?]);
    added.expect(0, &[])?;
    Ok(added.stdout.trim().to_owned())
}

/// What a cache takes no more of is told, what comes after it is pushed, and in the end it is no success. What was
/// pushed may be collected while it goes on.
fn cache_push_watching_goes_on_without_what_is_refused() -> Outcome {
    let folder = scratch();
    let token = folder.path().join("token");
    write(&token, "token-of-the-test");
    let received = folder.path().join("received");
    let server = Server::start(Some(&received), &["--token", text(&token)?, "--max-uploads", "100K"])?;
    let machine = Machine::new("");
    let watching = Watching::start(&machine, &[&server.url, "--token", text(&token)?])?;
    let large = machine.folder().join("large");
    write(&large, &"0123456789abcdef".repeat(20_000));
    let added = machine.call(&["store", "add", text(&large)?]);
    added.expect(0, &[])?;
    let large = added.stdout.trim().to_owned();
    wait_for("the refusal", || watching.says(&format!("`{large}` is not pushed: ")))?;
    let small = add(&machine, "small")?;
    wait_for("the small path", || is_valid(&received, &small))?;
    wait_for("a collection", || {
        machine.call(&["gc"]).expect(0, &[]).is_ok() && !is_valid(&machine.store(), &small)
    })?;
    let told = watching.said.clone();
    watching.end_with(1)?;
    let told = told.lock().expect("nobody panicked").clone();
    match told.matches("is not pushed").count() {
        1 if told.contains("1 paths were not pushed") => Ok(None),
        _ => Err(told),
    }
}

/// A server that takes what is sent and says nothing is not waited for by somebody who does not want to any more.
fn cache_push_ends_when_it_is_interrupted() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let url = format!("http://{}", listener.local_addr().map_err(|e| e.to_string())?);
    let (asked, stuck) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let asked = asked.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let line = request(&mut &stream)?;
                if line.starts_with("PUT /nar/") {
                    let _ = asked.send(());
                    std::thread::sleep(PATIENCE);
                }
                let head = if line.starts_with("PUT") { "200 Good" } else { "404 Absent" };
                write!(&stream, "HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            });
        }
    });
    let machine = Machine::new("");
    let watching = Watching::start(&machine, &[&url])?;
    add(&machine, "some")?;
    stuck.recv_timeout(PATIENCE).map_err(|e| e.to_string())?;
    let started = Instant::now();
    watching.end()?;
    // It would be waited for as long as a large upload may take to be looked at.
    match started.elapsed() < Duration::from_secs(30) {
        true => Ok(None),
        false => Err(format!("it took {:?}", started.elapsed())),
    }
}

fn is_valid(store: &Path, path: &str) -> bool {
    let machine = Machine::new("");
    let mut command = machine.command(&["store", "path-info", path]);
    command.env("REDNIX_STORE", store).output().is_ok_and(|output| output.status.success())
}

/// What comes while it watches is pushed, what was there before is not; a server that is away is waited for.
fn cache_push_watches() -> Outcome {
    let folder = scratch();
    let token = folder.path().join("token");
    write(&token, "token-of-the-test");
    let received = folder.path().join("received");
    let server = Server::start(Some(&received), &["--token", text(&token)?])?;
    let (url, port) = (server.url.clone(), server.url.rsplit(':').next().unwrap_or_default().to_owned());
    let machine = Machine::new("");
    let before = add(&machine, "before")?;
    let watching = Watching::start(&machine, &[&url, "--token", text(&token)?])?;
    let first = add(&machine, "first")?;
    wait_for("the first path", || is_valid(&received, &first))?;
    drop(server);
    let second = add(&machine, "second")?;
    wait_for("a notice", || watching.says("trying again in"))?;
    // The port is nobody's meanwhile, so somebody else may have it for a moment.
    let (address, token) = (format!("127.0.0.1:{port}"), text(&token)?);
    let mut server = Err(String::new());
    wait_for("the port", || {
        server = Server::start_at(&address, Some(&received), &["--token", token]);
        server.is_ok()
    })?;
    wait_for("the second path", || is_valid(&received, &second))?;
    watching.end()?;
    if is_valid(&received, &before) {
        return Err("what was there before the watch was pushed".to_owned());
    }
    verify(&received)?;
    Ok(None)
}

/// One request of a connection: its first line, after its body was read.
fn request(stream: &mut (impl Read + ?Sized)) -> std::io::Result<String> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    Ok(first)
}

/// A server that says when it can be asked again: not before is it asked, and then all is pushed.
fn cache_push_watching_waits_as_it_is_told() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let url = format!("http://{}", listener.local_addr().map_err(|e| e.to_string())?);
    let requests: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
    let seen = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || -> std::io::Result<()> {
                let line = request(&mut &stream)?;
                let mut seen = seen.lock().expect("nobody panicked");
                let is_refused = line.starts_with("PUT /nar/")
                    && !seen.iter().any(|(_, known)| known.starts_with("PUT /nar/"));
                let head = match line.split(' ').next() {
                    _ if is_refused => "503 Busy\r\nRetry-After: 7",
                    Some("GET" | "HEAD") => "404 Absent",
                    _ => "200 Good",
                };
                seen.push((Instant::now(), line));
                write!(&stream, "HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            });
        }
    });
    let machine = Machine::new("");
    let watching = Watching::start(&machine, &[&url])?;
    let path = add(&machine, "late")?;
    let entry = format!(
        "PUT /{}.narinfo",
        path.trim_start_matches("/nix/store/").split('-').next().unwrap_or_default()
    );
    wait_for("the entry", || {
        requests.lock().expect("nobody panicked").iter().any(|(_, line)| line.starts_with(&entry))
    })?;
    wait_for("what it was told", || watching.says("asks for 7 s; trying again in 7 s"))?;
    watching.end()?;
    let requests = requests.lock().expect("nobody panicked");
    let uploads: Vec<Instant> =
        requests.iter().filter(|(_, line)| line.starts_with("PUT /nar/")).map(|(at, _)| *at).collect();
    match uploads[..] {
        [refused, taken] if taken - refused >= Duration::from_secs(7) => Ok(None),
        _ => Err(format!("{requests:?}")),
    }
}

/// A certificate that signed itself for 127.0.0.1, and its key; `None` without `openssl`.
fn certificate(folder: &Path) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "own.key",
        "-out",
        "own.pem",
        "-subj",
        "/CN=cache",
        "-days",
        "2",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    match Command::new("openssl").args(arguments).current_dir(folder).output() {
        Ok(output) if output.status.success() => Ok(Some((folder.join("own.pem"), folder.join("own.key")))),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(_) => Ok(None),
    }
}

/// Serves a folder with TLS.
fn serve_tls(folder: PathBuf, certificate: &Path, key: &Path) -> Result<String, String> {
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|e| e.to_string())?;
    let chain = chain.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| e.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| e.to_string())?.with_no_client_auth();
    let config = Arc::new(config.with_single_cert(chain, key).map_err(|e| e.to_string())?);
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, folder) = (config.clone(), folder.clone());
            std::thread::spawn(move || answer_tls(&folder, config, stream));
        }
    });
    Ok(format!("https://{address}"))
}

fn answer_tls(folder: &Path, config: Arc<rustls::ServerConfig>, stream: TcpStream) -> std::io::Result<()> {
    let connection = rustls::ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    let line = request(&mut stream)?;
    let place = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let (status, body) = match std::fs::read(folder.join(place)) {
        Ok(body) => (200, body),
        Err(_) => (404, Vec::new()),
    };
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Whose certificates count: the system's, or those that `SSL_CERT_FILE` names.
fn cache_behind_an_own_certificate() -> Outcome {
    let folder = scratch();
    let Some((certificate, key)) = certificate(folder.path())? else {
        return Ok(Some("no certificates: `openssl` is not installed".to_owned()));
    };
    let cache = folder.path().join("cache");
    let from = Machine::new("");
    let path = add(&from, "behind-tls")?;
    says(&from.call(&["cache", "push", &format!("file://{}", cache.display()), &path]), "1 paths pushed")?;
    let url = serve_tls(cache, &certificate, &key)?;
    let machine = Machine::new(&format!("substituters = [\"{url}\"]\n"));
    let pull = |certificates: Option<&Path>| {
        let mut command = machine.command(&["cache", "pull", &path]);
        match certificates {
            Some(file) => command.env("SSL_CERT_FILE", file),
            None => command.env_remove("SSL_CERT_FILE"),
        };
        crate::support::run(&mut command)
    };
    pull(None).expect(1, &["certificate"])?;
    says(&pull(Some(&certificate)), "1 paths pulled")?;
    verify(&machine.store())?;
    Ok(None)
}

/// A pinned git tree whose server is gone, and every mirror with it: the cache has it.
fn cache_has_git_trees_whose_mirrors_are_gone() -> Outcome {
    let folder = scratch();
    let repository = folder.path().join("mirror/g.git");
    write(&repository.join("text"), "of the repository\n");
    git(&repository, &["init", "--quiet"])?;
    git(&repository, &["add", "."])?;
    git(&repository, &["commit", "--quiet", "-m", "first"])?;
    let tree = folder.path().join("tree");
    write(
        &tree.join("recipes/g/recipe.toml"),
        "[source]\ngit = \"https://nowhere.invalid/g.git\"\n[build]\ntemplate = \"custom\"\nscript = \"\"\n",
    );
    write(&tree.join("config/s.toml"), "[general]\nfilesystem_size = 40\n[packages]\ng = {}\n");
    let lock = folder.path().join("rednix.lock");
    let mirror = folder.path().join("mirror");
    let mirrors = format!("[mirrors]\n\"https://nowhere.invalid/\" = \"{}/\"\n", mirror.display());
    let warm = Machine::new(&mirrors);
    warm.call(&["lock", "g", "--tree", text(&tree)?, "--output", text(&lock)?]).expect(0, &[])?;
    let pins: serde_json::Value = std::fs::read_to_string(&lock)
        .map_err(|e| e.to_string())
        .and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string()))?;
    let pin = &pins["sources"]["g"];
    let part =
        |name: &str| pin[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name} in {pin}"));
    let expression = format!(
        "(import {}/nix {{ }}).derive.fetchgit {{ name = \"g-source\"; url = \"{}\"; rev = \"{}\"; narHash = \"{}\"; }}",
        crate::support::checkout().display(),
        part("url")?,
        part("rev")?,
        part("narHash")?,
    );
    let arguments = ["build", "--no-link", "--expr", &expression];
    let built = warm.call(&arguments);
    built.expect(0, &[])?;
    let (key, public) = keygen(folder.path(), "git-1")?;
    let url = format!("file://{}", folder.path().join("cache").display());
    says(&warm.call(&["cache", "push", &url, built.stdout.trim(), "--key", text(&key)?]), "1 paths pushed")?;
    std::fs::remove_dir_all(&mirror).map_err(|e| e.to_string())?;
    // Without the cache it is gone, also for whoever knows the mirror.
    Machine::new(&mirrors).call(&arguments).expect(1, &["nowhere.invalid"])?;
    for config in [trusting(&url, &public), format!("substituters = [\"{url}\"]\n{mirrors}")] {
        let cold = Machine::new(&config);
        let result = cold.call(&arguments);
        result.expect(0, &[])?;
        let (builds, strange) = count(&result, &url);
        if builds > 0 || !strange.is_empty() {
            return Err(format!("{builds} builds, fetches from elsewhere: {strange:?}"));
        }
        let text = std::fs::read_to_string(Path::new(result.stdout.trim()).join("text"));
        if text.as_deref().ok() != Some("of the repository\n") {
            return Err(format!("another tree: {text:?}"));
        }
        verify(&cold.store())?;
    }
    Ok(None)
}
