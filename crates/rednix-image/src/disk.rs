//! Puts an image together: layout, partition table, loaders, file system, manifest. Same input, same bytes.
//! It decides nothing about what the system contains.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::additions::Addition;
use crate::assemble::{Assembled, Sources, assemble};
use crate::closure::{self, Package};
use crate::config::{Config, General};
use crate::error::{Error, Result};
use crate::esp;
use crate::filesystem::{self, Failure, Window};
use crate::gpt::{self, SECTOR, Table};
use crate::limits::{
    BIOS_LOADER_SIZE_MAX, DISK_SIZE_MAX_MIB, DISK_SIZE_MIN_MIB, EFI_SIZE_DEFAULT_MIB, EFI_SIZE_MAX_MIB,
};
use crate::loaders;
use crate::manifest::{self, BiosLoader, FileSystemPlace, Identity, InstalledPackage, Manifest, Record, hex};
use crate::state::State;
use crate::tree::{Content, Entry, Tree, join, parent_of};

const MIB: u64 = 1 << 20;

/// Everything an image is made of.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name of the image.
    pub name: String,
    /// Name of the configuration; may be empty.
    pub system: String,
    /// As in target triples; decides the loader's name in the EFI partition.
    pub architecture: String,
    pub config: Config,
    /// Everything that may be installed.
    pub packages: Vec<Package>,
    /// What the configuration lists; the image has these and what they need.
    pub listed: Vec<String>,
    /// Folder of the package that brings the loaders.
    pub loader: Option<PathBuf>,
    /// Whether to take its BIOS loader too.
    pub bios: bool,
    pub initfs: Option<PathBuf>,
    /// Changes to the initfs that a package brings.
    pub initfs_additions: Vec<Addition>,
}

/// What was written, and what a person should know about it.
#[derive(Debug)]
pub struct Written {
    pub manifest: Manifest,
    /// Lines for the log only.
    pub notes: Vec<String>,
}

/// Where things lie on the disk, in MiB except where noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    disk: u64,
    /// None: no partition table, the whole disk is the file system.
    efi: Option<u64>,
}

impl Layout {
    fn new(general: &General, needed_bytes: u64) -> Result<Layout> {
        let efi = match general.skip_partitions {
            Some(true) => None,
            _ => Some(general.efi_partition_size.unwrap_or(EFI_SIZE_DEFAULT_MIB)),
        };
        if efi.is_some_and(|size| size == 0 || size > EFI_SIZE_MAX_MIB) {
            return Err(Error::Config(format!(
                "`general.efi_partition_size` must be 1 to {EFI_SIZE_MAX_MIB} MiB"
            )));
        }
        let disk = match general.filesystem_size {
            None | Some(0) => DISK_SIZE_MIN_MIB.max(needed_bytes.div_ceil(MIB) + overhead(efi)),
            Some(size) if size < DISK_SIZE_MIN_MIB => {
                return Err(Error::Config(format!(
                    "`general.filesystem_size` is {size} MiB, the least is {DISK_SIZE_MIN_MIB}"
                )));
            }
            Some(size) => size,
        };
        if disk > DISK_SIZE_MAX_MIB || disk <= overhead(efi) {
            return Err(Error::Config(format!(
                "an image of {disk} MiB cannot be made: the most is {DISK_SIZE_MAX_MIB}, the EFI partition and tables come on top of the contents"
            )));
        }
        Ok(Layout { disk, efi })
    }

    fn disk_bytes(&self) -> u64 {
        self.disk * MIB
    }

    /// First byte and size of the file system.
    fn filesystem(&self) -> (u64, u64) {
        match self.efi {
            None => (0, self.disk_bytes()),
            Some(efi) => {
                let start = (1 + efi) * MIB;
                let end = (self.disk_bytes() - gpt::HEAD_BYTES) / MIB * MIB;
                (start, end - start)
            }
        }
    }

    fn table(&self, efi: u64, identity: &Identity) -> Table {
        let (start, size) = self.filesystem();
        let partition = |name: &str, type_guid, first: u64, end: u64| gpt::Partition {
            name: name.to_owned(),
            type_guid,
            guid: identity.uuid(&format!("partition {name}")),
            first: first / SECTOR,
            last: end / SECTOR - 1,
        };
        let partitions = vec![
            partition("BIOS", gpt::TYPE_BIOS_BOOT, gpt::HEAD_BYTES, MIB),
            partition("EFI", gpt::TYPE_EFI_SYSTEM, MIB, (1 + efi) * MIB),
            partition("REDOX", gpt::TYPE_LINUX_FILE_SYSTEM, start, start + size),
        ];
        Table { sectors: self.disk_bytes() / SECTOR, disk_guid: identity.uuid("disk"), partitions }
    }
}

/// MiB that the tables and the EFI partition take.
fn overhead(efi: Option<u64>) -> u64 {
    efi.map_or(0, |efi| efi + 2)
}

/// The loaders' bytes, read before anything is written.
struct Loaders {
    uefi: Option<Vec<u8>>,
    bios: Option<Vec<u8>>,
    folder: Option<&'static str>,
}

impl Loaders {
    fn read(request: &Request) -> Result<Self> {
        let general = &request.config.general;
        let found = match &request.loader {
            Some(package) if general.skip_partitions != Some(true) => {
                loaders::find(package, general.live_disk == Some(true), request.bios)?
            }
            _ => loaders::Loaders::default(),
        };
        Ok(Loaders {
            uefi: found.uefi.as_deref().map(read_file).transpose()?,
            bios: found.bios.as_deref().map(read_bios_loader).transpose()?,
            folder: found.folder,
        })
    }

    fn uefi_hash(&self) -> Option<String> {
        self.uefi.as_ref().map(|bytes| hex(&Sha256::digest(bytes)))
    }

    fn bios_record(&self) -> Option<BiosLoader> {
        self.bios.as_ref().map(|bytes| BiosLoader { size: bytes.len() as u64, sha256: bios_digest(bytes) })
    }
}

/// SHA-256 of a BIOS loader without the bytes that the partition table replaces.
pub(crate) fn bios_digest(bytes: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(&bytes[..gpt::BOOT_CODE_BYTES.min(bytes.len())]);
    hasher.update(&bytes[(gpt::HEAD_BYTES as usize).min(bytes.len())..]);
    hex(&hasher.finalize())
}

/// Writes `disk.img` and `manifest.json` into the directory `output`, which is created.
pub fn write(request: &Request, output: &Path) -> Result<Written> {
    let general = &request.config.general;
    if general.encrypt_disk.as_ref().is_some_and(|password| !password.is_empty()) {
        return Err(Error::Config("`general.encrypt_disk` is not supported: encryption needs random keys, and the image would be a new one every time".into()));
    }
    let loaders = Loaders::read(request)?;
    let closure = closure::resolve(&request.packages, &request.listed)?;
    let state = State::read(&closure)?;
    let sources = Sources {
        system: &request.system,
        config: &request.config,
        closure: &closure,
        state: &state,
        initfs: request.initfs.as_deref(),
        initfs_additions: &request.initfs_additions,
        boot_folder: loaders.folder,
    };
    let Assembled { mut tree, collisions, mut warnings, mut notes } = assemble(sources)?;
    let records = add_manifest(&mut tree)?;

    let needed = filesystem::size_needed(&tree);
    let layout = Layout::new(general, needed)?;
    warnings.extend(boot_warning(&layout, &loaders));
    let boot = format!("{} {:?} {:?}", request.architecture, loaders.uefi_hash(), loaders.bios_record());
    let identity = Identity::new(&records, &[format!("{layout:?}"), boot]);
    fs::create_dir_all(output).map_err(Error::io("create", output))?;
    let table = layout.efi.map(|efi| layout.table(efi, &identity));
    write_disk(request, output, &layout, &loaders, &identity, table.as_ref(), &tree, needed)?;
    write_extra_loader(general, &loaders, output)?;
    let (offset, size) = layout.filesystem();
    let manifest = Manifest {
        format_version: manifest::FORMAT_VERSION,
        name: request.name.clone(),
        disk_size: layout.disk_bytes(),
        filesystem: FileSystemPlace { offset, size, uuid: identity.uuid("filesystem").to_string() },
        partitions: table.iter().flat_map(|table| &table.partitions).map(describe).collect(),
        disk_guid: table.as_ref().map(|table| table.disk_guid.to_string()),
        uefi_loader: table.as_ref().and_then(|_| loaders.uefi_hash()),
        bios_loader: table.as_ref().and_then(|_| loaders.bios_record()),
        packages: InstalledPackage::list(&closure, &state),
        collisions,
        warnings,
        entries: records,
    };
    let json = serde_json::to_vec_pretty(&manifest).expect("a manifest has only strings and numbers");
    let path = output.join("manifest.json");
    fs::write(&path, json).map_err(Error::io("write", &path))?;
    notes.extend(
        closure
            .missing
            .iter()
            .map(|(file, library)| format!("{file} names {library}, which nothing it was built with holds")),
    );
    Ok(Written { manifest, notes })
}

fn boot_warning(layout: &Layout, loaders: &Loaders) -> Option<String> {
    let needs_usual_place = loaders.bios.as_deref().is_some_and(|loader| !loaders::reads_partitions(loader));
    match layout.efi {
        Some(efi) if efi != EFI_SIZE_DEFAULT_MIB && needs_usual_place => Some(format!(
            "BIOS cannot boot this image: its loader looks for the file system right after an EFI partition of {EFI_SIZE_DEFAULT_MIB} MiB, and `general.efi_partition_size` is {efi}; UEFI can"
        )),
        Some(_) if loaders.uefi.is_none() && loaders.bios.is_none() => {
            Some("no package brings loaders: the image cannot boot by itself".to_owned())
        }
        _ => None,
    }
}

#[allow(clippy::too_many_arguments)]
fn write_disk(
    request: &Request,
    output: &Path,
    layout: &Layout,
    loaders: &Loaders,
    identity: &Identity,
    table: Option<&Table>,
    tree: &Tree,
    needed: u64,
) -> Result<()> {
    let image = output.join("disk.img");
    let file = create(&image, layout.disk_bytes())?;
    if let (Some(table), Some(efi)) = (table, layout.efi) {
        write_boot(request, &file, &image, table, efi, identity, loaders)?;
    }
    let (offset, size) = layout.filesystem();
    match filesystem::write(Window::new(file, offset, size), &image, tree, identity.uuid("filesystem")) {
        Ok(()) => Ok(()),
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::NoSpace) => {
            let needed_mib = needed.div_ceil(MIB) + overhead(layout.efi);
            Err(Error::DoesNotFit { size_mib: layout.disk, needed_mib })
        }
    }
}

/// `write_bootloader` names a path of the machine that builds; a builder writes only its output, so the loader goes
/// there under the path's last name.
fn write_extra_loader(general: &General, loaders: &Loaders, output: &Path) -> Result<()> {
    let Some(wanted) = general.write_bootloader.as_deref().filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let name = Path::new(wanted).file_name().filter(|name| *name != "disk.img" && *name != "manifest.json");
    let (Some(name), Some(loader)) = (name, &loaders.uefi) else {
        return Err(Error::Config(format!(
            "`general.write_bootloader` is `{wanted}`: it must name a file, and the image needs a UEFI loader"
        )));
    };
    let path = output.join(name);
    fs::write(&path, loader).map_err(Error::io("write", &path))
}

/// Hashes the tree, puts the manifest's text into it and answers the records of everything, the text included.
fn add_manifest(tree: &mut Tree) -> Result<Vec<Record>> {
    let folder = tree.make_directories(parent_of(manifest::PATH), "rednix")?;
    let path = join(&folder, "manifest");
    tree.put(&path, Entry::file(Content::Bytes(Vec::new()), 0o644, "rednix"))?;
    let mut records = manifest::records(tree)?;
    let place =
        records.iter().position(|record| record.path == path).expect("the manifest was just put there");
    records.remove(place);
    let entry = Entry::file(Content::Bytes(manifest::text(&records).into_bytes()), 0o644, "rednix");
    records.insert(place, manifest::record(&path, &entry)?);
    tree.put(&path, entry)?;
    Ok(records)
}

pub(crate) fn describe(partition: &gpt::Partition) -> manifest::Partition {
    manifest::Partition {
        name: partition.name.clone(),
        guid: partition.guid.to_string(),
        type_guid: partition.type_guid.to_string(),
        first_sector: partition.first,
        last_sector: partition.last,
    }
}

fn create(image: &Path, size: u64) -> Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(image)
        .map_err(Error::io("create", image))?;
    file.set_len(size).map_err(Error::io("size", image))?;
    Ok(file)
}

/// Table, boot code and EFI partition.
fn write_boot(
    request: &Request,
    file: &File,
    image: &Path,
    table: &Table,
    efi: u64,
    identity: &Identity,
    loaders: &Loaders,
) -> Result<()> {
    let (uefi, bios) = (loaders.uefi.as_deref(), loaders.bios.as_deref());
    if let Some(loader) = bios {
        write_sparse(file, image, 0, loader)?;
    }
    let boot_code = bios.map_or(&[][..], |loader| &loader[..gpt::BOOT_CODE_BYTES.min(loader.len())]);
    let (head, tail) = table.write(boot_code);
    write_sparse(file, image, 0, &head[..SECTOR as usize])?;
    file.write_all_at(&head[SECTOR as usize..], SECTOR).map_err(Error::io("write", image))?;
    let end = table.sectors * SECTOR;
    file.write_all_at(&tail, end - gpt::TAIL_BYTES).map_err(Error::io("write", image))?;
    let name = esp::loader_name(&request.architecture).ok_or_else(|| {
        Error::Config(format!("no UEFI loader name is known for architecture `{}`", request.architecture))
    })?;
    let id = identity.uuid("EFI volume").0;
    let volume_id = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
    let volume = esp::build(efi, volume_id, uefi.map(|bytes| (name, bytes)))?;
    write_sparse(file, image, MIB, &volume)
}

/// Writes what is not zero, page by page; the file is new, so the rest is zero already.
fn write_sparse(file: &File, image: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    for (index, page) in bytes.chunks(4096).enumerate() {
        if page.iter().any(|&byte| byte != 0) {
            file.write_all_at(page, offset + index as u64 * 4096).map_err(Error::io("write", image))?;
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::io("read", path))
}

/// A BIOS loader is a raw disk start; the partition table goes over bytes it leaves zero.
fn read_bios_loader(path: &Path) -> Result<Vec<u8>> {
    let loader = read_file(path)?;
    let fail = |message: String| Error::malformed("BIOS loader", message);
    if loader.len() < SECTOR as usize || loader.len() as u64 > BIOS_LOADER_SIZE_MAX {
        return Err(fail(format!("{} bytes; a loader has 512 to {BIOS_LOADER_SIZE_MAX}", loader.len())));
    }
    let table_end = loader.len().min(gpt::HEAD_BYTES as usize);
    if loader[SECTOR as usize..table_end].iter().any(|&byte| byte != 0) {
        return Err(fail("bytes 512 to 17408 are not zero: the partition table has no room".into()));
    }
    Ok(loader)
}
