//! What every virtual machine monitor must answer, and what the caller tells this crate about the host. Adding a
//! monitor means one more implementation of [`Runner`]; consoles, tests and signals stay as they are.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::spec::{Firmware, MachineSpec};

/// Set from outside (a signal handler) to end whatever runs.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn new(flag: Arc<AtomicBool>) -> Self {
        Stop(flag)
    }

    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the library needs to know about the host; it reads neither environment nor home directory itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folders to look for programs in, as in `PATH`.
    pub search_path: Vec<PathBuf>,
    /// Firmware to use instead of looking for one: a combined image, or a code image with variables beside it.
    pub firmware: Option<PathBuf>,
    /// Where verdicts about acceleration are kept; none: ask every time.
    pub cache_folder: Option<PathBuf>,
    /// Where private temporary folders are made.
    pub scratch_folder: PathBuf,
    /// Where console logs of tests are kept.
    pub log_folder: PathBuf,
    /// Multiplies every time-out of tests, for slow machines.
    pub timeout_factor: u32,
    pub stop: Stop,
}

impl Config {
    pub fn new(search_path: Vec<PathBuf>, scratch_folder: PathBuf, log_folder: PathBuf) -> Self {
        Config {
            search_path,
            firmware: None,
            cache_folder: None,
            scratch_folder,
            log_folder,
            timeout_factor: 1,
            stop: Stop::default(),
        }
    }

    /// The first executable file of that name.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let executable = |path: &PathBuf| {
            std::fs::metadata(path)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        self.search_path.iter().map(|folder| folder.join(name)).find(executable)
    }
}

/// A monitor found on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub version: String,
}

/// How the machine's console is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// The user's terminal, with Ctrl-A X to end.
    Terminal,
    /// Standard input and output of the monitor are pipes of ours.
    Pipes,
}

/// Choices made before the command line is written.
#[derive(Clone, Debug)]
pub struct Wiring<'a> {
    pub console: Console,
    /// Whether to use KVM; decided by [`crate::acceleration`].
    pub kvm: bool,
    /// The file descriptor of a connected control socket that the monitor inherits.
    pub control: Option<i32>,
    /// Cards on networks between machines.
    pub cards: &'a [CardSocket],
    /// A private folder for files the monitor writes.
    pub scratch: &'a Path,
    /// The machine ends when the guest resets.
    pub end_on_reset: bool,
}

/// A card whose frames go through a connected datagram socket, one datagram each, which the monitor inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardSocket {
    pub descriptor: i32,
    pub address: [u8; 6],
}

impl CardSocket {
    pub fn address_text(&self) -> String {
        self.address.map(|byte| format!("{byte:02x}")).join(":")
    }
}

/// A command line, exactly as it will be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Added to the environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Files to copy before the start: from, to. The copies are writable.
    pub copies: Vec<(PathBuf, PathBuf)>,
}

impl Command {
    pub fn words(&self) -> Vec<String> {
        let program = std::iter::once(self.program.as_os_str());
        program
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    /// The command as one can paste it into a shell, copies first.
    pub fn shell_text(&self) -> String {
        let mut text = String::new();
        for (from, to) in &self.copies {
            text.push_str(&format!("cp {} {}\n", quote(from.as_os_str()), quote(to.as_os_str())));
        }
        for (name, value) in &self.environment {
            text.push_str(&format!("{}={} ", name.to_string_lossy(), quote(value)));
        }
        let words =
            std::iter::once(self.program.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        text.push_str(&words.map(quote).collect::<Vec<_>>().join(" "));
        text
    }
}

fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A virtual machine monitor.
pub trait Runner {
    /// As users write it.
    fn name(&self) -> &'static str;

    /// Finds the program, or says how to get it.
    fn find(&self, config: &Config) -> Result<Program>;

    /// What this monitor cannot do, for tables and errors.
    fn limitations(&self) -> &'static [&'static str];

    /// Whether this machine starts without firmware, by a loader that the specification names.
    fn is_direct(&self, spec: &MachineSpec) -> bool {
        spec.firmware == Firmware::Direct
    }

    /// Refuses a specification beyond it.
    fn check(&self, spec: &MachineSpec) -> Result<()>;

    /// Whether a KVM of this host works with this monitor; an error text when not.
    fn smoke_test(&self, program: &Program, config: &Config) -> Result<std::result::Result<(), String>>;

    /// The command line. Looks for firmware; starts nothing and writes nothing.
    fn command(
        &self,
        program: &Program,
        spec: &MachineSpec,
        config: &Config,
        wiring: &Wiring<'_>,
    ) -> Result<Command>;

    /// What a process status of the monitor means; negative: the signal that killed it.
    fn exit(&self, status: i32) -> crate::exit::Exit;
}

/// The runner of that name.
pub fn by_name(name: &str) -> Result<Box<dyn Runner>> {
    match name {
        "qemu" => Ok(Box::new(crate::qemu::Qemu::Pc)),
        "microvm" => Ok(Box::new(crate::qemu::Qemu::Microvm)),
        other => {
            let how = "use `qemu` or `microvm`".into();
            Err(Error::Missing { what: format!("a runner named `{other}`"), how })
        }
    }
}
