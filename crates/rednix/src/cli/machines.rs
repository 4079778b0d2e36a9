//! The grammar of what runs machines: `rednix run`, `test`, `cargo`, `push`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::TreeArgs;

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The system: a configuration's name, or a Nix file that gives one (`./system.nix`)
    #[arg(default_value = "probe")]
    pub system: String,
    #[command(flatten)]
    pub tree: TreeArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print the command that would run the machine, what it needs before and what is sent to it, and end
    #[arg(long)]
    pub dry_run: bool,
    /// Let `rednix push` put packages into the machine, through its console and a disk for files
    #[arg(long, conflicts_with = "dry_run")]
    pub push: bool,
}

/// The virtual machine, where it should differ from what the system asks for.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The machine")]
pub struct MachineArgs {
    /// Memory in MiB
    #[arg(long, value_name = "MIB")]
    pub memory: Option<u64>,
    /// Virtual processors
    #[arg(long, value_name = "N")]
    pub cpus: Option<u32>,
    /// auto tries KVM with a small guest first and takes emulation where that fails
    #[arg(long, value_name = "auto|kvm|tcg")]
    pub accel: Option<String>,
    /// What runs the machine; `microvm` is QEMU's machine without firmware
    #[arg(long, value_name = "qemu|microvm|cloud-hypervisor|firecracker|kvmtool")]
    pub vmm: Option<String>,
    /// Firmware; `direct` is none: the image is put into memory and its kernel started from there
    #[arg(long, value_name = "uefi|bios|direct")]
    pub firmware: Option<String>,
    /// Disk controller
    #[arg(long, value_name = "none|virtio|virtioModern|nvme|ahci|ide|usb")]
    pub disk: Option<String>,
    /// Network: none, behind the host, an interface or a bridge that is there already
    #[arg(long, value_name = "none|user|tap=IF|bridge=BR")]
    pub net: Option<String>,
    /// Network card
    #[arg(long, value_name = "e1000|rtl8139|virtio|virtioModern")]
    pub card: Option<String>,
    /// A port of this machine's loopback that leads into the guest (several times for more)
    #[arg(long, value_name = "HOST:GUEST")]
    pub forward: Vec<String>,
    /// A folder the guest can mount by its tag; `,ro` for reading only
    #[arg(long, value_name = "FOLDER=TAG")]
    pub share: Vec<String>,
    /// Show the machine's screen: in a window, or over VNC on a port of the loopback; `headless` for screenshots only
    #[arg(long, value_name = "gtk|sdl|vnc[=PORT]|headless|none", num_args = 0..=1, default_missing_value = "gtk", require_equals = true)]
    pub graphics: Option<String>,
    /// Size of the screen
    #[arg(long, value_name = "WIDTHxHEIGHT")]
    pub resolution: Option<String>,
    /// A sound card, and the monitor's way out for its sound
    #[arg(long, value_name = "hda|ac97[=OUTPUT]")]
    pub audio: Option<String>,
    /// A USB controller with keyboard and tablet
    #[arg(long)]
    pub usb: bool,
    /// Keep what the machine writes to its disk in this file, and go on with it the next time
    #[arg(long, value_name = "FILE")]
    pub persist: Option<PathBuf>,
    /// Ctrl-A W saves the machine's state to this folder; a state that is there already goes on instead of a start
    #[arg(long, value_name = "FOLDER")]
    pub snapshot: Option<PathBuf>,
    /// Wait for a debugger on this port of the loopback [default: 1234]
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "1234", require_equals = true)]
    pub gdb: Option<u16>,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Names of tests of the library; files with tests (`./checks.nix`, `./checks.nix#login`); attributes of a flake
    /// (`.#checks.x86_64-linux.login`) [default: all of the library]
    pub names: Vec<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The system for files whose tests are about any: a configuration's name, or a Nix file
    #[arg(long, value_name = "SYSTEM")]
    pub system: Option<String>,
    /// Say which tests there are, or which of the named ones, and end
    #[arg(long)]
    pub list: bool,
    #[command(flatten)]
    pub options: TestOptions,
}

#[derive(Debug, Subcommand)]
pub enum CargoCommand {
    /// Build the crate's tests, boot the system with them in it, and run them there
    Test(CargoArgs),
    /// Build the crate's programs, boot the system with them in it, and run them there
    Run(CargoArgs),
}

#[derive(Debug, Clone, Default, Args)]
pub struct CargoArgs {
    /// Arguments for the tests or the program
    #[arg(last = true)]
    pub arguments: Vec<String>,
    /// Manifest of the crate [default: that of this folder, or the nearest one above]
    #[arg(long, value_name = "FILE")]
    pub manifest_path: Option<PathBuf>,
    /// Member of the workspace
    #[arg(long, short, value_name = "NAME")]
    pub package: Option<String>,
    /// Only this program
    #[arg(long, value_name = "NAME")]
    pub bin: Option<String>,
    /// Only this integration test
    #[arg(long, value_name = "NAME")]
    pub test: Option<String>,
    /// Features, separated by commas
    #[arg(long, value_name = "FEATURES")]
    pub features: Option<String>,
    /// With optimisations
    #[arg(long)]
    pub release: bool,
    /// The configuration of the tree that is booted
    #[arg(long, value_name = "SYSTEM", default_value = "minimal")]
    pub system: String,
    /// Who logs in at the machine's console, and the password
    #[arg(long, value_name = "USER[:PASSWORD]", default_value = "root:password")]
    pub login: String,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub memory: u64,
    /// auto tries KVM with a small guest first and takes emulation where that fails
    #[arg(long, value_name = "auto|kvm|tcg")]
    pub accel: Option<String>,
    /// End a test program after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub limit: u64,
    /// Multiply every time-out, for a slow machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub patience: u32,
    #[command(flatten)]
    pub tree: TreeArgs,
}

#[derive(Debug, Args)]
pub struct PushArgs {
    /// The package
    pub package: String,
    /// The running machine, by the name of its system [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub machine: Option<String>,
    /// Who logs in at the machine's console, and the password, where nobody is logged in
    #[arg(long, value_name = "USER[:PASSWORD]", default_value = "root:password")]
    pub login: String,
    #[command(flatten)]
    pub tree: TreeArgs,
}

/// How machine tests are run.
#[derive(Debug, Clone, Default, Args)]
pub struct TestOptions {
    /// auto tries KVM with a small guest first and takes emulation where that fails
    #[arg(long, value_name = "auto|kvm|tcg")]
    pub accel: Option<String>,
    /// Where a step fails, connect its console to this terminal; tests then run one after another
    #[arg(long)]
    pub interactive: bool,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// Also write the results to this file, in JUnit's form
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Let tests of flakes have what reaches this machine: files outside the store, interfaces, bridges and
    /// ports, windows, arguments of monitors
    #[arg(long)]
    pub trust_machines: bool,
    /// Keep consoles, screenshots and files of guests in this folder [default: one in the cache]
    #[arg(long, value_name = "DIR")]
    pub results: Option<PathBuf>,
    /// Memory for machines of tests that run at once, in MiB [default: four fifths of what is free]
    #[arg(long, value_name = "MIB")]
    pub memory_budget: Option<u64>,
    /// Multiply every time-out, for a slow machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub patience: u32,
}
