//! Finds out what kind of sandbox this machine allows by making one, and says what to do where none is
//! allowed. It believes no setting it reads; settings only choose the words of the advice.

use std::fs;
use std::path::Path;

use super::mounts::set_mode;
use super::run::{Control, Ending, SandboxError, run};
use super::spec::{Bytes, Confinement, Program, ResourceLimits, Root, SandboxSpec};
use crate::cancel::CancelToken;

/// What works on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    pub confinement: Confinement,
    /// Whether layers can be composed by an overlay mount; a farm of hard links does it elsewhere.
    pub overlay: bool,
}

impl std::fmt::Display for Capabilities {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let confinement = match self.confinement {
            Confinement::User { .. } => "in user namespaces",
            Confinement::Privileged { nested_user: true, .. } => "as root, builders in user namespaces",
            Confinement::Privileged { nested_user: false, .. } => "as root, without user namespaces",
        };
        let root = if self.overlay { "overlay" } else { "hard links" };
        write!(formatter, "{confinement}, roots composed by {root}")
    }
}

/// Tries, in the order of preference, below `folder`, where it leaves nothing.
pub fn probe(folder: &Path) -> Result<Capabilities, SandboxError> {
    let mut errors = Vec::new();
    for confinement in candidates() {
        match try_one(folder, confinement, false) {
            Ok(()) => {
                let overlay = try_one(folder, confinement, true).is_ok();
                return Ok(Capabilities { confinement, overlay });
            }
            Err(error) => errors.push(error),
        }
    }
    // A refusal comes with a remedy; of the rest, the preferred kind's trouble says most.
    let refused = errors.iter().position(|error| matches!(error, SandboxError::Denied { .. }));
    match errors.swap_remove(refused.unwrap_or(0)) {
        // Some machines let the namespace be made and deny everything in it.
        SandboxError::Setup { source, .. } if is_denial(&source) => {
            Err(SandboxError::Denied { source, remedy: remedy() })
        }
        other => Err(other),
    }
}

fn is_denial(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::ENOSYS))
}

fn candidates() -> Vec<Confinement> {
    if !rustix::process::geteuid().is_root() {
        return vec![Confinement::User { is_host_root: false }];
    }
    let host_id = SandboxSpec::HOST_ID_DEFAULT;
    vec![
        Confinement::Privileged { host_id, nested_user: true },
        // In a plain chroot not even root gets a user namespace.
        Confinement::Privileged { host_id, nested_user: false },
        // Root of a container without the right to mount, but with the right to a user namespace.
        Confinement::User { is_host_root: true },
    ]
}

/// Makes one sandbox of this kind, with nothing in it, and without or with an overlay as its root.
pub fn try_one(folder: &Path, confinement: Confinement, overlay: bool) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::Process { operation: "make folders for", source };
    let scratch = ProbeFolders::new(folder).map_err(failed)?;
    let layer = Bytes::from(scratch.path("layer").as_path());
    let spec = SandboxSpec {
        confinement,
        root: if overlay { Root::Overlay(vec![layer]) } else { Root::Empty },
        inputs: Vec::new(),
        build_folder: scratch.path("build").into(),
        kept: Vec::new(),
        store_folder: scratch.path("store").into(),
        aside_folder: scratch.path("aside").into(),
        temporary_folder: scratch.path("tmp").into(),
        mount_folder: scratch.path("root").into(),
        program: Program::Nothing,
        environment: Vec::new(),
        hostname: "localhost".to_owned(),
        limits: ResourceLimits::default(),
        user: SandboxSpec::USER_DEFAULT,
        group: SandboxSpec::GROUP_DEFAULT,
    };
    let cancel = CancelToken::new().map_err(failed)?;
    let control = Control { timeout_total: None, timeout_silence: None, cancel };
    match run(&spec, &control, &mut |_| {})? {
        Ending::Exited(0) => Ok(()),
        _ => Err(SandboxError::Lost),
    }
}

/// Folders of one try, removed when it is over.
struct ProbeFolders(std::path::PathBuf);

const FOLDERS: [&str; 6] = ["layer", "build", "store", "aside", "tmp", "root"];

impl ProbeFolders {
    fn new(folder: &Path) -> std::io::Result<Self> {
        let probe = ProbeFolders(folder.join(format!("probe-{}", std::process::id())));
        fs::create_dir(&probe.0)?;
        set_mode(&probe.0, 0o700)?;
        for name in FOLDERS {
            fs::create_dir(probe.path(name))?;
        }
        Ok(probe)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

impl Drop for ProbeFolders {
    fn drop(&mut self) {
        // What an overlay leaves in its own folder.
        let _ = fs::remove_dir(self.path("aside/work"));
        for name in FOLDERS {
            let _ = fs::remove_dir(self.path(name));
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Advice for a machine that denies namespaces.
pub fn remedy() -> String {
    let is_zero = |path: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == "0");
    let is_one = |path: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == "1");
    if is_one("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") {
        return "AppArmor restricts user namespaces on this machine; as root run \
                `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give rednix an AppArmor \
                profile with the rule `userns,`"
            .to_owned();
    }
    if is_zero("/proc/sys/kernel/unprivileged_userns_clone") {
        return "as root run `sysctl -w kernel.unprivileged_userns_clone=1`".to_owned();
    }
    if is_zero("/proc/sys/user/max_user_namespaces") {
        return "as root run `sysctl -w user.max_user_namespaces=15000`".to_owned();
    }
    "rednix builds only in namespaces. Let users create them (`sysctl user.max_user_namespaces`), run rednix \
     as root, or, in a container, start the container with the right to (for example \
     `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`)"
        .to_owned()
}
