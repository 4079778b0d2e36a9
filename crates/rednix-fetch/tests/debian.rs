//! Locking and fetching Debian packages from a made-up archive in a folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rednix_events::{Event, Events, Recorder};
use rednix_fetch::{DebianLock, FetchConfig, FetchError, Fetcher, LockSpec, SuiteSpec, lock_debian};
use rednix_store::hash::{Hash, HashAlgorithm};

fn hex(bytes: &[u8]) -> String {
    Hash::of(HashAlgorithm::Sha256, bytes).to_hex()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes a suite with packages (`name version; Field: value; …`), whose `.deb` files hold their own names.
fn write_suite(mirror: &Path, suite: &str, lines: &[&str]) {
    let mut index = String::new();
    for line in lines {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        let contents = format!("{name} {version}");
        let path = format!("pool/main/{}/{name}_{version}_amd64.deb", &name[..1]);
        write(&mirror.join(&path), contents.as_bytes());
        index.push_str(&format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nInstalled-Size: 2\nFilename: {path}\nSize: {}\nSHA256: {}\n",
            contents.len(),
            hex(contents.as_bytes())
        ));
        parts.for_each(|field| index.push_str(&format!("{field}\n")));
        index.push('\n');
    }
    let packed = xz(index.as_bytes());
    let relative = "main/binary-amd64/Packages.xz";
    write(&mirror.join(format!("dists/{suite}/{relative}")), &packed);
    let release = format!(
        "Suite: {suite}\nCodename: {suite}\nDate: Sat, 03 Jan 2026 00:00:00 UTC\nAcquire-By-Hash: yes\nSHA256:\n {} {} {relative}\n",
        hex(&packed),
        packed.len()
    );
    write(&mirror.join(format!("dists/{suite}/InRelease")), release.as_bytes());
}

struct Bench {
    folder: tempfile::TempDir,
    mirror: PathBuf,
    config: FetchConfig,
    recorder: Arc<Recorder>,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("mirror");
        let mut config = FetchConfig::new(folder.path().join("cache"));
        config.debian_mirrors = vec![("*".into(), mirror.display().to_string())];
        write_suite(&mirror, "trixie", &["a 1; Depends: b (>= 1), c | d", "b 1", "d 1", "e 1"]);
        write_suite(&mirror, "trixie-security", &["a 1+deb13u1; Depends: b", "s 2; Depends: a"]);
        Bench { folder, mirror, config, recorder: Arc::default() }
    }

    fn lock(&self, roots: &[(&str, &[&str])]) -> Result<DebianLock, FetchError> {
        let suite = |name: &str| SuiteSpec { name: name.into(), components: vec!["main".into()] };
        let spec = LockSpec {
            architecture: "amd64".into(),
            suites: vec![suite("trixie"), suite("trixie-security")],
            roots: roots
                .iter()
                .map(|(name, items)| (name.to_string(), items.iter().map(ToString::to_string).collect()))
                .collect::<BTreeMap<_, Vec<String>>>(),
            exclude: Default::default(),
        };
        let events: Events = self.recorder.clone();
        lock_debian(&spec, &self.config, &events)
    }

    fn warnings(&self) -> Vec<String> {
        let events = self.recorder.events().into_iter();
        events
            .filter_map(|event| if let Event::Warning { message } = event { Some(message) } else { None })
            .collect()
    }

    fn out(&self) -> PathBuf {
        let out = self.folder.path().join("out");
        fs::create_dir_all(&out).unwrap();
        out
    }
}

#[test]
fn a_lock_and_its_packages() {
    let bench = Bench::new();
    let lock = bench.lock(&[("one", &["a"]), ("two", &["s"])]).unwrap();
    assert_eq!(lock.roots["one"], ["a", "b", "d"]);
    assert_eq!(lock.roots["two"], ["a", "b", "d", "s"]);
    assert_eq!((lock.packages["a"].version.as_str(), lock.packages["a"].suite.as_str()), ("1", "trixie"));
    assert_eq!(lock.packages["s"].suite, "trixie-security");
    assert_eq!(lock.packages["a"].installed_size, 2048);
    assert_eq!(lock.suites[0].date, "Sat, 03 Jan 2026 00:00:00 UTC");
    let text = lock.to_json();
    assert_eq!(DebianLock::parse("lock", &text).unwrap(), lock);
    assert_eq!(
        bench.lock(&[("two", &["s"]), ("one", &["a"])]).unwrap().to_json(),
        text,
        "same input, same text"
    );
    assert!(
        bench.warnings().iter().any(|warning| warning.contains("it is not signed")),
        "{:?}",
        bench.warnings()
    );
    let events: Events = bench.recorder.clone();
    let requests = lock.requests(["a", "s"]).unwrap();
    let results = Fetcher::new(bench.config.clone()).fetch_batch(&requests, &bench.out(), &events);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(fs::read_to_string(bench.out().join("a.deb")).unwrap(), "a 1");
    assert!(matches!(lock.requests(["zzz"]), Err(FetchError::BadLock { .. })));
}

#[test]
fn damaged_locks() {
    let good = Bench::new().lock(&[("one", &["a"])]).unwrap().to_json();
    for (text, words) in [
        (good.replace("\"version\": 1,", "\"version\": 2,"), "version 2"),
        (good.replace("\"d\"\n", "\"zzz\"\n"), "zzz"),
        (good.replace("pool/main/a/", "../"), "package `a`"),
        (good[..good.len() / 2].to_owned(), "EOF"),
        (good.replace("\"sha256\"", "\"md5\""), "sha256"),
    ] {
        let error = DebianLock::parse("rednix.lock", &text).unwrap_err().to_string();
        assert!(error.contains("rednix.lock") && error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_package_that_is_gone_is_named_with_what_is_offered() {
    let bench = Bench::new();
    let lock = bench.lock(&[("one", &["a"])]).unwrap();
    fs::remove_dir_all(bench.mirror.join("pool")).unwrap();
    write_suite(&bench.mirror, "trixie", &["a 1.1", "d 1"]);
    let events: Events = bench.recorder.clone();
    let told: Mutex<BTreeMap<usize, String>> = Mutex::default();
    let requests = lock.requests(["a", "b", "d"]).unwrap();
    let folders = vec![bench.out(); 3];
    let fetcher = Fetcher::new(bench.config.clone());
    let results = fetcher.fetch_each(&requests, &folders, &events, &|index, outcome| {
        let text =
            outcome.as_ref().map_or_else(ToString::to_string, |fetched| fetched.path.display().to_string());
        assert!(told.lock().unwrap().insert(index, text).is_none(), "told twice");
    });
    let told = told.into_inner().unwrap();
    assert!(matches!(results[0], Err(FetchError::PackageGone { .. })));
    assert!(
        told[&0].contains("package a 1 (suite trixie)") && told[&0].contains("version 1.1 is offered now"),
        "{}",
        told[&0]
    );
    assert!(told[&1].contains("does not have this package any more"), "{}", told[&1]);
    assert!(results[2].is_ok() && told.len() == 3);
}

#[test]
fn wrong_archives() {
    let bench = Bench::new();
    let error = bench.lock(&[("one", &["zzz"])]).unwrap_err().to_string();
    assert!(error.contains("package `zzz` cannot be had") && error.contains("hint:"), "{error}");
    // An index that is not the one the release vouches for.
    write(&bench.mirror.join("dists/trixie/main/binary-amd64/Packages.xz"), &xz(b"Package: evil\n"));
    let mut other = Bench::new();
    other.config.debian_mirrors = bench.config.debian_mirrors.clone();
    let error = other.lock(&[("one", &["a"])]).unwrap_err();
    assert!(error.to_string().contains("wrong contents"), "{error}");
    for (file, text, words) in [
        ("dists/trixie/InRelease", "Suite: trixie\n", "no `SHA256` list"),
        (
            "dists/trixie/InRelease",
            &format!("SHA256:\n {} 1 other/Packages.xz\n", hex(b"")),
            "suite trixie has no `main/binary-amd64",
        ),
    ] {
        write(&other.folder.path().join("mirror").join(file), text.as_bytes());
        other.config.debian_mirrors =
            vec![("*".into(), other.folder.path().join("mirror").display().to_string())];
        let error = other.lock(&[("one", &["a"])]).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("hint:"), "{error}");
    }
    let bare = Bench::new();
    fs::remove_dir_all(bare.mirror.join("dists/trixie-security")).unwrap();
    let error = bare.lock(&[("one", &["a"])]).unwrap_err().to_string();
    assert!(error.contains("suite trixie-security has no `InRelease`"), "{error}");
}

/// Makes a key, signs the suites with it and returns the keyring.
fn sign(bench: &Bench, name: &str) -> Option<PathBuf> {
    let home = bench.folder.path().join(format!("gnupg-{name}"));
    fs::create_dir_all(&home).unwrap();
    let gpg = |arguments: &[&str]| {
        let status = Command::new("gpg")
            .args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir"])
            .arg(&home)
            .args(arguments)
            .output();
        status.is_ok_and(|output| output.status.success())
    };
    let keyring = bench.folder.path().join(format!("{name}.gpg"));
    if Command::new("gpgv").arg("--version").output().is_err()
        || !gpg(&["--quick-generate-key", name, "ed25519", "sign", "never"])
        || !gpg(&["--output", keyring.to_str().unwrap(), "--export"])
    {
        println!("skipped: gpg and gpgv are needed to make a signature");
        return None;
    }
    for suite in ["trixie", "trixie-security"] {
        let file = bench.mirror.join(format!("dists/{suite}/InRelease"));
        let plain = bench.mirror.join(format!("dists/{suite}/Release"));
        if !plain.exists() {
            fs::rename(&file, &plain).unwrap();
        }
        let _ = fs::remove_file(&file);
        assert!(gpg(&["--clearsign", "--output", file.to_str().unwrap(), plain.to_str().unwrap()]));
    }
    let armoured = bench.folder.path().join(format!("{name}.asc"));
    assert!(gpg(&["--armor", "--output", armoured.to_str().unwrap(), "--export"]));
    // The agent is this test's own: it ends with the home folder's socket.
    let _ = Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "gpg-agent"]).output();
    Some(keyring)
}

#[test]
fn signatures() {
    let mut bench = Bench::new();
    let Some(keyring) = sign(&bench, "good") else { return };
    let roots: &[(&str, &[&str])] = &[("one", &["a"])];
    for keyring in [keyring.clone(), keyring.with_extension("asc")] {
        bench.config.keyrings = vec![keyring];
        bench.lock(roots).unwrap();
        assert_eq!(bench.warnings(), Vec::<String>::new());
    }
    let file = bench.mirror.join("dists/trixie/InRelease");
    let signed = fs::read_to_string(&file).unwrap();
    fs::write(&file, signed.replace("Codename: trixie", "Codename: evil")).unwrap();
    assert!(matches!(bench.lock(roots), Err(FetchError::BadSignature { .. })));
    // What stands outside the signature does not count.
    fs::write(&file, format!("SHA256:\n {} 1 x\n\n{signed}", hex(b""))).unwrap();
    bench.lock(roots).unwrap();
    fs::write(&file, &signed).unwrap();
    // A key nobody knows, no gpgv, no keyring: warnings.
    let other = Bench::new();
    if let Some(stranger) = sign(&other, "other") {
        bench.config.keyrings = vec![stranger];
        bench.lock(roots).unwrap();
        assert!(bench.warnings().iter().any(|warning| warning.contains("no key")), "{:?}", bench.warnings());
    }
    bench.config.keyrings = vec![keyring];
    bench.config.gpgv = "/absent/gpgv".into();
    bench.lock(roots).unwrap();
    assert!(bench.warnings().iter().any(|warning| warning.contains("gpgv is not installed")));
    bench.config.keyrings = Vec::new();
    bench.lock(roots).unwrap();
    assert!(bench.warnings().iter().any(|warning| warning.contains("no keyring")));
}
