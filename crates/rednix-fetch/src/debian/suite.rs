//! A suite's index files: fetched, checked against each other and against the archive's keys.
//!
//! Chooses no package. Index files are kept in the cache by their hash; the signed `InRelease` is always fetched.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use rednix_events::{Event, Events};
use rednix_store::hash::{Hash, HashAlgorithm};

use super::index::{IndexError, IndexText, Release, signed_text};
use crate::config::FetchConfig;
use crate::error::FetchError;
use crate::fetcher::{FetchRequest, Fetcher, hash_file, make_folder};
use crate::limits;
use crate::process;

/// A suite and the components wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SuiteSpec {
    pub name: String,
    pub components: Vec<String>,
}

/// A suite as the mirror has it now.
#[derive(Debug)]
pub struct LoadedSuite {
    pub spec: SuiteSpec,
    pub release: Release,
    /// Of the `InRelease` file, hexadecimal.
    pub inrelease_sha256: String,
    pub indexes: Vec<IndexText>,
}

/// Fetches and checks the indexes of all suites; positions in `suites` become the packages' suite numbers.
pub fn load(
    fetcher: &Fetcher,
    suites: &[SuiteSpec],
    architecture: &str,
    events: &Events,
) -> Result<Vec<LoadedSuite>, FetchError> {
    let config = &fetcher.config;
    let cache = config.cache_dir.join("debian");
    make_folder(&cache)?;
    let folder = tempfile::Builder::new().prefix("load-").tempdir_in(&cache);
    let folder = folder.map_err(|error| FetchError::io("create a folder in", &cache, error))?;
    let requests: Vec<FetchRequest> =
        suites.iter().enumerate().map(|(number, suite)| in_release(number, &suite.name)).collect();
    let fetched = fetcher.fetch_batch(&requests, folder.path(), events);
    let mut loaded = Vec::new();
    for (suite, fetched) in suites.iter().zip(fetched) {
        let fetched = fetched.map_err(|error| match error.is_absent() {
            true => FetchError::NotInSuite {
                suite: suite.name.clone(),
                what: format!("`InRelease` at its mirrors ({})", error.reason()),
            },
            false => error,
        })?;
        let text = verify(config, &suite.name, &fetched.path, folder.path(), events)?;
        let release = Release::parse(&format!("{}/InRelease", suite.name), &text)?;
        let inrelease_sha256 = fetched.hash.to_hex();
        loaded.push(LoadedSuite { spec: suite.clone(), release, inrelease_sha256, indexes: Vec::new() });
    }
    let wanted = wanted_indexes(&loaded, architecture)?;
    fetch_missing(fetcher, &cache, &wanted, events)?;
    let texts: Vec<Result<IndexText, FetchError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = wanted.iter().map(|index| scope.spawn(|| index.read(&cache))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    for text in texts {
        let text = text?;
        loaded[text.suite].indexes.push(text);
    }
    Ok(loaded)
}

fn panicked() -> FetchError {
    FetchError::Index(IndexError::File {
        file: "an index".to_owned(),
        problem: "could not be unpacked".to_owned(),
    })
}

fn in_release(number: usize, suite: &str) -> FetchRequest {
    FetchRequest {
        urls: vec![format!("debian:{suite}/dists/{suite}/InRelease")],
        file_name: format!("{number}.InRelease"),
        hash: None,
        size_bytes: None,
    }
}

/// One index file that is needed.
struct WantedIndex {
    suite_number: usize,
    suite: String,
    path: String,
    hash: Hash,
    size_bytes: u64,
    by_hash: bool,
}

impl WantedIndex {
    fn cached_name(&self) -> String {
        let extension = self.path.rsplit_once("Packages").map(|(_, extension)| extension).unwrap_or_default();
        format!("{}{extension}", self.hash.to_hex())
    }

    fn request(&self) -> FetchRequest {
        let base = format!("debian:{}/dists/{}", self.suite, self.suite);
        let mut urls = Vec::new();
        if self.by_hash
            && let Some((folder, _)) = self.path.rsplit_once('/')
        {
            urls.push(format!("{base}/{folder}/by-hash/SHA256/{}", self.hash.to_hex()));
        }
        urls.push(format!("{base}/{}", self.path));
        FetchRequest {
            urls,
            file_name: self.cached_name(),
            hash: Some(self.hash),
            size_bytes: Some(self.size_bytes),
        }
    }

    fn read(&self, cache: &Path) -> Result<IndexText, FetchError> {
        let path = cache.join(self.cached_name());
        let file = format!("{}/{}", self.suite, self.path);
        let packed = fs::File::open(&path).map_err(|error| FetchError::io("open", &path, error))?;
        let packed = std::io::BufReader::with_capacity(limits::BUFFER_BYTES, packed);
        let mut unpacked: Box<dyn Read> = match self.path.rsplit_once('.').map(|(_, extension)| extension) {
            Some("xz") => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(packed)),
            Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            _ => Box::new(packed),
        };
        let mut text = String::new();
        let wrong = |problem: String| FetchError::Index(IndexError::File { file: file.clone(), problem });
        let limited = (&mut unpacked).take(limits::INDEX_BYTES_MAX + 1).read_to_string(&mut text);
        limited.map_err(|error| wrong(format!("cannot be unpacked: {error}")))?;
        if text.len() as u64 > limits::INDEX_BYTES_MAX {
            return Err(wrong(format!("is larger than {} bytes", limits::INDEX_BYTES_MAX)));
        }
        Ok(IndexText { file, suite: self.suite_number, text })
    }
}

fn wanted_indexes(loaded: &[LoadedSuite], architecture: &str) -> Result<Vec<WantedIndex>, FetchError> {
    let mut wanted = Vec::new();
    for (suite_number, suite) in loaded.iter().enumerate() {
        for component in &suite.spec.components {
            let base = format!("{component}/binary-{architecture}/Packages");
            let found = [".xz", ".gz", ""].iter().find_map(|extension| {
                let path = format!("{base}{extension}");
                suite.release.files.get(&path).map(|file| (path, file))
            });
            let suite_name = &suite.spec.name;
            let missing = || FetchError::NotInSuite { suite: suite_name.clone(), what: format!("`{base}`") };
            let (path, file) = found.ok_or_else(missing)?;
            let hash = Hash::parse_any(&file.sha256, Some(HashAlgorithm::Sha256)).map_err(|_| missing())?;
            let (size_bytes, by_hash) = (file.size_bytes, suite.release.by_hash);
            if size_bytes > limits::INDEX_PACKED_BYTES_MAX {
                return Err(FetchError::TooLarge { url: path, limit_bytes: limits::INDEX_PACKED_BYTES_MAX });
            }
            wanted.push(WantedIndex {
                suite_number,
                suite: suite_name.clone(),
                path,
                hash,
                size_bytes,
                by_hash,
            });
        }
    }
    Ok(wanted)
}

fn fetch_missing(
    fetcher: &Fetcher,
    cache: &Path,
    wanted: &[WantedIndex],
    events: &Events,
) -> Result<(), FetchError> {
    let is_cached = |index: &&WantedIndex| {
        hash_file(&cache.join(index.cached_name()), HashAlgorithm::Sha256)
            .is_ok_and(|(hash, _)| hash == index.hash)
    };
    let mut missing: Vec<FetchRequest> =
        wanted.iter().filter(|index| !is_cached(index)).map(WantedIndex::request).collect();
    // Two components can have the same (empty) index.
    missing.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    missing.dedup_by(|a, b| a.file_name == b.file_name);
    for fetched in fetcher.fetch_batch(&missing, cache, events) {
        fetched?;
    }
    Ok(())
}

/// Checks the signature and returns the signed text. Without gpgv or keys this is a warning: the bytes still
/// come from the mirror the machine itself trusts for its own packages.
fn verify(
    config: &FetchConfig,
    suite: &str,
    file: &Path,
    scratch: &Path,
    events: &Events,
) -> Result<String, FetchError> {
    let bytes = fs::read(file).map_err(|error| FetchError::io("read", file, error))?;
    if bytes.len() as u64 > limits::RELEASE_BYTES_MAX {
        let url = format!("debian:{suite}/dists/{suite}/InRelease");
        return Err(FetchError::TooLarge { url, limit_bytes: limits::RELEASE_BYTES_MAX });
    }
    let message = String::from_utf8_lossy(&bytes);
    let unverified = |why: &str| {
        let message = format!("{suite}: the signature of `InRelease` is not checked: {why}");
        events.emit(Event::Warning { message });
    };
    if !message.contains("-----BEGIN PGP SIGNED MESSAGE-----") {
        unverified("it is not signed");
        return Ok(message.into_owned());
    }
    if config.keyrings.is_empty() {
        unverified("this machine has no keyring of Debian's (package debian-archive-keyring)");
        return Ok(signed_text(&message));
    }
    let output = scratch.join(format!("{suite}.signed"));
    let mut command = Command::new(&config.gpgv);
    command
        .args(["--quiet", "--status-fd", "1", "--homedir"])
        .arg(scratch)
        .arg("--output")
        .arg(&output)
        .env("LC_ALL", "C");
    for (number, keyring) in config.keyrings.iter().enumerate() {
        if let Some(keyring) = binary_keyring(keyring, scratch, number) {
            command.arg("--keyring").arg(keyring);
        }
    }
    command.arg(file);
    let finished = match process::run(config, command) {
        Err(FetchError::Program { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            unverified("gpgv is not installed");
            return Ok(signed_text(&message));
        }
        finished => finished?,
    };
    let status = String::from_utf8_lossy(&finished.stdout);
    let has = |word: &str| status.lines().any(|line| line.split_whitespace().nth(1) == Some(word));
    if has("BADSIG") {
        return Err(FetchError::BadSignature { suite: suite.to_owned(), reason: finished.last_words() });
    }
    if has("VALIDSIG") {
        // What gpgv wrote is what was signed; nothing around it counts.
        return fs::read_to_string(&output).map_err(|error| FetchError::io("read", &output, error));
    }
    unverified(&format!("no key for it is in the machine's keyrings ({})", finished.last_words()));
    Ok(signed_text(&message))
}

/// gpgv reads binary keyrings only; an armoured one is unwrapped into the scratch folder.
fn binary_keyring(path: &Path, scratch: &Path, number: usize) -> Option<PathBuf> {
    let bytes = fs::read(path).ok()?;
    if !bytes.starts_with(b"-----BEGIN") {
        return Some(path.to_path_buf());
    }
    let target = scratch.join(format!("keyring-{number}.gpg"));
    fs::write(&target, dearmor(&String::from_utf8_lossy(&bytes))).ok()?;
    Some(target)
}

/// The bytes of all armoured blocks of a text (RFC 9580, section 6), checksums left aside.
fn dearmor(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut is_body = false;
    let (mut bits, mut count) = (0u32, 0);
    for line in text.lines().map(str::trim) {
        if line.starts_with("-----") {
            (is_body, bits, count) = (false, 0, 0);
        } else if line.is_empty() {
            is_body = true;
        } else if is_body && !line.starts_with('=') {
            for byte in line.bytes() {
                let value = match byte {
                    b'A'..=b'Z' => byte - b'A',
                    b'a'..=b'z' => byte - b'a' + 26,
                    b'0'..=b'9' => byte - b'0' + 52,
                    b'+' => 62,
                    b'/' => 63,
                    _ => continue,
                };
                bits = (bits << 6) | u32::from(value);
                count += 6;
                if count >= 8 {
                    count -= 8;
                    bytes.push((bits >> count) as u8);
                    bits &= (1 << count) - 1;
                }
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armour() {
        let text = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nVersion: 1\n\naGVsbG8g\nd29ybGQ=\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nIQ==\n-----END PGP PUBLIC KEY BLOCK-----\n";
        assert_eq!(dearmor(text), b"hello world!");
    }
}
