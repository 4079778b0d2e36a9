//! The command line's grammar, and nothing of what the commands do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

#[derive(Debug, Parser)]
#[command(
    name = "rednix",
    version,
    about = "Builds Redox OS from source into bootable images and runs them",
    after_help = "Examples:\n  \
        rednix run                        build and boot the embedded system\n  \
        rednix run --tree ~/redox minimal build and boot a system of a recipe tree\n  \
        rednix build host:redoxfs         build one package, link it as ./result\n  \
        rednix test                       run the machine tests\n  \
        rednix doctor                     see what the machine has and lacks",
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// How to show progress; `live` on terminals, `plain` elsewhere
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Folder of the store [default: $REDNIX_STORE, else rednix/ in the user's data folder]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Fetch nothing: fail where something would have to be
    #[arg(long, global = true)]
    pub offline: bool,
    /// Builds that run at once [default: the number of cores]
    #[arg(long, short = 'j', global = true, value_name = "N")]
    pub jobs: Option<usize>,
    /// Cores a build may use [default: all]
    #[arg(long, global = true, value_name = "N")]
    pub cores: Option<usize>,
    /// Leave the folder of a failed build in place and say where it is
    #[arg(long, global = true)]
    pub keep_failed: bool,
    /// Go on with what does not depend on a failed build
    #[arg(long, global = true)]
    pub keep_going: bool,
    /// End a build after this many seconds
    #[arg(long, global = true, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Take fixed outputs (sources) from the store in this folder where it has them
    #[arg(long, global = true, value_name = "DIR")]
    pub borrow_from: Vec<PathBuf>,
    /// Print the whole trace of an evaluation error
    #[arg(long, global = true)]
    pub show_trace: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Plain,
    Live,
    Json,
}

/// Which recipe tree and pins to work with.
#[derive(Debug, Clone, Default, Args)]
pub struct TreeArgs {
    /// Recipe tree: a checkout of redox-os/redox or a folder like it [default: the embedded tree]
    #[arg(long, value_name = "DIR")]
    pub tree: Option<PathBuf>,
    /// Lock of the tree's sources [default: rednix.lock beside the tree, or in this folder]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Use the given folder in place of a recipe's source
    #[arg(long = "override", value_name = "RECIPE=DIR", value_parser = parse_override)]
    pub overrides: Vec<(String, PathBuf)>,
    /// Redox target of packages that are not `host:`
    #[arg(long, value_name = "TRIPLE", default_value = "x86_64-unknown-redox")]
    pub target: String,
    /// Refuse to work with any pin that is not in the lock files
    #[arg(long)]
    pub locked: bool,
}

fn parse_override(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((recipe, folder)) if !recipe.is_empty() && !folder.is_empty() => {
            Ok((recipe.to_owned(), PathBuf::from(folder)))
        }
        _ => Err("write it as RECIPE=DIR".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a system's image and boot it in QEMU; the serial console is this terminal
    Run(RunArgs),
    /// Build packages or attributes and print their store paths
    Build(BuildArgs),
    /// Run machine tests
    Test(TestArgs),
    /// Build a system's disk image
    Image(ImageArgs),
    /// Publish packages as a signed repository for the guest's `pkg`, or serve one
    Repo(RepoArgs),
    /// Pin what floats: a tree's sources, or the build root's Debian packages
    Lock(LockArgs),
    /// Evaluate a Nix expression or file
    Eval(EvalArgs),
    /// Print the log of a build
    Log(LogArgs),
    /// Delete from the store what nothing needs
    Gc(GcArgs),
    /// Say what this machine has, what it lacks and how to get it
    Doctor,
    /// Check that the store holds what its database says
    Verify(VerifyArgs),
    /// Take nix-instantiate's arguments and print what it would
    #[command(disable_help_flag = true)]
    NixInstantiate {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The system: a configuration's name
    #[arg(default_value = "probe")]
    pub system: String,
    #[command(flatten)]
    pub tree: TreeArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print the command that would run the machine, and end
    #[arg(long)]
    pub dry_run: bool,
}

/// The virtual machine, where it should differ from what the system asks for.
#[derive(Debug, Clone, Default, Args)]
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
    /// Disk controller
    #[arg(long, value_name = "virtio|nvme|ahci")]
    pub disk: Option<String>,
    /// Firmware
    #[arg(long, value_name = "uefi|bios")]
    pub firmware: Option<String>,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Recipes (`ion`, `host:redoxfs`, `llvm21.dev`), or attributes of the library (`.#systems.probe.image`)
    #[arg(required_unless_present = "expr", value_name = "INSTALLABLE")]
    pub installables: Vec<String>,
    /// Build what this expression gives
    #[arg(long, short = 'E', value_name = "EXPRESSION", conflicts_with = "installables")]
    pub expr: Option<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// Name of the link to the result
    #[arg(long, short, value_name = "LINK", default_value = "result")]
    pub out_link: PathBuf,
    /// Make no link (and so no root: the result may be collected)
    #[arg(long)]
    pub no_link: bool,
    /// Only say what would be fetched and built
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Names of tests [default: all]
    pub names: Vec<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// Say which tests there are, and end
    #[arg(long)]
    pub list: bool,
    /// auto tries KVM with a small guest first and takes emulation where that fails
    #[arg(long, value_name = "auto|kvm|tcg")]
    pub accel: Option<String>,
}

#[derive(Debug, Args)]
pub struct ImageArgs {
    /// The system: a configuration's name
    #[arg(default_value = "probe")]
    pub system: String,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// Copy the image to this file; without it the image's store path is printed
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    long_about = "Publishes packages as a signed repository.\n\nBuilds the named packages, or what the named systems list, \
        and everything they need at run time, and writes archives and descriptions that Redox's `pkg` installs from. \
        A repository that is there keeps its other packages. With `--serve` it is then served over HTTP, on this \
        machine alone unless another address is given."
)]
pub struct RepoArgs {
    /// Systems or packages; a name that is both is the system
    #[arg(value_name = "SYSTEM|PACKAGE")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// Folder of the repository
    #[arg(long, value_name = "DIR", default_value = "repo")]
    pub target_dir: PathBuf,
    /// Secret key to sign with, as pkgar writes it [default: the store's own, made when first needed]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Serve the repository until interrupted
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:8630")]
    pub serve: Option<std::net::SocketAddr>,
}

#[derive(Debug, Args)]
#[command(
    long_about = "Pins what floats.\n\n`rednix lock debian` resolves the build root's package lists (nix/debian.json) into \
        nix/debian.lock.json. `rednix lock NAME…` pins the sources of recipes, or of a system's recipes: git revisions \
        with the hash of their trees, the hashes of tarballs, and every crate of their Cargo.lock files."
)]
pub struct LockArgs {
    /// `debian`, or recipes and systems whose sources to pin [default: every recipe with a source]
    pub names: Vec<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The lock to write [default: where it is read from]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Take git branches as they were at the end of this day (UTC)
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// File to evaluate; `-` is standard input [default: the library]
    pub file: Option<PathBuf>,
    /// Expression to evaluate in place of a file
    #[arg(long, short = 'E', value_name = "EXPRESSION", conflicts_with = "file")]
    pub expr: Option<String>,
    /// Attribute to select
    #[arg(long, short = 'A', value_name = "PATH", default_value = "")]
    pub attr: String,
    /// Print JSON
    #[arg(long, conflicts_with = "raw")]
    pub json: bool,
    /// Print a string without quotes
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    pub tree: TreeArgs,
}

#[derive(Debug, Args)]
pub struct LogArgs {
    /// A derivation, a store path, or a package as `rednix build` takes it
    pub of: String,
    #[command(flatten)]
    pub tree: TreeArgs,
}

#[derive(Debug, Args)]
pub struct GcArgs {
    /// Only say what would be deleted
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Hash every file too
    #[arg(long)]
    pub check_contents: bool,
}
