//! Another store on this machine, seen as a cache: entries and realisations are made as they are asked for, archives
//! are packed while they are read, and nothing is compressed. Never writes to that store.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rednix_store::path::StorePath;
use rednix_store::store::{OpenOptions, Store};
use rednix_store::{PathInfo, nar};

use super::{Answer, Body, Opened, Transport};
use crate::compression::Compression;
use crate::error::{Error, Result};
use crate::limits::{LOG_BYTES_MAX, PRIORITY_LOCAL};
use crate::narinfo::{NarInfo, is_hash_part};
use crate::realisation::Key;
use crate::streams::Limited;

pub struct LocalStore {
    store: Arc<Store>,
    url: String,
}

impl LocalStore {
    /// `address` is `local?root=FOLDER`.
    pub fn open(address: &str) -> Result<LocalStore> {
        let bad = |reason: &str| Error::BadAddress { url: address.to_owned(), reason: reason.to_owned() };
        let parameters = address.strip_prefix("local?").unwrap_or_default();
        let root = parameters.split('&').find_map(|part| part.strip_prefix("root="));
        let root = root.filter(|root| root.starts_with('/'));
        let root = root.ok_or_else(|| bad("a store on this machine is local?root=/FOLDER"))?;
        let store = Arc::new(Store::open(Path::new(root), OpenOptions::read_only())?);
        Ok(LocalStore { store, url: format!("local:{root}") })
    }

    fn info(&self, hash_part: &str) -> Result<Option<PathInfo>> {
        if !is_hash_part(hash_part) {
            return Ok(None);
        }
        let Some(path) = self.store.path_from_hash_part(hash_part)? else { return Ok(None) };
        Ok(self.store.path_info(&path)?)
    }

    fn realisation(&self, key: &Key) -> Result<Option<String>> {
        // By path of the derivation it would have to be read; by its hash it is as good.
        let Key::Hash(id) = key else { return Ok(None) };
        let Some(found) = self.store.query_realisation(id)? else { return Ok(None) };
        Ok(Some(key.to_text(&found.path, &found.signatures)))
    }
}

impl Transport for LocalStore {
    fn url(&self, place: &str) -> String {
        format!("{}/{place}", self.url)
    }

    fn get(&self, place: &str) -> Result<Option<Answer>> {
        let text = if place == "nix-cache-info" {
            Some(crate::push::cache_info(PRIORITY_LOCAL))
        } else if let Some(hash_part) = place.strip_suffix(".narinfo") {
            let entry = |info: PathInfo| {
                NarInfo::of(&info, format!("nar/{}.nar", info.path.hash_part()), Compression::None).to_text()
            };
            self.info(hash_part)?.map(entry)
        } else {
            Key::parse(place).map(|key| self.realisation(&key)).transpose()?.flatten()
        };
        Ok(text.map(|text| Answer::new(text.into_bytes())))
    }

    fn log(&self, place: &str) -> Result<Option<Box<dyn Read + Send>>> {
        let derivation = place.strip_prefix("log/").and_then(|name| StorePath::from_basename(name).ok());
        let Some(path) = derivation.map(|path| self.store.log_path(&path)) else { return Ok(None) };
        let fail = |error| Error::io("read the log", &path, error);
        match File::open(&path) {
            Ok(file) => {
                let plain = zstd::stream::read::Decoder::new(file).map_err(fail)?;
                Ok(Some(Box::new(Limited::new(plain, LOG_BYTES_MAX))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    fn exists(&self, place: &str) -> Result<bool> {
        Ok(self.get(place)?.is_some())
    }

    fn open(&self, place: &str, offset: u64, _: Option<&str>) -> Result<Option<Opened>> {
        let hash_part = place.strip_prefix("nar/").and_then(|name| name.strip_suffix(".nar"));
        let Some(info) = hash_part.map(|part| self.info(part)).transpose()?.flatten() else {
            return Ok(None);
        };
        if offset > 0 {
            return Ok(None);
        }
        let body = Box::new(nar::Archive::open(&self.store.real_path(&info.path))?);
        Ok(Some(Opened { offset: 0, size: Some(info.nar_size), tag: None, body }))
    }

    fn put(&self, _: &str, _: &'static str, _: Body) -> Result<()> {
        let reason = "push to a folder (file:///FOLDER), or pull from the other store".to_owned();
        Err(Error::NotWritable { url: self.url.clone(), reason })
    }

    fn is_local(&self) -> bool {
        true
    }
}
