//! The EFI system partition: a FAT volume composed in memory, holding one loader at the path firmware looks for.
//! It writes no disk and reads no clock.

use std::io::{Cursor, Read, Write};

use fatfs::{Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};

use crate::error::{Error, Result};

/// Always the first moment FAT can express; a clock would make every image different.
#[derive(Debug)]
struct FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

static FIXED_TIME: FixedTime = FixedTime;

/// The name of the loader firmware starts, for an architecture as in target triples.
pub fn loader_name(architecture: &str) -> Option<&'static str> {
    match architecture {
        "x86_64" => Some("BOOTX64.EFI"),
        "aarch64" => Some("BOOTAA64.EFI"),
        "i586" | "i686" => Some("BOOTIA32.EFI"),
        "riscv64gc" | "riscv64" => Some("BOOTRISCV64.EFI"),
        _ => None,
    }
}

/// Bytes of a volume of `size_mib` with `EFI/BOOT/<name>`. Without a loader the volume is formatted and empty.
pub fn build(size_mib: u64, volume_id: u32, loader: Option<(&str, &[u8])>) -> Result<Vec<u8>> {
    let size = (size_mib << 20) as usize;
    let fail = |error: std::io::Error| Error::malformed("EFI partition", error.to_string());
    let mut volume = Cursor::new(vec![0u8; size]);
    fatfs::format_volume(&mut volume, FormatVolumeOptions::new().volume_id(volume_id)).map_err(fail)?;
    volume.set_position(0);
    let Some((name, bytes)) = loader else { return Ok(volume.into_inner()) };
    let options = || FsOptions::new().time_provider(&FIXED_TIME);
    let fs = FileSystem::new(&mut volume, options()).map_err(fail)?;
    let cluster = fs.cluster_size() as usize;
    // Two directories besides the loader, each a cluster.
    let room = u64::from(fs.stats().map_err(fail)?.free_clusters().saturating_sub(2)) * cluster as u64;
    if bytes.len() as u64 > room {
        let needed_mib = (bytes.len() as u64 + (256 << 10)).div_ceil(1 << 20);
        return Err(Error::LoaderDoesNotFit { loader_bytes: bytes.len() as u64, size_mib, needed_mib });
    }
    fs.root_dir().create_dir("EFI").and_then(|efi| efi.create_dir("BOOT")).map_err(fail)?;
    fs.unmount().map_err(fail)?;
    tidy_dot_entries(volume.get_mut(), cluster);
    volume.set_position(0);
    let fs = FileSystem::new(&mut volume, options()).map_err(fail)?;
    {
        let mut file = fs.root_dir().create_file(&format!("EFI/BOOT/{name}")).map_err(fail)?;
        file.write_all(bytes).and_then(|()| file.flush()).map_err(fail)?;
    }
    fs.unmount().map_err(fail)?;
    Ok(volume.into_inner())
}

/// Removes the long names that the crate gives to `.` and `..`: the specification wants these two entries first and
/// plain, and file system checkers complain. Call while the volume holds directories only, so that nothing else can
/// look like one.
fn tidy_dot_entries(volume: &mut [u8], cluster: usize) {
    const ENTRY: usize = 32;
    const ATTRIBUTES: usize = 11;
    const LONG_NAME: u8 = 0x0f;
    let mut at = 0;
    while at + cluster <= volume.len() {
        let entries = &volume[at..at + 4 * ENTRY];
        let long = |index: usize| entries[index * ENTRY + ATTRIBUTES] == LONG_NAME;
        let named = |index: usize, name: &[u8; 11]| &entries[index * ENTRY..index * ENTRY + 11] == name;
        if long(0) && named(1, b".          ") && long(2) && named(3, b"..         ") {
            volume.copy_within(at + ENTRY..at + 2 * ENTRY, at);
            volume.copy_within(at + 3 * ENTRY..at + cluster, at + ENTRY);
            volume[at + cluster - 2 * ENTRY..at + cluster].fill(0);
        }
        // Clusters start at sectors, not at multiples of their own size.
        at += 512;
    }
}

/// Reads `EFI/BOOT/<name>` from the bytes of a volume; nothing when there is no such file.
pub fn read_loader(volume: &[u8], name: &str) -> Result<Option<Vec<u8>>> {
    let fail = |error: std::io::Error| Error::malformed("EFI partition", error.to_string());
    let fs = FileSystem::new(Cursor::new(volume.to_vec()), FsOptions::new()).map_err(fail)?;
    let mut file = match fs.root_dir().open_file(&format!("EFI/BOOT/{name}")) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(fail)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_comes_back_and_bytes_repeat() {
        let loader: Vec<u8> = (0..180_000u32).map(|n| (n * 7) as u8).collect();
        for size_mib in [1, 2, 64, 128] {
            let build = || build(size_mib, 0x1234_5678, Some(("BOOTX64.EFI", &loader))).unwrap();
            let volume = build();
            assert_eq!(volume.len() as u64, size_mib << 20);
            assert!(volume == build(), "same bytes twice");
            assert_eq!(read_loader(&volume, "BOOTX64.EFI").unwrap().unwrap(), loader);
            assert_eq!(read_loader(&volume, "BOOTAA64.EFI").unwrap(), None);
            check(&volume);
        }
    }

    /// Another program's opinion, where there is one.
    fn check(volume: &[u8]) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), volume).unwrap();
        match std::process::Command::new("fsck.fat").arg("-nv").arg(file.path()).output() {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success(), "{text}");
                assert!(!text.contains("Bad short") && !text.contains("Expected a valid"), "{text}");
            }
            Err(error) => println!("skipped: fsck.fat: {error}"),
        }
    }

    #[test]
    fn directories_start_with_their_dot_entries() {
        let volume = build(1, 7, Some(("BOOTX64.EFI", b"loader"))).unwrap();
        let dots =
            volume.chunks_exact(512).filter(|sector| sector.starts_with(b".          ")).collect::<Vec<_>>();
        assert_eq!(dots.len(), 2, "EFI and BOOT");
        assert!(dots.iter().all(|sector| sector[32..].starts_with(b"..         ")));
    }

    #[test]
    fn one_mebibyte_is_fat12() {
        let volume = build(1, 7, None).unwrap();
        assert_eq!(&volume[54..62], b"FAT12   ");
        assert_eq!(volume[39..43], 7u32.to_le_bytes());
    }

    #[test]
    fn a_loader_that_is_too_large_names_the_size() {
        let message = build(1, 7, Some(("BOOTX64.EFI", &vec![1; 2 << 20]))).unwrap_err().to_string();
        assert!(message.contains("efi_partition_size` to 3"), "{message}");
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(read_loader(&[0; 4096], "BOOTX64.EFI").is_err());
        assert!(read_loader(&[], "BOOTX64.EFI").is_err());
    }
}
