//! Unpacking tar archives of any compression, beneath one folder.
//!
//! Reads headers by the `tar` crate, and does itself what could be abused: names, long names and extended
//! headers, kinds of entries, where things are written.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use super::writer::TreeWriter;
use super::{Error, attributes};
use crate::limits;

/// How names in an archive become names in the output.
pub trait Layout {
    /// The output path, or none for an entry to pass over. `path` has no `.` and no `..`.
    fn place(&self, path: &Path, kind: EntryType) -> Option<PathBuf>;

    /// A link's target, given where the link was and where it will be.
    fn target<'t>(&self, _: &Path, _: &Path, target: &'t Path) -> Cow<'t, Path> {
        Cow::Borrowed(target)
    }
}

/// Drops leading folders, as `--strip-components` does.
#[derive(Clone, Copy, Debug)]
pub struct Strip(pub usize);

impl Layout for Strip {
    fn place(&self, path: &Path, _: EntryType) -> Option<PathBuf> {
        let rest: PathBuf = path.components().skip(self.0).collect();
        (!rest.as_os_str().is_empty()).then_some(rest)
    }
}

/// Attributes of `builtin:rednix-unpack`.
#[derive(serde::Deserialize)]
struct Attributes {
    src: PathBuf,
    #[serde(default = "one")]
    strip: usize,
}

fn one() -> usize {
    1
}

/// `builtin:rednix-unpack`: a tar of any compression, or a `.crate`, as a tree.
pub fn unpack(value: &serde_json::Value, output: &Path) -> Result<(), Error> {
    let attributes: Attributes = attributes("builtin:rednix-unpack", value)?;
    let mut writer = TreeWriter::create(output)?;
    unpack_file(&attributes.src, &mut writer, &Strip(attributes.strip))
}

/// Unpacks a file into a writer.
pub fn unpack_file(archive: &Path, writer: &mut TreeWriter, layout: &dyn Layout) -> Result<(), Error> {
    let file = File::open(archive).map_err(|error| Error::io("open", archive, error))?;
    unpack_stream(archive, file, writer, layout)
}

/// Unpacks a compressed or plain tar from a stream; `archive` is its name in errors.
pub fn unpack_stream<'r>(
    archive: &Path,
    from: impl Read + 'r,
    writer: &mut TreeWriter,
    layout: &dyn Layout,
) -> Result<(), Error> {
    let wrong = |error: io::Error| damaged(archive, &error);
    let mut unpacked = decompress(from).map_err(wrong)?;
    let mut tar = Archive::new(&mut unpacked);
    let mut extensions = Extensions::default();
    for entry in tar.entries().map_err(wrong)?.raw(true) {
        let mut entry = entry.map_err(wrong)?;
        if extensions.take(archive, &mut entry)? {
            continue;
        }
        write_entry(archive, &mut entry, std::mem::take(&mut extensions), writer, layout)?;
    }
    // Reads to the end, so that a compressed stream cut short after the last entry is noticed.
    io::copy(&mut unpacked.take(limits::ARCHIVE_BYTES_MAX), &mut io::sink()).map_err(wrong)?;
    Ok(())
}

fn damaged(archive: &Path, error: &io::Error) -> Error {
    Error::Archive { archive: archive.to_path_buf(), reason: error.to_string() }
}

/// Recognises the compression by the first bytes.
pub fn decompress<'r>(from: impl Read + 'r) -> io::Result<Box<dyn Read + 'r>> {
    let mut from = BufReader::with_capacity(limits::BUFFER_BYTES, from);
    let start = from.fill_buf()?;
    Ok(match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(from)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(from))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(from)?),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(from)),
        _ => Box::new(from),
    })
}

/// Long names and extended headers that come before the entry they belong to.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Extensions {
    /// Takes in an entry that only describes the next one.
    fn take(&mut self, archive: &Path, entry: &mut Entry<impl Read>) -> Result<bool, Error> {
        let kind = entry.header().entry_type();
        let is_extension = kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
        if kind.is_pax_global_extensions() {
            return Ok(true);
        }
        if !is_extension {
            return Ok(false);
        }
        let refuse =
            |reason: &str| Error::Archive { archive: archive.to_path_buf(), reason: reason.to_owned() };
        if entry.size() > limits::TAR_EXTENSION_BYTES_MAX {
            return Err(refuse("a long name or extended header is too large"));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| damaged(archive, &error))?;
        if kind.is_gnu_longname() {
            self.path = Some(until_zero(bytes));
        } else if kind.is_gnu_longlink() {
            self.link = Some(until_zero(bytes));
        } else {
            for (key, value) in pax_records(&bytes).ok_or_else(|| refuse("an extended header is damaged"))? {
                match key {
                    b"path" => self.path = Some(value.to_vec()),
                    b"linkpath" => self.link = Some(value.to_vec()),
                    b"size" => {
                        return Err(refuse(
                            "a file's size is given in an extended header, which is not supported",
                        ));
                    }
                    _ if key.starts_with(b"GNU.sparse.") => {
                        return Err(refuse("sparse files are not supported"));
                    }
                    _ => {}
                }
            }
        }
        Ok(true)
    }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Records `<length> <key>=<value>\n` of an extended header (POSIX pax); none where they are damaged.
pub fn pax_records(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((&record[..equals], &record[equals + 1..]));
        bytes = &bytes[length..];
    }
    Some(records)
}

fn write_entry(
    archive: &Path,
    entry: &mut Entry<impl Read>,
    extensions: Extensions,
    writer: &mut TreeWriter,
    layout: &dyn Layout,
) -> Result<(), Error> {
    let kind = entry.header().entry_type();
    let raw = extensions.path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
    let refuse = |reason: &str| Error::Entry {
        archive: archive.to_path_buf(),
        entry: String::from_utf8_lossy(&raw).into_owned(),
        reason: reason.to_owned(),
    };
    let Some(path) = clean(&raw).map_err(refuse)? else { return Ok(()) };
    let Some(place) = layout.place(&path, kind) else { return Ok(()) };
    let link = match extensions.link {
        Some(link) => Some(link),
        None => entry.header().link_name_bytes().map(Cow::into_owned),
    };
    // Before POSIX a folder was a file whose name ends in a slash.
    let is_old_folder = kind == EntryType::Regular && raw.ends_with(b"/");
    let result = match kind {
        EntryType::Directory => writer.folder(&place),
        EntryType::Regular if is_old_folder => writer.folder(&place),
        EntryType::Regular | EntryType::Continuous => {
            let mode = entry.header().mode().map_err(|error| refuse(&error.to_string()))?;
            let size = entry.size();
            writer.file(&place, mode & 0o111 != 0, Some(size), entry)
        }
        EntryType::Symlink => {
            let link = link.ok_or_else(|| refuse("a link has no target"))?;
            writer.symlink(
                &place,
                layout.target(&path, &place, Path::new(OsStr::from_bytes(&link))).as_os_str(),
            )
        }
        EntryType::Link => {
            let link = link.ok_or_else(|| refuse("a link has no target"))?;
            let earlier = clean(&link).map_err(refuse)?;
            let earlier = earlier.and_then(|earlier| layout.place(&earlier, EntryType::Regular));
            let earlier = earlier.ok_or_else(|| refuse("a hard link's target is not unpacked"))?;
            writer.hard_link(&place, &earlier)
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            return Err(refuse("it is a device or a pipe"));
        }
        _ => return Err(refuse("it is of a kind that is not supported")),
    };
    result.map_err(|error| match error {
        // The disk's fault, not the archive's.
        rednix_store::Error::NoSpace { .. } => Error::Store(error),
        other => refuse(&other.to_string()),
    })
}

/// A name as a relative path without `.`; none for the archive's own root.
fn clean(name: &[u8]) -> Result<Option<PathBuf>, &'static str> {
    let text = OsStr::from_bytes(name);
    if name.starts_with(b"/") {
        return Err("its name is absolute");
    }
    if name.contains(&0) {
        return Err("its name holds a zero byte");
    }
    let mut path = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            std::path::Component::Normal(part) => path.push(part),
            std::path::Component::CurDir => {}
            _ => return Err("its name contains `..`"),
        }
    }
    Ok((!path.as_os_str().is_empty()).then_some(path))
}
