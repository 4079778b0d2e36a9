//! What every virtual machine monitor must answer, and what the caller tells this crate about the host. Adding a
//! monitor means one more implementation of [`Runner`]; consoles, tests and signals stay as they are.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::control::Control;
use crate::error::{Error, Result};
use crate::layer::Layer;
use crate::spec::{Disk, Firmware, MachineSpec};

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
    /// Changes when another version is installed: size and time of the file. Asking the program would cost more than
    /// everything else before a start.
    pub identity: String,
}

impl Program {
    pub fn at(path: PathBuf) -> Self {
        use std::os::unix::fs::MetadataExt;
        let identity = std::fs::metadata(&path)
            .map(|found| format!("{} bytes of {}.{:09}", found.len(), found.mtime(), found.mtime_nsec()))
            .unwrap_or_default();
        Program { path, identity }
    }
}

/// What carries out the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Kvm,
    /// Emulation, a thread for each processor.
    Threads,
    /// Emulation of one processor after the other, by one thread.
    Turns,
}

/// Choices made before the command line is written.
#[derive(Clone, Debug)]
pub struct Wiring<'a> {
    /// Decided by [`crate::acceleration`].
    pub engine: Engine,
    /// The file descriptor of a connected control socket that the monitor inherits.
    pub control: Option<i32>,
    /// Cards on networks between machines.
    pub cards: &'a [CardSocket],
    /// The file of the disk through which files go to the guest and back.
    pub exchange: Option<&'a Path>,
    /// A private folder for files the monitor writes; the monitor's working folder.
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

/// A command line, exactly as it will be run, and what has to be there before. Standard input and output are the
/// guest's console; whether the program gets a terminal or pipes for them is not its business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Added to the environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Files to copy before the start: from, to. The copies are writable.
    pub copies: Vec<(PathBuf, PathBuf)>,
    /// Files to write before the start, such as a configuration.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// What the machine writes to in place of its image.
    pub layers: Vec<Layer>,
    /// Programs that run beside the monitor and end with it, started first: each with the socket it makes.
    pub helpers: Vec<(Command, PathBuf)>,
    /// Wishes sent over the control connection once it is there: method, path, body.
    pub requests: Vec<(&'static str, String, serde_json::Value)>,
}

impl Command {
    pub fn words(&self) -> Vec<String> {
        let program = std::iter::once(self.program.as_os_str());
        program
            .chain(self.arguments.iter().map(OsString::as_os_str))
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    }

    /// The command as one can paste it into a shell, after what it needs.
    pub fn shell_text(&self) -> String {
        let mut text = String::new();
        for (from, to) in &self.copies {
            text.push_str(&format!(
                "cp --reflink=auto --sparse=always {} {}\n",
                quote(from.as_os_str()),
                quote(to.as_os_str())
            ));
        }
        for layer in &self.layers {
            text.push_str(&format!("{}\n", layer.shell_text()));
        }
        for (file, contents) in &self.files {
            let contents = String::from_utf8_lossy(contents);
            text.push_str(&format!(
                "cat > {} <<'END'\n{}\nEND\n",
                quote(file.as_os_str()),
                contents.trim_end()
            ));
        }
        for (helper, _) in &self.helpers {
            text.push_str(&format!("{} &\n", helper.shell_text()));
        }
        for (name, value) in &self.environment {
            text.push_str(&format!("{}={} ", name.to_string_lossy(), quote(value)));
        }
        let words =
            std::iter::once(self.program.as_os_str()).chain(self.arguments.iter().map(OsString::as_os_str));
        text.push_str(&words.map(quote).collect::<Vec<_>>().join(" "));
        for (method, path, body) in &self.requests {
            text.push_str(&format!("\n# over its socket: {method} {path} {body}"));
        }
        text
    }
}

pub(crate) fn quote(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What becomes of a monitor whose guest resets the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// It restarts the machine or ends, as it is told to, and a reset is told from a power-off.
    AsTold,
    /// It ends, as it does for a guest that is done: there is no other end.
    EndsAsOff,
    /// It restarts the machine, and says nothing.
    Restarts,
}

/// A virtual machine monitor.
pub trait Runner {
    /// As users write it.
    fn name(&self) -> &'static str;

    /// Finds the program that runs such a machine, or says how to get it. Starts nothing.
    fn find(&self, spec: &MachineSpec, config: &Config) -> Result<Program>;

    /// What this monitor cannot do, for tables and errors.
    fn limitations(&self) -> &'static [&'static str];

    /// Whether this machine starts without firmware, by a loader that the specification names.
    fn is_direct(&self, spec: &MachineSpec) -> bool {
        spec.firmware == Firmware::Direct
    }

    /// File name of the loader of ours that this monitor can start in firmware's place.
    fn loader(&self) -> &'static str {
        "loader.pvh"
    }

    /// Where the guest of such a machine finds the disk that this file is, the likeliest place first; none: this monitor
    /// gives no machine such a disk.
    fn exchange_places(&self, _spec: &MachineSpec, _file: &Path) -> Vec<String> {
        Vec::new()
    }

    /// Whether it reads its console from nothing but a terminal: then it gets one of its own in place of pipes.
    fn needs_terminal(&self) -> bool {
        false
    }

    /// Whether nothing goes without KVM.
    fn needs_kvm(&self) -> bool {
        false
    }

    /// Whether it saves the state of a machine, and goes on from there.
    fn saves_state(&self) -> bool {
        false
    }

    /// What a reset by the guest does.
    fn reset(&self) -> Reset {
        Reset::AsTold
    }

    /// Whether such a machine has its image on a disk, and not in memory alone.
    fn has_disk(&self, spec: &MachineSpec) -> bool {
        match spec.disk {
            None => !self.is_direct(spec),
            Some(disk) => disk != Disk::None,
        }
    }

    /// Whether such a machine has a keyboard whose keys can be pressed from outside.
    fn has_keyboard(&self, _spec: &MachineSpec) -> bool {
        false
    }

    /// Whether its guest can end it with a status.
    fn has_exit_device(&self, _spec: &MachineSpec) -> bool {
        false
    }

    fn has_reset_button(&self) -> bool {
        true
    }

    fn has_power_button(&self) -> bool {
        true
    }

    /// What to do about a machine that did not come about; `said` are the monitor's own words.
    fn explain(&self, spec: &MachineSpec, _said: &str) -> Option<String> {
        spec.start_hint().map(str::to_owned)
    }

    /// Refuses a specification beyond it.
    fn check(&self, spec: &MachineSpec) -> Result<()>;

    /// Whether a KVM of this host works with this monitor; an error text when not.
    fn smoke_test(&self, program: &Program, config: &Config) -> Result<std::result::Result<(), String>>;

    /// Whether this monitor emulates several processors well in a thread for each.
    fn emulates_in_threads(&self, _program: &Program, _config: &Config) -> Result<bool> {
        Ok(false)
    }

    /// The command line. Looks for firmware; starts nothing and writes nothing.
    fn command(
        &self,
        program: &Program,
        spec: &MachineSpec,
        config: &Config,
        wiring: &Wiring<'_>,
    ) -> Result<Command>;

    /// The connection to a monitor that was just started, and the descriptor it inherits for that, if any.
    fn control(&self, program: &Program, scratch: &Path) -> Result<(Box<dyn Control>, Option<OwnedFd>)>;

    /// What a process status of the monitor means; negative: the signal that killed it.
    fn exit(&self, status: i32) -> crate::exit::Exit;
}

/// Names of the runners there are.
pub const NAMES: [&str; 5] = ["qemu", "microvm", "cloud-hypervisor", "firecracker", "kvmtool"];

/// The runner of that name.
pub fn by_name(name: &str) -> Result<Box<dyn Runner>> {
    match name {
        "qemu" => Ok(Box::new(crate::qemu::Qemu::Pc)),
        "microvm" => Ok(Box::new(crate::qemu::Qemu::Microvm)),
        "cloud-hypervisor" => Ok(Box::new(crate::cloud_hypervisor::CloudHypervisor)),
        "firecracker" => Ok(Box::new(crate::firecracker::Firecracker)),
        "kvmtool" => Ok(Box::new(crate::kvmtool::Kvmtool)),
        other => {
            let known = NAMES.map(|name| format!("`{name}`")).join(", ");
            Err(Error::NoMonitor { name: other.to_owned(), known })
        }
    }
}
