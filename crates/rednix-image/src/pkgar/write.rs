//! Writes archives: the same files and key give the same bytes. Times, owners and empty directories have no place
//! in the format.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Entry, Head, MODE_FILE, MODE_SYMLINK, SecretKey, check_path};
use crate::error::{Error, Result};
use crate::limits::{DIRECTORY_DEPTH_MAX, PKGAR_ENTRIES_MAX};
use crate::tree::join;

const BUFFER: usize = 1 << 20;

/// A package's files as an archive lists them, contents hashed.
#[derive(Debug)]
pub struct Contents {
    pub head: Head,
    /// Where the contents of each entry are.
    sources: Vec<Source>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Symlink(String),
}

impl Contents {
    /// Reads a package's folder, names sorted, depth first. Modes are what the store keeps: executable or not.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut found = Vec::new();
        walk(folder, "", 0, &mut found)?;
        let (mut entries, mut sources, mut offset) = (Vec::new(), Vec::new(), 0u64);
        for (path, source) in found {
            let (hash, size, mode) = match &source {
                Source::Symlink(target) => {
                    (blake3::hash(target.as_bytes()), target.len() as u64, MODE_SYMLINK | 0o777)
                }
                Source::File(host) => {
                    let metadata = fs::metadata(host).map_err(Error::io("inspect", host))?;
                    let executable = metadata.permissions().mode() & 0o100 != 0;
                    let (hash, size) = hash_file(host)?;
                    (hash, size, MODE_FILE | if executable { 0o755 } else { 0o644 })
                }
            };
            entries.push(Entry { hash: *hash.as_bytes(), offset, size, mode, path });
            sources.push(source);
            offset = offset
                .checked_add(size)
                .ok_or_else(|| Error::malformed("package archive", "it would be too large"))?;
        }
        Ok(Contents { head: Head::new(entries), sources })
    }
}

fn walk(folder: &Path, inside: &str, depth: usize, found: &mut Vec<(String, Source)>) -> Result<()> {
    let fail = |message: String| Error::malformed("package archive", message);
    if depth > DIRECTORY_DEPTH_MAX {
        return Err(fail(format!("`{}` is nested too deeply", folder.display())));
    }
    let mut names = Vec::new();
    for item in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        names.push(item.map_err(Error::io("list", folder))?.file_name());
    }
    names.sort();
    for name in names {
        let host = folder.join(&name);
        let name = name.to_str().ok_or_else(|| fail(format!("`{}`: not UTF-8", host.display())))?;
        let path = join(inside, name);
        let kind = fs::symlink_metadata(&host).map_err(Error::io("inspect", &host))?.file_type();
        if kind.is_dir() {
            walk(&host, &path, depth + 1, found)?;
            continue;
        }
        check_path(&path)?;
        if found.len() == PKGAR_ENTRIES_MAX {
            return Err(fail(format!("more than {PKGAR_ENTRIES_MAX} files")));
        }
        let source = if kind.is_symlink() {
            let target = fs::read_link(&host).map_err(Error::io("read the link", &host))?;
            let target =
                target.to_str().ok_or_else(|| fail(format!("the target of `{path}` is not UTF-8")))?;
            Source::Symlink(target.to_owned())
        } else if kind.is_file() {
            Source::File(host)
        } else {
            return Err(fail(format!("`{path}` is no file, directory or symlink")));
        };
        found.push((path, source));
    }
    Ok(())
}

fn hash_file(path: &Path) -> Result<(blake3::Hash, u64)> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok((hasher.finalize(), hasher.count())),
            count => hasher.update(&buffer[..count]),
        };
    }
}

/// Writes an archive to a new file. What is written is hashed again: a file that changed since it was read is an
/// error, not an archive that fails to verify.
pub fn write_archive(contents: &Contents, key: &SecretKey, output: &Path) -> Result<()> {
    let file = File::create(output).map_err(Error::io("create", output))?;
    let mut writer = BufWriter::with_capacity(BUFFER, file);
    let failed = Error::io("write", output);
    let result = write_to(contents, key, &mut writer)?;
    result.and_then(|()| writer.flush()).map_err(failed)
}

/// The outer error is about the sources, the inner one about the output.
fn write_to(
    contents: &Contents,
    key: &SecretKey,
    writer: &mut (impl Write + Seek),
) -> Result<std::io::Result<()>> {
    if let Err(error) =
        writer.seek(SeekFrom::Start(0)).and_then(|_| writer.write_all(&contents.head.encode(key)))
    {
        return Ok(Err(error));
    }
    let mut buffer = vec![0; BUFFER];
    for (entry, source) in contents.head.entries.iter().zip(&contents.sources) {
        let mut hasher = blake3::Hasher::new();
        let mut reader: Box<dyn Read + '_> = match source {
            Source::Symlink(target) => Box::new(target.as_bytes()),
            Source::File(host) => Box::new(File::open(host).map_err(Error::io("open", host))?),
        };
        loop {
            let count = reader.read(&mut buffer).map_err(Error::io("read the package's", &entry.path))?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            if let Err(error) = writer.write_all(&buffer[..count]) {
                return Ok(Err(error));
            }
        }
        if hasher.finalize() != blake3::Hash::from_bytes(entry.hash) {
            return Err(Error::malformed(
                "package archive",
                format!("`{}` changed while it was packed", entry.path),
            ));
        }
    }
    Ok(Ok(()))
}
