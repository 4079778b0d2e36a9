//! The command line's grammar, and nothing of what the commands do. Here are the program's own options and the list of
//! commands; the arguments of each are in the file of its kind.

mod caches;
mod language;
mod machines;
mod packages;
mod trees;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rednix_fetch::Replacement;

pub use self::caches::{CacheArgs, CacheCommand, CachePullArgs, CachePushArgs, CacheServeArgs};
pub use self::language::{EvalArgs, FlakeArgs, FlakeCommand, FmtArgs, LockFlags, ReplArgs};
pub use self::machines::{CargoArgs, CargoCommand, MachineArgs, PushArgs, RunArgs, TestArgs, TestOptions};
pub use self::packages::{
    BuildArgs, DiffArgs, ImageArgs, LogArgs, RepoArgs, ShellArgs, VerifyArgs, WhyArgs, WhyRebuildArgs,
};
pub use self::trees::{GraphFormat, LockArgs, TreeCommand, TreeCommandArgs, UpdateArgs, WorkArgs};
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
        rednix work kernel --tree ~/redox         makes the git repository `kernel` in the folder `work`\n  \
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
