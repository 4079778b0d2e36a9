//! The grammar of what builds packages and systems, and explains them: `rednix build`, `image`, `repo`, `shell`, `log`, `why`,
//! `why-rebuild`, `diff`, `verify`.

use std::path::PathBuf;

use clap::Args;

use super::{LockFlags, TreeArgs};

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
pub struct LogArgs {
    /// A derivation, a store path, or a package as `rednix build` takes it
    pub of: String,
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
