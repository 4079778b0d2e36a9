//! One file from one place: hashed on the way, kept as a partial file until it is whole and right.
//!
//! Chooses no place and tries nothing twice, but for one thing: a resumed file whose hash is wrong is fetched
//! whole once, as the part from last time may be the culprit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rednix_events::{Activity, Event, Events};
use rednix_store::hash::{Hash, HashAlgorithm, Hasher};
use rustix::fs::{FlockOperation, flock};

use crate::error::FetchError;
use crate::fetcher::{self, FetchRequest, Fetched, Fetcher, PROGRESS_INTERVAL};
use crate::http::Validator;
use crate::limits;

/// A request on its way to its folder.
pub struct Wanted<'w> {
    pub request: &'w FetchRequest,
    pub destination: &'w Path,
    pub activity: Activity,
    pub events: &'w Events,
}

impl Wanted<'_> {
    fn target(&self) -> PathBuf {
        self.destination.join(&self.request.file_name)
    }

    fn algorithm(&self) -> HashAlgorithm {
        self.request.hash.map_or(HashAlgorithm::Sha256, |hash| hash.algorithm())
    }

    fn limit(&self) -> u64 {
        self.request.size_bytes.unwrap_or(limits::DOWNLOAD_BYTES_MAX)
    }

    /// Compares what came with what was wanted.
    fn check(&self, from: &str, hash: Hash, size_bytes: u64) -> Result<(), FetchError> {
        match self.request.hash {
            Some(wanted) if wanted != hash => {
                let (name, url) = (self.request.file_name.clone(), from.to_owned());
                let (got, wanted) = (hash.to_prefixed_hex(), wanted.to_prefixed_hex());
                Err(FetchError::WrongHash { name, url, got, wanted })
            }
            _ => match self.request.size_bytes {
                Some(wanted_bytes) if size_bytes < wanted_bytes => {
                    Err(FetchError::Truncated { url: from.to_owned(), got_bytes: size_bytes, wanted_bytes })
                }
                _ => Ok(()),
            },
        }
    }
}

/// Reports progress, but not more often than anyone can see.
struct Progress<'w> {
    wanted: &'w Wanted<'w>,
    last: Instant,
}

impl Progress<'_> {
    fn at(&mut self, done_bytes: u64) {
        if self.last.elapsed() >= PROGRESS_INTERVAL {
            self.last = Instant::now();
            self.wanted.events.emit(Event::FetchProgress { id: self.wanted.activity, done_bytes });
        }
    }
}

/// A file that vanishes unless it is renamed.
struct Draft {
    path: PathBuf,
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Draft {
    fn for_target(target: &Path) -> Result<(Draft, File), FetchError> {
        let name = target.file_name().and_then(|name| name.to_str()).unwrap_or("file");
        let path = target.with_file_name(format!(".{name}.{}", std::process::id()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let file = file.map_err(|error| FetchError::io("create", &path, error))?;
        Ok((Draft { path }, file))
    }

    fn keep_as(self, target: &Path) -> Result<(), FetchError> {
        fs::rename(&self.path, target).map_err(|error| FetchError::io("rename to", target, error))
    }
}

/// Takes a local file: hashed while it is copied.
pub fn copy_file(wanted: &Wanted, from: &Path) -> Result<Fetched, FetchError> {
    let mut source = match File::open(from) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FetchError::NoFile { path: from.to_path_buf() });
        }
        Err(error) => return Err(FetchError::io("open", from, error)),
    };
    let target = wanted.target();
    let (draft, mut file) = Draft::for_target(&target)?;
    let mut hasher = Hasher::new(wanted.algorithm());
    let mut buffer = vec![0; limits::BUFFER_BYTES];
    let mut size_bytes = 0;
    loop {
        let count = source.read(&mut buffer).map_err(|error| FetchError::io("read", from, error))?;
        if count == 0 {
            break;
        }
        size_bytes += count as u64;
        hasher.write_all(&buffer[..count]).map_err(|error| FetchError::io("hash", from, error))?;
        file.write_all(&buffer[..count]).map_err(|error| FetchError::io("write", &draft.path, error))?;
    }
    let hash = hasher.finish();
    wanted.check(&from.display().to_string(), hash, size_bytes)?;
    drop(file);
    draft.keep_as(&target)?;
    Ok(Fetched { path: target, size_bytes, hash })
}

/// Downloads, resuming what an earlier attempt left.
pub fn download(fetcher: &Fetcher, wanted: &Wanted, url: &str) -> Result<Fetched, FetchError> {
    let mut partial = Partial::open(fetcher, wanted, url)?;
    let resumed = partial.size_bytes > 0;
    match partial.download(fetcher, wanted, url) {
        Err(FetchError::WrongHash { .. }) if resumed => {
            partial.clear()?;
            partial.download(fetcher, wanted, url)
        }
        result => result,
    }
}

/// What is written down beside a part: who sent it, and how that server names the state of its file.
#[derive(serde::Serialize, serde::Deserialize)]
struct Note {
    url: String,
    validator: Validator,
}

/// The part of a file that is already there, locked against other processes.
struct Partial {
    path: PathBuf,
    /// Where the validator is kept; none for a part nobody will resume.
    note: Option<PathBuf>,
    file: File,
    size_bytes: u64,
    validator: Validator,
}

impl Partial {
    /// Parts are named by the wanted hash, so that another mirror can go on with them, else by the url.
    fn open(fetcher: &Fetcher, wanted: &Wanted, url: &str) -> Result<Partial, FetchError> {
        let folder = fetcher.config.cache_dir.join("partial");
        fetcher::make_folder(&folder)?;
        let key = match wanted.request.hash {
            Some(hash) => hash.to_nix32(),
            None => Hash::of(HashAlgorithm::Sha256, url.as_bytes()).to_nix32(),
        };
        let path = folder.join(&key);
        let open = |path: &Path| {
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
            options.map_err(|error| FetchError::io("open", path, error))
        };
        let file = open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || !is_same_file(&file, &path) {
            // Another rednix is at the same file: do not wait for its network, use an own part.
            let path = folder.join(format!("{key}.{}.{}", std::process::id(), wanted.activity.0));
            let file = open(&path)?;
            return Ok(Partial { note: None, path, file, size_bytes: 0, validator: Validator::default() });
        }
        let note = folder.join(format!("{key}.json"));
        let noted: Option<Note> = fs::read(&note).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // Another server's tags mean nothing here; the wanted hash will tell.
        let validator = noted.filter(|noted| noted.url == url).map(|noted| noted.validator);
        let size_bytes = file.metadata().map_err(|error| FetchError::io("inspect", &path, error))?.len();
        let validator = validator.unwrap_or_default();
        let mut partial = Partial { path, note: Some(note), file, size_bytes, validator };
        // Without a wanted hash nothing would notice that the file changed between two attempts.
        if wanted.request.hash.is_none() || partial.size_bytes > wanted.limit() {
            partial.clear()?;
        }
        Ok(partial)
    }

    fn clear(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(|error| FetchError::io("empty", &self.path, error))?;
        self.size_bytes = 0;
        self.validator = Validator::default();
        Ok(())
    }

    /// Feeds the part that is there to the hasher and stands at its end.
    fn hash_existing(&mut self, algorithm: HashAlgorithm) -> Result<Hasher, FetchError> {
        let mut hasher = Hasher::new(algorithm);
        let copied = self
            .file
            .seek(SeekFrom::Start(0))
            .and_then(|_| io::copy(&mut (&self.file).take(self.size_bytes), &mut hasher));
        copied.map_err(|error| FetchError::io("read", &self.path, error))?;
        Ok(hasher)
    }

    fn download(&mut self, fetcher: &Fetcher, wanted: &Wanted, url: &str) -> Result<Fetched, FetchError> {
        let mut hasher = self.hash_existing(wanted.algorithm())?;
        if self.size_bytes > 0 && Some(self.size_bytes) == wanted.request.size_bytes {
            // The last attempt stopped between the last byte and the name.
            return self.complete(wanted, url, hasher);
        }
        let mut download = fetcher.http()?.open(url, self.size_bytes, &self.validator)?;
        if download.offset != self.size_bytes {
            self.clear()?;
            hasher = self.hash_existing(wanted.algorithm())?;
        }
        if download.size_bytes.is_some_and(|size| size > wanted.limit()) {
            return Err(FetchError::TooLarge { url: url.to_owned(), limit_bytes: wanted.limit() });
        }
        self.validator = download.validator.clone();
        if let Some(path) = &self.note {
            let note = Note { url: url.to_owned(), validator: self.validator.clone() };
            let text = serde_json::to_vec(&note).unwrap_or_default();
            fs::write(path, text).map_err(|error| FetchError::io("write", path, error))?;
        }
        let mut progress = Progress { wanted, last: Instant::now() };
        let mut buffer = vec![0; limits::BUFFER_BYTES];
        loop {
            fetcher.config.check_cancel()?;
            let count = download.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            if self.size_bytes + count as u64 > wanted.limit() {
                self.clear()?;
                return Err(FetchError::TooLarge { url: url.to_owned(), limit_bytes: wanted.limit() });
            }
            self.file
                .write_all(&buffer[..count])
                .map_err(|error| FetchError::io("write", &self.path, error))?;
            hasher.write_all(&buffer[..count]).map_err(|error| FetchError::io("hash", &self.path, error))?;
            self.size_bytes += count as u64;
            progress.at(self.size_bytes);
        }
        match download.size_bytes {
            Some(wanted_bytes) if self.size_bytes < wanted_bytes => {
                Err(FetchError::Truncated { url: url.to_owned(), got_bytes: self.size_bytes, wanted_bytes })
            }
            _ => self.complete(wanted, url, hasher),
        }
    }

    /// Gives the verified bytes their name.
    fn complete(&mut self, wanted: &Wanted, url: &str, hasher: Hasher) -> Result<Fetched, FetchError> {
        let (hash, size_bytes) = (hasher.finish(), self.size_bytes);
        if let Err(error) = wanted.check(url, hash, size_bytes) {
            // Wrong bytes must not be resumed.
            if matches!(error, FetchError::WrongHash { .. }) {
                self.clear()?;
            }
            return Err(error);
        }
        let target = wanted.target();
        if let Some(note) = &self.note {
            let _ = fs::remove_file(note);
        }
        match fs::rename(&self.path, &target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                // Through a draft, so that the name never stands for half a file.
                copy_file(wanted, &self.path)?;
                let _ = fs::remove_file(&self.path);
            }
            Err(error) => return Err(FetchError::io("rename to", &target, error)),
        }
        Ok(Fetched { path: target, size_bytes, hash })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let is_empty = self.size_bytes == 0 && is_same_file(&self.file, &self.path);
        match &self.note {
            None => {
                let _ = fs::remove_file(&self.path);
            }
            Some(note) if is_empty => {
                let _ = fs::remove_file(&self.path);
                let _ = fs::remove_file(note);
            }
            Some(_) => {}
        }
    }
}

/// Whether the name still stands for the opened file: its former holder may have renamed it meanwhile.
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(opened), Ok(named)) => (opened.dev(), opened.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
