//! Compares an image with its manifest: partition table with both copies, loader in the EFI partition, and every
//! path of the file system with mode, owner and content. It changes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::disk::{bios_digest, describe};
use crate::error::{Error, Result};
use crate::esp;
use crate::filesystem::{Found, Volume, Window};
use crate::gpt::{HEAD_BYTES, SECTOR, TAIL_BYTES, Table};
use crate::limits::{BIOS_LOADER_SIZE_MAX, DIFFERENCES_MAX};
use crate::manifest::{FORMAT_VERSION, Manifest, Record, hex};

/// What a verification looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    pub entries: u64,
    pub bytes: u64,
}

/// The file system of an image, for reading single files.
pub struct Image {
    volume: Volume,
    entries: BTreeMap<String, Found>,
}

impl Image {
    pub fn open(image: &Path, manifest: &Manifest) -> Result<Self> {
        let file = File::open(image).map_err(Error::io("open", image))?;
        let place = &manifest.filesystem;
        let mut volume = Volume::open(Window::new(file, place.offset, place.size))?;
        let entries = volume.entries()?.into_iter().map(|found| (found.path.clone(), found)).collect();
        Ok(Image { volume, entries })
    }

    /// The bytes of a file, or a symlink's target.
    pub fn read(&mut self, path: &str) -> Result<Vec<u8>> {
        let found = self.entries.get(path).ok_or_else(|| Error::content(path, "is not in the image"))?;
        let mut bytes = Vec::new();
        self.volume.read(found, |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }
}

struct Differences(Vec<String>);

impl Differences {
    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.0.len() < DIFFERENCES_MAX {
            self.0.push(line());
        }
    }

    fn compare<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, expected: T) {
        if found != expected {
            self.note(|| format!("{what}: {found:?} instead of {expected:?}"));
        }
    }
}

/// Verifies `disk.img` in `folder` against `manifest.json` beside it.
pub fn verify_folder(folder: &Path) -> Result<Verified> {
    let path = folder.join("manifest.json");
    let text = fs::read(&path).map_err(Error::io("read", &path))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| Error::malformed("manifest.json", error.to_string()))?;
    verify(&folder.join("disk.img"), &manifest)
}

/// Verifies one image.
pub fn verify(image: &Path, manifest: &Manifest) -> Result<Verified> {
    if manifest.format_version != FORMAT_VERSION {
        let message =
            format!("version {}, this rednix understands {FORMAT_VERSION}", manifest.format_version);
        return Err(Error::malformed("manifest.json", message));
    }
    let file = File::open(image).map_err(Error::io("open", image))?;
    let size = file.metadata().map_err(Error::io("inspect", image))?.len();
    let mut differences = Differences(Vec::new());
    differences.compare("size of the disk", size, manifest.disk_size);
    if !manifest.partitions.is_empty() {
        verify_boot(&file, image, size, manifest, &mut differences)?;
    }
    let place = &manifest.filesystem;
    let mut volume = Volume::open(Window::new(file, place.offset, place.size))?;
    differences.compare("UUID of the file system", volume.uuid().to_string(), place.uuid.clone());
    let verified = verify_entries(&mut volume, manifest, &mut differences)?;
    match differences.0 {
        lines if lines.is_empty() => Ok(verified),
        lines => Err(Error::Differs(lines)),
    }
}

fn verify_boot(
    file: &File,
    image: &Path,
    size: u64,
    manifest: &Manifest,
    differences: &mut Differences,
) -> Result<()> {
    let read = |offset: u64, length: u64| {
        let mut bytes = vec![0; length as usize];
        file.read_exact_at(&mut bytes, offset).map_err(Error::io("read", image))?;
        Ok(bytes)
    };
    if size < HEAD_BYTES + TAIL_BYTES {
        return Err(Error::malformed("partition table", "the disk is too small for one"));
    }
    let table = Table::parse(&read(0, HEAD_BYTES)?, &read(size - TAIL_BYTES, TAIL_BYTES)?, size / SECTOR)?;
    differences.compare("disk GUID", Some(table.disk_guid.to_string()), manifest.disk_guid.clone());
    let partitions: Vec<_> = table.partitions.iter().map(describe).collect();
    differences.compare("partitions", &partitions, &manifest.partitions);
    if let Some(expected) = &manifest.bios_loader {
        let start = read(0, expected.size.min(size).min(BIOS_LOADER_SIZE_MAX))?;
        differences.compare("BIOS loader", &bios_digest(&start), &expected.sha256);
    }
    let Some(efi) = table.partitions.iter().find(|partition| partition.name == "EFI") else { return Ok(()) };
    let volume = read(efi.first * SECTOR, (efi.last + 1 - efi.first) * SECTOR)?;
    let mut loader = None;
    for architecture in ["x86_64", "aarch64", "i686", "riscv64"] {
        let name = esp::loader_name(architecture).expect("a known architecture");
        loader = loader.or(esp::read_loader(&volume, name)?);
    }
    let hash = loader.map(|bytes| hex(&Sha256::digest(&bytes)));
    differences.compare("UEFI loader", hash, manifest.uefi_loader.clone());
    Ok(())
}

fn verify_entries(
    volume: &mut Volume,
    manifest: &Manifest,
    differences: &mut Differences,
) -> Result<Verified> {
    let mut expected: BTreeMap<&str, &Record> =
        manifest.entries.iter().map(|record| (record.path.as_str(), record)).collect();
    let mut verified = Verified { entries: 0, bytes: 0 };
    for found in volume.entries()? {
        let Some(record) = expected.remove(found.path.as_str()) else {
            differences.note(|| format!("/{}: not in the manifest", found.path));
            continue;
        };
        verified.entries += 1;
        verified.bytes += found.size;
        verify_entry(volume, &found, record, differences)?;
    }
    for path in expected.keys() {
        differences.note(|| format!("/{path}: missing in the image"));
    }
    Ok(verified)
}

fn verify_entry(
    volume: &mut Volume,
    found: &Found,
    record: &Record,
    differences: &mut Differences,
) -> Result<()> {
    let path = format!("/{}", record.path);
    differences.compare(&path, format!("{:o}", found.mode), record.mode.clone());
    differences.compare(&path, (found.uid, found.gid), (record.uid, record.gid));
    if record.sha256.is_none() && record.target.is_none() {
        return Ok(());
    }
    differences.compare(&path, found.size, record.size);
    if let Some(expected) = &record.sha256 {
        let mut hasher = Sha256::new();
        volume.read(found, |bytes| hasher.update(bytes))?;
        differences.compare(&path, &hex(&hasher.finalize()), expected);
    }
    if let Some(expected) = &record.target {
        let mut target = Vec::new();
        volume.read(found, |bytes| target.extend_from_slice(bytes))?;
        differences.compare(&path, String::from_utf8_lossy(&target).as_ref(), expected.as_str());
    }
    Ok(())
}
