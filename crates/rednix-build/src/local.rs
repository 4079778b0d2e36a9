//! The backend that builds on this machine, in the sandbox. It reads no derivation and registers nothing.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rednix_store::handle::{Dir, Walk};
use rednix_store::hash::Hash;
use rustix::fs::FlockOperation;

use crate::backend::{Backend, BackendError, BuildOutcome, BuildRequest, KeptFolder};
use crate::sandbox::{
    self, Bytes, Capabilities, Confinement, Control, Input, Kept, ResourceLimits, Root, SandboxSpec,
};

/// Builds in namespaces on this machine.
#[derive(Debug)]
pub struct Local {
    /// Holds composed roots where the kernel composes none; on the store's file system.
    farm_folder: PathBuf,
    limits: ResourceLimits,
    capabilities: OnceLock<Result<Capabilities, String>>,
    farms_made: AtomicU64,
}

impl Local {
    pub fn new(farm_folder: PathBuf, limits: ResourceLimits) -> Self {
        Local { farm_folder, limits, capabilities: OnceLock::new(), farms_made: AtomicU64::new(0) }
    }

    /// A backend that takes the caller's word for what this machine allows.
    pub fn with_capabilities(farm_folder: PathBuf, limits: ResourceLimits, known: Capabilities) -> Self {
        let local = Local::new(farm_folder, limits);
        local.capabilities.set(Ok(known)).expect("a new backend knows nothing yet");
        local
    }

    /// What this machine allows, found out at the first build that needs it.
    fn capabilities(&self, work: &Path) -> Result<Capabilities, BackendError> {
        let found = self.capabilities.get_or_init(|| sandbox::probe(work).map_err(|error| error.to_string()));
        found.clone().map_err(BackendError::Unavailable)
    }

    /// The root for these layers, and a lock that keeps collection from removing it meanwhile.
    fn root(
        &self,
        request: &BuildRequest,
        capabilities: Capabilities,
    ) -> Result<(Root, Option<fs::File>), BackendError> {
        if request.root_layers.is_empty() {
            return Ok((Root::Empty, None));
        }
        if capabilities.overlay {
            let layers = request.root_layers.iter().map(|layer| Bytes::from(layer.as_path())).collect();
            return Ok((Root::Overlay(layers), None));
        }
        let (farm, lock) = at("compose the root", &self.farm_folder, self.farm(&request.root_layers))?;
        Ok((Root::Folder(farm.into()), Some(lock)))
    }

    /// A composed root for these layers, made once and kept until the next collection.
    fn farm(&self, layers: &[PathBuf]) -> io::Result<(PathBuf, fs::File)> {
        let list: Vec<u8> = layers.iter().flat_map(|layer| Bytes::from(layer.as_path()).0).collect();
        let farm = self.farm_folder.join(format!("farm-{}", Hash::sha256(&list).to_nix32()));
        loop {
            if let Ok(lock) = fs::File::open(&farm) {
                rustix::fs::flock(&lock, FlockOperation::LockShared)?;
                if farm.is_dir() {
                    return Ok((farm, lock));
                }
            }
            fs::create_dir_all(&self.farm_folder)?;
            let number = self.farms_made.fetch_add(1, Ordering::Relaxed);
            let making = farm.with_extension(format!("{}-{number}", std::process::id()));
            sandbox::compose_farm(layers, &making, SandboxSpec::USER_DEFAULT, SandboxSpec::GROUP_DEFAULT)?;
            match fs::rename(&making, &farm) {
                Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => return Err(error),
                // Another process was faster, with the same result.
                Err(_) => fs::remove_dir_all(&making)?,
                Ok(()) => {}
            }
        }
    }
}

fn at<T>(operation: &'static str, path: &Path, result: io::Result<T>) -> Result<T, BackendError> {
    result.map_err(|source| BackendError::Folder { operation, path: path.to_owned(), source })
}

impl Backend for Local {
    fn run(
        &self,
        request: &BuildRequest,
        control: &Control,
        on_output: &mut dyn FnMut(&[u8]),
    ) -> Result<BuildOutcome, BackendError> {
        let capabilities = self.capabilities(&request.work_folder)?;
        let (root, _lock) = self.root(request, capabilities)?;
        let folder = |name: &str, mode: u32| {
            let path = request.work_folder.join(name);
            let made = fs::DirBuilder::new().mode(mode).create(&path);
            at("create the folder", &path, made.and_then(|()| set_mode(&path, mode))).map(|()| path)
        };
        let build_folder = folder("build", 0o755)?;
        let store_folder = folder("store", 0o755)?;
        let aside_folder = folder("aside", 0o755)?;
        let temporary_folder = folder("tmp", 0o1777)?;
        let mount_folder = folder("root", 0o755)?;
        for (name, text) in &request.files {
            let path = build_folder.join(name);
            at("write", &path, fs::write(&path, text))?;
        }
        let inputs = request
            .inputs
            .iter()
            .map(|(path, host)| Input {
                host: Bytes::from(host.as_path()),
                name: Bytes::from(path.basename()),
            })
            .collect();
        let mut kept = Vec::with_capacity(request.kept.len());
        for folder in &request.kept {
            let point = build_folder.join(&folder.name);
            at("create the folder", &point, fs::create_dir(&point))?;
            at("hand over", &folder.host, hand_over(folder, capabilities.confinement))?;
            kept.push(Kept { host: Bytes::from(folder.host.as_path()), name: folder.name.clone() });
        }
        let (user, group) = inside_ids(capabilities.confinement);
        let spec = SandboxSpec {
            confinement: capabilities.confinement,
            root,
            inputs,
            build_folder: Bytes::from(build_folder.as_path()),
            kept,
            store_folder: Bytes::from(store_folder.as_path()),
            aside_folder: aside_folder.into(),
            temporary_folder: temporary_folder.into(),
            mount_folder: mount_folder.into(),
            program: request.program.clone(),
            environment: request.environment.clone(),
            hostname: "localhost".to_owned(),
            limits: self.limits.clone(),
            user,
            group,
        };
        let ending = sandbox::run(&spec, control, on_output)?;
        Ok(BuildOutcome { ending, output_folder: store_folder, build_folder })
    }
}

fn inside_ids(confinement: Confinement) -> (u32, u32) {
    match confinement {
        Confinement::Privileged { host_id, nested_user: false } => (host_id, host_id),
        _ => (SandboxSpec::USER_DEFAULT, SandboxSpec::GROUP_DEFAULT),
    }
}

/// Gives a kept folder and what rednix put into it to the build user; only where rednix is root that is another one.
fn hand_over(folder: &KeptFolder, confinement: Confinement) -> io::Result<()> {
    let Confinement::Privileged { host_id, .. } = confinement else { return Ok(()) };
    let (user, group) = (rustix::fs::Uid::from_raw(host_id), rustix::fs::Gid::from_raw(host_id));
    let failed = |error: rednix_store::Error| io::Error::other(error.to_string());
    let top = Dir::open(&folder.host).map_err(failed)?;
    let give = |parent: &Dir, name: &Path| {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, name, Some(user), Some(group), flags)
    };
    rustix::fs::fchown(&top, Some(user), Some(group))?;
    if !folder.is_supplied {
        return Ok(());
    }
    // By handle: earlier builds wrote here, and links of theirs may lead anywhere.
    top.walk(&mut |visit| {
        if visit.parent.metadata(&visit.entry.name)?.st_uid != host_id {
            let given = give(visit.parent, Path::new(&visit.entry.name));
            given.map_err(|errno| visit.parent.error("change the owner of", &visit.entry.name, errno))?;
        }
        Ok(Walk::Continue)
    })
    .map_err(failed)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
