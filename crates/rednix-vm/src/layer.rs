//! Where a machine's writes go: a QCOW2 file that holds only what differs from the image, or, for monitors that read
//! nothing but raw disks, a copy that shares the image's blocks where the file system can. It never writes to an image.
//!
//! QCOW2, version 3, big endian: a header of 104 bytes with extensions, then tables in whole clusters. An entry of the
//! first-level table stands for 512 MiB with clusters of 64 KiB, so one cluster of it is enough for 4 TiB.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, SeekFrom as HoleSeek, flock};

use crate::error::{Error, Result};
use crate::limits::LAYER_IMAGE_MAX;
use crate::runner::quote;

/// What is made before a start, unless it is there from an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub kind: LayerKind,
    pub image: PathBuf,
    pub file: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// 256 KiB, whatever the image's size.
    Qcow2,
    /// Shares blocks on Btrfs, XFS and bcachefs; elsewhere it costs as many bytes as the image has that are no holes.
    Copy,
}

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
const TABLE_REACH: u64 = CLUSTER * (CLUSTER / 8);
const EXTENSION_BACKING_FORMAT: u32 = 0xE279_2ACA;
const HEADER_BYTES: u32 = 104;

impl Layer {
    /// Makes it, if it is not there, and locks it: a second machine over the same layer is refused. Answers the lock.
    pub fn prepare(&self) -> Result<File> {
        let path = &self.file;
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(Error::io("open", path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(Error::InUse { path: path.clone() });
        }
        let found = file.metadata().map_err(Error::io("look at", path))?;
        if !found.is_file() {
            return Err(Error::io("use as a layer", path)(std::io::Error::other("it is no file")));
        }
        if found.len() == 0 {
            self.fill(&mut file).inspect_err(|_| {
                // A half of a layer must not be taken for one by the next start.
                let _ = std::fs::remove_file(path);
            })?;
        } else {
            self.check(&file, found.len())?;
        }
        Ok(file)
    }

    fn fill(&self, file: &mut File) -> Result<()> {
        let image = File::open(&self.image).map_err(Error::io("open", &self.image))?;
        let size = image.metadata().map_err(Error::io("look at", &self.image))?.len();
        match self.kind {
            LayerKind::Qcow2 => {
                let blocks =
                    empty_qcow2(&self.image, size).map_err(Error::io("put a layer over", &self.image))?;
                file.set_len(4 * CLUSTER).map_err(Error::io("write", &self.file))?;
                for (offset, bytes) in blocks {
                    file.seek(SeekFrom::Start(offset))
                        .and_then(|_| file.write_all(&bytes))
                        .map_err(Error::io("write", &self.file))?;
                }
                Ok(())
            }
            LayerKind::Copy => {
                copy(&image, file, size).map_err(Error::io("write a copy of the image to", &self.file))
            }
        }
    }

    /// A layer from earlier must be one over this very image: over another one it would be garbage.
    fn check(&self, file: &File, size: u64) -> Result<()> {
        let wrong = |reason: String| {
            Error::io("go on with the layer", &self.file)(std::io::Error::other(format!(
                "{reason}; remove it, or name another file"
            )))
        };
        match self.kind {
            LayerKind::Qcow2 => match backing_file(file) {
                Some(image) if image == self.image.as_os_str().as_bytes() => Ok(()),
                Some(image) => {
                    Err(wrong(format!("it belongs to the image `{}`", String::from_utf8_lossy(&image))))
                }
                None => Err(wrong("it is no QCOW2 file".into())),
            },
            LayerKind::Copy => {
                let image = std::fs::metadata(&self.image).map_err(Error::io("look at", &self.image))?.len();
                if image == size { Ok(()) } else { Err(wrong("its size is not the image's".into())) }
            }
        }
    }

    pub fn shell_text(&self) -> String {
        let (image, file) = (quote(self.image.as_os_str()), quote(self.file.as_os_str()));
        match self.kind {
            LayerKind::Qcow2 => {
                format!("[ -e {file} ] || qemu-img create -q -f qcow2 -F raw -b {image} {file}")
            }
            LayerKind::Copy => format!("[ -e {file} ] || cp --reflink=auto --sparse=always {image} {file}"),
        }
    }
}

/// Places and contents of an empty layer over a raw image of that size.
fn empty_qcow2(image: &Path, size: u64) -> std::io::Result<[(u64, Vec<u8>); 3]> {
    let name = image.as_os_str().as_bytes();
    if name.len() > 1023 || size > LAYER_IMAGE_MAX {
        return Err(std::io::Error::other("its name is longer than 1023 bytes, or it is larger than 4 TiB"));
    }
    let extensions = 8 + 8 + 8;
    let name_offset = u64::from(HEADER_BYTES) + extensions;
    let mut header = Vec::new();
    header.extend(b"QFI\xfb");
    header.extend(3u32.to_be_bytes());
    header.extend(name_offset.to_be_bytes());
    header.extend((name.len() as u32).to_be_bytes());
    header.extend(CLUSTER_BITS.to_be_bytes());
    header.extend(size.to_be_bytes());
    header.extend(0u32.to_be_bytes()); // no encryption
    header.extend((size.div_ceil(TABLE_REACH).max(1) as u32).to_be_bytes());
    header.extend((3 * CLUSTER).to_be_bytes()); // first-level table
    header.extend(CLUSTER.to_be_bytes()); // table of reference counts
    header.extend(1u32.to_be_bytes());
    header.extend([0; 4 + 8]); // no snapshots
    header.extend([0; 3 * 8]); // no features
    header.extend(4u32.to_be_bytes()); // reference counts of 16 bits
    header.extend(HEADER_BYTES.to_be_bytes());
    header.extend(EXTENSION_BACKING_FORMAT.to_be_bytes());
    header.extend(3u32.to_be_bytes());
    header.extend(b"raw\0\0\0\0\0");
    header.extend([0; 8]);
    header.extend(name);
    let counts = (2 * CLUSTER).to_be_bytes().to_vec();
    // Header, both tables of reference counts, first-level table: each used once.
    let used = [1u16; 4].iter().flat_map(|count| count.to_be_bytes()).collect();
    Ok([(0, header), (CLUSTER, counts), (2 * CLUSTER, used)])
}

fn backing_file(file: &File) -> Option<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let mut header = [0; 20];
    file.read_exact_at(&mut header, 0).ok()?;
    if header[..4] != *b"QFI\xfb" {
        return None;
    }
    let offset = u64::from_be_bytes(header[8..16].try_into().ok()?);
    let length = u32::from_be_bytes(header[16..20].try_into().ok()?);
    let mut name = vec![0; length.min(1024) as usize];
    file.read_exact_at(&mut name, offset).ok()?;
    Some(name)
}

/// Shares the blocks, or copies all that are no holes.
fn copy(image: &File, file: &mut File, size: u64) -> std::io::Result<()> {
    if rustix::fs::ioctl_ficlone(&*file, image).is_ok() {
        return Ok(());
    }
    file.set_len(size)?;
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(image, HoleSeek::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(image, HoleSeek::Hole(start))?;
        let (mut from, mut to) = (start, start);
        while from < end {
            let length = usize::try_from(end - from).unwrap_or(usize::MAX);
            if rustix::fs::copy_file_range(image, Some(&mut from), &*file, Some(&mut to), length)? == 0 {
                return Err(std::io::Error::other("the image became shorter"));
            }
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(folder: &Path, kind: LayerKind) -> Layer {
        Layer { kind, image: folder.join("disk.img"), file: folder.join("layer") }
    }

    #[test]
    fn a_layer_has_one_machine_at_a_time() {
        for kind in [LayerKind::Qcow2, LayerKind::Copy] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("disk.img"), vec![7; 1 << 20]).unwrap();
            let layer = layer(folder.path(), kind);
            let lock = layer.prepare().unwrap();
            let error = layer.prepare().unwrap_err().to_string();
            assert!(error.contains("another machine"), "{error}");
            drop(lock);
            layer.prepare().unwrap();
        }
    }

    #[test]
    fn a_layer_is_kept_and_only_for_its_image() {
        use std::os::unix::fs::FileExt;
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.img");
        File::create(&image).unwrap().set_len(1 << 30).unwrap();
        let qcow2 = layer(folder.path(), LayerKind::Qcow2);
        let lock = qcow2.prepare().unwrap();
        lock.write_all_at(b"kept", 3 * CLUSTER).unwrap();
        drop(lock);
        let mut kept = [0; 4];
        qcow2.prepare().unwrap().read_exact_at(&mut kept, 3 * CLUSTER).unwrap();
        assert_eq!(&kept, b"kept");
        let other = Layer { image: folder.path().join("other.img"), ..qcow2.clone() };
        std::fs::write(&other.image, "x").unwrap();
        let error = other.prepare().unwrap_err().to_string();
        assert!(error.contains("belongs to the image") && error.contains("remove it"), "{error}");
        let copy = Layer { kind: LayerKind::Copy, ..other };
        assert!(copy.prepare().unwrap_err().to_string().contains("size"));
    }

    #[test]
    fn copies_keep_contents_and_holes() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        let folder = tempfile::tempdir().unwrap();
        let layer = layer(folder.path(), LayerKind::Copy);
        let image = File::create(&layer.image).unwrap();
        image.set_len(64 << 20).unwrap();
        image.write_all_at(b"middle", 32 << 20).unwrap();
        layer.prepare().unwrap();
        let copied = File::open(&layer.file).unwrap();
        let mut middle = [0; 6];
        copied.read_exact_at(&mut middle, 32 << 20).unwrap();
        assert_eq!((&middle, copied.metadata().unwrap().len()), (b"middle", 64 << 20));
        assert!(copied.metadata().unwrap().blocks() < 1 << 13, "the holes are holes");
    }

    #[test]
    fn qemu_reads_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let layer = layer(folder.path(), LayerKind::Qcow2);
        File::create(&layer.image).unwrap().set_len((3 << 30) + 512).unwrap();
        layer.prepare().unwrap();
        let run = |arguments: &[&str]| {
            let mut command = std::process::Command::new("qemu-img");
            command.args(arguments).arg(&layer.file).output()
        };
        let Ok(output) = run(&["check"]) else {
            println!("skipped: no qemu-img");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let info = String::from_utf8_lossy(&run(&["info", "--output=json"]).unwrap().stdout).into_owned();
        assert!(
            info.contains("3221225984") && info.contains("\"backing-filename-format\": \"raw\""),
            "{info}"
        );
    }
}
