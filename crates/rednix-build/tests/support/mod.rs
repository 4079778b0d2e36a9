//! What the tests of this crate share: a root layer made of a few of the host's programs, and scratch
//! folders. Only tests use the host's programs; rednix itself never does.
#![allow(dead_code)]

pub mod calls;
pub mod world;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rednix_build::CancelToken;
use rednix_build::sandbox::{
    Bytes, Confinement, Control, Program, ResourceLimits, Root, SandboxSpec, probe, try_one,
};

/// Programs of the test layer, found on PATH.
const PROGRAMS: [&str; 18] = [
    "bash", "sh", "ls", "cat", "mkdir", "rm", "cp", "ln", "chmod", "sleep", "id", "stat", "head", "env",
    "touch", "seq", "mkfifo", "truncate",
];

static LAYER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();

pub fn expect(condition: bool, message: impl Into<String>) -> Result<(), libtest_mimic::Failed> {
    if condition { Ok(()) } else { Err(libtest_mimic::Failed::from(message.into())) }
}

/// Removes what statics hold, which nobody drops, and ends the test program.
pub fn finish(conclusion: libtest_mimic::Conclusion) -> ! {
    if let Some((folder, _)) = LAYER.get() {
        let _ = std::fs::remove_dir_all(folder.path());
    }
    conclusion.exit()
}

/// A folder with `/usr/bin/bash` and friends and the libraries they need.
pub fn layer() -> &'static Path {
    let (_, path) = LAYER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let path = folder.path().join("layer");
        make_layer(&path);
        (folder, path)
    });
    path
}

fn make_layer(layer: &Path) {
    std::fs::create_dir_all(layer.join("usr/bin")).unwrap();
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let path = ["/usr/bin", "/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(program))
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("this machine has no `{program}`"));
        std::fs::copy(&path, layer.join("usr/bin").join(program)).unwrap();
        let output = Command::new("ldd").arg(&path).output().expect("ldd runs");
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if word.starts_with('/') {
                libraries.insert(PathBuf::from(word));
            }
        }
    }
    for library in libraries {
        let target = layer.join(library.strip_prefix("/").unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&library, &target).unwrap();
    }
    std::os::unix::fs::symlink("usr/bin", layer.join("bin")).unwrap();
}

/// Kinds of sandbox this machine and user can have; an error says why there is none.
pub fn confinements() -> Result<Vec<Confinement>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let found = probe(folder.path()).map_err(|error| error.to_string())?.confinement;
    let Confinement::Privileged { host_id, .. } = found else { return Ok(vec![found]) };
    // Root can have all of them, and each is the only one somewhere.
    let mut all = vec![found];
    for other in
        [Confinement::Privileged { host_id, nested_user: false }, Confinement::User { is_host_root: true }]
    {
        if other == found {
            continue;
        }
        match try_one(folder.path(), other, false) {
            Ok(()) => all.push(other),
            Err(error) => eprintln!("skipped: {other:?}: {error}"),
        }
    }
    Ok(all)
}

/// The folders of one sandbox.
pub struct Scratch {
    pub folder: Folder,
    pub spec: SandboxSpec,
}

impl Scratch {
    /// A sandbox with the test layer as root which runs `script` in bash.
    pub fn new(confinement: Confinement, script: &str) -> Self {
        let folder = Folder::new();
        for name in ["build", "store", "aside", "tmp", "root"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let at = |name: &str| Bytes::from(folder.path().join(name));
        let spec = SandboxSpec {
            confinement,
            root: Root::Overlay(vec![layer().into()]),
            inputs: Vec::new(),
            build_folder: at("build"),
            kept: Vec::new(),
            store_folder: at("store"),
            aside_folder: at("aside"),
            temporary_folder: at("tmp"),
            mount_folder: at("root"),
            program: Program::Execute {
                path: "/usr/bin/bash".into(),
                arguments: vec!["-ec".into(), script.into()],
            },
            environment: vec![("PATH".into(), "/usr/bin".into())],
            hostname: "localhost".to_owned(),
            limits: ResourceLimits::default(),
            user: SandboxSpec::USER_DEFAULT,
            group: SandboxSpec::GROUP_DEFAULT,
        };
        Scratch { folder, spec }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A temporary folder that goes away whatever is in it: a store's folders are read only, and an overlay
/// leaves one that cannot be listed; ordinary removal can deal with neither.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Folder {
        Folder(tempfile::tempdir().expect("temporary folders can be made"))
    }

    pub fn below(parent: &Path) -> Folder {
        Folder(tempfile::tempdir_in(parent).expect("temporary folders can be made"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn text(&self) -> &str {
        self.path().to_str().expect("temporary folders have plain names")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Ok(folder) = rednix_store::handle::Dir::open(self.path()) else { return };
        for entry in folder.entries().unwrap_or_default() {
            let _ = folder.remove_tree(&entry.name);
        }
    }
}

/// Control with a generous total time-out, so that a test cannot hang.
pub fn control() -> Control {
    Control {
        timeout_total: Some(Duration::from_secs(60)),
        timeout_silence: None,
        cancel: CancelToken::new().unwrap(),
    }
}

/// Pids of processes whose command line holds `marker`, apart from this one.
pub fn processes_with(marker: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        if pid != std::process::id() && String::from_utf8_lossy(&line).contains(marker) {
            found.push(pid);
        }
    }
    found
}

/// Waits until no process has `marker` in its command line.
pub fn none_left(marker: &str) -> Result<(), String> {
    for _ in 0..100 {
        if processes_with(marker).is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("processes are left: {:?}", processes_with(marker)))
}
