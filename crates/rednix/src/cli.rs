//! The command line's grammar, and nothing of what the commands do.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rednix_fetch::Replacement;

pub use crate::commands::store::arguments::{GcArgs, StoreArgs};

#[derive(Debug, Parser)]
#[command(
    name = "rednix",
    version,
    about = "Builds Redox OS from source into bootable images and runs them",
    after_help = "Examples:\n  \
        rednix run                        build and boot the embedded system\n  \
        rednix run --tree ~/redox minimal build and boot a system of a recipe tree\n  \
        rednix run ./system.nix           build and boot a system written in Nix\n  \
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
    /// Evaluators that run at once where several things are asked for [default: the number of cores]
    #[arg(long, global = true, value_name = "N")]
    pub eval_jobs: Option<usize>,
    /// Evaluate even where nothing that was read the last time has changed
    #[arg(long, global = true)]
    pub no_eval_cache: bool,
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
    /// Also take finished outputs from this binary cache (http://, https://, s3:// or file://)
    #[arg(long = "substituter", global = true, value_name = "URL")]
    pub substituters: Vec<String>,
    /// Ask no binary cache
    #[arg(long, global = true)]
    pub no_substitute: bool,
    /// Write a timeline of evaluation, fetches and builds to this file, for Perfetto or a browser's tracing page
    #[arg(long, global = true, value_name = "FILE")]
    pub trace: Option<PathBuf>,
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

/// The target of packages where none is named.
pub const DEFAULT_TARGET: &str = "x86_64-unknown-redox";

/// Which recipe tree and pins to work with.
#[derive(Debug, Clone, Default, Args)]
pub struct TreeArgs {
    /// Recipe tree: a checkout of redox-os/redox or a folder like it, or a git URL that `rednix lock` has pinned
    /// [default: the embedded tree]
    #[arg(long, value_name = "DIR|URL[#REV]")]
    pub tree: Option<String>,
    /// Lock of the tree's sources [default: rednix.lock beside the tree, or in this folder]
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Use something else in place of a recipe's source or of anything fetched from a URL: a folder or file,
    /// crate:NAME/VERSION, rev:REV or git+URL#REV
    #[arg(long = "override", value_name = "RECIPE|URL=WHAT", value_parser = parse_override)]
    pub overrides: Vec<(String, Replacement)>,
    /// Redox target of packages that are not `host:`
    #[arg(long, value_name = "TRIPLE", default_value = DEFAULT_TARGET)]
    pub target: String,
    /// Refuse to work with any pin that is not in the lock files
    #[arg(long)]
    pub locked: bool,
}

fn parse_override(text: &str) -> Result<(String, Replacement), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.to_owned(), Replacement::parse(value)?))
        }
        _ => Err("write it as RECIPE=WHAT or URL=WHAT".to_owned()),
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a system's image and boot it in a virtual machine; the serial console is this terminal
    Run(RunArgs),
    /// Build packages or attributes and print their store paths
    #[command(after_help = "Examples:\n  \
        rednix build host:redoxfs\n  \
        rednix build --rebuild host:redoxfs   build it once more and name the first differing byte, if any")]
    Build(BuildArgs),
    /// Run machine tests
    Test(TestArgs),
    /// Run a crate's tests, or a program of it, inside a Redox machine
    #[command(after_help = "Examples:\n  \
        rednix cargo test --tree ~/redox            the tests of the crate in this folder, in the system `minimal`\n  \
        rednix cargo test --tree ~/redox -- --skip slow\n  \
        rednix cargo run --tree ~/redox --bin tool -- --help")]
    Cargo {
        #[command(subcommand)]
        command: CargoCommand,
    },
    /// Put a rebuilt package into a running machine
    #[command(after_help = "Examples:\n  \
        rednix run --push minimal --tree ~/redox    in one terminal\n  \
        rednix push ion --tree ~/redox              in another: builds it, and replaces its files in the machine")]
    Push(PushArgs),
    /// Build a system's disk image
    Image(ImageArgs),
    /// Publish packages as a signed repository for the guest's `pkg`, or serve one
    Repo(RepoArgs),
    /// Pin what floats: a tree's sources, or the build root's Debian packages
    Lock(LockArgs),
    /// Renew pins and print old and new
    Update(UpdateArgs),
    /// Look at a recipe tree
    Tree(TreeCommandArgs),
    /// Evaluate a Nix expression or file
    Eval(EvalArgs),
    /// Look at a flake, check it, and pin its inputs
    Flake(FlakeArgs),
    /// A shell with packages on PATH
    #[command(after_help = "Examples:\n  \
        rednix shell .#tools              packages of this folder's flake\n  \
        rednix shell host:redoxfs -c redoxfs --help\n  \
        rednix shell .#tools --print-env  assignments for `eval`, as direnv wants them")]
    Shell(ShellArgs),
    /// Print the log of a build
    Log(LogArgs),
    /// Put a recipe's source into a folder to work in; builds then use it, incrementally, until `--done`
    #[command(after_help = "Examples:\n  \
        rednix work kernel --tree ~/redox         makes ./work/kernel, a git repository, and ./work/kernel.build\n  \
        rednix run minimal --tree ~/redox         builds what changed in it, and boots\n  \
        rednix work --diff kernel > fix.patch     the changes, as a patch for the recipe\n  \
        rednix work --done kernel                 back to the pinned source; the folder stays\n  \
        rednix work                               lists working copies")]
    Work(WorkArgs),
    /// Say why one thing needs another, or how large a thing is with all it needs
    #[command(after_help = "Examples:\n  \
        rednix why minimal relibc            shortest chain by which relibc is built for the system `minimal`\n  \
        rednix why --all ion deb-clang-22    all such chains; inputs go by the names of their derivations too\n  \
        rednix why --runtime ./result bash   by what the built files refer to, and in which file\n  \
        rednix why --size system:probe       sizes of what the system is made of (`probe` alone is the recipe)")]
    Why(WhyArgs),
    /// Say what changed since a thing was built last: files, patches, scripts, pins, tools
    #[command(after_help = "Examples:\n  \
        rednix why-rebuild kernel            what a build of it would now be built anew for\n  \
        rednix why-rebuild host:redoxfs --tree ~/redox")]
    WhyRebuild(WhyRebuildArgs),
    /// Compare two systems, packages, store paths or derivations
    #[command(after_help = "Examples:\n  \
        rednix diff minimal server           packages and files of two systems\n  \
        rednix diff ./result-old ./result    two results of `rednix build`\n  \
        rednix diff last:minimal minimal     a system as it was built last, and as it is now")]
    Diff(DiffArgs),
    /// Serve this store as a binary cache, push to one, pull from one, make keys
    #[command(after_help = "Examples:\n  \
        rednix cache keygen team-1 > team-1.secret      the public key goes to standard error\n  \
        rednix cache serve --key team-1.secret          this store, at http://127.0.0.1:5000\n  \
        rednix cache push file:///srv/cache probe       a system with all it refers to\n  \
        rednix cache push http://host:5000 --watch      whatever is built from now on\n  \
        rednix cache pull --from 'local?root=/big/store' /nix/store/…   from another store on this machine")]
    Cache(CacheArgs),
    /// Delete from the store what nothing needs
    Gc(GcArgs),
    /// Say what this machine has, what it lacks and how to get it
    Doctor,
    /// Look into the store, add to it, check it, make it smaller
    Store(StoreArgs),
    /// Check that the store holds what its database says (`rednix store verify` hashes too, and repairs)
    Verify(VerifyArgs),
    /// Lay Nix files out in the official style
    #[command(after_help = "Examples:\n  \
        rednix fmt                           every .nix file below this folder\n  \
        rednix fmt --check nix               say which would change, and change none\n  \
        rednix fmt - < in.nix > out.nix      from standard input to standard output")]
    Fmt(FmtArgs),
    /// Evaluate what is entered, line by line; `:?` tells what can be
    #[command(after_help = "Examples:\n  \
        rednix repl nix/default.nix          with the file's attributes as variables\n  \
        echo '1 + 1' | rednix repl           from a pipe")]
    Repl(ReplArgs),
    /// Take nix-instantiate's arguments and print what it would
    #[command(disable_help_flag = true)]
    NixInstantiate {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

impl Command {
    /// The tree's arguments, where the command has them.
    pub fn tree(&self) -> Option<&TreeArgs> {
        match self {
            Command::Run(a) => Some(&a.tree),
            Command::Build(a) => Some(&a.tree),
            Command::Test(a) => Some(&a.tree),
            Command::Cargo { command: CargoCommand::Test(a) | CargoCommand::Run(a) } => Some(&a.tree),
            Command::Push(a) => Some(&a.tree),
            Command::Image(a) => Some(&a.tree),
            Command::Lock(a) => Some(&a.tree),
            Command::Update(a) => Some(&a.tree),
            Command::Tree(TreeCommandArgs {
                command: TreeCommand::Check { tree, .. } | TreeCommand::Graph { tree, .. },
            }) => Some(tree),
            Command::Eval(a) => Some(&a.tree),
            Command::Shell(a) => Some(&a.tree),
            Command::Log(a) => Some(&a.tree),
            Command::Repo(a) => Some(&a.tree),
            Command::Work(a) => Some(&a.tree),
            Command::Why(a) => Some(&a.tree),
            Command::WhyRebuild(a) => Some(&a.tree),
            Command::Diff(a) => Some(&a.tree),
            Command::Cache(CacheArgs { command: CacheCommand::Push(a) }) => Some(&a.tree),
            Command::Flake(_)
            | Command::Cache(_)
            | Command::Gc(_)
            | Command::Doctor
            | Command::Store(_)
            | Command::Verify(_)
            | Command::Repl(_)
            | Command::Fmt(_)
            | Command::NixInstantiate { .. } => None,
        }
    }
}

#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Serve this store over HTTP, for every Nix
    Serve(CacheServeArgs),
    /// Upload paths with all they refer to
    Push(CachePushArgs),
    /// Bring store paths, with all they refer to, from caches or another store into this store
    Pull(CachePullArgs),
    /// Make a signing key: the secret one to standard output, the public one to standard error
    Keygen {
        /// Name of the key, such as `team-1`; a new key needs a new name
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct CacheServeArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// Secret key that what was built here is signed with
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// File with the token that allows uploads; without it nothing is taken
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// Take uploads on the token's word, unsigned ones too, and sign them
    #[arg(long, requires = "token")]
    pub accept_unsigned: bool,
    /// Which cache is asked first: the lowest number
    #[arg(long, default_value_t = 40, value_name = "N")]
    pub priority: u32,
    /// Serve archives as they are, for fast networks
    #[arg(long)]
    pub no_compression: bool,
    /// Most room that uploads may take in all (`10G`); without it, as much as the disk has
    #[arg(long, value_name = "SIZE", requires = "token", value_parser = crate::commands::store::arguments::parse_size)]
    pub max_uploads: Option<u64>,
}

#[derive(Debug, Args)]
pub struct CachePullArgs {
    /// Store paths
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Only from here, in place of the configured caches: http://, https://, s3://, file:// or local?root=/FOLDER;
    /// `trusted=1` as a parameter takes its word without signatures
    #[arg(long, value_name = "ADDRESS")]
    pub from: Vec<String>,
}

#[derive(Debug, Args)]
pub struct CachePushArgs {
    /// http://, https://, s3:// or file:// address of the cache
    pub to: String,
    /// Store paths, links to such, systems, recipes or `.#attributes` (built where they are not yet)
    pub names: Vec<String>,
    /// All that the named things were built from, too: sources, packages of the build root, tools
    #[arg(long)]
    pub inputs: bool,
    /// Everything in the store but derivations
    #[arg(long, conflicts_with_all = ["names", "inputs"])]
    pub all: bool,
    /// Go on, and push whatever gets into the store, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Secret key to sign with
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// File with the token for uploads; else the netrc file's password counts
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    #[command(flatten)]
    pub tree: TreeArgs,
}

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
pub struct BuildArgs {
    /// Recipes (`ion`, `host:redoxfs`, `llvm21.dev`), attributes of the library (`.#systems.probe.image`), or Nix
    /// files that give a system
    #[arg(required_unless_present = "expr", value_name = "INSTALLABLE")]
    pub installables: Vec<String>,
    /// Build what this expression gives
    #[arg(long, short = 'E', value_name = "EXPRESSION", conflicts_with = "installables")]
    pub expr: Option<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    #[command(flatten)]
    pub lock_flags: LockFlags,
    /// Name of the link to the result
    #[arg(long, short, value_name = "LINK", default_value = "result")]
    pub out_link: PathBuf,
    /// Make no link (and so no root: the result may be collected)
    #[arg(long)]
    pub no_link: bool,
    /// Only say what would be fetched and built
    #[arg(long, conflicts_with = "rebuild")]
    pub dry_run: bool,
    /// Build once more what is built already and compare; differences end with status 1
    #[arg(long)]
    pub rebuild: bool,
    /// With --rebuild: leave a second tree that differs in place and say where it is
    #[arg(long, requires = "rebuild")]
    pub keep: bool,
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
    /// Say which tests there are, and end
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
    /// Let tests of flakes have what reaches this machine: files outside the store, interfaces and bridges, arguments of
    /// monitors
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

#[derive(Debug, Args)]
pub struct ImageArgs {
    /// The system: a configuration's name, or a Nix file that gives one (`./system.nix`)
    #[arg(default_value = "probe")]
    pub system: String,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// Copy the image to this file; without it the image's store path is printed
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Build once more the image and its packages and compare; differences end with status 1
    #[arg(long)]
    pub rebuild: bool,
    /// With --rebuild: leave a second tree that differs in place and say where it is
    #[arg(long, requires = "rebuild")]
    pub keep: bool,
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
        with the hash of their trees, the hashes of tarballs, and every crate of their Cargo.lock files; what is pinned \
        already stays. Everything pinned is fetched, so that building works offline afterwards."
)]
pub struct LockArgs {
    /// `debian`, or recipes and systems whose sources to pin [default: every recipe with a source]
    pub names: Vec<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The lock to write [default: where it is read from]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Take git branches as they were at the end of this day (UTC); the lock keeps the day for later pins
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
    /// What builds everything: a Rust release of upstream's (`nightly-2025-10-03`, `1.95.0`), `tree` for the one the
    /// tree's rust-toolchain.toml names, `prefix` for Redox's own gcc and Rust as they are on its server today
    /// (`prefix:URL` for those in another folder), or `debian`. Without names nothing else is locked
    #[arg(long, value_name = "TOOLCHAIN")]
    pub toolchain: Option<String>,
}

#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Recipes whose pins to renew; `tree` is the tree itself [default: everything in the lock that floats]
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
pub struct TreeCommandArgs {
    #[command(subcommand)]
    pub command: TreeCommand,
}

#[derive(Debug, Subcommand)]
pub enum TreeCommand {
    /// Read every recipe and say which cannot be built as they are written
    Check {
        #[command(flatten)]
        tree: TreeArgs,
        /// Exit with status 1 where a recipe is wrong
        #[arg(long)]
        strict: bool,
    },
    /// Print what a system (or package) is built from
    Graph {
        /// A configuration's name, or a package's
        name: String,
        #[command(flatten)]
        tree: TreeArgs,
        #[arg(long, value_enum, default_value = "text")]
        format: GraphFormat,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    Text,
    Dot,
    Json,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// File to evaluate, or an attribute of a flake (`.#attr`); `-` is standard input [default: the library]
    pub file: Option<PathBuf>,
    /// The same file, as an option
    #[arg(long = "file", short = 'f', value_name = "FILE", conflicts_with = "file")]
    pub file_option: Option<PathBuf>,
    /// Expression to evaluate in place of a file
    #[arg(long, short = 'E', value_name = "EXPRESSION", conflicts_with_all = ["file", "file_option"])]
    pub expr: Option<String>,
    /// Function to apply to the value
    #[arg(long, value_name = "EXPRESSION")]
    pub apply: Option<String>,
    /// Attribute to select
    #[arg(long, short = 'A', value_name = "PATH", default_value = "")]
    pub attr: String,
    /// Print JSON
    #[arg(long, conflicts_with = "raw")]
    pub json: bool,
    /// Print a string without quotes
    #[arg(long)]
    pub raw: bool,
    /// See no file but what the evaluation itself fetched, no environment and no time
    #[arg(long, conflicts_with = "impure")]
    pub pure_eval: bool,
    /// See only files that the search path names
    #[arg(long)]
    pub restrict_eval: bool,
    /// Put an entry before those of $NIX_PATH: a folder, NAME=PATH or NAME=URL
    #[arg(long, short = 'I', value_name = "ENTRY")]
    pub include: Vec<String>,
    #[command(flatten)]
    pub lock_flags: LockFlags,
    #[command(flatten)]
    pub tree: TreeArgs,
}

/// How a flake's inputs are pinned for this command.
#[derive(Debug, Clone, Default, Args)]
pub struct LockFlags {
    /// Use another flake in an input's place
    #[arg(long, num_args = 2, value_names = ["INPUT", "FLAKE"], action = clap::ArgAction::Append)]
    pub override_input: Vec<String>,
    /// Renew the pin of an input first
    #[arg(long, value_name = "INPUT")]
    pub update_input: Vec<String>,
    /// Work out a new lock file from nothing
    #[arg(long)]
    pub recreate_lock_file: bool,
    /// Use new pins for this command only
    #[arg(long)]
    pub no_write_lock_file: bool,
    /// Fail where the lock file would have to change
    #[arg(long)]
    pub no_update_lock_file: bool,
    /// Commit the lock file when it changed
    #[arg(long)]
    pub commit_lock_file: bool,
    /// Let the evaluation of flakes see files, environment and time
    #[arg(long)]
    pub impure: bool,
    /// Ask sources again, however lately they were asked
    #[arg(long)]
    pub refresh: bool,
}

#[derive(Debug, Args)]
pub struct FlakeArgs {
    #[command(subcommand)]
    pub command: FlakeCommand,
}

#[derive(Debug, Subcommand)]
pub enum FlakeCommand {
    /// Print what a flake provides
    Show {
        #[arg(default_value = ".")]
        flake: String,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Evaluate what a flake provides, and build its checks
    Check {
        #[arg(default_value = ".")]
        flake: String,
        /// Only evaluate the checks
        #[arg(long)]
        no_build: bool,
        /// Let the flake's machine tests have what reaches this machine: files outside the store, interfaces and
        /// bridges, arguments of monitors
        #[arg(long)]
        trust_machines: bool,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Print where a flake and its inputs come from
    Metadata {
        #[arg(default_value = ".")]
        flake: String,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Pin the inputs that have no pin yet
    Lock {
        #[arg(default_value = ".")]
        flake: String,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Renew the pins of inputs
    Update {
        /// Inputs to renew, as `a` or `a/b` [default: all]
        inputs: Vec<String>,
        #[arg(long, default_value = ".", value_name = "FLAKE")]
        flake: String,
        #[command(flatten)]
        lock: LockFlags,
    },
}

#[derive(Debug, Args)]
pub struct ShellArgs {
    /// Recipes, attributes of flakes (`.#tools`), or attributes of the library
    #[arg(required = true, value_name = "INSTALLABLE")]
    pub installables: Vec<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    #[command(flatten)]
    pub lock_flags: LockFlags,
    /// Run this in place of $SHELL
    #[arg(long, short, num_args = 1.., allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Print the environment as shell assignments, and end
    #[arg(long, conflicts_with = "command")]
    pub print_env: bool,
}

#[derive(Debug, Args)]
pub struct FmtArgs {
    /// Files, or folders whose .nix files are meant; `-` is standard input [default: this folder]
    pub files: Vec<PathBuf>,
    /// Print which files would change, and fail if any would
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct ReplArgs {
    /// Files whose attributes become variables
    pub files: Vec<PathBuf>,
    /// A set whose attributes become variables
    #[arg(long, short = 'E', value_name = "EXPRESSION")]
    pub expr: Option<String>,
}

#[derive(Debug, Args)]
pub struct LogArgs {
    /// A derivation, a store path, or a package as `rednix build` takes it
    pub of: String,
    #[command(flatten)]
    pub tree: TreeArgs,
}

#[derive(Debug, Args)]
pub struct WorkArgs {
    /// The recipe whose source to work on [default: list working copies]
    pub recipe: Option<String>,
    /// The working folder; builds are kept in a folder of that name with `.build` after it [default: work/RECIPE]
    #[arg(long, value_name = "DIR", requires = "recipe")]
    pub dir: Option<PathBuf>,
    /// Work in the folder as it is, and put nothing into it
    #[arg(long, requires = "recipe")]
    pub existing: bool,
    /// Print the changes as a patch for the recipe
    #[arg(long, requires = "recipe", group = "instead")]
    pub diff: bool,
    /// Throw away what is kept of builds; the next one begins with nothing
    #[arg(long, requires = "recipe", group = "instead")]
    pub clean: bool,
    /// Use the recipe's own source again, and throw away what is kept of builds; the working folder stays
    #[arg(long, requires = "recipe", group = "instead")]
    pub done: bool,
    #[command(flatten)]
    pub tree: TreeArgs,
}

#[derive(Debug, Args)]
pub struct WhyArgs {
    /// A package, system (`system:NAME` where a recipe has that name too), attribute (`.#…`), store path or derivation
    pub of: String,
    /// What it needs: as above, or the name of any derivation below it
    #[arg(required_unless_present = "size", conflicts_with = "size")]
    pub needs: Option<String>,
    /// Look at what the built files refer to, not at what they are built from
    #[arg(long)]
    pub runtime: bool,
    /// Print every shortest chain
    #[arg(long)]
    pub all: bool,
    /// Print sizes: each part of a system, or everything a package's files refer to
    #[arg(long, conflicts_with_all = ["runtime", "all"])]
    pub size: bool,
    #[command(flatten)]
    pub tree: TreeArgs,
}

#[derive(Debug, Args)]
pub struct WhyRebuildArgs {
    /// A package, system (`system:NAME` where a recipe has that name too) or attribute (`.#…`)
    pub of: String,
    #[command(flatten)]
    pub tree: TreeArgs,
}

#[derive(Debug, Args)]
pub struct DiffArgs {
    /// A package, system, attribute (`.#…`), store path or derivation; `last:NAME` is NAME as it was built last
    pub old: String,
    pub new: String,
    /// List every change, and inputs that are not packages too
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub tree: TreeArgs,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Hash every file too
    #[arg(long)]
    pub check_contents: bool,
}
