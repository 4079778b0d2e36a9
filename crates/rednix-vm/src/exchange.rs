//! The exchange disk: a sparse file of the host that the monitor gives the guest as one more disk, through which files go
//! either way. It lays them out and reads them back; what the guest has to do with them is not its business.
//!
//! The first megabyte holds nothing but a mark, by which the guest is told this disk from others, and the last one
//! nothing at all: a driver that looks for partitions finds none, in whatever state the rest is. Whoever hands a file
//! over gives its place and length, so nothing on the disk itself says what is on it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::limits::{EXCHANGE_DISK, EXCHANGE_FILE_MAX};

/// Files begin at multiples of this many bytes: one large block of a copying program, and the size of both margins.
pub const BLOCK: u64 = 1 << 20;
/// The block that holds the mark.
pub const MARK_BYTES: usize = 4096;

/// A disk that host and guest share. Its file goes with the machine's folder.
#[derive(Debug)]
pub struct ExchangeDisk {
    file: File,
    path: PathBuf,
    /// Where a guest finds it, the likeliest first.
    places: Vec<String>,
    mark: Vec<u8>,
    next: u64,
}

/// A file that was laid down for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Laid {
    pub range: Range<u64>,
    /// SHA-256 of its bytes, in hexadecimal.
    pub hash: String,
}

impl ExchangeDisk {
    /// Makes the disk's file. `name` is its mark, and has to be new for each machine.
    pub(crate) fn create(path: &Path, name: &str, places: Vec<String>) -> Result<Self> {
        let mut mark = format!("rednix exchange disk {name}\n").into_bytes();
        mark.resize(MARK_BYTES, 0);
        let file = File::options().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(Error::io("create", path))?;
        file.set_len(EXCHANGE_DISK).map_err(Error::io("make room in", path))?;
        file.write_all_at(&mark, 0).map_err(Error::io("write", path))?;
        Ok(ExchangeDisk { file, path: path.to_owned(), places, mark, next: BLOCK })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub fn places(&self) -> &[String] {
        &self.places
    }

    /// SHA-256 of the block with the mark.
    pub fn mark_hash(&self) -> String {
        hex(&Sha256::digest(&self.mark))
    }

    /// Lays a file down. What the guest read earlier may be overwritten, once everything else was.
    pub fn lay(&mut self, from: &mut dyn Read, length: u64) -> Result<Laid> {
        let range = self.reserve(length)?;
        let mut hasher = Sha256::new();
        let mut at = range.start;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = from.read(&mut buffer).map_err(Error::io("read a file for", &self.path))?;
            if count == 0 {
                break;
            }
            if at + count as u64 > range.end {
                return Err(self.wrong("the file became longer while it was read"));
            }
            hasher.update(&buffer[..count]);
            self.file.write_all_at(&buffer[..count], at).map_err(Error::io("write", &self.path))?;
            at += count as u64;
        }
        if at != range.end {
            return Err(self.wrong("the file became shorter while it was read"));
        }
        Ok(Laid { range, hash: hex(&hasher.finalize()) })
    }

    /// A place for that many bytes, each time another until all were used.
    pub fn reserve(&mut self, length: u64) -> Result<Range<u64>> {
        if length > EXCHANGE_FILE_MAX {
            return Err(self.wrong(&format!("{length} bytes are more than {EXCHANGE_FILE_MAX}")));
        }
        let taken = length.div_ceil(BLOCK).max(1) * BLOCK;
        if self.next + taken > EXCHANGE_DISK - BLOCK {
            self.next = BLOCK;
        }
        let start = self.next;
        self.next += taken;
        Ok(start..start + length)
    }

    /// What the guest wrote there.
    pub fn read(&self, range: &Range<u64>) -> Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).map_err(|_| self.wrong("it is too long"))?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, range.start).map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }

    /// Gives the host its room back. Where that cannot be done it goes with the disk.
    pub fn clear(&self, range: &Range<u64>) {
        let taken = (range.end - range.start).div_ceil(BLOCK) * BLOCK;
        if taken > 0 {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&self.file, flags, range.start, taken);
        }
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::io("hand a file over by", &self.path)(io::Error::other(reason.to_owned()))
    }
}

/// A file's hash in the form that [`Laid`] has, without laying it down.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads to the end without keeping anything; for what is compared only.
pub fn hash_of(from: &mut dyn Read) -> io::Result<String> {
    struct Into(Sha256);
    impl Write for Into {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut into = Into(Sha256::new());
    io::copy(from, &mut into)?;
    Ok(hex(&into.0.finalize()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn files_are_laid_down_apart_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exchange");
        let mut disk = ExchangeDisk::create(&path, "x", vec!["/disk".into()]).unwrap();
        let bytes: Vec<u8> = (0..3 * BLOCK as usize / 2).map(|at| ((at * 7) ^ (at >> 9)) as u8).collect();
        let long = disk.lay(&mut bytes.as_slice(), bytes.len() as u64).unwrap();
        let short = disk.lay(&mut b"abc".as_slice(), 3).unwrap();
        assert_eq!((long.range.start, short.range.clone()), (BLOCK, 3 * BLOCK..3 * BLOCK + 3));
        assert_eq!(short.hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(long.hash, hash_of(&mut bytes.as_slice()).unwrap());
        assert!(disk.read(&long.range).unwrap() == bytes && disk.read(&short.range).unwrap() == b"abc");
        // What was asked for and what came differ.
        assert!(disk.lay(&mut b"abc".as_slice(), 2).unwrap_err().to_string().contains("longer"));
        assert!(disk.lay(&mut b"abc".as_slice(), 4).unwrap_err().to_string().contains("shorter"));
        assert!(disk.reserve(EXCHANGE_FILE_MAX + 1).is_err());
        let before = std::fs::metadata(&path).unwrap().blocks();
        disk.clear(&long.range);
        assert!(std::fs::metadata(&path).unwrap().blocks() < before, "the host has the room back");
    }

    #[test]
    fn both_margins_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exchange");
        let mut disk = ExchangeDisk::create(&path, "x", Vec::new()).unwrap();
        let mut seen = Vec::new();
        for length in [EXCHANGE_FILE_MAX, 1, EXCHANGE_FILE_MAX - 1, EXCHANGE_FILE_MAX, 0, EXCHANGE_FILE_MAX] {
            let range = disk.reserve(length).unwrap();
            let end = range.start + length.div_ceil(BLOCK).max(1) * BLOCK;
            assert!(range.start >= BLOCK && end <= EXCHANGE_DISK - BLOCK, "{range:?}");
            seen.push(range.start);
        }
        assert_eq!(seen.iter().filter(|start| **start == BLOCK).count(), 2, "it begins anew: {seen:?}");
        assert_eq!(disk.mark_hash(), hash_of(&mut std::io::Read::take(&disk.file, 4096)).unwrap());
    }
}
