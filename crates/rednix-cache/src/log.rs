//! Logs of builds as caches keep them, `log/NAME.drv`: text, which a store has packed with zstd. Whose log it is nobody
//! can prove, so one is only shown, never acted on.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use rednix_store::Store;
use rednix_store::path::StorePath;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::limits::{LOG_BYTES_MAX, ZSTD_LEVEL};

/// The place of a derivation's log below a cache.
pub fn place(derivation: &StorePath) -> String {
    format!("log/{}", derivation.basename())
}

/// The text of a log of the store, at most [`LOG_BYTES_MAX`] of it, unpacked as it is read.
pub fn open(store: &Store, derivation: &StorePath) -> Result<Option<impl Read + Send + use<>>> {
    let path = store.log_path(derivation);
    let fail = |error| Error::io("read the log", &path, error);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let decoder = zstd::stream::read::Decoder::new(file).map_err(fail)?;
    Ok(Some(decoder.take(LOG_BYTES_MAX)))
}

/// A log of the store, at most [`LOG_BYTES_MAX`] of it.
pub fn read(store: &Store, derivation: &StorePath) -> Result<Option<Vec<u8>>> {
    read_some(store, derivation, LOG_BYTES_MAX)
}

/// A log of the store, or so much of its beginning.
pub fn read_some(store: &Store, derivation: &StorePath, limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(log) = open(store, derivation)? else { return Ok(None) };
    let mut text = Vec::new();
    let read = log.take(limit).read_to_end(&mut text);
    read.map_err(|error| Error::io("read the log", store.log_path(derivation), error))?;
    Ok(Some(text))
}

/// A log that comes from elsewhere, packed as it comes. It has its name when it is kept, and is gone with the value else.
pub struct Incoming {
    encoder: zstd::stream::write::Encoder<'static, NamedTempFile>,
    path: PathBuf,
}

impl Incoming {
    /// `None` where there is a log already.
    pub fn new(store: &Store, derivation: &StorePath) -> Result<Option<Incoming>> {
        let path = store.log_path(derivation);
        let fail = |error| Error::io("write the log", &path, error);
        if path.exists() {
            return Ok(None);
        }
        let folder = path.parent().expect("logs are below a folder");
        std::fs::create_dir_all(folder).map_err(fail)?;
        let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        let mut builder = tempfile::Builder::new();
        let file = builder.prefix(".part-").permissions(readable).tempfile_in(folder).map_err(fail)?;
        let encoder = zstd::stream::write::Encoder::new(file, ZSTD_LEVEL).map_err(fail)?;
        Ok(Some(Incoming { encoder, path }))
    }

    pub fn write(&mut self, text: &[u8]) -> Result<()> {
        self.encoder.write_all(text).map_err(|error| Error::io("write the log", &self.path, error))
    }

    /// Gives it its name, unless there is one by now. Says where it is and what it takes, if it is new.
    pub fn keep(self) -> Result<Option<(PathBuf, u64)>> {
        let path = self.path;
        let fail = |error| Error::io("write the log", &path, error);
        let file = self.encoder.finish().map_err(fail)?;
        let size = file.as_file().metadata().map_err(fail)?.len();
        match file.persist_noclobber(&path) {
            Ok(_) => Ok(Some((path, size))),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(fail(error.error)),
        }
    }
}
