//! Logs of builds as caches keep them, `log/NAME.drv`: text, which a store has packed with zstd. Whose log it is nobody
//! can prove, so one is only shown, never acted on.

use std::fs::File;
use std::io::{self, Read, Write};

use rednix_store::Store;
use rednix_store::path::StorePath;

use crate::error::{Error, Result};
use crate::limits::{LOG_BYTES_MAX, ZSTD_LEVEL};

/// The place of a derivation's log below a cache.
pub fn place(derivation: &StorePath) -> String {
    format!("log/{}", derivation.basename())
}

/// A log of the store, at most [`LOG_BYTES_MAX`] of it.
pub fn read(store: &Store, derivation: &StorePath) -> Result<Option<Vec<u8>>> {
    read_some(store, derivation, LOG_BYTES_MAX)
}

/// As [`read`], of another length at most.
pub fn read_some(store: &Store, derivation: &StorePath, limit: u64) -> Result<Option<Vec<u8>>> {
    let path = store.log_path(derivation);
    let fail = |error| Error::io("read the log", &path, error);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut text = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(file).map_err(fail)?;
    decoder.take(limit).read_to_end(&mut text).map_err(fail)?;
    Ok(Some(text))
}

/// Keeps a log that came from elsewhere, unless there is one. Says whether it is new.
pub fn keep(store: &Store, derivation: &StorePath, text: &[u8]) -> Result<bool> {
    let path = store.log_path(derivation);
    let fail = |error| Error::io("write the log", &path, error);
    if path.exists() {
        return Ok(false);
    }
    let folder = path.parent().expect("logs are below a folder");
    std::fs::create_dir_all(folder).map_err(fail)?;
    let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix(".part-").permissions(readable).tempfile_in(folder).map_err(fail)?;
    let packed = zstd::encode_all(text, ZSTD_LEVEL).map_err(fail)?;
    file.write_all(&packed).map_err(fail)?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(fail(error.error)),
    }
}
