//! Files and archives from an address, without a name in any store.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rednix_store::hash::Hash;

use super::{InputOptions, refuse};
use crate::archive::tar::{Strip, decompress, unpack_file};
use crate::archive::writer::TreeWriter;
use crate::error::FetchError;
use crate::fetcher::{FetchRequest, Fetcher, make_folder};

/// An archive's contents in a folder of their own.
#[derive(Debug)]
pub struct DownloadedTree {
    /// The tree: what the archive's only folder holds, where it has but one entry.
    pub place: PathBuf,
    /// The latest time of any of its entries.
    pub newest_s: u64,
    /// Holds the tree, and goes away with the value.
    pub folder: tempfile::TempDir,
}

/// A header of a request: name and value.
pub type Header = (String, String);

impl Fetcher {
    fn scratch(&self) -> Result<tempfile::TempDir, FetchError> {
        let cache = &self.config.cache_dir;
        make_folder(cache)?;
        let folder = tempfile::Builder::new().prefix("input-").tempdir_in(cache);
        folder.map_err(|error| FetchError::io("create a folder in", cache, error))
    }

    pub(crate) fn input_folder(&self) -> Result<tempfile::TempDir, FetchError> {
        self.scratch()
    }

    /// One that sends these headers to the server of `url`, and to no other.
    fn with_headers(&self, url: &str, headers: &[Header]) -> Fetcher {
        let mut config = self.config.clone();
        let end = url.find("://").map_or(0, |at| at + 3);
        let end = url[end..].find('/').map_or(url.len(), |at| end + at + 1);
        let origin = &url[..end];
        config.headers.extend(headers.iter().map(|(n, v)| (origin.to_owned(), n.clone(), v.clone())));
        Fetcher::new(config)
    }

    /// A file, and the folder that holds it for as long as it is wanted.
    pub fn fetch_plain(
        &self,
        url: &str,
        hash: Option<Hash>,
        headers: &[Header],
        options: InputOptions<'_>,
    ) -> Result<(PathBuf, tempfile::TempDir), FetchError> {
        if let Some(path) = url.strip_prefix("file:")
            && !path.starts_with("//")
        {
            return Err(refuse(url, "the 'file' scheme does not support relative paths"));
        }
        let folder = self.scratch()?;
        let request =
            FetchRequest { urls: vec![url.to_owned()], file_name: "file".to_owned(), hash, size_bytes: None };
        let fetcher = if headers.is_empty() { None } else { Some(self.with_headers(url, headers)) };
        let fetched = fetcher.as_ref().unwrap_or(self).fetch(&request, folder.path(), options.events)?;
        Ok((fetched.path, folder))
    }

    /// An archive's contents.
    pub fn fetch_archive(
        &self,
        url: &str,
        headers: &[Header],
        options: InputOptions<'_>,
    ) -> Result<DownloadedTree, FetchError> {
        if let Some(path) = url.strip_prefix("file://")
            && Path::new(path).is_dir()
        {
            let reason = match Path::new(path).join(".git").exists() {
                true => "it is a git repository, not a tarball; use `git+file` as the scheme",
                false => "it is a directory, not a file",
            };
            return Err(refuse(url, reason));
        }
        let path = url.split(['?', '#']).next().unwrap_or(url);
        if path.ends_with(".zip") {
            return Err(refuse(
                url,
                "zip archives are not supported; use the tar archive of the same source",
            ));
        }
        let (file, folder) = self.fetch_plain(url, None, headers, options)?;
        let tree = folder.path().join("tree");
        let failed = |error: crate::archive::Error| FetchError::Protocol {
            url: url.to_owned(),
            reason: error.to_string().split("\n\nhint: ").next().unwrap_or_default().to_owned(),
        };
        let mut writer = TreeWriter::create(&tree).map_err(failed)?;
        unpack_file(&file, &mut writer, &Strip(0)).map_err(failed)?;
        drop(writer);
        let newest_s = newest_time(&file).map_err(|error| FetchError::io("read", &file, error))?;
        let place = only_folder(&tree).map_err(|error| FetchError::io("list", &tree, error))?.unwrap_or(tree);
        Ok(DownloadedTree { place, newest_s, folder })
    }
}

/// The folder that is a tree's only entry.
fn only_folder(tree: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut entries = std::fs::read_dir(tree)?;
    let (Some(first), None) = (entries.next().transpose()?, entries.next()) else { return Ok(None) };
    Ok(first.file_type()?.is_dir().then(|| first.path()))
}

/// The latest time among a tar archive's entries, seconds since 1970.
pub fn newest_time(archive: &Path) -> std::io::Result<u64> {
    let mut unpacked = decompress(File::open(archive)?)?;
    let mut newest = 0;
    let mut tar = tar::Archive::new(&mut unpacked as &mut dyn Read);
    for entry in tar.entries()?.raw(true) {
        let entry = entry?;
        let kind = entry.header().entry_type();
        // Headers of headers have times of their own, which are nobody's.
        if !kind.is_pax_global_extensions()
            && !kind.is_pax_local_extensions()
            && !kind.is_gnu_longname()
            && !kind.is_gnu_longlink()
        {
            newest = newest.max(entry.header().mtime().unwrap_or(0));
        }
    }
    Ok(newest)
}
