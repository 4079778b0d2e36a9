//! Puts the sandbox's root folder together: layers, `/nix/store`, `/dev`, `/proc`, `/build`, `/tmp`.
//! It runs inside the new mount namespace and starts nothing; every failure names its step and object.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::skeleton;
use super::spec::{Bytes, Confinement, Input, Root, SandboxSpec};
use crate::limits;

/// What failed while the sandbox was set up.
#[derive(Debug)]
pub struct SetupError {
    pub step: &'static str,
    pub object: String,
    pub error: io::Error,
}

pub type Setup<T> = Result<T, SetupError>;

/// Attaches step and object to a system error.
pub fn at<T, E: Into<io::Error>>(
    step: &'static str,
    object: impl AsRef<OsStr>,
    result: Result<T, E>,
) -> Setup<T> {
    result.map_err(|error| SetupError {
        step,
        object: object.as_ref().to_string_lossy().into_owned(),
        error: error.into(),
    })
}

const HARMLESS: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// Builds everything below `spec.mount_folder` and makes it the root of this mount namespace.
pub fn enter_root(spec: &SandboxSpec) -> Setup<()> {
    let work = spec.mount_folder.as_path();
    // Nothing mounted here may travel to the host, and nothing of the host's to here.
    at("make mounts private", "/", make_private(work))?;
    at(
        "mount tmpfs",
        work,
        rustix::mount::mount("tmpfs", work, "tmpfs", HARMLESS, c"mode=0755,size=64m,nr_inodes=64k"),
    )?;
    let root = work.join("root");
    for name in ["root", "layers", "anchors"] {
        at("create folder", name, fs::create_dir(work.join(name)))?;
    }
    mount_root(spec, work, &root)?;
    mount_store(spec, work, &root.join("nix/store"))?;
    let build = root.join("build");
    bind(spec.build_folder.as_path(), &build, HARMLESS)?;
    for kept in &spec.kept {
        bind(kept.host.as_path(), &build.join(&kept.name), HARMLESS)?;
    }
    bind(spec.temporary_folder.as_path(), &root.join("tmp"), HARMLESS)?;
    mount_devices(&root.join("dev"))?;
    mount_proc(&root.join("proc"), spec.confinement)?;
    change_root(&root)
}

/// Cuts the ties of all mounts of this namespace to those of others.
///
/// That is said of the namespace's topmost mount. In a plain chroot it is out of sight, so the way there is to
/// step out of the chroot, which root may, and back in afterwards.
fn make_private(inner: &Path) -> rustix::io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    match rustix::mount::mount_change("/", private) {
        Err(rustix::io::Errno::INVAL) => {}
        other => return other,
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let chroot = rustix::fs::open("/", flags, Mode::empty())?;
    rustix::process::chdir("/")?;
    rustix::process::chroot(inner)?;
    // The working folder is outside the root now, so nothing stops the way up; at the top it stays.
    for _ in 0..limits::CHROOT_DEPTH_MAX {
        rustix::process::chdir("..")?;
    }
    rustix::process::chroot(".")?;
    let made = rustix::mount::mount_change("/", private);
    rustix::process::fchdir(&chroot)?;
    rustix::process::chroot(".")?;
    made
}

/// Mounts the root layers at `root`, with the mount points and /etc files as the topmost layer.
fn mount_root(spec: &SandboxSpec, work: &Path, root: &Path) -> Setup<()> {
    let layers = match &spec.root {
        Root::Folder(folder) => return bind(folder.as_path(), root, HARMLESS | MountFlags::RDONLY),
        Root::Empty => &[][..],
        Root::Overlay(layers) => layers,
    };
    let top = work.join("skeleton");
    at("write skeleton", &top, skeleton::write(&top, spec.user, spec.group))?;
    if layers.is_empty() {
        return bind(&top, root, HARMLESS | MountFlags::RDONLY);
    }
    // Short links keep the option string below one page for hundreds of layers, and keep colons and commas
    // of real paths out of it.
    let names = work.join("layers");
    at("change folder", &names, rustix::process::chdir(&names))?;
    for (index, layer) in layers.iter().enumerate() {
        at("link layer", layer.as_path(), symlink(layer.as_path(), index.to_string()))?;
    }
    let mut groups: Vec<String> = vec!["../skeleton".to_owned()];
    let all: Vec<String> = (0..layers.len()).map(|index| index.to_string()).collect();
    if all.len() <= limits::OVERLAY_LAYERS_MAX {
        groups.extend(all);
    } else {
        for (index, chunk) in all.chunks(limits::OVERLAY_LAYERS_MAX).enumerate() {
            if let [only] = chunk {
                groups.push(only.clone());
                continue;
            }
            let name = format!("g{index}");
            at("create folder", &name, fs::create_dir(&name))?;
            mount_overlay(chunk, Path::new(&name))?;
            groups.push(name);
        }
    }
    mount_overlay(&groups, root)?;
    at("change folder", "/", rustix::process::chdir("/"))
}

fn mount_overlay(layers: &[String], target: &Path) -> Setup<()> {
    let options = CString::new(format!("lowerdir={}", layers.join(":"))).expect("names hold no NUL");
    let flags = HARMLESS | MountFlags::RDONLY;
    at("mount overlay", target, rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str()))
}

/// Bind-mounts `source` at `target` and gives the new mount `flags` on top of those it has to keep.
fn bind(source: &Path, target: &Path, flags: MountFlags) -> Setup<()> {
    at("bind mount", source, rustix::mount::mount_bind(source, target))?;
    let kept = locked_flags(target)?;
    let remount = MountFlags::BIND | kept | flags;
    at("restrict mount", target, rustix::mount::mount_remount(target, remount, c""))
}

/// Flags a less privileged namespace must repeat when it remounts.
fn locked_flags(path: &Path) -> Setup<MountFlags> {
    let status = at("read mount flags", path, rustix::fs::statvfs(path))?;
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    let present = pairs.iter().filter(|(have, _)| status.f_flag.contains(*have));
    Ok(present.fold(MountFlags::empty(), |flags, (_, flag)| flags | *flag))
}

/// Mounts the store: inputs read only, outputs written to the store folder on disk.
///
/// Each input needs a mount point. Making and removing hundreds of them on disk takes longer than all the
/// rest, so they are in memory, and the store folder is laid over them; where the kernel refuses that, they
/// are on disk after all.
fn mount_store(spec: &SandboxSpec, work: &Path, store: &Path) -> Setup<()> {
    let points = work.join("points");
    at("create folder", &points, fs::create_dir(&points))?;
    make_mount_points(&spec.inputs, &points)?;
    if overlay_store(spec, work).is_err() {
        bind(spec.store_folder.as_path(), store, HARMLESS)?;
        make_mount_points(&spec.inputs, store)?;
    } else {
        at("move mount", store, rustix::mount::mount_move(work.join("store"), store))?;
    }
    mount_inputs(&spec.inputs, work, store)
}

/// Lays the store folder over the mount points, at `<work>/store`.
fn overlay_store(spec: &SandboxSpec, work: &Path) -> Setup<()> {
    let target = work.join("store");
    at("create folder", &target, fs::create_dir(&target))?;
    // Short links again: the options know no quoting.
    at("change folder", work, rustix::process::chdir(work))?;
    at("link folder", "upper", symlink(spec.store_folder.as_path(), "upper"))?;
    at("link folder", "aside", symlink(spec.aside_folder.as_path(), "aside"))?;
    let mut options = "lowerdir=points,upperdir=upper,workdir=aside".to_owned();
    if matches!(spec.confinement, Confinement::User { .. }) {
        // Without rights over the host, overlay's own marks must be attributes that users may set.
        options.push_str(",userxattr");
    }
    let options = CString::new(options).expect("the options hold no NUL");
    let mounted = rustix::mount::mount("overlay", &target, "overlay", HARMLESS, options.as_c_str());
    at("change folder", "/", rustix::process::chdir("/"))?;
    at("mount overlay", &target, mounted)
}

/// A mount point per input; for an input that is a link, the link itself.
fn make_mount_points(inputs: &[Input], folder: &Path) -> Setup<()> {
    for input in inputs {
        let host = input.host.as_path();
        let status = at("find input", host, fs::symlink_metadata(host))?;
        let target = folder.join(input.name.as_path());
        if status.is_symlink() {
            let link = at("read link", host, fs::read_link(host))?;
            at("create link", &target, symlink(link, &target))?;
        } else if status.is_dir() {
            at("create mount point", &target, fs::create_dir(&target))?;
        } else {
            at("create mount point", &target, fs::File::create(&target))?;
        }
    }
    Ok(())
}

/// Makes each input appear in `store`, read only.
///
/// A bind mount takes over the flags of the mount it is made from. So each host folder is bound and made
/// read only once (an anchor), and the inputs are bound from there: one system call per input.
fn mount_inputs(inputs: &[Input], work: &Path, store: &Path) -> Setup<()> {
    let mut anchors: BTreeMap<&Path, PathBuf> = BTreeMap::new();
    for input in inputs {
        let host = input.host.as_path();
        let (Some(folder), Some(file)) = (host.parent(), host.file_name()) else {
            return at("find input", host, Err(io::Error::from(io::ErrorKind::InvalidInput)));
        };
        let target = store.join(input.name.as_path());
        if at("find mount point", &target, fs::symlink_metadata(&target))?.is_symlink() {
            continue;
        }
        if !anchors.contains_key(folder) {
            let anchor = work.join("anchors").join(anchors.len().to_string());
            at("create folder", &anchor, fs::create_dir(&anchor))?;
            bind(folder, &anchor, HARMLESS | MountFlags::RDONLY)?;
            anchors.insert(folder, anchor);
        }
        let source = anchors[folder].join(file);
        at("bind input", host, rustix::mount::mount_bind(&source, &target))?;
    }
    Ok(())
}

/// A /dev with only what programs may expect anywhere.
fn mount_devices(dev: &Path) -> Setup<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    at("mount tmpfs", dev, rustix::mount::mount("tmpfs", dev, "tmpfs", flags, c"mode=0755,size=1m"))?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (host, inside) = (Path::new("/dev").join(name), dev.join(name));
        if name == "tty" && !host.exists() {
            continue;
        }
        at("create mount point", &inside, fs::File::create(&inside))?;
        at("bind device", &host, rustix::mount::mount_bind(&host, &inside))?;
    }
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    for (target, name) in links {
        at("create link", name, symlink(target, dev.join(name)))?;
    }
    let (pts, shm) = (dev.join("pts"), dev.join("shm"));
    at("create folder", &pts, fs::create_dir(&pts))?;
    at("create folder", &shm, fs::create_dir(&shm))?;
    let options = c"newinstance,ptmxmode=0666,mode=0620";
    at("mount devpts", &pts, rustix::mount::mount("devpts", &pts, "devpts", flags, options))?;
    let shared = HARMLESS | MountFlags::NOEXEC;
    at("mount tmpfs", &shm, rustix::mount::mount("tmpfs", &shm, "tmpfs", shared, c"mode=1777,size=50%"))?;
    at("restrict mount", dev, rustix::mount::mount_remount(dev, flags | MountFlags::RDONLY, c"mode=0755"))
}

/// Parts of /proc through which the host's root user could change the machine, user namespace or not.
const PROC_SWITCHES: [&str; 5] = ["sys", "sysrq-trigger", "irq", "bus", "fs"];

fn mount_proc(proc: &Path, confinement: Confinement) -> Setup<()> {
    let flags = HARMLESS | MountFlags::NOEXEC;
    at("mount proc", proc, rustix::mount::mount("proc", proc, "proc", flags, c""))?;
    if confinement == (Confinement::User { is_host_root: true }) {
        for name in PROC_SWITCHES {
            let path = proc.join(name);
            if path.exists() {
                bind(&path, &path, flags | MountFlags::RDONLY)?;
            }
        }
    }
    Ok(())
}

/// Makes `root` the root folder and lets go of everything else.
fn change_root(root: &Path) -> Setup<()> {
    at("change folder", root, rustix::process::chdir(root))?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => at("detach the host's root", "/", rustix::mount::unmount(".", UnmountFlags::DETACH))?,
        // In a plain chroot the old root is no mount point and cannot be exchanged. The builder has no
        // capability to leave a chroot, nor a handle outside it.
        Err(rustix::io::Errno::INVAL) => at("change root", root, rustix::process::chroot("."))?,
        Err(error) => at("exchange root", root, Err(error))?,
    }
    at("change folder", "/", rustix::process::chdir("/"))
}

/// Gives the folders the builder writes to its host user; only needed where rednix is root.
pub fn hand_over(spec: &SandboxSpec, id: u32) -> Setup<()> {
    let folders: [&Bytes; 3] = [&spec.build_folder, &spec.store_folder, &spec.temporary_folder];
    for folder in folders {
        let path = folder.as_path();
        at("change owner", path, std::os::unix::fs::chown(path, Some(id), Some(id)))?;
    }
    Ok(())
}

/// Sets the mode of a folder whatever the umask is.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
