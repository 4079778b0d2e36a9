//! Caches from end to end: a cold machine that only has a cache, and C++ Nix on the other side of each.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Outcome;
use crate::support::{Run, bash_expression, call, checkout, rednix, run, scratch, verify, write};

pub const TESTS: [(&str, fn() -> Outcome); 6] = [
    ("cache_fills_a_cold_machine", cache_fills_a_cold_machine),
    ("cache_gives_what_a_new_build_needs", cache_gives_what_a_new_build_needs),
    ("cache_and_the_peer_copy_both_ways", cache_and_the_peer_copy_both_ways),
    ("cache_in_a_bucket", cache_in_a_bucket),
    ("cache_pulls_from_a_store", cache_pulls_from_a_store),
    ("cache_troubles_are_told", cache_troubles_are_told),
];

/// A machine that has nothing and reaches nothing but what the configuration names.
pub struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    pub fn new(config: &str) -> Machine {
        let folder = scratch();
        write(&folder.path().join("config/rednix/config.toml"), config);
        Machine { folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn call(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(rednix());
        command
            .args(["--log-format", "json"])
            .current_dir(checkout())
            .stdin(Stdio::null())
            .env("NO_COLOR", "1");
        // Nothing listens at port 1: whatever goes anywhere else fails at once.
        let dead = "http://127.0.0.1:1";
        command
            .args(arguments)
            .env("REDNIX_STORE", self.store())
            .env("HOME", self.folder.path())
            .env("CARGO_HOME", self.folder.path().join("cargo"))
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("XDG_CACHE_HOME", self.folder.path().join("cache"))
            .env("XDG_DATA_HOME", self.folder.path().join("data"))
            .env("XDG_STATE_HOME", self.folder.path().join("state"))
            .envs(["http_proxy", "https_proxy", "all_proxy"].map(|name| (name, dead)))
            .env("no_proxy", "127.0.0.1");
        command
    }

    /// The image of the embedded system; nothing may be built, nor fetched from anywhere but `from`.
    fn image(&self, from: &str, more: &[&str]) -> Result<String, String> {
        let mut arguments = vec!["image", "probe"];
        arguments.extend(more);
        let result = self.call(&arguments);
        result.expect(0, &[])?;
        let (builds, strange) = count(&result, from);
        if builds > 0 || !strange.is_empty() {
            return Err(format!("{builds} builds, fetches from elsewhere: {strange:?}\n{}", result.stderr));
        }
        verify(&self.store())?;
        Ok(result.stdout.trim().to_owned())
    }

    /// The one derivation of that name.
    fn derivation(&self, name: &str) -> Result<String, String> {
        let entries = std::fs::read_dir(self.store().join("nix/store")).map_err(|e| e.to_string())?;
        let mut names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let found = names.find(|file| file.ends_with(name)).ok_or(format!("no {name} was written"))?;
        Ok(format!("/nix/store/{found}"))
    }
}

/// Builds begun, and the addresses of fetches that are not below `from`.
pub fn count(result: &Run, from: &str) -> (usize, Vec<String>) {
    let (mut builds, mut strange) = (0, Vec::new());
    for line in result.stderr.lines() {
        let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        match event["event"].as_str() {
            Some("build-started") => builds += 1,
            Some("fetch-started") => {
                let url = event["url"].as_str().unwrap_or_default();
                if !url.starts_with(from) {
                    strange.push(url.to_owned());
                }
            }
            _ => {}
        }
    }
    (builds, strange)
}

/// `rednix cache serve` until the value goes.
pub struct Server {
    child: Child,
    pub url: String,
}

impl Server {
    pub fn start(store: Option<&Path>, more: &[&str]) -> Result<Server, String> {
        Server::start_at("127.0.0.1:0", store, more)
    }

    pub fn start_at(address: &str, store: Option<&Path>, more: &[&str]) -> Result<Server, String> {
        let mut command = Command::new(rednix());
        command.args(["--log-format", "plain", "cache", "serve", "--listen", address]).args(more);
        if let Some(store) = store {
            command.env("REDNIX_STORE", store);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.map_err(|e| format!("the server: {e}"))?;
        let mut url = String::new();
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        BufReader::new(stdout).read_line(&mut url).map_err(|e| e.to_string())?;
        match url.trim() {
            "" => Err("the server ended without saying its address".to_owned()),
            url => Ok(Server { child, url: url.to_owned() }),
        }
    }
}

impl Server {
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A secret key's file and the public key.
pub fn keygen(folder: &Path, name: &str) -> Result<(PathBuf, String), String> {
    let result = run(&mut call(&["cache", "keygen", name]));
    result.expect(0, &["trusted-public-keys"])?;
    let file = folder.join(format!("{name}.secret"));
    write(&file, &result.stdout);
    let public = result.stderr.split_whitespace().last().unwrap_or_default().to_owned();
    Ok((file, public))
}

pub fn trusting(url: &str, public: &str) -> String {
    format!("substituters = [\"{url}\"]\ntrusted-public-keys = [\"{public}\"]\n")
}

pub fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("`{}` is not text", path.display()))
}

/// Only the image is pushed to a folder; an empty store and an empty home have it from there, whole, offline.
fn cache_fills_a_cold_machine() -> Outcome {
    let folder = scratch();
    let (key, public) = keygen(folder.path(), "cold-1")?;
    let url = format!("file://{}", folder.path().join("cache").display());
    let here = run(&mut call(&["image", "probe"]));
    here.expect(0, &[])?;
    run(&mut call(&["cache", "push", &url, "system:probe", "--key", text(&key)?])).expect(0, &[])?;
    let machine = Machine::new(&trusting(&url, &public));
    let image = machine.image(&url, &["--offline"])?;
    let bytes =
        |path: &str| std::fs::read(Path::new(path).join("disk.img")).map_err(|e| format!("{path}: {e}"));
    if bytes(&image)? != bytes(here.stdout.trim())? {
        return Err("the image is not the one that was pushed".to_owned());
    }
    // Who trusts another key does not get it: it would be built, and cannot be.
    let (_, other) = keygen(folder.path(), "other-1")?;
    let stranger = Machine::new(&trusting(&url, &other));
    let result = stranger.call(&["image", "probe", "--offline"]);
    result.expect(1, &["is not signed by a key that is trusted here"])?;
    Ok(None)
}

/// Something nobody built yet: its root's packages, unpacked and fetched, come from the cache; it alone is built.
fn cache_gives_what_a_new_build_needs() -> Outcome {
    let folder = scratch();
    let (key, public) = keygen(folder.path(), "team-1")?;
    // So that the root is in the store that is served.
    let known = bash_expression("cache-known", "echo known > $out");
    run(&mut call(&["build", "--no-link", "--expr", &known])).expect(0, &[])?;
    let server = Server::start(None, &["--key", text(&key)?])?;
    let machine = Machine::new(&trusting(&server.url, &public));
    let unknown = format!("echo unknown {} > $out", folder.path().display());
    let expression = bash_expression("cache-unknown", &unknown);
    let result = machine.call(&["build", "--no-link", "--expr", &expression]);
    result.expect(0, &[])?;
    let (builds, strange) = count(&result, &server.url);
    if builds != 1 || !strange.is_empty() {
        return Err(format!("{builds} builds, fetches from elsewhere: {strange:?}"));
    }
    verify(&machine.store())?;
    // The layers of the root were taken as they are; their packages were not needed. Now one of those is.
    let deb = fixed_output(&machine)?;
    let other = Machine::new(&trusting(&server.url, &public));
    let fetch = format!("derivation (builtins.fromJSON (builtins.readFile {}))", deb.display());
    let result = other.call(&["build", "--no-link", "--expr", &fetch]);
    result.expect(0, &[])?;
    let (builds, strange) = count(&result, &server.url);
    if builds > 0 || !strange.is_empty() {
        return Err(format!("a package: {builds} builds, fetches from elsewhere: {strange:?}"));
    }
    verify(&other.store())?;
    broken_promise(&server.url, &public, &other, &fetch)
}

/// A cache that has the entry and not the archive: what it promised comes from somewhere else.
fn broken_promise(url: &str, public: &str, lender: &Machine, fetch: &str) -> Outcome {
    let folder = scratch();
    let broken = format!("file://{}", folder.path().display());
    let pushed = lender.call(&["cache", "push", &broken, "--all"]);
    pushed.expect(0, &[])?;
    std::fs::remove_dir_all(folder.path().join("nar")).map_err(|e| e.to_string())?;
    let second = Machine::new(&trusting(&broken, public));
    let lent = lender.store();
    let arguments = ["build", "--no-link", "--borrow-from", text(&lent)?, "--expr", fetch];
    second.call(&arguments).expect(0, &["and not its archive"])?;
    verify(&second.store())?;
    // And where another cache has it, from there.
    let both = format!(
        "substituters = [\"{broken}?priority=1\", \"{url}?priority=2\"]\ntrusted-public-keys = [\"{public}\"]\n"
    );
    let third = Machine::new(&both);
    third.call(&["build", "--no-link", "--expr", fetch]).expect(0, &[url])?;
    verify(&third.store())?;
    Ok(None)
}

/// The attributes, as JSON, of a derivation that fetches a Debian package.
fn fixed_output(machine: &Machine) -> Result<PathBuf, String> {
    let name = machine.derivation(".deb.drv")?;
    let file = machine.store().join(name.trim_start_matches('/'));
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let mut attributes = serde_json::Map::new();
    // `("name","value")` pairs: what is fetched has no quotes in its environment.
    for pair in text.split("(\"").skip(2) {
        let mut parts = pair.split('"');
        if let (Some(key), Some(","), Some(value)) = (parts.next(), parts.next(), parts.next()) {
            attributes.insert(key.to_owned(), value.into());
        }
    }
    attributes.remove("out");
    let target = machine.folder.path().join("deb.json");
    write(&target, &serde_json::Value::Object(attributes).to_string());
    Ok(target)
}

/// The peer's `nix` with more configuration.
fn nix(config: &str) -> Result<Command, String> {
    let mut command = crate::peer::tool("nix").ok_or("C++ Nix is not installed")?;
    let own = command.get_envs().find(|(name, _)| *name == "NIX_CONFIG").and_then(|(_, value)| value);
    let own = own.map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
    command.env("NIX_CONFIG", format!("{own}\n{config}"));
    Ok(command)
}

fn peer(config: &str, arguments: &[&str]) -> Result<(), String> {
    let output = nix(config)?.args(arguments).output().map_err(|e| format!("the peer: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(format!("the peer's `nix {arguments:?}` fails: {}", String::from_utf8_lossy(&output.stderr)))
        }
    }
}

/// Every direction: what rednix pushes and serves the peer takes, and the other way round, realisations included.
fn cache_and_the_peer_copy_both_ways() -> Outcome {
    if let Err(reason) = crate::peer::instantiate() {
        return Ok(Some(reason));
    }
    let folder = scratch();
    let (key, public) = keygen(folder.path(), "peer-1")?;
    let pushed = format!("file://{}", folder.path().join("pushed").display());
    run(&mut call(&["image", "probe"])).expect(0, &[])?;
    run(&mut call(&["cache", "push", &pushed, "system:probe", "--key", text(&key)?])).expect(0, &[])?;
    let machine = Machine::new(&trusting(&pushed, &public));
    let image = machine.image(&pushed, &[])?;
    let image = format!("/nix/store/{}", Path::new(&image).file_name().unwrap_or_default().to_string_lossy());
    let derivation = machine.derivation("-probe-image.drv")?;
    let trusted = format!("trusted-public-keys = {public}");

    // rednix's folder → the peer.
    let root = |name: &str| folder.path().join(name);
    let local = |name: &str| format!("local?root={}", root(name).display());
    peer(&trusted, &["copy", "--from", &pushed, "--to", &local("p1"), &image])?;
    verify(&root("p1"))?;

    // rednix's server → the peer. The path came from a cache, so its signature is handed on, not made.
    let own = Server::start(Some(&machine.store()), &[])?;
    peer(&trusted, &["copy", "--from", &own.url, "--to", &local("p2"), &image])?;
    verify(&root("p2"))?;

    // The peer → a rednix server that takes uploads; then a cold rednix has it from there.
    let token = folder.path().join("token");
    write(&token, "token-of-the-test");
    let netrc = folder.path().join("netrc");
    write(&netrc, "machine 127.0.0.1 login any password token-of-the-test\n");
    let (server_key, server_public) = keygen(folder.path(), "server-1")?;
    let more = ["--key", text(&server_key)?, "--token", text(&token)?, "--accept-unsigned"];
    let receiving = Server::start(Some(&root("received")), &more)?;
    let from = format!("local?root={}", machine.store().display());
    let output = format!("{derivation}^out");
    let upload = ["copy", "--store", &from, "--to", &receiving.url, &output];
    if peer("netrc-file = /nonexistent", &upload).is_ok() {
        return Err("an upload without the token was taken".to_owned());
    }
    let netrc = format!("netrc-file = {}", netrc.display());
    peer(&netrc, &upload)?;
    // Twice is once.
    peer(&netrc, &upload)?;
    verify(&root("received"))?;
    // It takes back what it brought, by the entries that it remembers.
    let trusted = format!("trusted-public-keys = {server_public}");
    peer(&trusted, &["copy", "--no-check-sigs", "--from", &receiving.url, "--to", &local("p3"), &image])?;
    let cold = Machine::new(&trusting(&receiving.url, &server_public));
    cold.image(&receiving.url, &[])?;

    // The peer's folder → rednix, which trusts the folder as such.
    let written = format!("file://{}", folder.path().join("written").display());
    peer("", &["copy", "--store", &from, "--to", &written, &output])?;
    let cold = Machine::new(&format!("substituters = [\"{written}?trusted=1\"]\n"));
    cold.image(&written, &["--offline"])?;
    Ok(None)
}

/// A server of S3-compatible storage, `moto_server` of the Python package `moto[server]`, until the value goes.
struct Storage {
    child: Child,
    address: String,
}

impl Storage {
    fn start(buckets: &[&str]) -> Result<Result<Storage, String>, String> {
        let program = std::env::var("REDNIX_S3_SERVER").unwrap_or_else(|_| "moto_server".to_owned());
        let begun = std::time::Instant::now();
        loop {
            match Storage::start_once(&program, buckets)? {
                // Somebody else got the port that was free a moment ago.
                Ok(None) if begun.elapsed().as_secs() < 300 => {}
                Ok(None) => return Err(format!("`{program}` ends at once")),
                Ok(Some(storage)) => return Ok(Ok(storage)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
    }

    /// None where it ended by itself.
    fn start_once(program: &str, buckets: &[&str]) -> Result<Result<Option<Storage>, String>, String> {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|e| e.to_string())?.to_string();
        let port = address.rsplit(':').next().unwrap_or_default();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", port]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => return Ok(Err(format!("no S3-compatible server: `{program}`: {error}"))),
        };
        let mut storage = Storage { child, address };
        for bucket in buckets {
            if !storage.make(bucket)? {
                return Ok(Ok(None));
            }
        }
        Ok(Ok(Some(storage)))
    }

    /// Open to everybody: C++ Nix may be built without what signs.
    fn make(&mut self, bucket: &str) -> Result<bool, String> {
        use std::io::{Read, Write};
        let started = std::time::Instant::now();
        loop {
            if self.child.try_wait().map_err(|e| e.to_string())?.is_some() {
                return Ok(false);
            }
            let mut answer = String::new();
            let asked = std::net::TcpStream::connect(&self.address).and_then(|mut stream| {
                write!(
                    stream,
                    "PUT /{bucket} HTTP/1.1\r\nHost: x\r\nx-amz-acl: public-read-write\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )?;
                stream.read_to_string(&mut answer)
            });
            match asked {
                Ok(_) if answer.starts_with("HTTP/1.1 200") => return Ok(true),
                _ if started.elapsed().as_secs() > 300 => {
                    return Err(format!("no bucket: {asked:?} {answer}"));
                }
                _ => std::thread::sleep(std::time::Duration::from_millis(100)),
            }
        }
    }

    fn url(&self, bucket: &str) -> String {
        format!("s3://{bucket}?endpoint={}&scheme=http&region=eu-west-1", self.address)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of something built, as it is called everywhere, and the store that it is in.
fn built(name: &str) -> Result<(String, String), String> {
    let expression = bash_expression(name, &format!("mkdir $out; echo {name} > $out/file"));
    let result = run(&mut call(&["build", "--no-link", "--expr", &expression]));
    result.expect(0, &[])?;
    let (store, name) = result.stdout.trim().rsplit_once("/nix/store/").ok_or("no path was printed")?;
    Ok((format!("/nix/store/{name}"), store.to_owned()))
}

/// A run that ends well and says this on standard output.
pub fn says(result: &Run, text: &str) -> Result<(), String> {
    result.expect(0, &[])?;
    match result.stdout.contains(text) {
        true => Ok(()),
        false => Err(format!("`{text}` is not in: {}", result.stdout)),
    }
}

/// Credentials from the environment and from the files; and C++ Nix on the other side of the same bucket, both ways.
fn cache_in_a_bucket() -> Outcome {
    let storage = match Storage::start(&["ours", "theirs"])? {
        Ok(storage) => storage,
        Err(reason) => return Ok(Some(reason)),
    };
    let folder = scratch();
    let (key, public) = keygen(folder.path(), "bucket-1")?;
    let (path, _) = built("cache-bucket")?;
    let (ours, theirs) = (storage.url("ours"), storage.url("theirs"));
    let mut push = call(&["cache", "push", &ours, &path, "--key", text(&key)?]);
    push.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b");
    says(&run(&mut push), "1 paths pushed")?;
    let machine = Machine::new(&trusting(&format!("{ours}&profile=team"), &public));
    machine.call(&["cache", "pull", &path]).expect(2, &["there is no profile `team`"])?;
    write(
        &machine.folder.path().join(".aws/credentials"),
        "[team]\naws_access_key_id = a\naws_secret_access_key = b\n",
    );
    says(&machine.call(&["cache", "pull", &path]), "1 paths pulled")?;
    verify(&machine.store())?;
    if let Err(reason) = crate::peer::instantiate() {
        return Ok(Some(reason));
    }
    let root = |name: &str| folder.path().join(name);
    let local = |name: &str| format!("local?root={}", root(name).display());
    let bucket = |config: &str, arguments: &[&str]| {
        let mut command = nix(config)?;
        command.env("AWS_ACCESS_KEY_ID", "a").env("AWS_SECRET_ACCESS_KEY", "b").env("HOME", folder.path());
        let output = command.args(arguments).output().map_err(|e| format!("the peer: {e}"))?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("the peer's `nix {arguments:?}` fails: {told}"))
        }
    };
    let trusted = format!("trusted-public-keys = {public}");
    bucket(&trusted, &["copy", "--from", &ours, "--to", &local("taken"), &path])?;
    verify(&root("taken"))?;
    bucket("", &["copy", "--from", &local("taken"), "--to", &theirs, &path])?;
    let other = Machine::new("");
    write(
        &other.folder.path().join(".aws/credentials"),
        "[default]\naws_access_key_id = a\naws_secret_access_key = b\n",
    );
    let from = format!("{theirs}&trusted=1");
    says(&other.call(&["cache", "pull", "--from", &from, &path]), "1 paths pulled")?;
    verify(&other.store())?;
    Ok(None)
}

/// From another store on this machine: by its word only where it is trusted.
fn cache_pulls_from_a_store() -> Outcome {
    let (path, store) = built("cache-pulled")?;
    let from = format!("local?root={store}");
    let machine = Machine::new("");
    // Its contents are its name: nobody has to vouch for it.
    says(&machine.call(&["cache", "pull", "--from", &from, &path]), "1 paths pulled")?;
    says(&machine.call(&["cache", "pull", "--from", &from, &path]), "0 paths pulled")?;
    verify(&machine.store())?;
    let absent = "/nix/store/00000000000000000000000000000000-absent";
    let told = machine.call(&["cache", "pull", "--from", &from, absent]);
    told.expect(1, &["no cache has", &format!("asked: {from}")])?;
    if told.stderr.contains("build goes on") {
        return Err(told.stderr);
    }
    let nowhere = ["cache", "pull", "--from", "file:///nonexistent", absent];
    machine.call(&nowhere).expect(2, &["there is no folder `/nonexistent`"])?;
    machine.call(&["cache", "pull", absent]).expect(2, &["no cache is configured"])?;
    machine.call(&["cache", "pull", "--from", "local?root=x", absent]).expect(2, &["local?root=/FOLDER"])?;
    Ok(None)
}

/// What is wrong with a configuration or a key is told with what to do.
fn cache_troubles_are_told() -> Outcome {
    let cases = [
        ("substituters = [\"ftp://host/x\"]\n", 2, "is not the address of a cache"),
        ("trusted-public-keys = [\"nonsense\"]\nsubstituters = [\"file:///x\"]\n", 2, "is no key"),
        ("substituter = []\n", 2, "trusted-public-keys"),
    ];
    for (config, status, message) in cases {
        let machine = Machine::new(config);
        machine
            .call(&[
                "build",
                "--no-link",
                "--expr",
                "derivation { name = \"x\"; system = \"s\"; builder = \"b\"; }",
            ])
            .expect(status, &[message])?;
    }
    let folder = scratch();
    write(&folder.path().join("bad"), "secret:AAAA");
    let bad = folder.path().join("bad");
    for arguments in [&["cache", "serve", "--key", text(&bad)?][..], &["cache", "push", "ftp://x", "--all"]] {
        let result = run(call(arguments).env("REDNIX_STORE", folder.path().join("store")));
        result.expect(2, &["hint"])?;
        if result.stderr.contains("AAAA") {
            return Err("a secret was shown".to_owned());
        }
    }
    Ok(None)
}
