//! What the tests of this crate share: a root layer made of a few of the host's programs, and scratch
//! folders. Only tests use the host's programs; rednix itself never does.
#![allow(dead_code)]

pub mod calls;
pub mod world;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
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

pub fn expect(condition: bool, message: impl Into<String>) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(Failed::from(message.into())) }
}

pub type Test = fn() -> Result<(), Failed>;

/// Runs the tests that the command line names, and ends the test program. Without sandboxes, none; `obstacle` says what
/// keeps a single one from being run here.
pub fn run_all(tests: &[(&'static str, Test)], obstacle: impl Fn(Test) -> Option<String>) -> ! {
    let arguments = Arguments::from_args();
    let refusal = confinements().err();
    let trials = tests
        .iter()
        .map(|&(name, test)| match &refusal.clone().or_else(|| obstacle(test)) {
            None => Trial::test(name, test),
            Some(reason) => {
                eprintln!("skipped: {name}: {reason}");
                Trial::test(name, || Ok(())).with_ignored_flag(true)
            }
        })
        .collect();
    finish(libtest_mimic::run(&arguments, trials));
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
    Control { timeout_total: Some(HUNG_AFTER), timeout_silence: None, cancel: CancelToken::new().unwrap() }
}

/// Whatever takes as long as this will not end any more. Nothing is judged by it but that.
pub const HUNG_AFTER: Duration = Duration::from_secs(120);

/// A machine with much to do may not get to what a test wants to see within a short limit. Then the same is tried with
/// longer ones: what is wrong fails with each.
pub fn patiently(attempt: impl FnMut(Duration) -> Result<(), Failed>) -> Result<(), Failed> {
    let mut results = [700, 6_000, 40_000].map(Duration::from_millis).into_iter().map(attempt);
    let mut last = results.next().expect("there are three");
    while let (Err(_), Some(next)) = (&last, results.next()) {
        last = next;
    }
    last
}

/// Seconds to `sleep`, longer than any test takes, with a fraction by which the processes of one test are told from all
/// others of this machine.
pub fn mark() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("1000.{random:020}")
}

/// Processes whose command line is so, or has so much of it.
fn processes(is_wanted: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        if pid != std::process::id() && is_wanted(&line) {
            found.push(pid);
        }
    }
    found
}

/// Pids of processes whose command line holds `mark`, apart from this one.
pub fn processes_with(mark: &str) -> Vec<u32> {
    processes(|line| String::from_utf8_lossy(line).contains(mark))
}

/// Pids of the programs `sleep` that sleep for `mark`; a shell about to become one is none yet.
pub fn sleepers(mark: &str) -> Vec<u32> {
    let wanted = format!("sleep\0{mark}\0");
    processes(|line| line == wanted.as_bytes())
}

/// Waits for something that comes unless the test fails.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > HUNG_AFTER {
            return Err(format!("waited in vain until {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Lets a script go on that waits in `sleep {mark} || :`, once it does.
pub fn wake(mark: &str) -> Result<(), String> {
    until("the script sleeps", || !sleepers(mark).is_empty())?;
    for pid in sleepers(mark) {
        let pid = rustix::process::Pid::from_raw(pid as i32).expect("it is not 0");
        // Of this signal shells say nothing.
        rustix::process::kill_process(pid, rustix::process::Signal::INT)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Waits until no process has `mark` in its command line.
pub fn none_left(mark: &str) -> Result<(), String> {
    until("no process is left", || processes_with(mark).is_empty())
        .map_err(|error| format!("{error}: {:?}", processes_with(mark)))
}
